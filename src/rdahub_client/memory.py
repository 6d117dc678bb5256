"""Memory that appears twice, back to back, for a `Ring`.

Rule: POSIX maps one file twice at neighbouring addresses; where that cannot be had (Windows) the ring is
twice as large and its writer writes twice. Nothing is unmapped under a live view: an array keeps its mapping.

Not here: names, owners and files that outlive a process (`shared`).
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import weakref
from math import gcd
from typing import Any, Final

import numpy as np

from rdahub_client.records import Float32
from rdahub_client.ring import Ring

__all__ = ["MIRRORS", "map_rows", "private_ring", "round_capacity"]

MIRRORS: Final = os.name == "posix"
"""Whether this platform can map a file twice at neighbouring addresses."""

_PAGE: Final = mmap.ALLOCATIONGRANULARITY
_MAP_FIXED: Final = 0x10  # Linux, macOS and the BSDs agree
_FAILED: Final = ctypes.c_void_p(-1).value


def round_capacity(rows: int, n_channels: int) -> int:
    """Least number of rows, at least `rows`, that fills whole pages."""
    row_bytes = 4 * n_channels
    step = _PAGE // gcd(_PAGE, row_bytes)
    return -(-max(rows, 1) // step) * step


def private_ring(capacity: int, n_channels: int, start: int) -> Ring:
    """Ring in this process's own memory, at least `capacity` rows. Pages are taken as they are written."""
    if MIRRORS and hasattr(os, "memfd_create"):
        capacity = round_capacity(capacity, n_channels)
        size = capacity * n_channels * 4
        fd = os.memfd_create("rdahub-window", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, size)
            rows = map_rows(fd, 0, capacity, n_channels, writable=True)
        finally:
            os.close(fd)
        return Ring(rows, start, mirrored=True)
    return Ring(np.zeros((2 * capacity, n_channels), np.float32), start, mirrored=False)


def map_rows(fd: int, offset: int, capacity: int, n_channels: int, *, writable: bool) -> Float32:
    """Map `capacity` rows of a file twice, back to back.

    Parameters
    ----------
    fd : int
        File of at least ``offset + capacity * n_channels * 4`` bytes.
    offset, capacity : int
        Both on page boundaries (`round_capacity`).

    Returns
    -------
    rows : ndarray of float32, shape (2 * capacity, n_channels)
        Unmapped when the last view of it is gone.
    """
    mapping = _Mirror(fd, offset, capacity * n_channels * 4, writable=writable)
    return np.asarray(mapping).view(np.float32).reshape(2 * capacity, n_channels)


class _Mirror:
    """Owner of one double mapping; numpy keeps it alive through ``__array_interface__``."""

    def __init__(self, fd: int, offset: int, size: int, *, writable: bool) -> None:
        libc = _libc()
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        # One reservation of twice the size keeps the second half from being taken by somebody else.
        base = libc.mmap(None, 2 * size, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        if base == _FAILED:
            raise _last_error()
        self._unmap = weakref.finalize(self, libc.munmap, base, 2 * size)
        self._unmap.atexit = False  # views may outlive this module at exit; the kernel unmaps
        for start in (base, base + size):
            if libc.mmap(start, size, protection, mmap.MAP_SHARED | _MAP_FIXED, fd, offset) == _FAILED:
                raise _last_error()
        self.__array_interface__: dict[str, Any] = {
            "version": 3,
            "shape": (2 * size,),
            "typestr": "|u1",
            "data": (base, not writable),
        }


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int64 if sys.maxsize > 2**32 else ctypes.c_long,
    ]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return libc
