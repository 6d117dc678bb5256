"""A hub's events as a sequence of file sets: one for each segment, or more if they shall not grow too large.

Rule: every sample of a set's range is in it, in its row; what is missing is rows of NaN with a marker that
says so, and what cannot be that is a new set. A marker is in the set that has its sample.
Not here: where events come from (`rdahub.commands.record`), how files are written (`fileset`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np

from rdahub.recording import folder as folders
from rdahub.recording import text
from rdahub.recording.fileset import FileSet
from rdahub.recording.folder import Found
from rdahub_client.records import Block, Event, Float32, Gap, Marker, Segment, SegmentEnd, SegmentStart

__all__ = ["MOST_MISSING", "Sequence", "Totals"]

MOST_MISSING: Final = 3600.0
"""Seconds of a hole that is filled with NaN; a longer one is left out and a new set begins behind it."""
_PIECE: Final = 1 << 20  # bytes of NaN written at once
_EVER: Final = 1 << 62

_log = logging.getLogger("rdahub.record")


@dataclass(slots=True)
class Totals:
    """What one process has written."""

    samples: int = 0
    missing: int = 0
    markers: int = 0
    sets: int = 0

    @property
    def rows(self) -> int:
        """Samples in the files, missing ones included."""
        return self.samples + self.missing


@dataclass(slots=True)
class _Open:
    """The segment being told, and its sets."""

    segment: Segment
    instance: str
    limit: int | None
    """Samples in one set."""


class Sequence:
    """Takes events in the order of `Client.stream`, writes them at once.

    Parameters
    ----------
    folder : Path
    name : str
        What the names of all files begin with.
    limit : callable
        ``limit(segment)``: samples in one file set, or None.
    instant_of : callable
        ``instant_of(index)``: when a sample was taken, as far as is known.
    opened : callable
        ``opened(files)`` is called for every set that is written to, before it is.
    most : callable
        ``most(segment)``: rows to write in all, by the first segment that has any, or None.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        limit: Callable[[Segment], int | None],
        instant_of: Callable[[int], datetime],
        opened: Callable[[FileSet], None],
        most: Callable[[Segment], int | None] = lambda segment: None,  # noqa: ARG005
    ) -> None:
        self._folder = folder
        self._name = name
        self._limit = limit
        self._most = most
        self._wanted = _EVER  # rows in all
        self._instant_of = instant_of
        self._opened = opened
        self._open: _Open | None = None
        self._files: FileSet | None = None
        self._instance = ""
        self._done: list[Found] = []  # all its sets but the one being written
        self._told: list[Marker] | None = None  # after a resumption: those on disk, not to be told again
        self._resumed_at = -1
        self._held: list[Marker] = []  # of a segment that has no sample yet
        self._ahead: tuple[int, list[str]] = 0, []  # start of the set finished last, its entries without rows
        self.totals = Totals()
        self.reached: tuple[int, Path] | None = None
        """Index after the last sample of the set finished last, and its header."""

    def resume(self, instance: str, found: list[Found], told: list[Marker]) -> None:
        """Go on where the newest of these sets ends, if the stream tells that segment."""
        self._instance, self._done, self._told = instance, [*found], [*told]
        self._resumed_at = found[-1].stop

    @property
    def files(self) -> FileSet | None:
        """The set being written."""
        return self._files

    @property
    def full(self) -> bool:
        """Whether as much is written as shall be."""
        return self.totals.rows >= self._wanted

    @property
    def segment(self) -> Segment | None:
        """The segment being told."""
        return None if self._open is None else self._open.segment

    def take(self, event: Event, instance: str) -> None:
        """Write an event of a hub's instance.

        Raises
        ------
        OSError
            It cannot be written. All before it is, and those of its rows that fit.
        """
        match event:
            case SegmentStart(segment):
                self._begin(segment, instance)
            case Block(start, _, samples, markers):
                self._block(start, samples, markers)
            case Gap():
                self._gap(event)
            case SegmentEnd(_, reason):
                self.end(f"segment {event.segment.number} ended: {reason}")

    def sync(self) -> None:
        """See that all of it outlives the machine."""
        if self._files is not None:
            self._files.sync()

    def end(self, why: str = "", late: Iterable[Marker] = ()) -> None:
        """Finish the set under way. `late` markers are of no block, but may stand on a sample recorded."""
        self._finish(why)
        for marker in (*self._held, *late):
            if not self._mark_done(marker):
                _log.warning("a marker that stands on no sample recorded is in no file: %s", marker)
            self._note_told(marker)
        self._held = []
        self._open = None

    def close(self) -> None:
        """Let go of the files as they are, to be resumed."""
        if self._files is not None:
            self._files.close()
            self._files = None

    # --- events --------------------------------------------------------------------------------------

    def _begin(self, segment: Segment, instance: str) -> None:
        if instance != self._instance:
            self._instance, self._done, self._told, self._resumed_at = instance, [], None, -1
            self._ahead = 0, []
        self._open = _Open(segment, instance, self._limit(segment))
        sets = [each for each in self._done if each.segment == segment.number]
        if not sets:
            return
        last = sets[-1]
        for before in sets[-2:-1]:  # killed while it was being finished
            if before.stop == last.start:
                with closing(FileSet.reopen(before.path, before.start, before.n_channels)) as files:
                    files.finish(carried=True)
        self._done.remove(last)
        self._use(FileSet.reopen(last.path, last.start, last.n_channels, self._told))

    def _block(self, start: int, samples: Float32, markers: tuple[Marker, ...]) -> None:
        # Those of blocks before are on disk; a stream tells again which of them stand on samples to come.
        markers = (*self._held, *(marker for marker in markers if marker.block >= self._resumed_at))
        if self._files is None and not len(samples):
            self._held = [*markers]
            return
        self._held = []
        if self._files is None:
            self._create(start)
            said = next((marker for marker in markers if text.is_new_segment(marker, start)), None)
            markers = tuple(marker for marker in markers if marker is not said)
        self._mark(markers)
        for files, first, stop in self._parts(start, start + len(samples)):
            files.extend(samples[first - start : stop - start])
            self.totals.samples += stop - first

    def _gap(self, gap: Gap) -> None:
        opened = self._open
        if opened is None or self._files is None:
            _log.warning("samples [%d, %d) are not recorded: %s", gap.start, gap.stop, gap.reason)
            return
        seconds = (gap.stop - gap.start) / opened.segment.sfreq
        _log.warning("gap of %g s: samples [%d, %d), %s", seconds, gap.start, gap.stop, gap.reason)
        if seconds > MOST_MISSING:
            self._finish(f"samples [{gap.start}, {gap.stop}) are missing ({gap.reason}), too many to fill in")
            return
        n_channels = opened.segment.n_channels
        nothing = np.full((max(1, _PIECE // (4 * n_channels)), n_channels), np.nan, np.float32)
        for files, first, stop in self._parts(gap.start, gap.stop):
            files.mark([text.bad_interval(Gap(first, stop, gap.reason))])
            for at in range(first, stop, len(nothing)):
                files.extend(nothing[: stop - at])
            self.totals.missing += stop - first

    # --- sets ----------------------------------------------------------------------------------------

    def _parts(self, start: int, stop: int) -> Iterator[tuple[FileSet, int, int]]:
        """Rows ``[start, stop)`` by the sets they belong in, as far as they are wanted."""
        opened = self._open
        assert opened is not None  # noqa: S101 - blocks and gaps to be filled come within segments
        if not self.totals.rows:
            self._wanted = self._most(opened.segment) or _EVER
        stop = min(stop, start + self._wanted - self.totals.rows)
        while start < stop:
            files = self._files
            assert files is not None  # noqa: S101 - both callers have seen to it
            limit = stop if opened.limit is None else files.start + opened.limit
            if start >= limit:
                self._create(start, files)
                continue
            yield files, start, min(stop, limit)
            start = min(stop, limit)

    def _create(self, index: int, before: FileSet | None = None) -> None:
        """Begin a set at `index`, and finish the one `before` it: never a moment without its markers."""
        opened = self._open
        assert opened is not None  # noqa: S101 - blocks come within segments
        instant = self._instant_of(index)
        segment = opened.segment
        first, entries = self._ahead
        ahead = text.beyond(entries, index - first) if before is None else before.entries_beyond(index)
        self._use(
            FileSet.create(
                self._folder,
                folders.stem(self._name, segment, index, instant),
                segment,
                index,
                folders.facts(self._name, opened.instance, segment, index),
                instant,
                ahead,
            )
        )
        if before is not None:
            before.finish(carried=True)
            self._done.append(Found(segment.number, before.start, before.path, segment.n_channels))

    def _use(self, files: FileSet) -> None:
        self._files = files
        self.totals.sets += 1
        self._opened(files)

    def _finish(self, why: str) -> None:
        files = self._files
        if files is None:
            return
        reached = files.stop, files.path
        if why:
            files.note(f"{why}; index after the last sample here: {files.stop}")
        self._ahead = files.start, files.finish()
        for each in self._ahead[1]:
            _log.warning(
                "a marker after the last sample is a comment in the marker file, "
                "and a marker in the next file if its sample comes: %s",
                each,
            )
        self._files, self.reached = None, reached
        if self._open is not None:
            segment = self._open.segment
            self._done.append(Found(segment.number, files.start, files.path, segment.n_channels))

    def _mark(self, markers: tuple[Marker, ...]) -> None:
        files = self._files
        assert files is not None  # noqa: S101 - the caller has seen to it
        self.totals.markers += files.mark(marker for marker in markers if marker.index >= files.start)
        for marker in markers:
            if marker.index < files.start and not self._mark_done(marker):
                # The format has no position before the first.
                entry = text.entry(marker, files.start)
                _log.warning(
                    "a marker before the first sample recorded is a comment in the marker file: %s", entry
                )
                files.note(f"before the first sample: {entry}")
            self._note_told(marker)

    def _note_told(self, marker: Marker) -> None:
        if self._told is not None:
            self._told.append(marker)

    def _mark_done(self, marker: Marker) -> bool:
        """Add a marker to the set that has its sample, if one is done."""
        for found in self._done:
            with suppress(FileNotFoundError):  # somebody has moved it away
                if found.start <= marker.index < found.stop:
                    set_ = FileSet.reopen(found.path, found.start, found.n_channels, self._told)
                    with closing(set_) as files:
                        self.totals.markers += files.mark([marker])
                        files.finish()
                    return True
        return False
