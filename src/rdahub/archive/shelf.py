"""All instances in the archive's folder, and the answers from them.

Rule: an instance's id comes from the wire and is hostile: it is only ever compared with names of folders that
are there. An answer about an earlier instance says what of that one is held.
Not here: who asks and over what (`archivist`, `keeper`), what a folder holds (`volume`).
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from rdahub.archive.volume import INSTANCE, Volume, Writer, read_about, read_rows, runs_of, spans_of, stamp_of
from rdahub_client.records import Float32
from rdahub_client.wire import (
    PAGE_BYTES,
    PAGE_RECORDS,
    InstancesRequest,
    Page,
    PastEventsRequest,
    PastRangeRequest,
    RangeRequest,
    encode_page,
    encode_reply,
    record_to_wire,
)

__all__ = ["Archived", "Shelf"]

Archived: TypeAlias = RangeRequest | PastRangeRequest | PastEventsRequest | InstancesRequest
"""What is answered from the archive."""

_OPEN: Final = 2  # earlier instances whose journals stay in memory
_INSTANCES: Final = 100  # in one reply
_RUNS: Final = 100  # of one instance that are told, the newest


class Refused(Exception):
    """A named error to answer with."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Shelf:
    """Answers from one folder.

    Parameters
    ----------
    folder : Path
    present : Writer
        The hub's own instance.
    """

    def __init__(self, folder: Path, present: Writer) -> None:
        self._folder = folder
        self._present = present
        self._open: OrderedDict[str, Volume] = OrderedDict()
        self._page = np.empty(PAGE_BYTES // 4, np.float32)

    def answer(self, request: Archived, hub: dict[str, Any]) -> bytes:
        """The answer, as one frame.

        Parameters
        ----------
        request : Archived
        hub : dict
            What the hub holds, for answers about the present instance.
        """
        held = hub
        try:
            match request:
                case InstancesRequest():
                    return self._answer_instances(request, hub)
                case RangeRequest():
                    return self._answer_range(request, self._present, hub)
                case PastRangeRequest():
                    volume = self._volume(request.instance)
                    held = volume.holdings()
                    return self._answer_range(request, volume, held)
                case PastEventsRequest():
                    return self._answer_events(request, self._volume(request.instance))
        except Refused as error:
            code, message = error.code, str(error)
        except (OSError, ValueError) as error:
            code, message = "NOT_READABLE", f"the archive cannot be read: {error}"
        return encode_reply(request.id, {"ok": False, "error": code, "message": message, **held})

    def _volume(self, instance: str) -> Volume:
        if instance == self._present.instance:
            return self._present
        folder = next((each for each in self._folders() if each.name == instance), None)
        if folder is None:
            raise Refused("WRONG_INSTANCE", f"there is no instance {instance[:16]!r} in the archive")
        volume = self._open.pop(instance, None)
        if volume is None or volume.stamp != stamp_of(folder):
            volume = Volume(folder)
        self._open[instance] = volume
        if len(self._open) > _OPEN:
            self._open.popitem(last=False)
        return volume

    def _folders(self) -> list[Path]:
        found = [each for each in self._folder.iterdir() if INSTANCE.fullmatch(each.name)]
        return [each for each in found if each.is_dir() and not each.is_symlink()]

    def _answer_instances(self, request: InstancesRequest, hub: dict[str, Any]) -> bytes:
        found: list[dict[str, Any]] = []
        for folder in self._folders():
            with suppress(OSError, ValueError):  # it is being made, or it is none of ours
                about, runs = read_about(folder), runs_of(spans_of(folder))
                found.append(
                    {
                        "instance": folder.name,
                        "name": str(about["name"]),
                        "recorder": str(about["recorder"]),
                        "began_ns": int(about["began_ns"]),
                        "runs": runs[-_RUNS:],
                    }
                )
        found.sort(key=lambda each: each["began_ns"], reverse=True)
        page = found[request.skip : request.skip + _INSTANCES]
        more = request.skip + len(page) < len(found)
        return encode_reply(request.id, {"ok": True, **hub, "instances": page, "more": more})

    def _answer_range(
        self, request: RangeRequest | PastRangeRequest, volume: Volume, holdings: dict[str, Any]
    ) -> bytes:
        start, stop = request.start, request.stop
        if stop < start:
            raise Refused("BAD_REQUEST", f"stop {stop} lies before start {start}")
        segment, span = volume.journal.segment_at(start), volume.span_at(start)
        end = stop if isinstance(request, PastRangeRequest) else start + 1  # of the present more will come
        if end > volume.next_index:
            raise Refused("OUT_OF_RANGE_FUTURE", f"the archive holds samples up to {volume.next_index}")
        if segment is None or span is None:
            behind = next((first for first, _ in volume.runs() if first > start), None)
            more = "" if behind is None else f"; there are samples from {behind} on"
            raise Refused("OUT_OF_RANGE_OLD", f"not archived{more}")
        if segment.stop is not None and segment.stop < stop:
            raise Refused(
                "WRONG_SEGMENT",
                f"segment {segment.number} ended at sample {segment.stop} ({segment.ended}); "
                "ask for each segment on its own",
            )
        stop = min(stop, span.stop, start + max(1, PAGE_BYTES // (4 * span.n_channels)))
        samples = self._rows(stop - start, span.n_channels)
        if start < stop:
            read_rows(span, start, samples)
        page = Page(
            volume.instance, segment.number, start, stop, holdings["first_available"], holdings["next_index"],
            samples,
        )  # fmt: skip
        return encode_page(request.id, page)

    def _rows(self, n: int, n_channels: int) -> Float32:
        """Memory for a page, the same each time."""
        if n * n_channels > self._page.size:  # one row of very many channels
            self._page = np.empty(n * n_channels, np.float32)
        return self._page[: n * n_channels].reshape(n, n_channels)

    def _answer_events(self, request: PastEventsRequest, volume: Volume) -> bytes:
        # Counted by place: where the archive left some out, the hub's own numbers have a hole.
        journal, place = volume.journal, min(request.seq, volume.journal.stop)
        _, records = journal.since(journal.first_seq + place, PAGE_RECORDS)
        return encode_reply(
            request.id,
            {
                "ok": True,
                **volume.holdings(),
                "seq": place,
                "records": [record_to_wire(record) for record in records],
                "next_seq": journal.stop,
                "before": None,
            },
        )
