"""The hub's half of the archive: it starts the process, hands questions over and sends the answers on.

Rule: nothing here waits for the process, or for a disk. Questions wait in their clients' turns, few are under
way at a time, and who gets no answer is told so; a page is passed on as it came, without a copy.
Not here: the process (`archivist`), which questions are the archive's (`rdahub.answers`).
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgpack
import zmq

from rdahub import limits
from rdahub.archive.cached import AT_ONCE, Cached
from rdahub.broker import Broker
from rdahub.companion import Companion
from rdahub.config import ServeSettings
from rdahub.seldom import Seldom
from rdahub.turns import Turns
from rdahub_client.address import from_here
from rdahub_client.errors import RdaHubError
from rdahub_client.memory import MIRRORS
from rdahub_client.wire import (
    InstancesRequest,
    Page,
    PastEventsRequest,
    PastRangeRequest,
    RangeRequest,
    Request,
    encode_page,
    encode_request,
)

if TYPE_CHECKING:
    from rdahub.archive.shelf import Archived  # of the process, and POSIX only

__all__ = ["Keeper"]

log = logging.getLogger(__name__)

Send = Callable[[list[bytes], bytes | zmq.Frame], bool]
"""``send(envelope, frame)``: an answer, to who asked."""
Refuse = Callable[[int, str, str], bytes]

_UNDER_WAY: Final = 3
"""Questions at the process: one answered, one on its way there, one on its way back."""


class Keeper(Companion):
    """The archive, as the hub sees it.

    Parameters
    ----------
    settings : ServeSettings
        With ``archive``.
    broker : Broker
        Is told what can be had from disk.
    began_ns : int
        Wall clock at the hub's start.
    hub : dict
        Where the hub's query socket is, and the keys for it, as `Entrance.describe` says.
    send, refuse : callable

    Attributes
    ----------
    socket : zmq.Socket
        Readable when `serve` has something to do.

    Raises
    ------
    RdaHubError
        The folder cannot be used, or the process does not start.
    """

    again_seconds = limits.ARCHIVE_AGAIN_SECONDS

    def __init__(
        self,
        settings: ServeSettings,
        broker: Broker,
        began_ns: int,
        hub: dict[str, Any],
        send: Send,
        refuse: Refuse,
    ) -> None:
        if not MIRRORS:
            raise RdaHubError("--archive is for Linux and macOS: elsewhere the hub's ring cannot be followed")
        assert settings.archive is not None  # noqa: S101 - or else nobody makes a Keeper
        self._folder = settings.archive.absolute()
        self._broker, self._send, self._refuse = broker, send, refuse
        self._turns: Turns[tuple[list[bytes], Archived]] = Turns(
            limits.QUESTIONS_PER_CLIENT, limits.QUESTIONS_WAITING
        )
        self._asked: dict[bytes, tuple[list[bytes], Archived, float]] = {}
        self._number = 0
        self._told = Seldom(log)
        self._report: dict[str, Any] = {"first": 0, "stop": 0, "bytes": 0, "holes": 0, "trouble": ""}
        self._pages = 0
        self._cached = Cached()
        self._theirs: socket.socket | None = None
        self._started = 0.0
        path = settings.shm_dir / f"rdahub-{settings.name}.archive"
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.linger = 0
        try:
            self.socket.bind(f"ipc://{path}")
            path.chmod(0o600)
            order = {
                **hub,
                "query": from_here(hub["query"]),
                "hub": settings.name,
                "shm_dir": str(settings.shm_dir),
                "instance": broker.instance,
                "name": settings.name,
                "recorder": settings.recorder,
                "began_ns": began_ns,
                "folder": str(self._folder),
                "reserve": int(settings.archive_reserve),
                "desk": f"ipc://{path}",
            }
            super().__init__("rdahub.archive.archivist", "the archive", order)
        except (OSError, zmq.ZMQError) as error:
            self._close_sockets()
            raise RdaHubError(f"--archive {self._folder}: {error.strerror or error}") from error
        except BaseException:
            self._close_sockets()
            raise
        if "error" in self.answer:
            self.close()
            raise RdaHubError(f"--archive {self._folder}: {self.answer['error']}")
        log.info("archive in %s", self._folder / broker.instance)

    # --- in the loop -----------------------------------------------------------------------------------

    def take(self, envelope: list[bytes], request: Request) -> bool:
        """Have a question answered from the archive, in its turn, if it is one for it."""
        if isinstance(request, RangeRequest):
            broker = self._broker
            of_this = request.instance in {None, broker.instance}
            older = broker.first_available <= request.start < broker.first_in_memory
            if not (of_this and older and request.start <= request.stop <= broker.next_index):
                return False
            if (page := self._page_at_once(request)) is not None:
                self._pages += 1
                self._send(envelope, page)
                return True
        elif not isinstance(request, PastRangeRequest | PastEventsRequest | InstancesRequest):
            return False
        if not self._turns.add(envelope[0], (envelope, request)):
            text = f"more than {limits.QUESTIONS_PER_CLIENT} of your questions wait; ask again later"
            self._send(envelope, self._refuse(request.id, "BUSY", text))
        self._hand_over()
        return True

    def _page_at_once(self, request: RangeRequest) -> bytes | None:
        """A page that the system has in memory; None if the process must see to it."""
        broker = self._broker
        segment = broker.journal.segment_at(request.start)
        if segment is None or (segment.stop is not None and segment.stop < request.stop):
            return None
        rows = self._cached.rows(request.start, min(request.stop, broker.archived[1]))
        if rows is None:
            return None
        page = Page(
            broker.instance, segment.number, request.start, request.start + len(rows),
            broker.first_available, broker.next_index, rows,
        )  # fmt: skip
        return encode_page(request.id, page)

    def serve(self) -> None:
        """Send on what has come from the process."""
        for _ in range(_UNDER_WAY + 1):
            try:
                number, answer = self.socket.recv_multipart(zmq.DONTWAIT, copy=False)
            except zmq.Again:
                break
            if not number.bytes:
                self._note(msgpack.unpackb(answer.bytes))
            elif (asked := self._asked.pop(number.bytes, None)) is not None:
                self._pages += 1
                self._send(asked[0], answer)
        self._hand_over()

    def _hand_over(self) -> None:
        while self._turns and len(self._asked) < _UNDER_WAY:
            if self._is_on_its_way():
                return
            envelope, request = self._turns.next()
            self._number += 1
            number = b"%d" % self._number
            try:
                message = [
                    number,
                    encode_request(request, request.id),
                    msgpack.packb(self._broker.holdings()),
                ]
                self.socket.send_multipart(message, zmq.DONTWAIT)
            except zmq.Again:  # the process has died
                self._refuse_one(envelope, request)
            else:
                self._asked[number] = envelope, request, time.monotonic()

    def _is_on_its_way(self) -> bool:
        """Whether the process has just been started, and will be there in a moment."""
        if int(self.socket.get(zmq.EVENTS)) & zmq.POLLOUT:
            return False
        return self.is_running and time.monotonic() < self._started + limits.ARCHIVE_SECONDS

    def _refuse_one(self, envelope: list[bytes], request: Archived) -> None:
        text = "the archive does not answer at the moment; the hub's log may tell why"
        self._send(envelope, self._refuse(request.id, "NOT_READABLE", text))

    def _note(self, report: dict[str, Any]) -> None:
        self._cached.take_in()
        before, self._report = self._report, report
        self._broker.archived = report["first"], report["stop"]
        if report["trouble"] != before["trouble"]:
            if report["trouble"]:
                self._told.warn(f"archive {self._folder}: {report['trouble']}")
            else:
                log.info("archive %s: writing again", self._folder)
        if report["holes"] > before["holes"]:
            self._told.warn(
                f"archive {self._folder}: it fell behind by more than the history; samples before "
                f"{report['first']} are not all there"
            )

    def mind(self, now: float) -> None:
        """Look after the process, and after who waits too long for it."""
        super().mind(now)
        for number, (envelope, request, asked) in tuple(self._asked.items()):
            if now - asked > limits.ARCHIVE_SECONDS:
                del self._asked[number]
                self._refuse_one(envelope, request)
        self._hand_over()

    def describe(self) -> dict[str, Any]:
        """For the hub's status."""
        report = self._report
        return {
            "folder": str(self._folder),
            "first": report["first"],
            "stop": report["stop"],
            "bytes": report["bytes"],
            "holes": report["holes"],
            "trouble": report["trouble"],
            "answers": self._pages,
        }

    # --- the process -----------------------------------------------------------------------------------

    def _inherited(self) -> Sequence[int]:
        if not AT_ONCE:
            return ()
        self._theirs = self._cached.connect()
        return (self._theirs.fileno(),)

    def _handed_over(self, pid: int) -> dict[str, Any]:  # noqa: ARG002 - it has inherited it
        self._started = time.monotonic()
        if self._theirs is None:
            return {}
        with self._theirs as theirs:
            return {"files": theirs.fileno()}

    # --- the end ---------------------------------------------------------------------------------------

    def close(self) -> None:
        """End it for good."""
        super().close()
        self._close_sockets()

    def _close_sockets(self) -> None:
        self._cached.close()
        self._context.destroy(linger=0)
