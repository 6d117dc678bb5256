"""Keys on a real hub: who belongs gets exact data, everybody else is refused and told, and a list may change.

Rule: keys are made by `rdahub keygen`, clients are the product's or bare sockets; what a client got is
compared with what the simulator sends at those indices. No hub here may ever have said a secret.
Not here: the doorkeeper by itself (`tests/rdahub/test_doorkeeper.py`), what a flood costs (`tests/nemesis`).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pytest
import zmq
from zmq.utils.monitor import parse_monitor_message

from processes import PATIENCE, Child, Hub, Simulator, hub, simulator
from rdahub import limits
from rdahub.commands.status import fetch
from rdahub.simulator import Synthetic
from rdahub_client import AuthError, Block, Client, Gap, HubLost, KeyFileError, LocalClient
from rdahub_client.keys import ClientKeys, client_keys, read_public, read_secret
from rdahub_client.records import Float32
from rdahub_client.wire import InfoRequest, encode_request

HANDSHAKE = limits.HANDSHAKE_MS / 1000  # s, promised: who is refused is told within it
CHANNELS = 5
SOURCE = Synthetic(CHANNELS, 1000.0, 20, seed=3)
NAMES = ("hub", "anna", "ben", "carl")
EVERYWHERE = "tcp://0.0.0.0"
KNOCKS = ("stranger", "wrong server key", "plain")
TOLD = {"stranger": "--curve-clients", "wrong server key": "server_key", "plain": "give curve_key"}
LOGGED = {
    "stranger": "refused key",
    "wrong server key": "another hub's server key",
    "plain": "a peer without keys",
}


# --- keys and hubs ---------------------------------------------------------------------------------------


class ClientFiles(TypedDict):
    """What `Client` is given."""

    curve_key: Path
    server_key: Path


class Keys:
    """Key pairs in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def public(self, name: str) -> Path:
        return self.folder / f"{name}.key"

    def secret(self, name: str) -> Path:
        return self.folder / f"{name}.key_secret"

    def files(self, name: str, server: str = "hub") -> ClientFiles:
        return {"curve_key": self.secret(name), "server_key": self.public(server)}

    def flags(self, name: str, server: str = "hub") -> list[str]:
        """What commands are given."""
        return ["--curve-key", str(self.secret(name)), "--server-key", str(self.public(server))]

    def of(self, kind: str) -> tuple[str, str] | None:
        """Whose key, and the key of which server: somebody who must not come in."""
        return {"stranger": ("carl", "hub"), "wrong server key": ("anna", "ben"), "plain": None}[kind]

    def files_of(self, kind: str) -> ClientFiles | None:
        who = self.of(kind)
        return None if who is None else self.files(*who)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    folder = tmp_path_factory.mktemp("keys")
    for name in NAMES:
        made = Child("keygen", str(folder), "--name", name)
        assert made.finish() == 0, made.stderr
        made.close()
    return Keys(folder)


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    with simulator(f"--channels={CHANNELS}", "--seed=3") as started:
        yield started


class Guarded:
    """A hub with keys; its list is a folder."""

    def __init__(self, server: Hub, keys: Keys, allowed: Path) -> None:
        self.server, self.keys, self.allowed = server, keys, allowed

    def allow(self, name: str) -> None:
        shutil.copy(self.keys.public(name), self.allowed)

    def forbid(self, name: str) -> None:
        (self.allowed / f"{name}.key").unlink()

    def statistics(self) -> dict[str, Any]:
        return fetch(self.server.query, PATIENCE, client_keys(**self.keys.files("anna")))

    @property
    def refused(self) -> int:
        return int(self.statistics()["counters"]["refused_peers"])


