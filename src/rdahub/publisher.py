"""The publish socket: frames out to all subscribers, and how many those are.

Rule: sending never waits; a subscriber that cannot keep up loses blocks and fetches them from history. What
may queue for one of them is bounded once, before the bind (`limits.PUBLISH_MESSAGES` says why only then).
Not here: what is published (`broker`, `service`).
"""

from __future__ import annotations

from typing import Final

import zmq

from rdahub import limits
from rdahub_client.query import set_heartbeat
from rdahub_client.wire import BLOCK

__all__ = ["Publisher"]

_SUBSCRIBED: Final = b"\1" + BLOCK
_UNSUBSCRIBED: Final = b"\0" + BLOCK


class Publisher:
    """An XPUB that tells of every subscription, so that subscribers to blocks can be counted."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self.subscribers = 0
        self.socket = context.socket(zmq.XPUB)
        set_heartbeat(self.socket)
        self.socket.set(zmq.HANDSHAKE_IVL, limits.HANDSHAKE_MS)
        self.socket.set(zmq.MAXMSGSIZE, limits.SUBSCRIPTION_BYTES)
        self.socket.set(zmq.SNDHWM, limits.PUBLISH_MESSAGES)
        self.socket.set(zmq.XPUB_VERBOSER, 1)

    def send(self, frames: list[bytes]) -> None:
        """Publish frames, in order."""
        for frame in frames:
            self.socket.send(frame, zmq.DONTWAIT)

    def count_subscribers(self) -> None:
        """Take in who subscribed and who left."""
        for _ in range(limits.SUBSCRIPTIONS):
            if not int(self.socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                return
            message = self.socket.recv()
            if message == _SUBSCRIBED:
                self.subscribers += 1
            elif message == _UNSUBSCRIBED:
                self.subscribers -= 1
