"""`LocalClient`: the verbs over the hub's own ring, for programs on the hub's machine.

Rule: samples are read where the hub wrote them, read-only, without a copy and without the network; a few
bytes on a datagram socket (the bell) say that there are more. Segments, gaps and markers come from the hub's
query socket, and no sample is shown before the records that precede it.
Not here: deciding anything (`timeline`, `verbs`), the files (`shared`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import zmq

from rdahub_client.belongings import Belongings
from rdahub_client.errors import HubLost, NotStreaming, RdaHubError, SharedMemoryError
from rdahub_client.keys import ClientKeys, KeyPair
from rdahub_client.query import QuerySocket, end_context
from rdahub_client.reader import SILENCE, Reader, deadline_of
from rdahub_client.records import Float32
from rdahub_client.ring import RingReader
from rdahub_client.shared import Attachment, default_directory
from rdahub_client.verbs import Heard, Silence
from rdahub_client.wire import End, Heartbeat, Reply, Request

__all__ = ["LocalClient"]


class LocalClient(Reader):
    """A reader on the hub's own machine (Linux, macOS), run by the same user.

    Parameters
    ----------
    name : str
        The hub's ``--name``.
    shm_dir : Path or str, optional
        The hub's ``--shm-dir`` if it is not the usual one.

    Raises
    ------
    SharedMemoryError
        No such hub runs on this machine, or it is another user's.

    Notes
    -----
    A view handed out is the hub's own memory: it stays valid until the ring comes round (`--history`).
    A client belongs to one thread; a call while another is in one is a RuntimeError, and so is one in a
    process forked since.
    """

    def __init__(self, name: str = "rdahub", shm_dir: Path | str | None = None) -> None:
        # One look at the marks tells all there is; more looks only chase what comes meanwhile.
        super().__init__(backlog=20)
        self._name = name
        self._directory = default_directory() if shm_dir is None else Path(shm_dir)
        self._generation = 0
        self._ring: RingReader | None = None
        self._reported = (-1, -1, "")
        self._heard = 0.0
        self._query: QuerySocket | None = None
        self._belongings = Belongings(self)
        self._attachment: Attachment | None = Attachment(self._name, self._directory)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._attach(self._attachment)

    @property
    def address(self) -> str:
        """The hub's name on this machine."""
        return f"local:{self._name}"

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
            Streaming already, or closed.
        SharedMemoryError
            This reader cannot be woken: the path of the hub's shared memory is too long.
        """
        if self._streaming or self._attachment is None:
            raise NotStreaming("start_streaming: already streaming, or disconnected", hub=self.address)
        with self._alone:
            self._attachment.hello()
            self._heard = time.monotonic()
            self._streaming = True
        try:
            self._run(self._verbs.begin(deadline_of(timeout)))
        except RdaHubError:
            self._streaming = False
            raise

    def disconnect(self) -> None:
        """Let go of the hub. What was mapped can still be read."""
        with self._alone:
            self._streaming = False
            self._detach()
            end_context(self._context)

    # --- what Reader asks for ------------------------------------------------------------------------

    def _open_window(self, n_channels: int, start: int) -> LocalWindow:  # noqa: ARG002 - the hub chose it
        if not self._is_of_this_hub():
            self._reattach()
        self._follow_ring()
        return LocalWindow(n_channels, self._ring if self._is_of_this_hub() else None)

    def _is_of_this_hub(self) -> bool:
        """Whether the attached files are of the instance that answers; its successor has the same address."""
        attachment = self._attachment
        return attachment is not None and attachment.instance == self._timeline.instance

    def _listen(self, deadline: float | None) -> Heard:
        self._tell_where(self._query, self._heard)
        while True:
            attachment = self._attachment
            if attachment is None:
                return None
            over = not attachment.is_open and self._timeline.instance == attachment.instance
            # After the end only news that leaves no question open: nobody is there to answer.
            if (not over or self._is_settled()) and (news := self._news()) is not None:
                return news
            if over and not self._timeline.ended:
                return End(self._timeline.instance)
            silent = self._heard + SILENCE
            until = silent if deadline is None else min(deadline, silent)
            if attachment.wait(until - time.monotonic()):
                self._heard = time.monotonic()
                continue
            now = time.monotonic()
            if now < until:
                continue  # the poller returned a little early, as it may
            if now < silent:
                return None
            self._heard = now
            self._reattach()
            return Silence()

    def _ask(self, request: Request, deadline: float | None, patience: float) -> Reply:
        if self._query is None:
            raise HubLost("not connected")
        try:
            return self._query.ask(request, deadline, patience)
        except HubLost:
            self._reattach()  # it may be back, at another address
            raise

    # --- following the ring ----------------------------------------------------------------------------

    def _is_settled(self) -> bool:
        return self._ring is not None and self._ring.seq == self._timeline.journal.next_seq

    def _news(self) -> Heartbeat | None:
        """What the ring's marks say, if it is news."""
        attachment = self._attachment
        if attachment is None:
            return None
        if attachment.generation != self._generation:
            self._follow_ring()
        ring = self._ring
        if ring is None:
            if self._generation:
                raise SharedMemoryError(
                    f"the hub named {self._name!r} has no shared memory left for its ring; use Client",
                    hub=self.address,
                )
            return None
        state = attachment.state
        next_index = ring.next_index  # before seq: the records of these rows are then counted in
        reported = next_index, ring.seq, state
        if reported == self._reported:
            return None
        self._reported = reported
        # Its own instance, not the one this client believes in: a hub that came back must be recognised.
        older, first_available = attachment.older, ring.first_available
        if older is not None:
            first_available = min(older, first_available)
        return Heartbeat(attachment.instance, state, None, first_available, next_index, reported[1], 0, 0)

    def _follow_ring(self) -> None:
        """Map the hub's newest ring if it is not the one mapped."""
        attachment = self._attachment
        while attachment is not None and (generation := attachment.generation) != self._generation:
            ring = attachment.ring(generation)
            if ring is None:
                if attachment.generation == generation:
                    if attachment.is_open and attachment.is_alive:  # withdrawn; a dead hub's is only gone
                        self._generation, self._ring = generation, None
                    return
                continue
            self._generation, self._ring = generation, ring
            window = self._timeline.window
            same_hub = self._timeline.instance == attachment.instance
            if isinstance(window, LocalWindow) and same_hub:
                window.follow(ring)

    def _attach(self, attachment: Attachment) -> None:
        self._attachment = attachment
        self._belongings.keep("attachment", attachment)
        keys = attachment.description.get("keys")
        self._query = QuerySocket(
            self._context, attachment.description["query"], keys and _keys_of_this_machine(keys)
        )
        self._belongings.keep("query", self._query)

    def _detach(self) -> None:
        self._belongings.close()
        self._attachment = self._query = None

    def _reattach(self) -> None:
        """Look whether the hub came back under its name; say hello again in any case."""
        try:
            fresh = Attachment(self._name, self._directory)
        except SharedMemoryError:
            return  # not back yet
        if self._attachment is not None and fresh.description == self._attachment.description:
            fresh.close()
            self._attachment.hello()
            return
        self._detach()
        self._generation, self._ring, self._reported = 0, None, (-1, -1, "")
        self._attach(fresh)
        fresh.hello()