@contextmanager
def guarded(keys: Keys, sim: Simulator, allowed: Path, *flags: str) -> Iterator[Guarded]:
    """A hub for anna, which never says a secret."""
    allowed.mkdir()
    shutil.copy(keys.public("anna"), allowed)
    guard = ["--curve-key", str(keys.secret("hub")), "--curve-clients", str(allowed)]
    with hub(sim.rda, *guard, *flags) as server:
        yield Guarded(server, keys, allowed)
        server.stop()
        for name in NAMES:
            secret = read_secret(keys.secret(name)).secret.decode()
            assert secret not in server.stdout + server.stderr


@pytest.fixture
def door(keys: Keys, sim: Simulator, tmp_path: Path) -> Iterator[Guarded]:
    with guarded(keys, sim, tmp_path / "allowed") as started:
        yield started


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def until(true: Callable[[], object], what: str) -> float:
    """Seconds until it is so."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() < began + PATIENCE, f"never: {what}"
        time.sleep(0.005)
    return time.monotonic() - began


# --- clients ---------------------------------------------------------------------------------------------


def expected(start: int, stop: int) -> Float32:
    raw = SOURCE.samples(start, stop).astype(np.float64)
    samples: Float32 = (raw * np.array([1.0] + [0.1] * (CHANNELS - 1))).astype(np.float32)
    return samples


def exact(samples: Float32 | None) -> None:
    """What the simulator sent from the first of these samples on; channel 0 says which that is."""
    assert samples is not None
    first = int(samples[0, 0])
    np.testing.assert_array_equal(samples, expected(first, first + len(samples)))


class Following:
    """A client whose stream is checked from its first sample to the newest: none lost, none changed."""

    def __init__(self, stack: ExitStack, door: Guarded, name: str) -> None:
        self.client = stack.enter_context(Client(**door.keys.files(name)))
        self.client.connect(door.server.query)
        self.client.start_streaming(timeout=PATIENCE)
        self.events = self.client.stream("oldest", timeout=PATIENCE)
        self.index = 0
        self.lead: int | None = None

    def whole(self, more: int = 200) -> None:
        """Up to the newest sample and some more."""
        end = max(self.client.last_sample, self.index) + more
        while self.index < end:
            event = next(self.events)
            assert not isinstance(event, Gap), event
            if isinstance(event, Block):
                assert event.start == self.index
                exact(event.samples)
                lead = int(event.samples[0, 0]) - event.start
                assert self.lead in {None, lead}
                self.index, self.lead = event.stop, lead


def refusal(keys: ClientFiles | None, address: str) -> str:
    """What a client that must not come in is told, and that it is told in time."""
    with Client() if keys is None else Client(**keys) as client:
        began = time.monotonic()
        with pytest.raises(AuthError) as told:
            client.connect(address, timeout=PATIENCE)
        seconds = time.monotonic() - began
    print(f"told after {seconds:.3f} s: {told.value}")
    assert seconds < HANDSHAKE
    return str(told.value)


def command(*arguments: str) -> tuple[int, str, str]:
    child = Child(*arguments)
    try:
        return child.finish(), child.stdout, child.stderr
    finally:
        child.close()


class Bare:
    """A socket without any of the product's manners, with its monitor."""

    def __init__(self, stack: ExitStack, kind: int, endpoint: str, keys: ClientKeys | None) -> None:
        context = stack.enter_context(zmq.Context())
        self.socket: zmq.Socket[bytes] = stack.enter_context(context.socket(kind))
        self.socket.linger = 0
        self.socket.set(zmq.RECONNECT_IVL, 10)
        if keys is not None:
            keys.lock(self.socket)
        if kind == zmq.SUB:
            self.socket.subscribe(b"")
        failures = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
        wanted = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_AUTH | failures
        self.monitor = stack.enter_context(self.socket.get_monitor_socket(wanted))
        stack.callback(self.socket.disable_monitor)
        self.told: list[dict[str, Any]] = []
        self.socket.connect(endpoint)
        if kind == zmq.DEALER:
            with suppress(zmq.Again):  # refused already
                self.socket.send(encode_request(InfoRequest(), 1), zmq.DONTWAIT)

    def events(self) -> list[int]:
        while self.monitor.poll(0):
            self.told.append(dict(parse_monitor_message(self.monitor.recv_multipart())))
        return [event["event"] for event in self.told]


