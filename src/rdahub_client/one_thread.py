"""One thread at a time in a client, and none of a forked process.

Rule: who comes second is told at once. A libzmq socket used by two threads ends the whole program, without a
word of what was wrong; used after a fork it waits for ever. Handing a client from one thread to another
between calls is fine.
Not here: tasks of one loop (`asyncio`).
"""

from __future__ import annotations

import os
import threading
from types import TracebackType

__all__ = ["OneThread"]


class OneThread:
    """Held by a thread while it is in a call of a client; of this process, until `settle` says another."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # calls call each other
        self._process = os.getpid()

    def settle(self) -> None:
        """From here on the client is of the process that says so: it is about to open sockets of its own."""
        self._process = os.getpid()

    def __enter__(self) -> None:
        if self._process != os.getpid():
            raise RuntimeError("this client is of the process that forked this one; make one here")
        if not self._lock.acquire(blocking=False):
            raise RuntimeError("this client is in use by another thread; make one for each")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()
