"""File sets that earlier processes left in a folder, how new ones are called, and the room there is.

Rule: only sets that say themselves whose they are count; whatever else lies in the folder is left alone.
Not here: writing (`fileset`).
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rdahub.recording import text
from rdahub_client.records import Segment

__all__ = ["Found", "facts", "find", "room", "stem"]


@dataclass(frozen=True, slots=True)
class Found:
    """A file set of one hub instance."""

    segment: int
    start: int
    path: Path
    n_channels: int

    @property
    def stop(self) -> int:
        """Index after its last whole row."""
        return self.start + self.path.with_suffix(".eeg").stat().st_size // (4 * self.n_channels)


def stem(name: str, segment: Segment, start: int, instant: datetime) -> str:
    """What a set is called: it sorts by time and tells segment and first index."""
    return f"{name}_{instant.astimezone(UTC):%Y%m%dT%H%M%SZ}_seg{segment.number:03d}_{start:012d}"


def facts(name: str, instance: str, segment: Segment, start: int) -> dict[str, Any]:
    """What a header says for `find`, and for people."""
    return {
        "name": name,
        "instance": instance,
        "segment": segment.number,
        "start": start,
        "n_channels": segment.n_channels,
        "ch_names": segment.ch_names,
        "amplifier_resolutions": segment.resolutions,
    }


def find(folder: Path, name: str, instance: str) -> list[Found]:
    """Sets of this name and hub instance, oldest first."""
    found = []
    for path in folder.glob("*.vhdr"):
        try:
            said = text.facts_of(path.read_text(encoding="utf-8", errors="replace"))
        except OSError:  # a link to nowhere, somebody else's
            continue
        if said is None or said.get("name") != name or said.get("instance") != instance:
            continue
        if all(path.with_suffix(suffix).is_file() for suffix in (".eeg", ".vmrk")):
            found.append(Found(said["segment"], said["start"], path, said["n_channels"]))
    return sorted(found, key=lambda each: (each.segment, each.start, each.stop))


def room(folder: Path) -> int:
    """Bytes that may still be written there."""
    return shutil.disk_usage(folder).free