def bare_keys(keys: Keys, kind: str) -> ClientKeys | None:
    files = keys.files_of(kind)
    return None if files is None else client_keys(**files)


# --- who belongs -----------------------------------------------------------------------------------------


def test_a_known_client_reads_exact_data_live_and_from_history(door: Guarded, stack: ExitStack) -> None:
    anna = Following(stack, door, "anna")
    anna.whole(more=500)
    small = stack.enter_context(Client(buffer_size=50, **door.keys.files("anna")))
    small.connect(door.server.query)
    small.start_streaming()
    exact(small.read(0, 400))  # far outside its window: answered by the query socket
    exact(small.wait(small.last_sample, small.last_sample + 100, timeout=PATIENCE))


def test_commands_with_keys_are_answered(door: Guarded, stack: ExitStack, tmp_path: Path) -> None:
    Following(stack, door, "anna").whole()
    flags = door.keys.flags("anna")
    code, out, err = command("status", door.server.query, "--json", *flags)
    assert (code, err) == (0, "")
    assert json.loads(out)["counters"]["refused_peers"] == 0
    code, out, err = command("watch", door.server.query, "--seconds=0.1", *flags)
    assert (code, err) == (0, "")
    saved = tmp_path / "x.npy"
    code, out, err = command("dump", door.server.query, "--start=0", "--stop=100", "-o", str(saved), *flags)
    assert (code, err) == (0, "")
    exact(np.load(saved))


def test_keys_may_come_from_variables_and_from_a_file(
    door: Guarded, stack: ExitStack, tmp_path: Path
) -> None:
    Following(stack, door, "anna")
    own, server = str(door.keys.secret("anna")), str(door.keys.public("hub"))
    (tmp_path / "rdahub.toml").write_text(f"curve_key = '{own}'\nserver_key = '{server}'\n")
    for child in (
        Child("status", door.server.query, RDAHUB_CURVE_KEY=own, RDAHUB_SERVER_KEY=server),
        Child("status", door.server.query, "--config", str(tmp_path / "rdahub.toml")),
    ):
        assert child.finish() == 0, child.stderr
        child.close()


def test_a_reader_on_the_hubs_machine_needs_no_keys(door: Guarded, stack: ExitStack) -> None:
    door.forbid("anna")
    local = stack.enter_context(LocalClient(door.server.name))
    local.start_streaming(timeout=PATIENCE)
    exact(local.wait(local.last_sample, local.last_sample + 300, timeout=PATIENCE))
    assert local.info().segment is not None  # through the query socket, with the pair for this machine


# --- who does not ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KNOCKS)
def test_who_does_not_belong_is_told_and_counted_and_logged(door: Guarded, kind: str) -> None:
    before = door.refused

    def counted() -> bool:
        """Whoever of the two finds a mismatch first hangs up; the hub does not always see why."""
        told = refusal(door.keys.files_of(kind), door.server.query)
        assert TOLD[kind] in told
        assert door.server.query in told
        return door.refused > before

    until(counted, "the hub counts it")
    assert LOGGED[kind] in door.server.wait_for("WARNING.*(refused|turned away)", "stderr").string


def test_a_client_with_keys_is_told_by_a_hub_that_has_none(keys: Keys, sim: Simulator) -> None:
    with hub(sim.rda) as server:

        def counted() -> bool:
            """Whoever of the two finds the mismatch first hangs up; the hub does not always see why."""
            assert "this hub has no keys" in refusal(keys.files("anna"), server.query)
            return bool(fetch(server.query, PATIENCE)["counters"]["refused_peers"])

        until(counted, "the hub counts it")
        server.wait_for("WARNING.*turned away.*this hub has none", "stderr")


