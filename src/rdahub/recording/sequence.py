"""A hub's events as a sequence of file sets: one for each segment, or more if they shall not grow too large.

Rule: every sample of a set's range is in it, in its row; what is missing is rows of NaN with a marker that
says so, and what cannot be that is a new set. A marker is in the set that has its sample.
Not here: where events come from (`rdahub.commands.record`), how files are written (`fileset`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
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

_log = logging.getLogger("rdahub.record")


@dataclass(slots=True)
class Totals:
    """What one process has written."""

    samples: int = 0
    missing: int = 0
    markers: int = 0
    sets: int = 0


@dataclass(slots=True)
class _Open:
    """The segment being told, and its sets."""

    segment: Segment
    instance: str
    limit: int | None
    """Samples in one set."""
    done: list[Found] = field(default_factory=list)
    told: list[Marker] | None = None
    """After a resumption: all markers that are on disk and will not be told again."""


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
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        limit: Callable[[Segment], int | None],
        instant_of: Callable[[int], datetime],
        opened: Callable[[FileSet], None],
    ) -> None:
        self._folder = folder
        self._name = name
        self._limit = limit
        self._instant_of = instant_of
        self._opened = opened
        self._open: _Open | None = None
        self._files: FileSet | None = None
        self._found: list[Found] = []
        self._told: list[Marker] = []
        self._held: list[Marker] = []  # of a segment that has no sample yet
        self.totals = Totals()
        self.reached: tuple[int, Path] | None = None
        """Index after the last sample of the set finished last, and its header."""

    def resume(self, found: list[Found], told: list[Marker]) -> None:
        """Go on where the newest of these sets ends, if the stream tells that segment."""
        self._found, self._told = found, told

    @property
    def files(self) -> FileSet | None:
        """The set being written."""
        return self._files

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

    def end(self, why: str = "") -> None:
        """Finish the set under way."""
        self._finish(why)
        if self._held:
            _log.warning("markers of a segment without samples are not recorded: %s", self._held)
        self._held = []
        self._open = None

    def close(self) -> None:
        """Let go of the files as they are, to be resumed."""
        if self._files is not None:
            self._files.close()
            self._files = None

    # --- events --------------------------------------------------------------------------------------

    def _begin(self, segment: Segment, instance: str) -> None:
        sets = [each for each in self._found if each.segment == segment.number]
        told = self._told if sets else None
        self._found, self._told = [], []
        self._open = _Open(segment, instance, self._limit(segment), sets[:-1], told)
        for before in sets[-2:-1]:  # killed while it was being finished
            with closing(FileSet.reopen(before.path, before.start, before.n_channels)) as files:
                files.finish(carried=True)
        if sets:
            last = sets[-1]
            self._use(FileSet.reopen(last.path, last.start, last.n_channels, told))

    def _block(self, start: int, samples: Float32, markers: tuple[Marker, ...]) -> None:
        markers = (*self._held, *markers)
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
        """Rows ``[start, stop)`` by the sets they belong in."""
        while start < stop:
            files = self._files
            assert files is not None  # noqa: S101 - both callers have seen to it
            limit = stop if self._open is None or self._open.limit is None else files.start + self._open.limit
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
        self._use(
            FileSet.create(
                self._folder,
                folders.stem(self._name, segment, index, instant),
                segment,
                index,
                folders.facts(self._name, opened.instance, segment, index),
                instant,
                () if before is None else before.entries_beyond(index),
            )
        )
        if before is not None:
            before.finish(carried=True)
            opened.done.append(Found(segment.number, before.start, before.path, segment.n_channels))

    def _use(self, files: FileSet) -> None:
        self._files = files
        self.totals.sets += 1
        self._opened(files)

    def _finish(self, why: str) -> None:
        files, self._files = self._files, None
        if files is None:
            return
        if why:
            files.note(f"{why}; index after the last sample here: {files.stop}")
        self.reached = files.stop, files.path
        files.finish()
        if self._open is not None:
            opened = self._open
            opened.done.append(
                Found(opened.segment.number, files.start, files.path, opened.segment.n_channels)
            )

    def _mark(self, markers: tuple[Marker, ...]) -> None:
        files = self._files
        assert files is not None  # noqa: S101 - the caller has seen to it
        self.totals.markers += files.mark(marker for marker in markers if marker.index >= files.start)
        for marker in markers:
            if marker.index < files.start:
                self._mark_earlier(files, marker)
            if self._open is not None and self._open.told is not None:
                self._open.told.append(marker)

    def _mark_earlier(self, files: FileSet, marker: Marker) -> None:
        opened = self._open
        assert opened is not None  # noqa: S101 - as in `_create`
        holders = (found for found in opened.done if found.start <= marker.index < found.stop)
        for found in holders:
            with closing(FileSet.reopen(found.path, found.start, found.n_channels, opened.told)) as earlier:
                self.totals.markers += earlier.mark([marker])
                earlier.finish()
            return
        # The format has no position before the first.
        entry = text.entry(marker, files.start)
        _log.warning("a marker before the first sample recorded is a comment in the marker file: %s", entry)
        files.note(f"before the first sample: {entry}")
