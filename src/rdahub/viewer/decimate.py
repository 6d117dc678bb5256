"""Samples to columns of the picture: the least and the greatest value of each, so that no spike is lost.

Rule: column `k` is samples ``[k * width, (k + 1) * width)`` by absolute index, whenever and in whatever
pieces they came; so every browser draws the same, and a column once drawn never changes. Not here: filters,
who wants which columns.
"""

from __future__ import annotations

import math

import numpy as np

from rdahub_client.records import Float32

__all__ = ["columns", "samples_per_column"]


def samples_per_column(sfreq: float, seconds: float, pixels: int) -> int:
    """Width of a column in samples, so that `seconds` fill at most `pixels` columns."""
    return max(1, math.ceil(sfreq * seconds / max(1, pixels)))


def columns(rows: Float32, width: int) -> Float32:
    """Least and greatest value of each column and trace.

    Parameters
    ----------
    rows : ndarray, shape (n * width, n_traces)
        Whole columns. NaN is missing: a column is NaN where all its samples are.
    width : int
        Samples per column.

    Returns
    -------
    columns : ndarray of float32, shape (n_traces, n, 2)
    """
    n, n_traces = len(rows) // width, rows.shape[1]
    whole = rows[: n * width].reshape(n, width, n_traces)
    result = np.empty((n_traces, n, 2), np.float32)
    result[:, :, 0] = np.fmin.reduce(whole, axis=1).T
    result[:, :, 1] = np.fmax.reduce(whole, axis=1).T
    return result