@pytest.mark.parametrize("kind", KNOCKS)
@pytest.mark.parametrize("name", ["status", "watch", "dump"])
def test_commands_say_in_one_line_that_they_are_not_let_in(
    door: Guarded, kind: str, name: str, tmp_path: Path
) -> None:
    who = door.keys.of(kind)
    more = ["--last=1s", "-o", str(tmp_path / "x.npy")] if name == "dump" else []
    flags = [] if who is None else door.keys.flags(*who)
    code, out, err = command(name, door.server.query, *more, *flags)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith(f"rdahub {name}: ")
    assert TOLD[kind] in err


def test_bare_sockets_get_nothing_at_all(door: Guarded, stack: ExitStack) -> None:
    anna = Following(stack, door, "anna")
    knocks = [
        Bare(stack, kind, endpoint, bare_keys(door.keys, how))
        for how in KNOCKS
        for kind, endpoint in ((zmq.SUB, door.server.publish), (zmq.DEALER, door.server.query))
    ]
    until(lambda: all(bare.events() for bare in knocks), "every one of them is told something")
    before = anna.client.last_sample
    anna.whole(more=1000)  # a second in which everything was published that there is
    assert anna.index >= before + 1000
    for bare in knocks:
        assert zmq.EVENT_HANDSHAKE_SUCCEEDED not in bare.events()
        assert not bare.socket.poll(0)


def test_strangers_in_a_row_and_one_that_tries_for_ever_disturb_nobody_and_flood_no_log(
    door: Guarded, stack: ExitStack
) -> None:
    anna = Following(stack, door, "anna")
    before = door.refused
    for_ever = Bare(stack, zmq.SUB, door.server.publish, bare_keys(door.keys, "wrong server key"))
    for number in range(60):
        with ExitStack() as short:
            bare = Bare(short, zmq.DEALER, door.server.query, bare_keys(door.keys, KNOCKS[number % 3]))
            until(bare.events, "it is refused")
    until(lambda: len(for_ever.events()) >= 20, "it tries on and on")
    anna.whole()
    assert door.refused >= before + 60
    door.server.stop()
    lines = [line for line in door.server.stderr.splitlines() if "refused" in line or "turned away" in line]
    assert 1 <= len(lines) <= 3 * limits.SELDOM_LINES  # one for each door, one for the doorkeeper


# --- Z10: what libzmq does with a refused client ---------------------------------------------------------


def test_z10_a_refused_socket_stays_dead_when_its_key_is_allowed_and_a_new_one_works(
    door: Guarded, stack: ExitStack
) -> None:
    keys = bare_keys(door.keys, "stranger")
    old = Bare(stack, zmq.DEALER, door.server.query, keys)
    until(old.events, "it is refused")
    assert (old.told[0]["event"], old.told[0]["value"]) == (zmq.EVENT_HANDSHAKE_FAILED_AUTH, 400)
    door.allow("carl")
    new = Bare(stack, zmq.DEALER, door.server.query, keys)
    until(lambda: new.socket.poll(0), "it is answered")
    time.sleep(1)  # a hundred times the interval at which it would try again
    assert old.events() == [zmq.EVENT_HANDSHAKE_FAILED_AUTH]
    assert not old.socket.poll(0)


def test_z10_a_wrong_server_key_breaks_every_handshake_and_is_tried_for_ever(
    door: Guarded, stack: ExitStack
) -> None:
    bare = Bare(stack, zmq.DEALER, door.server.query, bare_keys(door.keys, "wrong server key"))
    until(lambda: len(bare.events()) >= 10, "ten attempts")
    assert set(bare.events()) == {zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL}


def test_z10_keys_on_one_side_only_are_a_protocol_error_and_not_tried_again(
    door: Guarded, stack: ExitStack
) -> None:
    bare = Bare(stack, zmq.DEALER, door.server.query, None)
    mismatch = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    until(lambda: mismatch in bare.events(), "it is told")  # after some resets that came first, perhaps
    time.sleep(1)  # as above
    assert bare.events()[-1] == mismatch
    assert bare.events().count(mismatch) == 1


