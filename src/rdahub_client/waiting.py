"""Waiting for plain descriptors and ZeroMQ sockets alike.

Rule: nothing stands between a wake-up and the message it is for. A ZeroMQ socket's descriptor tells of
changes only, and forgets them when the socket is used; so sockets in use are asked before the next wait, not
behind it (`zmq.Poller` asks all of them at each wake-up). Signals do not prolong a wait (a socket's own
receive time-out begins anew at each).
Not here: what is done about what is ready.
"""

from __future__ import annotations

import select
import selectors
from collections.abc import Iterable
from typing import Any, TypeAlias

import zmq

__all__ = ["Ready", "Waiting", "is_readable"]

Ready: TypeAlias = set[Any]
"""Descriptors and sockets."""


class Waiting:
    """Waits until something can be read.

    Parameters
    ----------
    in_use : iterable of zmq.Socket
        Sockets that are also used when they are not ready.
    others : iterable of zmq.Socket
        Sockets that are only used when they are.
    """

    def __init__(
        self, in_use: Iterable[zmq.Socket[bytes]] = (), others: Iterable[zmq.Socket[bytes]] = ()
    ) -> None:
        self._poll = select.poll() if hasattr(select, "poll") else _Poll()
        self._in_use = frozenset(in_use)
        self._before: Ready = {*self._in_use, *others}
        self._sockets = {int(each.get(zmq.FD)): each for each in self._before}
        for descriptor in self._sockets:
            self.add(descriptor)

    def add(self, descriptor: int) -> None:
        """Wait for a plain descriptor too."""
        self._poll.register(descriptor, 1)

    def remove(self, descriptor: int) -> None:
        """Wait for it no longer; to be called before it is closed."""
        self._poll.unregister(descriptor)

    def wait(self, seconds: float) -> Ready:
        """What can be read, after at most these seconds."""
        ready: Ready = {each for each in self._in_use | self._before if is_readable(each)}
        for descriptor, _ in self.changes(0 if ready else seconds):
            each = self._sockets.get(descriptor, descriptor)
            if each is descriptor or is_readable(each):
                ready.add(each)
        self._before = {each for each in ready if not isinstance(each, int)}
        return ready

    def changes(self, seconds: float) -> list[tuple[int, int]]:
        """Descriptors that woke, for who has asked their sockets already."""
        return self._poll.poll(int(seconds * 1000) + 1 if seconds > 0 else 0)


def is_readable(socket: zmq.Socket[bytes]) -> bool:
    """Whether a socket has a message. After a no, its descriptor wakes when that may have changed."""
    return bool(int(socket.get(zmq.EVENTS)) & zmq.POLLIN)


class _Poll:
    """`select.poll` for Windows, which has none."""

    def __init__(self) -> None:
        self._selector = selectors.SelectSelector()

    def register(self, descriptor: int, events: int) -> None:
        self._selector.register(descriptor, events)

    def unregister(self, descriptor: int) -> None:
        self._selector.unregister(descriptor)

    def poll(self, milliseconds: int) -> list[tuple[int, int]]:
        return [(key.fd, events) for key, events in self._selector.select(milliseconds / 1000)]
