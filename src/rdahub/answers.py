"""Questions about the recording, answered: ranges in pages, markers, the journal, what there is.

Rule: each answer is taken from the broker at one moment and says which: the instance, and what it then held.
An answer is a copy; the ring's own memory never leaves the hub. Reading changes nothing.
Not here: who asks and over what (`service`), what a request may look like (`rdahub_client.wire`).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rdahub.arrivals import Arrivals
from rdahub.broker import Broker
from rdahub.measures import Ranges
from rdahub_client.wire import (
    PAGE_BYTES,
    PAGE_POINTS,
    PAGE_RECORDS,
    EventsRequest,
    MarkersRequest,
    MarkRequest,
    Page,
    RangeRequest,
    TimesRequest,
    encode_page,
    encode_reply,
    record_to_wire,
    segment_to_wire,
)

__all__ = ["Answers"]


class Answers:
    """Answers from one broker."""

    def __init__(self, broker: Broker, arrivals: Arrivals | None = None) -> None:
        self._broker = broker
        self._arrivals = arrivals or Arrivals()
        self._ranges = Ranges()

    def describe(self) -> dict[str, Any]:
        """The recording's part of the answer to ``info``."""
        newest = self._broker.journal.segment
        return {
            **self._broker.holdings(),
            "history_seconds": self._broker.history_seconds,
            "segment": None if newest is None else segment_to_wire(newest),
            "first_seq": self._broker.journal.first_seq,
            "next_seq": self._broker.journal.next_seq,
            "before": self._segment_before(),
        }

    def statistics(self) -> dict[str, Any]:
        """The recording's part of the answer to ``stats``."""
        newest = self._broker.journal.segment
        return {
            **self._broker.holdings(),
            "segment": None
            if newest is None
            else {**asdict(newest), "n_channels": newest.n_channels, "sfreq": newest.sfreq},
            "history_seconds": self._broker.history_seconds,
            "gaps": [
                asdict(gap)
                for gap in self._broker.journal.gaps(self._broker.first_available, self._broker.next_index)
            ][-100:],
            "counters": asdict(self._broker.counters),
            "ranges": self._ranges.describe(),
        }

    def answer(self, request: RangeRequest | MarkersRequest | EventsRequest | TimesRequest) -> bytes:
        """Answer a question about the recording, as one frame."""
        if (refusal := self.check_instance(request)) is not None:
            return refusal
        match request:
            case RangeRequest():
                return self._answer_range(request)
            case MarkersRequest():
                return self._answer_markers(request)
            case EventsRequest():
                return self._answer_events(request)
            case TimesRequest():
                return self._answer_times(request)

    def check_instance(
        self, request: RangeRequest | MarkersRequest | EventsRequest | TimesRequest | MarkRequest
    ) -> bytes | None:
        """A refusal if the request is meant for another instance."""
        if request.instance is None or request.instance == self._broker.instance:
            return None
        return self.refuse(
            request.id,
            "WRONG_INSTANCE",
            f"instance {request.instance} is gone; this is {self._broker.instance}",
        )

    def refuse(self, request_id: int, code: str, message: str) -> bytes:
        """A named error as an answer."""
        return encode_reply(
            request_id, {"ok": False, "error": code, "message": message, **self._broker.holdings()}
        )

    def _answer_range(self, request: RangeRequest) -> bytes:
        start, stop, ring = request.start, request.stop, self._broker.rings.at(request.start)
        if stop < start:
            return self.refuse(request.id, "BAD_REQUEST", f"stop {stop} lies before start {start}")
        newest = self._broker.journal.segment
        if self._broker.ring is None or newest is None:
            return self.refuse(request.id, "NO_STREAM", "the Recorder has not started yet")
        first_available = self._broker.first_available
        if start < first_available:
            return self.refuse(request.id, "OUT_OF_RANGE_OLD", f"history begins at sample {first_available}")
        for segment in self._broker.journal.segments:
            if segment.stop is not None and segment.start <= start < segment.stop < stop:
                return self.refuse(
                    request.id,
                    "WRONG_SEGMENT",
                    f"segment {segment.number} ended at sample {segment.stop} ({segment.ended}); "
                    "ask for each segment on its own",
                )
        if stop > self._broker.next_index:
            return self.refuse(
                request.id,
                "OUT_OF_RANGE_FUTURE",
                f"the newest sample so far is {self._broker.next_index - 1}",
            )
        if ring is None or start < self._broker.first_in_memory:
            return self.refuse(request.id, "NOT_READABLE", "the archive is gone")
        segment_here = self._broker.journal.segment_at(start)
        interval_us = (segment_here or newest).sampling_interval_us
        stop = min(stop, start + max(1, PAGE_BYTES // (4 * ring.n_channels)))
        page = Page(
            instance=self._broker.instance,
            segment=newest.number if segment_here is None else segment_here.number,
            start=start,
            stop=stop,
            first_available=first_available,
            next_index=self._broker.next_index,
            samples=ring.view(start, stop),
        )
        self._ranges.page(start, self._broker.next_index, interval_us, page.samples.nbytes)
        return encode_page(request.id, page)

    def _answer_markers(self, request: MarkersRequest) -> bytes:
        markers = self._broker.journal.markers(request.start, request.stop)
        page = markers[request.skip : request.skip + PAGE_RECORDS]
        return encode_reply(
            request.id,
            {
                "ok": True,
                **self._broker.holdings(),
                "markers": [record_to_wire(marker)[1] for marker in page],
                "more": request.skip + len(page) < len(markers),
            },
        )

    def _answer_events(self, request: EventsRequest) -> bytes:
        seq, records = self._broker.journal.since(request.seq, PAGE_RECORDS)
        return encode_reply(
            request.id,
            {
                "ok": True,
                **self._broker.holdings(),
                "seq": seq,
                "records": [record_to_wire(record) for record in records],
                "next_seq": self._broker.journal.next_seq,
                "before": self._segment_before(),
            },
        )

    def _answer_times(self, request: TimesRequest) -> bytes:
        points, more = self._arrivals.between(request.start, request.stop, PAGE_POINTS)
        return encode_reply(
            request.id, {"ok": True, **self._broker.holdings(), "points": points, "more": more}
        )

    def _segment_before(self) -> list[Any] | None:
        """The segment open where the journal now begins: its start is pruned, its samples are not."""
        before = self._broker.journal.before
        return None if before is None else segment_to_wire(before)
