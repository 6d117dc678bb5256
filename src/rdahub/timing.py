"""What times of arrival tell: a steady beat and who was late, another machine's clock, each block's delay.

Rule: numbers in, numbers out. Times are ns of a monotonic clock; whose is said by the name.
Not here: where the times come from (`measuring`), how they are shown (`commands.bench`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from rdahub_client import Block, Event, Gap, SegmentEnd, SegmentStart
from rdahub_client.wire import BlockMessage

__all__ = ["Arrival", "Beat", "Clock", "Ping", "Tally", "fit_beat", "lateness", "match_delays", "spread"]

Nanoseconds = npt.NDArray[np.int64]

FEWEST: Final = 3
"""Blocks of a segment that make a beat: through two any line goes."""


def spread(times_ns: Sequence[int] | npt.NDArray[Any]) -> dict[str, float] | None:
    """Median, 99th percentile and greatest of some times, in ms; None if there are none."""
    if not len(times_ns):
        return None
    times = np.asarray(times_ns, np.float64) / 1e6
    middle, most = np.percentile(times, (50, 99))
    return {"p50_ms": float(middle), "p99_ms": float(most), "worst_ms": float(times.max())}


# --- the Recorder's beat ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Arrival:
    """One block as the hub had it: samples ``[start, stop)`` of a segment, and when."""

    instance: str
    segment: int
    start: int
    stop: int
    received_ns: int


@dataclass(frozen=True, slots=True)
class Beat:
    """A steady rate, and how much later than it each block came."""

    rate: float
    late_ns: npt.NDArray[np.float64]


def fit_beat(stops: Sequence[int], received_ns: Sequence[int]) -> Beat | None:
    """The steady beat that no block is ahead of and that all together are least behind.

    A block can be late but not early: its last sample must have been taken. So the beat is a line under all
    points, and the one with the least sum of distances is the edge of their lower hull that the mean of
    `stops` lies under. A mean line would follow the late ones, and tell half of them to be early.

    Parameters
    ----------
    stops : sequence of int
        Index after the last sample of each block, rising.
    received_ns : sequence of int

    Returns
    -------
    beat : Beat or None
        None if there are too few blocks.
    """
    if len(stops) < FEWEST:
        return None
    hull: list[tuple[int, int]] = []
    for x, y in zip(stops, received_ns, strict=True):
        while len(hull) > 1 and _is_above(hull[-1], hull[-2], (x, y)):
            hull.pop()
        hull.append((x, y))
    middle = sum(stops) / len(stops)
    right = next(i for i in range(1, len(hull)) if hull[i][0] >= middle)
    (x0, y0), (x1, y1) = hull[right - 1], hull[right]
    if y1 <= y0:  # all at once: data in a bunch have no rate
        return None
    per_sample = (y1 - y0) / (x1 - x0)
    # Differences first, as integers: a clock's ns have more digits than a float64.
    behind = np.array(received_ns, np.int64) - y0
    return Beat(1e9 / per_sample, behind - (np.array(stops, np.int64) - x0) * per_sample)


def _is_above(middle: tuple[int, int], left: tuple[int, int], right: tuple[int, int]) -> bool:
    """Whether a point lies on or above the line between two others."""
    return (middle[1] - left[1]) * (right[0] - left[0]) >= (right[1] - left[1]) * (middle[0] - left[0])


def lateness(arrivals: Sequence[Arrival]) -> Beat | None:
    """Beat of all blocks: each segment has its own; the rate is that of the one with most blocks."""
    segments: dict[tuple[str, int], list[Arrival]] = {}
    for arrival in arrivals:
        segments.setdefault((arrival.instance, arrival.segment), []).append(arrival)
    beats = [
        beat
        for each in segments.values()
        if (beat := fit_beat([a.stop for a in each], [a.received_ns for a in each])) is not None
    ]
    if not beats:
        return None
    return Beat(
        max(beats, key=lambda beat: len(beat.late_ns)).rate, np.concatenate([beat.late_ns for beat in beats])
    )


# --- another machine's clock -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ping:
    """A question, the hub's clock in the answer, and the answer's arrival."""

    sent_ns: int
    hub_ns: int
    back_ns: int

    @property
    def round_trip_ns(self) -> int:
        """From asking to having the answer."""
        return self.back_ns - self.sent_ns

    @property
    def ahead_ns(self) -> int:
        """How far the hub's clock is ahead of ours, give or take half a round trip."""
        return self.hub_ns - (self.sent_ns + self.back_ns) // 2


