"""How good each channel's signal is: flat, railed, full of line noise, or good.

Rule: pure; judged on what was recorded, never on what was filtered. The words are for the eye; a program
that decides something should look at the samples itself. Limits stand below, with their reasons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from rdahub_client.records import Float32

__all__ = ["MAINS", "Quality", "judge"]

MAINS: Final = (50.0, 60.0)
"""Hz."""
_INT16_RAIL: Final = 32_767  # raw units: the amplifiers that RDA carries as int16 end there
_NEAR_RAIL: Final = 0.995
_STUCK: Final = 0.1  # share of samples on the very same extreme value: an amplifier at its end
_FLAT_STEPS: Final = 2.0  # raw units from least to greatest: no amplifier is as quiet for two seconds
_LINE_SHARE: Final = 0.5  # of the power above 1 Hz: more mains than signal
_LINE_HALF_WIDTH: Final = 1.0  # Hz


@dataclass(frozen=True, slots=True)
class Quality:
    """One channel's.

    Attributes
    ----------
    word : {'good', 'flat', 'railed', 'line', 'none'}
        ``none`` where there are too few samples to tell.
    rms : float
        Without its mean, in the channel's unit.
    line : float
        RMS of what lies within 1 Hz of `mains`, in the channel's unit.
    mains : float
        50 or 60 Hz, whichever is stronger; 0 if the rate has no room for them.
    """

    word: str
    rms: float
    line: float
    mains: float


def judge(rows: Float32, sfreq: float, resolutions: Sequence[float]) -> list[Quality]:
    """Judge each channel of rows, shape (n, n_channels), a second or two of them."""
    return [_one(rows[:, c], sfreq, abs(resolution)) for c, resolution in enumerate(resolutions)]


def _one(rows: Float32, sfreq: float, resolution: float) -> Quality:
    signal = rows[np.isfinite(rows)].astype(np.float64)
    if len(signal) < max(8, 0.5 * sfreq):
        return Quality("none", 0.0, 0.0, 0.0)
    low, high = signal.min(), signal.max()
    rail = _NEAR_RAIL * _INT16_RAIL * resolution
    centred = signal - signal.mean()
    rms = float(np.sqrt(np.mean(centred**2)))
    at_rail = bool(np.mean(np.abs(signal) >= rail) >= _STUCK) and _stuck(signal, low, high)
    if high - low <= _FLAT_STEPS * resolution:
        return Quality("railed" if at_rail else "flat", rms, 0.0, 0.0)
    if _stuck(signal, low, high):
        return Quality("railed", rms, 0.0, 0.0)
    mains, line, share = _line(centred, sfreq)
    return Quality("line" if share > _LINE_SHARE else "good", rms, line, mains)


def _stuck(signal: np.ndarray[tuple[int], np.dtype[np.float64]], low: float, high: float) -> bool:
    return bool(max(np.mean(signal == low), np.mean(signal == high)) >= _STUCK)


def _line(centred: np.ndarray[tuple[int], np.dtype[np.float64]], sfreq: float) -> tuple[float, float, float]:
    """Mains frequency, RMS there, and its share of the power above 1 Hz."""
    n = len(centred)
    window = np.hanning(n)
    power = np.abs(np.fft.rfft(centred * window)) ** 2 * 2 / (n * np.sum(window**2))
    hz = np.fft.rfftfreq(n, 1 / sfreq)
    total = float(power[hz > 1.0].sum())
    at = {
        mains: float(power[np.abs(hz - mains) <= _LINE_HALF_WIDTH].sum())
        for mains in MAINS
        if mains + _LINE_HALF_WIDTH < sfreq / 2
    }
    if not at or total <= 0:
        return 0.0, 0.0, 0.0
    mains = max(at, key=lambda each: at[each])
    return mains, float(np.sqrt(at[mains])), at[mains] / total
