"""Hubs are found: on this machine by their shared memory, in the network by mDNS; and nobody guesses.

Networks are namespaces of their own, so that no other hub of this machine, and no other run, is heard.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq
from netns import Namespace, Network, needs_namespaces

from processes import PATIENCE, Child, Hub, hub, simulator, unique_name
from rdahub.mdns import places
from rdahub_client import AuthError, Client, HubUnreachable
from rdahub_client.asyncio import AsyncClient
from rdahub_client.discovery import FoundHub, find_hubs, fingerprint
from rdahub_client.shared import Owner
from rdahub_client.wire import encode_reply

pytestmark = needs_namespaces


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as made:
        yield made


@pytest.fixture
def here(network: Network) -> Namespace:
    """A machine without a network."""
    return network.namespace()


@pytest.fixture
def shm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Shared memory of this test's own, empty of other hubs."""
    monkeypatch.setenv("RDAHUB_SHM_DIR", str(tmp_path / "none"))
    (tmp_path / "shm").mkdir()
    return tmp_path / "shm"


@contextlib.contextmanager
def serving(
    at: Namespace, shm: Path, *flags: str, query: str = "tcp://127.0.0.1:0", eeg: bool = False
) -> Iterator[Hub]:
    """A hub, with a Recorder if its samples are wanted."""
    with contextlib.ExitStack() as stack:
        with at.entered():
            recorder = stack.enter_context(simulator("--channels=4")).rda if eeg else "127.0.0.1:1"
            server = stack.enter_context(hub(recorder, "--shm-dir", str(shm), *flags, query=query))
        if eeg:
            server.wait_for("segment of", "stderr")
        yield server


def command(at: Namespace, code: int, *arguments: str, shm: Path | str = "/nowhere", **more: str) -> Child:
    with at.entered():
        child = Child(*arguments, program=("-m", "rdahub"), RDAHUB_SHM_DIR=str(shm), **more)
    try:
        assert child.finish() == code, child.stderr
    finally:
        child.close()
    assert "Traceback" not in child.stderr
    return child


