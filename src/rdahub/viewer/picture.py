"""One browser's picture: which traces it wants, and the columns it has not had yet.

Rule: every column is sent once; who comes back late is sent the newest picture, never what it has missed
beyond it. So a slow browser costs no memory, and nothing queues for it. Pure: a `Store` goes in, arrays
come out. Not here: the socket (`server`), drawing (static/traces.js).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from rdahub.viewer.decimate import columns, samples_per_column
from rdahub.viewer.filters import Cascade, sections
from rdahub.viewer.montage import Kind, Montage, montage
from rdahub.viewer.store import Store
from rdahub_client.records import Float32

__all__ = ["Columns", "Picture", "View"]

_SETTLING: Final = 8.0  # s of samples before the picture that a filter settles on, if they are held
_AT_ONCE: Final = 1 << 20  # values taken at a time: some 50 ms, for meanwhile the feed waits


class View(BaseModel):
    """What a browser asks for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: list[str] | None = Field(default=None, max_length=4096)
    seconds: float = Field(default=10.0, ge=0.5, le=60.0)
    pixels: int = Field(default=800, ge=50, le=4000)
    montage: Kind = "recorded"
    high_pass: float | None = Field(default=None, gt=0, le=1e5)
    low_pass: float | None = Field(default=None, gt=0, le=1e5)
    notch: Literal[50, 60] | None = None
    spectrum: str | None = Field(default=None, max_length=1000)


@dataclass(frozen=True, slots=True)
class Columns:
    """Columns ``[first, first + n)`` of every trace.

    Attributes
    ----------
    anew : bool
        They are a new picture; those before are of another layout or view.
    values : ndarray of float32, shape (n_traces, n, 2)
        Least and greatest value; NaN where all is missing.
    """

    anew: bool
    width: int
    first: int
    shown: int
    names: tuple[str, ...]
    values: Float32


class Picture:
    """What one browser has been sent of its view."""

    def __init__(self) -> None:
        self._view: View | None = None
        self._epoch = -1
        self._width = self._shown = 1
        self._montage = Montage((), ())
        self._filter = Cascade([])
        self._taken = self._column = 0  # next sample to be filtered, next column to be sent
        self._drawn_from = 0
        self._rest: Float32 = np.empty((0, 0), np.float32)  # filtered rows from column `_column` on

    @property
    def left(self) -> int:
        """Index of the first sample in the picture."""
        return max(0, self._column - self._shown) * self._width

    def advance(self, store: Store, view: View) -> Columns | None:
        """Columns that are complete and have not been sent; None if there are none.

        A large picture comes in several calls; one call takes no more than `_AT_ONCE` values.
        """
        if store.segment is None:
            return None
        behind = (store.stop // self._width - self._column) > 2 * self._shown
        anew = view != self._view or store.epoch != self._epoch or self._taken < store.first or behind
        if anew:
            self._begin(store, view)
        self._take(store)
        n = len(self._rest) // self._width
        if n == 0 and not anew:
            return None
        first = self._column
        values = columns(self._rest, self._width)
        self._rest = self._rest[n * self._width :]
        self._column += n
        return Columns(anew, self._width, first, self._shown, self._montage.names, values)

    def _begin(self, store: Store, view: View) -> None:
        segment = store.segment
        assert segment is not None  # noqa: S101 - `advance` looked
        chosen = range(segment.n_channels)
        if view.channels is not None:
            wanted = set(view.channels)
            found = [i for i in chosen if segment.ch_names[i] in wanted]
            if found:  # a workspace with none of them: all, rather than an empty page
                chosen = found  # type: ignore[assignment]
        self._view, self._epoch = view, store.epoch
        self._montage = montage(view.montage, segment.ch_names, list(chosen))
        parts = sections(segment.sfreq, view.high_pass, view.low_pass, view.notch)
        self._filter = Cascade(parts)
        self._width = samples_per_column(segment.sfreq, view.seconds, view.pixels)
        self._shown = max(1, round(view.seconds * segment.sfreq / self._width))
        self._column = max(store.stop // self._width - self._shown, store.first // self._width)
        begin = self._column * self._width
        settling = round(_SETTLING * segment.sfreq) if parts else 0
        self._taken = max(store.first, begin - settling)
        self._rest = np.empty((0, len(self._montage.names)), np.float32)
        if self._taken > begin:  # a column that began before what is held
            self._rest = np.full((self._taken - begin, len(self._montage.names)), np.nan, np.float32)
        self._drawn_from = begin

    def _take(self, store: Store) -> None:
        assert store.segment is not None  # noqa: S101
        stop = min(store.stop, self._taken + max(1, _AT_ONCE // store.segment.n_channels))
        if self._taken < self._drawn_from:  # the filter settles
            self._run(store, min(stop, self._drawn_from))
            self._rest = self._rest[:0]
        self._run(store, max(stop, self._taken))

    def _run(self, store: Store, stop: int) -> None:
        """Filter up to `stop`, anew from where the signal does not follow on what was."""
        done = [self._rest]
        cuts = store.boundaries(self._taken, stop)
        for end in [*cuts, stop]:
            if end > self._taken:
                done.append(self._filter(self._montage(store.rows(self._taken, end))))
                self._taken = end
            if end in cuts:
                self._filter.reset()
        self._rest = np.concatenate(done)
