"""Redis Streams: redis-server of Debian, a bridge that XADDs each block, consumers with XREAD BLOCK.

    python -m benchmarks.lanes.redis bridge HOST:PORT SOCKET-PORT BLOCKS

Rule: no persistence, one entry per block under its own counter, hiredis as parser: the fast way. History is
XRANGE over the same stream.
"""

from __future__ import annotations

import contextlib
import importlib
import socket
import struct
import sys
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from benchmarks.children import Child
from benchmarks.feed import Feed
from benchmarks.lanes import Lane, Read, Relay, Setting
from benchmarks.messages import DATA32, Splitter, connect, samples_of
from benchmarks.shape import Float32, Shape

KEY = b"eeg"
FIELD = b"m"


class Redis(Lane):
    """XADD and XREAD."""

    name: ClassVar[str] = "redis"
    title: ClassVar[str] = "Redis Streams"
    peers: ClassVar[bool] = True
    packages: ClassVar[tuple[str, ...]] = ("redis", "hiredis")
    programs: ClassVar[tuple[str, ...]] = ("redis-server",)

    def start(self, setting: Setting) -> Relay:
        """Run a server and this module."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        server = Child(
            [
                "redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly",
                "no", "--dir", str(setting.folder),
            ],
            "Ready to accept connections",
        )  # fmt: skip
        blocks = setting.shape.blocks(setting.history_seconds)
        try:
            bridge = self.module("benchmarks.lanes.redis", setting.source, str(port), str(blocks))
        except BaseException:
            server.close()
            raise
        return Relay(str(port), [server, bridge])

    def warm_up(self) -> None:
        """Load the package."""
        importlib.import_module("redis")

    def consume(self, address: str, feed: Feed) -> None:
        """Wait for entries after the last one seen."""
        server = _server(address)
        last: bytes | str = "$"
        while True:
            answer = server.xread({KEY: last}, block=1000)
            if not answer:
                if feed.silent():
                    return
                continue
            for name, fields in _entries(answer):
                last = name
                if feed.take(samples_of(fields[FIELD], feed.shape.channels)):
                    return

    @contextlib.contextmanager
    def history(self, address: str, shape: Shape) -> Iterator[Read]:
        """XRANGE by block number, put together into one array."""
        server = _server(address)

        def read(start: int, stop: int) -> Float32:
            rows = shape.rows
            first = start // rows
            entries = server.xrange(KEY, str(first + 1), str((stop - 1) // rows + 1))
            whole = np.empty((len(entries) * rows, shape.channels), np.float32)
            for k, (_, fields) in enumerate(entries):
                whole[k * rows : (k + 1) * rows] = samples_of(fields[FIELD], shape.channels)
            return whole[start - first * rows : stop - first * rows]

        yield read


def _entries(answer: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """The entries of the one stream, in either shape redis-py gives them (RESP 2, RESP 3)."""
    (entries,) = answer.values() if isinstance(answer, dict) else (answer[0][1],)
    if entries and isinstance(entries[0], list) and entries[0] and isinstance(entries[0][0], tuple | list):
        entries = entries[0]
    return [(entry[0], entry[1]) for entry in entries]


def _server(port: str) -> Any:
    redis = importlib.import_module("redis")
    return redis.Redis("127.0.0.1", int(port))


def main() -> None:
    """Relay until the source closes."""
    address, port, blocks = sys.argv[1:]
    server = _server(port)
    server.ping()
    source = connect(address)
    print("ready bridge", flush=True)
    splitter = Splitter()
    while True:
        for kind, message in splitter.receive(source):
            if kind == DATA32:
                (counter,) = struct.unpack_from("<I", message, 24)
                server.xadd(KEY, {FIELD: bytes(message)}, id=f"{counter + 1}-0", maxlen=int(blocks))


if __name__ == "__main__":
    main()
