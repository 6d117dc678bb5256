"""rdaclient.py's own design, in Python 3: every consumer is a client of the Recorder itself.

A child process receives from the inherited socket and writes a ring in shared memory; the consumer looks
every 0.5 ms whether the count of samples has moved. The ring has a pocket behind its end that repeats its
beginning; a range across the end that is longer than the pocket is gathered row by row.

Rule: the algorithm as published, also its sleep of 1 ms between writing rows and saying so, and its two
reads per message. Written anew; only the design is theirs (belevtsoff/rdaclient.py).
"""

from __future__ import annotations

import ctypes
import multiprocessing
import socket
import struct
import time
from multiprocessing.sharedctypes import RawArray
from typing import Any, ClassVar

import numpy as np

from benchmarks.feed import Feed
from benchmarks.lanes import Lane, Relay, Setting
from benchmarks.messages import DATA32, HEADER, connect, samples_of
from benchmarks.shape import Float32

POLL = 5e-4
HESITATION = 1e-3
"""Between rows written and rows counted, in the published ring."""


class Ring:
    """The published ring: rows, a pocket, a count."""

    def __init__(self, memory: Any, count: Any, size: int, pocket: int, channels: int) -> None:
        rows = np.frombuffer(memory, np.float32).reshape(size + pocket, channels)
        self._rows = rows
        self._main, self._pocket = rows[:size], rows[size:]
        self._count = count
        self._size, self._pocket_size = size, pocket

    @classmethod
    def make(cls, size: int, pocket: int, channels: int) -> Ring:
        """One that children inherit."""
        memory = RawArray(ctypes.c_char, (size + pocket) * channels * 4)
        return cls(memory, RawArray(ctypes.c_ulong, 1), size, pocket, channels)

    @property
    def written(self) -> int:
        """Rows written so far."""
        return int(self._count[0])

    def put(self, rows: Float32) -> None:
        """Append."""
        begin = self.written % self._size
        place = np.arange(begin, begin + len(rows)) % self._size
        if begin + len(rows) <= self._size:
            self._main[begin : begin + len(rows)] = rows
        else:
            self._main[place] = rows
        if place.min() < self._pocket_size:
            self._pocket[:] = self._main[: self._pocket_size]
        time.sleep(HESITATION)
        self._count[0] += len(rows)

    def get(self, start: int, stop: int) -> Float32 | None:
        """A range if all of it is there."""
        written = self.written
        if start < 0 or stop > written or written - start > self._size:
            return None
        begin, end = start % self._size, stop % self._size
        if begin < end:
            found = self._rows[begin:end]
        elif stop - start <= self._pocket_size:
            found = self._rows[begin : self._size + end]
        else:
            found = self._main[[*range(begin, self._size), *range(end)]]
        found.setflags(write=False)
        return found


class RdaClient(Lane):
    """A streamer process and a ring for each consumer."""

    name: ClassVar[str] = "rdaclient"
    title: ClassVar[str] = "rdaclient.py's design"
    connections: ClassVar[int] = 0

    def start(self, setting: Setting) -> Relay:
        """Nothing: consumers go to the Recorder."""
        return Relay(setting.source)

    def consume(self, address: str, feed: Feed) -> None:
        """Wait for one block after the other."""
        shape = feed.shape
        connection = connect(address)
        _message(connection)  # START
        ring = Ring.make(max(300_000, 4 * shape.rows), shape.rows, shape.channels)
        streamer = multiprocessing.get_context("fork").Process(
            target=_stream, args=(connection, ring, shape.channels), daemon=True
        )
        streamer.start()
        try:
            start = 0
            while True:
                samples = _wait(ring, start, start + shape.rows, 1.0)
                if samples is None:
                    if ring.written - start > 300_000 - shape.rows:
                        start = ring.written  # overwritten
                    elif feed.silent():
                        return
                    continue
                start += shape.rows
                if feed.take(samples):
                    return
        finally:
            streamer.kill()
            streamer.join()


def _wait(ring: Ring, start: int, stop: int, timeout: float) -> Float32 | None:
    deadline = time.time() + timeout
    while time.time() < deadline:
        samples = ring.get(start, stop)
        if samples is not None:
            return samples
        time.sleep(POLL)
    return None


def _stream(connection: socket.socket, ring: Ring, channels: int) -> None:
    while True:
        kind, message = _message(connection)
        if kind == DATA32:
            ring.put(samples_of(message, channels))


def _message(connection: socket.socket) -> tuple[int, memoryview]:
    """The header, then the rest."""
    header = bytearray(HEADER)
    _fill(connection, memoryview(header))
    size, kind = struct.unpack_from("<II", header, 16)
    message = memoryview(bytearray(size))
    message[:HEADER] = header
    _fill(connection, message[HEADER:])
    return kind, message


def _fill(connection: socket.socket, place: memoryview) -> None:
    while place:
        n = connection.recv_into(place)
        if n == 0:
            raise EOFError
        place = place[n:]
