"""Key files: what is taken as a key, what is refused with which words, and that no secret is ever said."""

from __future__ import annotations

import os
import pickle
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zmq
import zmq.auth
from hypothesis import example, given
from hypothesis import strategies as st
from zmq.utils.monitor import parse_monitor_message

from rdahub_client import Client, KeyFileError
from rdahub_client.keys import ClientKeys, KeyPair, client_keys, read_public, read_secret

has_modes = pytest.mark.skipif(os.name != "posix", reason="Windows has no permission bits to check")


@pytest.fixture
def public(tmp_path: Path) -> Path:
    """``anna.key``; its secret lies beside it."""
    path, secret = zmq.auth.create_certificates(tmp_path, "anna")
    Path(secret).chmod(0o600)
    return Path(path)


@pytest.fixture
def secret(public: Path) -> Path:
    return public.with_suffix(".key_secret")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """The public key of somebody else, a hub say."""
    path, secret = zmq.auth.create_certificates(tmp_path, "hub")
    Path(secret).chmod(0o600)
    return Path(path)


def secret_in(path: Path) -> str:
    found = zmq.auth.load_certificate(path)[1]
    assert found is not None
    return found.decode()


def edit(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def said(call: Callable[[], object]) -> str:
    with pytest.raises(KeyFileError) as told:
        call()
    text = str(told.value)
    assert "\n" not in text
    return text


# --- good files ------------------------------------------------------------------------------------------


def test_both_files_of_a_pair_give_its_public_key(public: Path, secret: Path) -> None:
    pair = read_secret(secret)
    assert read_public(public) == read_public(secret) == pair.public
    assert (len(pair.public), len(pair.secret)) == (40, 40)
    assert zmq.curve_public(pair.secret) == pair.public


def test_a_path_may_be_text(public: Path, secret: Path) -> None:
    assert read_public(str(public)) == read_secret(str(secret)).public


def test_line_ends_of_another_system_do_no_harm(public: Path, secret: Path) -> None:
    before = read_secret(secret)
    for path in (public, secret):
        edit(path, lambda text: text.replace(b"\n", b"\r\n"))
    assert read_secret(secret) == before
    assert read_public(public) == before.public


def test_a_made_pair_is_a_pair_and_never_the_same() -> None:
    one, two = KeyPair.make(), KeyPair.make()
    assert zmq.curve_public(one.secret) == one.public
    assert one != two


def test_client_keys_are_the_own_pair_and_the_other_ones_public_key(secret: Path, other: Path) -> None:
    keys = client_keys(secret, other)
    assert keys == ClientKeys(read_secret(secret), read_public(other))
    assert client_keys(None, None) is None


def test_a_locked_socket_speaks_to_a_server_with_that_key_and_to_no_other(secret: Path, other: Path) -> None:
    keys = client_keys(secret, other)
    assert keys is not None
    right, wrong = read_secret(other.with_suffix(".key_secret")), KeyPair.make()
    with zmq.Context() as context:
        for pair, heard in ((right, True), (wrong, False)):
            with context.socket(zmq.ROUTER) as server, context.socket(zmq.DEALER) as client:
                server.linger = client.linger = 0
                server.curve_server = True
                server.curve_publickey, server.curve_secretkey = pair.public, pair.secret
                port = server.bind_to_random_port("tcp://127.0.0.1")
                keys.lock(client)
                assert client.mechanism == zmq.CURVE
                monitor = client.get_monitor_socket(
                    zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
                )
                client.connect(f"tcp://127.0.0.1:{port}")
                assert monitor.poll(30_000)
                event = parse_monitor_message(monitor.recv_multipart())["event"]
                assert (event == zmq.EVENT_HANDSHAKE_SUCCEEDED) is heard
                client.disable_monitor()
                monitor.close()


# --- files that are refused ------------------------------------------------------------------------------


@has_modes
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o666, 0o777])
def test_a_secret_that_others_can_reach_is_refused_with_what_to_do(secret: Path, mode: int) -> None:
    secret.chmod(mode)
    text = said(lambda: read_secret(secret))
    assert f"{mode:04o}" in text
    assert f"chmod 600 {secret}" in text


@has_modes
@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_secret_of_its_owner_alone_is_taken(secret: Path, mode: int) -> None:
    secret.chmod(mode)
    assert read_secret(secret).secret.decode() == secret_in(secret)


