"""The fault-injecting proxy does what it says, over a plain echo server.

Rule: bytes are compared one by one, because the tests of the hub believe what the proxy did.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from proxy import PATIENCE, Proxy, poll

MESSAGE = bytes(range(256)) * 4


class Echo:
    """Sends back what it receives, on any number of connections; at the end of one it ends it too."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self.server.getsockname()
        self.resets = threading.Event()
        self._alive = True
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            connection, _ = self.server.accept()
            if not self._alive:
                connection.close()
                return
            threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    def _echo(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65536):
                    connection.sendall(data)
            except ConnectionError:
                self.resets.set()

    def close(self) -> None:
        self._alive = False
        socket.create_connection(self.address).close()
        self._thread.join(PATIENCE)
        self.server.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy(echo.address) as running:
        yield running


@pytest.fixture
def peer(proxy: Proxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


def receive(connection: socket.socket, n: int) -> bytes:
    """So many bytes, or all up to the end of the connection."""
    data = b""
    while len(data) < n and (more := connection.recv(n - len(data))):
        data += more
    return data


def touch(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        return connection.recv(1)


def silent(connection: socket.socket, seconds: float = 0.3) -> bool:
    connection.settimeout(seconds)
    try:
        return connection.recv(1) is None
    except TimeoutError:
        return True
    finally:
        connection.settimeout(PATIENCE)


def test_without_faults_all_bytes_and_the_end_pass_and_are_counted(proxy: Proxy, peer: socket.socket) -> None:
    data = MESSAGE * 1000
    sender = threading.Thread(target=peer.sendall, args=(data,))
    sender.start()
    assert receive(peer, len(data)) == data
    sender.join(PATIENCE)
    assert (proxy.connections, proxy.open_connections) == (1, 1)
    poll(lambda: proxy.to_upstream.passed == proxy.from_upstream.passed == len(data), "all is counted")
    peer.shutdown(socket.SHUT_WR)
    assert receive(peer, 1) == b""
    proxy.wait_for(lambda: proxy.open_connections == 0, "the connection has ended")


def test_latency_delays_and_does_not_thin_out(proxy: Proxy, peer: socket.socket) -> None:
    peer.sendall(b"-")
    receive(peer, 1)
    proxy.from_upstream.latency = 0.3
    before = time.monotonic()
    for _ in range(20):
        peer.sendall(MESSAGE)
        time.sleep(0.01)  # so that they come one by one
    assert receive(peer, 20 * len(MESSAGE)) == 20 * MESSAGE
    assert 0.3 <= time.monotonic() - before < 20 * 0.3  # not one delay after the other


def test_one_byte_pieces_arrive_as_such(proxy: Proxy, peer: socket.socket) -> None:
    proxy.from_upstream.pieces = 1
    peer.sendall(MESSAGE)
    sizes, data = [], b""
    while len(data) < len(MESSAGE):
        piece = peer.recv(65536)
        sizes.append(len(piece))
        data += piece
    assert data == MESSAGE
    assert len(sizes) > 5  # as they come the whole is one or two; a slow reader finds many bytes at once


def test_a_rate_is_kept(proxy: Proxy, peer: socket.socket) -> None:
    proxy.from_upstream.rate = 2000.0
    before = time.monotonic()
    peer.sendall(MESSAGE)
    assert receive(peer, len(MESSAGE)) == MESSAGE
    assert time.monotonic() - before >= 0.9 * len(MESSAGE) / 2000


def test_a_partition_holds_bytes_ends_and_new_connections_until_it_heals(
    proxy: Proxy, peer: socket.socket
) -> None:
    peer.sendall(b"-")
    receive(peer, 1)
    proxy.hold()
    peer.sendall(MESSAGE)
    peer.shutdown(socket.SHUT_WR)
    with socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as second:
        second.sendall(b"second")
        proxy.wait_connections(2)
        assert silent(peer)
        assert silent(second, 0.05)
        assert proxy.to_upstream.passed == 1
        proxy.heal()
        assert receive(second, 6) == b"second"
    assert receive(peer, len(MESSAGE) + 1) == MESSAGE


def test_one_direction_can_be_held_alone(proxy: Proxy, peer: socket.socket) -> None:
    proxy.from_upstream.hold()
    peer.sendall(b"-")  # connected before or while it is held: both wait for `release`
    proxy.from_upstream.release()
    assert receive(peer, 1) == b"-"
    proxy.from_upstream.hold()
    peer.sendall(MESSAGE)
    proxy.wait_for(lambda: proxy.to_upstream.passed == 1 + len(MESSAGE), "all is with the echo server")
    assert silent(peer)
    proxy.from_upstream.release()
    assert receive(peer, len(MESSAGE)) == MESSAGE


@pytest.mark.parametrize("reset", [False, True])
def test_a_cut_ends_the_connection_exactly_there_and_only_once(
    proxy: Proxy, peer: socket.socket, reset: bool
) -> None:
    proxy.from_upstream.cut(100, reset=reset)
    peer.sendall(MESSAGE)
    if reset:
        data = receive(peer, 100)
        with pytest.raises(ConnectionResetError):
            peer.recv(1)
    else:
        data = receive(peer, 101)
    assert data == MESSAGE[:100]
    peer.close()
    with socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as second:
        second.sendall(MESSAGE)
        assert receive(second, len(MESSAGE)) == MESSAGE


def test_one_byte_is_corrupted_and_no_other(proxy: Proxy, peer: socket.socket) -> None:
    peer.sendall(MESSAGE)
    receive(peer, len(MESSAGE))
    proxy.from_upstream.corrupt(700)
    proxy.to_upstream.corrupt(3, mask=1)
    peer.sendall(MESSAGE[:500])
    first = receive(peer, 500)
    peer.sendall(MESSAGE[500:])
    wrong = bytearray(MESSAGE)
    wrong[700] ^= 0xFF
    wrong[3] ^= 1
    assert first + receive(peer, len(MESSAGE) - 500) == wrong


def test_bytes_are_dropped_from_the_middle(proxy: Proxy, peer: socket.socket) -> None:
    proxy.to_upstream.drop(30, after=10)
    for at in range(0, len(MESSAGE), 16):
        peer.sendall(MESSAGE[at : at + 16])
    rest = MESSAGE[:10] + MESSAGE[40:]
    assert receive(peer, len(rest)) == rest
    assert silent(peer, 0.1)


def test_a_reset_reaches_both_sides(proxy: Proxy, peer: socket.socket, echo: Echo) -> None:
    peer.sendall(MESSAGE)
    receive(peer, len(MESSAGE))
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        peer.recv(1)
    assert echo.resets.wait(PATIENCE)
    assert proxy.open_connections == 0


def test_a_reset_by_a_peer_is_passed_on_as_one(proxy: Proxy, peer: socket.socket, echo: Echo) -> None:
    peer.sendall(MESSAGE)
    receive(peer, len(MESSAGE))
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()
    assert echo.resets.wait(PATIENCE)


def test_new_connections_are_refused_and_old_ones_go_on(proxy: Proxy, peer: socket.socket) -> None:
    peer.sendall(b"-")
    receive(peer, 1)
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port), PATIENCE)
    peer.sendall(MESSAGE)
    assert receive(peer, len(MESSAGE)) == MESSAGE
    proxy.heal()
    with socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as second:
        second.sendall(MESSAGE)
        assert receive(second, len(MESSAGE)) == MESSAGE


def test_the_target_can_be_changed(proxy: Proxy, peer: socket.socket) -> None:
    peer.sendall(MESSAGE)
    assert receive(peer, len(MESSAGE)) == MESSAGE  # this one is connected, to the old target
    other = socket.create_server(("127.0.0.1", 0))
    with other:
        proxy.target = other.getsockname()
        with socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as second:
            accepted, _ = other.accept()
            with accepted:
                second.sendall(MESSAGE)
                assert receive(accepted, len(MESSAGE)) == MESSAGE
    with pytest.raises(ConnectionResetError):  # nothing listens there any more
        touch(proxy.port)


def test_waiting_has_a_deadline_and_says_for_what(proxy: Proxy) -> None:
    with pytest.raises(AssertionError, match="2 connections made"):
        proxy.wait_connections(2, seconds=0.05)