def test_z10_a_client_that_was_refused_comes_in_at_its_next_connect(door: Guarded, stack: ExitStack) -> None:
    client = stack.enter_context(Client(**door.keys.files("carl")))
    with pytest.raises(AuthError):
        client.connect(door.server.query)
    door.allow("carl")
    client.connect(door.server.query)  # at once: the hub looks again when a key is not on its list
    client.start_streaming(timeout=PATIENCE)
    exact(client.wait(client.last_sample, client.last_sample + 100, timeout=PATIENCE))


# --- a list that changes ---------------------------------------------------------------------------------


def test_a_key_taken_off_is_out_and_the_others_lose_nothing_and_put_back_it_comes_back_by_itself(
    door: Guarded, stack: ExitStack
) -> None:
    door.allow("ben")
    anna, ben = Following(stack, door, "anna"), Following(stack, door, "ben")
    anna.whole()
    ben.whole()
    local = stack.enter_context(LocalClient(door.server.name))
    local.start_streaming(timeout=PATIENCE)

    door.forbid("ben")
    out = until(lambda: ben.client.state == "unreachable", "ben is out")
    end = ben.client.last_sample
    why: list[HubLost] = []

    def told() -> bool:
        with pytest.raises(HubLost) as error:
            ben.client.read(end, end + 1)
        why.append(error.value)
        return isinstance(error.value, AuthError)

    seconds = out + until(told, "read says why")
    assert "--curve-clients" in str(why[-1])
    exact(ben.client.read(end - 100, end))  # what it has, it has
    anna.whole(more=1000)
    exact(local.wait(end, end + 1000, timeout=PATIENCE))
    assert ben.client.last_sample == end, "somebody without a key is served"

    door.allow("ben")
    back = until(lambda: ben.client.state == "streaming", "ben is back by itself")
    ben.whole()  # the time it was out among it
    anna.whole()
    print(f"out after {out:.2f} s, told why after {seconds:.2f} s, back after {back:.2f} s")
    door.server.wait_for("WARNING.*taken off the list", "stderr")


def test_a_key_taken_off_while_strangers_knock_is_out_all_the_same(door: Guarded, stack: ExitStack) -> None:
    door.allow("ben")
    ben = Following(stack, door, "ben")
    ben.whole()
    door.forbid("ben")
    stranger = Bare(stack, zmq.DEALER, door.server.query, bare_keys(door.keys, "stranger"))
    until(stranger.events, "it is refused")
    until(lambda: ben.client.state == "unreachable", "ben is out")


def test_a_folder_put_in_place_of_another_counts_in_full(door: Guarded, stack: ExitStack) -> None:
    door.allow("ben")
    anna, ben = Following(stack, door, "anna"), Following(stack, door, "ben")
    door.allowed.rename(door.allowed.with_name("old"))
    door.server.wait_for("WARNING.*nobody new is let in", "stderr")
    door.allowed.mkdir()
    door.allow("anna")
    until(lambda: ben.client.state == "unreachable", "ben is out")
    anna.whole()


def test_a_folder_that_is_gone_keeps_those_inside_and_lets_nobody_new_in(
    door: Guarded, stack: ExitStack
) -> None:
    door.allow("ben")
    anna = Following(stack, door, "anna")
    door.allowed.rename(away := door.allowed.with_name("away"))
    door.server.wait_for(f"WARNING.*nobody new is let in.*{door.allowed}", "stderr")
    refusal(door.keys.files("ben"), door.server.query)
    refusal(door.keys.files("anna"), door.server.query)
    local = stack.enter_context(LocalClient(door.server.name))
    local.start_streaming(timeout=PATIENCE)
    anna.whole(more=1000)
    away.rename(door.allowed)
    Following(stack, door, "ben").whole()
    anna.whole()
    assert anna.client.state == local.state == "streaming"
    door.server.stop()
    assert len(re.findall("nobody new is let in", door.server.stderr)) == 1
    assert "taken off" not in door.server.stderr  # nobody had to come in again


