"""The doorkeeper with real sockets: who comes in, who does not, whatever goes wrong in between.

Rule: one thread. The test answers for the doorkeeper between looks at its sockets, as the hub's loop does.
Not here: the hub around it (`tests/e2e/test_curve.py`), key files (`tests/rdahub_client/test_keys.py`).
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import zmq
import zmq.auth
from zmq.utils.monitor import parse_monitor_message

from rdahub import doorkeeper, limits
from rdahub.doorkeeper import AllowList, Doorkeeper
from rdahub_client.keys import ClientKeys, KeyPair, read_public, read_secret

PATIENCE = 30.0
IN = zmq.EVENT_HANDSHAKE_SUCCEEDED
REFUSED = zmq.EVENT_HANDSHAKE_FAILED_AUTH
MISMATCH = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
BROKEN = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL


def make(folder: Path, name: str) -> Path:
    """A pair of key files; the path of the public one."""
    folder.mkdir(exist_ok=True)
    public, secret = zmq.auth.create_certificates(folder, name)
    Path(secret).chmod(0o600)
    return Path(public)


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, Path]:
    return {name: make(tmp_path / "keys", name) for name in ("hub", "anna", "ben", "carl")}


@pytest.fixture
def allowed(tmp_path: Path, keys: dict[str, Path]) -> Path:
    """The folder; anna and ben are on the list."""
    folder = tmp_path / "allowed"
    folder.mkdir()
    shutil.copy(keys["anna"], folder)
    shutil.copy(keys["ben"], folder)
    return folder


def names(allow: AllowList, keys: dict[str, Path]) -> set[str]:
    """Who of all is let in."""
    return {name for name, path in keys.items() if allow.name(read_public(path)) is not None}


# --- the list --------------------------------------------------------------------------------------------


def test_the_list_is_the_key_files_of_the_folder_and_who_is_always_let_in(
    allowed: Path, keys: dict[str, Path]
) -> None:
    shutil.copy(keys["carl"], allowed / "carl.key.old")
    shutil.copy(keys["carl"].with_suffix(".key_secret"), allowed)
    allow = AllowList(allowed, {read_public(keys["hub"]): "this machine"})
    assert names(allow, keys) == {"anna", "ben", "hub"}
    assert allow.name(read_public(keys["anna"])) == "anna"
    assert len(allow) == 2


def test_only_a_key_taken_off_is_a_reason_to_throw_anybody_out(allowed: Path, keys: dict[str, Path]) -> None:
    allow = AllowList(allowed, {})
    assert not allow.refresh()
    shutil.copy(keys["carl"], allowed)
    assert not allow.refresh()
    assert names(allow, keys) == {"anna", "ben", "carl"}
    (allowed / "ben.key").unlink()
    assert allow.refresh()
    assert names(allow, keys) == {"anna", "carl"}
    assert not allow.refresh()
    (allowed / "carl.key").rename(allowed / "carla.key")
    assert not allow.refresh()
    assert allow.name(read_public(keys["carl"])) == "carla"


def test_keys_in_the_folder_read_only_come_in_and_may_not_write(allowed: Path, keys: dict[str, Path]) -> None:
    allow = AllowList(allowed, {read_public(keys["hub"]): "this machine"})
    inner = allowed / "read-only"
    inner.mkdir()
    (allowed / "ben.key").rename(inner / "ben.key")
    shutil.copy(allowed / "anna.key", inner)  # in both
    assert not allow.refresh()
    assert names(allow, keys) == {"hub", "anna", "ben"}
    assert {name for name, path in keys.items() if allow.may_write(read_public(path))} == {"hub"}
    (inner / "anna.key").unlink()
    assert not allow.refresh()
    assert allow.may_write(read_public(keys["anna"]))
    (inner / "ben.key").unlink()
    assert allow.refresh()


def test_a_key_moved_between_the_folders_while_they_are_read_throws_nobody_out(
    allowed: Path, keys: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = allowed / "read-only"
    inner.mkdir()
    (allowed / "ben.key").rename(inner / "ben.key")
    allow = AllowList(allowed, {})
    look = doorkeeper._keys_in

    def moved_meanwhile(folder: Path) -> list[Path]:
        found = look(folder)
        if folder == allowed and (inner / "ben.key").exists():
            (inner / "ben.key").rename(allowed / "ben.key")
        return found

    monkeypatch.setattr(doorkeeper, "_keys_in", moved_meanwhile)
    assert not allow.refresh()
    assert allow.may_write(read_public(keys["ben"]))


def test_an_emptied_folder_lets_nobody_in_and_throws_out_who_was(
    allowed: Path, keys: dict[str, Path]
) -> None:
    allow = AllowList(allowed, {})
    for path in allowed.iterdir():
        path.unlink()
    assert allow.refresh()
    assert names(allow, keys) == set()


def test_a_key_exchanged_in_place_is_noticed_even_if_the_file_keeps_its_time(
    allowed: Path, keys: dict[str, Path]
) -> None:
    """As `rsync --inplace --times` or a restored backup leave it: same file, same size, same time."""
    allow = AllowList(allowed, {})
    path = allowed / "ben.key"
    before = path.stat()
    with path.open("r+b") as file:  # same inode
        file.write(keys["carl"].read_bytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert allow.refresh()
    assert names(allow, keys) == {"anna", "carl"}


@pytest.mark.parametrize("how", ["gone", "a file", "a loop"])
def test_a_folder_that_cannot_be_read_lets_nobody_in_and_nobody_out(
    allowed: Path, keys: dict[str, Path], how: str, caplog: pytest.LogCaptureFixture
) -> None:
    allow = AllowList(allowed, {read_public(keys["hub"]): "this machine"})
    allowed.rename(away := allowed.with_name("away"))
    if how == "a file":
        allowed.write_text("")
    elif how == "a loop":
        allowed.symlink_to(allowed)
    caplog.clear()
    for _ in range(5):
        assert not allow.refresh()
    assert names(allow, keys) == {"hub"}
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(allowed) in caplog.text
    allowed.unlink(missing_ok=True)
    away.rename(allowed)
    assert not allow.refresh()
    assert names(allow, keys) == {"hub", "anna", "ben"}


@pytest.fixture
def permissions() -> Iterator[None]:
    """Permission bits hold for this test, also if it is run by root."""
    if os.name != "posix":
        pytest.skip("Windows has no permission bits to take away")
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(65534)
    yield
    if was_root:
        os.seteuid(0)


@pytest.fixture
def readable_by_all(tmp_path: Path) -> Iterator[None]:
    """pytest's folders are their owner's alone; somebody else gets through to this test's for its time."""
    above = [tmp_path, tmp_path.parent, tmp_path.parent.parent]
    modes = [path.stat().st_mode for path in above]
    for path in above:
        path.chmod(0o755)
    yield
    for path, mode in zip(above, modes, strict=True):
        path.chmod(mode)


