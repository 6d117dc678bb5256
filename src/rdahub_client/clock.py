"""Clocks, estimated: when each sample was taken, and how far the hub's clock is from this program's.

Rule: a delay is never negative. So what came soonest knows best: of pings the one with the shortest round
trip, of blocks those that no line of an even pace passes above. Nothing is averaged, for delays have long
tails; times are arguments.

A sample's time is when it was there at the soonest: the instant of the newest sample of a block that needed
no longer on its way than the quickest ones did. What even these needed is in no stream.
Not here: asking for pings and points (`times`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from rdahub_client.records import Segment

__all__ = ["HubOffset", "Line", "SampleClock", "SegmentClock", "support"]

Float64: TypeAlias = npt.NDArray[np.float64]
Points: TypeAlias = list[tuple[int, int, int]]

DRIFT: Final = 1e-4
"""How far a clock may be off its nominal rate, amplifiers and computers alike; their makers promise half."""
SPAN: Final = 300.0
"""Seconds of points behind one line: long against jitter, short against temperature (1 ppm is 40 µs)."""
STEP: Final = 60.0
"""Seconds between lines."""
UNKNOWN_JITTER: Final = 0.02
"""Seconds a Recorder is taken to be late by while there is too little to tell."""
STALL: Final = 2.0
"""Seconds by which blocks may be held up for some time. Points further off nominal tell of another rate: a
recording replayed at double speed."""
WRONG_RATE: Final = 1e-3
"""How far the true rate may be from the one the Recorder states, which may be rounded."""
MOST_POINTS: Final = 100_000
"""Kept of one segment: a day."""
_PINGS: Final = 32
_FAR: Final = 1e9  # s


@dataclass(frozen=True, slots=True)
class SampleClock:
    """How a segment's samples lie in time, by what is known now.

    Attributes
    ----------
    segment : int
        Its number.
    sfreq : float
        Samples per second of the hub's clock, measured. With little data, the nominal rate.
    drift_ppm : float
        How much faster than nominal that is, in parts per million.
    error : float
        Seconds by which times of new samples may be off, beside the constant delay of amplifier, Recorder and
        network, which nobody can see: by jitter, and by the estimate of the hub's clock.
    offset : float
        The hub's monotonic clock minus this program's, in seconds.
    offset_error : float
        The part of `error` that is of `offset`: half the round trip of the quickest ping.
    seconds : float
        How much of the segment this is learnt from.
    """

    segment: int
    sfreq: float
    drift_ppm: float
    error: float
    offset: float
    offset_error: float
    seconds: float


class HubOffset:
    """The hub's monotonic clock beside this program's, from pings."""

    def __init__(self) -> None:
        self._pings: deque[tuple[int, int, int, int]] = deque(maxlen=_PINGS)

    def __bool__(self) -> bool:
        return bool(self._pings)

    def add(self, sent_ns: int, received_ns: int, hub_ns: int, hub_wall_ns: int) -> None:
        """Take a ping that went at `sent_ns` and was back at `received_ns` of this program's clock.

        Older ones that it contradicts are of a time before one of the two clocks stood still, as monotonic
        clocks do while their machine is suspended.
        """
        half = (received_ns - sent_ns) // 2
        offset = hub_ns - sent_ns - half
        agreeing = [
            ping for ping in self._pings
            if abs(ping[2] - offset) <= ping[1] + half + 1 + DRIFT * (received_ns - ping[0])
        ]  # fmt: skip
        self._pings = deque([*agreeing, (received_ns, half, offset, hub_wall_ns - hub_ns)], _PINGS)

    def estimate(self, now_ns: int) -> tuple[float, float]:
        """The offset and its bound, in seconds.

        An old ping's bound widens, for the two clocks drift apart. Where 0 is within the bound it is 0: then
        hub and program share one clock, as on one machine.
        """
        bound, offset = min((half + DRIFT * (now_ns - at), offset) for at, half, offset, _ in self._pings)
        return (0.0 if abs(offset) <= bound else offset * 1e-9), bound * 1e-9

    @property
    def hub_wall(self) -> float:
        """The hub's wall clock minus its monotonic one, in seconds, as set now."""
        return self._pings[-1][3] * 1e-9


@dataclass(frozen=True, slots=True)
class Line:
    """``time = origin + slope * sample``, and by how much it may be off at either end of its points."""

    origin: float
    slope: float
    error: float

    def at(self, x: float) -> float:
        """Time of a sample."""
        return self.origin + self.slope * x


def support(x: Float64, y: Float64, nominal: float) -> Line:
    """The line below all points that lies closest to them (Moon, Skelly and Towsley, INFOCOM 1999).

    Parameters
    ----------
    x, y : ndarray of float, shape (n,)
        Samples, rising, and when they were here.
    nominal : float
        The slope to expect. It counts the less, the more the points tell.
    """
    n = len(x)
    seconds = float(x[-1] - x[0]) * nominal
    slope, doubt = nominal, DRIFT
    if seconds > 0:
        free = _slope(x, y)
        excess = free / nominal - 1
        if abs(excess) * seconds > STALL and abs(excess) > WRONG_RATE:
            slope, doubt = free, 0.0
        else:
            doubt = 4 * _spread(y - free * x) / (n * seconds)
            trust = DRIFT**2 / (DRIFT**2 + doubt**2)
            slope = nominal * (1 + trust * min(max(excess, -WRONG_RATE), WRONG_RATE))
    late = y - slope * x
    # By trial, with jitter of many shapes: nearly all errors are smaller (tests/rdahub_client/test_clock.py).
    error = 12 * _spread(late) / (n + 5) + min(DRIFT, doubt) * seconds
    return Line(float(np.min(late)), slope, error)


