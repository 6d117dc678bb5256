"""mne-lsl's StreamLSL over the same LSL bridge, polled as its documentation says.

Rule: the smallest acquisition delay there is a default for (1 ms), and a consumer that looks for new samples
every 0.5 ms and takes the newest from the stream's ring with `get_data`.
"""

from __future__ import annotations

import contextlib
import importlib
import time
from typing import Any, ClassVar

import numpy as np

from benchmarks.feed import Feed
from benchmarks.lanes.lsl import Lsl
from benchmarks.shape import COUNT

DELAY = 0.001
LOOK = 0.0005
BUFFER = 10.0
"""Seconds in its ring; every arrival copies the whole ring, so a longer one only costs."""


class MneLsl(Lsl):
    """StreamLSL."""

    name: ClassVar[str] = "mne-lsl"
    title: ClassVar[str] = "mne-lsl StreamLSL"
    packages: ClassVar[tuple[str, ...]] = ("pylsl", "mne_lsl.stream")

    def warm_up(self) -> None:
        """Load MNE and the library."""
        importlib.import_module("mne_lsl.stream")
        importlib.import_module("mne_lsl.lsl")
        importlib.import_module("mne_lsl").set_log_level("ERROR")

    def stream(self, address: str) -> Any:
        """A connected stream."""
        module = importlib.import_module("mne_lsl.stream")
        stream = module.StreamLSL(BUFFER, source_id=address)
        stream.connect(acquisition_delay=DELAY, timeout=30)
        return stream

    def consume(self, address: str, feed: Feed) -> None:
        """Wait for new samples, take them, pass over those seen before."""
        shape = feed.shape
        stream = self.stream(address)
        silent_from = time.monotonic()
        while True:
            new = stream.n_new_samples
            if new == 0:
                if time.monotonic() - silent_from > 1 and feed.silent():
                    break
                time.sleep(LOOK)
                continue
            silent_from = time.monotonic()
            # More may have come since; a block more is asked for, and what was seen is passed over.
            data, _ = stream.get_data((new + 2 * shape.rows) / shape.rate)
            rows = data.T
            seen = _seen(rows, feed, new)
            if seen < len(rows) and feed.take(rows[seen:]):
                break
        with contextlib.suppress(RuntimeError):
            stream.disconnect()


def _seen(rows: np.ndarray[Any, Any], feed: Feed, new: int) -> int:
    """How many of these rows the feed has already; before its first, all but the new ones."""
    if not feed.began:
        return max(0, len(rows) - new)
    last = int(rows[-1, 0])
    unseen = (last + 1 - feed.next_index + COUNT // 2) % COUNT - COUNT // 2
    return len(rows) - max(0, min(unseen, len(rows)))