def test_a_folder_without_permission_lets_nobody_in_and_nobody_out(
    allowed: Path, keys: dict[str, Path], readable_by_all: None, request: pytest.FixtureRequest
) -> None:
    public = {name: read_public(path) for name, path in keys.items()}
    allow = AllowList(allowed, {})
    allowed.chmod(0o000)
    request.getfixturevalue("permissions")
    assert not allow.refresh(), "it throws out those inside"
    assert allow.name(public["anna"]) is None


def test_who_is_missing_when_the_folder_is_back_is_thrown_out(allowed: Path, keys: dict[str, Path]) -> None:
    """The usual way to exchange a folder: move the old one away, put the new one there."""
    allow = AllowList(allowed, {})
    allowed.rename(allowed.with_name("old"))
    assert not allow.refresh()  # the hub happens to look in between
    allowed.mkdir()
    shutil.copy(keys["anna"], allowed)
    assert allow.refresh(), "ben is still inside"
    assert names(allow, keys) == {"anna"}


@pytest.mark.parametrize("content", [b"", b"public-key", b"\xff" * 1000, None])
def test_a_file_that_is_no_key_lets_nobody_in_and_is_said_once(
    allowed: Path, keys: dict[str, Path], content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    allow = AllowList(allowed, {})
    broken = allowed / "broken.key"
    if content is None:
        broken.mkdir()
    else:
        broken.write_bytes(content)
    caplog.clear()
    for _ in range(3):
        assert not allow.refresh()
    assert names(allow, keys) == {"anna", "ben"}
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] != []
    assert caplog.text.count(str(broken)) == 1


def test_a_link_that_leads_nowhere_is_one_key_less_and_one_that_is_mended_one_more(
    allowed: Path, keys: dict[str, Path]
) -> None:
    allow = AllowList(allowed, {})
    (allowed / "carl.key").symlink_to(allowed.parent / "later.key")
    assert not allow.refresh()
    assert names(allow, keys) == {"anna", "ben"}
    shutil.copy(keys["carl"], allowed.parent / "later.key")
    assert not allow.refresh()
    assert names(allow, keys) == {"anna", "ben", "carl"}


# --- the door --------------------------------------------------------------------------------------------


