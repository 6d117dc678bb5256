"""When samples arrived: of each second of samples, the block that came soonest.

Rule: only the block with the least delay of its second tells the sample clock anything; the others came late.
Points are kept as long as the history, and for ten minutes at least: no clock can be read off a short one.
Not here: clocks (times are arguments), which block came soonest (`measures` compares them), what
is made of the points (`rdahub_client.clock`).
"""

from __future__ import annotations

from bisect import bisect_left
from operator import itemgetter
from typing import Final, TypeAlias

from rdahub_client.records import Segment

__all__ = ["Arrivals", "Point"]

Point: TypeAlias = tuple[int, int, int]
"""Index of a block's last sample, and the hub's monotonic and wall clock (ns) when it had arrived."""

LEAST_POINTS: Final = 600
"""Newest points kept however short the history: ten minutes."""
MOST_POINTS: Final = 50_000
"""However long it is (an archive may reach back for days): 14 hours, 8 MB."""
_LOT: Final = 64  # points are let go so many at a time

_index = itemgetter(0)


class Arrivals:
    """Points of one instance, in index order."""

    __slots__ = ("_best", "_points", "_rows", "_start", "_turn")

    def __init__(self) -> None:
        self._points: list[Point] = []
        self._best: Point | None = None
        self._start = self._turn = 0
        self._rows = 1

    def begin(self, segment: Segment | None) -> int:
        """From here on blocks are of this segment. Returns where its first second begins."""
        self._finish()
        if segment is not None:
            self._rows = max(1, round(1e6 / segment.sampling_interval_us))
            self._start = self._turn = segment.start
        return self._turn

    def note(self, next_index: int, received_ns: int, wall_ns: int) -> int:
        """Take a block that came sooner than all of its second so far, or that begins another second.

        Parameters
        ----------
        next_index : int
            Index after its last sample.
        received_ns, wall_ns : int
            The hub's monotonic and wall clock when it had arrived.

        Returns
        -------
        turn : int
            Index after this second: a block that goes beyond it begins another.
        """
        if next_index > self._turn:
            self._finish()
            second = (next_index - 1 - self._start) // self._rows
            self._turn = self._start + (second + 1) * self._rows
        self._best = (next_index - 1, received_ns, wall_ns)
        return self._turn

    def _finish(self) -> None:
        if self._best is not None:
            self._points.append(self._best)
            self._best = None

    def between(self, start: int, stop: int, limit: int) -> tuple[list[Point], bool]:
        """Up to `limit` points on samples ``[start, stop)``, and whether there are more.

        The newest is of a second that is not over; another may take its place.
        """
        low = bisect_left(self._points, start, key=_index)
        high = bisect_left(self._points, stop, lo=low, key=_index)
        points = self._points[low : min(high, low + limit + 1)]
        if self._best is not None and start <= self._best[0] < stop:
            points.append(self._best)
        return points[:limit], len(points) > limit

    def prune(self, first_available: int) -> None:
        """Let go of points on samples that are gone. Cheap; call now and then."""
        points = self._points
        spare = len(points) - LEAST_POINTS
        if spare >= _LOT and points[_LOT - 1][0] < first_available:
            del points[: min(spare, bisect_left(points, first_available, key=_index))]
        if len(points) >= MOST_POINTS + _LOT:
            del points[: len(points) - MOST_POINTS]
