"""Where source, consumers and the measuring process meet: files of numbers mapped by all of them.

Rule: each cell has one writer; CLOCK_MONOTONIC is the same for all processes of a Linux machine, so stamps
of different processes may be subtracted.
Not here: deciding anything.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["BURST_DONE", "FOR_EVER", "GO", "LAST", "SENT", "Board", "Stamps"]

Stamps: TypeAlias = npt.NDArray[np.int64]

SENT: Final = 0
"""Blocks sent so far; written by the source."""
LAST: Final = 1
"""Consumers are done when they have blocks up to here; written by the measuring process."""
BURST_DONE: Final = 2
"""1 once the blocks sent ahead of time are out; written by the source."""
GO: Final = 3
"""Readers of history pull while it is 1 and end when it is 2; written by the measuring process."""
FOR_EVER: Final = 1 << 40
"""Blocks; times rows of a block it must still be an int64."""


class Board:
    """The shared numbers of one measurement.

    Attributes
    ----------
    cells : ndarray of int64
        `SENT`, `LAST`, `BURST_DONE`, `GO`.
    sent, due : ndarray of int64
        When block k was sent, and when it should have been; ns.
    """

    def __init__(self, folder: Path, blocks: int = 0) -> None:
        self.folder = folder
        self.cells = _map(folder / "cells", 8 if blocks else 0)
        self.sent = _map(folder / "sent", blocks)
        self.due = _map(folder / "due", blocks)
        if blocks:
            self.cells[LAST] = FOR_EVER

    @property
    def capacity(self) -> int:
        """Most blocks that can be noted."""
        return len(self.sent)


def _map(path: Path, length: int) -> Stamps:
    """Map a file of int64; made first if it has a length. As a plain array: a memmap's cells cost 1 µs."""
    if length:
        return np.memmap(path, np.int64, "w+", shape=(length,)).view(np.ndarray)
    return np.memmap(path, np.int64, "r+").view(np.ndarray)
