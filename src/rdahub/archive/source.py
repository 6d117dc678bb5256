"""Where the archive takes an instance from: its hub's ring, and its hub's answers.

Rule: following costs the hub nothing while its ring is shared: nobody is woken and nobody is asked for rows;
what is not in the ring that is mapped (an earlier layout) is asked for, like any client does. Rows are copied
and then checked, so none is ever torn. Nothing is taken from another instance.
Not here: what becomes of them (`archivist`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import zmq

from rdahub_client.errors import HubLost, Overwritten, RdaHubError, SharedMemoryError
from rdahub_client.keys import ClientKeys, KeyPair
from rdahub_client.query import QuerySocket
from rdahub_client.records import Float32
from rdahub_client.ring import RingReader
from rdahub_client.shared import Attachment
from rdahub_client.wire import Events, EventsRequest, InfoRequest, RangeRequest, Reply, Request

__all__ = ["Source"]

_PATIENCE: Final = 1.0  # s for the hub to answer


class Source:
    """One instance, followed.

    Parameters
    ----------
    order : dict
        ``instance``, ``hub`` (its name), ``shm_dir``, ``query`` and perhaps ``keys``.
    """

    def __init__(self, order: dict[str, Any]) -> None:
        self._instance = order["instance"]
        self._name, self._folder = order["hub"], Path(order["shm_dir"])
        keys = None
        if order.get("keys"):
            public, secret, server = (key.encode() for key in order["keys"])
            keys = ClientKeys(KeyPair(public, secret), server)
        self._query = QuerySocket(zmq.Context(), order["query"], keys)
        self._attachment: Attachment | None = None
        self._generation = 0
        self._rings: list[RingReader] = []

    def look(self) -> tuple[int, int]:
        """Index after the newest sample, and the journal's number by then."""
        ring = self._newest_ring()
        if ring is None:
            info = self._ask(InfoRequest()).info()
            if info.instance != self._instance:
                raise HubLost("another instance has taken the hub's place")
            return info.next_index, info.next_seq
        next_index = ring.next_index  # before seq: the records of these rows are then counted in
        return next_index, ring.seq

    def events(self, seq: int) -> Events:
        """Records from `seq` on."""
        return self._ask(EventsRequest(instance=self._instance, seq=seq)).events()

    def rows(self, start: int, stop: int, n_channels: int) -> Float32:
        """The range, or the first part of it.

        Raises
        ------
        Overwritten
            It is gone; `first_available` is the oldest there is.
        """
        for ring in reversed(self._rings):
            if ring.n_channels == n_channels and ring.holds(start, stop):
                view = ring.view(start, stop)
                copy = None if view is None else view.copy()
                if copy is not None and start >= ring.first_available:
                    return copy
        reply = self._ask(RangeRequest(instance=self._instance, start=start, stop=stop))
        page = reply.page()
        if page.start != start or not len(page.samples):
            raise HubLost(f"a page from {page.start} on where {start} was asked for")
        return page.samples

    def _newest_ring(self) -> RingReader | None:
        """The hub's ring, mapped; the one before it stays mapped too, for its last rows."""
        try:
            if self._attachment is None:
                attachment = Attachment(self._name, self._folder)
                if attachment.instance != self._instance:
                    attachment.close()
                    return None
                self._attachment = attachment
            generation = self._attachment.generation
            if generation != self._generation:
                ring = self._attachment.ring(generation)
                if ring is None:
                    return None  # not there yet, or not any more; the hub tells
                self._rings, self._generation = [*self._rings[-1:], ring], generation
        except SharedMemoryError:
            return None
        return self._rings[-1] if self._rings else None

    def _ask(self, request: Request) -> Reply:
        reply = self._query.ask(request, None, _PATIENCE)
        if (refusal := reply.refusal) is None:
            return reply
        if refusal.code == "OUT_OF_RANGE_OLD":
            raise Overwritten(
                refusal.message, first_available=refusal.first_available, next_index=refusal.next_index
            )
        raise RdaHubError(refusal.message)

    def close(self) -> None:
        """Let go."""
        self._query.close()
        if self._attachment is not None:
            self._attachment.close()
