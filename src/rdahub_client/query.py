"""The query socket of one client: a request out, its answer back, in time.

Rule: a DEALER with request ids of our own; answers to anything else are stale and dropped. Requests only
read, so one that may have been lost (a hub restarting) is simply sent again.
Not here: what is asked and what the answer means (`timeline`, `verbs`).
"""

from __future__ import annotations

import contextlib
import time
from itertools import count
from typing import Final

import zmq

from rdahub_client.errors import HubLost
from rdahub_client.wire import Reply, Request, decode_reply, encode_request

__all__ = ["HEARTBEAT_MS", "QuerySocket", "remaining_ms", "set_heartbeat"]

HEARTBEAT_MS: Final = 1000
"""A dead link is noticed after three of these; without heartbeats TCP notices nothing for minutes."""
_SEND_AGAIN: Final = 1.0  # s


def set_heartbeat(socket: zmq.Socket[bytes]) -> None:
    """Notice dead links on both ends, and never hang at exit."""
    socket.linger = 0
    socket.set(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    socket.set(zmq.HEARTBEAT_TIMEOUT, 3 * HEARTBEAT_MS)
    socket.set(zmq.HEARTBEAT_TTL, 3 * HEARTBEAT_MS)
    socket.set(zmq.RECONNECT_IVL, 100)
    socket.set(zmq.RECONNECT_IVL_MAX, 1000)


def remaining_ms(deadline: float | None, at_most: float = 3600.0) -> int:
    """Milliseconds until a monotonic deadline, rounded up, for a poller."""
    left = at_most if deadline is None else min(deadline - time.monotonic(), at_most)
    return max(0, int(left * 1000) + 1) if left > 0 else 0


class QuerySocket:
    """One client's connection to a hub's query socket.

    Parameters
    ----------
    context : zmq.Context
    endpoint : str
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
        self.endpoint = endpoint
        self._context = context
        self._ids = count(1)
        self._open()

    def _open(self) -> None:
        self._socket = self._context.socket(zmq.DEALER)
        set_heartbeat(self._socket)
        self._socket.set(zmq.IPV6, 1)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._socket.connect(self.endpoint)

    def ask(self, request: Request, deadline: float) -> Reply:
        """Answer to a request, by a deadline on the monotonic clock.

        Raises
        ------
        HubLost
            No answer in time. The socket is made anew, so that nothing stale stays queued.
        """
        request_id = next(self._ids)
        frame = encode_request(request, request_id)
        send_again = 0.0
        while (now := time.monotonic()) < deadline or not send_again:
            if now >= send_again:
                # Never waits: a peer that is no hub leaves the socket without anybody to send to.
                with contextlib.suppress(zmq.Again):
                    self._socket.send(frame, zmq.DONTWAIT)
                send_again = now + _SEND_AGAIN
            if self._poller.poll(remaining_ms(min(deadline, send_again))):
                reply = decode_reply(self._socket.recv())
                if reply.id == request_id:
                    return reply
        self._socket.close()
        self._open()
        raise HubLost(f"no answer to {request.op!r} in time", hub=self.endpoint)

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()
