"""`Client`: live EEG and its history from a hub anywhere, without threads.

Rule: one SUB socket, one query socket, and libzmq's own I/O thread draining them while Python computes; all
work happens inside the caller's calls. Not here: deciding anything (`timeline`, `verbs`).
"""

from __future__ import annotations

import time
from typing import Final

import zmq

from rdahub_client.address import Address, publish_endpoint, query_endpoint
from rdahub_client.belongings import Belongings
from rdahub_client.discovery import find_address
from rdahub_client.errors import HubLost, NotStreaming, RdaHubError
from rdahub_client.keys import KeyFile, client_keys
from rdahub_client.memory import private_ring
from rdahub_client.query import QuerySocket, end_context, set_heartbeat
from rdahub_client.reader import SILENCE, Reader, deadline_of
from rdahub_client.records import Segment
from rdahub_client.ring import Ring
from rdahub_client.verbs import Heard, Silence
from rdahub_client.waiting import Waiting, is_readable
from rdahub_client.wire import (
    BLOCK,
    END,
    GAP,
    HEARTBEAT,
    SEGMENT,
    Info,
    InfoRequest,
    Message,
    Reply,
    Request,
    decode,
)

__all__ = ["Client"]

BACKLOG: Final = 10_000
"""Messages taken in at most before a call answers: as many as may wait in this process."""
RETRY: Final = 1.0
"""Seconds between such questions until it is heard again: a hub that is back is found within 3 s."""
HANDSHAKE: Final = 5.0
"""Seconds a publish socket is given to be heard at all: a hub far away, with keys, takes some round trips."""
RECEIVE_BYTES: Final = 64 << 20
"""Bytes of blocks that may wait in this process while its program computes; more is fetched from history."""


