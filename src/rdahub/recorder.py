"""The TCP connection to the Recorder: opened aside, read without blocking.

Rule: it moves bytes and names failures; when to connect is for `upstream` to say, what bytes mean for `rda`.
Name look-up and connecting may take seconds, so they happen on a short-lived thread which then rings; no
thread is ever in the path of the data.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from rdahub import limits, rda
from rdahub_client.waiting import Waiting

if TYPE_CHECKING:
    from rdahub.rda_out import RdaOut

__all__ = ["RecorderLink", "RecorderLost"]


class RecorderLost(Exception):
    """The connection failed or ended; the text says why."""


class RecorderLink:
    """One connection at a time.

    Parameters
    ----------
    host, port : str, int
        The RDA server.
    ring : callable
        Called from the connecting thread when an attempt has ended; `finish` then tells how.
    """

    def __init__(self, host: str, port: int, ring: Callable[[], None]) -> None:
        self.host = host
        self.port = port
        self.socket: socket.socket | None = None
        self.descriptor: int | None = None
        """Of the socket, to wait for."""
        self._arrived = Waiting()
        self._ring = ring
        self._result: socket.socket | OSError | None = None
        self._decoder = rda.Decoder(copy=False)
        self.out: RdaOut | None = None
        """Who else gets what is received."""
        self._fresh: memoryview | None = None
        self._spare: socket.socket | None = None
        """For the next attempt: a flood of peers may have taken every descriptor by then."""

    def begin(self) -> None:
        """Start an attempt to connect."""
        threading.Thread(target=self._connect, name="rdahub-connect", daemon=True).start()

    def _connect(self) -> None:
        try:
            self._result = self._reach()
        except OSError as error:
            self._result = error
        except UnicodeError:
            self._result = OSError(0, "that is no host name")
        self._ring()

    def _reach(self) -> socket.socket:
        """As `socket.create_connection`, but with the spare socket if it fits."""
        failure = OSError(0, "that host name has no address")
        for family, kind, *_, address in socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM):
            spare, self._spare = self._spare, None
            if spare is not None and spare.family != family:
                spare.close()
                spare = None
            connection = None
            try:
                connection = spare or socket.socket(family, kind)
                connection.settimeout(limits.CONNECT_SECONDS)
                connection.connect(address)
            except OSError as error:
                if connection is not None:
                    connection.close()
                    with contextlib.suppress(OSError):
                        self._spare = socket.socket(family, kind)
                failure = error
            else:
                return connection
        raise failure

    def finish(self) -> bool:
        """Take the outcome of an attempt, if there is one. True if connected now.

        Raises
        ------
        RecorderLost
            The attempt failed.
        """
        result, self._result = self._result, None
        if result is None:
            return False
        if isinstance(result, OSError):
            raise RecorderLost(result.strerror or str(result))
        with contextlib.suppress(OSError):
            self._spare = socket.socket(result.family, socket.SOCK_STREAM)
        self.use(result)
        return True

    def use(self, connection: socket.socket) -> None:
        """Receive from here from now on."""
        connection.setblocking(False)
        _watch(connection)
        self.socket = connection
        self.descriptor = connection.fileno()
        self._arrived.add(self.descriptor)
        self._decoder = rda.Decoder(copy=False)

    def has_arrived(self) -> bool:
        """Whether there is anything for `receive`."""
        return self.socket is not None and bool(self._arrived.changes(0))

    def receive(self) -> Iterator[rda.Message]:
        """Messages in what has arrived, without blocking. Samples are valid until the next is asked for.

        Raises
        ------
        RecorderLost
            End of stream or a broken connection.
        rda.ProtocolError
            Bytes that are not RDA, with their offset.
        """
        decoder = self._decoder
        while (message := decoder.take()) is not None:  # left from a turn that was cut short
            yield message
        for _ in range(limits.RECEIVE_CALLS):
            if self.socket is None:
                return
            room = decoder.get_buffer()
            try:
                n = self.socket.recv_into(room)
            except BlockingIOError:
                return
            except OSError as error:
                raise RecorderLost(error.strerror or str(error)) from None
            if n == 0:
                decoder.eof()
                raise RecorderLost("it closed the connection")
            decoder.buffer_updated(n)
            self._fresh = room[:n]
            try:
                while (message := decoder.take()) is not None:
                    yield message
            finally:  # also in a turn that is cut short, and of what came before an error
                self._hand_on()
            if n < len(room):
                return  # that was all

    def soak(self) -> None:
        """Take in what has arrived and leave it for `receive`: for who has something long to do."""
        self._hand_on()
        for _ in range(limits.RECEIVE_CALLS):
            if self.socket is None:
                return
            room = self._decoder.get_buffer()
            try:
                n = self.socket.recv_into(room)
            except OSError:  # there is no more, or `receive` will find what is wrong
                return
            self._decoder.buffer_updated(n)
            self._fresh = room[:n]
            self._hand_on()
            if n < len(room):
                return

    def _hand_on(self) -> None:
        """Give what was received last to who else gets it."""
        fresh, self._fresh = self._fresh, None
        if fresh is not None and self.out is not None and self.socket is not None:
            self.out.pass_on(fresh)

    def drop(self) -> None:
        """Close the connection."""
        if self.socket is not None and self.descriptor is not None:
            self._arrived.remove(self.descriptor)
            self.socket.close()
            self.socket = self.descriptor = None
            if self.out is not None:
                self.out.lost()

    def close(self) -> None:
        """Close everything."""
        self.drop()
        if self._spare is not None:
            self._spare.close()
            self._spare = None


def _watch(connection: socket.socket) -> None:
    """Have TCP notice a peer that vanished, where the platform can."""
    with contextlib.suppress(OSError):  # macOS refuses it where the peer has closed already
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_NODELAY", 1),
        ("TCP_KEEPIDLE", limits.KEEPALIVE_SECONDS),
        ("TCP_KEEPINTVL", limits.KEEPALIVE_SECONDS),
        ("TCP_KEEPCNT", 2),
        ("TCP_USER_TIMEOUT", limits.USER_TIMEOUT_MS),
    ):
        with contextlib.suppress(AttributeError, OSError):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
