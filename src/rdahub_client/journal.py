"""The journal: everything of a recording that is not a sample, numbered in the order it happened.

Rule: records get consecutive sequence numbers from 0 within an instance, so that a reader that has seen up to
`next_seq` knows exactly what it lacks. The hub keeps one, each client keeps a copy; both are this class.
Old records are pruned with the samples they belong to; a segment stays known while any of it is in history.
A copy may have to leave out records the hub has pruned, and may add one of its own in their stead; so places
in a journal (`first`, `place_of`, `ahead`) are counted apart from the hub's sequence numbers.

Not here: samples (`ring`), who asks for what is missing (`timeline`).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from itertools import islice
from operator import attrgetter
from typing import Final

from rdahub_client.records import Gap, Marker, Record, Segment, SegmentEnd, SegmentStart

__all__ = ["Journal"]

KEPT_SEGMENTS: Final = 100
"""Newest segments that stay known after their samples are gone, so that people see what happened."""

MARKER_REACH: Final = 10_000_000
"""Samples. A marker this far ahead of its block is a Recorder's error and does not keep the records behind it
from being forgotten; by its index it is still found."""

_index = attrgetter("index")


class Journal:
    """Segments, gaps and markers of one instance.

    Parameters
    ----------
    instance : str
        Whose it is, for those who may have to do with several: clients.

    Attributes
    ----------
    next_seq : int
        Sequence number of the next record.
    first : int
        Place of the oldest record kept; places count from 0.
    before : Segment or None
        The segment that was open where the records kept begin.
    segment : Segment or None
        The newest segment, open or ended.
    forgotten : int
        Number of the last segment whose end is pruned: of no use to a reader of the records.
    successor : Journal or None
        The next instance's, once this one is gone.
    stopped_at : int
        Index after the newest sample known by then.
    """

    def __init__(self, instance: str = "") -> None:
        self.instance = instance
        self.successor: Journal | None = None
        self.stopped_at = 0
        self.next_seq = 0
        self.first = 0
        self.before: Segment | None = None
        self.forgotten = -1
        self.segment: Segment | None = None
        self._records: deque[Record] = deque()
        self._segments: dict[int, Segment] = {}
        self._gaps: list[Gap] = []
        self._markers: list[Marker] = []

    @property
    def first_seq(self) -> int:
        """Sequence number of the oldest record kept, in a journal that leaves none out: the hub's."""
        return self.next_seq - len(self._records)

    @property
    def stop(self) -> int:
        """Place after the newest record."""
        return self.first + len(self._records)

    @property
    def segments(self) -> list[Segment]:
        """Segments known, oldest first."""
        return list(self._segments.values())

    def append(self, record: Record) -> None:
        """Add the next record."""
        self.insert(record)
        self.next_seq += 1

    def insert(self, record: Record) -> None:
        """Add a record that has no number at the hub: it stands for some that are gone."""
        match record:
            case SegmentStart(segment) | SegmentEnd(segment):
                self._segments[segment.number] = segment
                self.segment = self._segments[next(reversed(self._segments))]
            case Gap():
                self._gaps.append(record)
            case Marker():
                insort(self._markers, record, key=_index)
        self._records.append(record)

    def since(self, seq: int, limit: int) -> tuple[int, list[Record]]:
        """Up to `limit` records from `seq` on, and the number of the first of them."""
        first = max(seq, self.first_seq)
        skipped = min(first - self.first_seq, len(self._records))
        return first, list(islice(self._records, skipped, skipped + limit))

    def place_of(self, index: int) -> int:
        """Place of the first record that is not wholly before a reader who begins at `index`."""
        for place, record in enumerate(self._records, self.first):
            match record:
                case SegmentStart(segment):
                    past = segment.start <= index
                case SegmentEnd(segment):
                    past = segment.stop is not None and segment.stop <= index
                case Gap(stop=stop):
                    past = stop <= index
                case Marker(block=block):
                    past = block < index
            if not past:
                return place
        return self.stop

    def open_at(self, place: int) -> Segment | None:
        """The segment whose start is before a place and whose end is not."""
        segment = self.before
        for record in islice(self._records, place - self.first):
            match record:
                case SegmentStart(started):
                    segment = started
                case SegmentEnd():
                    segment = None
        return None if segment is None else self._segments.get(segment.number, segment)

    def known_from(self, most: int) -> int:
        """Where to begin if only the newest `most` records are to stay."""
        spare = len(self._records) - most
        if spare <= 0:
            return 0
        match self._records[spare - 1]:
            case SegmentStart(segment):
                return segment.start + 1
            case SegmentEnd(segment):
                return (segment.start if segment.stop is None else segment.stop) + 1
            case Gap(stop=stop):
                return stop
            case Marker(block=block):
                return block + 1

    def ahead(self, place: int) -> tuple[list[Marker], SegmentStart | SegmentEnd | Gap | None]:
        """The markers next in line from `place` on, and the first record after them that is none."""
        markers: list[Marker] = []
        for record in islice(self._records, place - self.first, None):
            if not isinstance(record, Marker):
                return markers, record
            markers.append(record)
        return markers, None

    def markers_from(self, place: int) -> list[tuple[int, Marker]]:
        """The markers from `place` on, each with its place."""
        records = enumerate(islice(self._records, place - self.first, None), place)
        return [(at, record) for at, record in records if isinstance(record, Marker)]

    def segment_at(self, index: int) -> Segment | None:
        """The segment that holds sample `index`; the open segment holds all that is to come."""
        for segment in reversed(self._segments.values()):
            if segment.start <= index:
                return segment if segment.stop is None or index < segment.stop else None
        return None

    def markers(self, start: int, stop: int) -> list[Marker]:
        """Markers standing on samples ``[start, stop)``, in index order."""
        low = bisect_left(self._markers, start, key=_index)
        return self._markers[low : bisect_left(self._markers, stop, lo=low, key=_index)]

    def gaps(self, start: int, stop: int) -> list[Gap]:
        """Gaps that touch ``[start, stop)``."""
        return [gap for gap in self._gaps if gap.start < stop and gap.stop > start]

    def prune(self, index: int, keep: int | None = None) -> None:
        """Forget what lies wholly before `index`, but no record from place `keep` on."""
        while self._records and (keep is None or self.first < keep):
            if not self._is_past(self._records[0], index):
                break
            match self._records.popleft():
                case SegmentStart(segment):
                    self.before = segment
                case SegmentEnd(segment):
                    self.before = None
                    self.forgotten = segment.number
            self.first += 1
        while self._gaps and self._gaps[0].stop <= index:
            del self._gaps[0]
        for segment in self.segments[:-KEPT_SEGMENTS]:
            if segment.stop is None or segment.stop > index:
                break
            del self._segments[segment.number]
        past = 0
        for marker in self._markers:
            if marker.index >= index or marker.block >= index:
                break
            past += 1
        del self._markers[:past]

    @staticmethod
    def _is_past(record: Record, index: int) -> bool:
        match record:
            case SegmentStart(segment):
                return segment.start < index
            case SegmentEnd(segment):
                return segment.stop is not None and segment.stop < index
            case Gap(stop=stop):
                return stop <= index
            case Marker(index=at, block=block):
                return block < index and (at < index or at > block + MARKER_REACH)
