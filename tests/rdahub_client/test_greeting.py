"""Asking a listening socket what it wants, of real ZeroMQ sockets and of peers that are none."""

from __future__ import annotations

import socket
import struct
import threading
import time
from pathlib import Path

import pytest
import zmq

from rdahub_client import AuthError, Client
from rdahub_client.greeting import mechanism

SECONDS = 5.0
RESET = struct.pack("ii", 1, 0)


@pytest.mark.parametrize(("curve", "name"), [(True, "CURVE"), (False, "NULL")])
@pytest.mark.parametrize("kind", ["tcp", "ipv6", "ipc"])
def test_a_zeromq_socket_says_what_it_wants(tmp_path: Path, kind: str, name: str, *, curve: bool) -> None:
    endpoint = {"tcp": "tcp://127.0.0.1:*", "ipv6": "tcp://[::1]:*", "ipc": f"ipc://{tmp_path}/door"}[kind]
    with zmq.Context() as context, context.socket(zmq.ROUTER) as door:
        door.set(zmq.IPV6, 1)
        door.linger = 0
        if curve:
            door.curve_publickey, door.curve_secretkey = zmq.curve_keypair()
            door.curve_server = True
        door.bind(endpoint)
        at = door.get(zmq.LAST_ENDPOINT)
        assert isinstance(at, bytes)
        assert mechanism(at.rstrip(b"\0").decode(), SECONDS) == name


@pytest.mark.parametrize("manner", ["nobody", "silence", "goodbye", "one byte a time"])
def test_who_is_no_zeromq_socket_costs_no_more_than_the_time_given(manner: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if manner == "nobody":
            server.close()
        peers = []

        def serve() -> None:
            peer, _ = server.accept()
            peers.append(peer)
            while manner == "one byte a time":
                try:
                    peer.sendall(b"x")
                except OSError:
                    return
                time.sleep(0.1)
            if manner == "goodbye":
                peer.close()

        if manner != "nobody":
            threading.Thread(target=serve, daemon=True).start()
        began = time.monotonic()
        assert mechanism(f"tcp://127.0.0.1:{port}", 0.5) is None
        assert time.monotonic() - began < 2
        for peer in peers:
            peer.close()


def test_a_plain_client_that_sees_nothing_but_resets_is_told_why() -> None:
    """The hub's reset may overtake its greeting: then libzmq knows of no reason."""
    ours = b"\xff\0\0\0\0\0\0\0\1\x7f\3"
    greeting = ours + b"\0" + b"CURVE".ljust(20, b"\0") + bytes(32)
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)

        def serve() -> None:
            while not stop.is_set():
                try:
                    peer, _ = server.accept()
                except OSError:
                    continue
                with peer:
                    peer.settimeout(1)
                    if peer.recv(11) == ours:  # no libzmq: it waits for the other's signature first
                        peer.sendall(greeting)
                    else:
                        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            began = time.monotonic()
            with Client() as client, pytest.raises(AuthError, match="give curve_key and server_key"):
                client.connect(f"127.0.0.1:{server.getsockname()[1]}", timeout=20)
            assert time.monotonic() - began < 3
        finally:
            stop.set()
            thread.join()