class Clock:
    """The hub's monotonic clock as read on ours.

    On one machine it is the same clock. That is concluded if the shortest round trips allow it, for clocks of
    two machines count from when each was started. Else the offset is known to half the shortest round
    trip; with pings before and after, the drift of the two clocks against each other is taken out.

    Parameters
    ----------
    groups : sequence of Ping
        One or two groups, before and after what is timed.
    """

    def __init__(self, *groups: Sequence[Ping]) -> None:
        best = [min(group, key=lambda ping: ping.round_trip_ns) for group in groups if group]
        if not best:
            raise ValueError("no pings")
        self.is_shared = all(2 * abs(ping.ahead_ns) <= ping.round_trip_ns for ping in best)
        self.uncertainty_ns = 0.0 if self.is_shared else max(ping.round_trip_ns for ping in best) / 2
        self._first, self._last = best[0], best[-1]

    def here(self, hub_ns: Nanoseconds) -> Nanoseconds:
        """Times on the hub's clock as times on ours."""
        if self.is_shared:
            return hub_ns
        first, last = self._first, self._last
        drift = 0.0
        if last.hub_ns > first.hub_ns:
            drift = (last.ahead_ns - first.ahead_ns) / (last.hub_ns - first.hub_ns)
        drifted: Nanoseconds = np.rint((hub_ns - first.hub_ns) * drift).astype(np.int64)
        return hub_ns - first.ahead_ns - drifted


# --- each block's delay ----------------------------------------------------------------------------------


def match_delays(
    arrivals: Sequence[Arrival], start: int, stops: Sequence[int], returned_ns: Sequence[int]
) -> list[int]:
    """Delays of the blocks that another reader of the same hub had, from what it noted of its calls.

    Parameters
    ----------
    arrivals : sequence of Arrival
        Blocks, as heard from the hub.
    start : int
        First sample of its first call.
    stops, returned_ns : sequence of int
        Index after the last sample of each call, rising; and when it returned.
    """
    delays = []
    for arrival in arrivals:
        call = bisect_left(stops, arrival.stop)  # the first that returned the block's last sample
        if call < len(stops) and start < arrival.stop:
            delays.append(returned_ns[call] - arrival.received_ns)
    return delays


class Tally:
    """Blocks heard from the hub, and what the client's calls made of them.

    Samples that a call returns without any block heard for them were lost on the way and fetched from
    history; a client that just joined fetches too, which is no loss, so counting begins with the first block.
    """

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []
        self.received_ns: list[int] = []
        self.returned_ns: list[int] = []
        self.samples = self.repaired = self.lost = self.missing = 0
        self.restarts = 0
        self._pending: deque[Arrival] = deque()
        self._began = False
        self._segment = -1
        self._instance = ""
        """Of the newest block that was told."""

    def __len__(self) -> int:
        return len(self.received_ns)

    def hear(self, block: BlockMessage) -> None:
        """A block came from the hub."""
        data = block.data
        # Not `block.stop`: it makes an array of the bytes, and the client's short way wants bytes.
        rows = len(data) // (4 * block.n_channels) if isinstance(data, memoryview) else len(data)
        arrival = Arrival(block.instance, block.segment, block.start, block.start + rows, block.received_ns)
        last = self.arrivals[-1] if self.arrivals else None
        if last and last.instance != arrival.instance:
            self._forget(last.instance)
            last = None
        if not rows or (last and arrival.stop <= last.stop):
            return  # markers only, or the same again
        self.arrivals.append(arrival)
        self._pending.append(arrival)

    def begin(self) -> None:
        """Forget blocks that came before there was a call to return them."""
        self.arrivals.clear()
        self._pending.clear()

    def take(self, event: Event, now_ns: int) -> None:
        """A call returned an event."""
        match event:
            case Block(start, stop):
                self._take_block(start, stop, now_ns)
            case Gap(start, stop, "counter"):
                self.missing += stop - start
            case Gap(start, stop):
                self.lost += stop - start
            case SegmentStart(segment):
                if segment.number <= self._segment:  # within a hub the numbers rise
                    self.restarts += 1
                    self._began = False
                    self._forget(self._instance)
                self._segment = segment.number
            case SegmentEnd():
                pass

    def _take_block(self, start: int, stop: int, now_ns: int) -> None:
        heard = 0
        pending = self._pending
        while pending and pending[0].start < stop:
            block = pending[0]
            if block.stop > start:
                if not self._began:
                    self._began = True
                    start = max(start, block.start)
                heard += min(stop, block.stop) - max(start, block.start)
            if block.stop > stop:  # the rest of a large block comes with the next call
                break
            pending.popleft()
            self._instance = block.instance
            if block.stop > start:
                self.received_ns.append(block.received_ns)
                self.returned_ns.append(now_ns)
        if self._began:
            self.samples += stop - start
            self.repaired += stop - start - heard

    def _forget(self, instance: str) -> None:
        """A hub is gone: what its blocks brought was told by now, or is told to be lost."""
        self._pending = deque(block for block in self._pending if block.instance != instance)
