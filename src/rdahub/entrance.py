"""Where peers come in: the query door, the publish door, the doorkeeper, and what is done against bad peers.

Rule: one bad peer changes nothing for others. What can be bounded peer by peer is (`questions`, `publisher`,
libzmq's own limits); what cannot is cured by opening a door anew, which costs everybody a reconnection and
nobody a sample.
Not here: what is published and answered (`service`), how much is too much (`limits`).
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import zmq

from rdahub import limits, memory_watch
from rdahub.broker import Counters
from rdahub.config import ServeSettings
from rdahub.door import Door
from rdahub.doorkeeper import Doorkeeper
from rdahub.publisher import Publisher, publish_options
from rdahub.questions import QUERY_OPTIONS, Questions
from rdahub.seldom import Seldom
from rdahub_client.waiting import Ready
from rdahub_client.wire import Request

__all__ = ["Entrance"]

log = logging.getLogger(__name__)

_GIVE_WAY: Final[Callable[[], object]] = getattr(os, "sched_yield", lambda: None)  # Windows has none
"""Lets a thread run that was woken on this core: in a flood libzmq's, with a block to send, would wait for a
slice of the scheduler (3 ms). Not in every turn: then the hub itself would wait for who computes here."""


class Entrance:
    """Both doors of a hub.

    Parameters
    ----------
    settings : ServeSettings
    answer, refuse : callable
        As for `Questions`.
    counters : Counters

    Attributes
    ----------
    publisher : Publisher
    questions : Questions

    Raises
    ------
    BindError
        An endpoint is taken.
    KeyFileError
        A key file is not what it should be.
    """

    def __init__(
        self,
        settings: ServeSettings,
        answer: Callable[[Request], bytes | None],
        refuse: Callable[[int, str, str], bytes],
        counters: Counters,
    ) -> None:
        self._counters = counters
        self._seldom = Seldom(log)
        self._usual_bytes = 0
        self._cured: float | None = None
        self._excess_then = 0
        self._next_look = 0.0
        self._context = zmq.Context(limits.IO_THREADS)
        self._keeper: Doorkeeper | None = None
        try:
            if settings.curve_key is not None and settings.curve_clients is not None:
                self._keeper = Doorkeeper(self._context, settings.curve_key, settings.curve_clients)
            query = self._door(
                zmq.ROUTER,
                "query",
                settings.query,
                QUERY_OPTIONS,
                limits.REQUESTS_PER_BEAT,
                settings.insecure,
            )
            endpoint, options = settings.publish_endpoint(), publish_options(curve=self._keeper is not None)
            publish = self._door(
                zmq.XPUB, "publish", endpoint, options, limits.SUBSCRIPTIONS_PER_BEAT, settings.insecure
            )
        except BaseException:
            self._context.destroy(0)
            raise
        self.questions = Questions(query, answer, refuse, counters)
        self.publisher = Publisher(publish)
        _step_back()
        _want_descriptors()

    def _door(
        self,
        kind: int,
        setting: str,
        endpoint: str,
        options: dict[zmq.SocketOption, int],
        most: int,
        insecure: bool,
    ) -> Door:
        return Door(self._context, kind, setting, endpoint, options, most, self._keeper, insecure)

    def describe(self) -> dict[str, Any]:
        """What a reader on this machine needs to ask questions."""
        description: dict[str, Any] = {"query": self.questions.door.endpoint}
        if self._keeper is not None:
            local = self._keeper.local
            keys = (local.public, local.secret, self._keeper.pair.public)
            description["keys"] = [key.decode() for key in keys]
        return description

    # --- in the loop -----------------------------------------------------------------------------------

    def sockets(self) -> tuple[list[zmq.Socket[bytes]], list[zmq.Socket[bytes]]]:
        """What to wait for, as `Waiting` wants them; they change when a door is opened anew."""
        doors = (self.questions.door, self.publisher.door)
        keeper = [] if self._keeper is None else [self._keeper.socket]
        return [door.socket for door in doors], [*(door.monitor for door in doors), *keeper]

    def serve(self, ready: Ready) -> None:
        """See to whoever came: one answer, some subscriptions, some handshakes."""
        if not ready and not self.questions.waiting:
            return
        if self.questions.door.socket in ready:
            self._counters.cut_peers += self.questions.take_in()
        self.questions.answer_one()
        if self.publisher.door.socket in ready:
            self._counters.cut_peers += self.publisher.count_subscribers()
        for door in (self.questions.door, self.publisher.door):
            if door.monitor in ready:
                self._counters.refused_peers += door.refusals()
        if self._keeper is not None and self._keeper.socket in ready:
            self._counters.refused_peers += self._keeper.answer()
        if self.questions.is_flooded or self.publisher.is_flooded:
            _GIVE_WAY()

    def mind(self, now: float) -> bool:
        """Keep peers from eating the machine's memory. True if `sockets` changed."""
        if now < self._next_look:
            return False
        self._next_look = now + limits.MEMORY_SECONDS
        if self._excess() <= 0:
            self._cured = None
            return False
        memory_watch.give_back()
        excess = self._excess()
        if self._cured is not None and excess < self._excess_then + limits.MEMORY_RISE:
            if now > self._cured + limits.CURE_SECONDS:  # it is no peer's: a long journal, say
                self._usual_bytes += max(0, excess)
            return False
        if excess <= 0:
            return False
        self._cured, self._excess_then = now, excess
        self._seldom.warn(
            f"peers hold {(excess + limits.MEMORY_BYTES) >> 20} MiB of the hub's memory; "
            "its sockets are opened anew and everybody has to come in again"
        )
        self._reopen()
        return True

    def _reopen(self) -> None:
        """Both doors: which of them a peer came through is not to be seen."""
        self.questions.reopen()
        self.publisher.reopen()

    def _excess(self) -> int:
        """Bytes used beyond what is allowed; negative if there is room."""
        used = memory_watch.own_bytes()
        self._usual_bytes = self._usual_bytes or used
        return used - self._usual_bytes - limits.MEMORY_BYTES - self.publisher.waiting_bytes

    def beat(self) -> bool:
        """Look after keys and descriptors, twice a second. True if `sockets` changed."""
        self.questions.beat()
        self.publisher.beat()
        try:
            os.close(os.dup(0))
        except OSError as error:
            if error.errno in {errno.EMFILE, errno.ENFILE}:
                self._seldom.warn(
                    "no file descriptor is left: too many connections; nobody new comes in until some have "
                    f"gone (a silent one is cut after {limits.HANDSHAKE_MS / 1000:g} s)"
                )
        if self._keeper is None or not self._keeper.refresh():
            return False
        log.warning("a key was taken off the list: everybody has to come in again")
        self._reopen()
        return True

    def close(self) -> None:
        """Let the last messages leave, and nobody in any more."""
        for door in (self.questions.door, self.publisher.door):
            door.close(limits.GOODBYE_MS)
        self._context.destroy(linger=0)


def _step_back() -> None:
    """Let live blocks go before answers: on Linux a thread can have a priority of its own."""
    if sys.platform != "linux":
        return
    for name in Path("/proc/self/task").glob("*/comm"):
        if name.read_text().rstrip().endswith("IO/0"):  # so libzmq calls the first, the query door's
            os.setpriority(os.PRIO_PROCESS, int(name.parent.name), limits.QUERY_NICE)


def _want_descriptors() -> None:
    """Have the system allow as many open files as the hub may need, where it can be asked."""
    with suppress(ImportError, OSError, ValueError):
        import resource  # noqa: PLC0415 - not on Windows

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = limits.DESCRIPTORS if hard == resource.RLIM_INFINITY else min(limits.DESCRIPTORS, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
