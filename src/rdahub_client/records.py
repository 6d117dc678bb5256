"""What a recording consists of besides samples, as values.

Rule: plain, frozen, comparable; the same classes in the hub, on the wire's other end and in a user's hands.
Not here: how they are kept (`journal`) or encoded (`wire`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "Block",
    "Epoch",
    "Event",
    "Float32",
    "Gap",
    "Instance",
    "Marker",
    "Record",
    "Segment",
    "SegmentEnd",
    "SegmentStart",
]

Float32: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of samples under one layout: START up to STOP, a new START, or a lost Recorder.

    Attributes
    ----------
    number : int
        Counts segments from 0 within the hub's instance.
    start : int
        Index of its first sample.
    stop : int or None
        Index after its last sample; None while open.
    sampling_interval_us : float
        Microseconds between samples.
    resolutions : tuple of float
        Physical value of one raw unit, one per channel. Samples are scaled already.
    ch_names : tuple of str
    units : tuple of str
        Physical unit of each channel, ``µV`` unless the Recorder said otherwise.
    ended : {'stop', 'restart', 'lost', 'counter'} or None
        Why it ended; None while open.
    """

    number: int
    start: int
    stop: int | None
    sampling_interval_us: float
    resolutions: tuple[float, ...]
    ch_names: tuple[str, ...]
    units: tuple[str, ...]
    ended: str | None = None

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return len(self.resolutions)

    @property
    def sfreq(self) -> float:
        """Sampling rate in Hz."""
        return 1e6 / self.sampling_interval_us


@dataclass(frozen=True, slots=True)
class Marker:
    """An annotation on an exact sample.

    Attributes
    ----------
    index : int
        Absolute index of the sample it stands on.
    points : int
        Length in samples; 0 occurs.
    channel : int
        0-based channel, -1 for all.
    type, description : str
        For instance ``Stimulus`` and ``S  1``.
    injected : bool
        True if a client put it there, False if it came from the Recorder.
    block : int
        Index of the first sample of the block that carried it. A marker may lie before or after its block.
    """

    index: int
    points: int
    channel: int
    type: str
    description: str
    injected: bool = False
    block: int = field(default=-1, compare=False)


@dataclass(frozen=True, slots=True)
class Gap:
    """Samples ``[start, stop)`` known to be missing.

    Attributes
    ----------
    reason : str
        ``counter``: the Recorder dropped blocks; the samples read as NaN.
        ``overwritten``: this client came too late and the hub no longer holds them.
        ``hub_restart``: the hub ended before a stream had told them.
    """

    start: int
    stop: int
    reason: str


@dataclass(frozen=True, slots=True)
class Instance:
    """One life of a hub, of which there are samples: in its memory or in its archive.

    Attributes
    ----------
    id : str
        With an index it names one sample for ever.
    name : str
        The hub's ``--name``.
    recorder : str
        Address of its Recorder.
    began_ns : int
        When it began, ns since 1970, by the hub's wall clock.
    runs : tuple of (int, int)
        Samples ``[start, stop)`` that can be had; between two runs some were not archived.
    """

    id: str
    name: str
    recorder: str
    began_ns: int
    runs: tuple[tuple[int, int], ...]

    @property
    def first_available(self) -> int:
        """Index of the oldest sample."""
        return self.runs[0][0] if self.runs else 0

    @property
    def next_index(self) -> int:
        """Index after the newest sample."""
        return self.runs[-1][1] if self.runs else 0


@dataclass(frozen=True, slots=True)
class SegmentStart:
    """A segment began."""

    segment: Segment


@dataclass(frozen=True, slots=True)
class SegmentEnd:
    """A segment ended; `reason` as in `Segment.ended`, or ``hub_restart`` when its hub is gone."""

    segment: Segment
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Consecutive samples ``[start, stop)`` of one segment, and the markers that came with them.

    Attributes
    ----------
    samples : ndarray of float32, shape (stop - start, n_channels)
        In the segment's units. Read-only, valid until the next event is asked for.
    markers : tuple of Marker
    """

    start: int
    stop: int
    samples: Float32
    markers: tuple[Marker, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Epoch:
    """The window around a marker, or why there is none.

    Attributes
    ----------
    marker : Marker
    segment : Segment or None
        The one the marker's sample is of; None if that is not known.
    start, stop : int
        The window's samples, half-open: its last sample is the one before `tmax`. If the segment is not
        known, both are the marker's index.
    samples : ndarray of float32, shape (stop - start, n_channels), or None
        In the segment's units, the caller's to keep. Rows in a gap are NaN.
    gaps : tuple of Gap
        What is missing there.
    reason : str or None
        None if there are samples. ``segment_start``, ``segment_end``: the window goes beyond its segment;
        ``overwritten``: history no longer holds all of it; ``hub_restart``: its hub is gone.
    """

    marker: Marker
    segment: Segment | None
    start: int
    stop: int
    samples: Float32 | None
    gaps: tuple[Gap, ...]
    reason: str | None

    @property
    def times(self) -> npt.NDArray[np.float64]:
        """Seconds from the marker, of each sample."""
        sfreq = 1.0 if self.segment is None else self.segment.sfreq
        return (np.arange(self.start, self.stop) - self.marker.index) / sfreq


Record: TypeAlias = SegmentStart | SegmentEnd | Gap | Marker
"""An entry of the journal."""

Event: TypeAlias = SegmentStart | Block | Gap | SegmentEnd
"""What `Client.stream` yields."""
