"""Amplitude spectrum of one channel, by Welch's method: means over Hann windows that overlap by half.

Rule: pure; of what was recorded, not of what was filtered. Windows with a missing sample are left out.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["amplitude"]

_WINDOW: Final = 2.0  # s: lines 0.5 Hz apart
_MOST_LINES: Final = 400  # that a browser is sent: 200 Hz, beyond which EEG has little

Signal = npt.NDArray[np.floating[Any]]


def amplitude(signal: Signal, sfreq: float) -> tuple[Signal, Signal] | None:
    """Frequencies in Hz and amplitude density in unit/sqrt(Hz).

    Parameters
    ----------
    signal : ndarray, shape (n,)
        Newest seconds of a channel; NaN is missing.

    Returns
    -------
    (hz, density) : tuple of ndarray, or None
        None if there is no whole window without a hole.
    """
    n = max(8, round(_WINDOW * sfreq))
    window = np.hanning(n)
    scale = 2 / (sfreq * np.sum(window**2))
    found = []
    for end in range(len(signal), n - 1, -(n // 2)):
        part = signal[end - n : end].astype(np.float64)
        if np.isfinite(part).all():
            found.append(np.abs(np.fft.rfft((part - part.mean()) * window)) ** 2 * scale)
    if not found:
        return None
    hz = np.fft.rfftfreq(n, 1 / sfreq)
    return hz[1 : _MOST_LINES + 1], np.sqrt(np.mean(found, axis=0))[1 : _MOST_LINES + 1]
