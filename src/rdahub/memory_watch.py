"""How much memory the hub itself uses beside the history, and how much it may still take.

Rule: it measures and gives back; what to do about too much is for `entrance` and `storage`. Linux only:
elsewhere it is not known, and nothing is done about it.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Final

from rdahub import limits

__all__ = ["give_back", "own_bytes", "room"]

_STATM: Final = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC) if sys.platform == "linux" else None
"""Open for good: a look must be possible when every descriptor is taken."""
_CGROUP: Final = Path("/proc/self/cgroup")
_GROUPS: Final = Path("/sys/fs/cgroup")


def own_bytes() -> int:
    """Resident memory that is neither shared (the history is) nor a file's; 0 where it is not known."""
    if _STATM is None:
        return 0
    _, resident, shared, *_ = os.pread(_STATM, 200, 0).split()
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def give_back() -> None:
    """Return freed memory to the system: after a flood of small messages glibc would keep all of it."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)


def room() -> int | None:
    """Bytes that a control group (a container, a systemd unit) still allows; None if it sets no limit."""
    rooms = [left for folder, names in _groups() if (left := _left(folder, *names)) is not None]
    return max(0, min(rooms) - limits.MEMORY_RESERVE) if rooms else None


def _groups() -> list[tuple[Path, tuple[str, str]]]:
    """Folders of this process's memory control groups, with the names of limit and usage in them."""
    v1, v2 = ("memory.limit_in_bytes", "memory.usage_in_bytes"), ("memory.max", "memory.current")
    found = []
    try:
        lines = _CGROUP.read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            base, names = _GROUPS / "memory", v1
        elif not controllers:
            base, names = _GROUPS, v2
        else:
            continue
        # In a container the path is the host's, and the group is mounted at the base. Limits above count too.
        folder = base / path.lstrip("/")
        found += [(each, names) for each in (folder, *folder.parents) if each.is_relative_to(base)]
    return found


def _left(folder: Path, limit_name: str, usage_name: str) -> int | None:
    try:
        limit = int((folder / limit_name).read_text())
        usage = int((folder / usage_name).read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None  # no such group, or "max"
    if limit > 1 << 60:  # how version 1 says that there is none
        return None
    return limit - usage + int(stat.get("total_inactive_file", stat.get("inactive_file", "0")))
