"""The hub's ring as files in shared memory, and who may touch them.

Rule: whoever holds the lock on the control file owns everything of that name; the kernel drops the lock with
its holder, however it dies, so a free lock means a dead hub. Sizes are reserved before use. A reader opens
read-only, maps read-only and removes nothing but its own bell.

::

    rdahub-NAME              control: magic, description (JSON), generation of the ring, sign of life; locked
    rdahub-NAME.ring-G       ring of generation G: magic, shape, marks, then rows; a new layout is a new file.
                             G counts from a random number: nobody takes the next hub's ring for this one's
    rdahub-NAME.bell         datagram socket of the hub: a reader says hello here
    rdahub-NAME.bell-XXXX    datagram socket of a reader: a few bytes arrive after every block

Not `multiprocessing.shared_memory`: its resource tracker removes a live hub's ring when an unrelated reader
exits (CPython gh-82300), and it reserves nothing, so a full /dev/shm kills with SIGBUS.
Not here: what the rows mean (`ring`), who waits for the bell (`local`). Windows has none of this.
"""

from __future__ import annotations

import contextlib
import errno
import json
import mmap
import os
import re
import secrets
import socket
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from rdahub_client.errors import SharedMemoryError
from rdahub_client.memory import MIRRORS, map_rows, round_capacity
from rdahub_client.ring import MARKS, Marks, Ring, RingReader
from rdahub_client.waiting import Waiting

if MIRRORS:
    import fcntl

__all__ = ["Attachment", "Owner", "default_directory"]

_PAGE: Final = mmap.ALLOCATIONGRANULARITY
_PIECE: Final = 8 << 20
"""Bytes reserved at a time, some 2 ms."""
_CONTROL_MAGIC: Final = b"RDAHUB\0\1"  # the last byte is the version of this layout
_RING_MAGIC: Final = b"RDARING\1"
_NUMBERS: Final = 64  # offset of the int64 numbers in both headers
_TEXT: Final = 512  # offset of the description in the control file
_GENERATION, _BEAT, _STATE, _OLDER, _COUNT = 0, 1, 2, 3, 4  # numbers of the control file, and how many
_NONE: Final = -1
_STATES: Final = ("disconnected", "idle", "streaming", "stalled")
_SHAPE: Final = struct.Struct("<qq")  # n_channels, capacity at offset 8 of a ring
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LOOK: Final[int] = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
"""A pipe of that name, which anybody can put there, is not waited for."""
_LOCK_PATIENCE: Final = 0.5  # s; another hub looking for leftovers holds a lock for microseconds


def default_directory() -> Path:
    """Where shared memory lives: /dev/shm, or the temporary folder where there is none."""
    shm = Path("/dev/shm")  # noqa: S108 - shared memory is the point
    return shm if shm.is_dir() else Path(tempfile.gettempdir())


