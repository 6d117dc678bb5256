"""Where the hub's ring lives, and the readers of the same machine that are woken after each block.

Rule: memory that cannot be had makes a shorter history and a clear log line, never a dead hub.
Not here: the layout of the files (`rdahub_client.shared`), what is written into a ring (`broker`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rdahub import limits, memory_watch
from rdahub_client.errors import SharedMemoryError
from rdahub_client.memory import MIRRORS, private_ring
from rdahub_client.ring import Ring

if MIRRORS:
    from rdahub_client.shared import Owner

__all__ = ["Storage"]

log = logging.getLogger(__name__)


class Storage:
    """The hub's shared memory; on platforms without it, private memory and no local readers.

    Raises
    ------
    SharedMemoryError
        The name belongs to a running hub, or the folder cannot be used.
    """

    def __init__(self, name: str, directory: Path) -> None:
        self._owner = Owner(name, directory) if MIRRORS else None
        self._readers: list[str] = []
        self.release: Callable[[], bool] = lambda: False
        """Called when memory is short, before a ring is made shorter; true if that freed some."""
        self.meanwhile: Callable[[], None] = lambda: None
        """Called again and again while memory is reserved."""

    def make_ring(self, n_channels: int, rows: int, start: int) -> Ring:
        """A ring of at least `rows` samples, or of as many as there is shared memory for."""
        wanted = rows = self._affordable(n_channels, rows)
        while self._owner is not None:
            try:
                ring = self._owner.create_ring(n_channels, rows, start, self.meanwhile)
            except SharedMemoryError as error:
                if self.release():
                    self._owner.give_up_ring()  # it is of the layout that was just let go of
                    continue
                log.warning("%s", error)
                rows //= 2
                if rows < wanted * limits.LEAST_SHARED_PART:
                    log.warning(
                        "the history stays in the hub's own memory; readers on this machine use Client"
                    )
                    self._owner.withdraw_ring()
                    break
            else:
                if rows < wanted:
                    log.warning("the history holds %d samples instead of %d", ring.capacity, wanted)
                return ring
        while True:
            try:
                return private_ring(wanted, n_channels, start)
            except (OSError, OverflowError, ValueError, MemoryError) as error:
                if self.release():
                    continue
                if wanted <= 1:
                    raise
                wanted //= 2
                log.warning("no memory for the history (%s); trying %d samples", error, wanted)

    def _affordable(self, n_channels: int, rows: int) -> int:
        """As many rows as a memory limit on this process leaves room for: going over it would be its end."""
        room = memory_watch.room()
        if room is not None and rows * n_channels * 4 > room and self.release():
            room = memory_watch.room()
        if room is None or (most := max(1, room // (4 * n_channels))) >= rows:
            return rows
        log.warning(
            "the history holds %d samples instead of %d: they would need %d bytes, and the memory limit of "
            "this process (a container's?) leaves %d", most, rows, rows * n_channels * 4, room,
        )  # fmt: skip
        return most

    def describe(self, description: dict[str, Any]) -> None:
        """Let local readers attach."""
        if self._owner is not None:
            self._owner.describe(description)

    @property
    def bell_fd(self) -> int | None:
        """Descriptor that becomes readable when a local reader says hello."""
        return None if self._owner is None else self._owner.bell.fileno()

    @property
    def local_readers(self) -> int:
        """Readers of this machine that are woken."""
        return len(self._readers)

    def greet(self) -> None:
        """Take note of readers that said hello from a bell of this hub's name; anybody else is ignored."""
        if self._owner is None:
            return
        prefix = f"{self._owner.path}.bell-"
        for _ in range(limits.SUBSCRIPTIONS):
            try:
                _, sender = self._owner.bell.recvfrom(16)
            except OSError:
                return  # nothing more
            if not isinstance(sender, str) or not sender.startswith(prefix):
                continue
            if sender not in self._readers and len(self._readers) < limits.LOCAL_READERS:
                self._readers.append(sender)

    def beat(self, now_ns: int, state: str) -> None:
        """Leave a sign of life, and the Recorder's state, for local readers."""
        if self._owner is not None:
            self._owner.beat(now_ns, state)

    def note_older(self, first_available: int | None) -> None:
        """Tell local readers from where on there are samples of layouts before the ring's, if there are."""
        if self._owner is not None:
            self._owner.note_older(first_available)

    def ring_bells(self) -> None:
        """Wake local readers: something is new. One that is gone is forgotten, a busy one skipped."""
        if self._owner is None:
            return
        for reader in tuple(self._readers):
            try:
                self._owner.bell.sendto(b"new", reader)
            except BlockingIOError:
                continue  # its bell has rung often enough already
            except OSError:
                self._readers.remove(reader)
                Path(reader).unlink(missing_ok=True)  # it died without removing it

    def close(self) -> None:
        """Remove everything."""
        if self._owner is not None:
            self._owner.close()
