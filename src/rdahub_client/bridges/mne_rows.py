"""Rows of a live stream as MNE-LSL keeps them: the newest, their times, their indices, and their events.

Rule: an array that was handed out is not changed under who holds it (but for the code of a marker that came
late), so it can be read without a lock; a row costs one copy, not a shift of all.
Not here: MNE-LSL (`mne`), the hub.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "Rows", "SampleClock", "Stim"]

Array: TypeAlias = npt.NDArray[Any]


class Rows:
    """The newest rows of something, as one array.

    Parameters
    ----------
    newest : ndarray, shape (n, ...)
        What it holds at first; it goes on holding n rows.
    """

    def __init__(self, newest: Array) -> None:
        self.newest = newest
        self._n = len(newest)
        self._store = newest  # no room: the first rows make some
        self._stop = self._n

    def append(self, rows: Array) -> Array:
        """The newest rows after adding some; those handed out before stay as they were."""
        rows = rows[-self._n :]
        if self._stop + len(rows) > len(self._store):
            room = max(2 * self._n, 4 * len(rows))
            self._store = np.empty((self._n + room, *self.newest.shape[1:]), self.newest.dtype)
            self._store[: self._n] = self.newest
            self._stop = self._n
        self._store[self._stop : self._stop + len(rows)] = rows
        self._stop += len(rows)
        self.newest = self._store[self._stop - self._n : self._stop]
        return self.newest


class SampleClock:
    """Times of samples by when they arrive: evenly apart, strictly rising.

    A sample cannot arrive before it was taken, so the quickest arrivals tell its time, and later ones are
    late. The clock follows them slowly: two samples never stand more than 1 % closer than they should.

    Parameters
    ----------
    interval : float
        Seconds between samples.
    after : float
        Time the first sample must be behind, whenever it arrives.
    """

    _EARLIER: Final = 0.01
    """Most it moves back, in seconds per second, when something came quicker than all before."""
    _LATER: Final = 1e-4
    """Most it moves on: faster than two clocks drift apart, slower than a bad minute of network."""

    def __init__(self, interval: float, after: float = 0.0) -> None:
        self._interval = interval
        self._after = after
        self._shift: float | None = None

    def times(self, start: int, stop: int, now: float) -> npt.NDArray[np.float64]:
        """Times of samples ``[start, stop)``, the last of which has just arrived; shape (stop - start,)."""
        index = np.arange(start + 1, stop + 1)
        late = now - stop * self._interval
        if self._shift is None:
            self._shift = late = max(late, self._after - start * self._interval)
        span = (stop - start) * self._interval
        move = min(max(late - self._shift, -self._EARLIER * span), self._LATER * span)
        shifts = self._shift + move * np.arange(1, stop - start + 1) / max(1, stop - start)
        self._shift += move
        return index * self._interval + shifts


class Stim:
    """Events as pulses of one sample on a stim channel.

    `mne.find_events` sees an event where the channel rises; so of two events on one sample the first is kept,
    and of two on neighbours the second must be larger. What cannot be shown is said.

    Parameters
    ----------
    kept : int
        Samples an event is remembered.
    """

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._pulses: dict[int, int] = {}

    def place(self, index: int, code: int) -> str | None:
        """Put an event on a sample; what is wrong with that, or None."""
        pulses = self._pulses
        if (held := pulses.setdefault(index, code)) != code:
            return f"two events on sample {index}: {held} is on the stim channel, {code} is not"
        for first in (index - 1, index):
            if first in pulses and first + 1 in pulses and pulses[first + 1] <= pulses[first]:
                return (
                    f"events on samples {first} and {first + 1}: the second is not seen on the stim channel"
                )
        return None

    def codes(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """The channel on samples ``[start, stop)``, by the events placed so far; shape (stop - start,)."""
        channel = np.zeros(stop - start, np.float32)
        for index, code in list(self._pulses.items()):
            if start <= index < stop:
                channel[index - start] = code
            elif index < start - self._kept:
                del self._pulses[index]
        return channel
