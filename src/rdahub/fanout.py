"""The process that serves RDA to programs that speak only that; `rda_out` starts it and feeds it.

Rule: what a client gets is one Recorder connection's bytes, from a message on, none left out, none added but
the opening that repeats what describes the stream; where that cannot be kept, its connection ends. A client
waits for nobody and nobody waits for a client. Pieces that wait are shared by all clients they wait for, so
memory is bounded by the furthest behind, not by their number.
Not here: where the messages lie (`rda.whole`), the hub's side (`rda_out`).
"""

from __future__ import annotations

import contextlib
import json
import math
import selectors
import socket
import sys
import time
from base64 import b64decode
from collections import deque
from typing import Any, Final

from rdahub import limits
from rdahub.companion import take_order
from rdahub.rda.whole import WholeMessages

__all__ = ["Fanout", "main"]

_READ: Final = selectors.EVENT_READ
_BOTH: Final = selectors.EVENT_READ | selectors.EVENT_WRITE
_TURN: Final = 0.1  # s; how late a deadline may be seen


class _Client:
    """One connection, and what waits for it."""

    __slots__ = ("behind", "heard", "leave_by", "name", "socket", "starts", "waiting")

    def __init__(self, connection: socket.socket, peer: Any, starts: int) -> None:
        self.socket = connection
        self.name = f"{peer[0]}:{peer[1]}"
        self.starts = starts
        """How many STARTs there were before the first it got."""
        self.waiting: deque[memoryview] = deque()
        self.behind = 0
        self.heard = 0
        self.leave_by = math.inf

    def send(self, piece: memoryview) -> None:
        """Send, or keep what does not go now."""
        if not self.waiting:
            piece = piece[self._try(piece) :]
        if piece:
            self.waiting.append(piece)
            self.behind += len(piece)

    def flush(self) -> None:
        """Send of what waits as much as goes."""
        while self.waiting:
            piece = self.waiting[0]
            n = self._try(piece)
            self.behind -= n
            if n < len(piece):
                self.waiting[0] = piece[n:]
                return
            self.waiting.popleft()

    def _try(self, piece: memoryview) -> int:
        try:
            return self.socket.send(piece)
        except BlockingIOError:
            return 0


