"""The publish socket: frames out to all subscribers, and how many those are.

Rule: sending never waits; a subscriber that cannot keep up loses blocks and fetches them from history. What
may queue for one of them is bounded once, before the bind (`limits.PUBLISH_MESSAGES` says why only then).
Who subscribes without end is cut off: each subscription costs memory that libzmq keeps.
Not here: what is published (`broker`, `service`).
"""

from __future__ import annotations

from collections import deque
from typing import Final

import zmq

from rdahub import limits
from rdahub.door import Door
from rdahub_client.wire import BLOCK

__all__ = ["Publisher", "publish_options"]

_SUBSCRIBED: Final = b"\1" + BLOCK
_UNSUBSCRIBED: Final = b"\0" + BLOCK


def publish_options(curve: bool) -> dict[zmq.SocketOption, int]:
    """Options of the publish socket; with CURVE even a handshake is longer than a subscription may be."""
    return {
        zmq.MAXMSGSIZE: limits.SUBSCRIPTION_BYTES + (limits.CURVE_BYTES if curve else 0),
        zmq.SNDHWM: limits.PUBLISH_MESSAGES,
        zmq.RCVHWM: limits.UNREAD,
        zmq.RCVBUF: limits.RECEIVE_BUFFER,
        zmq.HEARTBEAT_IVL: 0,
        zmq.TCP_MAXRT: limits.STALLED_MS,
        zmq.XPUB_VERBOSER: 1,
        zmq.AFFINITY: limits.PUBLISH_THREADS,
    }


class Publisher:
    """An XPUB that tells of every subscription, so that subscribers to blocks can be counted."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self._lately = deque([0], maxlen=limits.STALLED_BEATS)
        self.subscribers = 0
        self.is_flooded = False
        """Whether more had come than is read in one turn."""
        self.frames = self.bytes = 0

    def send(self, frames: list[bytes]) -> None:
        """Publish frames, in order."""
        send = self.door.socket.send
        for frame in frames:
            send(frame, zmq.DONTWAIT)
            self.frames += 1
            self.bytes += len(frame)

    def beat(self) -> None:
        """Begin to count peers' messages anew, and note what was published since; twice a second."""
        self.door.beat()
        self._lately.append(self.bytes)

    @property
    def waiting_bytes(self) -> int:
        """At most what may wait for subscribers that have stopped: all of them hold the same messages."""
        return self.bytes - self._lately[0]

    def count_subscribers(self) -> int:
        """Take in who subscribed and who left. Returns how many were cut off."""
        cut = 0
        self.is_flooded = True
        for _ in range(limits.SUBSCRIPTIONS):
            try:
                frame = self.door.socket.recv(zmq.DONTWAIT, copy=False)
            except zmq.Again:
                self.is_flooded = False
                break
            message = frame.bytes
            if message == _SUBSCRIBED:
                self.subscribers += 1
            elif message == _UNSUBSCRIBED:
                self.subscribers -= 1
            cut += self.door.costs(frame)
        return cut

    def reopen(self) -> None:
        """Drop all subscribers and listen again; they come back and repair what they missed."""
        self.subscribers = 0
        self.door.reopen()