def _spread(late: Float64) -> float:
    """How late points usually are beside the soonest, as if one more had the jitter of a usual Recorder."""
    usual = float(np.median(late - np.min(late))) * 1.44  # the mean, if a third of them were not stalled
    return (usual * len(late) + UNKNOWN_JITTER) / (len(late) + 1)


def _slope(x: Float64, y: Float64) -> float:
    """Slope of the lower hull's edge below the points' middle."""
    hull: list[tuple[float, float]] = []
    for point in zip(x.tolist(), y.tolist(), strict=True):
        while len(hull) > 1 and _is_above(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    middle = float(np.mean(x))
    right = next(i for i, (at, _) in enumerate(hull) if at >= middle)
    (x0, y0), (x1, y1) = hull[right - 1 : right + 1]
    return (y1 - y0) / (x1 - x0)


def _is_above(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """Whether `b`, between the two others, lies on or above the line through them."""
    return (b[1] - a[1]) * (c[0] - b[0]) >= (c[1] - b[1]) * (b[0] - a[0])


class SegmentClock:
    """When the samples of one segment were taken, on the hub's monotonic clock.

    The time runs evenly from line to line, each through the points around it, so it follows the amplifier's
    clock through the warm-up of a day, and a stretch of the past keeps its times when newer points come.

    Parameters
    ----------
    segment : Segment
    """

    def __init__(self, segment: Segment) -> None:
        self._start = segment.start
        self._nominal = segment.sampling_interval_us * 1e-6
        self._window = SPAN / self._nominal
        self._base_ns = 0
        self._x = np.empty(0)
        self._y = np.empty(0)
        self._settled: list[tuple[float, float]] = []
        self._next = 0.0
        self._knots: tuple[Float64, Float64] = self._x, self._y
        self.line = Line(0.0, self._nominal, np.inf)
        """The newest."""

    def __len__(self) -> int:
        return len(self._x)

    @property
    def next_wanted(self) -> int:
        """Ask for points from this sample on; the newest had may be replaced."""
        return self._start + int(self._x[-1]) if len(self._x) else self._start

    @property
    def seconds(self) -> float:
        """Between the first and the last point known."""
        return float(self._y[-1] - self._y[0]) if len(self._x) else 0.0

    @property
    def drift(self) -> float:
        """How much longer than nominal a sample lasts, relative."""
        return self.line.slope / self._nominal - 1

    def add(self, points: Points) -> None:
        """Take the points from `next_wanted` on."""
        if not points:
            return
        if not len(self._x):
            self._base_ns = points[0][1]
        x = np.array([index - self._start for index, _, _ in points], np.float64)
        y = np.array([received_ns - self._base_ns for _, received_ns, _ in points], np.float64) * 1e-9
        old = slice(max(0, len(self._x) - MOST_POINTS), max(0, len(self._x) - 1))
        self._x, self._y = np.concatenate((self._x[old], x)), np.concatenate((self._y[old], y))
        self._fit()

    def _fit(self) -> None:
        first, last, window = self._x[0], self._x[-1], self._window
        self.line = self._line(last - window) or self.line
        if not self._settled and last - first >= window:
            self._settle(first, first)
            self._next = first + window / 2
        while self._settled and self._next + window / 2 <= last:
            self._settle(self._next, self._next - window / 2)
            self._next += STEP / self._nominal
        knots = [*(self._settled or [(first, self.line.at(first))]), (last, self.line.at(last))]
        if knots[-1][0] <= knots[-2][0]:
            del knots[-1]
        x, y = np.array(knots).T
        y = np.maximum.accumulate(y)  # whatever came, time does not run backwards
        # The ends go on as straight as the lines there.
        begin = self.line.slope if len(knots) < 2 else (y[1] - y[0]) / (x[1] - x[0])
        far = _FAR / self._nominal
        self._knots = (
            np.concatenate(([x[0] - far], x, [x[-1] + far])),
            np.concatenate(([y[0] - far * begin], y, [y[-1] + far * self.line.slope])),
        )

    def _settle(self, at: float, begin: float) -> None:
        """Have a line through a window of points, unless all of them are missing."""
        if (line := self._line(begin, begin + self._window)) is not None:
            self._settled.append((at, line.at(at)))

    def _line(self, begin: float, end: float = np.inf) -> Line | None:
        here = slice(*np.searchsorted(self._x, (begin, end)))
        return support(self._x[here], self._y[here], self._nominal) if len(self._x[here]) else None

    def time_of(self, index: npt.NDArray[np.int64]) -> Float64:
        """When samples were taken or will be, in seconds."""
        times: Float64 = np.interp((index - self._start).astype(np.float64), *self._knots)
        return times + self._base_ns * 1e-9

    def index_at(self, time: Float64) -> npt.NDArray[np.int64]:
        """The samples nearest to these times."""
        x, y = self._knots
        nearest = np.rint(np.interp(time - self._base_ns * 1e-9, y, x))
        return nearest.astype(np.int64) + self._start
