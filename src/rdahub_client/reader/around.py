"""Samples around markers, and markers put in.

Rule: as in `shell`. Not here: which samples those are (`windows`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from rdahub_client.reader.dated import TimeVerbs
from rdahub_client.reader.shell import as_index, deadline_of
from rdahub_client.records import Epoch, Float32, Marker
from rdahub_client.windows import Pending, Texts, mark_request
from rdahub_client.wire import MarkRequest

__all__ = ["MarkerVerbs"]


class MarkerVerbs(TimeVerbs):
    """`window`, `windows`, `insert_marker`."""

    def window(self, marker: Marker, tmin: float, tmax: float, timeout: float | None = 1) -> Float32 | None:
        """Samples from `tmin` to `tmax` seconds around a marker, as soon as the last of them has arrived.

        Parameters
        ----------
        marker : Marker
        tmin, tmax : float
            Seconds from the marker; negative is before it. The window is
            ``[index + round(tmin * sfreq), index + round(tmax * sfreq))``: half-open, so without the sample
            at `tmax`, which MNE's epochs have.
        timeout : float or None
            Seconds; None waits for ever.

        Returns
        -------
        samples : ndarray of float32, shape (n_samples, n_channels), or None
            As `wait`; rows in a gap are NaN. None when the time is over, and at once when the window can
            never come: it goes beyond its segment, was overwritten, or the hub has restarted.

        Raises
        ------
        NotStreaming
            `start_streaming` was not called.
        BadRange
            `tmin` is not less than `tmax`.
        """
        self._require_streaming("window")
        return self._run(self._windows.window(marker, tmin, tmax, deadline_of(timeout)))

    def windows(
        self,
        tmin: float,
        tmax: float,
        type: Texts = None,  # noqa: A002 - as in Marker
        description: Texts = None,
        start: str | int = "live",
        timeout: float | None = None,
    ) -> Iterator[Epoch]:
        """The window around each marker of a kind, as soon as it is complete: history first, then live.

        Parameters
        ----------
        tmin, tmax : float
            As for `window`.
        type, description : str, collection of str, or None
            Of the markers wanted, exactly; None takes all.
        start : {'live', 'oldest'} or int
            Markers that come from now on, or that stand on or after the oldest sample the hub holds, or an
            index.
        timeout : float or None
            Seconds without a window until `StreamTimeout`; None waits for ever.

        Yields
        ------
        epoch : Epoch
            Of each marker, in index order; one that becomes known after others behind it were told comes as
            soon as its window is complete. Of a window that can never be had, with a `reason` and without
            samples.

        Raises
        ------
        StreamTimeout
            No window for `timeout` seconds. Asking on is allowed, and loses nothing.
        NotStreaming
            `start_streaming` was not called.
        BadRange
            `tmin` is not less than `tmax`, or such a start cannot be.
        """
        self._require_streaming("windows")
        self._refresh()
        return EpochStream(self, self._windows.open(start, tmin, tmax, type, description), timeout)

    def _next_epoch(self, pending: Pending, timeout: float | None) -> Epoch:
        if not self._streaming:
            raise StopIteration
        return self._run(self._windows.next_epoch(pending, deadline_of(timeout)))

    def insert_marker(
        self,
        description: str,
        type: str = "Comment",  # noqa: A002 - as in Marker
        index: int | None = None,
        time: float | None = None,
        points: int = 1,
        channel: int = -1,
        timeout: float | None = 5,
    ) -> Marker:
        """Put a marker into the recording, for all its readers. Works before `start_streaming` too.

        Parameters
        ----------
        description, type : str
            One line of at most 200 and 50 characters.
        index : int or None
            The sample it stands on: in the history, or at most 10 s ahead of the newest. None: the first
            sample that the hub did not have yet when it was asked.
        time : float or None
            Instead of an index: when it happened, by `time.monotonic`; as exact as `index_at`.
        points : int
            Length in samples.
        channel : int
            0-based, -1 for all.
        timeout : float or None
            Seconds; a hub that has not answered for 5 s counts as lost in any case.

        Returns
        -------
        marker : Marker
            As it stands in the recording, with `injected` set.

        Raises
        ------
        ReadOnly
            This client's key may only read.
        Overwritten, NotYetAvailable, NoSegment, HubRestarted
            There is no such sample any more, or not soon; nothing was recorded yet, or not at that time; the
            index is of an instance that is gone.
        HubLost
            No answer. Whether the marker is in the recording is not known; `markers` tells.
        RequestRefused
            By `code`: ``TOO_MANY_MARKERS``; ``BAD_MARKER``, no such channel; ``BAD_REQUEST``, the hub is too
            old.
        ValueError
            It cannot be a marker.
        NotStreaming
            Not connected; or an index or time is given before `start_streaming`.
        """
        if time is not None:
            if index is not None:
                raise ValueError("a marker stands at an index or at a time, not at both")
            index = self.index_at(time)
        request = self._mark_request(description, type, index, points, channel)
        return self._run(self._windows.insert(request, deadline_of(timeout)))

    def _mark_request(
        self, description: str, kind: str, index: int | None, points: int, channel: int
    ) -> MarkRequest:
        instance = None
        if index is not None:
            self._require_instance()
            index, instance = as_index(index), self._verbs.known_instance
        token = os.urandom(16).hex()
        return mark_request(token, instance, index, kind, description, as_index(points), as_index(channel))


class EpochStream(Iterator[Epoch]):
    """What `Reader.windows` returns; ends when the reader stops streaming."""

    def __init__(self, reader: MarkerVerbs, pending: Pending, timeout: float | None) -> None:
        self._reader = reader
        self._pending = pending
        self._timeout = timeout

    def __next__(self) -> Epoch:
        return self._reader._next_epoch(self._pending, self._timeout)  # noqa: SLF001 - one thing in two classes