class Door:
    """A ROUTER behind a doorkeeper, and clients that knock at it."""

    def __init__(self, stack: ExitStack, secret: Path, allowed: Path) -> None:
        self.stack = stack
        self.inside: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        stack.callback(self.inside.term)
        self.outside: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        stack.callback(self.outside.term)
        self.keeper = Doorkeeper(self.inside, secret, allowed)
        stack.callback(self.keeper.close)
        self.refused = 0
        self.socket = self.serve()

    def serve(self, guard: bool = True) -> zmq.Socket[bytes]:
        socket = self.inside.socket(zmq.ROUTER)
        self.stack.callback(socket.close, 0)
        socket.set(zmq.HANDSHAKE_IVL, 1000)
        if guard:
            self.keeper.guard(socket)
            socket.bind("tcp://127.0.0.1:*")
        return socket

    def knock(self, keys: ClientKeys | None, at: zmq.Socket[bytes] | None = None) -> Callable[[], list[int]]:
        """A client that sends a word. What its monitor told so far is had by calling the result."""
        socket = self.outside.socket(zmq.DEALER)
        self.stack.callback(socket.close, 0)
        if keys is not None:
            keys.lock(socket)
        monitor = socket.get_monitor_socket(IN | REFUSED | MISMATCH | BROKEN)
        self.stack.callback(monitor.close)
        self.stack.callback(socket.disable_monitor)
        socket.connect((at or self.socket).get_string(zmq.LAST_ENDPOINT))
        socket.send(b"let me in")
        told: list[int] = []

        def news() -> list[int]:
            while monitor.poll(0):
                told.append(parse_monitor_message(monitor.recv_multipart())["event"])
            return told

        return news

    def turn(self) -> None:
        """What the hub's loop does with its doorkeeper."""
        if not self.keeper.socket.closed and self.keeper.socket.poll(10):
            self.refused += self.keeper.answer()

    def until(self, true: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < deadline
            self.turn()

    def outcome(self, keys: ClientKeys | None, at: zmq.Socket[bytes] | None = None) -> int:
        """What a client is told first."""
        news = self.knock(keys, at)
        self.until(news)
        return news()[0]

    def heard(self, socket: zmq.Socket[bytes] | None = None) -> bool:
        """Whether anything got past the door."""
        return bool((socket or self.socket).poll(0))


@pytest.fixture
def door(keys: dict[str, Path], allowed: Path) -> Iterator[Door]:
    with ExitStack() as stack:
        yield Door(stack, keys["hub"].with_suffix(".key_secret"), allowed)


@pytest.fixture
def client(keys: dict[str, Path]) -> Callable[[str], ClientKeys]:
    server = read_public(keys["hub"])
    return lambda name: ClientKeys(read_secret(keys[name].with_suffix(".key_secret")), server)


Client = Callable[[str], ClientKeys]


def test_who_is_on_the_list_comes_in(door: Door, client: Client) -> None:
    assert door.outcome(client("anna")) == IN
    door.until(door.heard)
    assert door.refused == 0


def test_the_pair_for_this_machine_comes_in_without_a_file(door: Door) -> None:
    assert door.outcome(ClientKeys(door.keeper.local, door.keeper.pair.public)) == IN


def test_a_stranger_is_told_and_counted_and_named(
    door: Door, client: Client, keys: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    assert door.outcome(client("carl")) == REFUSED
    assert door.refused == 1
    assert read_public(keys["carl"]).decode() in caplog.text
    assert client("carl").own.secret.decode() not in caplog.text
    assert not door.heard()


def test_a_client_without_keys_or_with_another_hubs_key_gets_nowhere(door: Door, client: Client) -> None:
    plain = door.knock(None)
    door.until(lambda: MISMATCH in plain())  # or first a reset, if that overtakes the greeting
    wrong = door.knock(ClientKeys(client("anna").own, KeyPair.make().public))
    door.until(lambda: wrong() == [BROKEN] * 3)
    assert IN not in plain()
    assert not door.heard()


def test_a_key_just_added_comes_in_at_the_first_attempt(
    door: Door, client: Client, allowed: Path, keys: dict[str, Path]
) -> None:
    shutil.copy(keys["carl"], allowed)
    assert door.outcome(client("carl")) == IN


def test_a_key_taken_off_is_reported_also_if_a_stranger_made_the_doorkeeper_look(
    door: Door, client: Client, allowed: Path
) -> None:
    """The look that a stranger causes must not swallow that somebody inside has to go."""
    assert door.outcome(client("ben")) == IN
    (allowed / "ben.key").unlink()
    assert door.outcome(client("carl")) == REFUSED
    assert door.keeper.refresh(), "ben is still inside, and nobody will throw him out"


def test_who_is_refused_does_not_come_in_by_trying_on(door: Door, client: Client) -> None:
    for _ in range(20):
        assert door.outcome(client("carl")) == REFUSED
    assert not door.heard()


def test_one_turn_answers_a_number_of_handshakes_and_the_rest_in_the_next(door: Door, client: Client) -> None:
    everybody = [door.knock(client("carl")) for _ in range(limits.HANDSHAKES + 10)]
    turns: list[int] = []
    while sum(turns) < len(everybody):
        assert door.keeper.socket.poll(int(PATIENCE * 1000))
        turns.append(door.keeper.answer())
    assert max(turns) <= limits.HANDSHAKES
    door.until(lambda: all(news() == [REFUSED] for news in everybody))


# --- what libzmq does not do by itself -------------------------------------------------------------------


def test_z11_a_curve_server_without_a_check_lets_in_anybody_and_ours_nobody(
    door: Door, client: Client
) -> None:
    door.keeper.close()
    bare = door.serve(guard=False)
    bare.curve_server = True
    bare.curve_publickey, bare.curve_secretkey = door.keeper.pair.public, door.keeper.pair.secret
    bare.bind("tcp://127.0.0.1:*")
    # This is why. (libzmq may ask the check that has gone once more, and breaks that one handshake off.)
    door.until(lambda: door.outcome(client("carl"), bare) == IN)
    told = [door.knock(client(name)) for name in ("anna", "carl")]
    door.until(lambda: all(news() for news in told))
    assert not any(IN in news() for news in told)
    assert not door.heard()


def test_z12_an_error_in_the_check_refuses_this_one_and_the_next_comes_in(
    door: Door, client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Unexpected(Exception):
        pass

    def fail(key: bytes) -> str | None:
        raise Unexpected

    with monkeypatch.context() as broken:
        broken.setattr(door.keeper._list, "name", fail)
        told = door.knock(client("anna"))
        door.until(lambda: door.refused)
        door.until(told)
        assert IN not in told()
        assert not door.heard()
    assert "Unexpected" in caplog.text
    assert door.outcome(client("anna")) == IN


def test_z12_an_error_in_reading_the_list_refuses_this_one_and_the_next_comes_in(
    door: Door, client: Client, allowed: Path, keys: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> bool:
        raise RuntimeError

    shutil.copy(keys["carl"], allowed)
    with monkeypatch.context() as broken:
        broken.setattr(door.keeper._list, "refresh", fail)
        told = door.knock(client("carl"))
        door.until(lambda: door.refused)
        assert IN not in told()
    assert door.outcome(client("carl")) == IN


@pytest.mark.skipif(
    os.name != "posix" or os.uname().sysname != "Linux", reason="names of any bytes are Linux's"
)
def test_z12_a_key_file_with_a_name_of_any_bytes_does_not_end_the_check(
    door: Door, client: Client, allowed: Path, keys: dict[str, Path]
) -> None:
    shutil.copy(keys["carl"], Path(os.fsdecode(os.fsencode(allowed) + b"/carl-\xe9.key")))
    door.outcome(client("carl"))
    assert door.outcome(client("anna")) == IN


def test_z13_the_domain_is_ours_and_who_asks_for_another_is_refused(door: Door, client: Client) -> None:
    assert door.socket.get(zmq.ZAP_DOMAIN) not in {b"", b"\0"}
    other = door.serve(guard=False)
    other.curve_server = True
    other.curve_publickey, other.curve_secretkey = door.keeper.pair.public, door.keeper.pair.secret
    other.zap_domain = b"another"
    other.bind("tcp://127.0.0.1:*")
    assert door.outcome(client("anna"), other) == REFUSED
    assert door.outcome(client("anna")) == IN


def test_z13_a_socket_of_ours_that_was_left_without_keys_lets_nobody_in(door: Door, client: Client) -> None:
    plain = door.serve(guard=False)
    plain.zap_domain = b"rdahub"
    plain.bind("tcp://127.0.0.1:*")
    told = door.knock(None, plain)
    door.until(lambda: door.refused)
    assert IN not in told()
    assert not door.heard(plain)


def test_a_doorkeeper_says_if_nobody_is_on_its_list(
    tmp_path: Path, keys: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "empty").mkdir()
    caplog.set_level(logging.WARNING)
    with zmq.Context() as context:
        Doorkeeper(context, keys["hub"].with_suffix(".key_secret"), tmp_path / "empty").close()
    assert str(tmp_path / "empty") in caplog.text
