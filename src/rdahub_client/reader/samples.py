"""Samples by index, and everything in order.

Rule: as in `shell`. Not here: samples by time (`dated`), around markers (`around`), of old (`archived`).
"""

from __future__ import annotations

from collections.abc import Iterator

from rdahub_client.reader.shell import Shell, as_index, deadline_of, number_of_samples, soon
from rdahub_client.records import Event, Float32
from rdahub_client.streams import Cursor

__all__ = ["SampleVerbs"]


class SampleVerbs(Shell):
    """`get_data`, `read`, `wait`, `poll`, `stream`."""

    def get_data(self, start: int, stop: int) -> Float32 | None:
        """Samples ``[start, stop)`` if they are there now; never waits for new ones.

        Parameters
        ----------
        start, stop : int
            Absolute sample indices, half-open.

        Returns
        -------
        samples : ndarray of float32, shape (stop - start, n_channels), or None
            In the segment's units (µV). A read-only view of the window if the range is in it, valid until the
            next call into the client; otherwise a copy from the hub's history. None if the range is negative,
            not there yet, overwritten, or in two segments, and after the hub restarted until the caller has
            looked at the new instance's indices (`last_sample`, `segments`, ...); `read` tells which.
        """
        start, stop = as_index(start), as_index(stop)
        held = self._held(start, stop)
        if held is not None:
            return held
        return self._run(self._verbs.get_data(start, stop, soon()))

    def read(self, start: int, stop: int) -> Float32:
        """As `get_data`, but says why there is nothing.

        Raises
        ------
        NotYetAvailable
            The range ends after the newest sample.
        Overwritten
            The range begins before the oldest sample; `first_available` says where data exist.
        SegmentChanged
            The range touches two segments.
        HubLost, HubRestarted
            The hub does not answer, or is another instance now.
        BadRange, NoSegment, NotStreaming
            Such a range cannot exist; there is no segment yet; `start_streaming` was not called.
        """
        start, stop = as_index(start), as_index(stop)
        held = self._held(start, stop)
        if held is not None:
            return held
        self._require_instance()
        return self._run(self._verbs.read(start, stop, soon()))

    def wait(self, start: int, stop: int, timeout: float | None = 1) -> Float32 | None:
        """Samples ``[start, stop)`` as soon as the last of them has arrived.

        Parameters
        ----------
        timeout : float or None
            Seconds; None waits for ever.

        Returns
        -------
        samples : ndarray of float32, shape (stop - start, n_channels), or None
            As `get_data`. None when the time is over, and at once when the range can never come.

        Raises
        ------
        NotStreaming
            `start_streaming` was not called.
        """
        self._require_streaming("wait")
        start, stop = as_index(start), as_index(stop)
        held = self._held(start, stop)
        if held is not None:
            return held
        return self._run(self._verbs.wait(start, stop, deadline_of(timeout)))

    def poll(self, n: int, timeout: float | None = 10) -> Float32 | None:
        """The newest `n` samples, after the NEXT block has arrived.

        Parameters
        ----------
        n : int
            Number of samples, at least 1.
        timeout : float or None
            Seconds; None waits for ever.

        Returns
        -------
        samples : ndarray of float32, shape (n, n_channels), or None
            As `get_data`. None when no block came in time, or the segment has fewer than `n` samples.

        Raises
        ------
        NotStreaming
            `start_streaming` was not called.
        ValueError
            `n` is less than 1.
        """
        self._require_streaming("poll")
        return self._run(self._verbs.poll(number_of_samples(n), deadline_of(timeout)))

    def stream(self, start: str | int = "live", timeout: float | None = None) -> Iterator[Event]:
        """Everything from `start` on, as events in index order: history first, then live.

        Parameters
        ----------
        start : {'live', 'oldest'} or int
            From the newest sample, from the oldest the hub holds, or from an index.
        timeout : float or None
            Seconds without an event until `StreamTimeout`; None waits for ever.

        Yields
        ------
        event : SegmentStart, Block, Gap or SegmentEnd
            No sample is lost or repeated; every hole is a `Gap`. Samples of a `Block` are valid until the
            next event is asked for.

        Raises
        ------
        StreamTimeout
            No event for `timeout` seconds. Asking on for the next event is allowed, and loses nothing.
        NotStreaming
            `start_streaming` was not called.
        """
        self._require_streaming("stream")
        return EventStream(self, self._run(self._streams.open(start, soon())), timeout)

    def _next_event(self, cursor: Cursor, timeout: float | None) -> Event:
        if not self._streaming:
            raise StopIteration
        deadline = deadline_of(timeout)
        with self._alone:
            if self._streams.is_live(cursor) and (message := self._listen(deadline)) is not None:
                block = self._streams.hear(cursor, message)
                if block is not None:
                    return block
            return self._run(self._streams.next_event(cursor, deadline))


class EventStream(Iterator[Event]):
    """What `Reader.stream` returns; ends when the reader stops streaming."""

    def __init__(self, reader: SampleVerbs, cursor: Cursor, timeout: float | None) -> None:
        self._reader = reader
        self._cursor = cursor
        self._timeout = timeout

    def __next__(self) -> Event:
        return self._reader._next_event(self._cursor, self._timeout)  # noqa: SLF001 - one thing in two classes
