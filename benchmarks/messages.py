"""Just enough RDA for relays without logic: where a message ends, and where its samples are.

Rule: as little work per message as can be, for this is the floor others are measured against. Nothing is
checked. Needs numpy only, as the peers' environment has no rdahub.
Not here: a decoder to rely on (`rdahub.rda`).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Final

import numpy as np

from benchmarks.shape import Float32

__all__ = ["DATA32", "START", "Splitter", "connect", "samples_of"]

HEADER: Final = 24
FIRST_SAMPLE: Final = HEADER + 12
START: Final = 1
DATA32: Final = 4
_SIZE_AND_TYPE: Final = struct.Struct("<II")


def connect(address: str) -> socket.socket:
    """Open a connection to ``host:port`` without Nagle's delay."""
    host, _, port = address.rpartition(":")
    connection = socket.create_connection((host, int(port)), timeout=30)
    connection.settimeout(None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def samples_of(message: bytes | memoryview, channels: int) -> Float32:
    """The samples of a float32 block without markers, in place."""
    return np.frombuffer(message, np.float32, offset=FIRST_SAMPLE).reshape(-1, channels)


class Splitter:
    """Cuts a stream of bytes into messages by their size field."""

    def __init__(self, size: int = 8 << 20) -> None:
        self._memory = bytearray(size)
        self._view = memoryview(self._memory)
        self._begin = self._end = 0

    def receive(self, connection: socket.socket) -> Iterator[tuple[int, memoryview]]:
        """Receive once, and yield type and bytes of each whole message; these are valid until the next.

        Raises
        ------
        EOFError
            The other end closed the connection.
        """
        if self._begin:
            rest = self._end - self._begin
            self._view[:rest] = bytes(self._view[self._begin : self._end])
            self._begin, self._end = 0, rest
        n = connection.recv_into(self._view[self._end :])
        if n == 0:
            raise EOFError
        self._end += n
        while self._end - self._begin >= HEADER:
            size, kind = _SIZE_AND_TYPE.unpack_from(self._memory, self._begin + 16)
            if self._end - self._begin < size:
                self._make_room(size)
                return
            message = self._view[self._begin : self._begin + size]
            self._begin += size
            yield kind, message

    def _make_room(self, size: int) -> None:
        """Have memory for two messages of this size."""
        if 2 * size > len(self._memory):
            memory = bytearray(4 * size)
            memory[: self._end - self._begin] = self._view[self._begin : self._end]
            self._begin, self._end = 0, self._end - self._begin
            self._memory, self._view = memory, memoryview(memory)
