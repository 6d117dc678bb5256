"""Markers that clients insert: which are taken, on which sample, and each once however often it is asked for.

Rule: a marker is taken only where its sample can be had, or will be soon; it gets a place in the journal like
a Recorder's, with `injected` set. What is kept of them is bounded by number.
Not here: who may insert (`doorkeeper`), sending what is made (`about`).
"""

from __future__ import annotations

from rdahub import limits
from rdahub.broker import Broker
from rdahub_client.records import Marker
from rdahub_client.wire import MarkRequest

__all__ = ["Insertions", "Refused"]


class Refused(Exception):
    """A marker that is not taken.

    Parameters
    ----------
    code, message : str
        The named error, and a sentence for people.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Insertions:
    """The markers inserted into one broker's recording."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._made: dict[str, tuple[int, Marker]] = {}
        """By token, oldest first: number in the journal and marker."""

    def insert(self, request: MarkRequest) -> tuple[int, Marker, list[bytes]]:
        """Take a marker, unless it was taken before.

        Returns
        -------
        seq : int
            Its number in the journal.
        marker : Marker
        frames : list of bytes
            To be published; none if it was taken before.

        Raises
        ------
        Refused
        """
        if (known := self._made.get(request.token)) is not None:
            return *known, []
        index = self._place(request)
        self._make_room()
        broker = self._broker
        marker = Marker(
            index, request.points, request.channel, request.type, request.description, injected=True,
            block=broker.next_index,
        )  # fmt: skip
        seq = broker.journal.next_seq
        self._made[request.token] = seq, marker
        return seq, marker, broker.insert(marker)

    def _place(self, request: MarkRequest) -> int:
        """The sample it stands on."""
        broker = self._broker
        newest, next_index = broker.journal.segment, broker.next_index
        if newest is None:
            raise Refused("NO_STREAM", "the Recorder has not started yet, so there is no sample to mark")
        if not (request.type + request.description).isprintable():
            raise Refused("BAD_MARKER", "type and description are one line of printable characters")
        index = next_index if request.index is None else request.index
        n_channels = (broker.journal.segment_at(index) or newest).n_channels
        if request.channel >= n_channels:
            raise Refused("BAD_MARKER", f"channel {request.channel}, and there are {n_channels}")
        if index < broker.first_available:
            raise Refused("OUT_OF_RANGE_OLD", f"history begins at sample {broker.first_available}")
        if index > next_index + limits.MARK_AHEAD_SECONDS * newest.sfreq:
            raise Refused(
                "OUT_OF_RANGE_FUTURE",
                f"the newest sample so far is {next_index - 1}, and a marker stands at most "
                f"{limits.MARK_AHEAD_SECONDS:g} s ahead of it",
            )
        return index

    def _make_room(self) -> None:
        """Forget the oldest if there are as many as may be, provided that it is old enough."""
        if len(self._made) < limits.MARKS:
            return
        token, (seq, marker) = next(iter(self._made.items()))
        newest = self._broker.journal.segment
        lately = 0.0 if newest is None else limits.MARKS_SECONDS * newest.sfreq
        if seq >= self._broker.journal.first_seq and marker.block > self._broker.next_index - lately:
            raise Refused(
                "TOO_MANY_MARKERS",
                f"{limits.MARKS} markers were inserted in the recording's last {limits.MARKS_SECONDS:g} s",
            )
        del self._made[token]
