"""What the simulator plays: a run as numbered blocks, made up or from a recording.

Rule: pure; block `k` is the same for whoever asks, whenever and in whatever order.
Not here: sockets, clocks, pacing (see `rdahub.simulator.server`).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import Final, Protocol

import numpy as np

from rdahub.brainvision import DEFAULT_UNIT, Recording, RecordingError
from rdahub.rda import (
    MAX_MESSAGE,
    BlockMarker,
    Data,
    Info,
    Message,
    Samples,
    Start,
)

__all__ = ["Replay", "Source", "Synthetic"]

# float32 counts integers exactly up to 2^24; int16 holds them below 2^15.
FLOAT32_COUNT: Final = 2**24
INT16_COUNT: Final = 2**15

_INFO_VERSION: Final = 2.0  # what PyCorder says of itself; no other value is known
_RESOLUTION: Final = 0.1  # µV, an amplifier's usual one

# Rows of noise per seed, then it repeats: a prime, so that it falls in step with no sinusoid or block, and
# few enough for 160 channels to take 10 MB.
_NOISE_ROWS: Final = 16_381
_NOISE: Final = 50.0  # raw units, standard deviation: 5 µV
_MAX_CHANNELS: Final = 4096  # 16 times the largest amplifier known; the noise then takes 270 MB
_MIN_RATE, _MAX_RATE = 0.1, 1e6  # Hz: wider than any amplifier; a slower one has a crowd of markers per block
_WAVE_BITS: Final = 12  # 4096 steps of a sinusoid: finer than one raw unit at these amplitudes

_ROWS_AT_ONCE: Final = 65_536  # of a recording looked through, to bound memory

# fmt: off
_10_20: Final = [
    "Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2", "F7", "F8", "T7", "T8", "P7", "P8",
    "Fz", "Cz", "Pz", "Oz", "FC1", "FC2", "CP1", "CP2", "FC5", "FC6", "CP5", "CP6", "TP9", "TP10", "POz",
    "FCz",
]
# fmt: on


class Source(Protocol):
    """A run as numbered blocks."""

    @property
    def n_blocks(self) -> int | None:
        """Number of blocks; None without an end."""

    @property
    def block_seconds(self) -> float:
        """Seconds from one block to the next."""

    def preamble(self) -> list[Message]:
        """What a client is told first: `Info`, `Start`."""

    def block(self, k: int) -> Data | None:
        """Block `k` from 0; None past the end."""


def _check_block(block: int, n_channels: int) -> None:
    if block < 1:
        raise ValueError(f"block is {block} samples; it must be at least 1")
    largest = (MAX_MESSAGE // 2) // (4 * n_channels)  # half is left for markers
    if block > largest:
        raise ValueError(f"block is {block} samples; with {n_channels} channels it can be at most {largest}")


def _preamble(
    interval_us: float, resolutions: tuple[float, ...], names: tuple[str, ...], units: tuple[str, ...]
) -> list[Message]:
    return [
        Info(_INFO_VERSION, interval_us, resolutions, names, units),
        Start(interval_us, resolutions, names),
    ]


def _counter(k: int) -> int:
    return (k + 1) % 2**32  # PyCorder's first block is 1


class Synthetic:
    """A made-up EEG, a function of the seed and the sample index alone.

    Channel 0 counts samples (modulo 2^24 as float32, 2^15 as int16; resolution 1.0). The others are sinusoids
    around 10 Hz with noise, whole raw units of 0.1 µV, the same on both ports. A marker every second: first
    ``New Segment`` without description, then ``Stimulus`` ``S  1`` to ``S  4`` in turn.

    Parameters
    ----------
    channels : int
    rate : float
        Hz.
    block : int
        Samples per block; the last may be shorter.
    int16 : bool
        Samples as int16 instead of float32.
    seconds : float, optional
        Length of the run, rounded to whole samples; without it there is no end.
    seed : int
        Another seed, another noise and other phases.

    Raises
    ------
    ValueError
        For a value out of range.
    """

    def __init__(
        self,
        channels: int = 32,
        rate: float = 1000.0,
        block: int = 20,
        *,
        int16: bool = False,
        seconds: float | None = None,
        seed: int = 0,
    ) -> None:
        if not 1 <= channels <= _MAX_CHANNELS:
            raise ValueError(f"channels is {channels}; it must be from 1 to {_MAX_CHANNELS}")
        if not _MIN_RATE <= rate <= _MAX_RATE:
            raise ValueError(f"rate is {rate} Hz; it must be from {_MIN_RATE} to {_MAX_RATE:.0f}")
        if seed < 0:
            raise ValueError(f"seed is {seed}; it must be 0 or more")
        if seconds is not None and not 0.5 < seconds * rate < math.inf:
            raise ValueError(f"seconds is {seconds}; it must be long enough for one sample at {rate} Hz")
        _check_block(block, channels)
        self._rate, self._block, self._int16 = rate, block, int16
        self._n_samples = None if seconds is None else round(seconds * rate)
        names = _10_20[:channels] + [f"Ch{i}" for i in range(len(_10_20) + 1, channels + 1)]
        self._layout = (
            1e6 / rate,
            (1.0,) + (_RESOLUTION,) * (channels - 1),
            tuple(names),
            (DEFAULT_UNIT,) * channels,
        )
        random = np.random.default_rng(seed)
        others = channels - 1
        # A phase is a fraction of a turn in 2^32 steps; uint32 arithmetic wraps where a turn ends, so the
        # value at an index is exact however far the run has gone.
        hz = 10 + 0.25 * np.arange(others)
        self._step = (hz / rate % 1 * 2**32).astype(np.uint32)
        self._phase = random.integers(2**32, size=others, dtype=np.uint32)
        self._amplitude = (100 + 20 * (np.arange(others) % 11)).astype(np.float32)  # 10 to 30 µV
        turn = np.arange(2**_WAVE_BITS) * (2 * np.pi / 2**_WAVE_BITS)
        self._wave = np.sin(turn).astype(np.float32)
        self._noise = (random.standard_normal((_NOISE_ROWS, others), np.float32) * _NOISE).astype(np.float32)

    @property
    def n_blocks(self) -> int | None:
        """Number of blocks; None without an end."""
        return None if self._n_samples is None else -(-self._n_samples // self._block)

    @property
    def block_seconds(self) -> float:
        """Seconds from one block to the next."""
        return self._block / self._rate

    def preamble(self) -> list[Message]:
        """`Info` and `Start`."""
        return _preamble(*self._layout)

    def block(self, k: int) -> Data | None:
        """Block `k` from 0; None past the end."""
        begin = k * self._block
        end = begin + self._block
        if self._n_samples is not None:
            end = min(end, self._n_samples)
        if end <= begin:
            return None
        return Data(_counter(k), self.samples(begin, end), self._markers(begin, end))

    def samples(self, begin: int, end: int) -> Samples:
        """Samples [begin, end) of the run in raw units, shape (end - begin, channels), int16 or float32."""
        index = np.arange(begin, end)
        turn = (index % 2**32).astype(np.uint32)[:, None] * self._step + self._phase
        signal = self._wave[turn >> (32 - _WAVE_BITS)]
        signal *= self._amplitude
        signal += self._noise[index % _NOISE_ROWS]
        shape = (end - begin, 1 + len(self._step))
        samples: Samples = np.empty(shape, np.int16) if self._int16 else np.empty(shape, np.float32)
        samples[:, 0] = index % (INT16_COUNT if self._int16 else FLOAT32_COUNT)
        np.rint(signal, out=samples[:, 1:], casting="unsafe")
        return samples

    def _markers(self, begin: int, end: int) -> tuple[BlockMarker, ...]:
        markers = []
        # One second more on either side: rounding may move a marker across the block's edge.
        for second in range(max(0, int(begin / self._rate) - 1), int(end / self._rate) + 2):
            position = round(second * self._rate) - begin
            if 0 <= position < end - begin:
                kind, text = ("Stimulus", f"S{(second - 1) % 4 + 1:3d}") if second else ("New Segment", "")
                markers.append(BlockMarker(position, 1, -1, kind, text))
        return tuple(markers)


class Replay:
    """A recording as a run, in its raw units, with its names, resolutions, units and markers.

    A marker goes with the block that holds its sample. One that lies outside the recording goes with the
    nearest block, its position then being negative or past the block's end.

    Parameters
    ----------
    recording : Recording
    block : int
        Samples per block; the last may be shorter. With `loop` all have this length, also across the seam.
    int16 : bool
        Samples as int16 instead of float32.
    loop : bool
        Start over at the end, the block counter going on.

    Raises
    ------
    RecordingError
        If int16 is asked for and the recording holds values that int16 cannot.
    ValueError
        For a block length out of range.
    """

    def __init__(
        self, recording: Recording, block: int = 20, *, int16: bool = False, loop: bool = False
    ) -> None:
        _check_block(block, recording.n_channels)
        if int16:
            _check_int16(recording)
        self._recording, self._block, self._loop = recording, block, loop
        self._raw = np.asarray(recording.raw)  # a row of a memmap would be a memmap
        self._int16 = int16
        last = recording.n_samples - 1
        by_sample = sorted(
            ((min(max(marker.position, 0), last), marker) for marker in recording.markers),
            key=lambda pair: pair[0],
        )
        self._marker_samples = [sample for sample, _ in by_sample]
        self._markers = [marker for _, marker in by_sample]

    @property
    def n_blocks(self) -> int | None:
        """Number of blocks; None when looping."""
        return None if self._loop else -(-self._recording.n_samples // self._block)

    @property
    def block_seconds(self) -> float:
        """Seconds from one block to the next."""
        return self._block * self._recording.interval_us * 1e-6

    def preamble(self) -> list[Message]:
        """`Info` and `Start`."""
        recording = self._recording
        return _preamble(recording.interval_us, recording.resolutions, recording.names, recording.units)

    def block(self, k: int) -> Data | None:
        """Block `k` from 0; None past the end."""
        length = self._recording.n_samples
        begin = k * self._block
        end = begin + self._block
        if not self._loop:
            end = min(end, length)
        if end <= begin:
            return None
        rows = self._raw[np.arange(begin, end) % length]
        samples: Samples = (
            rows.astype(np.int16, copy=False) if self._int16 else rows.astype(np.float32, copy=False)
        )
        markers: list[BlockMarker] = []
        for turn in range(begin // length, (end - 1) // length + 1):
            first = bisect_left(self._marker_samples, begin - turn * length)
            stop = bisect_left(self._marker_samples, end - turn * length)
            shift = turn * length - begin
            markers += [
                BlockMarker(m.position + shift, m.points, m.channel, m.type, m.description)
                for m in self._markers[first:stop]
            ]
        return Data(_counter(k), samples, tuple(markers))


def _check_int16(recording: Recording) -> None:
    low, high = np.iinfo(np.int16).min, np.iinfo(np.int16).max
    for begin in range(0, recording.n_samples, _ROWS_AT_ONCE):
        rows = recording.raw[begin : begin + _ROWS_AT_ONCE]
        if rows.dtype == np.int16:
            return
        bad = ~((rows == np.rint(rows)) & (rows >= low) & (rows <= high))  # also where NaN
        if bad.any():
            sample, channel = (int(i) for i in np.argwhere(bad)[0])
            raise RecordingError(
                f"this float32 recording cannot be sent as int16: {recording.names[channel]} is "
                f"{rows[sample, channel]} raw units at sample {begin + sample}; send it as float32, "
                "without int16"
            )
