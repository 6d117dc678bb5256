"""Where the hub's ring lives, and the readers of the same machine that are woken after each block.

Rule: memory that cannot be had makes a shorter history and a clear log line, never a dead hub.
Not here: the layout of the files (`rdahub_client.shared`), what is written into a ring (`broker`).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from rdahub import limits
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

    def make_ring(self, n_channels: int, rows: int, start: int) -> Ring:
        """A ring of at least `rows` samples, or of as many as there is memory for."""
        wanted = rows
        while self._owner is not None:
            try:
                ring = self._owner.create_ring(n_channels, rows, start)
            except SharedMemoryError as error:
                log.warning("%s", error)
                rows //= 2
                if rows < 64:
                    log.warning(
                        "the history stays in the hub's own memory; readers on this machine use Client"
                    )
                    break
            else:
                if rows < wanted:
                    log.warning("the history holds %d samples instead of %d", ring.capacity, wanted)
                return ring
        return private_ring(max(rows, 64), n_channels, start)

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
        """Take note of readers that said hello."""
        while self._owner is not None:
            try:
                _, sender = self._owner.bell.recvfrom(16)
            except BlockingIOError:
                return
            known = sender in self._readers or len(self._readers) >= limits.LOCAL_READERS
            if sender and not known:
                self._readers.append(sender)

    def beat(self, now_ns: int, state: str) -> None:
        """Leave a sign of life, and the Recorder's state, for local readers."""
        if self._owner is not None:
            self._owner.beat(now_ns, state)

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
                self._remove_stale(Path(reader))

    def _remove_stale(self, bell: Path) -> None:
        """Remove the bell of a reader that died without removing it; nothing else, whatever it was named."""
        if self._owner is None:
            return
        own = self._owner.path
        if bell.parent == own.parent and bell.name.startswith(f"{own.name}.bell-"):
            bell.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove everything."""
        if self._owner is not None:
            self._owner.close()
