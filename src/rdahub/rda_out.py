"""RDA for programs that speak only that, as it came from the Recorder: the hub's side of `serve --rda-out`.

Rule: the hub serves none of them itself. It hands what it has received, when the blocks in it have gone their
own way, to a process that does (`fanout`), and waits for nothing: what that process cannot take now waits
here, and if that grows too much the process is ended and started anew. A client's stream is a whole one or
ends; it never has a hole. The port is the hub's, so that it stays when that process does not.
Not here: where messages lie (`rda.whole`), how the process is looked after (`companion`).
"""

from __future__ import annotations

import json
import logging
import socket
import sys
from base64 import b64encode
from collections import deque
from collections.abc import Sequence
from typing import Any

from rdahub import limits
from rdahub.companion import Companion
from rdahub.config import ServeSettings, listen_address
from rdahub.endpoints import BindError, UnsafeEndpoint, is_local
from rdahub.rda.whole import END, WholeMessages
from rdahub.seldom import Seldom

__all__ = ["RdaOut"]

log = logging.getLogger(__name__)


class RdaOut(Companion):
    """The port, and the process behind it.

    Parameters
    ----------
    settings : ServeSettings
        With ``rda_out``.

    Attributes
    ----------
    address : str
        ``HOST:PORT``, the real port.

    Raises
    ------
    UnsafeEndpoint, BindError
        The address may not, or cannot, be listened on.
    RdaHubError
        The process does not start.
    """

    again_seconds = limits.RDA_OUT_AGAIN_SECONDS

    def __init__(self, settings: ServeSettings) -> None:
        text = settings.rda_out or ""
        if not settings.insecure and not is_local(f"tcp://{text}"):
            raise UnsafeEndpoint(
                f"--rda-out {text} is open to the network, and RDA has neither password nor encryption; "
                "listen on 127.0.0.1, or say --insecure if everyone on that network may read the EEG"
            )
        host, port = listen_address(text)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._listener = socket.create_server((host, port), family=family, backlog=limits.RDA_OUT_CLIENTS)
        except OSError as error:
            why = (error.strerror or str(error)).partition(" (while")[0]
            raise BindError(f"--rda-out {text}: {why}") from None
        port = self._listener.getsockname()[1]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._whole = WholeMessages()
        self._feed: socket.socket | None = None
        self._fresh: socket.socket | None = None
        self._theirs: socket.socket | None = None
        self._waiting: deque[memoryview] = deque()
        self._behind = 0
        self._report = b""
        self._counts = {"clients": 0, "accepted": 0, "refused": 0, "cut": 0, "restarts": -1}
        self._before: dict[str, int] = {}
        self._kinds = {kind: Seldom(log) for kind in ("come", "gone", "refused", "cut", "behind")}
        try:
            super().__init__("rdahub.fanout", "the endpoint for RDA", {})
        except BaseException:
            self._listener.close()
            raise
        self._adopt()

    # --- the Recorder's bytes ----------------------------------------------------------------------------

    def pass_on(self, received: memoryview) -> None:
        """Hand on what was received from the Recorder."""
        if self._whole.passes(received):
            self._hand(received)
            return
        self._whole.feed(received)
        while (piece := self._whole.take()) is not None:
            self._hand(piece)

    def lost(self) -> None:
        """The connection to the Recorder has ended: so do its clients', behind the last whole message."""
        self._whole = WholeMessages()
        self._hand(memoryview(END))

    def _hand(self, piece: memoryview) -> None:
        if self._feed is None:
            return
        if not self._waiting:
            piece = piece[self._try(piece) :]
            if not piece:
                return
        self._waiting.append(memoryview(bytes(piece)))
        self._behind += len(piece)
        self._flush()
        if self._behind > limits.RDA_OUT_BEHIND_BYTES:
            self._kinds["behind"].warn(f"{self._what} is {self._behind >> 20} MiB behind: it is ended")
            self._process.kill()
            self._let_feed_go()

    def _flush(self) -> None:
        while self._waiting:
            piece = self._waiting[0]
            n = self._try(piece)
            self._behind -= n
            if n < len(piece):
                self._waiting[0] = piece[n:]
                return
            self._waiting.popleft()

    def _try(self, piece: memoryview) -> int:
        if self._feed is None:
            return len(piece)  # it has died: it is nobody's any more
        try:
            return self._feed.send(piece)
        except BlockingIOError:
            return 0
        except OSError:
            self._let_feed_go()
            return len(piece)

    def _let_feed_go(self) -> None:
        if self._feed is not None:
            self._feed.close()
            self._feed = None
        self._counts["clients"] = 0

    # --- the process -------------------------------------------------------------------------------------

    def _inherited(self) -> Sequence[int]:
        for left in (self._fresh, self._theirs):  # by an attempt that failed
            if left is not None:
                left.close()
        ours, self._theirs = socket.socketpair()
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limits.RDA_OUT_SOCKET_BYTES)
        self._fresh = ours
        return () if sys.platform == "win32" else (self._theirs.fileno(), self._listener.fileno())

    def _handed_over(self, pid: int) -> dict[str, Any]:
        assert self._theirs is not None  # noqa: S101 - _inherited made it
        theirs, self._theirs = self._theirs, None
        with theirs:
            if sys.platform == "win32":
                feed, listener = (b64encode(each.share(pid)).decode() for each in (theirs, self._listener))
                return {"feed": feed, "listener": listener}
            return {"feed": theirs.fileno(), "listener": self._listener.fileno()}

    def _adopt(self) -> None:
        """Take up with a process that was started: it is told what a new client would be."""
        self._let_feed_go()
        self._feed, self._fresh = self._fresh, None
        self._waiting.clear()
        self._behind = 0
        self._report, self._before = b"", {}
        self._counts["restarts"] += 1
        if opening := self._whole.opening():
            self._hand(memoryview(opening))

    def mind(self, now: float) -> None:
        """As `Companion.mind`; and hear what the process says."""
        super().mind(now)
        if self._fresh is not None and self._again is None and self._process.poll() is None:
            self._adopt()
        self._flush()
        self._hear_report()

    def _hear_report(self) -> None:
        if self._feed is None:
            return
        try:
            data = self._feed.recv(limits.RDA_OUT_HEARD_BYTES)
        except OSError:
            return  # nothing, or it has died: _try and mind will see
        *reports, self._report = (self._report + data).split(b"\n")
        for each in reports:
            report = json.loads(each)
            for kind, line in report.pop("lines"):
                said = self._kinds[kind]
                (said.tell if kind in {"come", "gone"} else said.warn)(f"RDA client {line}")
            self._counts["clients"] = report.pop("clients")
            for name, count in report.items():
                self._counts[name] += count - self._before.get(name, 0)
            self._before = report

    def describe(self) -> dict[str, Any]:
        """For `status`."""
        return {"address": self.address, **self._counts}

    def close(self) -> None:
        """End it, and the port."""
        self._flush()
        self._let_feed_go()
        super().close()
        self._listener.close()
