"""One instance on disk: a folder with its journal and its samples.

Rule: only what was written whole is there. A torn record or row at the end of a file, as a killed process or
a machine without power leaves it, is cut off and never shown. A hole is a hole: rows that were not archived
lie in no file, and nothing is put in their stead.

::

    INSTANCE/journal                    entries: length (uint32) CRC-32 (uint32) msgpack, one after the other
    INSTANCE/samples-START-CHANNELS.f32 rows of float32, little-endian; row i is sample START + i

The journal's first entry says who wrote it; ``[seq, record]`` is a record as the wire has it;
``[seq, "resume", segment]`` says that those before `seq` were not archived, and which segment is open there.
Not here: where records and samples come from (`archivist`), who reads them (`shelf`).
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgpack
import numpy as np

from rdahub_client.holdings import OVERWRITTEN
from rdahub_client.journal import Journal
from rdahub_client.records import Float32, Record, Segment, SegmentEnd, SegmentStart
from rdahub_client.wire.records import record_from_wire, record_to_wire, segment_from_wire, segment_to_wire

__all__ = [
    "INSTANCE",
    "Span",
    "Volume",
    "Writer",
    "read_about",
    "read_rows",
    "runs_of",
    "spans_of",
    "stamp_of",
]

INSTANCE: Final = re.compile(r"[0-9a-f]{16}")
_SAMPLES: Final = re.compile(r"samples-(\d{12,19})-(\d+)\.f32")
_ENTRY: Final = struct.Struct("<II")
_FORMAT: Final = 1


@dataclass(slots=True)
class Span:
    """Samples ``[start, stop)`` that lie in one file."""

    start: int
    stop: int
    n_channels: int
    path: Path


class Volume:
    """An instance's folder, read.

    Parameters
    ----------
    folder : Path
        Its name is the instance's.

    Attributes
    ----------
    about : dict
        ``name``, ``recorder``, ``began_ns`` of its hub.
    journal : Journal
        All its records. A segment that was open when its hub died ends, as ``lost``, at the last sample here.
    spans : list of Span
        In index order.
    stamp : tuple
        Changes when there is more in the folder, and when its hub ends.

    Raises
    ------
    OSError, ValueError
        There is no such folder, or it is none of ours.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.instance = folder.name
        self.about: dict[str, Any] = {}
        self.journal = Journal()
        self.spans = spans_of(folder)
        self.stamp = stamp_of(folder)
        with (folder / "journal").open("rb") as file:
            self._whole = self._replay(file.read())
            live = not _try_lock(file.fileno(), fcntl.LOCK_SH)
        if not live:
            self._end_open_segment()

    def _replay(self, content: bytes) -> int:
        """Take in all whole entries; returns where they end."""
        entries = _entries(content)
        where, self.about = next(entries, (0, {}))
        if not isinstance(self.about, dict) or self.about.get("format") != _FORMAT:
            raise ValueError(f"{self.folder / 'journal'}: not an archive of this version of rdahub")
        for end, entry in entries:
            if entry[1] == "resume":
                self._leave_out(entry[0], None if entry[2] is None else segment_from_wire(entry[2]))
            else:
                self.journal.append(record_from_wire(entry[1]))
            where = end
        return where

    def _leave_out(self, seq: int, before: Segment | None) -> None:
        """Go on with the journal at `seq`, as a client does that comes too late (`Timeline`)."""
        newest = self.journal.segment
        if before is not None and (newest is None or before.number != newest.number):
            self.journal.insert(SegmentStart(before))
        self.journal.next_seq = seq

    def _end_open_segment(self) -> None:
        segment = self.journal.segment
        if segment is not None and segment.stop is None:
            stop = segment.start
            for span in self.spans:
                if span.start >= segment.start:
                    if span.n_channels != segment.n_channels:
                        break  # of a segment whose record was torn off
                    stop = span.stop
            self.journal.append(SegmentEnd(replace(segment, stop=stop, ended="lost"), "lost"))

    @property
    def next_index(self) -> int:
        """Index after the newest sample here."""
        return self.spans[-1].stop if self.spans else 0

    @property
    def reach(self) -> tuple[int, int]:
        """The newest samples here that are in one piece: ``[start, stop)``."""
        runs = self.runs()
        return runs[-1] if runs else (0, 0)

    def runs(self) -> list[tuple[int, int]]:
        """Stretches of samples without a hole between them, in index order."""
        return runs_of(self.spans)

    def span_at(self, index: int) -> Span | None:
        """Where sample `index` lies."""
        for span in reversed(self.spans):
            if span.start <= index:
                return span if index < span.stop else None
        return None

    def holdings(self) -> dict[str, Any]:
        """What answers say of this instance."""
        runs = self.runs()
        return {
            "instance": self.instance,
            "first_available": runs[0][0] if runs else 0,
            "next_index": self.next_index,
        }


