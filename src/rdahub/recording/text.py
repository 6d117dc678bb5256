r"""The words of BrainVision's header and marker files.

Rule: pure; what is written here is read back unchanged by MNE-Python, pybv's and our own reader. A comma in a
text is ``\1``; a line break, which the format cannot hold, is a space. Positions count from 1.
Not here: files (`fileset`), which marker goes where (`sequence`), reading recordings (`rdahub.brainvision`).

Format: BrainVision Core Data Format 1.0, Brain Products.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import chain, count
from typing import Any, Final

import numpy as np

from rdahub_client.records import Gap, Marker, Segment

__all__ = [
    "NEW_SEGMENT",
    "bad_interval",
    "beyond",
    "entry",
    "facts_of",
    "header",
    "is_new_segment",
    "marker_file",
    "new_segment",
    "numbered",
    "position_of",
    "without_date",
]

NEW_SEGMENT: Final = "New Segment"
_FACTS: Final = "rdahub="
_GREEK: Final = "\u03bc"
_MICRO: Final = "\u00b5"  # the other code of this sign, which readers know
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]+")

_HEADER: Final = """\
Brain Vision Data Exchange Header File Version 1.0
; Written by rdahub

[Common Infos]
Codepage=UTF-8
DataFile={stem}.eeg
MarkerFile={stem}.vmrk
DataFormat=BINARY
; Data orientation: MULTIPLEXED=ch1,pt1, ch2,pt1 ...
DataOrientation=MULTIPLEXED
NumberOfChannels={n_channels}
; Sampling interval in microseconds
SamplingInterval={interval}

[Binary Infos]
BinaryFormat=IEEE_FLOAT_32

[Channel Infos]
; Each entry: Ch<Channel number>=<Name>,<Reference channel name>,
; <Resolution in "Unit">,<Unit>, Future extensions..
; Fields are delimited by commas, some fields might be omitted (empty).
; Commas in channel names are coded as "\\1".
{channels}

[Comment]

{facts}
"""

_MARKER_FILE: Final = """\
Brain Vision Data Exchange Marker File, Version 1.0
; Written by rdahub

[Common Infos]
Codepage=UTF-8
DataFile={stem}.eeg

[Marker Infos]
; Each entry: Mk<Marker number>=<Type>,<Description>,<Position in data points>,
; <Size in data points>, <Channel number (0 = marker is related to all channels)>,
; <Date (YYYYMMDDhhmmssuuuuuu), UTC>
; Fields are delimited by commas, some fields might be omitted (empty).
; Commas in type or description text are coded as "\\1".
"""


def _field(text: str) -> str:
    # MNE takes the header apart at "[Comment]", wherever that stands.
    return _CONTROL.sub(" ", text).replace(",", "\\1").replace("[Comment]", "(Comment)")


def _number(value: float) -> str:
    return str(np.format_float_positional(value, trim="-"))


def header(stem: str, segment: Segment, facts: Mapping[str, Any]) -> str:
    """Text of a .vhdr: float32 in the segment's units, one row after the other.

    Parameters
    ----------
    stem : str
        Name of the three files without suffix.
    segment : Segment
        Layout.
    facts : mapping
        What `facts_of` gives back; kept under ``[Comment]``.
    """
    channels = [
        f"Ch{number}={name},,1,{_field(unit.replace(_GREEK, _MICRO))}"
        for number, (name, unit) in enumerate(
            zip(_names(segment.ch_names), segment.units, strict=True), start=1
        )
    ]
    return _HEADER.format(
        stem=stem,
        n_channels=segment.n_channels,
        interval=_number(segment.sampling_interval_us),
        channels="\n".join(channels),
        facts=_FACTS + json.dumps(dict(facts)).replace("[Comment]", "\\u005bComment]"),
    )


def _names(names: Iterable[str]) -> list[str]:
    """Names as the file can hold them, each once: MNE refuses a file that has one twice."""
    given: list[str] = []
    for number, name in enumerate(names, start=1):
        base = _field(name).strip() or f"Ch{number}"
        others = (f"{base}-{again}" for again in count(2))
        given.append(next(each for each in chain([base], others) if each not in given))
    return given


def facts_of(header_text: str) -> dict[str, Any] | None:
    """The facts in a header written by `header`; None in any other."""
    for line in reversed(header_text.splitlines()):
        if line.startswith(_FACTS):
            try:
                facts = json.loads(line.removeprefix(_FACTS))
            except ValueError:
                return None
            return facts if isinstance(facts, dict) else None
    return None


def marker_file(stem: str, entries: Iterable[str]) -> str:
    """Text of a .vmrk with these entries."""
    return _MARKER_FILE.format(stem=stem) + numbered(entries)


def numbered(entries: Iterable[str], first: int = 1) -> str:
    """Lines ``Mk<number>=<entry>``."""
    return "".join(f"Mk{number}={each}\n" for number, each in enumerate(entries, first))


def entry(marker: Marker, start: int) -> str:
    """A marker in a file whose first sample has index `start`."""
    position = marker.index - start + 1
    kind, description = _field(marker.type), _field(marker.description)
    return f"{kind},{description},{position},{marker.points},{marker.channel + 1}"


def new_segment(instant: datetime) -> str:
    """What a marker file begins with: when its first sample was taken. MNE reads it as UTC."""
    return f"{NEW_SEGMENT},,1,1,0,{instant.astimezone(UTC):%Y%m%d%H%M%S%f}"


def is_new_segment(marker: Marker, start: int) -> bool:
    """Whether a Recorder's marker says no more than `new_segment` does."""
    return entry(marker, start) == f"{NEW_SEGMENT},,1,1,0"


def bad_interval(gap: Gap) -> Marker:
    """A gap as the format's ``Bad Interval``; MNE rejects what overlaps it."""
    return Marker(gap.start, gap.stop - gap.start, -1, "Bad Interval", f"gap ({gap.reason})")


def position_of(entry: str) -> int:
    """Where an entry stands, from 1."""
    return int(entry.split(",")[2])


def beyond(entries: Iterable[str], rows: int) -> list[str]:
    """Entries that stand after so many rows, as in a file that begins there."""
    behind = (each.split(",") for each in entries if position_of(each) > rows)
    return [",".join([*fields[:2], str(int(fields[2]) - rows), *fields[3:]]) for fields in behind]


def without_date(entry: str) -> str:
    """An entry as `entry` writes it."""
    return ",".join(entry.split(",")[:5])
