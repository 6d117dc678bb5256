"""High-pass, low-pass and notch for looking at, in second-order sections, all channels at once.

Rule: causal and stateful: the same samples give the same result in whatever pieces they come. A run begins
settled on its first sample, so an offset makes no transient, and begins anew after a gap. A value that is
no number is held over inside the filter and stays NaN outside. Filters are for the eye only: nothing
filtered leaves the viewer.

A section is run as a state space over up to `_PIECE` samples per matrix product, for there is no compiled
filter in numpy. Coefficients are those of R. Bristow-Johnson's Audio EQ Cookbook. Not here: who wants which
filter (`picture`).
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from rdahub_client.records import Float32

__all__ = ["Cascade", "Section", "sections"]

_PIECE: Final = 32  # samples per matrix product
_BUTTERWORTH: Final = 1 / math.sqrt(2)
_NOTCH_Q: Final = 15.0  # 3.3 Hz wide at 50 Hz: mains wander

Float64 = npt.NDArray[np.float64]
Section = tuple[float, float, float, float, float]
"""b0, b1, b2, a1, a2; a0 is 1."""


def sections(
    sfreq: float, high_pass: float | None, low_pass: float | None, notch: float | None
) -> list[Section]:
    """Second-order sections of what is asked for; one that the rate has no room for is left out.

    Parameters
    ----------
    high_pass, low_pass : float or None
        Corner (-3 dB) in Hz of a second-order Butterworth filter.
    notch : float or None
        Mains frequency in Hz; its double is taken out too.
    """
    found = []
    room = 0.49 * sfreq
    if high_pass and high_pass < room:
        found.append(_section("high", high_pass, sfreq, _BUTTERWORTH))
    if low_pass and low_pass < room:
        found.append(_section("low", low_pass, sfreq, _BUTTERWORTH))
    if notch:
        found += [_section("notch", hz, sfreq, _NOTCH_Q) for hz in (notch, 2 * notch) if hz < room]
    return found


def _section(kind: str, hz: float, sfreq: float, q: float) -> Section:
    angle = 2 * math.pi * hz / sfreq
    cosine, alpha = math.cos(angle), math.sin(angle) / (2 * q)
    b = {
        "high": ((1 + cosine) / 2, -(1 + cosine), (1 + cosine) / 2),
        "low": ((1 - cosine) / 2, 1 - cosine, (1 - cosine) / 2),
        "notch": (1.0, -2 * cosine, 1.0),
    }[kind]
    a0 = 1 + alpha
    return b[0] / a0, b[1] / a0, b[2] / a0, -2 * cosine / a0, (1 - alpha) / a0


class Cascade:
    """Sections one after the other, over a signal that comes in pieces.

    Parameters
    ----------
    parts : list of Section
    """

    def __init__(self, parts: list[Section]) -> None:
        self._runs = [_Run(part) for part in parts]
        self._held: Float64 | None = None  # newest value of each channel that was one; None before the first

    def reset(self) -> None:
        """What comes next does not follow on what was."""
        self._held = None

    def __call__(self, rows: Float32) -> Float32:
        """Filter rows, shape (n, n_channels)."""
        if not self._runs or not len(rows):
            return rows
        signal = rows.astype(np.float64)
        missing = ~np.isfinite(signal)
        begins = self._held is None
        if missing.any():
            self._hold(signal, missing)
        if begins:
            level = signal[0].copy()
            for run in self._runs:
                level = run.settle(level)
        self._held = signal[-1].copy()
        for begin in range(0, len(signal), _PIECE):  # all sections on a piece while it is in the cache
            piece = signal[begin : begin + _PIECE]
            for run in self._runs:
                piece = run(piece)
            signal[begin : begin + _PIECE] = piece
        signal[missing] = np.nan
        return signal.astype(np.float32)

    def _hold(self, signal: Float64, missing: npt.NDArray[np.bool_]) -> None:
        """Put the last value that was one in place of each that is none; 0 or the first one before that."""
        n = len(signal)
        if self._held is None:
            first = np.argmin(missing, axis=0)
            before = signal[first, np.arange(signal.shape[1])]
            before = np.where(np.isfinite(before), before, 0.0)
        else:
            before = self._held
        last = np.where(missing, 0, np.arange(1, n + 1)[:, None])
        np.maximum.accumulate(last, axis=0, out=last)
        padded = np.vstack([before[None], signal])
        signal[:] = np.take_along_axis(padded, last, axis=0)


class _Run:
    """One section with its state, shape (2, n_channels): transposed direct form II as a state space."""

    def __init__(self, part: Section) -> None:
        b0, b1, b2, a1, a2 = part
        step = np.array([[-a1, 1.0], [-a2, 0.0]])
        enter = np.array([b1 - a1 * b0, b2 - a2 * b0])
        powers = np.empty((_PIECE + 1, 2, 2))
        powers[0] = np.eye(2)
        for i in range(_PIECE):
            powers[i + 1] = powers[i] @ step
        self._powers = powers
        self._reach = powers[:_PIECE] @ enter  # row i: state i steps after a unit came in
        self._observe: Float64 = powers[:_PIECE, 0, :]
        response = np.concatenate([[b0], self._reach[: _PIECE - 1, 0]])
        lag = np.arange(_PIECE)[:, None] - np.arange(_PIECE)
        self._through: Float64 = np.where(lag >= 0, response[lag], 0.0)
        self._enter = enter
        self._settled: Float64 = np.linalg.solve(np.eye(2) - step, enter)
        self._gain = (b0 + b1 + b2) / (1 + a1 + a2)
        self._state: npt.NDArray[Any] = np.zeros((2, 0))

    def settle(self, level: Float64) -> Float64:
        """Take the state that a constant would have led to; the constant that comes out."""
        self._state = np.outer(self._settled, level)
        return self._gain * level

    def __call__(self, x: Float64) -> Float64:
        """Filter at most `_PIECE` rows."""
        n = len(x)
        out: Float64 = self._through[:n, :n] @ x + self._observe[:n] @ self._state
        self._state = self._powers[n] @ self._state + self._reach[:n][::-1].T @ x
        return out
