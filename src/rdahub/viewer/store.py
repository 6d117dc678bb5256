"""What the viewer knows of the recording: the newest rows, and what happened on them.

Rule: one layout at a time; a new one, or another hub, is a new `epoch` that begins empty. Rows are by
absolute index; what is missing is NaN and is an event beside it. Memory is bounded, whatever the layout.
Pure, and not locked: see `feed`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np

from rdahub_client.records import Float32, Gap, Marker, Segment

__all__ = ["SECONDS", "Happening", "Store"]

SECONDS: Final = 70.0
"""Seconds of samples kept: the longest picture, 60 s, and what a filter needs to settle before it."""
_MOST_BYTES: Final = 128 << 20  # 26 s of 256 channels at 5 kHz; all 70 s of most layouts
_MOST_HAPPENINGS: Final = 1000  # newest; many more than a screen has room for


@dataclass(frozen=True, slots=True)
class Happening:
    """Something to draw at samples ``[start, stop)``.

    Attributes
    ----------
    kind : {'marker', 'gap', 'start', 'end'}
        A marker, missing samples, a segment's first sample, the index after a segment's last.
    channel : int
        Of a marker; -1 for all.
    """

    kind: str
    start: int
    stop: int
    text: str
    channel: int = -1


class Store:
    """The newest rows of one layout, shape (n, n_channels)."""

    def __init__(self) -> None:
        self.epoch = 0
        self.instance = ""
        self.segment: Segment | None = None
        self.first = self.stop = 0
        self.changes = 0
        """Counts happenings, so that who looks again knows whether there is something new."""
        self._rows: Float32 = np.empty((0, 0), np.float32)
        self._happenings: deque[Happening] = deque(maxlen=_MOST_HAPPENINGS)

    def begin(self, instance: str, segment: Segment, index: int) -> None:
        """A segment begins, or is come upon at `index`, in its middle."""
        old = self.segment
        if (
            old is None
            or instance != self.instance
            or (old.ch_names, old.sampling_interval_us, old.units)
            != (segment.ch_names, segment.sampling_interval_us, segment.units)
            or index < self.stop
        ):
            self.epoch += 1
            self.instance = instance
            room = max(1, _MOST_BYTES // (4 * segment.n_channels))
            n = max(1, min(round(SECONDS * segment.sfreq), room))
            self._rows = np.full((n, segment.n_channels), np.nan, np.float32)
            self._happenings.clear()
            self.first = self.stop = index
        else:
            self._skip_to(index)
        self.segment = segment
        if segment.start >= self.first:
            self._note(Happening("start", segment.start, segment.start, f"segment {segment.number}"))

    def extend(self, start: int, samples: Float32, markers: tuple[Marker, ...] = ()) -> None:
        """Take rows ``[start, start + n)`` and the markers that came with them."""
        self._skip_to(start)
        self._write(start, samples)
        for marker in markers:
            text = f"{marker.type} {marker.description}".strip()
            self._note(Happening("marker", marker.index, marker.index + marker.points, text, marker.channel))

    def lose(self, gap: Gap) -> None:
        """Rows that are missing, and why."""
        if self.segment is None:
            return
        self._skip_to(gap.stop)
        self._note(Happening("gap", gap.start, gap.stop, gap.reason))

    def end(self, index: int, reason: str) -> None:
        """The segment has ended before `index`."""
        if self.segment is not None:
            self._note(Happening("end", index, index, reason))

    def rows(self, start: int, stop: int) -> Float32:
        """A copy of rows ``[start, stop)``, which must lie in ``[first, stop)``."""
        n = len(self._rows)
        i, j = start % n, start % n + (stop - start)
        if j <= n:
            return self._rows[i:j].copy()
        return np.concatenate([self._rows[i:], self._rows[: j - n]])

    def happenings(self, start: int) -> list[Happening]:
        """What touches samples from `start` on, in the order it was learnt."""
        return [each for each in self._happenings if max(each.stop, each.start) >= start]

    def boundaries(self, start: int, stop: int) -> list[int]:
        """Indices in ``[start, stop)`` where the signal does not follow on: segments' starts, gaps' ends."""
        at = {each.start for each in self._happenings if each.kind == "start"}
        at |= {each.stop for each in self._happenings if each.kind == "gap"}
        return sorted(index for index in at if start <= index < stop)

    def _note(self, happening: Happening) -> None:
        self._happenings.append(happening)
        self.changes += 1

    def _skip_to(self, index: int) -> None:
        """Rows up to `index` are missing."""
        n = len(self._rows)
        if index > self.stop and n:
            missing = min(index - self.stop, n)
            self._rows[np.arange(index - missing, index) % n] = np.nan
            self.stop = index
            self.first = max(self.first, index - n)

    def _write(self, start: int, samples: Float32) -> None:
        n = len(self._rows)
        stop = start + len(samples)
        newest = samples[-n:]
        i = (stop - len(newest)) % n
        split = min(len(newest), n - i)
        self._rows[i : i + split] = newest[:split]
        self._rows[: len(newest) - split] = newest[split:]
        self.stop = stop
        self.first = max(self.first, stop - n)
