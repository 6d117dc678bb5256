"""The journal: everything of a recording that is not a sample, numbered in the order it happened.

Rule: records get consecutive sequence numbers from 0 within an instance, so that a reader that has seen up to
`next_seq` knows exactly what it lacks. The hub keeps one, each client keeps a copy; both are this class.
Old records are pruned with the samples they belong to; a segment stays known while any of it is in history.

Not here: samples (`ring`), who asks for what is missing (`timeline`).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from itertools import islice
from operator import attrgetter

from rdahub_client.records import Gap, Marker, Record, Segment, SegmentEnd, SegmentStart

__all__ = ["Journal"]

_index = attrgetter("index")


class Journal:
    """Segments, gaps and markers of one instance.

    Parameters
    ----------
    first_seq : int
        Sequence number of the first record to come.
    """

    def __init__(self, first_seq: int = 0) -> None:
        self.first_seq = first_seq
        self._records: deque[Record] = deque()
        self._segments: dict[int, Segment] = {}
        self._gaps: list[Gap] = []
        self._markers: list[Marker] = []

    @property
    def next_seq(self) -> int:
        """Sequence number of the next record."""
        return self.first_seq + len(self._records)

    @property
    def segments(self) -> list[Segment]:
        """Segments known, oldest first."""
        return list(self._segments.values())

    @property
    def segment(self) -> Segment | None:
        """The newest segment, open or ended."""
        return self._segments[next(reversed(self._segments))] if self._segments else None

    def append(self, record: Record) -> None:
        """Add the next record."""
        match record:
            case SegmentStart(segment) | SegmentEnd(segment):
                self.know(segment)
            case Gap():
                self._gaps.append(record)
            case Marker():
                insort(self._markers, record, key=_index)
        self._records.append(record)

    def know(self, segment: Segment) -> None:
        """Take note of a segment whose records may be pruned already."""
        known = self._segments.get(segment.number)
        if known is None or known.stop is None:
            self._segments[segment.number] = segment
            if known is None and len(self._segments) > 1:
                self._segments = dict(sorted(self._segments.items()))

    def since(self, seq: int, limit: int) -> tuple[int, list[Record]]:
        """Up to `limit` records from `seq` on, and the number of the first of them."""
        first = max(seq, self.first_seq)
        skipped = first - self.first_seq
        return first, list(islice(self._records, skipped, skipped + limit))

    def seq_at(self, index: int) -> int:
        """Number of the first record that is not wholly before a reader who begins at `index`."""
        for seq, record in enumerate(self._records, self.first_seq):
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
                return seq
        return self.next_seq

    def ahead(self, seq: int) -> tuple[list[Marker], SegmentStart | SegmentEnd | Gap | None]:
        """The markers next in line from `seq` on, and the first record after them that is none."""
        markers: list[Marker] = []
        for record in islice(self._records, max(seq - self.first_seq, 0), None):
            if not isinstance(record, Marker):
                return markers, record
            markers.append(record)
        return markers, None

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

    def prune(self, index: int, keep_seq: int | None = None) -> None:
        """Forget what lies wholly before `index`, but no record from `keep_seq` on."""
        while self._records and (keep_seq is None or self.first_seq < keep_seq):
            if not self._is_past(self._records[0], index):
                break
            self._records.popleft()
            self.first_seq += 1
        while self._gaps and self._gaps[0].stop <= index:
            del self._gaps[0]
        newest = self.segment
        for segment in self.segments:
            if segment is newest or segment.stop is None or segment.stop > index:
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
                return at < index and block < index
