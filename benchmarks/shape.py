"""What is sent, as values: channels, rate, rows of a block, and which sample has which value.

Rule: channel 0 counts samples (modulo 2^24, exact in float32), all others come from a fixed table, so that
whoever receives a row knows which it is and what must be in it.
Not here: bytes (`messages`), sockets.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["COUNT", "Float32", "Shape", "table_of"]

Float32 = npt.NDArray[np.float32]

COUNT: Final = 1 << 24
TABLE_BLOCKS: Final = 8


@dataclass(frozen=True, slots=True)
class Shape:
    """Layout of a workload."""

    channels: int
    rate: float
    rows: int

    @property
    def block_seconds(self) -> float:
        """Time between two blocks."""
        return self.rows / self.rate

    @property
    def bytes_per_second(self) -> float:
        """Samples only."""
        return self.channels * 4 * self.rate

    def blocks(self, seconds: float) -> int:
        """Blocks in a time, at least one."""
        return max(1, round(seconds / self.block_seconds))

    def __str__(self) -> str:
        return f"{self.channels} ch x {self.rate / 1000:g} kHz x {self.rows}"

    def to_json(self) -> dict[str, Any]:
        """For a child's command line."""
        return asdict(self)


def table_of(shape: Shape, blocks: int = TABLE_BLOCKS) -> Float32:
    """Rows that are sent over and over; sample `i` is row ``i % len(table)``, but for channel 0."""
    random = np.random.default_rng(shape.channels)
    return random.standard_normal((blocks * shape.rows, shape.channels), np.float32) * np.float32(50)
