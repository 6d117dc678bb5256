"""A Recorder as fast as can be: bytes made beforehand, sent at absolute deadlines, each block stamped.

    python -m benchmarks.source '{"folder": …, "shape": …}'

Rule: the stamp is taken right before the first send of a block; a deadline missed is made up for, never
moved. Blocks sent ahead of time (`burst`) fill a history quickly; pacing begins after them.
Not here: faults of real Recorders (`rdahub sim`, tests/nemesis).
"""

from __future__ import annotations

import json
import signal
import socket
import struct
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.board import BURST_DONE, SENT, Board
from benchmarks.shape import COUNT, Shape, table_of
from rdahub.rda import Data, Start, encode

_COUNTER_OFFSET = 24
_SAMPLES_OFFSET = 36


def start_message(shape: Shape) -> bytes:
    """START of a layout whose raw units are microvolts."""
    names = tuple(f"Ch{k}" for k in range(shape.channels))
    return encode(Start(1e6 / shape.rate, (1.0,) * shape.channels, names))


class Blocks:
    """Encoded blocks, of which only counter and channel 0 change."""

    def __init__(self, shape: Shape) -> None:
        table = table_of(shape)
        self._rows = shape.rows
        self._count = np.arange(shape.rows, dtype=np.int64)
        self._messages: list[bytearray] = []
        self._first_channel = []
        for begin in range(0, len(table), shape.rows):
            message = bytearray(encode(Data(0, table[begin : begin + shape.rows])))
            samples = np.frombuffer(message, np.float32, offset=_SAMPLES_OFFSET)
            self._messages.append(message)
            self._first_channel.append(samples.reshape(shape.rows, shape.channels)[:, 0])

    def make(self, counter: int) -> bytearray:
        """The block of this counter; valid until 8 blocks later."""
        which = counter % len(self._messages)
        message = self._messages[which]
        struct.pack_into("<I", message, _COUNTER_OFFSET, counter % 2**32)
        self._first_channel[which][:] = (self._count + counter * self._rows) % COUNT
        return message


class Source:
    """Serves any number of connections; begins when enough are there."""

    def __init__(self, folder: Path, shape: Shape, burst: int, connections: int) -> None:
        self._board = Board(folder)
        self._shape = shape
        self._burst = burst
        self._wanted = connections
        self._start = start_message(shape)
        self._blocks = Blocks(shape)
        self._peers: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"

    def run(self) -> None:
        """Send until ended from outside or the board is full."""
        while len(self._peers) < self._wanted:
            self._accept()
        self._server.setblocking(False)
        cells = self._board.cells
        for counter in range(self._burst):
            self._send(counter, time.monotonic_ns())
        cells[BURST_DONE] = 1
        step = self._shape.block_seconds * 1e9
        begin = time.monotonic_ns() + step
        for k in range(self._board.capacity - self._burst):
            due = int(begin + k * step)
            ahead = due - time.monotonic_ns()
            if ahead > 0:
                time.sleep(ahead * 1e-9)
            self._send(self._burst + k, due)
            try:
                self._accept()
            except BlockingIOError:
                continue

    def _accept(self) -> None:
        peer, _ = self._server.accept()
        peer.setblocking(True)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.sendall(self._start)
        self._peers.append(peer)

    def _send(self, counter: int, due: int) -> None:
        message = self._blocks.make(counter)
        board = self._board
        board.due[counter] = due
        board.sent[counter] = time.monotonic_ns()
        for peer in tuple(self._peers):
            try:
                peer.sendall(message)
            except OSError:
                self._peers.remove(peer)
        board.cells[SENT] = counter + 1


def main() -> None:
    """Serve as the JSON on the command line says."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    spec = json.loads(sys.argv[1])
    source = Source(Path(spec["folder"]), Shape(**spec["shape"]), spec["burst"], spec["connections"])
    print(f"ready {source.address}", flush=True)
    source.run()


if __name__ == "__main__":
    main()