def found(at: Namespace, number: int = 1, shm: Path | str = "/nowhere") -> list[FoundHub]:
    """So many hubs, sooner or later: the first announcement may still be on its way."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with at.entered():
            hubs = find_hubs(0.4, shm)
        if len(hubs) == number:
            return hubs
        assert time.monotonic() < deadline, hubs


# --- the network -----------------------------------------------------------------------------------------


def test_a_hub_on_another_machine_is_found_listed_and_connected_to(network: Network, shm: Path) -> None:
    """Of its addresses the one that answers is taken; the first is in a network that the reader is not in."""
    lab, elsewhere, office = network.namespace(), network.namespace(), network.namespace()
    network.cable(lab, elsewhere)
    cable = network.cable(lab, office)
    with serving(lab, shm, "--announce", "--insecure", query="tcp://0.0.0.0:0", eeg=True) as server:
        (one,) = found(office)
        address = f"tcp://{cable.left}:{server.query.rpartition(':')[2]}"
        assert (one.name, one.address, one.keys, one.local) == (server.name, address, False, False)
        with office.entered(), Client() as client:
            client.connect("auto", timeout=PATIENCE)
            assert client.address == address
            client.start_streaming()
            start = client.last_sample
            rows = client.wait(start, start + 100, timeout=PATIENCE)
            assert rows is not None
            np.testing.assert_array_equal(rows[:, 0], np.arange(start, start + 100))
            assert one.instance == client.instance
        table = command(office, 0, "list").stdout.splitlines()
        assert [line.split()[:4] for line in table] == [
            ["name", "address", "state", "version"], [server.name, address, "streaming", one.version],
        ]  # fmt: skip
        assert "streaming" in command(office, 0, "status", f"auto:{server.name}").stdout


def test_a_hub_on_loopback_is_announced_on_loopback_only(network: Network, shm: Path) -> None:
    lab, office = network.namespace(), network.namespace()
    network.cable(lab, office)
    with serving(lab, shm, "--announce") as server:
        assert [one.address for one in found(lab)] == [server.query]
        (one,) = found(lab, shm=shm)  # the same hub, found twice
        assert (one.address, one.local, one.state) == (server.query, True, "disconnected")
        (row,) = json.loads(command(lab, 0, "list", "--json").stdout)
        assert (row["name"], row["address"], row["state"]) == (server.name, server.query, "disconnected")
        assert command(office, 1, "list", "--json", "--timeout=1s").stdout == "[]\n"


def test_a_hub_that_is_not_announced_is_not_heard_of(here: Namespace, shm: Path) -> None:
    with serving(here, shm):
        said = command(here, 1, "list", "--timeout=900ms")
        assert said.stdout == ""
        assert "none announced within 0.9 s" in said.stderr


def test_a_network_that_comes_after_the_hub_is_announced_in(network: Network, shm: Path) -> None:
    lab, office = network.namespace(), network.namespace()
    with serving(lab, shm, "--announce", "--insecure", query="tcp://0.0.0.0:0"):
        found(lab)  # on loopback: there is nothing else
        cable = network.cable(lab, office)
        (one,) = found(office)
        assert cable.left in one.address


def test_a_hub_that_ends_says_goodbye(here: Namespace, shm: Path) -> None:
    from zeroconf import ServiceBrowser, ServiceStateChange, Zeroconf

    from rdahub_client.discovery import SERVICE

    seen: list[ServiceStateChange] = []

    def note(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        seen.append(state_change)

    def until(change: ServiceStateChange) -> None:
        deadline = time.monotonic() + PATIENCE
        while change not in seen:
            assert time.monotonic() < deadline, seen
            time.sleep(0.02)

    with here.entered(), Zeroconf(["127.0.0.1"]) as ear:
        browser = ServiceBrowser(ear, SERVICE, [note])
        with serving(here, shm, "--announce"):
            until(ServiceStateChange.Added)
            assert ServiceStateChange.Removed not in seen
        until(ServiceStateChange.Removed)
        browser.cancel()


def announcer_of(server: Hub) -> int:
    tasks = Path(f"/proc/{server.process.pid}/task")
    (child,) = {int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split()}
    return child


def test_an_announcer_that_is_stopped_or_dies_stops_nothing(here: Namespace, shm: Path) -> None:
    """And it is started again, as tests/e2e/test_metrics.py shows with another process of the kind."""
    with serving(here, shm, "--announce", eeg=True) as server:
        os.kill(announcer_of(server), signal.SIGSTOP)
        check_whole(here, server)
        os.kill(announcer_of(server), signal.SIGKILL)
        server.wait_for("the announcement in the network has ended", "stderr")
        check_whole(here, server)


def check_whole(at: Namespace, server: Hub) -> None:
    with at.entered(), Client() as client:
        client.connect(server.query)
        client.start_streaming()
        start = client.last_sample
        rows = client.wait(start, start + 500, timeout=PATIENCE)
        assert rows is not None
        np.testing.assert_array_equal(rows[:, 0], np.arange(start, start + 500))
        assert client.gaps(start, start + 500) == []


def test_a_hub_that_is_killed_is_not_announced_any_more(here: Namespace, shm: Path) -> None:
    with here.entered():
        server = Hub("127.0.0.1:1", "--announce", "--shm-dir", str(shm))
        try:
            found(here)
            server.send(signal.SIGKILL)
            server.finish()
        finally:
            server.close()
    found(here, number=0)


# --- never guess -----------------------------------------------------------------------------------------


def test_of_several_hubs_none_is_guessed(here: Namespace, shm: Path) -> None:
    with serving(here, shm, "--announce") as one, serving(here, shm, "--announce") as other:
        found(here, number=2)
        with here.entered(), Client() as client:
            with pytest.raises(HubUnreachable, match="more than one hub") as error:
                client.connect("auto")
            for server in (one, other):
                assert f"{server.name} at {server.query}" in str(error.value)
                client.connect(f"auto:{server.name}")
                assert client.address == server.query
        said = command(here, 2, "status", "auto").stderr
        assert said.count("\n") == 1
        assert one.query in said
        assert other.query in said


def test_where_there_is_none_it_is_said_what_was_looked_for_and_how_long(here: Namespace, shm: Path) -> None:
    with here.entered(), Client() as client:
        began = time.monotonic()
        with pytest.raises(HubUnreachable, match=r"no hub named 'x' .* within [\d.]+ s"):
            client.connect("auto:x", timeout=0.6)
        assert time.monotonic() - began >= 0.3
        with pytest.raises(ValueError, match="name of a hub"):
            client.connect("auto://x")
    assert "no hub" in command(here, 2, "status", "auto", "--timeout=200ms").stderr


def test_it_waits_for_a_hub_that_comes_within_the_time(here: Namespace, shm: Path) -> None:
    with here.entered():  # what looks is started here, and goes on while the hub starts
        looking = Child("status", "auto", f"--timeout={PATIENCE:.0f}s", RDAHUB_SHM_DIR="/nowhere")
    try:
        with serving(here, shm, "--announce"):
            assert looking.finish() == 1, looking.stderr  # it is up, with no data
    finally:
        looking.close()
    assert "state " in looking.stdout


def test_an_async_client_looks_while_its_loop_goes_on(here: Namespace, shm: Path) -> None:
    async def find() -> tuple[str, int]:
        async with AsyncClient() as client:
            finding, turns = asyncio.create_task(client.connect("auto", timeout=PATIENCE)), 0
            while not finding.done():
                await asyncio.sleep(0.01)
                turns += 1
            await finding
            return client.address, turns

    with serving(here, shm, "--announce") as server, here.entered():
        address, turns = asyncio.run(find())
    assert address == server.query
    assert turns > 20  # it looks for more than a second


# --- this machine ----------------------------------------------------------------------------------------


def test_hubs_of_this_machine_are_found_without_the_extra(
    here: Namespace, shm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['zeroconf'] = None\n")
    without = {"PYTHONPATH": str(tmp_path)}
    with serving(here, shm) as server:
        said = command(here, 0, "list", shm=shm, **without)
        assert server.query in said.stdout
        assert "pip install 'rdahub[zeroconf]'" in said.stderr
        assert server.name in command(here, 1, "status", "auto", shm=shm, **without).stdout
        monkeypatch.setenv("RDAHUB_SHM_DIR", str(shm))
        with here.entered(), Client() as client:
            client.connect("auto")
            assert client.address == server.query
    assert "rdahub[zeroconf]" in command(here, 2, "status", "auto", shm=shm, **without).stderr
    assert list(shm.iterdir()) == []


# --- keys ------------------------------------------------------------------------------------------------


def test_the_hub_of_a_server_key_is_chosen_by_it(here: Namespace, shm: Path, tmp_path: Path) -> None:
    clients = tmp_path / "clients"
    clients.mkdir()
    for folder, name in ((tmp_path, "lab"), (tmp_path, "other"), (clients, "me")):
        command(here, 0, "keygen", str(folder), f"--name={name}")
    secret = {name: tmp_path / f"{name}.key_secret" for name in ("lab", "other")}
    keys = {
        name: ("--curve-key", str(path), "--curve-clients", str(clients)) for name, path in secret.items()
    }
    mine: Any = {"curve_key": clients / "me.key_secret", "server_key": tmp_path / "lab.key"}
    with (
        serving(here, shm, "--announce", *keys["lab"]) as lab,
        serving(here, shm, "--announce", *keys["other"]) as other,
    ):
        seen = {one.name: one for one in found(here, number=2)}
        public = next(
            line.split('"')[1]
            for line in (tmp_path / "lab.key").read_text().splitlines()
            if "public-key" in line
        )
        assert seen[lab.name].fingerprint == fingerprint(public.encode()) != seen[other.name].fingerprint
        assert all(one.keys and one.version for one in seen.values())
        with here.entered(), Client(**mine) as client:
            client.connect("auto")
            assert client.address == lab.query
            with pytest.raises(HubUnreachable, match="with this server key"):
                client.connect(f"auto:{other.name}", timeout=0.5)
        with here.entered(), Client() as stranger, pytest.raises(AuthError):
            stranger.connect(f"auto:{lab.name}")
        heard = str(seen) + lab.stderr + other.stderr
        for path in secret.values():
            assert path.read_text().split('secret-key = "')[1][:40] not in heard


# --- mistakes, and what strangers say --------------------------------------------------------------------


def test_mistakes_are_one_line(here: Namespace, tmp_path: Path) -> None:
    serve = ("serve", "--recorder=127.0.0.1:1", "--announce", "--name", unique_name())
    said = command(here, 2, *serve, f"--query=ipc://{tmp_path}/hub").stderr
    assert said.count("\n") == 1
    assert "--announce" in said
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['zeroconf'] = None\n")
    said = command(here, 2, *serve, PYTHONPATH=str(tmp_path)).stderr
    assert said.count("\n") == 1
    assert "pip install 'rdahub[zeroconf]'" in said


def test_what_is_no_hubs_announcement_is_not_taken(here: Namespace, shm: Path) -> None:
    from zeroconf import ServiceInfo, Zeroconf

    from rdahub_client.discovery import SERVICE

    good = {"name": "hub", "instance": "1234", "host": "pc", "version": "1", "key": ""}
    bad: list[dict[str, Any]] = [
        {**good, "name": "\x1b[2Jhub"}, {**good, "host": "\x1b]0;x\x07"}, {**good, "instance": ""},
        {**good, "version": "é" * 30}, {**good, "key": b"\xff\xfe"}, {},
    ]  # fmt: skip
    with here.entered(), Zeroconf(["127.0.0.1"]) as voice:
        for number, properties in enumerate([*bad, good]):
            info = ServiceInfo(SERVICE, f"{number}.{SERVICE}", port=9, parsed_addresses=["127.0.0.1"],
                               properties=properties, server=f"x{number}.local.")  # fmt: skip
            voice.register_service(info, cooperating_responders=True)
        deadline = time.monotonic() + PATIENCE
        while not (hubs := find_hubs(0.5)):
            assert time.monotonic() < deadline
    assert [(one.name, one.address) for one in hubs] == [("hub", "tcp://127.0.0.1:9")]


def test_an_announcement_of_nothing_hides_no_hub(here: Namespace, shm: Path) -> None:
    """Names that nobody tells more of, heard again and again while it is looked."""
    from zeroconf import Zeroconf
    from zeroconf._dns import DNSPointer
    from zeroconf._protocol.outgoing import DNSOutgoing
    from zeroconf.const import _CLASS_IN, _FLAGS_AA, _FLAGS_QR_RESPONSE, _TYPE_PTR

    from rdahub_client.discovery import SERVICE

    ghosts = DNSOutgoing(_FLAGS_QR_RESPONSE | _FLAGS_AA)
    for alias in (f"ghost.{SERVICE}", f"ghost2.{SERVICE}", "x._http._tcp.local.", SERVICE):
        ghosts.add_answer_at_time(DNSPointer(SERVICE, _TYPE_PTR, _CLASS_IN, 4500, alias), 0)
    ended = threading.Event()
    with (
        serving(here, shm, "--announce") as one,
        serving(here, shm, "--announce") as other,
        here.entered(),
        Zeroconf(["127.0.0.1"]) as voice,
    ):
        found(here, number=2)

        def shout() -> None:
            while not ended.wait(0.02):
                voice.send(ghosts)

        shouting = threading.Thread(target=shout)
        shouting.start()
        try:
            assert {hub.name for hub in found(here, number=2)} == {one.name, other.name}
            with Client() as client, pytest.raises(HubUnreachable, match="more than one hub"):
                client.connect("auto")
        finally:
            ended.set()
            shouting.join()


def test_what_a_stranger_answers_is_not_obeyed_by_a_terminal(here: Namespace) -> None:
    from zeroconf import ServiceInfo, Zeroconf

    from rdahub_client.discovery import SERVICE

    header = {
        "ok": True, "instance": "1234", "name": "hub", "version": "\x1b[2J1", "state": "\x1b]0;x\x07",
        "recorder": "", "publish_port": 1, "publish": "", "history_seconds": 1.0, "first_available": 0,
        "next_index": 0, "first_seq": 0, "next_seq": 0, "segment": None, "before": None,
    }  # fmt: skip
    properties = {"name": "hub", "instance": "1234", "host": "pc", "version": "1", "key": ""}
    with here.entered(), zmq.Context() as context, context.socket(zmq.ROUTER) as stranger:
        port = stranger.bind_to_random_port("tcp://127.0.0.1")

        def answer() -> None:
            if stranger.poll(round(PATIENCE * 1000)):
                *route, request = stranger.recv_multipart()
                stranger.send_multipart([*route, encode_reply(msgpack.unpackb(request)["id"], header)])

        answering = threading.Thread(target=answer)
        answering.start()
        with Zeroconf(["127.0.0.1"]) as voice:
            info = ServiceInfo(SERVICE, f"x.{SERVICE}", port=port, parsed_addresses=["127.0.0.1"],
                               properties=properties, server="x.local.")  # fmt: skip
            voice.register_service(info, cooperating_responders=True)
            said = command(here, 0, "list").stdout
        answering.join(PATIENCE)
    assert said.splitlines()[1].split()[:5] == ["hub", f"tcp://127.0.0.1:{port}", "?", "?", "none"]


@pytest.mark.parametrize(
    "description",
    [
        {"instance": "x"}, {"query": 5}, {"query": "tcp://1.2.3.4:5\x1b[2J"}, {"query": "tcp://\x1b[2J:5"},
        [], 5, {"query": "tcp://127.0.0.1:9", "keys": [1]}, {"query": "tcp://a b:9"},
    ],
)  # fmt: skip
def test_what_no_hub_has_put_into_shared_memory_is_passed_over(tmp_path: Path, description: Any) -> None:
    """As another user of this machine can."""
    owner = Owner("x", tmp_path)
    try:
        owner.describe(description)
        os.mkfifo(tmp_path / "rdahub-pipe")
        (tmp_path / "rdahub-folder").mkdir()
        assert find_hubs(0.01, tmp_path) == []
        owner.describe({"query": "tcp://127.0.0.1:9", "instance": "y"})
        assert [hub.address for hub in find_hubs(0.01, tmp_path)] == ["tcp://127.0.0.1:9"]
    finally:
        owner.close()


@pytest.mark.parametrize(
    ("query", "interfaces", "addresses"),
    [
        ("tcp://127.0.0.1:1", ["127.0.0.1"], ["127.0.0.1"]),
        ("tcp://[::1]:1", ["127.0.0.1"], ["::1"]),
        ("tcp://10.0.0.7:1", ["10.0.0.7"], ["10.0.0.7"]),
        ("tcp://0.0.0.0:1", ["10.0.0.7", "192.0.2.1"], ["10.0.0.7", "192.0.2.1"]),
        ("tcp://[::]:1", ["10.0.0.7", "192.0.2.1"], ["10.0.0.7", "192.0.2.1", "2001:db8::1"]),
        ("tcp://[2001:db8::1]:1", ["10.0.0.7", "192.0.2.1"], ["2001:db8::1"]),
    ],
)
def test_it_is_announced_where_it_listens(query: str, interfaces: list[str], addresses: list[str]) -> None:
    ours = ["127.0.0.1", "10.0.0.7", "192.0.2.1", "::1", "fe80::1%eth0", "2001:db8::1"]
    assert places(query, ours) == (interfaces, addresses)
