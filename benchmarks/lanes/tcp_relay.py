"""The floor of two TCP hops: bytes in, the same bytes out to every consumer, whole messages.

    python -m benchmarks.lanes.tcp_relay HOST:PORT

One consumer that does not read stops all others: a floor, not something to use.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from typing import ClassVar

from benchmarks.feed import Feed
from benchmarks.lanes import Lane, Relay, Setting
from benchmarks.messages import DATA32, Splitter, connect, samples_of


class TcpRelay(Lane):
    """recv and sendall."""

    name: ClassVar[str] = "tcp"
    title: ClassVar[str] = "plain TCP relay"

    def start(self, setting: Setting) -> Relay:
        """Run this module."""
        child = self.module("benchmarks.lanes.tcp_relay", setting.source)
        return Relay(child.said(), [child])

    def consume(self, address: str, feed: Feed) -> None:
        """Receive, and look at the bytes as an array."""
        channels = feed.shape.channels
        connection = connect(address)
        connection.settimeout(1)
        splitter = Splitter()
        with connection:
            while True:
                try:
                    for kind, message in splitter.receive(connection):
                        if kind == DATA32 and feed.take(samples_of(message, channels)):
                            return
                except TimeoutError:
                    if feed.silent():
                        return


def main() -> None:
    """Relay until the source closes."""
    source = connect(sys.argv[1])
    server = socket.create_server(("127.0.0.1", 0), backlog=256)
    server.setblocking(False)
    print(f"ready 127.0.0.1:{server.getsockname()[1]}", flush=True)
    splitter = Splitter()
    peers: list[socket.socket] = []
    while True:
        for _, message in splitter.receive(source):
            for peer in tuple(peers):
                try:
                    peer.sendall(message)
                except OSError:
                    peers.remove(peer)
        with contextlib.suppress(BlockingIOError):
            while True:
                peer, _ = server.accept()
                peer.setblocking(True)
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                peers.append(peer)


if __name__ == "__main__":
    main()