def read_rows(span: Span, start: int, into: Float32) -> None:
    """Read rows from sample `start` on."""
    left = into.data.cast("B")
    at = (start - span.start) * span.n_channels * 4
    fd = os.open(span.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while left:
            if not (n := os.preadv(fd, [left], at)):
                raise OSError(f"{span.path} has become shorter")
            left, at = left[n:], at + n
    finally:
        os.close(fd)


def spans_of(folder: Path) -> list[Span]:
    """The files of samples in a folder, whole rows of them, in index order."""
    spans = []
    for each in os.scandir(folder):
        if (match := _SAMPLES.fullmatch(each.name)) and int(match[2]):
            start, n_channels = int(match[1]), int(match[2])
            stop = start + each.stat().st_size // (4 * n_channels)
            spans.append(Span(start, stop, n_channels, folder / each.name))
    return sorted(spans, key=lambda span: span.start)


def runs_of(spans: list[Span]) -> list[tuple[int, int]]:
    """Stretches of samples without a hole between them, in index order."""
    runs: list[tuple[int, int]] = []
    for span in spans:
        if span.stop > span.start:
            start = runs.pop()[0] if runs and runs[-1][1] == span.start else span.start
            runs.append((start, span.stop))
    return runs


def stamp_of(folder: Path) -> tuple[int, ...]:
    """What changes when there is more in a folder, and when its hub ends."""
    spans = spans_of(folder)
    with (folder / "journal").open("rb") as file:
        size, live = os.fstat(file.fileno()).st_size, not _try_lock(file.fileno(), fcntl.LOCK_SH)
    return size, len(spans), spans[-1].stop if spans else 0, live


def read_about(folder: Path) -> dict[str, Any]:
    """The first entry of a folder's journal."""
    with (folder / "journal").open("rb") as file:
        _, found = next(_entries(file.read(65536)), (0, {}))
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        raise ValueError(f"{folder}: not an archive of this version of rdahub")
    return found


def _entries(content: bytes) -> Iterator[tuple[int, Any]]:
    """Whole entries, and where each ends."""
    at = 0
    while at + _ENTRY.size <= len(content):
        length, check = _ENTRY.unpack_from(content, at)
        body = content[at + _ENTRY.size : at + _ENTRY.size + length]
        if not length or len(body) < length or zlib.crc32(body) != check:
            return
        at += _ENTRY.size + length
        yield at, msgpack.unpackb(body)


def _entry(value: Any) -> bytes:
    body: bytes = msgpack.packb(value)
    return _ENTRY.pack(len(body), zlib.crc32(body)) + body


def _try_lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Writer(Volume):
    """An instance's folder, written: begun, or gone on with where an earlier process was stopped.

    Parameters
    ----------
    folder : Path
    about : dict
        As the attribute, for a new folder.

    Raises
    ------
    BlockingIOError
        Another process writes here.
    """

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._journal_fd = os.open(folder / "journal", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._journal_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not any(_entries(os.pread(self._journal_fd, 65536, 0))):
            header = {"format": _FORMAT, **about}
            os.ftruncate(self._journal_fd, 0)
            _append(self._journal_fd, 0, _entry(header))
        super().__init__(folder)
        os.ftruncate(self._journal_fd, self._whole)
        self._samples_fd: int | None = None
        for span in self.spans:
            os.truncate(span.path, (span.stop - span.start) * span.n_channels * 4)

    def add_records(self, seq: int, records: list[Record], before: Segment | None) -> None:
        """Append records numbered from `seq` on; `before` as in `Events`, if some are left out."""
        content = b""
        if seq != self.journal.next_seq:
            lost = self._end_of_open_segment(before)
            content += b"".join(_entry([self.journal.next_seq, record_to_wire(end)]) for end in lost)
            content += _entry([seq, "resume", None if before is None else segment_to_wire(before)])
        content += b"".join(
            _entry([number, record_to_wire(record)]) for number, record in enumerate(records, seq)
        )
        self._whole += _append(self._journal_fd, self._whole, content)
        if seq != self.journal.next_seq:
            for end in lost:
                self.journal.append(end)
            self._leave_out(seq, before)
        for record in records:
            self.journal.append(record)

    def _end_of_open_segment(self, before: Segment | None) -> list[SegmentEnd]:
        """What stands for the end of a segment, if that is among the records left out."""
        segment = self.journal.segment
        if segment is None or segment.stop is not None:
            return []
        if before is not None and before.number == segment.number:
            return []
        stop = max(segment.start, self.next_index)
        return [SegmentEnd(replace(segment, stop=stop, ended=OVERWRITTEN), OVERWRITTEN)]

    def add_rows(self, segment: Segment, start: int, samples: Float32) -> None:
        """Append rows of a segment from sample `start` on."""
        span = self._span_for(segment, start)
        assert self._samples_fd is not None  # noqa: S101 - it is open now
        rows = np.ascontiguousarray(samples, "<f4")
        _append(self._samples_fd, (start - span.start) * span.n_channels * 4, rows.data.cast("B"))
        span.stop += len(samples)

    def _span_for(self, segment: Segment, start: int) -> Span:
        """The file that goes on at `start`, open; a new one after a hole and for a new segment."""
        span = self.spans[-1] if self.spans else None
        if span is None or span.stop != start or span.start < segment.start:
            os.fsync(self._journal_fd)  # no power failure leaves rows whose segment is not known
            path = self.folder / f"samples-{start:012d}-{segment.n_channels}.f32"
            span = Span(start, start, segment.n_channels, path)
            self.spans.append(span)
            self._close_samples()
        if self._samples_fd is None:
            self._samples_fd = os.open(span.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return span

    def sync(self) -> None:
        """Have it survive a loss of power too. May take as long as the disk likes."""
        for fd in (self._journal_fd, self._samples_fd):
            if fd is not None:
                os.fsync(fd)

    def close(self) -> None:
        """Let go; what is there stays."""
        self._close_samples()
        os.close(self._journal_fd)

    def _close_samples(self) -> None:
        if self._samples_fd is not None:
            os.close(self._samples_fd)
            self._samples_fd = None

    def _end_open_segment(self) -> None:
        """It goes on."""


def _append(fd: int, at: int, content: bytes | memoryview) -> int:
    """Write all of it at the end, which is `at`, or leave the file as it was."""
    left, end = memoryview(content), at
    try:
        while left:
            n = os.pwrite(fd, left, end)
            left, end = left[n:], end + n
    except OSError:
        with suppress(OSError):
            os.ftruncate(fd, at)
        raise
    return end - at
