"""The publish socket: frames out to all subscribers, and how many those are.

Rule: sending never waits; a subscriber that cannot keep up loses blocks and fetches them from history. What
may queue for one of them is bounded once, before the bind (`limits.PUBLISH_MESSAGES` says why only then).
Who subscribes without end is cut off: each subscription costs memory that libzmq keeps.
Not here: what is published (`broker`, `service`).
"""

from __future__ import annotations

import logging
import socket
from collections import Counter
from typing import Final

import zmq

from rdahub import limits
from rdahub.door import Door
from rdahub.seldom import Seldom
from rdahub_client.wire import BLOCK

__all__ = ["Publisher", "publish_options"]

log = logging.getLogger(__name__)

_SUBSCRIBED: Final = b"\1" + BLOCK
_UNSUBSCRIBED: Final = b"\0" + BLOCK


def publish_options(curve: bool) -> dict[zmq.SocketOption, int]:
    """Options of the publish socket; with CURVE even a handshake is longer than a subscription may be."""
    return {
        zmq.MAXMSGSIZE: limits.SUBSCRIPTION_BYTES + (limits.CURVE_BYTES if curve else 0),
        zmq.SNDHWM: limits.PUBLISH_MESSAGES,
        zmq.RCVHWM: limits.SUBSCRIPTIONS,
        zmq.XPUB_VERBOSER: 1,
    }


class Publisher:
    """An XPUB that tells of every subscription, so that subscribers to blocks can be counted."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.subscribers = 0
        self._messages: Counter[int] = Counter()
        self._seldom = Seldom(log)

    def send(self, frames: list[bytes]) -> None:
        """Publish frames, in order."""
        for frame in frames:
            self.door.socket.send(frame, zmq.DONTWAIT)

    def count_subscribers(self) -> int:
        """Take in who subscribed and who left. Returns how many were cut off."""
        cut = 0
        for _ in range(limits.SUBSCRIPTIONS):
            try:
                frame = self.door.socket.recv(zmq.DONTWAIT, copy=False)
            except zmq.Again:
                break
            message = frame.bytes
            if message == _SUBSCRIBED:
                self.subscribers += 1
            elif message == _UNSUBSCRIBED:
                self.subscribers -= 1
            cut += self._cut_off(frame)
        return cut

    def _cut_off(self, frame: zmq.Frame) -> bool:
        """Cut off the sender if it subscribes without end."""
        try:
            fd = int(frame.get(zmq.SRCFD))
        except zmq.ZMQError:
            return False  # libzmq says it for a peer that has left
        self._messages[fd] += 1
        if self._messages[fd] <= limits.SUBSCRIPTIONS_PER_BEAT:
            return False
        self._messages[fd] = 0
        self._seldom.warn(f"cut off a peer at {frame.get('Peer-Address')}: it subscribes without end")
        _hang_up(fd, self.door.endpoint)
        return True

    def beat(self) -> None:
        """Begin to count subscriptions anew; a descriptor may be another peer's by now."""
        self._messages.clear()

    def reopen(self) -> None:
        """Drop all subscribers and listen again; they come back and repair what they missed."""
        self.subscribers = 0
        self._messages.clear()
        self.door.reopen()


def _hang_up(fd: int, endpoint: str) -> None:
    """Shut a connection of libzmq's, which then sees its peer leave.

    The descriptor may have become something else meanwhile. Only a connection of this endpoint is touched: at
    worst another subscriber has to come back.
    """
    try:
        connection = socket.socket(fileno=fd)
    except OSError:
        return
    try:
        if (
            not endpoint.startswith("tcp://")
            or str(connection.getsockname()[1]) == endpoint.rpartition(":")[2]
        ):
            connection.shutdown(socket.SHUT_RDWR)
    except (OSError, IndexError):
        return
    finally:
        connection.detach()  # it is libzmq's to close
