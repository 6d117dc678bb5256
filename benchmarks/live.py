"""Live data: from the Recorder's send to the consumer's return (W1, W2, W3, and W6 with readers of history).

Rule: the window that counts begins when every consumer has data, and is the same blocks for all of them; CPU
is taken at its two ends. Consumers then go on until they have its last block.
Not here: what a lane is (`lanes`), tables (`report`).
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.board import BURST_DONE, FOR_EVER, LAST, SENT, Board
from benchmarks.children import PATIENCE, Child, LaneFailed, cpu_ns
from benchmarks.lanes import LANES, Lane, Relay, Setting, running
from benchmarks.shape import Shape

__all__ = ["Measured", "Stage", "crowd", "live", "stage", "wait_for_cell"]

SETTLE = 0.3
"""Seconds of blocks after the last consumer came that do not count."""
LONGEST = 600.0
"""Seconds the board has room for, unless more is asked for."""
SHARED = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - numbers only, no disk is touched
QUANTILES = np.linspace(0, 100, 201)


@dataclass(slots=True)
class Stage:
    """A source and a relay, running; `beside` is a second relay on the same source."""

    board: Board
    shape: Shape
    folder: Path
    source: Child
    relay: Relay
    burst: int
    beside: Relay | None = None


@dataclass(slots=True)
class Measured:
    """What one lane did in one round. Times in µs, CPU as a share of one core."""

    lane: str
    consumers: int
    shape: Shape
    blocks: int = 0
    p50: float = 0.0
    p99: float = 0.0
    worst: float = 0.0
    missing: int = 0
    """Blocks of the window that a consumer did not get."""
    wrong: int = 0
    """Samples that were not what the source sent, or came twice."""
    repaired: int = 0
    """Ranges fetched from history to make up for lost blocks."""
    relay_cpu: float = 0.0
    consumer_cpu: float = 0.0
    source_late: float = 0.0
    """p99 of how late the source itself sent."""
    backlog: float = 0.0
    """Median delay of the last tenth of the blocks: grows without end where the lane cannot keep up."""
    hub_p99: float = 0.0
    """p99 from send to the hub's own receive stamp, where the lane tells."""
    quantiles: list[float] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """For the file of results."""
        values = {name: getattr(self, name) for name in self.__slots__}
        values["shape"] = self.shape.to_json()
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in values.items()}


@contextlib.contextmanager
def stage(
    lane: Lane,
    shape: Shape,
    *,
    burst_seconds: float = 0.0,
    history_seconds: float = 0.0,
    beside: Lane | None = None,
    connections: int | None = None,
    longest: float = LONGEST,
) -> Iterator[Stage]:
    """A source, and the lane's relay connected to it, with `burst_seconds` of history sent at once."""
    with tempfile.TemporaryDirectory(prefix="rdahub-bench-", dir=SHARED) as name:
        folder = Path(name)
        burst = shape.blocks(burst_seconds) if burst_seconds else 0
        board = Board(folder, burst + shape.blocks(longest))
        wanted = lane.connections if connections is None else connections
        source = start_source(folder, shape, burst, wanted + (beside is not None))
        setting = Setting(source.said(), shape, folder, history_seconds or max(10.0, burst_seconds + 30.0))
        try:
            with running(lane, setting) as relay:
                on = Stage(board, shape, folder, source, relay, burst)
                if beside is None:
                    yield on
                else:
                    with running(beside, setting) as second:
                        on.beside = second
                        yield on
        finally:
            source.close()


def start_source(folder: Path, shape: Shape, burst: int, connections: int) -> Child:
    """A Recorder of the benchmark's own; always in this interpreter."""
    spec = {"folder": str(folder), "shape": shape.to_json(), "burst": burst, "connections": connections}
    return Child([_python(), "-m", "benchmarks.source", json.dumps(spec)], r"^ready (\S+)")


def _python() -> str:
    return LANES["rdahub"].python()


