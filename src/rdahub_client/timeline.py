"""How a client's holdings stay whole: what came is applied, what is missing is asked for.

Rule: messages in, requests out; the shell only carries them. Every sample enters in index order, every record
in sequence order. A hole is never stepped over: it is fetched, or it is named.

::

    feed(message) -> inbox;  advance() -> None, or the Request whose answer must come first
    settle(reply) / refuse(refusal) -> the answer;  advance() again ...

Late join, lost blocks, a long sleep and a hub's restart are this one mechanism.
Not here: sockets, clocks, waiting (`verbs`), what is held and what a range is (`holdings`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from rdahub_client.errors import HubLost, RequestRefused, WireError
from rdahub_client.holdings import OVERWRITTEN, Holdings, Window
from rdahub_client.records import Gap, Record, Segment, SegmentEnd, SegmentStart
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

__all__ = ["Timeline"]

MOST_WAITING: Final = 1000
"""Messages kept behind a hole that cannot be fetched yet. Beyond it they are let go, for what they brought is
fetched from history like the hole itself."""


class Timeline(Holdings):
    """Holdings that fill themselves from messages and answers.

    Parameters
    ----------
    open_window : callable
        ``open_window(n_channels, start)`` gives the `Window` for a new layout.
    """

    def __init__(self, open_window: Callable[[int, int], Window]) -> None:
        super().__init__(open_window)
        self._inbox: deque[Message] = deque()
        self._left: set[str] = set()
        self.instance = ""
        self.state = "disconnected"
        self.doubted = False
        """True while the hub must say who it is before anything else."""
        self.lost: HubLost | None = None
        """Why the hub does not answer, from then on until it is heard again."""
        self.ended = False
        """True once the hub has said goodbye."""

    # --- messages in ---------------------------------------------------------------------------------

    def feed(self, message: Message) -> None:
        """Take a message; `advance` applies it, unless that is done here and now."""
        self.lost = None
        if not self._inbox and not self.doubted and message.instance == self.instance:
            if type(message) is BlockMessage:
                if self._takes(message):
                    return
            elif type(message) is Heartbeat and self._follows(message):
                return
        if len(self._inbox) >= MOST_WAITING:
            self._inbox.clear()
        self._inbox.append(message)

    # Nearly every message is the block that comes next, or says that a ring filled itself up to where it is.
    # What the two methods below leave goes the general way, which would do the same 40 µs later.

    def _takes(self, block: BlockMessage) -> bool:
        window, journal = self.window, self.journal
        if block.start != self.next_index or block.seq != journal.next_seq or block.markers:
            return False
        segment = journal.segment
        if segment is None or segment.number != block.segment or window is None:
            return False
        data, n_channels = block.data, block.n_channels
        if window.n_channels != n_channels or segment.n_channels != n_channels:
            return False
        if not isinstance(data, memoryview) or len(data) > window.capacity * n_channels * 4:
            return False
        window.write(block.start, data)
        self.next_index += len(data) // (4 * n_channels)
        self.arrivals += 1
        return True

    def _follows(self, beat: Heartbeat) -> bool:
        window = self.window
        if beat.seq != self.journal.next_seq or window is None or not beat.next_index > self.next_index:
            return False
        if not window.reaches(beat.next_index):
            return False
        self.next_index = beat.next_index
        self.arrivals += 1
        self.state = beat.state
        self.first_available = beat.first_available
        return True

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
            self._take_page(request, reply.page())
        elif isinstance(request, EventsRequest):
            self._take_events(reply.events())
        else:
            self.join(reply.info())

    def doubt(self) -> None:
        """Ask the hub who it is before anything else: it has been silent, or it denied its instance."""
        self.doubted = True

    def give_up(self, why: HubLost) -> None:
        """The hub does not answer: do without it until it is heard, or doubted, again."""
        self.doubted = False
        self.lost = why

    def _take_page(self, request: RangeRequest, page: Page) -> None:
        if page.start == request.start > self.next_index:  # more is missing than the window holds
            self.window_now().jump(page.start)
            self.next_index = page.start
        if page.instance != self.instance or not page.start <= self.next_index < page.stop:
            raise WireError(f"a page [{page.start}, {page.stop}) where {self.next_index} was asked for")
        self.first_available = page.first_available
        self.extend(page.samples[self.next_index - page.start :])

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
            self.lose(min(refusal.first_available, request.stop))
        else:
            raise RequestRefused(refusal.message, code=refusal.code)

    def join(self, info: Info) -> None:
        """Begin at the hub's present; its journal is fetched next, its history when asked for."""
        if info.instance == self.instance:
            while self._inbox and self._inbox[0].instance != self.instance:
                self._inbox.popleft()  # from an instance that is not, or no longer, the hub's
        else:
            self._left.add(self.instance)
            self._inbox.clear()
            self.reset(info.next_index, info.instance)
            self.instance = info.instance
            self.ended = False
            self._resume(info.first_seq, info.before)
        self.doubted = False
        self.lost = None
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
                stop = self.next_index if before is None else min(self.next_index, before.start)
                ended = replace(last, stop=stop, ended=OVERWRITTEN)
                self.journal.insert(SegmentEnd(ended, OVERWRITTEN))
            if before is not None:
                self.lose(before.start)
                self.journal.insert(SegmentStart(before))
        self.journal.next_seq = seq

    # --- applying ------------------------------------------------------------------------------------

    def _apply(self, message: Message) -> Request | None:
        if message.instance != self.instance:
            return None if message.instance in self._left or isinstance(message, End) else InfoRequest()
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
        self.extend(block.samples[self.next_index - block.start :])
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
                self.lose(segment.start)
            case SegmentEnd(Segment(stop=int(stop))):
                return self._need_rows(stop)
            case Gap(start, stop) if stop > self.next_index:
                request = self._need_rows(start)
                if request is not None:
                    return request
                self.skip(stop - self.next_index)
        return None

    def _apply_heartbeat(self, beat: Heartbeat) -> Request | None:
        request = self._need_seq(beat.seq) or self._need_rows(beat.next_index)
        if request is not None:
            return request
        self.state = beat.state
        self.first_available = beat.first_available
        if self.window is None and self.segment is not None:
            self.window_now()  # the hub's own ring has samples already, for readers on its machine
        self.prune()
        return None

    def _need_seq(self, seq: int) -> Request | None:
        if seq <= self.journal.next_seq:
            return None
        return EventsRequest(instance=self.instance, seq=self.journal.next_seq)

    def _need_rows(self, index: int) -> Request | None:
        """Ask for the rows between the newest and `index`, unless the window has them already."""
        if index <= self.next_index:
            return None
        window = self.window_now()
        if window.reaches(index):
            self.next_index = index
            self.arrivals += 1
            return None
        if not window.capacity:  # of a layout that came and went: history has its samples
            self.next_index = index
            return None
        # Only as much as the window can hold; the rest stays in the hub's history.
        start = max(self.next_index, index - window.capacity)
        return RangeRequest(instance=self.instance, start=start, stop=index)
