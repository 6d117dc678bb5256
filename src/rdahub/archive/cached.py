"""The archive's samples that the system has in memory, read by the hub itself, without asking the process.

Rule: nothing here waits for a disk. The process opens the files and passes them over a pair of sockets. What
is read must be in the page cache, all of it (mincore), and is read without waiting (RWF_NOWAIT): that alone
would have the disk read ahead, and wait for its queue if that is full. Whatever cannot be had so, and
everything on systems and file systems without such a read, the process is asked for.
Not here: what may be asked (`keeper`), the files (`volume`).
"""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import struct
from bisect import bisect_right
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np

from rdahub_client.records import Float32
from rdahub_client.wire import PAGE_BYTES

if TYPE_CHECKING:
    from rdahub.archive.volume import Span  # of the process, and POSIX only

__all__ = ["AT_ONCE", "FILES", "Cached", "pass_span"]

AT_ONCE: Final = hasattr(os, "RWF_NOWAIT")
"""Whether there is a read that takes no time, or nothing: Linux."""
FILES: Final = 64
"""Open at a time, the newest: each takes one of the hub's descriptors."""

_SPAN: Final = struct.Struct("<qq")  # first sample, channels


class Cached:
    """The files of one instance, as the process passes them."""

    def __init__(self) -> None:
        self._ours: socket.socket | None = None
        self._fresh: socket.socket | None = None  # of a process that is being started, in another thread
        self._files: dict[int, _File] = {}  # by first sample
        self._page = np.empty(PAGE_BYTES // 4, np.float32)

    def connect(self) -> socket.socket:
        """The end of a new pair of sockets that the next process gets."""
        if self._fresh is not None:  # of a start that failed
            self._fresh.close()
        fresh, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for each in (fresh, theirs):  # the other process inherits it
            each.setblocking(False)
        self._fresh = fresh
        return theirs

    def take_in(self) -> None:
        """Take the files that were passed since."""
        if self._fresh is not None:
            self._hang_up()
            self._ours, self._fresh = self._fresh, None
        with suppress(OSError):  # no more, or the process has ended
            while self._ours is not None:
                message, descriptors, _, _ = socket.recv_fds(
                    self._ours, _SPAN.size, 1, socket.MSG_CMSG_CLOEXEC
                )
                if not descriptors:
                    return
                start, n_channels = _SPAN.unpack(message)
                self._let_go(start)
                self._files[start] = _File(descriptors[0], n_channels)
                if len(self._files) > FILES:
                    self._let_go(min(self._files))

    def rows(self, start: int, stop: int) -> Float32 | None:
        """Samples from `start` on.

        Parameters
        ----------
        start, stop : int
            ``[start, stop)`` of one segment, archived and without a hole.

        Returns
        -------
        samples : ndarray, shape (n, n_channels), float32, or None
            A page at most; valid until the next call. None if they are not to be had without waiting.
        """
        starts = sorted(self._files)
        place = bisect_right(starts, start)
        if not place:
            return None
        first = starts[place - 1]
        file = self._files[first]
        row_bytes = 4 * file.n_channels
        stop = min([stop, start + PAGE_BYTES // row_bytes, *starts[place : place + 1]])
        rows = self._page[: (stop - start) * file.n_channels].reshape(-1, file.n_channels)
        at = (start - first) * row_bytes
        if not (rows.size and file.is_in_memory(at, rows.nbytes)):
            return None
        try:
            n = os.preadv(file.descriptor, [rows.data.cast("B")], at, os.RWF_NOWAIT)
        except OSError:  # not any more, or a file system that cannot tell
            return None
        return rows if n == rows.nbytes else None

    def close(self) -> None:
        """Let go of everything."""
        self._hang_up()
        if self._fresh is not None:
            self._fresh.close()
        for start in tuple(self._files):
            self._let_go(start)

    def _hang_up(self) -> None:
        if self._ours is not None:
            self._ours.close()
            self._ours = None

    def _let_go(self, start: int) -> None:
        if (file := self._files.pop(start, None)) is not None:
            file.close()


class _File:
    """A file of samples, open; mapped to see what of it is in memory, never to read it."""

    def __init__(self, descriptor: int, n_channels: int) -> None:
        self.descriptor, self.n_channels = descriptor, n_channels
        self._map: mmap.mmap | None = None
        self._address = 0

    def is_in_memory(self, at: int, size: int) -> bool:
        """Whether all of these bytes are."""
        begin, end = at - at % mmap.PAGESIZE, at + size
        if self._map is None or end > len(self._map):  # it has grown
            self._unmap()
            try:
                self._map = mmap.mmap(self.descriptor, 0, prot=mmap.PROT_READ)
            except (OSError, ValueError):  # it is empty
                return False
            self._address = np.frombuffer(self._map, np.uint8).ctypes.data
            if end > len(self._map):
                return False
        found = np.empty(-(-(end - begin) // mmap.PAGESIZE), np.uint8)
        failed = _libc().mincore(self._address + begin, end - begin, found.ctypes.data)
        return not failed and bool(np.all(found & 1))

    def close(self) -> None:
        self._unmap()
        os.close(self.descriptor)

    def _unmap(self) -> None:
        if self._map is not None:
            self._map.close()
            self._map = None


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None)
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    return libc


def pass_span(to: socket.socket, span: Span) -> bool:
    """In the process: let the hub have a file. False if it has not taken those before yet."""
    descriptor = os.open(span.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOATIME)  # to note a read is to write
    try:
        socket.send_fds(to, [_SPAN.pack(span.start, span.n_channels)], [descriptor])
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
