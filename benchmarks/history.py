"""History: ranges of 1, 10 and 60 s by one and eight readers (W4), and live data meanwhile (W6).

Rule: the source fills 60 s and more at once, then goes on live, so every lane serves history beside live
data. Readers ask for ranges at random places, one after the other, without pause.
Peers are a bare ZeroMQ request/reply of pages and Redis XRANGE; LSL and rdaclient.py serve no history.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from benchmarks.board import BURST_DONE, GO
from benchmarks.lanes import LANES, Lane
from benchmarks.live import Measured, Stage, crowd, live, stage, wait_for_cell
from benchmarks.shape import Shape

__all__ = ["BESIDE", "live_under_load", "pulls"]

MARGIN: Final = 5.0
"""Seconds of history beyond the longest range."""
BESIDE: Final = {
    "rdahub-watched": ("rdahub", None),
    "zmq": ("zmq-history", "zmq-history"),
    "redis": ("redis", None),
}
"""For a live lane: the lane that reads history, and the relay beside it if it takes another."""


@contextlib.contextmanager
def pulling(
    on: Stage, lane: Lane, readers: int, span_seconds: float, held_seconds: float, *, check: bool
) -> Iterator[dict[str, Any]]:
    """Readers that pull while the context lasts; afterwards what they noted is in the mapping."""
    shape, notes = on.shape, dict[str, Any]()
    on.board.cells[GO] = 0
    span, held = round(span_seconds * shape.rate), round(held_seconds * shape.rate)
    with crowd(lane, on, "pull", readers, check=check, span=span, held=held) as group:
        on.board.cells[GO] = 1
        yield notes
        on.board.cells[GO] = 2
        group.finish()
    took = [np.load(on.folder / f"pulled-{k}.npy") / 1e6 for k in range(readers)]
    counts = [json.loads((on.folder / f"pulled-{k}.json").read_text()) for k in range(readers)]
    whole = np.concatenate(took)
    notes |= {
        "lane": lane.name, "readers": readers, "span": span_seconds, "reads": len(whole),
        "wrong": sum(count["wrong"] for count in counts),
        "p50": round(float(np.median(whole)), 4), "p99": round(float(np.percentile(whole, 99)), 4),
    }  # fmt: skip


def pulls(
    lane: Lane,
    shape: Shape,
    spans: tuple[float, ...],
    readers: tuple[int, ...],
    seconds: float,
    *,
    check: bool,
) -> Iterator[dict[str, Any]]:
    """W4 for one lane: for every span and number of readers, how long a read takes (ms)."""
    held = max(spans) + MARGIN
    with stage(lane, shape, burst_seconds=held) as on:
        wait_for_cell(on.board, BURST_DONE, 1)
        for span in spans:
            for count in readers:
                with pulling(on, lane, count, span, held, check=check) as notes:
                    time.sleep(seconds)
                yield notes


def live_under_load(
    lane: Lane, shape: Shape, span: float, readers: tuple[int, ...], seconds: float, *, check: bool
) -> Iterator[tuple[int, Measured]]:
    """W6 for one lane: live data while none, one or eight readers pull `span` seconds without pause."""
    reading, other = BESIDE[lane.name]
    held = span + MARGIN
    with stage(lane, shape, burst_seconds=held, beside=None if other is None else LANES[other]) as on:
        wait_for_cell(on.board, BURST_DONE, 1)
        for count in readers:
            if count == 0:
                yield 0, live(on, lane, 1, seconds, check=check)
                continue
            with pulling(on, LANES[reading], count, span, held, check=check) as notes:
                measured = live(on, lane, 1, seconds, check=check)
            measured.extra["pulled"] = notes
            measured.wrong += notes["wrong"]
            yield count, measured
