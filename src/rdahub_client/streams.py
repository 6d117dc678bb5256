"""What `stream` does: history, then live, as events in index order, without a hole that is not named.

Rule: a cursor walks journal and samples side by side; a record is told when all samples before it are.
Nothing here depends on how the samples came; `verbs` finds them in the window or in the hub's history.
Not here: sockets, clocks; waiting and asking (`verbs`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, cast

import numpy as np

from rdahub_client.errors import BadRange, HubLost, Overwritten, StreamTimeout
from rdahub_client.holdings import OVERWRITTEN
from rdahub_client.journal import MARKER_REACH, Journal
from rdahub_client.records import Block, Event, Gap, Marker, Segment, SegmentEnd, SegmentStart
from rdahub_client.verbs import Heard, Silence, Verb, Verbs
from rdahub_client.wire import PAGE_BYTES, Message

__all__ = ["Cursor", "Streams"]

HUB_RESTART: Final = "hub_restart"


@dataclass(slots=True, eq=False, weakref_slot=True)
class Cursor:
    """Where a stream stands: the next sample and the place of the next journal record to deliver.

    Attributes
    ----------
    journal : Journal
        Of the instance it tells; the timeline may have another by now.
    unannounced : Segment or None
        The segment it began in the middle of, until that is said.
    early : tuple of Marker
        Its markers of blocks before that stand on samples to come, until they are said.
    segment : Segment or None
        The segment announced and not yet ended.
    """

    journal: Journal
    index: int
    place: int
    unannounced: Segment | None
    early: tuple[Marker, ...] = ()
    segment: Segment | None = None
    waiting: Block | None = None
    """Found behind a gap that had to be told first."""

    @property
    def instance(self) -> str:
        """The instance it tells."""
        return self.journal.instance


class Streams:
    """The verb `stream` over the other verbs."""

    def __init__(self, verbs: Verbs) -> None:
        self._verbs = verbs

    def open(self, start: str | int, deadline: float | None) -> Verb[Cursor]:
        """A cursor at the present, at the oldest sample held, or at an index."""
        with suppress(HubLost):  # it begins where this client stands, and goes on when the hub is back
            yield from self._verbs.catch_up(deadline)
        return self.cursor_at(start)

    def cursor_at(self, start: str | int) -> Cursor:
        """As `open`, by what is known."""
        timeline = self._verbs.timeline
        self._verbs.know(timeline.instance)
        match start:
            case "live":
                index = timeline.next_index
            case "oldest":
                index = timeline.first_available
            case int() if start >= 0:
                index = start
            case _:
                raise BadRange(f"a stream starts 'live', 'oldest' or at an index from 0 on, not at {start!r}")
        cursor = Cursor(timeline.journal, index, *_join(timeline.journal, index))
        timeline.cursors.add(cursor)
        return cursor

    def is_live(self, cursor: Cursor) -> bool:
        """Whether all that is known has been told, amid a segment: the next message brings the next event."""
        timeline = self._verbs.timeline
        return (
            cursor.index == timeline.next_index
            and cursor.segment is not None
            and cursor.place == timeline.journal.stop
            and cursor.waiting is None
            and cursor.journal is timeline.journal
            and not timeline.doubted
        )

    def hear(self, cursor: Cursor, message: Heard) -> Block | None:
        """Take what came while the cursor was live. The block that makes, if it is no more than that.

        This is the way of nearly every block, 60 µs shorter than `next_event`, which tells the rest.
        """
        timeline = self._verbs.timeline
        if isinstance(message, Silence):
            timeline.doubt()
        else:
            timeline.feed(cast(Message, message))
        start, stop, journal = cursor.index, timeline.next_index, cursor.journal
        if not start < stop or journal is not timeline.journal or cursor.place != journal.stop:
            return None
        # No record came, so these rows are of one segment; they were the newest when they were taken.
        samples = None if timeline.window is None else timeline.window.view(start, stop)
        if samples is None or samples.nbytes > PAGE_BYTES:
            return None
        cursor.index = stop
        return Block(start, stop, samples, ())

    def next_event(self, cursor: Cursor, deadline: float | None) -> Verb[Event]:
        """The next event in index order, history first; StreamTimeout at the deadline."""
        if cursor.waiting is not None:
            block, cursor.waiting = cursor.waiting, None
            return block
        while True:
            try:
                yield from self._verbs.settle(deadline)
                journal = cursor.journal
                event = yield from self._next(cursor, deadline)
                if event is not None:
                    return event
                if cursor.journal is not journal:  # it has begun with the next instance
                    continue
                if not (yield from self._verbs.listen(deadline)):
                    break
            except HubLost:
                if not (yield from self._verbs.pause(deadline)):
                    break
        raise StreamTimeout("no event in time", next_index=self._verbs.timeline.next_index)

    def _next(self, cursor: Cursor, deadline: float | None) -> Verb[Event | None]:
        journal = cursor.journal
        if journal.successor is not None:
            return self._leave_instance(cursor)
        if cursor.unannounced is not None:
            cursor.segment, cursor.unannounced = cursor.unannounced, None
            if cursor.early:
                cursor.waiting = _without_rows(cursor.index, cursor.segment, cursor.early)
                cursor.early = ()
            return SegmentStart(cursor.segment)
        markers, record = journal.ahead(cursor.place)
        boundary = self._verbs.timeline.next_index if record is None else _position(record)
        if cursor.index < boundary:
            if cursor.segment is None:
                return self._find_segment(cursor, boundary)
            return (yield from self._next_block(cursor, cursor.segment, boundary, markers, deadline))
        if record is None:
            return None
        cursor.place += len(markers)
        if markers and cursor.segment is not None:  # inserted, or of blocks without samples
            return _without_rows(cursor.index, cursor.segment, markers)
        cursor.place += 1
        event = yield from self._pass(cursor, record, deadline)
        if markers and isinstance(event, SegmentStart):  # inserted while nothing was recorded
            cursor.waiting = _without_rows(cursor.index, event.segment, markers)
        return event

    def _pass(
        self, cursor: Cursor, record: SegmentStart | SegmentEnd | Gap, deadline: float | None
    ) -> Verb[Event | None]:
        """Move the cursor over a record that is not a marker."""
        match record:
            case SegmentStart(segment):
                if cursor.segment is None:
                    cursor.index = max(cursor.index, segment.start)
                    cursor.segment = segment
                    return record
            case SegmentEnd(segment):
                if cursor.segment is not None:
                    cursor.segment = None
                    return record
            case Gap(start, stop, reason):
                if stop > cursor.index:
                    start, cursor.index = max(start, cursor.index), stop
                    return Gap(start, stop, reason)
        return (yield from self._next(cursor, deadline))

    def _next_block(
        self, cursor: Cursor, segment: Segment, boundary: int, markers: list[Marker], deadline: float | None
    ) -> Verb[Event]:
        """Rows up to the next record, at most a page, with the markers that came in them."""
        timeline = self._verbs.timeline
        page = max(1, PAGE_BYTES // (4 * segment.n_channels))
        start = cursor.index
        while start < boundary:
            stop = min(boundary, start + page, timeline.intact_until(start))
            try:
                samples = yield from self._verbs.find(start, stop, deadline)
                break
            except Overwritten as error:
                found_at = max(timeline.available_from(start), error.first_available or 0, start + 1)
                start = min(found_at, boundary)
        else:
            return _lose(cursor, boundary, OVERWRITTEN)
        came = [marker for marker in markers if marker.block < stop]
        lost = _lose(cursor, start, OVERWRITTEN) if start > cursor.index else None
        cursor.index = stop
        cursor.place += len(came)
        if lost is None:
            return Block(start, stop, samples, tuple(came))
        # One gap, however often its edge moved on meanwhile. What is behind it is told next, from a copy.
        cursor.waiting = Block(start, stop, samples.copy(), tuple(came))
        return lost

    def _find_segment(self, cursor: Cursor, boundary: int) -> Event:
        """The segment that holds the next sample, if its start is pruned; what lies before it is lost."""
        journal = self._verbs.timeline.journal
        for segment in journal.segments:
            if segment.number > journal.forgotten and (segment.stop is None or segment.stop > cursor.index):
                if segment.start <= cursor.index:
                    cursor.segment = segment
                    return SegmentStart(segment)
                boundary = min(boundary, segment.start)
                break
        return _lose(cursor, boundary, OVERWRITTEN)

    def _leave_instance(self, cursor: Cursor) -> Event | None:
        """The hub is another one: tell what is left of the one before, then begin at its first sample.

        The samples not told yet are gone with it, but not the markers. A segment not begun yet is not begun,
        and a hub that came and went between two calls is passed over: a stream tells of `Client.instance`.
        """
        journal, segment = cursor.journal, cursor.segment
        if cursor.index < journal.stopped_at:
            return _lose(cursor, journal.stopped_at, HUB_RESTART)
        if segment is not None:
            markers = [marker for _, marker in journal.markers_from(cursor.place)]
            cursor.place = journal.stop
            if markers:
                return _without_rows(cursor.index, segment, markers)
            cursor.segment = None
            self._verbs.know(self._verbs.timeline.instance)
            return SegmentEnd(replace(segment, stop=cursor.index, ended="lost"), HUB_RESTART)
        cursor.journal, cursor.index = self._verbs.timeline.journal, 0
        cursor.place, cursor.unannounced, cursor.early = _join(cursor.journal, 0)
        self._verbs.know(cursor.instance)
        return None


def _join(journal: Journal, index: int) -> tuple[int, Segment | None, tuple[Marker, ...]]:
    """Place of the first record to tell from `index` on, and what lies before it and is told first."""
    place = journal.place_of(index)
    segment = journal.open_at(place)
    if segment is None or segment.start > index or segment.number <= journal.forgotten:
        return place, None, ()  # there is none, or its end cannot be told
    early = journal.markers(index, index + MARKER_REACH)
    return place, segment, tuple(each for each in early if segment.start <= each.block < index)


def _lose(cursor: Cursor, index: int, reason: str) -> Gap:
    start, cursor.index = cursor.index, index
    return Gap(start, index, reason)


def _without_rows(index: int, segment: Segment, markers: Sequence[Marker]) -> Block:
    return Block(index, index, np.empty((0, segment.n_channels), np.float32), tuple(markers))


def _position(record: SegmentStart | SegmentEnd | Gap) -> int:
    match record:
        case SegmentStart(segment):
            return segment.start
        case SegmentEnd(segment):
            return segment.start if segment.stop is None else segment.stop
        case Gap(start):
            return start
