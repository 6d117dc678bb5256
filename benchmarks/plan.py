"""The workloads W1 to W8 as steps: a label and what to do for one lane.

Rule: a step is one lane's turn and yields results as mappings; steps of a workload may be done in any order.
Not here: the order, and writing results down (`__main__`, `report`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from benchmarks import history, startup
from benchmarks.board import BURST_DONE
from benchmarks.children import Child
from benchmarks.greatest import HIGHEST, greatest
from benchmarks.lanes import LANES, Lane
from benchmarks.live import live, stage, wait_for_cell
from benchmarks.shape import Shape

__all__ = ["SMALL", "W1", "WORKLOADS", "Plan", "Step"]

Entry: TypeAlias = dict[str, Any]
Step: TypeAlias = tuple[str, Callable[[], Iterator[Entry]]]
Lanes: TypeAlias = Mapping[str, Lane]

W1: Final = Shape(64, 1000.0, 20)
W2: Final = Shape(160, 5000.0, 100)
W3: Final = (Shape(160, 25_000.0, 500), Shape(160, 100_000.0, 2000))
"""Blocks of 20 ms throughout."""
FEW: Final = ("zmq", "tcp", "rdahub", "local", "lsl", "redis")
"""Lanes worth the time at high rates."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of it."""

    consumers: tuple[int, ...]
    readers: tuple[int, ...]
    seconds: float
    check: bool = False
    spans: tuple[float, ...] = (1.0, 10.0, 60.0)
    reads: int = 20_000
    times: int = 5
    small: bool = False

    def counts(self, default: tuple[int, ...]) -> tuple[int, ...]:
        """Numbers of consumers."""
        return self.consumers or default


SMALL: Final = Plan((2,), (1,), 0.3, check=True, spans=(1.0,), reads=200, times=1, small=True)


def _live(plan: Plan, lanes: Lanes, shape: Shape, counts: tuple[int, ...]) -> list[Step]:
    def step(lane: Lane, count: int) -> Iterator[Entry]:
        with stage(lane, shape) as on:
            yield {"kind": "live", **live(on, lane, count, plan.seconds, check=plan.check).to_json()}

    return [
        (f"{name} x {count}, {shape}", lambda lane=lane, count=count: step(lane, count))  # type: ignore[misc]
        for name, lane in lanes.items()
        for count in counts
    ]


def w1(plan: Plan, lanes: Lanes) -> list[Step]:
    """64 channels x 1 kHz."""
    return _live(plan, lanes, W1, plan.counts((1, 4, 16, 64)))


def w2(plan: Plan, lanes: Lanes) -> list[Step]:
    """160 channels x 5 kHz."""
    return _live(plan, _few(plan, lanes), W2, plan.counts((1, 4)))


def w3(plan: Plan, lanes: Lanes) -> list[Step]:
    """160 channels x 25 and 100 kHz, and the greatest rate."""
    few = _few(plan, lanes)
    count = plan.counts((4,))[0]
    steps = [step for shape in W3[: 1 if plan.small else 2] for step in _live(plan, few, shape, (count,))]

    def most(lane: Lane) -> Iterator[Entry]:
        base, highest = (W2, 1) if plan.small else (W3[1], HIGHEST)
        yield {"kind": "greatest", **greatest(lane, base, count, min(plan.seconds, 3.0), highest)}

    steps += [(f"{name}, greatest rate", lambda lane=lane: most(lane)) for name, lane in few.items()]  # type: ignore[misc]
    return steps


def w4(plan: Plan, lanes: Lanes) -> list[Step]:
    """History."""
    reading = {"zmq": "zmq-history", "rdahub": "rdahub", "local": "local", "redis": "redis"}

    def step(lane: Lane) -> Iterator[Entry]:
        for notes in history.pulls(lane, W1, plan.spans, plan.readers, plan.seconds, check=plan.check):
            yield {"kind": "history", **notes}

    return [(name, lambda name=name: step(LANES[reading[name]])) for name in lanes if name in reading]  # type: ignore[misc]


