"""Times of samples as who gets them wants them: one for each, always rising, evenly apart, and remembered.

Rule: an estimate of when a sample was taken gets better while more is heard, and so moves. What was once
given stays; the next samples come a little closer or wider until they are where the estimate is. Only where
samples are missing do times jump, and forward only.
Not here: the estimate (`Client.time_of`), clocks, what is sent where (`lsl`).
"""

from __future__ import annotations

from collections import deque
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Stamps"]

Float64: TypeAlias = npt.NDArray[np.float64]

_SLEW: Final = 0.02
"""Most that two samples may stand closer or wider than they should: 20 ms are made good in 1 s."""
_KEPT: Final = 60.0
"""Seconds of times kept, for markers that come after their sample."""


class Stamps:
    """Times given to the samples of one stream.

    Parameters
    ----------
    sfreq : float
        Samples per second.

    Attributes
    ----------
    last : float or None
        Time of the newest row; None before the first.
    """

    def __init__(self, sfreq: float) -> None:
        self.last: float | None = None
        self._interval = 1.0 / sfreq
        self._kept: deque[tuple[int, Float64]] = deque()

    def missing(self, time: float) -> float:
        """Rows that fit between the newest and a row of this time: about 0 where none is missing."""
        return 0.0 if self.last is None else (time - self.last) / self._interval - 1.0

    def next(self, n: int, now: float) -> Float64:
        """Times of the next rows by the rate: from the newest, or before any so that the last is now."""
        last = now - n * self._interval if self.last is None else self.last
        times: Float64 = last + self._interval * np.arange(1.0, n + 1.0)
        return times

    def give(self, start: int | None, estimate: Float64) -> Float64:
        """Times of the rows that come next.

        Parameters
        ----------
        start : int or None
            Index of the first; None for rows that have none.
        estimate : ndarray of float64, shape (n,)
            When they were taken, by what is known now; s.

        Returns
        -------
        times : ndarray of float64, shape (n,)
            Strictly rising, also from what was given before.
        """
        if self.last is None:
            times = estimate
        else:
            n, step = len(estimate), self._interval
            off = (float(estimate[-1]) - self.last) / n - step
            step += min(max(off, -_SLEW * step), _SLEW * step)
            times = self.last + step * np.arange(1.0, n + 1.0)
        self.last = float(times[-1])
        if start is not None:
            self._kept.append((start, times))
            while self._kept[0][1][-1] < self.last - _KEPT:
                self._kept.popleft()
        return times

    def jump(self, time: float) -> None:
        """Let the next row have this time, unless that would be before the newest."""
        if self.last is not None:
            self.last = max(self.last, time - self._interval)

    def at(self, index: int, *, ended: bool = False) -> float | None:
        """The time sample `index` was given, exactly; None before it has one.

        By the rate for a sample that has none because it is missing, older than what is kept, or after the
        last when all have `ended`.
        """
        for place, (start, times) in enumerate(reversed(self._kept)):
            if start <= index:
                beyond = index - start - len(times) + 1
                if beyond <= 0:
                    return float(times[index - start])
                return float(times[-1] + beyond * self._interval) if place or ended else None
        if not self._kept:
            return None
        start, times = self._kept[0]
        return float(times[0] - (start - index) * self._interval)

    def forget(self) -> None:
        """Count anew; times go on."""
        self._kept.clear()
