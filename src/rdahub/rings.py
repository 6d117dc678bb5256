"""The history: one ring for each layout the recording had, the newest of them written to.

Rule: indices run on from ring to ring, so `first_available` up to the newest sample is whole. A new layout
takes nothing away from readers of the old one: its ring stays as long as the history is meant to reach and
memory is allowed, and some seconds in any case, for readers that are a block behind.
Not here: where memory comes from (`storage`), what is written (`broker`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from rdahub import limits
from rdahub_client.ring import Ring

__all__ = ["History", "Rings"]

_LEAST_ROWS: Final = 64


@dataclass(frozen=True, slots=True)
class History:
    """How much to keep: `seconds` of samples or `bytes` of memory, whichever is less."""

    seconds: float
    bytes: int

    def rows(self, n_channels: int, interval_us: float) -> int:
        """Samples to keep at a layout."""
        by_time = self.seconds * 1e6 / interval_us
        return max(_LEAST_ROWS, int(min(by_time, self.bytes / (4 * n_channels))))


@dataclass(slots=True)
class _Kept:
    """A ring that is not written to any more, and since when (s, None until `prune` has seen it)."""

    ring: Ring
    since: float | None = None


class Rings:
    """Rings by layout.

    Parameters
    ----------
    history : History
    make_ring : callable
        ``make_ring(n_channels, rows, start)`` gives a `Ring`, possibly shorter than asked if memory is short.
    """

    def __init__(self, history: History, make_ring: Callable[[int, int, int], Ring]) -> None:
        self._history = history
        self._make_ring = make_ring
        self._older: list[_Kept] = []
        self._interval_us = 0.0
        self.newest: Ring | None = None

    def open(self, n_channels: int, interval_us: float, index: int) -> Ring:
        """Have a ring of this layout to write to from `index` on: the newest, or a new one."""
        newest = self.newest
        if newest is not None and (newest.n_channels, self._interval_us) == (n_channels, interval_us):
            return newest
        if newest is not None and newest.next_index > newest.floor:
            self._older.append(_Kept(newest))
        self.newest = newest = None  # so that its memory is free if `make_ring` has to let go of older ones
        self._interval_us = interval_us
        self.newest = self._make_ring(n_channels, self._history.rows(n_channels, interval_us), index)
        return self.newest

    def at(self, index: int) -> Ring | None:
        """The ring that holds a sample from `first_available` on, or will hold it."""
        for ring in self._newest_first():
            if ring.floor <= index:
                return ring
        return None

    def _newest_first(self) -> list[Ring]:
        """Rings without a hole between them: one that has come round is the last."""
        rings = [] if self.newest is None else [self.newest]
        for kept in reversed(self._older):
            if rings and rings[-1].first_available > rings[-1].floor:
                break
            rings.append(kept.ring)
        return rings

    def first_available(self, index: int) -> int:
        """Index of the oldest sample held; `index` if there is none."""
        rings = self._newest_first()
        return rings[-1].first_available if rings else index

    @property
    def has_older(self) -> bool:
        """Whether there are samples of layouts before the present one."""
        return len(self._newest_first()) > 1

    def prune(self, now: float) -> None:
        """Let go of rings whose time is over, that are more than memory allows, or cut off by a newer one."""
        reachable = self._newest_first()
        allowed = self._history.bytes - (0 if self.newest is None else _bytes(self.newest))
        kept: list[_Kept] = []
        for each in reversed(self._older):
            each.since = now if each.since is None else each.since
            age = now - each.since
            allowed -= _bytes(each.ring)
            in_time = age < self._history.seconds and allowed >= 0
            if each.ring not in reachable or not (in_time or (not kept and age < limits.OLDER_RING_SECONDS)):
                break
            kept.append(each)
        self._older = kept[::-1]

    def release(self) -> bool:
        """Let go of older layouts now, for memory is short. False if there are none."""
        had = bool(self._older)
        self._older.clear()
        return had


def _bytes(ring: Ring) -> int:
    return ring.capacity * ring.n_channels * 4
