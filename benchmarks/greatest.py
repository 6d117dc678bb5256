"""The greatest input a lane carries (W3): the rate goes up until a block is lost or delay grows.

Rule: a rate is carried if the source kept its times, every consumer got every block, right, and the newest
ones after no more than 0.25 s. Rates are a ladder of quarter octaves, searched by doubling, then halving.
Not here: what happens beyond (a hub must not fall over: tests/nemesis).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from benchmarks.children import LaneFailed
from benchmarks.lanes import Lane
from benchmarks.live import Measured, live, stage
from benchmarks.shape import Shape

__all__ = ["greatest"]

STEPS: Final = 4
"""Rungs to the octave."""
LATEST: Final = 250_000.0
"""µs of delay at the end that still count as keeping up."""
LOWEST: Final = -5 * STEPS
HIGHEST: Final = 4 * STEPS


def at_rung(base: Shape, rung: int) -> Shape:
    """The shape at a rung; blocks stay of the same length in time."""
    rows = max(1, round(base.rows * 2 ** (rung / STEPS)))
    return replace(base, rate=rows / base.block_seconds, rows=rows)


def carries(lane: Lane, shape: Shape, consumers: int, seconds: float) -> Measured | str:
    """The measurement if this rate is carried, else why not."""
    try:
        with stage(lane, shape) as on:
            measured = live(on, lane, consumers, seconds, patience=seconds + 5)
    except LaneFailed as error:
        return str(error).splitlines()[0]
    if measured.missing or measured.wrong:
        return f"{measured.missing} blocks lost, {measured.wrong} samples wrong"
    if measured.source_late > LATEST:
        return f"the source was held up for {measured.source_late / 1e6:.2f} s"
    if measured.backlog > LATEST:
        return f"the last blocks came {measured.backlog / 1e6:.2f} s late"
    return measured


def greatest(
    lane: Lane, base: Shape, consumers: int, seconds: float, highest: int = HIGHEST
) -> dict[str, Any]:
    """The greatest rate of one lane, upwards or downwards from `base`."""
    found: dict[int, Measured | str] = {}

    def good(rung: int) -> bool:
        if rung not in found:
            found[rung] = carries(lane, at_rung(base, rung), consumers, seconds)
        return isinstance(found[rung], Measured)

    low, high = 0, 0
    if good(0):
        while low == high < highest:
            high = min(high + STEPS, highest)
            low = high if good(high) else low
    else:
        while low == high > LOWEST:
            low -= STEPS
            high = high if good(low) else low
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if good(middle) else (low, middle)
    best = found[low]
    shape = at_rung(base, low)
    return {
        "lane": lane.name,
        "consumers": consumers,
        "rate": round(shape.rate) if isinstance(best, Measured) else 0,
        "megabytes_per_second": round(shape.bytes_per_second / 1e6, 1) if isinstance(best, Measured) else 0.0,
        "repaired": best.repaired if isinstance(best, Measured) else 0,
        "beyond": found.get(low + 1, "not tried") if low < highest else "not tried",
        "tried": len(found),
    }