def _control_path(directory: Path, name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise SharedMemoryError(
            f"{name!r} is no name for a hub: 1 to 64 letters, digits, '-' and '_' make one"
        )
    return directory / f"rdahub-{name}"


class Owner:
    """The hub's hold on its name and its rings.

    Parameters
    ----------
    name : str
    directory : Path

    Raises
    ------
    SharedMemoryError
        The name belongs to a live hub, or the directory cannot be used.
    """

    def __init__(self, name: str, directory: Path) -> None:
        self.path = _control_path(directory, name)
        self._generation = secrets.randbits(40)
        self._ring_path: Path | None = None
        try:
            self._reclaim_dead(directory)
            self._fd = self._lock()
            try:
                self._remove_rings()
                _reserve(self._fd, _PAGE, lambda: None)
                self._map = mmap.mmap(self._fd, _PAGE)
                self._numbers: Marks = np.frombuffer(self._map, np.int64, _COUNT, _NUMBERS)
                self._numbers[_OLDER] = _NONE
                self.bell = _bell(self.path.with_name(f"{self.path.name}.bell"))
            except OSError:
                self.path.unlink(missing_ok=True)
                os.close(self._fd)
                raise
        except OSError as error:
            raise SharedMemoryError(
                f"cannot keep the ring in {directory}: {error.strerror or error}; "
                "choose another folder with --shm-dir"
            ) from None

    def describe(self, description: dict[str, Any]) -> None:
        """Say who this is; from here on readers can attach."""
        text = json.dumps(description).encode()
        self._map[_TEXT : _TEXT + 4 + len(text)] = struct.pack("<I", len(text)) + text
        self._map[: len(_CONTROL_MAGIC)] = _CONTROL_MAGIC

    def beat(self, now_ns: int, state: str) -> None:
        """Leave a sign of life, on the monotonic clock, and the Recorder's state."""
        self._numbers[_STATE] = _STATES.index(state)
        self._numbers[_BEAT] = now_ns

    def note_older(self, first_available: int | None) -> None:
        """Say from where on the hub has samples of layouts before the ring's; None if it has none."""
        self._numbers[_OLDER] = _NONE if first_available is None else first_available

    def create_ring(
        self, n_channels: int, capacity: int, start: int, meanwhile: Callable[[], None] = lambda: None
    ) -> Ring:
        """Make a ring and let it take the place of the one before.

        Parameters
        ----------
        n_channels, capacity, start : int
            Its layout, how many samples it holds at least, the index of its first.
        meanwhile : callable
            Called again and again: the system takes 0.25 s or more to give 1 GiB.

        Raises
        ------
        SharedMemoryError
            There is not enough memory; the message names the bytes needed and the bytes free.
        """
        capacity = round_capacity(capacity, n_channels)
        size = _PAGE + capacity * n_channels * 4
        generation = self._generation + 1
        path = self.path.with_name(f"{self.path.name}.ring-{generation}")
        try:
            fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SharedMemoryError(f"cannot make {path}: {error.strerror}") from None
        try:
            _reserve(fd, size, meanwhile)
            rows = map_rows(fd, _PAGE, capacity, n_channels, writable=True)
            header = mmap.mmap(fd, _PAGE)
            _SHAPE.pack_into(header, len(_RING_MAGIC), n_channels, capacity)
            marks: Marks = np.frombuffer(header, np.int64, MARKS, _NUMBERS)
            ring = Ring(rows, start, mirrored=True, marks=marks)
            header[: len(_RING_MAGIC)] = _RING_MAGIC
        except (OSError, OverflowError, ValueError) as error:
            path.unlink(missing_ok=True)
            status = os.statvfs(path.parent)
            raise SharedMemoryError(
                f"no room for {capacity} samples of {n_channels} channels in {path.parent}: "
                f"{size} bytes needed, {status.f_bavail * status.f_frsize} free ({error})"
            ) from None
        finally:
            os.close(fd)
        before, self._ring_path, self._generation = self._ring_path, path, generation
        self._numbers[_GENERATION] = generation
        if before is not None:
            before.unlink(missing_ok=True)
        return ring

    def give_up_ring(self) -> None:
        """Let the system have the newest ring's memory back when the last reader lets go of it too."""
        if self._ring_path is not None:
            self._ring_path.unlink(missing_ok=True)
            self._ring_path = None

    def withdraw_ring(self) -> None:
        """There is no ring to share any more; readers are told by a generation that has no file."""
        self._generation += 1
        self._numbers[_GENERATION] = self._generation
        self.give_up_ring()

    def close(self) -> None:
        """Remove every file and let go of the name. Readers keep what they have mapped."""
        self._map[: len(_CONTROL_MAGIC)] = bytes(len(_CONTROL_MAGIC))
        self.bell.close()
        self._remove_rings()
        self.path.unlink(missing_ok=True)
        os.close(self._fd)

    def _lock(self) -> int:
        """Make and lock the control file. A dead hub's is replaced, never shrunk: readers may map it."""
        give_up = time.monotonic() + _LOCK_PATIENCE
        while True:
            fd = os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            if _take(fd):
                if not os.fstat(fd).st_size:
                    return fd
                self.path.unlink(missing_ok=True)
            os.close(fd)  # a dead hub's file, or not ours to have: look again
            if time.monotonic() > give_up:
                raise SharedMemoryError(
                    f"another hub named {self.path.name.removeprefix('rdahub-')!r} is running here; "
                    "give this one its own --name"
                )
            time.sleep(0.01)  # between two attempts at a lock somebody else holds; nothing signals its end

    def _remove_rings(self) -> None:
        _remove_parts(self.path)

    @staticmethod
    def _reclaim_dead(directory: Path) -> None:
        """Remove what killed hubs of any name left behind."""
        for path in directory.glob("rdahub-*"):
            if not _NAME.fullmatch(path.name.removeprefix("rdahub-")):
                continue  # a part, or no hub's
            with contextlib.suppress(OSError):  # another user's, or gone meanwhile: not ours to clean
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
                try:
                    if _take(fd):
                        _remove_parts(path)
                        path.unlink()
                finally:
                    os.close(fd)


class Attachment:
    """A reader's hold on a hub of this machine: read-only, unable to harm it.

    Raises
    ------
    SharedMemoryError
        There is no such hub here, or its layout is of another version.
    """

    def __init__(self, name: str, directory: Path) -> None:
        self.path = _control_path(directory, name)
        if not MIRRORS:
            raise SharedMemoryError("the hub's ring is shared on Linux and macOS only; use Client here")
        try:
            fd = os.open(self.path, _LOOK)
        except FileNotFoundError:
            raise SharedMemoryError(
                f"no hub named {name!r} on this machine ({self.path} is not there); "
                "is it running, under this --name?"
            ) from None
        except PermissionError:
            raise SharedMemoryError(
                f"{self.path} belongs to another user; read through Client, or run as the hub's user"
            ) from None
        try:
            if _try_lock(fd, shared=True):
                raise SharedMemoryError(f"the hub named {name!r} is dead; only its files are left")
            if os.fstat(fd).st_size < _PAGE:
                raise SharedMemoryError(f"the hub named {name!r} is only just starting; try again")
            control = mmap.mmap(fd, _PAGE, prot=mmap.PROT_READ)
            self._inode = os.fstat(fd).st_ino
        finally:
            os.close(fd)
        if control[: len(_CONTROL_MAGIC)] != _CONTROL_MAGIC:
            raise SharedMemoryError(f"{self.path} is not ready, or of another version of rdahub; try again")
        (length,) = struct.unpack_from("<I", control, _TEXT)
        try:
            self.description: dict[str, Any] = dict(json.loads(control[_TEXT + 4 : _TEXT + 4 + length]))
        except (TypeError, ValueError):
            raise SharedMemoryError(f"{self.path} is not a hub's, or damaged") from None
        self.instance = str(self.description.get("instance", ""))
        self._control = control
        self._numbers = np.frombuffer(control, np.int64, _COUNT, _NUMBERS).data
        self._bell: socket.socket | None = None
        self._waiting = Waiting()

    @property
    def bell(self) -> socket.socket:
        """What the hub rings. Hung at first use: who only looks leaves no trace."""
        if self._bell is None:
            path = self.path.with_name(f"{self.path.name}.bell-{os.getpid()}-{id(self):x}")
            try:
                self._bell = _bell(path)
            except OSError as error:  # a folder not ours to write in, or a name longer than a socket's may be
                raise SharedMemoryError(
                    f"cannot listen at {path}: {error.strerror or error}; "
                    "give the hub a shorter --shm-dir, or read through Client"
                ) from None
            self._waiting.add(self._bell.fileno())
        return self._bell

    @property
    def generation(self) -> int:
        """Number of the newest ring; 0 while there is none."""
        return self._numbers[_GENERATION]

    @property
    def is_open(self) -> bool:
        """False once the hub has said goodbye."""
        return self._control[: len(_CONTROL_MAGIC)] == _CONTROL_MAGIC

    @property
    def is_alive(self) -> bool:
        """Whether this very hub still holds its name. Asks the kernel; not for every block."""
        try:
            fd = os.open(self.path, _LOOK)
        except OSError:
            return False
        try:
            return os.fstat(fd).st_ino == self._inode and not _try_lock(fd, shared=True)
        finally:
            os.close(fd)

    @property
    def older(self) -> int | None:
        """First sample the hub has of layouts before the ring's, for which it must be asked; None if none."""
        first = self._numbers[_OLDER]
        return None if first == _NONE else first

    @property
    def beat_ns(self) -> int:
        """The hub's last sign of life, on this machine's monotonic clock."""
        return self._numbers[_BEAT]

    @property
    def state(self) -> str:
        """The Recorder's state when the hub last gave a sign of life."""
        return _STATES[self._numbers[_STATE]]

    def hello(self) -> None:
        """Ask the hub to ring this reader's bell after every block.

        Raises
        ------
        SharedMemoryError
            This reader's bell cannot be hung.
        """
        bell = self.bell
        with contextlib.suppress(OSError):  # the hub is gone or busy: the next hello will do
            bell.sendto(b"hello", str(self.path.with_name(f"{self.path.name}.bell")))

    def wait(self, seconds: float) -> bool:
        """Wait for the bell. It may ring for what has been seen already."""
        bell = self.bell
        if not self._waiting.changes(seconds):
            return False
        bell.recv(16)
        return True

    def ring(self, generation: int) -> RingReader | None:
        """Map the ring of this generation; None if a newer one took its place meanwhile."""
        try:
            fd = os.open(
                self.path.with_name(f"{self.path.name}.ring-{generation}"), os.O_RDONLY | os.O_CLOEXEC
            )
        except FileNotFoundError:
            return None
        try:
            header = mmap.mmap(fd, _PAGE, prot=mmap.PROT_READ)
            n_channels, capacity = _SHAPE.unpack_from(header, len(_RING_MAGIC))
            size = _PAGE + capacity * n_channels * 4
            if header[: len(_RING_MAGIC)] != _RING_MAGIC or os.fstat(fd).st_size < size:
                raise SharedMemoryError(f"{self.path}: ring {generation} is damaged or of another version")
            rows = map_rows(fd, _PAGE, capacity, n_channels, writable=False)
            return RingReader(rows, np.frombuffer(header, np.int64, MARKS, _NUMBERS))
        finally:
            os.close(fd)

    def close(self) -> None:
        """Stop listening. What is mapped stays readable."""
        if self._bell is not None:
            own = self._bell.getsockname()
            self._bell.close()
            Path(own).unlink(missing_ok=True)


def _try_lock(fd: int, *, shared: bool = False) -> bool:
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _take(fd: int) -> bool:
    """Lock a control file that still has its name: another may have removed it since we opened it."""
    return _try_lock(fd) and os.fstat(fd).st_nlink > 0


def _reserve(fd: int, size: int, meanwhile: Callable[[], None]) -> None:
    """Give a file its size and its memory now, so that nothing dies of SIGBUS later."""
    if hasattr(os, "posix_fallocate"):
        for begin in range(0, size, _PIECE):
            os.posix_fallocate(fd, begin, min(_PIECE, size - begin))
            meanwhile()
        return
    status = os.fstatvfs(fd)
    if status.f_bavail * status.f_frsize < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.ftruncate(fd, size)


def _bell(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    bell.setblocking(False)
    try:
        bell.bind(str(path))
    except OSError:
        bell.close()
        raise
    return bell


def _remove_parts(control: Path) -> None:
    for part in control.parent.glob(f"{control.name}.*"):
        part.unlink(missing_ok=True)