def w5(plan: Plan, lanes: Lanes) -> list[Step]:
    """One second that is here already."""

    def step(lane: Lane) -> Iterator[Entry]:
        with stage(
            lane, W1, burst_seconds=15.0, history_seconds=12.0, connections=min(lane.connections, 1)
        ) as on:
            wait_for_cell(on.board, BURST_DONE, 1)
            spec = {
                "lane": lane.name, "address": on.relay.address, "shape": W1.to_json(), "reads": plan.reads
            }  # fmt: skip
            command = [lane.python(), "-m", "benchmarks.local_reads", json.dumps(spec)]
            child = Child(command, r"^figures (.*)", lane.environment)
            figures = json.loads(child.said())
            child.finish()
            child.close()
        for what, figure in figures.items():
            yield {"kind": "read", "lane": what, **figure}

    return [
        (name, lambda lane=lanes[name]: step(lane))  # type: ignore[misc]
        for name in ("rdahub", "rdaclient", "mne-lsl")
        if name in lanes
    ]


def w6(plan: Plan, lanes: Lanes) -> list[Step]:
    """Live data while history is read."""
    watched = {"zmq": "zmq", "rdahub": "rdahub-watched", "redis": "redis"}

    def step(lane: Lane) -> Iterator[Entry]:
        readers = (0, *plan.readers)
        for count, measured in history.live_under_load(
            lane, W1, max(plan.spans), readers, plan.seconds, check=plan.check
        ):
            yield {"kind": "loaded", "readers": count, **measured.to_json()}

    return [(name, lambda name=name: step(LANES[watched[name]])) for name in lanes if name in watched]  # type: ignore[misc]


def w7(plan: Plan, lanes: Lanes) -> list[Step]:
    """Getting started."""

    def importing(lane: Lane) -> Iterator[Entry]:
        for _ in range(plan.times):
            yield {"kind": "startup", "what": "import", "lane": lane.name, "ms": startup.import_ms(lane)}

    def ready(lane: Lane) -> Iterator[Entry]:
        for _ in range(plan.times):
            yield {"kind": "startup", "what": "ready", "lane": lane.name, "ms": startup.ready_ms(lane, W1)}

    def first(lane: Lane) -> Iterator[Entry]:
        for notes in startup.first_block(lane, W1, plan.times):
            yield {"kind": "startup", "what": "first block", **notes}

    steps: list[Step] = []
    for name, lane in lanes.items():
        if name in startup.IMPORTS:
            steps.append((f"{name}, import", lambda lane=lane: importing(lane)))  # type: ignore[misc]
        if name in ("zmq", "rdahub", "redis"):
            steps.append((f"{name}, ready", lambda lane=lane: ready(lane)))  # type: ignore[misc]
        if name in ("zmq", "rdahub", "local", "lsl", "mne-lsl", "redis"):
            steps.append((f"{name}, first block", lambda lane=lane: first(lane)))  # type: ignore[misc]
    return steps


def w8(plan: Plan, lanes: Lanes) -> list[Step]:
    """Growth: what more channels cost, and whether a long history costs anything. (Time: `steady`.)"""
    chosen = {name: lane for name, lane in lanes.items() if name in ("zmq", "rdahub", "local", "lsl")}
    count = plan.counts((4,))[0]
    steps = [
        step
        for channels in ((64,) if plan.small else (16, 64, 256, 1024))
        for step in _live(plan, chosen, Shape(channels, W1.rate, W1.rows), (count,))
    ]

    def remembering(lane: Lane, seconds: float) -> Iterator[Entry]:
        with stage(lane, W1, history_seconds=seconds) as on:
            measured = live(on, lane, count, plan.seconds, check=plan.check).to_json()
            yield {"kind": "remembering", "history": seconds, **measured}

    if "rdahub" in lanes:
        steps += [
            (f"rdahub, history {seconds:g} s", lambda s=seconds: remembering(lanes["rdahub"], s))  # type: ignore[misc]
            for seconds in ((10.0,) if plan.small else (10.0, 600.0, 3600.0))
        ]
    return steps


def _few(plan: Plan, lanes: Lanes) -> Lanes:
    chosen = ("zmq", "rdahub", "local") if plan.small else FEW
    return {name: lane for name, lane in lanes.items() if name in chosen}


WORKLOADS: Final[dict[str, Callable[[Plan, Lanes], list[Step]]]] = {
    "w1": w1, "w2": w2, "w3": w3, "w4": w4, "w5": w5, "w6": w6, "w7": w7, "w8": w8,
}  # fmt: skip