@contextlib.contextmanager
def crowd(lane: Lane, on: Stage, job: str, count: int, *, check: bool, **more: int) -> Iterator[Child]:
    """Consumers or readers of this lane, each with its first rows."""
    relay = on.beside if on.beside is not None and job == "pull" else on.relay
    spec = {
        "job": job, "lane": lane.name, "count": count, "address": relay.address, "check": check,
        "folder": str(on.folder), "shape": on.shape.to_json(), **more,
    }  # fmt: skip
    command = [lane.python(), "-m", "benchmarks.crowd", json.dumps(spec)]
    child = Child(command, environment=lane.environment)
    try:
        child.match = child.wait_for(r"^ready ([\d ]+)")
        yield child
    finally:
        child.close()


def wait_for_cell(board: Board, cell: int, value: int, seconds: float = PATIENCE) -> None:
    """Until a cell of the board has at least a value.

    Raises
    ------
    LaneFailed
        Not in time.
    """
    deadline = time.monotonic() + seconds
    while board.cells[cell] < value:
        if time.monotonic() > deadline:
            raise LaneFailed(f"the source has not come to {value} in {seconds} s, but to {board.cells[cell]}")
        time.sleep(0.005)


def live(
    on: Stage, lane: Lane, consumers: int, seconds: float, *, check: bool = False, patience: float = PATIENCE
) -> Measured:
    """Measure one lane for some seconds on a stage that is set.

    Raises
    ------
    LaneFailed
        A process of the lane ended, or did not become ready.
    """
    wait_for_cell(on.board, BURST_DONE, 1)
    on.board.cells[LAST] = FOR_EVER
    with crowd(lane, on, "consume", consumers, check=check) as group:
        pids = [int(pid) for pid in group.said().split()]
        first = int(on.board.cells[SENT]) + on.shape.blocks(SETTLE)
        wait_for_cell(on.board, SENT, first, patience)
        before = _cpu(on, pids)
        last = first + on.shape.blocks(seconds)
        wait_for_cell(on.board, SENT, last, seconds + patience)
        after = _cpu(on, pids)
        on.board.cells[LAST] = last
        group.finish()
    measured = Measured(lane.name, consumers, on.shape, blocks=last - first)
    _read_notes(measured, on, consumers, first, last, lane.newest_only)
    elapsed = after[0] - before[0]
    measured.relay_cpu = (after[1] - before[1]) / elapsed
    measured.consumer_cpu = (after[2] - before[2]) / elapsed / consumers
    return measured


def _cpu(on: Stage, pids: list[int]) -> tuple[int, int, int]:
    children = on.relay.children + (on.beside.children if on.beside else [])
    relay = sum(cpu_ns(child.pid) for child in children)
    return time.monotonic_ns(), relay, sum(map(cpu_ns, pids))


def _read_notes(
    measured: Measured, on: Stage, consumers: int, first: int, last: int, newest_only: bool
) -> None:
    sent = on.board.sent[first:last]
    notes = [np.load(on.folder / f"received-{k}.npy")[:, first:last] for k in range(consumers)]
    received = np.stack([note[0] for note in notes])
    delays = (received - sent)[received > 0] / 1e3
    if not delays.size:
        raise LaneFailed(f"{measured.lane}: no consumer got a block of the window")
    measured.p50, measured.p99, measured.worst = map(float, np.percentile(delays, (50, 99, 100)))
    measured.quantiles = [round(float(q), 1) for q in np.percentile(delays, QUANTILES)]
    measured.missing = int(np.sum(received == 0))
    measured.source_late = float(np.percentile((sent - on.board.due[first:last]) / 1e3, 99))
    tail = max(1, len(sent) // 10)
    measured.backlog = _tail_delay(received[:, -tail:], sent[-tail:])
    hub = np.stack([note[1] for note in notes])
    if np.any(hub):
        measured.hub_p99 = float(np.percentile((hub - sent)[hub > 0] / 1e3, 99))
    counts = [json.loads((on.folder / f"received-{k}.json").read_text()) for k in range(consumers)]
    measured.wrong = sum(count["wrong"] + count["repeated"] for count in counts)
    measured.repaired = sum(count.get("repaired", 0) for count in counts)
    if newest_only:
        measured.extra["passed_over"], measured.missing = measured.missing, 0


def _tail_delay(received: npt.NDArray[np.int64], sent: npt.NDArray[np.int64]) -> float:
    delays = (received - sent)[received > 0] / 1e3
    return float(np.median(delays)) if delays.size else float("inf")