def test_broken_files_in_the_folder_let_nobody_in_and_change_nothing_for_others(
    door: Guarded, stack: ExitStack
) -> None:
    anna = Following(stack, door, "anna")
    carl = door.allowed / "carl.key"
    for content in (b"", b"\xff" * 500, door.keys.public("carl").read_bytes()[:-5]):
        carl.write_bytes(content)
        refusal(door.keys.files("carl"), door.server.query)
    (door.allowed / "folder.key").mkdir()
    (door.allowed / "nowhere.key").symlink_to("/nowhere")
    door.server.wait_for("WARNING.*lets nobody in.*folder.key", "stderr")
    refusal(door.keys.files("carl"), door.server.query)
    anna.whole()
    Following(stack, door, "anna").whole()
    door.allow("carl")
    Following(stack, door, "carl").whole()
    assert "taken off" not in door.server.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the name of a file cannot be any bytes")
def test_a_key_file_with_an_odd_name_does_not_end_the_hub(door: Guarded, stack: ExitStack) -> None:
    anna = Following(stack, door, "anna")
    odd = os.fsdecode(os.fsencode(door.allowed) + b"/caf\xe9 \xf0\x9f\x98\x80.key")
    shutil.copy(door.keys.public("carl"), odd)
    with Client(**door.keys.files("carl")) as carl:
        carl.connect(door.server.query)
    anna.whole()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_named_pipe_in_the_folder_does_not_stop_the_hub(door: Guarded, stack: ExitStack) -> None:
    """Opening one to read waits for somebody to write."""
    anna = Following(stack, door, "anna")
    os.mkfifo(door.allowed / "pipe.key")
    door.server.wait_for("WARNING.*pipe.key", "stderr")
    anna.whole()


# --- settings --------------------------------------------------------------------------------------------


@pytest.fixture
def files(keys: Keys, tmp_path: Path) -> dict[str, str]:
    """Good and bad files, by what they are."""
    good = keys.secret("hub")
    text = good.read_bytes()
    (tmp_path / "damaged").write_bytes(text.replace(b'secret-key = "', b'secret-key = "!!'))
    (tmp_path / "noise").write_bytes(b"\x00\xff" * 99)
    (tmp_path / "open").write_bytes(text)
    for name in ("damaged", "noise", "open"):
        (tmp_path / name).chmod(0o644 if name == "open" else 0o600)
    (tmp_path / "folder").mkdir()
    return {
        "good": str(good),
        "public": str(keys.public("hub")),
        **{name: str(tmp_path / name) for name in ("missing", "damaged", "noise", "open", "folder")},
    }


BAD = ["missing", "damaged", "noise", "public", "folder", "open"]