@has_modes
def test_a_link_is_judged_by_the_file_it_leads_to(secret: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(secret)
    assert read_secret(link) == read_secret(secret)
    secret.chmod(0o644)
    assert "0644" in said(lambda: read_secret(link))


@has_modes
def test_a_public_key_may_be_read_by_anybody(public: Path) -> None:
    public.chmod(0o666)
    assert read_public(public)


@pytest.mark.parametrize("read", [read_public, read_secret])
def test_a_file_that_is_not_there_is_named(read: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "absent.key"
    assert said(lambda: read(path)) == f"{path}: no such file"


@pytest.mark.parametrize("read", [read_public, read_secret])
def test_a_folder_is_no_key_file(read: Callable[[Path], object], tmp_path: Path) -> None:
    assert str(tmp_path) in said(lambda: read(tmp_path))


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"public-key", b"\x00\xff\xfe" * 50, b"ssh-ed25519 AAAA me\n"]
)
@pytest.mark.parametrize("read", [read_public, read_secret])
def test_anything_else_is_said_to_be_no_key_file(
    read: Callable[[Path], object], content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "x.key"
    path.write_bytes(content)
    text = said(lambda: read(path))
    assert str(path) in text
    assert "rdahub keygen" in text


def test_the_public_file_instead_of_the_secret_one_is_said(public: Path) -> None:
    assert ".key_secret" in said(lambda: read_secret(public))


def test_a_pair_whose_keys_do_not_belong_together_is_refused(secret: Path, other: Path) -> None:
    mine, theirs = read_public(secret), read_public(other)
    edit(secret, lambda text: text.replace(mine, theirs))
    assert "does not belong" in said(lambda: read_secret(secret))


@pytest.mark.parametrize("cut", [1, 5, 39])
@pytest.mark.parametrize("which", ["public", "secret"])
def test_a_key_that_is_too_short_is_damaged(secret: Path, which: str, cut: int) -> None:
    edit(secret, lambda text: re.sub(rb"(%s-key = \".*).{%d}\"" % (which.encode(), cut), rb'\1"', text))
    assert "damaged" in said(lambda: read_secret(secret))


@pytest.mark.parametrize("wrong", [b" ", b"\xff", b"~", b"\\"])
def test_a_key_with_a_character_that_is_none_of_z85_is_damaged(public: Path, wrong: bytes) -> None:
    key = read_public(public)
    edit(public, lambda text: text.replace(key, key[:20] + wrong + key[21:]))
    assert "damaged" in said(lambda: read_public(public))


# --- two files that go together --------------------------------------------------------------------------


def test_one_file_alone_is_refused_and_both_are_named(secret: Path, other: Path) -> None:
    for given_files in ((secret, None), (None, other)):
        text = said(lambda files=given_files: client_keys(*files))  # type: ignore[misc]
        assert "curve_key" in text
        assert "server_key" in text


def test_a_secret_file_given_as_server_key_is_refused(secret: Path, other: Path) -> None:
    text = said(lambda: client_keys(secret, other.with_suffix(".key_secret")))
    assert "server_key" in text
    assert str(other.with_suffix(".key_secret")) in text


def test_a_client_refuses_bad_files_when_it_is_made(public: Path, other: Path) -> None:
    with pytest.raises(KeyFileError, match=r"\.key_secret"):
        Client(curve_key=public, server_key=other)
    with pytest.raises(KeyFileError, match="server_key"):
        Client(server_key=other)


# --- secrets stay secret ---------------------------------------------------------------------------------


def test_keys_do_not_show_in_what_is_printed(secret: Path, other: Path) -> None:
    keys = client_keys(secret, other)
    for shown in (repr(keys), str(keys), f"{keys!r}", repr(keys and keys.own)):
        assert secret_in(secret) not in shown
    assert read_public(secret).decode() in repr(keys)


def test_a_secret_does_not_travel_by_accident_within_an_error(secret: Path) -> None:
    hidden = secret_in(secret)
    secret.chmod(0o644)
    with pytest.raises(KeyFileError) as told:
        read_secret(secret)
    assert hidden.encode() not in pickle.dumps(str(told.value))
    assert told.value.__cause__ is None


@given(
    place=st.floats(0, 1),
    length=st.integers(0, 60),
    put=st.binary(max_size=30),
    which=st.sampled_from(["key", "key_secret"]),
)
@example(place=0.0, length=10_000, put=b"", which="key_secret")
@example(place=0.5, length=0, put=b"\nsecret-key\n", which="key_secret")
def test_whatever_happened_to_a_file_it_is_a_good_one_or_refused_without_its_secret(
    place: float, length: int, put: bytes, which: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        zmq.auth.create_certificates(folder, "x")
        secret = Path(folder, "x.key_secret")
        hidden = secret_in(secret)
        path = Path(folder, f"x.{which}")
        path.chmod(0o600)
        text = path.read_bytes()
        at = int(place * len(text))
        path.write_bytes(text[:at] + put + text[at + length :])
        for read in (read_public, read_secret):
            said_of_it = ""
            try:
                read(path)
            except KeyFileError as error:
                said_of_it = str(error)
            assert hidden not in said_of_it
            assert "\n" not in said_of_it
