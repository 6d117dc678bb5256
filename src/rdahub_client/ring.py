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

_PAGE: Final = 4096

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

    __slots__ = (
        "_bytes",
        "_marks",
        "_mirrored",
        "_row_bytes",
        "_rows",
        "_view",
        "_written",
        "capacity",
        "floor",
        "next_index",
    )

    def __init__(self, rows: Float32, start: int, *, mirrored: bool, marks: Marks | None = None) -> None:
        self.capacity = len(rows) // 2
        self.floor = start
        self.next_index = start
        self._rows = rows
        self._row_bytes = 4 * int(rows.shape[1])
        self._bytes = rows.data.cast("B")
        self._written = 0
        self._view = rows.view()
        self._view.flags.writeable = False
        self._mirrored = mirrored
        self._marks: Marks | list[int] = [0] * MARKS if marks is None else marks
        for mark in (RESERVED, NEXT, FLOOR):
            self._marks[mark] = start

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
        if n > self.capacity:
            samples = samples[n - self.capacity :]
            n = self.capacity
        row = (stop - n) % self.capacity
        self._rows[row : row + n] = samples
        self._written = n * self._row_bytes
        if not self._mirrored:
            self._mirror(row, n)
        self.next_index = stop
        self._marks[NEXT] = stop

    def write(self, index: int, data: memoryview) -> None:
        """Append rows from `index` on, given as bytes, at most the capacity: 40 µs less than `extend`.

        That is for memory that is not in the caches, as it is when a block comes; and the place of the next
        block of this size is touched by `prepare`.
        """
        if index != self.next_index:
            raise ValueError(f"rows from {index} on cannot be appended at {self.next_index}")
        size = len(data)
        stop = index + size // self._row_bytes
        self._marks[RESERVED] = stop
        at = index % self.capacity * self._row_bytes
        self._bytes[at : at + size] = data
        if not self._mirrored:
            self._mirror(index % self.capacity, stop - index)
        self._written = size
        self.next_index = stop
        self._marks[NEXT] = stop

    def prepare(self) -> None:
        """Have memory for a block as large as the last, to be called while there is nothing else to do.

        The system gives memory page by page when it is first written to, 36 µs a block.
        """
        if self.next_index - self.floor >= self.capacity:
            return
        rows = self._bytes
        begin = self.next_index % self.capacity * self._row_bytes
        for at in range(begin, begin + self._written, _PAGE):
            rows[at] = rows[at]

    def skip(self, n: int) -> None:
        """Append `n` rows of NaN: samples known to be missing."""
        stop = self.next_index + n
        self._marks[RESERVED] = stop
        kept = min(n, self.capacity)
        row = (stop - kept) % self.capacity
        self._rows[row : row + kept] = np.nan
        if not self._mirrored:
            self._mirror(row, kept)
        self.next_index = stop
        self._marks[NEXT] = stop

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

    def _mirror(self, row: int, n: int) -> None:
        """Write rows a second time, where the system does not map them twice."""
        end, capacity, rows = row + n, self.capacity, self._rows
        inside = min(end, capacity)
        rows[row + capacity : inside + capacity] = rows[row:inside]
        rows[: end - inside] = rows[inside:end]


class RingReader:
    """A reader's end, in another process: the same rows, mapped read-only.

    A range is given out as a view while the writer is far from it, and as a verified copy when it is in the
    eighth of the ring that the writer comes to next, and may reach at any time.
    """

    __slots__ = ("_far", "_marks", "_rows", "capacity", "n_channels")

    def __init__(self, rows: Float32, marks: Marks) -> None:
        self.capacity = len(rows) // 2
        self.n_channels = int(rows.shape[1])
        self._far = self.capacity - self.capacity // 8
        self._rows = rows
        self._marks = marks.data  # it gives numbers where the array would make objects of them

    @property
    def next_index(self) -> int:
        """Index after the newest whole row."""
        return self._marks[NEXT]

    @property
    def seq(self) -> int:
        """The journal's next sequence number; read after `next_index`."""
        return self._marks[SEQ]

    @property
    def first_available(self) -> int:
        """Index of the oldest sample not yet about to be overwritten."""
        return max(self._marks[FLOOR], self._marks[RESERVED] - self.capacity)

    def holds(self, start: int, stop: int) -> bool:
        """Whether all of ``[start, stop)`` is here now."""
        marks = self._marks
        return stop <= marks[NEXT] and start >= marks[FLOOR] and start >= marks[RESERVED] - self.capacity

    def reaches(self, index: int) -> bool:
        """Whether rows up to `index` have been written."""
        return self._marks[NEXT] >= index

    def view(self, start: int, stop: int) -> Float32 | None:
        """View or copy of ``[start, stop)``; None if it was overwritten while it was being copied."""
        row = start % self.capacity
        view = self._rows[row : row + stop - start]
        if start >= self._marks[RESERVED] - self._far:
            return view
        copy: Float32 = view.copy()
        if start < self.first_available:
            return None
        copy.flags.writeable = False
        return copy
