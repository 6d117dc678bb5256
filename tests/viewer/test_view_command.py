"""`rdahub view` as a process, without a browser: who is let in, what is sent, and how it ends."""

from __future__ import annotations

import json
import re
import signal
import struct
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from viewer_rig import Rig, until

from processes import Child, hub, simulator
from rdahub import viewer
from rdahub.commands.status import fetch
from rdahub.viewer.picture import View

pytest.importorskip("uvicorn", reason="the viewer's extra is not installed (pip install 'rdahub[view]')")
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

PATIENCE = 30.0
TOKEN = "a-word-that-is-long-enough"  # noqa: S105
STATIC = Path(viewer.__file__ or "").parent / "static"
WITHOUT_EXTRA = """
import sys
sys.modules["uvicorn"] = None
from rdahub.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    try:
        yield rig
        rig.close()
    finally:
        rig.stack.close()


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    return path


def refused(*arguments: str, program: tuple[str, ...] = ("-m", "rdahub")) -> tuple[int, str]:
    """Exit code and the one line of a command that does not work."""
    child = Child("view", *arguments, program=program)
    try:
        code = child.finish()
        assert child.stdout == ""
        assert child.stderr.count("\n") == 1, child.stderr
        return code, child.stderr
    finally:
        child.close()


def get(url: str, **headers: str) -> int:
    """Status of an answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=PATIENCE) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def opened(url: str, **options: Any) -> ClientConnection:
    address = url.replace("http", "ws", 1) + "socket"
    socket: ClientConnection = connect(address, open_timeout=PATIENCE, max_size=None, **options)
    return socket


def ask(socket: ClientConnection, **view: Any) -> None:
    socket.send(json.dumps({"view": View(**view).model_dump()}))


def take(socket: ClientConnection, timeout: float = PATIENCE) -> dict[str, Any]:
    """Head of the next message; its columns are as many as it says."""
    message = socket.recv(timeout)
    assert isinstance(message, bytes)
    (length,) = struct.unpack_from("<I", message)
    head: dict[str, Any] = json.loads(message[4 : 4 + length])
    assert length % 4 == 0
    return head


def take_all(socket: ClientConnection) -> None:
    while True:
        take(socket)


def drawn(socket: ClientConnection, head: dict[str, Any]) -> None:
    socket.send(json.dumps({"drawn": head["number"]}))


# --- settings --------------------------------------------------------------------------------------------


def test_an_address_beyond_loopback_needs_a_token(tmp_path: Path) -> None:
    for address in ("0.0.0.0:0", "[::]:0", "192.0.2.1:5580"):
        code, said = refused("--listen", address)
        assert code == 2
        assert "--token-file" in said
    (tmp_path / "short").write_text("x")
    code, said = refused("--token-file", str(tmp_path / "short"))
    assert code == 2
    assert "--token-file" in said
    code, said = refused("--listen", "nowhere")
    assert (code, "--listen" in said) == (2, True)


def test_no_hub_is_exit_code_2() -> None:
    code, said = refused("127.0.0.1:1", "--timeout", "0.3", "--listen", "127.0.0.1:0")
    assert (code, "no hub answers at tcp://127.0.0.1:1" in said) == (2, True)


def test_without_the_extra_one_line_says_what_to_install() -> None:
    code, said = refused("127.0.0.1:1", program=("-c", WITHOUT_EXTRA))
    assert (code, "pip install 'rdahub[view]'" in said) == (2, True)


def test_a_port_that_is_taken_is_exit_code_1(rig: Rig) -> None:
    taken = rig.url.removeprefix("http://").strip("/")
    code, said = refused(rig.hub.query, "--listen", taken)
    assert (code, f"--listen {taken}" in said) == (1, True)


def test_it_ends_with_0_when_told_to_with_a_browser_looking(rig: Rig) -> None:
    with opened(rig.url) as socket:
        ask(socket)
        take(socket)
        rig.viewer.send(signal.SIGINT)
        assert rig.viewer.finish() == 0, rig.viewer.stderr
        with pytest.raises(ConnectionClosed):
            take_all(socket)


# --- who is let in ---------------------------------------------------------------------------------------


def test_with_a_token_nothing_is_shown_without_it(rig: Rig, token_file: Path) -> None:
    child = rig.view("--token-file", str(token_file), "--listen", "0.0.0.0:0")
    port = child.wait_for(r"ready url=http://0\.0\.0\.0:(\d+)/")[1]
    url = f"http://127.0.0.1:{port}/"
    for wrong in ("", "?token=", "?token=wrong", f"?token={TOKEN}x"):
        assert get(f"{url}{wrong}") == 403
        assert get(f"{url}health{wrong}") == 403
        with pytest.raises(InvalidStatus):
            connect(f"ws://127.0.0.1:{port}/socket{wrong}", open_timeout=PATIENCE)
    assert get(f"{url}?token={TOKEN}") == 200
    assert get(f"{url}health", Authorization=f"Bearer {TOKEN}") == 200
    with connect(f"ws://127.0.0.1:{port}/socket?token={TOKEN}", open_timeout=PATIENCE) as socket:
        ask(socket)
        assert take(socket)["health"]["state"] == "idle"
    assert child.stop() == 0
    assert TOKEN not in child.stdout + child.stderr


def test_a_foreign_page_and_a_foreign_name_see_nothing(rig: Rig) -> None:
    assert get(rig.url) == 200
    assert get(rig.url, Host="evil.example") == 403
    with pytest.raises(InvalidStatus):
        opened(rig.url, origin="http://evil.example")
    with opened(rig.url, origin=rig.url.rstrip("/")) as socket:
        ask(socket)
        assert "health" in take(socket)


