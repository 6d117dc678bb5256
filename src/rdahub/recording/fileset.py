"""One BrainVision file set (.vhdr, .vmrk, .eeg) that grows and can be read at any moment.

Rule: the header is there, whole, before the first row; rows and marker lines go to the system at once, whole
or not at all, a block's markers before its rows. So a process that is killed leaves a readable recording, and
its markers may be ahead of its rows but never behind. `sync` is for the case that the machine itself fails.
Row ``i`` is sample ``start + i``, always; the size of .eeg says how many there are.
Not here: the text (`text`), which sample belongs into which set (`sequence`).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from datetime import datetime
from io import FileIO
from itertools import count
from pathlib import Path
from typing import Any, Final

import numpy as np

from rdahub.recording import text
from rdahub_client.errors import RdaHubError
from rdahub_client.records import Float32, Marker, Segment

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:  # Windows: there, nothing tells that two write the same files
    flock = None  # type: ignore[assignment]

__all__ = ["FileSet", "InUse"]

_ENTRY: Final = re.compile(r"^Mk\d+=(.*)$", re.MULTILINE)
_NOTE: Final = re.compile(r"^; rdahub: (?!after the last sample: ).*$", re.MULTILINE)
_AHEAD: Final = re.compile(r"^; rdahub: after the last sample: (.*)$", re.MULTILINE)
"""An entry that `finish` found no row for: the format has no place for it."""


class InUse(RdaHubError):
    """Another process writes these files."""


class FileSet:
    """Three files of one segment, open for more; made by `create` or `reopen`.

    Attributes
    ----------
    path : Path
        The header.
    start, stop : int
        Indices of the samples in it, half-open.
    """

    def __init__(self, path: Path, start: int, n_channels: int) -> None:
        self.path = path
        self.start = start
        self.row_bytes = 4 * n_channels
        self._known: Counter[str] = Counter()
        with ExitStack() as stack:
            self._rows = stack.enter_context(FileIO(path.with_suffix(".eeg"), "a"))
            if flock is not None:
                try:
                    flock(self._rows.fileno(), LOCK_EX | LOCK_NB)
                except BlockingIOError:
                    raise InUse(
                        f"{path.with_suffix('.eeg')} is being written by another process; "
                        "choose another --name"
                    ) from None
            self._lines = stack.enter_context(FileIO(path.with_suffix(".vmrk"), "a"))
            self._files = stack.pop_all()
        self._number = len(self._entries()) + 1
        self._synced = True

    @classmethod
    def create(
        cls,
        folder: Path,
        stem: str,
        segment: Segment,
        start: int,
        facts: dict[str, Any],
        instant: datetime,
        entries: Iterable[str] = (),
    ) -> FileSet:
        """A new set under a name that is not taken yet, without rows.

        Parameters
        ----------
        stem : str
            Name of the files, if there are none of that name; otherwise with a number behind it.
        start : int
            Index of the first sample to come.
        facts : dict
            Kept in the header.
        instant : datetime
            When the first sample was taken.
        entries : iterable of str
            Markers on samples to come that are known already.
        """
        path = _claim(folder, stem)
        try:
            _put(
                path.with_suffix(".vmrk"), text.marker_file(path.stem, [text.new_segment(instant), *entries])
            )
            _put(path, text.header(path.stem, segment, facts))
            return cls(path, start, segment.n_channels)
        except OSError:
            for suffix in (".vhdr", ".vmrk", ".eeg"):
                with suppress(OSError):
                    path.with_suffix(suffix).unlink()
            raise

    @classmethod
    def reopen(cls, path: Path, start: int, n_channels: int, told: Iterable[Marker] | None = None) -> FileSet:
        """A set to go on with; a torn row or line at its end is cut off, markers ahead of its rows are back.

        Parameters
        ----------
        told : iterable of Marker, optional
            After a process that was killed: the markers of all blocks whose rows are on disk. What else is in
            the marker file belongs to rows that are not; it will be told again, and is not taken twice.
        """
        files = cls(path, start, n_channels)
        files._cut()
        lines = path.with_suffix(".vmrk").read_bytes()
        files._lines.truncate(lines.rfind(b"\n") + 1)
        entries = files._entries()
        ahead = Counter(_AHEAD.findall(files._text())) - Counter(entries)  # some are, if it was killed here
        files._append(text.numbered(ahead.elements(), len(entries) + 1))
        entries += ahead.elements()
        files._number = len(entries) + 1
        if told is not None:
            files._known = Counter(map(text.without_date, entries))
            files._known -= Counter(text.entry(marker, start) for marker in told)
        return files

    @property
    def stop(self) -> int:
        """Index after the last whole row on disk."""
        return self.start + os.fstat(self._rows.fileno()).st_size // self.row_bytes

    def mark(self, markers: Iterable[Marker]) -> int:
        """Add markers, in the order they come; returns how many. None may lie before `start`."""
        entries = [text.entry(marker, self.start) for marker in markers]
        fresh = [each for each in entries if not self._knows(each)]
        self._append(text.numbered(fresh, self._number))
        self._number += len(fresh)
        return len(fresh)

    def note(self, sentence: str) -> None:
        """Add a remark to the marker file, for people."""
        self._append(f"; rdahub: {sentence}\n")

    def extend(self, samples: Float32) -> None:
        """Add rows. If the disk is full, those that fit stay."""
        self._synced = False
        try:
            _write(self._rows, np.ascontiguousarray(samples, "<f4").data.cast("B"))
        except OSError:
            self._cut()
            raise

    def sync(self) -> None:
        """See that all of it outlives the machine."""
        if not self._synced:
            os.fsync(self._lines.fileno())
            os.fsync(self._rows.fileno())
            self._synced = True

    def entries_beyond(self, index: int) -> list[str]:
        """Entries that stand on or after `index`, for a set that begins there."""
        return text.beyond(self._entries(), index - self.start)

    def finish(self, *, carried: bool = False) -> list[str]:
        """Put the markers in order, for readers that expect it, and close.

        Markers beyond the last row become comments, until it is gone on with.

        Parameters
        ----------
        carried : bool
            Markers beyond the last row are in the next set by now.

        Returns
        -------
        ahead : list of str
            Entries that are comments now.
        """
        entries = self._entries()
        n = max(1, self.stop - self.start)
        ahead = [] if carried else [each for each in entries if text.position_of(each) > n]
        tidy = sorted((each for each in entries if text.position_of(each) <= n), key=text.position_of)
        notes = _NOTE.findall(self._text()) + [f"; rdahub: after the last sample: {each}" for each in ahead]
        content = text.marker_file(self.path.stem, tidy) + "".join(f"{note}\n" for note in notes)
        if content != self._text():
            _put(self.path.with_suffix(".vmrk"), content)
        self.sync()
        self.close()
        return ahead

    def close(self) -> None:
        """Let go of the files as they are."""
        self._files.close()

    def _knows(self, entry: str) -> bool:
        if not self._known[entry]:
            return False
        self._known[entry] -= 1
        return True

    def _cut(self) -> None:
        """Leave whole rows only."""
        self._rows.truncate((self.stop - self.start) * self.row_bytes)

    def _text(self) -> str:
        return self.path.with_suffix(".vmrk").read_text(encoding="utf-8")

    def _entries(self) -> list[str]:
        return _ENTRY.findall(self._text())

    def _append(self, lines: str) -> None:
        if not lines:
            return
        self._synced = False
        size = os.fstat(self._lines.fileno()).st_size
        try:
            _write(self._lines, memoryview(lines.encode()))
        except OSError:
            self._lines.truncate(size)
            raise


def _claim(folder: Path, stem: str) -> Path:
    """Header of a set that nobody has; its .eeg is there from now on, so that nobody else takes it."""
    for number in count(1):
        path = folder / f"{stem}{f'-{number}' * (number > 1)}.vhdr"
        if any(path.with_suffix(suffix).exists() for suffix in (".vhdr", ".vmrk")):
            continue
        with suppress(FileExistsError), FileIO(path.with_suffix(".eeg"), "x"):
            return path
    raise AssertionError


def _put(path: Path, content: str) -> None:
    """A whole file or none, in the place of one that may be there."""
    draft = path.with_name(f".{path.name}.tmp")
    try:
        with FileIO(draft, "w") as file:
            _write(file, memoryview(content.encode()))
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def _write(file: FileIO, data: memoryview) -> None:
    while data:
        data = data[file.write(data) :]
