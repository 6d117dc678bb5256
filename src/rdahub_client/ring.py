"""Samples by absolute index, in a fixed piece of memory.

Rule: one writer, any readers. Every range up to the capacity is ONE contiguous view, because the memory
appears twice, back to back: row ``i`` and row ``i + capacity`` are the same sample. Either the operating
system maps it twice (`mirrored`), or the writer writes twice.

::

    row      0        i        capacity          i + capacity      2 * capacity
             |--------|===newest===|------------------|===newest===|
                                a range across the end is contiguous here ^

Readers in another process see the writer's three marks and nothing else of it. The writer moves RESERVED
before it overwrites rows and NEXT after it has written them, so a reader that checks RESERVED after copying
knows that what it copied was whole.

Not here: where the memory comes from (`memory`, `shared`), what an index means (`journal`).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from rdahub_client.records import Float32

__all__ = ["FLOOR", "MARKS", "NEXT", "RESERVED", "SEQ", "Ring", "RingReader"]

RESERVED: Final = 0  # rows below RESERVED - capacity are, or are about to be, overwritten
NEXT: Final = 1  # index after the newest whole row
FLOOR: Final = 2  # index of the first row ever written here
SEQ: Final = 3  # the journal's next sequence number, moved before NEXT: no row is seen before its records
MARKS: Final = 4

Marks = npt.NDArray[np.int64]


class Ring:
    """The writer's end.

    Parameters
    ----------
    rows : ndarray of float32, shape (2 * capacity, n_channels)
    start : int
        Absolute index of the first sample that will be written.
    mirrored : bool
        True if rows ``[0, capacity)`` and ``[capacity, 2 * capacity)`` are the same memory.
    marks : ndarray of int64, shape (4,), optional
        Where the marks are kept for other processes.
    """

    __slots__ = ("_marks", "_mirrored", "_rows", "_view", "capacity", "floor", "next_index")

    def __init__(self, rows: Float32, start: int, *, mirrored: bool, marks: Marks | None = None) -> None:
        self.capacity = len(rows) // 2
        self.floor = start
        self.next_index = start
        self._rows = rows
        self._view = rows.view()
        self._view.flags.writeable = False
        self._mirrored = mirrored
        self._marks = np.zeros(MARKS, np.int64) if marks is None else marks
        self._marks[:SEQ] = start

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return int(self._rows.shape[1])

    @property
    def first_available(self) -> int:
        """Index of the oldest sample held."""
        return max(self.floor, self.next_index - self.capacity)

    def holds(self, start: int, stop: int) -> bool:
        """Whether all of ``[start, stop)`` is here."""
        return stop <= self.next_index and start >= self.floor and start >= self.next_index - self.capacity

    def reaches(self, index: int) -> bool:
        """Whether rows up to `index` have been written."""
        return self.next_index >= index

    def view(self, start: int, stop: int) -> Float32:
        """Read-only view of ``[start, stop)``, which `holds` said is here; valid until the next write."""
        row = start % self.capacity
        return self._view[row : row + stop - start]

    def extend(self, samples: Float32) -> None:
        """Append rows, overwriting the oldest. More rows than the capacity: the newest stay."""
        n = len(samples)
        stop = self.next_index + n
        self._marks[RESERVED] = stop
        kept = min(n, self.capacity)
        row = (stop - kept) % self.capacity
        self._rows[row : row + kept] = samples[n - kept :]
        self._publish(row, kept, stop)

    def skip(self, n: int) -> None:
        """Append `n` rows of NaN: samples known to be missing."""
        stop = self.next_index + n
        self._marks[RESERVED] = stop
        kept = min(n, self.capacity)
        row = (stop - kept) % self.capacity
        self._rows[row : row + kept] = np.nan
        self._publish(row, kept, stop)

    def jump(self, index: int) -> None:
        """Forget everything and go on at `index`."""
        self._marks[RESERVED] = index + self.capacity
        self.floor = self.next_index = index
        self._marks[FLOOR] = index
        self._marks[NEXT] = index
        self._marks[RESERVED] = index

    def note_seq(self, seq: int) -> None:
        """Tell readers how far the journal is; call before the rows it speaks of."""
        self._marks[SEQ] = seq

    def _publish(self, row: int, n: int, stop: int) -> None:
        if not self._mirrored:
            end, capacity, rows = row + n, self.capacity, self._rows
            inside = min(end, capacity)
            rows[row + capacity : inside + capacity] = rows[row:inside]
            rows[: end - inside] = rows[inside:end]
        self.next_index = stop
        self._marks[NEXT] = stop


class RingReader:
    """A reader's end, in another process: the same rows, mapped read-only.

    A range is given out as a view while the writer is far from it, and as a verified copy when it is among
    the oldest eighth of the ring, which the writer may reach at any time.
    """

    __slots__ = ("_marks", "_rows", "capacity", "n_channels")

    def __init__(self, rows: Float32, marks: Marks) -> None:
        self.capacity = len(rows) // 2
        self.n_channels = int(rows.shape[1])
        self._rows = rows
        self._marks = marks

    @property
    def next_index(self) -> int:
        """Index after the newest whole row."""
        return int(self._marks[NEXT])

    @property
    def seq(self) -> int:
        """The journal's next sequence number; read after `next_index`."""
        return int(self._marks[SEQ])

    @property
    def first_available(self) -> int:
        """Index of the oldest sample not yet about to be overwritten."""
        return max(int(self._marks[FLOOR]), int(self._marks[RESERVED]) - self.capacity)

    def holds(self, start: int, stop: int) -> bool:
        """Whether all of ``[start, stop)`` is here now."""
        return stop <= self.next_index and start >= self.first_available

    def reaches(self, index: int) -> bool:
        """Whether rows up to `index` have been written."""
        return self.next_index >= index

    def view(self, start: int, stop: int) -> Float32 | None:
        """View or copy of ``[start, stop)``; None if it was overwritten while it was being copied."""
        row = start % self.capacity
        view = self._rows[row : row + stop - start]
        if start - self.first_available >= self.capacity // 8:
            return view
        copy: Float32 = view.copy()
        if start < self.first_available:
            return None
        copy.flags.writeable = False
        return copy
