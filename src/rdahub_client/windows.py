"""Samples around markers, and markers of one's own: what `window`, `windows` and `insert_marker` do.

Rule: as in `verbs`, generators that yield what they need. A window is told once it is complete, or once it
can never be; none is dropped. Both are known from journal and holdings, so nothing is polled for.
Not here: sockets, clocks, tokens (`reader`), what is held (`holdings`).
"""

from __future__ import annotations

import math
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import Final, TypeAlias, cast

import numpy as np

from rdahub_client.errors import (
    AuthError,
    BadRange,
    HubLost,
    NotYetAvailable,
    Overwritten,
    RequestRefused,
    SegmentChanged,
    StreamTimeout,
)
from rdahub_client.holdings import OVERWRITTEN
from rdahub_client.journal import Journal
from rdahub_client.records import Epoch, Float32, Marker, Segment
from rdahub_client.streams import HUB_RESTART
from rdahub_client.verbs import Ask, Verb, Verbs, refused
from rdahub_client.wire import MarkRequest, Records, Reply

__all__ = ["Pending", "Texts", "Windows", "mark_request"]

_EVER: Final = 2**63
SEGMENT_START: Final = "segment_start"
SEGMENT_END: Final = "segment_end"

Texts: TypeAlias = str | Collection[str] | None
"""One text, or any of several, or all."""


@dataclass(slots=True, eq=False, weakref_slot=True)
class Pending:
    """Markers whose windows are to come, and where in the journal others may follow.

    Attributes
    ----------
    journal : Journal
        Of their instance; the timeline may have another by now.
    place : int
        Where in it the next record to look at is.
    since : int
        Markers before this sample are not wanted.
    waiting : list
        Heap of (index, place or number, marker).
    """

    journal: Journal
    place: int
    since: int
    tmin: float
    tmax: float
    types: frozenset[str] | None
    descriptions: frozenset[str] | None
    waiting: list[tuple[int, int, Marker]] = field(default_factory=list)

    def wants(self, marker: Marker) -> bool:
        """Whether a marker is one of those asked for."""
        return (
            marker.index >= self.since
            and (self.types is None or marker.type in self.types)
            and (self.descriptions is None or marker.description in self.descriptions)
        )


