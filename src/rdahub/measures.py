"""What the hub measures of itself: how long blocks take, how unevenly they come, what was lost and why.

Rule: pure, and cheap where blocks pass: two look-ups in a short table for each, no float is rounded, nothing
is allocated but where a block came sooner than all of its second. Everything counts since the instance
began and never goes down.
Not here: clocks (times are arguments), who reads the numbers (`service`, `metrics`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import Any, Final

from rdahub.arrivals import Arrivals
from rdahub_client.journal import Journal
from rdahub_client.records import Gap, Segment, SegmentEnd

__all__ = ["BlockTimes", "Histogram", "Losses", "Ranges", "Readers"]

_PUBLISH_DELAY: Final = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 1.0)
_JITTER: Final = (2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
_AGE: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 3600.0)
_READERS: Final = 256  # told of; more are not kept
_SILENT: Final = 30.0  # s after which a reader that says nothing any more is forgotten
_RECORDS: Final = 4096  # looked through at a time


class Histogram:
    """Counts of durations in fixed steps.

    Parameters
    ----------
    bounds : tuple of float
        Upper bounds in seconds, each included in its step; what is above the last has a step of its own.
    """

    __slots__ = ("_bounds", "bounds", "counts", "sum_ns")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.bounds = [round(bound * 1e9) for bound in bounds]
        self.counts = [0] * (len(bounds) + 1)
        self.sum_ns = 0

    def add(self, ns: int) -> None:
        """Count one duration, in ns."""
        self.counts[bisect_left(self.bounds, ns)] += 1
        self.sum_ns += ns

    def describe(self) -> dict[str, Any]:
        """Bounds and sum in seconds, counts of each step (not added up)."""
        return {"bounds": list(self._bounds), "counts": list(self.counts), "sum": self.sum_ns * 1e-9}


class BlockTimes:
    """Times of blocks: from received to published, and beside the even pace the Recorder should keep.

    Attributes
    ----------
    delay, jitter : Histogram
    arrivals : Arrivals
        The soonest block of each second.
    """

    __slots__ = (
        "_index", "_interval_ns", "_late_ns", "_least_ns", "_received_ns", "_segment", "_turn", "arrivals",
        "delay", "jitter",
    )  # fmt: skip

    def __init__(self) -> None:
        self.arrivals = Arrivals()
        self.delay = Histogram(_PUBLISH_DELAY)
        self.jitter = Histogram(_JITTER)
        self._segment: Segment | None = None
        self._interval_ns = 0.0
        self._index = 0
        self._received_ns = 0
        self._late_ns = self._least_ns = 0
        self._turn = 0

    def block(
        self, received_ns: int, sent_ns: int, segment: Segment | None, next_index: int, wall_ns: int = 0
    ) -> None:
        """A block was received and published; `next_index` lies after its last row.

        Jitter is how far the time since the block before differs from the rows since then, a gap's rows
        among them. The first block of a segment has none before it; one without new rows is passed over.
        """
        if segment is not self._segment:
            self._segment = segment
            self._interval_ns = 0.0 if segment is None else segment.sampling_interval_us * 1e3
            self._turn = self.arrivals.begin(segment)
        elif next_index == self._index:
            return
        else:
            due = int((next_index - self._index) * self._interval_ns)
            late = received_ns - self._received_ns - due
            self._late_ns += late
            self.jitter.add(abs(late))
        self._index = next_index
        self._received_ns = received_ns
        if self._late_ns < self._least_ns or next_index > self._turn:
            self._least_ns = self._late_ns
            self._turn = self.arrivals.note(next_index, received_ns, wall_ns)
        self.delay.add(sent_ns - received_ns)


class Losses:
    """Gaps and ends of segments by their reason, from the journal."""

    def __init__(self) -> None:
        self._seq = 0
        self._gaps: Counter[str] = Counter()
        self._missing: Counter[str] = Counter()
        self._ends: Counter[str] = Counter()

    def note(self, journal: Journal) -> None:
        """Look through the records since the last time; call it before they are forgotten."""
        while self._seq < journal.next_seq:
            first, records = journal.since(self._seq, _RECORDS)
            for record in records:
                if isinstance(record, Gap):
                    self._gaps[record.reason] += 1
                    self._missing[record.reason] += record.stop - record.start
                elif isinstance(record, SegmentEnd):
                    self._ends[record.reason] += 1
            self._seq = first + len(records)

    def describe(self) -> dict[str, Any]:
        """Counts by reason."""
        return {
            "gaps": dict(self._gaps),
            "missing_samples": dict(self._missing),
            "segment_ends": dict(self._ends),
        }


class Ranges:
    """Pages of history that clients asked for: repairs, or readers of the past; the hub cannot tell which."""

    def __init__(self) -> None:
        self._age = Histogram(_AGE)
        self._pages = 0
        self._bytes = 0

    def page(self, start: int, next_index: int, interval_us: float, n_bytes: int) -> None:
        """One page was served, beginning with sample `start`."""
        self._pages += 1
        self._bytes += n_bytes
        self._age.add(int((next_index - start) * interval_us * 1e3))

    def describe(self) -> dict[str, Any]:
        """Pages, their bytes, and how old the first sample of each was."""
        return {"pages": self._pages, "bytes": self._bytes, "age": self._age.describe()}


class Readers:
    """Who reads, and how far behind each was when it last said so: when it last looked for new samples."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[int | None, float]] = {}

    def note(self, name: str, behind: int | None, now: float) -> None:
        """A reader said how far it is. `behind` is in samples; None for another instance's."""
        if name in self._said or len(self._said) < _READERS:
            self._said[name] = (behind, now)

    def describe(self, now: float) -> list[dict[str, Any]]:
        """Those heard of lately, the furthest behind first."""
        self._said = {name: said for name, said in self._said.items() if now - said[1] < _SILENT}
        order = sorted(self._said.items(), key=lambda item: (-(item[1][0] or 0), item[0]))
        return [{"name": name, "behind": behind, "age": now - then} for name, (behind, then) in order]