def test_files_of_the_page_are_served_and_no_others(rig: Rig) -> None:
    for name in (
        "main.js",
        "traces.js",
        "panels.js",
        "link.js",
        "style.css",
        "uPlot.iife.min.js",
        "uPlot.min.css",
    ):
        assert get(f"{rig.url}static/{name}") == 200
    for path in ("static/../server.py", "static/%2e%2e/server.py", "static/", "server.py"):
        assert get(rig.url + path) == 404


def test_what_is_no_wish_ends_the_socket_and_nothing_else(rig: Rig) -> None:
    for nonsense in (
        "",
        "[]",
        '{"view": {"seconds": 1e9}}',
        '{"view": {"pixels": 1000000}}',
        '{"more": 1}',
        b"\0",
    ):
        with opened(rig.url) as socket:
            socket.send(nonsense)
            with pytest.raises(ConnectionClosed):
                socket.recv(PATIENCE)
    assert get(rig.url) == 200


def test_a_hub_with_keys_is_shown_to_who_has_one(tmp_path: Path) -> None:
    for name in ("hub", "viewer"):
        assert keygen(str(tmp_path), "--name", name) == 0
    (tmp_path / "clients").mkdir()
    (tmp_path / "viewer.key").rename(tmp_path / "clients" / "viewer.key")
    own = str(tmp_path / "hub.key_secret")
    keys = ("--curve-key", str(tmp_path / "viewer.key_secret"), "--server-key", str(tmp_path / "hub.key"))
    with (
        simulator("--channels", "2") as sim,
        hub(sim.rda, "--curve-key", own, "--curve-clients", str(tmp_path / "clients")) as server,
    ):
        code, _ = refused(server.query, "--timeout", "1", "--listen", "127.0.0.1:0")
        assert code == 2
        child = Child("view", server.query, "--listen", "127.0.0.1:0", *keys)
        try:
            with opened(child.wait_for(r"ready url=(\S+)")[1]) as socket:
                ask(socket)
                until(lambda: len(columns_of(socket)), lambda n: n > 0)
            assert child.stop() == 0, child.stderr
        finally:
            child.close()


def keygen(*arguments: str) -> int:
    child = Child("keygen", *arguments)
    try:
        return child.finish()
    finally:
        child.close()


# --- what is sent ----------------------------------------------------------------------------------------


def test_a_browser_that_does_not_draw_is_sent_two_messages_and_then_the_newest_picture(rig: Rig) -> None:
    rig.start()
    rig.send(5)
    with opened(rig.url) as slow, opened(rig.url) as quick:
        for socket in (slow, quick):
            ask(socket, seconds=2, pixels=100)
        sent = [take(slow), take(slow)]
        for _ in range(30):  # 6 s of samples, seen by the other one
            rig.send(5)
            goal = rig.recorder.index // 10
            while True:
                drawn(quick, head := take(quick))
                if "columns" in head and head["columns"]["first"] + head["columns"]["n"] == goal:
                    break
        with pytest.raises(TimeoutError):
            take(slow, timeout=0)
        drawn(slow, sent[-1])
        while "columns" not in (head := take(slow)):
            drawn(slow, head)
        assert head["columns"]["anew"]
        assert head["columns"]["n"] == head["columns"]["shown"] == 100
        assert head["columns"]["first"] + 100 == rig.recorder.index // 10


def test_the_hub_has_one_client_however_many_browsers_look(rig: Rig) -> None:
    rig.start()
    rig.send(5)
    with opened(rig.url) as one, opened(rig.url) as two, opened(rig.url) as three:
        for socket in (one, two, three):
            ask(socket)
            while "columns" not in (head := take(socket)):
                drawn(socket, head)
        assert fetch(rig.hub.query, PATIENCE)["clients"] == 1


def test_a_page_opened_late_has_what_was_before(rig: Rig) -> None:
    rig.start()
    rig.send(500)
    until(lambda: fetch(rig.hub.query, PATIENCE)["next_index"], lambda index: index == 10_000)
    late = rig.view()
    url = late.wait_for(r"ready url=(\S+)")[1]
    with opened(url) as socket:
        ask(socket, seconds=10, pixels=500)
        until(lambda: len(columns_of(socket)), lambda n: n == 500)
    assert late.stop() == 0


def columns_of(socket: ClientConnection) -> range:
    head = take(socket)
    drawn(socket, head)
    columns = head.get("columns", {"first": 0, "n": 0})
    return range(columns["first"], columns["first"] + columns["n"])


def test_64_channels_at_1_khz_are_followed_to_their_end() -> None:
    with simulator("--channels", "64", "--seconds", "4") as sim, hub(sim.rda) as server:
        child = Child("view", server.query, "--listen", "127.0.0.1:0")
        try:
            url = child.wait_for(r"ready url=(\S+)")[1]
            with opened(url) as socket:
                ask(socket, seconds=5, pixels=1000, high_pass=1, low_pass=40, notch=50, montage="average")
                stop = 0
                while stop != 800:  # columns of 5 samples
                    head = take(socket)
                    drawn(socket, head)
                    if "columns" in head:
                        first = head["columns"]["first"]
                        assert first == stop or head["columns"]["anew"]
                        stop = first + head["columns"]["n"]
            assert child.stop() == 0, child.stderr
        finally:
            child.close()


def test_the_page_fetches_nothing_from_elsewhere_and_names_its_librarys_licence() -> None:
    for path in STATIC.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        if not path.name.startswith("uPlot"):
            assert not re.search(r"https?:|url\(|@import|[\"']//", text), path.name
    assert "MIT License" in (STATIC / "uPlot.LICENSE").read_text(encoding="utf-8")
