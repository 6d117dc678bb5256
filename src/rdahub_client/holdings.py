"""What one client holds of one hub: its window of samples, its copy of the journal, and what it has lost.

Rule: samples come in without a hole: `extend`, `skip` (a gap, NaN) and `lose` (gone before they came) each
move `next_index`. What a range is, held here, elsewhere or impossible, is decided here alone.
Not here: what to ask the hub for (`timeline`), where rows lie in memory (`ring`).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final, Protocol
from weakref import WeakSet

from rdahub_client.errors import (
    BadRange,
    NoSegment,
    NotYetAvailable,
    Overwritten,
    RdaHubError,
    SegmentChanged,
    WireError,
)
from rdahub_client.journal import Journal
from rdahub_client.records import Float32, Gap, Segment

__all__ = ["OVERWRITTEN", "Cursor", "Holdings", "Place", "Window"]

OVERWRITTEN: Final = "overwritten"


class Window(Protocol):
    """Where a client's newest samples lie: its own `Ring`, or the hub's as a `RingReader`."""

    @property
    def capacity(self) -> int: ...  # noqa: D102
    @property
    def n_channels(self) -> int: ...  # noqa: D102
    @property
    def first_available(self) -> int: ...  # noqa: D102
    def holds(self, start: int, stop: int) -> bool: ...  # noqa: D102
    def view(self, start: int, stop: int) -> Float32 | None: ...  # noqa: D102
    def reaches(self, index: int) -> bool: ...  # noqa: D102
    def extend(self, samples: Float32) -> None: ...  # noqa: D102
    def write(self, index: int, data: memoryview) -> None: ...  # noqa: D102
    def prepare(self) -> None: ...  # noqa: D102
    def skip(self, n: int) -> None: ...  # noqa: D102
    def jump(self, index: int) -> None: ...  # noqa: D102


class Cursor(Protocol):
    """Where a stream stands in a journal, this one or that of an instance before."""

    @property
    def journal(self) -> Journal: ...  # noqa: D102
    @property
    def place(self) -> int: ...  # noqa: D102
    def __hash__(self) -> int: ...


class Place(Enum):
    """Where a range that exists can be had."""

    WINDOW = "window"
    HISTORY = "history"


class Holdings:
    """One client's samples and records.

    Parameters
    ----------
    open_window : callable
        ``open_window(n_channels, start)`` gives the `Window` for a new layout.
    """

    def __init__(self, open_window: Callable[[int, int], Window]) -> None:
        self._open_window = open_window
        self._lost: list[Gap] = []
        self.cursors: WeakSet[Cursor] = WeakSet()
        """Streams under way; the journal keeps what they have not delivered yet."""
        self.window: Window | None = None
        self.journal = Journal()
        self.next_index = 0
        self.first_available = 0
        """Index of the oldest sample the hub holds, as last heard."""
        self.arrivals = 0
        """Counts blocks and pages taken in, so that a caller can tell that something new came."""

    # --- what comes and goes --------------------------------------------------------------------------

    def reset(self, index: int, instance: str) -> None:
        """Hold nothing, and go on at `index` of another instance.

        Who is still telling the journal of the one before finds this one's by it, however many came between.
        """
        self._lost.clear()
        self.window = None
        journal = Journal(instance)
        self.journal.stopped_at, self.journal.successor = self.next_index, journal
        self.journal = journal
        self.next_index = index

    def window_now(self) -> Window:
        """The window for the newest segment's layout."""
        segment = self.journal.segment
        if segment is None:
            raise WireError("samples before any segment")
        if self.window is None or self.window.n_channels != segment.n_channels:
            self.window = self._open_window(segment.n_channels, self.next_index)
        return self.window

    def extend(self, samples: Float32) -> None:
        """Take in the next rows."""
        window = self.window_now()
        index = self.next_index + len(samples)
        if not window.reaches(index):
            window.extend(samples)
        self.next_index = index
        if len(samples):
            self.arrivals += 1

    def skip(self, n: int) -> None:
        """Take in `n` rows that are known to be missing."""
        window = self.window_now()
        if not window.reaches(self.next_index + n):
            window.skip(n)
        self.next_index += n

    def lose(self, index: int) -> None:
        """Name the rows before `index` as lost to this client."""
        if index <= self.next_index:
            return
        self._lost.append(Gap(self.next_index, index, OVERWRITTEN))
        if self.window is not None:
            self.window.skip(index - self.next_index)
        self.next_index = index

    def prune(self) -> None:
        """Forget records and losses that belong to samples nobody can have any more."""
        oldest = self.first_available
        if self.window is not None:
            oldest = min(oldest, self.window.first_available)
        journal = self.journal
        places = (cursor.place if cursor.journal is journal else 0 for cursor in self.cursors)
        journal.prune(oldest, min(places, default=None))
        while self._lost and self._lost[0].stop <= oldest:
            del self._lost[0]

    # --- questions -----------------------------------------------------------------------------------

    @property
    def segment(self) -> Segment | None:
        """The newest segment."""
        return self.journal.segment

    def held(self, start: int, stop: int) -> Float32 | None:
        """The range as a view of the window, if all of it is there and one segment's; else None. Fast."""
        window = self.window
        if window is None or not 0 <= start < stop <= self.next_index or not window.holds(start, stop):
            return None
        segment = self.journal.segment
        if segment is None or start < segment.start or self._lost:
            return self._held_in_older(start, stop)
        return window.view(start, stop)

    def _held_in_older(self, start: int, stop: int) -> Float32 | None:
        try:
            place = self.locate(start, stop)
        except RdaHubError:
            return None
        return self.window.view(start, stop) if self.window and place is Place.WINDOW else None

    def locate(self, start: int, stop: int) -> Place:
        """Where the range can be had.

        Raises
        ------
        BadRange, NoSegment, NotYetAvailable, Overwritten, SegmentChanged
            Why it cannot; `NotYetAvailable` is the only one that time may heal.
        """
        if start < 0 or stop < start:
            raise self._error(BadRange, "samples count from 0 and a range stops after its start", start, stop)
        if self.segment is None:
            raise self._error(NoSegment, "the Recorder has not started yet", start, stop)
        for gap in self._lost:
            if gap.start < stop and start < gap.stop:
                raise self._error(
                    Overwritten,
                    f"samples up to {gap.stop} were overwritten before they came here",
                    start,
                    stop,
                )
        window = self.window
        in_window = (
            window is not None and window.holds(start, min(stop, self.next_index)) and start < self.next_index
        )
        if start < self.first_available and not in_window:
            raise self._error(Overwritten, f"history begins at {self.first_available}", start, stop)
        self._check_one_segment(start, stop)
        if stop > self.next_index:
            raise self._error(NotYetAvailable, "the range is not complete yet", start, stop)
        segment = self.journal.segment_at(start)
        if in_window and window is not None and (segment is None or segment.n_channels == window.n_channels):
            return Place.WINDOW
        return Place.HISTORY

    def _check_one_segment(self, start: int, stop: int) -> None:
        for segment in self.journal.segments:
            if segment.stop is not None and start < segment.stop < stop and segment.start <= start:
                raise self._error(
                    SegmentChanged,
                    f"segment {segment.number} ended at {segment.stop} ({segment.ended})",
                    start,
                    stop,
                )

    def _error(self, kind: type[RdaHubError], message: str, start: int, stop: int) -> RdaHubError:
        return kind(
            message,
            requested=(start, stop),
            first_available=self.first_available,
            next_index=self.next_index,
        )

    def available_from(self, index: int) -> int:
        """The first sample at or after `index` that is neither overwritten nor lost."""
        if self.window is None or not self.window.holds(index, index):
            index = max(index, self.first_available)
        for gap in self._lost:
            if gap.start <= index < gap.stop:
                index = gap.stop
        return index

    def intact_until(self, index: int) -> int:
        """Where the run of samples from `index` on ends that have not been lost."""
        return min((gap.start for gap in self._lost if gap.start > index), default=self.next_index)

    def gaps(self, start: int, stop: int) -> list[Gap]:
        """Gaps that touch the range, this client's own losses among them, in index order."""
        lost = [gap for gap in self._lost if gap.start < stop and gap.stop > start]
        return sorted([*self.journal.gaps(start, stop), *lost], key=lambda gap: gap.start)
