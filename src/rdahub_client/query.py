"""The query socket of one client: a request out, its answer back, in time.

Rule: a DEALER with request ids of our own; answers to anything else are stale and dropped. Requests only
read, so one that may have been lost (a hub restarting) is simply sent again. A caller who cannot wait for the
answer may ask the same again and finds it then.
A hub that refuses this client's keys is noticed at the handshake: libzmq itself would say nothing, and after
some refusals never try again. So a socket is watched until its first answer, and made anew after a failure.
Not here: what is asked and what the answer means (`timeline`, `verbs`).
"""

from __future__ import annotations

import contextlib
import struct
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from itertools import count
from typing import Final

import zmq

from rdahub_client.errors import AuthError, HubLost, Unanswered
from rdahub_client.greeting import mechanism
from rdahub_client.keys import ClientKeys
from rdahub_client.waiting import Waiting, is_readable
from rdahub_client.wire import (
    PastRangeRequest,
    RangeRequest,
    Reply,
    Request,
    decode_reply,
    encode_request,
)

__all__ = ["HEARTBEAT_MS", "QuerySocket", "end_context", "set_heartbeat"]

HEARTBEAT_MS: Final = 1000
"""A dead link is noticed after three of these; without heartbeats TCP notices nothing for minutes."""
_LONGEST: Final = 3600.0
"""Seconds of one wait: the system counts milliseconds in 31 bits."""
CONNECT_MS: Final = 1500
"""For one attempt to connect: TCP alone waits 1, 3, 7 s ... for an answer, long after a network is healed."""
RECONNECT_MS: Final = 100, 500
"""Between attempts, at first and at last: with the above a hub that is back is found within 3 s."""

_SEND_AGAIN: Final = 1.0  # s
_NAME_LOOKUP: Final = 0.2  # s
_BUSY_PAUSE: Final = 0.1  # s until a hub that said BUSY is asked again
_GREETING: Final = 1.0  # s
_BROKEN_HANDSHAKES: Final = 2  # one may be a hub that ended; a wrong server key breaks every one

_EVENT: Final = struct.Struct("=H")
"""How a report begins (zmq_socket_monitor(3)). pyzmq's own reader would import all of zmq.asyncio, 30 ms."""
_REFUSED: Final = zmq.EVENT_HANDSHAKE_FAILED_AUTH
_MISMATCH: Final = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
_BROKEN: Final = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL


