"""A BrainVision recording (.vhdr, .vmrk, .eeg) as raw values, for the simulator to replay.

Rule: what the files say, in raw units and 0-based; a recording that cannot be read exactly is refused with
one sentence (`RecordingError`), never guessed at.
Not here: scaling, time, pacing (see `rdahub.simulator`), writing (`rdahub.recording`).

Format: BrainVision Core Data Format 1.0 and 2.0, Brain Products.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from rdahub.rda.messages import BlockMarker

__all__ = ["Recording", "RecordingError", "read"]

DEFAULT_UNIT: Final = "µV"  # the format's own default

# Markers travel in RDA's 32-bit fields; nothing longer can be replayed.
_MAX_INT: Final = 2**31 - 1

_TITLE: Final = re.compile(
    rb"(?:\xef\xbb\xbf)?Brain ?Vision.* (Header|Marker) File,? Version (\d+\.\d)", re.I
)
_COMMENT: Final = re.compile(rb"^[ \t]*\[comment\]", re.I | re.M)
_CODEPAGE: Final = re.compile(rb"^[ \t]*codepage[ \t]*=[ \t]*([^\r\n]*)", re.I | re.M)
_CODEPAGES: Final = {"utf-8": "utf-8-sig", "utf8": "utf-8-sig", "ansi": "cp1252"}
_FORMATS: Final = {"INT_16": "i2", "IEEE_FLOAT_32": "f4"}

Raw: TypeAlias = npt.NDArray[np.int16] | npt.NDArray[np.float32]


class RecordingError(ValueError):
    """A recording that cannot be read; the message names file and line or key, and what to do."""


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A recording in raw units: ``physical = resolution * raw``.

    Attributes
    ----------
    interval_us : float
        Sampling interval in microseconds.
    resolutions : tuple of float
        Physical value of one raw unit, one per channel; 1.0 where the file gives none.
    names : tuple of str
        Channel names.
    units : tuple of str
        Physical units as in the file; ``µV`` where the file gives none.
    raw : ndarray, shape (n_samples, n_channels), int16 or float32
        C order, read-only; memory-mapped where the file lies in that order.
    markers : tuple of BlockMarker
        In file order. `position` is the 0-based sample of the recording, `channel` 0-based, -1 for all.
    """

    interval_us: float
    resolutions: tuple[float, ...]
    names: tuple[str, ...]
    units: tuple[str, ...]
    raw: Raw
    markers: tuple[BlockMarker, ...] = ()

    @property
    def n_samples(self) -> int:
        """Number of samples (rows)."""
        return len(self.raw)

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return len(self.resolutions)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One ``key=value`` line and where it stands."""

    where: str
    key: str
    value: str

    def fields(self, count: int) -> list[str]:
        r"""Comma-separated fields, padded to `count`; ``\1`` stands for a comma in a text."""
        fields = [field.replace("\\1", ",") for field in self.value.split(",")]
        return fields + [""] * (count - len(fields))

    def integer(self, text: str, what: str, low: int, high: int = _MAX_INT) -> int:
        """`text` as an integer within [low, high]."""
        try:
            value: int | None = int(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            raise RecordingError(
                f"{self.where}: {what} is {text.strip()!r}; write a whole number from {low} to {high}"
            )
        return value

    def positive(self, text: str, what: str) -> float:
        """`text` as a finite number above zero."""
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value > 0):
            raise RecordingError(f"{self.where}: {what} is {text.strip()!r}; write a number above 0")
        return value


class _Sections:
    """The ``key=value`` lines of a header or marker file; names and keys without regard to case."""

    def __init__(self, path: Path, kind: str) -> None:
        self.path = path
        self._entries: dict[str, list[_Entry]] = {}
        section = ""
        for number, line in enumerate(re.split(r"\r\n|\n|\r", _text(path, kind)), start=1):
            text = line.strip()
            if number == 1 or not text or text.startswith(";"):
                continue
            if text.startswith("[") and text.endswith("]"):
                section = text[1:-1].strip().lower()
                continue
            key, separator, value = line.partition("=")
            if separator:
                entry = _Entry(f"{path}, line {number}", key.strip().lower(), value.strip())
                self._entries.setdefault(section, []).append(entry)

    def of(self, section: str) -> Iterator[_Entry]:
        """Every entry of a section, in file order."""
        yield from self._entries.get(section.lower(), ())

    def find(self, section: str, key: str) -> _Entry | None:
        """The one entry called `key`, or None."""
        found = [entry for entry in self.of(section) if entry.key == key.lower()]
        if len(found) > 1:
            raise RecordingError(f"{found[1].where}: {key} is given a second time; keep one of the two lines")
        return found[0] if found else None

    def need(self, section: str, key: str) -> _Entry:
        """As `find`, but missing is an error."""
        entry = self.find(section, key)
        if entry is None:
            raise RecordingError(f"{self.path}: {key} is missing; add a line {key}=... to [{section}]")
        return entry

    def choice(self, section: str, key: str, allowed: tuple[str, ...], default: str | None = None) -> str:
        """The value of `key`, one of `allowed`, in capitals."""
        if default is not None and self.find(section, key) is None:
            return default
        entry = self.need(section, key)
        if entry.value.upper() not in allowed:
            raise RecordingError(
                f"{entry.where}: {key}={entry.value} cannot be read here; "
                f"export the recording with {key}={' or '.join(allowed)}"
            )
        return entry.value.upper()


def read(path: str | Path) -> Recording:
    """Read a BrainVision recording in raw units.

    Parameters
    ----------
    path : str or Path
        The header file (.vhdr). Data and marker file are looked for where it says, beside it.

    Returns
    -------
    Recording

    Raises
    ------
    RecordingError
        Anything missing, malformed, or of a kind not read here (ASCII data, formats other than INT_16 and
        IEEE_FLOAT_32, frequency-domain data).
    """
    path = Path(path)
    header = _Sections(path, "header")
    common = "Common Infos"
    header.choice(common, "DataFormat", ("BINARY",), default="BINARY")
    header.choice(common, "DataType", ("TIMEDOMAIN",), default="TIMEDOMAIN")
    orientation = header.choice(
        common, "DataOrientation", ("MULTIPLEXED", "VECTORIZED"), default="MULTIPLEXED"
    )
    number = header.need(common, "NumberOfChannels")
    n_channels = number.integer(number.value, "NumberOfChannels", 1)
    interval = header.need(common, "SamplingInterval")
    interval_us = interval.positive(interval.value, "SamplingInterval")
    binary_format = header.choice("Binary Infos", "BinaryFormat", tuple(_FORMATS))
    big_endian = header.choice("Binary Infos", "UseBigEndianOrder", ("NO", "YES"), default="NO") == "YES"

    names, resolutions, units = [], [], []
    for channel in range(1, n_channels + 1):
        entry = header.need("Channel Infos", f"Ch{channel}")
        name, _reference, resolution, unit = entry.fields(4)[:4]
        names.append(name.strip())
        resolutions.append(
            entry.positive(resolution, f"the resolution of Ch{channel}") if resolution.strip() else 1.0
        )
        units.append(unit.strip() or DEFAULT_UNIT)

    data_path = _beside(path, header.need(common, "DataFile"))
    raw = _samples(data_path, n_channels, (">" if big_endian else "<") + _FORMATS[binary_format], orientation)
    marker_file = header.find(common, "MarkerFile")
    markers = () if marker_file is None or not marker_file.value else _markers(_beside(path, marker_file))
    return Recording(interval_us, tuple(resolutions), tuple(names), tuple(units), raw, markers)


def _text(path: Path, kind: str) -> str:
    """Text of a header or marker file up to its free-text [Comment]."""
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        why = error.strerror if isinstance(error, OSError) else error
        raise RecordingError(f"{path}: cannot read the {kind} file ({why}); check the path") from error
    title = _TITLE.match(content)
    if title is None or title[1].decode().lower() != kind:
        suffix = {"header": ".vhdr", "marker": ".vmrk"}[kind]
        raise RecordingError(
            f"{path}, line 1: this is not a BrainVision {kind} file; give the {suffix} of a recording"
        )
    if title[2] not in {b"1.0", b"2.0"}:
        raise RecordingError(
            f"{path}, line 1: version {title[2].decode()} is not known; export the recording as 1.0 or 2.0"
        )
    # The comment may hold any bytes, also of another encoding, and lines that look like sections.
    comment = _COMMENT.search(content)
    content = content[: comment.start()] if comment else content
    if b"\0" in content:
        line = content.count(b"\n", 0, content.index(b"\0")) + 1
        raise RecordingError(f"{path}, line {line}: a NUL in the text; the file is damaged, restore it")
    codepage = _CODEPAGE.search(content)
    if codepage is None:  # old files say nothing and are either
        encodings = ["utf-8-sig", "cp1252"]
    else:
        said = codepage[1].decode("ascii", "replace").strip()
        if said.lower() not in _CODEPAGES:
            raise RecordingError(f"{path}: Codepage={said} is not known; write UTF-8 or ANSI")
        encodings = [_CODEPAGES[said.lower()]]
    failure = 0
    for encoding in encodings:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError as error:
            failure = error.start
    line = content.count(b"\n", 0, failure) + 1
    raise RecordingError(
        f"{path}, line {line}: the text is not {encodings[-1].removesuffix('-sig')}; "
        "correct the Codepage line or save the file in that encoding"
    )


def _beside(header: Path, entry: _Entry) -> Path:
    """Path of a file that the header names; ``$b`` stands for the header's own name."""
    if not entry.value or "\0" in entry.value:
        raise RecordingError(f"{entry.where}: no usable file name; name a file beside the header")
    path = header.parent / entry.value.replace("$b", header.stem)
    try:
        found = path.is_file()
    except OSError:  # a name too long to be one
        found = False
    if not found:
        raise RecordingError(
            f"{entry.where}: there is no file {path}; put it there or correct the line (renamed recordings)"
        )
    return path


