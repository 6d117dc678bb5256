"""The query socket: questions in, one answer a turn out.

Rule: every frame is hostile until decoded. A client's questions wait in its own short line (`turns`), one is
answered in each turn of the hub's loop, and who asks more than its line holds is told BUSY; so no client can
keep others, or the Recorder, waiting. Sending never waits either.
Not here: what the answer is (`service`, `answers`), what a request may look like (`rdahub_client.wire`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import zmq

from rdahub import limits
from rdahub.broker import Counters
from rdahub.door import Door
from rdahub.turns import Turns
from rdahub_client.waiting import is_readable
from rdahub_client.wire import MAX_REQUEST, MarkRequest, Request
from rdahub_client.wire.admission import BadRequest, decode_request

__all__ = ["QUERY_OPTIONS", "Questions"]

log = logging.getLogger(__name__)

QUERY_OPTIONS: Final[dict[zmq.SocketOption, int]] = {
    zmq.MAXMSGSIZE: MAX_REQUEST + limits.CURVE_BYTES,
    zmq.RCVHWM: limits.UNREAD,
    zmq.RCVBUF: limits.RECEIVE_BUFFER,
    zmq.SNDHWM: limits.REPLY_MESSAGES,
    zmq.ROUTER_MANDATORY: 1,
    zmq.AFFINITY: limits.QUERY_THREAD,
}


@dataclass(frozen=True, slots=True)
class _Question:
    envelope: list[bytes]
    request: Request


class Questions:
    """Requests from one door, answered in turn.

    Parameters
    ----------
    door : Door
    answer : callable
        ``answer(request)`` gives the reply's frame, or None if the request wants none.
    refuse : callable
        ``refuse(id, code, message)`` gives the frame of a refusal.
    counters : Counters
    """

    def __init__(
        self,
        door: Door,
        answer: Callable[[Request], bytes | None],
        refuse: Callable[[int, str, str], bytes],
        counters: Counters,
    ) -> None:
        self.door = door
        self._answer = answer
        self._refuse = refuse
        self._counters = counters
        self.hand_over: Callable[[list[bytes], Request], bool] = lambda _envelope, _request: False
        """Takes a question to where its answer takes a while; `send` is for when it has come."""
        self.comes_first: Callable[[], bool] = lambda: False
        """Whether something is there, a block, that requests have to wait for."""
        self._turns: Turns[_Question] = Turns(limits.QUESTIONS_PER_CLIENT, limits.QUESTIONS_WAITING)
        self.is_flooded = False
        """Whether more had come than is read in one turn."""
        self._cut: set[bytes] = set()
        """Who was cut off since the last heartbeat; what it had sent before is not looked at."""

    @property
    def waiting(self) -> bool:
        """Whether there is anything left to answer."""
        return len(self._turns) > 0

    def take_in(self) -> int:
        """Read what has come, some of it. Returns how many peers were cut off for asking without end."""
        cut = 0
        self.is_flooded = True
        for number in range(limits.REQUESTS_PER_TURN):
            if number and self.comes_first():
                self.is_flooded = False
                break
            try:
                *parts, last = self.door.socket.recv_multipart(zmq.DONTWAIT, copy=False)
            except zmq.Again:
                self.is_flooded = False
                break
            envelope, frame = [part.bytes for part in parts], last.bytes
            sender = envelope[0] if envelope else b""
            if sender in self._cut:
                continue
            cut += self._costs(sender, last, 1)
            # DEALER sends the request alone, REQ an empty part before it, REQ_CORRELATE a number before that.
            if not 1 <= len(envelope) <= 3 or (len(envelope) > 1 and envelope[-1]):
                self._counters.refused += 1
                continue
            self._counters.requests += 1
            try:
                request = decode_request(frame)
            except BadRequest as error:
                self._counters.refused += 1
                if error.id is not None:
                    self.send(envelope, self._refuse(error.id, "BAD_REQUEST", str(error)))
                continue
            if isinstance(request, MarkRequest) and not self.door.may_write(last):
                self._counters.refused += 1
                text = "this client's key may only read; its .key file lies in the hub's folder read-only"
                self.send(envelope, self._refuse(request.id, "READ_ONLY", text))
                continue
            if not self._turns.add(sender, _Question(envelope, request)):
                self._counters.refused += 1
                text = f"more than {limits.QUESTIONS_PER_CLIENT} of your questions wait; ask again later"
                told = self.send(envelope, self._refuse(request.id, "BUSY", text))
                cut += self._costs(sender, last, limits.BUSY_COSTS if told else limits.UNHEARD_COSTS)
        return cut

    def _costs(self, sender: bytes, frame: zmq.Frame, weight: int) -> int:
        """Count what a peer costs; 1 if it is cut off for it."""
        if not self.door.costs(frame, weight):
            return 0
        self._cut.add(sender)
        self._turns.drop(sender)
        return 1

    def beat(self) -> None:
        """Begin to count anew."""
        self._cut.clear()
        self.door.beat()

    def answer_one(self) -> None:
        """Answer the question whose turn it is, if any."""
        if not self._turns:
            return
        question = self._turns.next()
        try:
            if self.hand_over(question.envelope, question.request):
                return
            reply: bytes | None = self._answer(question.request)
        except Exception:
            log.exception("an error of the hub's own")
            reply = self._refuse(question.request.id, "INTERNAL", "the hub failed on this; see its log")
        if reply is not None:
            self.send(question.envelope, reply)

    def send(self, envelope: list[bytes], reply: bytes | zmq.Frame) -> bool:
        """Send an answer; False if its peer has gone, or does not read its answers."""
        socket = self.door.socket
        for _ in range(2):
            try:
                # A page is handed over; pyzmq copies what is shorter than 64 KiB all the same.
                socket.send_multipart([*envelope, reply], zmq.DONTWAIT, copy=False)
            except zmq.Again:
                is_readable(socket)  # libzmq looks once a ms for what peers have taken, and now (Z21)
            except zmq.ZMQError:
                break
            else:
                return True
        self._counters.undelivered += 1
        return False

    def reopen(self) -> None:
        """Drop everybody and listen again; who still wants an answer asks again."""
        self._turns.clear()
        self._cut.clear()
        self.door.reopen()