def set_heartbeat(socket: zmq.Socket[bytes]) -> None:
    """Notice dead links on both ends, come back soon, and never hang at exit."""
    socket.linger = 0
    socket.set(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    socket.set(zmq.HEARTBEAT_TIMEOUT, 3 * HEARTBEAT_MS)
    socket.set(zmq.HEARTBEAT_TTL, 3 * HEARTBEAT_MS)
    socket.set(zmq.CONNECT_TIMEOUT, CONNECT_MS)
    socket.set(zmq.RECONNECT_IVL, RECONNECT_MS[0])
    socket.set(zmq.RECONNECT_IVL_MAX, RECONNECT_MS[1])


def end_context(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    """Let go of a context whose sockets are closed.

    That takes no time, but for one case: libzmq's I/O thread may sit in a name look-up that nobody answers,
    and would keep the caller beyond his time-out. Then it ends by itself, aside.
    """
    aside = threading.Thread(target=context.term, name="rdahub-end", daemon=True)
    aside.start()
    aside.join(_NAME_LOOKUP)


@dataclass(slots=True)
class _Question:
    """A request under way."""

    request: Request
    id: int
    asked: float
    send_again: float = 0.0
    ahead: bool = False
    """Nobody has asked for it yet."""


class QuerySocket:
    """One client's connection to a hub's query socket.

    Parameters
    ----------
    context : zmq.Context
    endpoint : str
    keys : ClientKeys or None
    """

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, keys: ClientKeys | None = None
    ) -> None:
        self.endpoint = endpoint
        self._context = context
        self._keys = keys
        self._ids = count(1)
        self._socket: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._question: _Question | None = None
        self._broken_handshakes = 0

    def ask(self, request: Request, deadline: float | None, patience: float) -> Reply:
        """Answer to a request; `asking` says what may go wrong."""
        asking = self.asking(request, deadline, patience)
        try:
            while True:
                until = next(asking)
                self._waiting.changes(min(until - time.monotonic(), _LONGEST))
        except StopIteration as answered:
            reply: Reply = answered.value
            return reply

    def asking(
        self, request: Request, deadline: float | None, patience: float
    ) -> Generator[float, None, Reply]:
        """Answer to a request, without waiting: yields until when to wait for `descriptors`.

        Parameters
        ----------
        request : Request
        deadline : float or None
            The caller's, on the monotonic clock. The request stays under way when it passes.
        patience : float
            Seconds from the first time this was asked until the hub counts as lost.

        Raises
        ------
        Unanswered
            The deadline passed.
        HubLost
            No answer in `patience` seconds.
        AuthError
            The handshake failed.
        """
        question = self._question
        if question is None or question.request != request:
            question = self._question = _Question(request, next(self._ids), time.monotonic())
        elif question.ahead:
            question.ahead = False
            question.asked = time.monotonic()
        lost = question.asked + patience
        until = lost if deadline is None else min(lost, deadline)
        try:
            while (reply := self._exchange(question, until)) is None:
                now = time.monotonic()
                if now >= lost:
                    raise HubLost(f"no answer to {request.op!r} in time", hub=self.endpoint)
                if now >= until:
                    raise Unanswered(f"no answer to {request.op!r} yet", hub=self.endpoint)
                yield min(until, question.send_again)
        except (Unanswered, GeneratorExit):
            raise
        except BaseException:
            self.close()  # so that nothing stale stays queued, and the next attempt begins afresh
            raise
        self._question = None
        self._ask_ahead(request, reply)
        return reply

    def tell(self, request: Request) -> None:
        """Say something that is not answered, if the hub is known to be there."""
        if self._socket is not None and self._monitor is None:
            with contextlib.suppress(zmq.Again):
                self._socket.send(encode_request(request, next(self._ids)), zmq.DONTWAIT)

    def _ask_ahead(self, request: Request, reply: Reply) -> None:
        """Have the hub make a range's next page while this one is put to use: it is asked for next."""
        if not isinstance(request, RangeRequest | PastRangeRequest):
            return
        stop = reply.header.get("stop")
        if isinstance(stop, int) and request.start < stop < request.stop:
            rest = replace(request, start=stop)
            self._question = _Question(rest, next(self._ids), time.monotonic(), ahead=True)
            self._send(self._question)

    def _exchange(self, question: _Question, until: float) -> Reply | None:
        """Send the question if it is time to, and take all that has come."""
        socket = self._open()
        if time.monotonic() >= question.send_again:
            self._send(question)
        while True:
            if is_readable(socket):
                reply = decode_reply(socket.recv(copy=False).buffer)
                self._trust()
                if reply.id != question.id:
                    continue
                if reply.refusal is None or reply.refusal.code != "BUSY":
                    return reply
                question.send_again = time.monotonic() + _BUSY_PAUSE
            elif self._monitor is not None and is_readable(self._monitor):
                self._look_at_handshake(until)
            else:
                return None

    @property
    def descriptors(self) -> list[int]:
        """What to wait for between two steps of `asking`."""
        sockets = [each for each in (self._socket, self._monitor) if each is not None]
        return [int(each.get(zmq.FD)) for each in sockets]

    def _send(self, question: _Question) -> None:
        # Never waits: a peer that is no hub leaves the socket without anybody to send to.
        with contextlib.suppress(zmq.Again):
            self._open().send(encode_request(question.request, question.id), zmq.DONTWAIT)
        question.send_again = time.monotonic() + _SEND_AGAIN

    # --- the socket ------------------------------------------------------------------------------------

    def _open(self) -> zmq.Socket[bytes]:
        if self._socket is None:
            self._socket = self._context.socket(zmq.DEALER)
            set_heartbeat(self._socket)
            self._socket.set(zmq.IPV6, 1)
            if self._keys is not None:
                self._keys.lock(self._socket)
            self._monitor = self._socket.get_monitor_socket(_REFUSED | _MISMATCH | _BROKEN)
            self._broken_handshakes = 0
            self._waiting = Waiting([self._socket, self._monitor])
            self._socket.connect(self.endpoint)
        return self._socket

    def _look_at_handshake(self, until: float) -> None:
        """Take one report of libzmq's on a handshake that failed."""
        assert self._monitor is not None  # noqa: S101 - it just reported
        (event,) = _EVENT.unpack_from(self._monitor.recv_multipart()[0])
        if event == _REFUSED:
            raise AuthError(
                "the hub refuses this client's key; put its .key file into the hub's --curve-clients folder",
                hub=self.endpoint,
            )
        if event == _MISMATCH:
            raise self._mismatch()
        self._broken_handshakes += 1
        if self._keys is None:
            # A reset may overtake the greeting that would have told libzmq why.
            if mechanism(self.endpoint, min(_GREETING, until - time.monotonic())) == "CURVE":
                raise self._mismatch()
        elif self._broken_handshakes >= _BROKEN_HANDSHAKES:
            raise AuthError(
                "the connection breaks in the handshake: server_key is not the .key file of this hub, "
                "or this hub has no keys",
                hub=self.endpoint,
            )

    def _mismatch(self) -> AuthError:
        return AuthError(
            "this hub lets in only clients with keys; give curve_key and server_key "
            "(--curve-key and --server-key)"
            if self._keys is None
            else "this hub has no keys, and with server_key only the hub of that key will do",
            hub=self.endpoint,
        )

    def _trust(self) -> None:
        """No watching after an answer: reports that nobody reads would stop libzmq's I/O thread."""
        if self._monitor is not None and self._socket is not None:
            self._waiting.remove(int(self._monitor.get(zmq.FD)))
            self._socket.disable_monitor()  # before closing: libzmq would wait for a reader that has gone
            self._monitor.close()
            self._monitor = None

    def close(self) -> None:
        """Let go of the socket; the next `ask` opens another."""
        if self._socket is not None:
            self._trust()
            self._socket.close()
            self._socket = None
        self._question = None
