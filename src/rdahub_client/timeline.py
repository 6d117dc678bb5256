"""What one client knows of one hub: which samples and records it has, and what to ask for to have the rest.

Rule: messages in, requests out; the shell only carries them. Every sample enters in index order, every record
in sequence order. A hole is never stepped over: it is fetched, or it is named.

::

    feed(message) -> inbox;  advance() -> None, or the Request whose answer must come first
    settle(reply) / refuse(refusal) -> the answer;  advance() again ...

Late join, lost blocks, a long sleep and a hub's restart are this one mechanism.
Not here: sockets, clocks, waiting (`verbs`), where rows lie (`ring`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from typing import Final, Protocol
from weakref import WeakSet

from rdahub_client.errors import (
    BadRange,
    NoSegment,
    NotYetAvailable,
    Overwritten,
    RdaHubError,
    RequestRefused,
    SegmentChanged,
    WireError,
)
from rdahub_client.journal import Journal
from rdahub_client.records import Float32, Gap, Record, Segment, SegmentEnd, SegmentStart
from rdahub_client.wire import (
    BlockMessage,
    End,
    Events,
    EventsRequest,
    Heartbeat,
    Info,
    InfoRequest,
    Message,
    Page,
    RangeRequest,
    Records,
    Refusal,
    Reply,
    Request,
)

__all__ = ["OVERWRITTEN", "Cursor", "Place", "Timeline", "Window"]

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
    def skip(self, n: int) -> None: ...  # noqa: D102
    def jump(self, index: int) -> None: ...  # noqa: D102


class Cursor(Protocol):
    """Where a stream stands in the journal."""

    place: int

    def __hash__(self) -> int: ...


class Place(Enum):
    """Where a range that exists can be had."""

    WINDOW = "window"
    HISTORY = "history"


class Timeline:
    """One client's knowledge.

    Parameters
    ----------
    open_window : callable
        ``open_window(n_channels, start)`` gives the `Window` for a new layout.
    """

    def __init__(self, open_window: Callable[[int, int], Window]) -> None:
        self._open_window = open_window
        self._inbox: deque[Message] = deque()
        self._lost: list[Gap] = []
        self.doubted = False
        """True while the hub must say who it is before anything else."""
        self.reachable = True
        """False from the moment the hub did not answer until it is heard again."""
        self._past: set[str] = set()
        self.cursors: WeakSet[Cursor] = WeakSet()
        """Streams under way; the journal keeps what they have not delivered yet."""
        self.window: Window | None = None
        self.journal = Journal()
        self.instance = ""
        self.state = "disconnected"
        self.next_index = 0
        self.first_available = 0
        self.arrivals = 0
        """Counts blocks and pages taken in, so that a caller can tell that something new came."""
        self.ended = False
        """True once the hub has said goodbye."""

    # --- messages in ---------------------------------------------------------------------------------

    def feed(self, message: Message) -> None:
        """Take a message; `advance` applies it."""
        self.reachable = True
        self._inbox.append(message)

    def advance(self) -> Request | None:
        """Apply what can be applied. Returns what must be asked first if there is a hole in the way."""
        if self.doubted:
            return InfoRequest()
        while self._inbox:
            request = self._apply(self._inbox[0])
            if request is not None:
                return request
            self._inbox.popleft()
        return None

    def settle(self, request: Request, reply: Reply) -> None:
        """Take the answer to a request that `advance` returned."""
        refusal = reply.refusal
        if refusal is not None:
            self._refuse(request, refusal)
        elif isinstance(request, RangeRequest):
            self._take_page(reply.page())
        elif isinstance(request, EventsRequest):
            self._take_events(reply.events())
        else:
            self.join(reply.info())

    def doubt(self) -> None:
        """Ask the hub who it is before anything else: it has been silent, or it denied its instance."""
        self.doubted = True

    def give_up(self) -> None:
        """The hub does not answer: do without it until it is heard, or doubted, again."""
        self.doubted = False
        self.reachable = False

    def _take_page(self, page: Page) -> None:
        if page.instance != self.instance or not page.start <= self.next_index < page.stop:
            raise WireError(f"a page [{page.start}, {page.stop}) where {self.next_index} was asked for")
        self.first_available = page.first_available
        self._extend(page.samples[self.next_index - page.start :])

    def _take_events(self, events: Events) -> None:
        if events.instance != self.instance or events.seq + len(events.records) <= self.journal.next_seq:
            raise WireError(f"no records where the journal from {self.journal.next_seq} was asked for")
        if events.seq > self.journal.next_seq:
            self._resume(events.seq, events.before)
        self._inbox.appendleft(Records(events.instance, events.seq, events.records))

    def _refuse(self, request: Request, refusal: Refusal) -> None:
        if refusal.code == "WRONG_INSTANCE":
            self.doubt()
        elif refusal.code == "OUT_OF_RANGE_OLD" and isinstance(request, RangeRequest):
            self.first_available = refusal.first_available
            self._lose(min(refusal.first_available, request.stop))
        else:
            raise RequestRefused(refusal.message, code=refusal.code)

    def join(self, info: Info) -> None:
        """Begin at the hub's present; its journal is fetched next, its history when asked for."""
        if info.instance == self.instance:
            while self._inbox and self._inbox[0].instance != self.instance:
                self._inbox.popleft()  # from an instance that is not, or no longer, the hub's
        else:
            self._past.add(self.instance)
            self._inbox.clear()
            self._lost.clear()
            self.instance = info.instance
            self.journal = Journal()
            self.window = None
            self.next_index = info.next_index
            self.ended = False
            self._resume(info.first_seq, info.before)
        self.doubted = False
        self.reachable = True
        self.state = info.state
        self.first_available = info.first_available
        self._inbox.append(
            Heartbeat(
                info.instance, info.state, None, info.first_available, info.next_index, info.next_seq, 0, 0
            )
        )

    def _resume(self, seq: int, before: Segment | None) -> None:
        """Go on with the journal at `seq`, where segment `before` is open: what lay between is pruned.

        A segment known here as open that is not `before` has ended somewhere in what is lost.
        """
        last = self.segment
        if last is None or before is None or before.number != last.number:
            if last is not None and last.stop is None:
                ended = replace(last, stop=self.next_index, ended=OVERWRITTEN)
                self.journal.insert(SegmentEnd(ended, OVERWRITTEN))
            if before is not None:
                self._lose(before.start)
                self.journal.insert(SegmentStart(before))
        self.journal.next_seq = seq

    # --- applying ------------------------------------------------------------------------------------

    def _apply(self, message: Message) -> Request | None:
        if message.instance != self.instance:
            return None if message.instance in self._past or isinstance(message, End) else InfoRequest()
        match message:
            case BlockMessage():
                return self._apply_block(message)
            case Records():
                return self._apply_records(message)
            case Heartbeat():
                return self._apply_heartbeat(message)
            case End():
                self.ended = True
                self.state = "disconnected"
        return None

    def _apply_block(self, block: BlockMessage) -> Request | None:
        if block.stop <= self.next_index and block.seq <= self.journal.next_seq:
            return None
        first_seq = block.seq - len(block.markers)
        request = self._need_seq(first_seq) or self._need_rows(block.start)
        if request is not None:
            return request
        segment = self.journal.segment
        if segment is None or segment.number != block.segment:
            raise WireError(f"a block of segment {block.segment}, which the journal does not hold")
        for marker in block.markers[self.journal.next_seq - first_seq :]:
            self.journal.append(marker)
        self._extend(block.samples[self.next_index - block.start :])
        return None

    def _apply_records(self, message: Records) -> Request | None:
        request = self._need_seq(message.seq)
        if request is not None:
            return request
        for record in message.records[self.journal.next_seq - message.seq :]:
            request = self._admit(record)
            if request is not None:
                return request
            self.journal.append(record)
        return None

    def _admit(self, record: Record) -> Request | None:
        """See that all samples before a record are here; let it do what it does to the samples."""
        match record:
            case SegmentStart(segment):
                self._lose(segment.start)
            case SegmentEnd(Segment(stop=int(stop))):
                return self._need_rows(stop)
            case Gap(start, stop) if stop > self.next_index:
                request = self._need_rows(start)
                if request is not None:
                    return request
                self._skip(stop - self.next_index)
        return None

    def _apply_heartbeat(self, beat: Heartbeat) -> Request | None:
        request = self._need_seq(beat.seq) or self._need_rows(beat.next_index)
        if request is not None:
            return request
        self.state = beat.state
        self.first_available = beat.first_available
        self._prune()
        return None

    def _prune(self) -> None:
        """Forget records and losses that belong to samples nobody can have any more."""
        oldest = self.first_available
        if self.window is not None:
            oldest = min(oldest, self.window.first_available)
        self.journal.prune(oldest, min((cursor.place for cursor in self.cursors), default=None))
        while self._lost and self._lost[0].stop <= oldest:
            del self._lost[0]

    def _need_seq(self, seq: int) -> Request | None:
        if seq <= self.journal.next_seq:
            return None
        return EventsRequest(instance=self.instance, seq=self.journal.next_seq)

    def _need_rows(self, index: int) -> Request | None:
        """Ask for the rows between the newest and `index`, unless the window has them already."""
        if index <= self.next_index:
            return None
        window = self._window()
        if window.reaches(index):
            self.next_index = index
            self.arrivals += 1
            return None
        if index - self.next_index > window.capacity:
            # Only as much as the window can hold; the rest stays in the hub's history.
            self.next_index = index - window.capacity
            window.jump(self.next_index)
        return RangeRequest(instance=self.instance, start=self.next_index, stop=index)

    def _window(self) -> Window:
        segment = self.journal.segment
        if segment is None:
            raise WireError("samples before any segment")
        if self.window is None or self.window.n_channels != segment.n_channels:
            self.window = self._open_window(segment.n_channels, self.next_index)
        return self.window

    def _extend(self, samples: Float32) -> None:
        window = self._window()
        index = self.next_index + len(samples)
        if not window.reaches(index):
            window.extend(samples)
        self.next_index = index
        if len(samples):
            self.arrivals += 1

    def _skip(self, n: int) -> None:
        window = self._window()
        if not window.reaches(self.next_index + n):
            window.skip(n)
        self.next_index += n

    def _lose(self, index: int) -> None:
        """Name the rows before `index` as lost to this client."""
        if index <= self.next_index:
            return
        self._lost.append(Gap(self.next_index, index, OVERWRITTEN))
        if self.window is not None:
            self.window.skip(index - self.next_index)
        self.next_index = index

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