class Client(Reader):
    """A reader of one hub, from any machine.

    Parameters
    ----------
    buffer_size : int
        Samples kept in this client's window; older ones are fetched from the hub.
    buffer_window : int
        Longest range promised as one contiguous view. Here every range in the window is.
    curve_key : path, optional
        This client's own ``NAME.key_secret``, for a hub that wants keys.
    server_key : path, optional
        The ``.key`` file of the hub; the client then talks to no other.

    Raises
    ------
    KeyFileError
        A key file is missing, damaged, or can be read by others.

    Notes
    -----
    A client belongs to one thread; make one per thread. A call while another thread is in one is a
    RuntimeError, and so is one in a process forked since `connect`.

    Examples
    --------
    >>> with Client() as client:  # doctest: +SKIP
    ...     client.connect("127.0.0.1")
    ...     client.start_streaming()
    ...     newest = client.poll(250)
    """

    def __init__(
        self,
        buffer_size: int = 300_000,
        buffer_window: int = 1,
        *,
        curve_key: KeyFile | None = None,
        server_key: KeyFile | None = None,
    ) -> None:
        if not isinstance(buffer_size, int):
            raise TypeError(
                f"buffer_size is a number of samples, not {buffer_size!r}; addresses go to connect"
            )
        if buffer_size < 1 or not 1 <= buffer_window <= buffer_size:
            raise ValueError("buffer_size and buffer_window are at least 1, and the window fits the buffer")
        super().__init__(backlog=BACKLOG)
        self._belongings = Belongings(self)
        self._buffer_size = buffer_size
        self._buffer_window = buffer_window
        self._keys = client_keys(curve_key, server_key)
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._query: QuerySocket | None = None
        self._sub: zmq.Socket[bytes] | None = None
        self._waiting: Waiting | None = None
        self._publish = ""
        self._layout: Segment | None = None
        self._heard = 0.0
        self._subscribed = 0.0
        self._deaf = False
        self._frame_bytes = 0
        self._address = ""

    @property
    def buffer_size(self) -> int:
        """Samples kept in the window."""
        return self._buffer_size

    @property
    def buffer_window(self) -> int:
        """Longest range promised as a contiguous view, in samples."""
        return self._buffer_window

    @property
    def data_dtype(self) -> str:
        """Type of the samples, ``float32``."""
        return "float32"

    @property
    def address(self) -> str:
        """The hub's query endpoint."""
        return self._address

    def connect(self, address: Address = "127.0.0.1", timeout: float | None = 5) -> None:
        """Find the hub.

        Parameters
        ----------
        address : str or tuple of (str, int)
            ``"host"``, ``"host:port"``, ``("host", port)``, ``"tcp://host:port"`` or ``"ipc://path"``; the
            port is 5570 where none is given. ``"auto"`` is the only hub there is, ``"auto:NAME"`` the only
            one of this name: on this machine, and with the extra ``zeroconf`` among those announced.
        timeout : float or None
            Seconds; None waits for ever.

        Raises
        ------
        HubUnreachable
            No hub answered in time; or there is more than one for ``"auto"``.
        AuthError
            The hub and this client do not accept each other's keys, or only one of them has any.
        ValueError
            The address cannot be one.
        """
        deadline = deadline_of(timeout)
        self._open_query(find_address(address, timeout, self._keys))
        try:
            self._found(self.info(None if deadline is None else max(0.0, deadline - time.monotonic())))
        except RdaHubError:
            self.disconnect()
            raise

    def _open_query(self, address: Address) -> QuerySocket:
        endpoint = query_endpoint(address)
        self._alone.settle()
        self.disconnect()
        self._address = endpoint
        self._context = zmq.Context()
        self._query = QuerySocket(self._context, endpoint, self._keys)
        self._belongings.keep("query", self._query)
        return self._query

    def _found(self, info: Info) -> None:
        self._publish = self._publish_endpoint(info)
        self._layout = info.segment

    def start_streaming(self, timeout: float | None = 10) -> None:
        """Follow the hub; returns once a segment is known.

        Parameters
        ----------
        timeout : float or None
            Seconds; None waits for ever.

        Raises
        ------
        TimeoutError
            No segment in time (`StartTimeout`): the Recorder is not acquiring, or the hub is gone.
        NotStreaming
            Not connected, or streaming already.
        """
        self._begin_streaming()
        try:
            self._run(self._verbs.begin(deadline_of(timeout)))
        except RdaHubError:
            self.stop_streaming()
            raise

    def _begin_streaming(self) -> None:
        if self._query is None:
            raise NotStreaming("start_streaming: call connect first")
        if self._streaming:
            raise NotStreaming("start_streaming: already streaming", hub=self.address)
        with self._alone:
            self._subscribe()
            self._streaming = True

    def stop_streaming(self) -> None:
        """Stop following the hub. The window can still be read."""
        with self._alone:
            super().stop_streaming()
            self._unsubscribe()

    def disconnect(self) -> None:
        """Close all sockets. The window can still be read."""
        with self._alone:
            self._streaming = False
            self._unsubscribe()
            self._belongings.close("query")
            self._query = None
            if self._context is not None:
                end_context(self._context)
                self._context = None

    # --- what Reader asks for ------------------------------------------------------------------------

    def _open_window(self, n_channels: int, start: int) -> Ring:
        return private_ring(self._buffer_size, n_channels, start)

    def _listen(self, deadline: float | None) -> Heard:
        self._tell_where(self._query, self._heard)
        while self._sub is not None and self._waiting is not None:
            until = self._overdue if deadline is None else min(deadline, self._overdue)
            if not (ready := is_readable(self._sub)) and until > 0:
                if self._timeline.window is not None:
                    self._timeline.window.prepare()
                ready = bool(self._waiting.changes(until - time.monotonic()))
            message = self._receive() if ready else None
            if message is not None or time.monotonic() >= until:
                return message or self._note_silence()
            # or else the poller returned a little early, as it may
        return None

    @property
    def _overdue(self) -> float:
        """When a hub that is not heard until then is asked whether it is there."""
        return self._heard + (RETRY if self._deaf else SILENCE)

    @property
    def _descriptors(self) -> list[int]:
        """What wakes when `_receive` may have something."""
        return [] if self._sub is None else [int(self._sub.get(zmq.FD))]

    def _receive(self) -> Message | None:
        """The next message, if it is here."""
        if self._sub is None:
            return None
        try:
            frame = self._sub.recv(zmq.DONTWAIT)
        except zmq.Again:  # something else had changed
            return None
        self._heard = time.monotonic()
        self._deaf = False
        if len(frame) > self._frame_bytes:
            self._mind_frame(len(frame))
        return decode(frame)

    def _silent_for(self) -> float:
        return time.monotonic() - self._heard

    def _note_silence(self) -> Silence | None:
        now = time.monotonic()
        if now < self._overdue:
            return None
        self._heard = now
        self._deaf = True
        return Silence()

    def _ask(self, request: Request, deadline: float | None, patience: float) -> Reply:
        reply = self._reachable().ask(request, deadline, patience)
        self._follow_hub(request, reply)
        return reply

    def _reachable(self) -> QuerySocket:
        if not self._address:
            raise NotStreaming("not connected: call connect first")
        if self._query is None:
            raise HubLost("disconnected")
        return self._query

    def _follow_hub(self, request: Request, reply: Reply) -> None:
        """Go where the hub publishes now."""
        if isinstance(request, InfoRequest) and self._sub is not None and reply.refusal is None:
            publish = self._publish_endpoint(reply.info())
            # The hub came back with another port; or it is there, but its publish socket is not heard: libzmq
            # gave up (it never tries again after a refused key, even if the key is allowed later).
            deaf = self._deaf and time.monotonic() > self._subscribed + HANDSHAKE
            if publish != self._publish or deaf:
                self._publish = publish
                self._subscribe()

    def _publish_endpoint(self, info: Info) -> str:
        return publish_endpoint(self._address, info.publish_port, info.publish)

    def _subscribe(self) -> None:
        if self._context is None:
            raise NotStreaming("not connected")
        self._unsubscribe()
        sub = self._context.socket(zmq.SUB)
        set_heartbeat(sub)
        # No pings here, and from the hub none either: where they meet a queue that is full, libzmq 4.3.5 ends
        # the process (its issue 3937). The hub's own heartbeats tell, and TCP's keepalive finds a dead link.
        sub.set(zmq.HEARTBEAT_IVL, 0)
        sub.set(zmq.TCP_KEEPALIVE, 1)
        sub.set(zmq.TCP_KEEPALIVE_IDLE, 1)
        sub.set(zmq.TCP_KEEPALIVE_INTVL, 1)
        sub.set(zmq.TCP_KEEPALIVE_CNT, 3)
        sub.set(zmq.IPV6, 1)
        if self._keys is not None:
            self._keys.lock(sub)
        sub.set(zmq.RCVHWM, self._receive_limit())
        for topic in (BLOCK, SEGMENT, GAP, HEARTBEAT, END):
            sub.subscribe(topic)
        sub.connect(self._publish)
        self._sub = sub
        self._belongings.keep("sub", sub)
        self._waiting = Waiting([sub])
        self._heard = self._subscribed = time.monotonic()
        self._deaf = False

    def _unsubscribe(self) -> None:
        self._belongings.close("sub")
        self._sub = self._waiting = None

    def _receive_limit(self) -> int:
        """High-water mark in messages, from the largest seen, or a block of 20 ms at the layout known."""
        segment = self._timeline.segment or self._layout
        usual = 5000 if segment is None else int(segment.n_channels * 4 * segment.sfreq * 0.02)
        self._frame_bytes = max(self._frame_bytes, usual, 1)
        return min(max(RECEIVE_BYTES // self._frame_bytes, 10), 10_000)

    def _mind_frame(self, n: int) -> None:
        """Messages are larger than thought; if much, as many as may wait now would be too many bytes."""
        much = n > 4 * self._frame_bytes
        self._frame_bytes = n
        if much:
            self._subscribe()
