"""How much memory the hub itself uses, beside the history.

Rule: it measures and gives back; what to do about too much is for `service`. Linux only: elsewhere it is not
known, and nothing is done about it.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Final

__all__ = ["give_back", "own_bytes"]

_STATM: Final = Path("/proc/self/statm")


def own_bytes() -> int:
    """Resident memory that is neither shared (the history is) nor a file's; 0 where it is not known."""
    if sys.platform != "linux":
        return 0
    _, resident, shared, *_ = _STATM.read_bytes().split()
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def give_back() -> None:
    """Return freed memory to the system: after a flood of small messages glibc would keep all of it."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)
