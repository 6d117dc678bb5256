"""What a consumer notes: when each block was returned to it, and whether it was the right one.

Rule: the time is taken first thing after the lane's call returned; the check is the same for every lane and
costs about 1 µs; with `check` every value is compared. A sample lost, repeated or wrong is counted.
Not here: how the rows came (`lanes`).
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np

from benchmarks.board import FOR_EVER, LAST, SENT, Board
from benchmarks.shape import COUNT, Float32, Shape, table_of

__all__ = ["Feed"]


class Feed:
    """The notes of consumer `number`.

    Attributes
    ----------
    extra : dict
        What a lane wants to add, such as how many ranges were repaired.
    """

    def __init__(self, folder: Path, shape: Shape, number: int, *, check: bool, ready: int) -> None:
        self.shape = shape
        self.extra: dict[str, int] = {}
        self._board = Board(folder)
        self._cells = self._board.cells
        self._path = folder / f"received-{number}.npy"
        self._received = np.zeros(self._board.capacity, np.int64)
        self._hub = np.zeros(self._board.capacity, np.int64)
        self._table = np.concatenate([table_of(shape)] * 2) if check else None
        self._ready = ready
        self._next = -1
        self.lost = self.repeated = self.wrong = self.calls = 0
        """Samples, and calls that returned some."""
        self.made_ns = time.monotonic_ns()
        self.began_ns = 0

    @property
    def began(self) -> bool:
        """Whether a row has come."""
        return self._next >= 0

    @property
    def next_index(self) -> int:
        """Index after the newest sample."""
        return self._next

    def take(self, samples: Float32) -> bool:
        """Note rows just returned; True when the consumer may end."""
        now = time.monotonic_ns()
        first = int(samples[0, 0])
        rows = self.shape.rows
        if self._next < 0:
            self._begin(first, now)
        n = len(samples)
        step = (first - self._next) % COUNT
        if step >= COUNT // 2:
            self.repeated += n
            return False
        start = self._next + step
        stop = start + n
        self.calls += 1
        if step:
            self.lost += step
        if int(samples[-1, 0]) != (stop - 1) % COUNT:
            self.wrong += n
        elif self._table is not None:
            self._compare(samples, start)
        begun = start if step else self._next
        for block in range(-(-begun // rows) if step else begun // rows, stop // rows):
            self._received[block] = now
        self._next = stop
        return bool(stop >= self._cells[LAST] * rows)

    def note_hub(self, index: int, received_ns: int) -> None:
        """Note when the hub itself had the block that begins at `index`."""
        self._hub[index // self.shape.rows] = received_ns

    def silent(self) -> bool:
        """Ask, after some time without data, whether the consumer may end."""
        return bool(self._cells[LAST] < FOR_EVER)

    def save(self) -> None:
        """Write the notes down."""
        np.save(self._path, np.stack([self._received, self._hub]))
        counts = {
            "lost": self.lost, "repeated": self.repeated, "wrong": self.wrong, "calls": self.calls,
            "first_rows_ms": (self.began_ns - self.made_ns) / 1e6, **self.extra,
        }  # fmt: skip
        self._path.with_suffix(".json").write_text(json.dumps(counts))

    def _begin(self, first: int, now: int) -> None:
        """The first row: find its index near what the source has sent."""
        near = int(self._cells[SENT]) * self.shape.rows
        self._next = near + (first - near + COUNT // 2) % COUNT - COUNT // 2
        self.began_ns = now
        os.write(self._ready, b".")

    def _compare(self, samples: Float32, start: int) -> None:
        assert self._table is not None
        n = len(self._table) // 2
        for begin in range(0, len(samples), n):
            part = samples[begin : begin + n, 1:]
            row = (start + begin) % n
            if not np.array_equal(part, self._table[row : row + len(part), 1:]):
                self.wrong += len(part)