def one_line(files: dict[str, str], *arguments: str) -> str:
    """What a command says that cannot be; never a secret."""
    code, out, err = command(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert read_secret(files["good"]).secret.decode() not in err
    return err


@pytest.mark.parametrize("bad", BAD)
def test_serve_refuses_a_key_file_that_is_not_what_it_should_be(files: dict[str, str], bad: str) -> None:
    if bad == "open" and os.name != "posix":
        pytest.skip("Windows has no permission bits to check")
    flags = ["--recorder", "127.0.0.1:1", "--curve-clients", files["folder"], "--curve-key", files[bad]]
    err = one_line(files, "serve", *flags)
    assert "--curve-key" in err
    assert files[bad] in err
    assert bad != "open" or "chmod 600" in err


@pytest.mark.parametrize("missing", ["--curve-key", "--curve-clients"])
def test_serve_takes_its_key_and_its_list_only_together(files: dict[str, str], missing: str) -> None:
    both = {"--curve-key": files["good"], "--curve-clients": files["folder"]}
    del both[missing]
    flags = [text for pair in both.items() for text in pair]
    err = one_line(files, "serve", "--recorder", "127.0.0.1:1", *flags)
    assert "--curve-key" in err
    assert "--curve-clients" in err


def test_serve_refuses_a_list_that_is_no_folder(files: dict[str, str]) -> None:
    for path in (files["missing"], files["public"]):
        flags = ["--curve-key", files["good"], "--curve-clients", path]
        assert "--curve-clients" in one_line(files, "serve", "--recorder", "127.0.0.1:1", *flags)


@pytest.mark.parametrize(
    ("name", "bad"), [*(("status", bad) for bad in BAD), ("watch", "noise"), ("dump", "noise")]
)
def test_commands_refuse_a_key_file_of_their_own_and_name_the_setting(
    files: dict[str, str], name: str, bad: str
) -> None:
    if bad == "open" and os.name != "posix":
        pytest.skip("Windows has no permission bits to check")
    more = ["--last=1s", "-o", "x.npy"] if name == "dump" else []
    err = one_line(files, name, *more, "--curve-key", files[bad], "--server-key", files["public"])
    assert files[bad] in err
    assert "--curve-key" in err


@pytest.mark.parametrize("bad", ["missing", "noise", "folder", "good"])
def test_commands_refuse_a_server_key_that_is_none_or_is_a_secret(files: dict[str, str], bad: str) -> None:
    err = one_line(files, "status", "--curve-key", files["good"], "--server-key", files[bad])
    assert files[bad] in err
    assert re.search("server.key", err)


@pytest.mark.parametrize("alone", ["--curve-key", "--server-key"])
def test_commands_take_both_keys_or_none(files: dict[str, str], alone: str) -> None:
    path = files["good" if alone == "--curve-key" else "public"]
    err = one_line(files, "status", alone, path)
    assert re.search("curve.key", err)
    assert re.search("server.key", err)


def test_a_client_refuses_a_secret_as_server_key_before_it_connects(keys: Keys) -> None:
    with pytest.raises(KeyFileError, match="server_key"):
        Client(curve_key=keys.secret("anna"), server_key=keys.secret("hub"))


@pytest.mark.parametrize("which", ["query", "publish"])
def test_an_open_address_needs_keys(keys: Keys, sim: Simulator, tmp_path: Path, which: str) -> None:
    code, out, err = command("serve", "--recorder", sim.rda, f"--{which}", f"{EVERYWHERE}:0")
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert f"--{which}" in err
    assert "--insecure" in err
    (tmp_path / "allowed").mkdir()
    shutil.copy(keys.public("anna"), tmp_path / "allowed")
    flags = ["--curve-key", str(keys.secret("hub")), "--curve-clients", str(tmp_path / "allowed")]
    query, publish = (f"{EVERYWHERE}:0" if which == name else "" for name in ("query", "publish"))
    with hub(sim.rda, *flags, query=query, publish=publish) as server, Client(**keys.files("anna")) as anna:
        assert getattr(server, which).startswith(EVERYWHERE)
        anna.connect(server.query.replace(EVERYWHERE, "tcp://127.0.0.1"))
        anna.start_streaming(timeout=PATIENCE)
        exact(anna.wait(anna.last_sample, anna.last_sample + 100, timeout=PATIENCE))


# --- secrets ---------------------------------------------------------------------------------------------


def test_no_secret_is_logged_even_by_a_hub_that_logs_all(keys: Keys, sim: Simulator, tmp_path: Path) -> None:
    with guarded(keys, sim, tmp_path / "allowed", "--log-level=debug") as door, ExitStack() as stack:
        shutil.copy(keys.secret("ben"), door.allowed / "ben.key")  # a mistake: the wrong file travelled
        Following(stack, door, "anna").whole()
        told = refusal(keys.files("carl"), door.server.query)
        assert read_secret(keys.secret("carl")).secret.decode() not in told
        shutil.copy(keys.secret("ben"), door.allowed / "damaged.key")
        (door.allowed / "damaged.key").write_bytes(keys.secret("ben").read_bytes()[:-3])
        door.server.wait_for("damaged.key", "stderr")
        door.server.wait_for(re.escape(read_public(keys.public("carl")).decode()), "stderr")
