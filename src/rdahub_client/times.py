"""What `time_of`, `index_at` and `at` do, without doing any of it to a socket.

Rule: as in `verbs`: a generator asks the hub for what is too old, and answers from the clocks it keeps. It
asks seldom, so a call costs no round trip but now and then. A lost hub leaves the clocks as they were.
Not here: estimating (`clock`), sockets, this program's clocks (handed in).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Final, Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from rdahub_client.clock import Float64, HubOffset, SampleClock, SegmentClock
from rdahub_client.errors import (
    BadRange,
    HubLost,
    HubRestarted,
    NoSegment,
    NotYetAvailable,
    Overwritten,
    RdaHubError,
    RequestRefused,
)
from rdahub_client.records import Segment
from rdahub_client.verbs import Ask, Verb, Verbs
from rdahub_client.wire import InfoRequest, PingRequest, Reply, Request, TimesRequest

__all__ = ["Clock", "Indices", "Seconds", "Times"]

Clock: TypeAlias = Literal["monotonic", "wall", "hub"]
Indices: TypeAlias = int | npt.NDArray[np.int64]
Seconds: TypeAlias = float | Float64

_FIRST_PINGS: Final = 8
_PINGS: Final = 3
_PING_AGAIN: Final = 5_000_000_000  # ns
_LEARN_AGAIN: Final = 5_000_000_000  # ns
_LEARN_SOON: Final = 1_000_000_000  # ns, while every second tells much
_FEW: Final = 30  # points
_PATIENCE: Final = 0.5  # s for an answer that only makes better what is known
_END: Final = 2**63 - 1


class Times:
    """The verbs about time over the other verbs.

    Parameters
    ----------
    verbs : Verbs
    now : callable
        This program's monotonic and wall clock, ns.
    """

    def __init__(self, verbs: Verbs, now: Callable[[], tuple[int, int]]) -> None:
        self._verbs = verbs
        self._now = now
        self._instance = ""
        self._offset = HubOffset()
        self._pinged = self._pings = 0
        self._clocks: dict[int, tuple[SegmentClock, int]] = {}

    # --- verbs ---------------------------------------------------------------------------------------

    def time_of(self, index: Indices, clock: Clock, deadline: float | None) -> Verb[Seconds]:
        """When samples were taken."""
        indices = as_indices(index)
        yield from self._keep_up(int(indices.max(initial=0)), deadline)
        shift = yield from self._shift(clock, deadline)
        times = np.full(indices.shape, np.nan)
        for segment in reversed(self._verbs.timeline.journal.segments):
            here = indices >= segment.start
            if segment.stop is not None:
                here &= indices < segment.stop
            if here.any():
                line = yield from self._clock_of(segment, deadline)
                times[here] = line.time_of(indices[here]) + shift
        if np.isnan(times).any():
            raise self._no_segment_of(int(indices[np.isnan(times)][0]))
        return times if isinstance(index, np.ndarray) else float(times)

    def index_at(self, time: Seconds, clock: Clock, deadline: float | None) -> Verb[Indices]:
        """The samples nearest to these times."""
        if not np.isfinite(time).all():
            raise BadRange("a time is a number of seconds, neither NaN nor infinite")
        yield from self._keep_up(None, deadline)
        shift = yield from self._shift(clock, deadline)
        times = np.asarray(time, np.float64) - shift
        indices = np.full(times.shape, -1, np.int64)
        unknown: RdaHubError | None = None
        for segment in reversed(self._verbs.timeline.journal.segments):
            if (indices >= 0).all() or segment.start == segment.stop:
                continue
            try:
                line = yield from self._clock_of(segment, deadline)
            except (NotYetAvailable, Overwritten) as error:
                unknown = unknown or error
                continue
            nearest = line.index_at(times)
            here = (indices < 0) & (nearest >= segment.start)
            if segment.stop is not None:
                here &= nearest < segment.stop
            indices[here] = nearest[here]
        if (indices < 0).any():
            if unknown is not None:
                raise unknown
            missed = float((times + shift)[indices < 0].flat[0])
            raise NoSegment(f"no samples were taken at {missed:.6f} s of the {clock} clock")
        return indices if isinstance(time, np.ndarray) else int(indices)

    def span(self, start: float, stop: float, clock: Clock, deadline: float | None) -> Verb[tuple[int, int]]:
        """The range of samples taken in a span of time, which begins in a segment."""
        if not np.isfinite(stop):
            raise BadRange("a time is a number of seconds, neither NaN nor infinite")
        first = cast(int, (yield from self.index_at(float(start), clock, deadline)))
        segment = self._verbs.timeline.journal.segment_at(first)
        assert segment is not None  # noqa: S101 - it was found there
        line = yield from self._clock_of(segment, deadline)
        shift = yield from self._shift(clock, deadline)
        return first, int(line.index_at(np.array(float(stop) - shift)))

    def sample_clock(self, index: int | None, deadline: float | None) -> Verb[SampleClock]:
        """What is known of the clock of a segment."""
        yield from self._keep_up(index, deadline)
        journal = self._verbs.timeline.journal
        segment = journal.segment if index is None else journal.segment_at(index)
        if segment is None:
            raise self._no_segment_of(0 if index is None else index)
        line = yield from self._clock_of(segment, deadline)
        yield from self._shift("monotonic", deadline)
        offset, bound = self._offset.estimate(self._now()[0])
        return SampleClock(
            segment=segment.number,
            sfreq=segment.sfreq / (1 + line.drift),
            drift_ppm=(1 / (1 + line.drift) - 1) * 1e6,
            error=line.line.error + bound,
            offset=offset,
            offset_error=bound,
            seconds=line.seconds,
        )

    # --- knowing enough --------------------------------------------------------------------------------

    def _keep_up(self, index: int | None, deadline: float | None) -> Verb[None]:
        """Hear what there is to hear, unless a sample is asked for that is known already."""
        verbs = self._verbs
        if index is None or index >= verbs.timeline.next_index:
            try:
                yield from verbs.catch_up(deadline)
            except HubRestarted:
                raise
            except HubLost:
                if not self._offset:
                    raise
        try:
            verbs.recognise()
        except HubRestarted:
            verbs.know(verbs.timeline.instance)  # said once
            raise
        if verbs.timeline.instance != self._instance:
            self._instance = verbs.timeline.instance
            self._clocks.clear()
            self._offset = HubOffset()

    def _shift(self, clock: Clock, deadline: float | None) -> Verb[float]:
        """What to add to a time on the hub's monotonic clock, in seconds."""
        if clock not in {"monotonic", "wall", "hub"}:
            raise ValueError(f"clock is 'monotonic', 'wall' or 'hub', not {clock!r}")
        known = bool(self._offset)
        if self._asks(known, self._pinged, _PING_AGAIN):
            until = self._until(known, deadline)
            try:
                for _ in range(_PINGS if known else _FIRST_PINGS):
                    yield from self._ping(until)
            except HubLost:
                if not self._offset:
                    raise
            self._pinged = self._now()[0]
        if clock == "hub":
            return self._offset.hub_wall
        monotonic, wall = self._now()
        offset, _ = self._offset.estimate(monotonic)
        return -offset if clock == "monotonic" else (wall - monotonic) * 1e-9 - offset

    def _ping(self, deadline: float | None) -> Verb[None]:
        self._pings += 1
        # Another id each time: the answer to a ping that was given up would be no measure of this one.
        request = PingRequest(id=self._pings)
        sent = self._now()[0]
        reply = cast(Reply, (yield Ask(request, deadline)))
        received = self._now()[0]
        if reply.header.get("instance") != self._instance:  # its machine may have started anew meanwhile
            raise HubRestarted("another instance answers")
        self._offset.add(sent, received, *reply.clocks())

    def _clock_of(self, segment: Segment, deadline: float | None) -> Verb[SegmentClock]:
        clock, learnt = self._clocks.get(segment.number, (SegmentClock(segment), -_END))
        known = len(clock) > 0
        if learnt < _END and self._asks(known, learnt, _LEARN_SOON if len(clock) < _FEW else _LEARN_AGAIN):
            over = False
            try:
                yield from self._learn(clock, segment, self._until(known, deadline))
                over = segment.stop is not None  # nothing more will come
            except HubLost:
                if not known:
                    raise
            self._clocks[segment.number] = clock, _END if over else self._now()[0]
        if not len(clock):
            kind = NotYetAvailable if segment.stop is None else Overwritten
            raise kind(f"nothing is known of when samples of segment {segment.number} arrived")
        return clock

    def _learn(self, clock: SegmentClock, segment: Segment, deadline: float | None) -> Verb[None]:
        stop = _END if segment.stop is None else segment.stop
        more = True
        while more:
            request = TimesRequest(instance=self._instance, start=clock.next_wanted, stop=stop)
            points, more = _points(cast(Reply, (yield Ask(request, deadline))), request)
            known = self._verbs.timeline.next_index
            if segment.stop is None and points and points[-1][0] >= known:
                # More than was heard of: if the segment has ended meanwhile, they are also of the next.
                info = cast(Reply, (yield Ask(InfoRequest(), deadline))).info()
                if info.segment is None or (info.instance, info.segment.number) != (
                    self._instance,
                    segment.number,
                ):
                    points, more = [point for point in points if point[0] < known], False
            clock.add(points)

    def _asks(self, known: bool, asked: int, again: int) -> bool:
        """Whether to ask for something: if it is not known, and now and then while the hub is there."""
        timeline = self._verbs.timeline
        there = timeline.lost is None and not timeline.ended
        return not known or (there and self._now()[0] - asked > again)

    def _until(self, known: bool, deadline: float | None) -> float | None:
        """A caller who can be answered does not wait for a hub that may be gone."""
        return self._now()[0] * 1e-9 + _PATIENCE if known else deadline

    def _no_segment_of(self, index: int) -> Exception:
        timeline = self._verbs.timeline
        if index < 0:
            return BadRange(f"samples count from 0; {index} is none")
        if timeline.segment is None:
            return NoSegment("the Recorder has not started yet")
        kind: type[RdaHubError]
        kind, why = Overwritten, "is forgotten"
        if index >= timeline.next_index:
            kind, why = NotYetAvailable, "has not begun"
        return kind(
            f"the segment of sample {index} {why}",
            first_available=timeline.first_available,
            next_index=timeline.next_index,
        )


def _points(reply: Reply, request: Request) -> tuple[list[tuple[int, int, int]], bool]:
    refusal = reply.refusal
    if refusal is None:
        return reply.times()
    if refusal.code == "WRONG_INSTANCE":
        raise HubRestarted(refusal.message)
    if refusal.code == "BAD_REQUEST":
        text = f"the hub does not know {request.op!r}: it is older than this client, update it"
        raise RequestRefused(text, code=refusal.code)
    raise RequestRefused(refusal.message, code=refusal.code)


def as_indices(index: Indices) -> npt.NDArray[np.int64]:
    """Integers of any kind as indices, one or many."""
    if isinstance(index, np.ndarray):
        if index.dtype.kind not in "iu":
            raise TypeError(f"indices are integers, not {index.dtype}")
        return index.astype(np.int64, copy=False)
    try:
        return np.asarray(operator.index(index), np.int64)
    except TypeError:
        raise TypeError(f"an index is an integer, or an array of them, not {index!r}") from None