def _keys_of_this_machine(keys: list[str]) -> ClientKeys:
    """The pair the hub keeps for readers who may read its shared memory anyway."""
    public, secret, server = (key.encode() for key in keys)
    return ClientKeys(KeyPair(public, secret), server)


class LocalWindow:
    """The hub's ring as a `Window` that fills itself.

    Parameters
    ----------
    n_channels : int
        Of the segment it serves; a ring of another layout does not serve it.
    """

    def __init__(self, n_channels: int, ring: RingReader | None) -> None:
        self.n_channels = n_channels
        self._ring: RingReader | None = None
        # The ring's own, without a call in between: a read is 1.5 µs.
        self.holds: Callable[[int, int], bool] = _holds_nothing
        self.view: Callable[[int, int], Float32 | None] = _no_view
        if ring is not None:
            self.follow(ring)

    def follow(self, ring: RingReader) -> None:
        """Go over to a newer ring, if it is of this layout."""
        if ring.n_channels == self.n_channels:
            self._ring = ring
            self.holds, self.view = ring.holds, ring.view

    @property
    def capacity(self) -> int:
        """Rows the ring holds."""
        return 0 if self._ring is None else self._ring.capacity

    @property
    def first_available(self) -> int:
        """Index of the oldest sample."""
        return 0 if self._ring is None else self._ring.first_available

    def reaches(self, index: int) -> bool:
        """Whether the hub has written up to `index`."""
        return self._ring is not None and self._ring.reaches(index)

    def extend(self, samples: Float32) -> None:
        """The hub writes; a reader never does."""

    def write(self, index: int, data: memoryview) -> None:
        """The hub writes; a reader never does."""

    def prepare(self) -> None:
        """The hub writes; a reader never does."""

    def skip(self, n: int) -> None:
        """The hub writes; a reader never does."""

    def jump(self, index: int) -> None:
        """The hub writes; a reader never does."""


def _holds_nothing(_start: int, _stop: int) -> bool:
    return False


def _no_view(_start: int, _stop: int) -> Float32 | None:
    return None