class Windows:
    """The verbs around markers, over the other verbs."""

    def __init__(self, verbs: Verbs) -> None:
        self._verbs = verbs

    # --- windows ---------------------------------------------------------------------------------------

    def window(
        self, marker: Marker, tmin: float, tmax: float, deadline: float | None
    ) -> Verb[Float32 | None]:
        """The samples around a marker as soon as they are complete; None as for `wait`."""
        if not isinstance(marker, Marker):
            raise TypeError(f"window wants a Marker, as `markers` gives them, not {marker!r}")
        pending = self._pending(tmin, tmax, types=frozenset())  # no other marker
        if self._verbs.known_instance != pending.journal.instance:  # the marker's
            return None
        heappush(pending.waiting, (marker.index, 0, marker))
        try:
            return (yield from self._next(pending, deadline, copy=False)).samples
        except StreamTimeout:
            return None

    def open(self, start: str | int, tmin: float, tmax: float, types: Texts, descriptions: Texts) -> Pending:
        """Windows of the markers from `start` on, by what is known now."""
        pending = self._pending(tmin, tmax, _texts(types), _texts(descriptions))
        timeline = self._verbs.timeline
        match start:
            case "live":
                begin = timeline.next_index
            case "oldest":
                begin = pending.since = timeline.first_available
            case int() if start >= 0:
                begin = pending.since = start
            case _:
                raise BadRange(f"windows start 'live', 'oldest' or at an index from 0 on, not at {start!r}")
        known = enumerate(timeline.journal.markers(begin, _EVER), -_EVER)  # before all that come later
        pending.waiting += [(each.index, number, each) for number, each in known if pending.wants(each)]
        heapify(pending.waiting)
        return pending

    def _pending(
        self,
        tmin: float,
        tmax: float,
        types: frozenset[str] | None = None,
        descriptions: frozenset[str] | None = None,
    ) -> Pending:
        if not (math.isfinite(tmin) and math.isfinite(tmax) and tmin < tmax):
            raise BadRange(f"a window begins before it ends: tmin < tmax, in seconds, not {tmin!r}, {tmax!r}")
        journal = self._verbs.timeline.journal
        pending = Pending(journal, journal.stop, -_EVER, tmin, tmax, types, descriptions)
        self._verbs.timeline.cursors.add(pending)
        return pending

    def next_epoch(self, pending: Pending, deadline: float | None) -> Verb[Epoch]:
        """The next window that is complete or can never be; StreamTimeout at the deadline."""
        return self._next(pending, deadline, copy=True)

    def _next(self, pending: Pending, deadline: float | None, *, copy: bool) -> Verb[Epoch]:
        verbs = self._verbs
        while True:
            try:
                yield from verbs.settle(deadline)
                epoch = yield from self._ready(pending, deadline, copy)
                if epoch is not None:
                    return epoch
                if not (yield from verbs.listen(deadline)):
                    break
            except HubLost:  # it may come back
                if not (yield from verbs.pause(deadline)):
                    break
        raise StreamTimeout("no window complete in time", next_index=verbs.timeline.next_index)

    def _ready(self, pending: Pending, deadline: float | None, copy: bool) -> Verb[Epoch | None]:
        """The window of the first marker, if there is one whose window is decided."""
        self._collect(pending)
        while (successor := pending.journal.successor) is not None:
            if pending.waiting:
                marker = heappop(pending.waiting)[2]
                return Epoch(marker, None, marker.index, marker.index, None, (), HUB_RESTART)
            pending.journal, pending.place, pending.since = successor, successor.first, -_EVER
            self._verbs.know(self._verbs.timeline.instance)
            self._collect(pending)
        if not pending.waiting:
            return None
        marker = pending.waiting[0][2]
        epoch = yield from self._decide(marker, pending, deadline, copy)
        if epoch is not None and pending.waiting and pending.waiting[0][2] is marker:
            heappop(pending.waiting)
        return epoch

    @staticmethod
    def _collect(pending: Pending) -> None:
        """Take up the markers that have become known, also of an instance that is gone by now."""
        journal = pending.journal
        for place, marker in journal.markers_from(pending.place):
            if pending.wants(marker):
                heappush(pending.waiting, (marker.index, place, marker))
        pending.place = journal.stop

    def _decide(
        self, marker: Marker, pending: Pending, deadline: float | None, copy: bool
    ) -> Verb[Epoch | None]:
        """A marker's window, or why there is none; None while neither is known."""
        timeline = self._verbs.timeline
        segment = timeline.journal.segment_at(marker.index)
        if segment is None:
            if marker.index >= timeline.next_index:
                return None  # its sample may come yet, in the next segment
            reason = OVERWRITTEN if marker.index >= 0 else SEGMENT_START
            return Epoch(marker, None, marker.index, marker.index, None, (), reason)
        start = marker.index + round(pending.tmin * segment.sfreq)
        stop = marker.index + round(pending.tmax * segment.sfreq)
        try:
            samples = yield from self._find(segment, start, stop, deadline, copy)
        except NotYetAvailable:
            return None
        except BadRange:
            reason = SEGMENT_START
        except SegmentChanged:
            reason = SEGMENT_END
        except Overwritten:
            reason = OVERWRITTEN
        else:
            gaps = tuple(timeline.gaps(start, stop))
            return Epoch(marker, segment, start, stop, samples, gaps, None)
        return Epoch(marker, segment, start, stop, None, tuple(timeline.gaps(start, stop)), reason)

    def _find(
        self, segment: Segment, start: int, stop: int, deadline: float | None, copy: bool
    ) -> Verb[Float32]:
        if start < segment.start:
            raise BadRange("the window begins before its segment")
        if segment.stop is not None and stop > segment.stop:
            raise SegmentChanged("the segment ended within the window")
        samples = yield from self._verbs.find(start, stop, deadline)
        if start == stop:
            return np.empty((0, segment.n_channels), np.float32)
        if not copy:
            return samples
        if samples.base is None:  # fetched for this alone
            samples.flags.writeable = True
            return samples
        kept: Float32 = samples.copy()
        window = self._verbs.timeline.window
        if window is None or not window.holds(start, stop):  # the hub wrote on meanwhile, in its own memory
            raise Overwritten("overwritten while it was copied")
        return kept

    # --- markers of one's own ----------------------------------------------------------------------------

    def insert(self, request: MarkRequest, deadline: float | None) -> Verb[Marker]:
        """Put a marker into the recording; this client's own copy has it too when the verb returns."""
        timeline = self._verbs.timeline
        try:
            reply = cast(Reply, (yield Ask(request, deadline)))
        except AuthError:
            raise
        except HubLost as error:
            text = f"{error.message}; whether the marker is in the recording is not known"
            raise type(error)(text, hub=error.hub) from None
        if (refusal := reply.refusal) is not None:
            if refusal.code == "BAD_REQUEST":
                text = f"this hub takes no markers; it is older than this client ({refusal.message})"
                raise RequestRefused(text, code=refusal.code)
            at = timeline.next_index if request.index is None else request.index
            raise refused(refusal, at, at + 1)
        instance, seq, marker = reply.mark()
        if instance == timeline.instance:
            timeline.feed(Records(instance, seq, [marker]))
            with suppress(HubLost):  # what is missing before it is asked for by the next call
                yield from self._verbs.settle(deadline)
        return marker


def mark_request(
    token: str,
    instance: str | None,
    index: int | None,
    kind: str,
    description: str,
    points: int,
    channel: int,
) -> MarkRequest:
    """The request to insert a marker.

    Raises
    ------
    ValueError
        It cannot be a marker.
    """
    if index is not None and not 0 <= index < _EVER:
        raise BadRange(f"samples count from 0; {index} is none")
    texts: list[tuple[str, object, int, int]] = [
        ("type", kind, 1, 50),
        ("description", description, 0, 200),
    ]
    for name, text, low, high in texts:
        if not isinstance(text, str) or not low <= len(text) <= high or not text.isprintable():
            raise ValueError(
                f"a marker's {name} is a line of {low} to {high} printable characters, not {text!r}"
            )
    if not 0 <= points < 2**31 or not -1 <= channel < 2**15:
        raise ValueError(
            f"a marker has 0 or more points, not {points}, and a 0-based channel or -1, not {channel}"
        )
    return MarkRequest(
        token=token, instance=instance, index=index, points=points, channel=channel, type=kind,
        description=description,
    )  # fmt: skip


def _texts(wanted: Texts) -> frozenset[str] | None:
    return None if wanted is None else frozenset([wanted] if isinstance(wanted, str) else wanted)