class Fanout:
    """All clients of one port.

    Parameters
    ----------
    feed : socket.socket
        Whole messages from the hub, `END` where a Recorder's connection ended; reports go back on it.
    listener : socket.socket
        Listens already.
    """

    def __init__(self, feed: socket.socket, listener: socket.socket) -> None:
        self._feed, self._listener = feed, listener
        self._whole = WholeMessages()
        self._clients: set[_Client] = set()
        self._selector = selectors.DefaultSelector()
        for each in (feed, listener):
            each.setblocking(False)
            self._selector.register(each, _READ, None)
        self._fed = True
        self._counts = {"accepted": 0, "refused": 0, "cut": 0}
        self._lines: deque[tuple[str, str]] = deque(maxlen=limits.RDA_OUT_LINES)
        self._told: object = None
        self._report = b""

    def run(self) -> None:
        """Serve until the hub is gone and the clients have what was for them, or had the time for it."""
        while self._fed or self._clients:
            ready = self._selector.select(_TURN)
            if any(key.fileobj is self._feed for key, _ in ready):
                self._take_in()
            for key, events in ready:
                if key.fileobj is self._listener:
                    self._let_in()
                elif key.data is not None:
                    self._attend(key.data, events)
            now = time.monotonic()
            for client in [each for each in self._clients if now > each.leave_by]:
                self._end(client)
            if self._fed:
                self._tell()

    # --- the hub ---------------------------------------------------------------------------------------

    def _take_in(self) -> None:
        """Pass on what the hub has sent."""
        try:
            n = self._feed.recv_into(self._whole.get_buffer())
        except BlockingIOError:
            return
        except OSError:
            n = 0
        if not n:
            self._stop()
            return
        self._whole.buffer_updated(n)
        while True:
            if (piece := self._whole.take()) is not None:
                self._spread(memoryview(bytes(piece)))
            elif self._whole.foreign:
                self._whole.begin_anew()
                self._see_off(limits.RDA_OUT_LAST_SECONDS)
            else:
                return

    def _spread(self, piece: memoryview) -> None:
        astray, starts = self._whole.astray, self._whole.starts
        for client in list(self._clients):
            if client.leave_by < math.inf or (astray and client.starts == starts):
                continue
            try:
                client.send(piece)
            except OSError as error:
                self._lose(client, error)
                continue
            if client.waiting:
                if client.behind > limits.RDA_OUT_CLIENT_BYTES:
                    self._cut(client, f"it is {client.behind >> 20} MiB behind")
                else:
                    self._selector.modify(client.socket, _BOTH, client)

    def _see_off(self, seconds: float) -> None:
        """End every connection, once it has what waits for it."""
        for client in list(self._clients):
            client.leave_by = min(client.leave_by, time.monotonic() + seconds)
            self._shut(client)

    def _shut(self, client: _Client) -> None:
        """Say that nothing more comes; the peer's own end, or the deadline, closes the connection."""
        if not client.waiting:
            with contextlib.suppress(OSError):
                client.socket.shutdown(socket.SHUT_WR)

    def _stop(self) -> None:
        """The hub is gone."""
        self._fed = False
        for each in (self._feed, self._listener):
            self._selector.unregister(each)
            each.close()
        self._see_off(limits.RDA_OUT_GOODBYE_SECONDS)

    def _tell(self) -> None:
        """Report to the hub what is new."""
        news = {"clients": len(self._clients), **self._counts}
        if not self._report and (self._lines or news != self._told):
            self._told = news
            self._report = json.dumps({**news, "lines": list(self._lines)}).encode() + b"\n"
            self._lines.clear()
        if self._report:
            with contextlib.suppress(OSError):  # it looks twice a second
                self._report = self._report[self._feed.send(self._report) :]

    # --- clients ---------------------------------------------------------------------------------------

    def _let_in(self) -> None:
        try:
            connection, peer = self._listener.accept()
        except OSError:
            return  # gone already, or no descriptor is left
        if len(self._clients) >= limits.RDA_OUT_CLIENTS:
            connection.close()
            self._counts["refused"] += 1
            self._lines.append(
                ("refused", f"{peer[0]} is turned away: {len(self._clients)} are there already")
            )
            return
        connection.setblocking(False)
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limits.RDA_OUT_SOCKET_BYTES)
        client = _Client(connection, peer, self._whole.starts - self._whole.running)
        self._clients.add(client)
        self._counts["accepted"] += 1
        self._lines.append(("come", f"{client.name} has come"))
        self._selector.register(connection, _READ, client)
        self._attempt(client, memoryview(self._whole.opening()))

    def _attempt(self, client: _Client, piece: memoryview) -> None:
        try:
            client.send(piece)
        except OSError as error:
            self._lose(client, error)
        else:
            self._selector.modify(client.socket, _BOTH if client.waiting else _READ, client)

    def _attend(self, client: _Client, events: int) -> None:
        """Give it what waits for it; hear whether it is still there."""
        if client not in self._clients:
            return  # it went in this turn
        try:
            if events & selectors.EVENT_WRITE:
                client.flush()
                if not client.waiting:
                    self._selector.modify(client.socket, _READ, client)
                    if client.leave_by < math.inf:
                        self._shut(client)
            if events & _READ:
                heard = len(client.socket.recv(limits.RDA_OUT_HEARD_BYTES))
                client.heard += heard
                if not heard:
                    self._end(client)
                elif client.heard > limits.RDA_OUT_HEARD_BYTES:
                    self._cut(client, f"it has sent {client.heard} bytes, where a client has nothing to say")
        except BlockingIOError:
            pass
        except OSError as error:
            self._lose(client, error)

    def _lose(self, client: _Client, error: OSError) -> None:
        self._end(client, f": {error.strerror or error}")

    def _cut(self, client: _Client, why: str) -> None:
        self._counts["cut"] += 1
        self._lines.append(("cut", f"{client.name} is disconnected: {why}"))
        self._end(client, None)

    def _end(self, client: _Client, how: str | None = "") -> None:
        self._clients.discard(client)
        self._selector.unregister(client.socket)
        client.socket.close()
        if how is not None:
            self._lines.append(("gone", f"{client.name} has gone{how}"))


def _handed(what: int | str) -> socket.socket:
    """A socket of the hub's: a descriptor, or what `socket.share` made on Windows."""
    if sys.platform == "win32":
        return socket.fromshare(b64decode(what))
    return socket.socket(fileno=int(what))


def main() -> None:
    """Serve until the hub's end."""
    order = take_order(nice=0)  # a block waits for it
    fanout = Fanout(_handed(order["feed"]), _handed(order["listener"]))
    print("{}", flush=True)  # noqa: T201 - `companion` waits for it
    fanout.run()


if __name__ == "__main__":
    main()