def _samples(path: Path, n_channels: int, dtype: str, orientation: str) -> Raw:
    kind = np.dtype(dtype)
    row = n_channels * kind.itemsize
    try:
        size = path.stat().st_size
        if size == 0:
            raise RecordingError(f"{path}: the data file is empty; there is nothing to replay")
        if size % row:
            raise RecordingError(
                f"{path}: {size} bytes are not a whole number of samples of {n_channels} channels "
                f"({row} bytes); the file is cut short, or NumberOfChannels or BinaryFormat is wrong"
            )
        shape = (size // row, n_channels)
        if orientation == "VECTORIZED":
            raw = np.ascontiguousarray(np.memmap(path, kind, "r", shape=shape[::-1]).T)
        else:
            raw = np.memmap(path, kind, "r", shape=shape)
    except OSError as error:
        raise RecordingError(f"{path}: cannot read the data file ({error.strerror}); check it") from error
    if not kind.isnative:
        raw = raw.astype(kind.newbyteorder("="))
    raw.flags.writeable = False
    return raw


def _markers(path: Path) -> tuple[BlockMarker, ...]:
    markers = []
    for entry in _Sections(path, "marker").of("Marker Infos"):
        if not re.fullmatch(r"mk\d+", entry.key):
            continue
        kind, description, position, points, channel = entry.fields(5)[:5]
        markers.append(
            BlockMarker(
                # Positions are 1-based in the file. 0 is met; it lies just before the first sample.
                position=entry.integer(position, "the marker's position", 0) - 1,
                points=entry.integer(points.strip() or "1", "the marker's length", 0),
                channel=entry.integer(channel.strip() or "0", "the marker's channel", 0) - 1,
                type=kind.strip(),
                description=description,
            )
        )
    return tuple(markers)
