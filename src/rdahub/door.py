"""One listening socket: made, guarded, bound, watched, and made anew on its old address.

Rule: options are set before the bind and never again (libzmq 4.3.5 dies of a changed high-water mark).
Making it anew drops every connection and all memory they hold; clients come back by themselves and repair
what they missed. It is the one cure for what libzmq cannot refuse peer by peer: a key withdrawn, memory
eaten by a peer.
Not here: what goes through (`publisher`, `questions`), when to make it anew (`entrance`).
"""

from __future__ import annotations

import logging
import os
import socket
import struct
import time
from collections import Counter
from typing import Final

import zmq

from rdahub import limits
from rdahub.doorkeeper import Doorkeeper
from rdahub.endpoints import BindError, bind
from rdahub.seldom import Seldom
from rdahub_client.query import set_heartbeat

__all__ = ["Door"]

log = logging.getLogger(__name__)

_RESET: Final = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
"""SO_LINGER: on, and no time at all."""


class Door:
    """A bound socket.

    Parameters
    ----------
    context : zmq.Context
    kind : int
        ``zmq.ROUTER`` or ``zmq.XPUB``.
    setting, endpoint : str
        The setting that names its address, and its value.
    options : dict of int to int
        ZeroMQ options.
    most : int
        Messages a peer may send between two heartbeats.
    keeper : Doorkeeper or None
        Lets in whom it knows; everybody if None.
    insecure : bool
        Whether it may listen beyond loopback without a keeper.

    Attributes
    ----------
    socket : zmq.Socket
    monitor : zmq.Socket
        Readable when `refusals` has something to count.
    endpoint : str
        Where it listens, with its real port.

    Raises
    ------
    BindError
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        kind: int,
        setting: str,
        endpoint: str,
        options: dict[zmq.SocketOption, int],
        most: int,
        keeper: Doorkeeper | None,
        insecure: bool,
    ) -> None:
        self._context = context
        self._kind = kind
        self._setting = setting
        self._options = options
        self._keeper = keeper
        self._insecure = insecure
        self._most = most
        self._costs: Counter[int] = Counter()
        self._said_refused, self._said_cut = Seldom(log), Seldom(log)
        self.endpoint = endpoint
        self._open()

    def _open(self) -> None:
        self.socket = self._context.socket(self._kind)
        set_heartbeat(self.socket)
        self.socket.set(zmq.HANDSHAKE_IVL, limits.HANDSHAKE_MS)
        for option, value in self._options.items():
            self.socket.set(option, value)
        if self._keeper is not None:
            self._keeper.guard(self.socket)
        # Only this event: a flood of others would have to be read here, or stop libzmq's I/O thread.
        self.monitor = self.socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
        try:
            self.endpoint = bind(
                self.socket, self.endpoint, self._insecure or self._keeper is not None, self._setting
            )
        except BindError:
            self.close()
            raise

    def reopen(self) -> None:
        """Drop all connections and listen again.

        The old socket lets go of the address within milliseconds; until then there is nothing else to do.
        """
        self.close()
        self._costs.clear()
        deadline = time.monotonic() + limits.REOPEN_SECONDS
        while True:
            try:
                return self._open()
            except BindError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.001)

    def refusals(self) -> int:
        """How many peers were turned away since the last call because they do not speak as this hub does."""
        count = 0
        while count < limits.HANDSHAKES and self.monitor.poll(0):
            self.monitor.recv_multipart()
            count += 1
        if count:
            peer = (
                "that does not speak ZeroMQ as it should, or wants keys, and this hub has none"
                if self._keeper is None
                else "without keys, or with another hub's server key"
            )
            self._said_refused.warn(f"turned away at the {self._setting} socket: a peer {peer}")
        return count

    def may_write(self, frame: zmq.Frame) -> bool:
        """Whether the sender of a message may insert markers; without keys everybody who gets in may."""
        return self._keeper is None or self._keeper.may_write(frame)

    def costs(self, frame: zmq.Frame, weight: int = 1) -> bool:
        """Count a message on its sender, and hang up on one that sends without end. True if so."""
        try:
            fd = int(frame.get(zmq.SRCFD))
        except zmq.ZMQError:
            return False  # libzmq itself says something of a peer that has left
        self._costs[fd] += weight
        if self._costs[fd] <= self._most:
            return False
        self._costs[fd] = 0
        where = frame.get("Peer-Address")
        self._said_cut.warn(f"cut off a peer at {where}: it sends to the {self._setting} socket without end")
        self._hang_up(fd)
        return True

    def beat(self) -> None:
        """Begin to count anew; a descriptor may be another peer's by now."""
        self._costs.clear()

    def _hang_up(self, fd: int) -> None:
        """Shut a connection of libzmq's, which then sees its peer leave.

        The descriptor may have become something else meanwhile. Only a connection of this door is touched: at
        worst another peer has to come back.
        """
        try:
            connection = socket.socket(fileno=fd)
        except OSError:
            return
        try:
            name = connection.getsockname()
            if not self.endpoint.startswith("tcp://") or str(name[1]) == self.endpoint.rpartition(":")[2]:
                # Reset rather than finish: a flooder would keep the address busy for a minute.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                connection.shutdown(socket.SHUT_RDWR)
        except (OSError, IndexError):
            return
        finally:
            connection.detach()  # it is libzmq's to close

    def close(self, linger: int = 0) -> None:
        """Stop listening; what is still to be sent may take `linger` milliseconds."""
        self.socket.disable_monitor()  # first: libzmq would wait for a reader that has gone
        self.monitor.close()
        self.socket.close(linger)
