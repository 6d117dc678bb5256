"""What rdahub aims at beside its peers, and whether a run met it.

Rule: a target is a ratio within one round, its median over rounds; what was not measured is said so.
Not here: a verdict on a change; a single run on a busy machine tells nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any, Final, TypeAlias

__all__ = ["table"]

Entry: TypeAlias = dict[str, Any]
Where: TypeAlias = dict[str, Any]
Value: TypeAlias = float | None

FIRST_BLOCK_MS: Final = 90.0
"""Two block periods and 50 ms."""


@dataclass(frozen=True, slots=True)
class Target:
    """One line of the table."""

    what: str
    limit: float
    value: Value
    """None: not measured in this run."""
    at_least: bool = False
    unit: str = "x"

    def row(self) -> list[str]:
        """What, target, found, verdict."""
        sign = ">=" if self.at_least else "<="
        wanted = f"{sign} {self.limit:g} {self.unit}"
        if self.value is None:
            return [self.what, wanted, "", ""]
        met = self.value >= self.limit if self.at_least else self.value <= self.limit
        return [self.what, wanted, f"{self.value:.3g}", "met" if met else "NOT MET"]


class _Run:
    """The entries of a run, to be asked for medians and ratios."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries = list(entries)

    def at_rate(self, rate: float) -> _Run:
        """Only what was measured at this sampling rate."""
        return _Run(entry for entry in self._entries if entry.get("shape", {}).get("rate") == rate)

    def _rounds(self, name: str, where: Where) -> dict[int, float]:
        found: dict[int, list[float]] = {}
        for entry in self._entries:
            if all(entry.get(key) == wanted for key, wanted in where.items()) and name in entry:
                found.setdefault(entry["round"], []).append(float(entry[name]))
        return {turn: median(values) for turn, values in found.items()}

    def ratio(self, name: str, above: Where, below: Where) -> Value:
        """Median over rounds of one over the other."""
        upper, lower = self._rounds(name, above), self._rounds(name, below)
        ratios = [upper[turn] / lower[turn] for turn in upper if lower.get(turn)]
        return median(ratios) if ratios else None

    def middle(self, name: str, where: Where) -> Value:
        """Median over rounds."""
        values = self._rounds(name, where).values()
        return median(values) if values else None

    def total(self, name: str, where: Where) -> Value:
        """Sum over rounds."""
        found = [
            entry[name]
            for entry in self._entries
            if all(entry.get(k) == v for k, v in where.items()) and name in entry
        ]
        return float(sum(found)) if found else None


def table(entries: list[Entry]) -> list[list[str]]:
    """All targets, met or not."""
    run = _Run(entries)
    targets = [*_live(run), *_rates(run), *_history(run), *_others(run)]
    measured = [target.row() for target in targets if target.value is not None]
    if not measured:
        return []
    if left := len(targets) - len(measured):
        measured.append([f"{left} more were not measured", "", "", ""])
    return [["target", "wanted", "found", ""], *measured]


def _live(run: _Run) -> Iterable[Target]:
    def at(lane: str, count: int) -> Where:
        return {"workload": "w1", "kind": "live", "lane": lane, "consumers": count}

    for count in (1, 4, 16):
        yield Target(
            f"W1 p50, {count}, to bare relay", 1.05, run.ratio("p50", at("rdahub", count), at("zmq", count))
        )
        yield Target(
            f"W1 p50, {count}, to LSL", 0.75, run.ratio("p50", at("rdahub", count), at("lsl", count))
        )
        yield Target(
            f"W1 p99, {count}, to bare relay", 1.2, run.ratio("p99", at("rdahub", count), at("zmq", count))
        )
        yield Target(
            f"W1 LocalClient p50, {count}, to bare relay",
            0.6,
            run.ratio("p50", at("local", count), at("zmq", count)),
        )

    def cpu(name: str, lane: str, peer: str) -> Value:
        return run.ratio(name, at(lane, 16), at(peer, 16))

    yield Target("W1 hub CPU, 16, to bare relay", 1.1, cpu("relay_cpu", "rdahub", "zmq"))
    yield Target("W1 consumer CPU, 16, to bare SUB", 1.1, cpu("consumer_cpu", "rdahub", "zmq"))
    yield Target("W1 consumer CPU, 16, to mne-lsl", 0.04, cpu("consumer_cpu", "rdahub", "mne-lsl"))


def _rates(run: _Run) -> Iterable[Target]:
    for workload, rate in (("w2", 5000.0), ("w3", 25_000.0), ("w3", 100_000.0)):
        where = {"workload": workload, "kind": "live", "lane": "rdahub", "consumers": 4}
        entries = run.at_rate(rate)
        name = f"{workload.upper()} 160 ch x {rate / 1000:g} kHz, 4"
        yield Target(f"{name}, lost", 0, entries.total("missing", where), unit="blocks")
        if rate < 100_000:
            yield Target(f"{name}, repaired", 0, entries.total("repaired", where), unit="ranges")
    most = {"kind": "greatest", "consumers": 4}
    for peer, limit in (("zmq", 0.9), ("lsl", 3.0)):
        value = run.ratio("rate", {**most, "lane": "rdahub"}, {**most, "lane": peer})
        yield Target(f"W3 greatest rate, to {peer}", limit, value, at_least=True)


def _history(run: _Run) -> Iterable[Target]:
    for span in (10.0, 60.0):
        for readers in (1, 8):
            where = {"kind": "history", "span": span, "readers": readers}
            mine = {**where, "lane": "rdahub"}
            name = f"W4 {span:g} s, {readers} readers"
            floor = run.ratio("p50", mine, {**where, "lane": "zmq-history"})
            yield Target(f"{name}, to bare request/reply", 1.1, floor)
            redis = run.ratio("p50", {**where, "lane": "redis"}, mine)
            yield Target(f"{name}, faster than Redis", 5.0, redis, at_least=True)


def _others(run: _Run) -> Iterable[Target]:
    def reading(lane: str) -> Value:
        return run.middle("p50", {"kind": "read", "lane": lane})

    def loaded(lane: str, readers: int) -> Where:
        return {"kind": "loaded", "lane": lane, "readers": readers}

    yield Target("W5 ring's view of 1 s", 0.3, reading("rdahub ring view"), unit="µs")
    yield Target("W5 Client.get_data of 1 s", 1.5, reading("rdahub Client.get_data"), unit="µs")
    yield Target("W5 LocalClient.get_data of 1 s", 1.5, reading("rdahub LocalClient.get_data"), unit="µs")
    hub = "rdahub-watched"
    yield Target("W6 p99, 1 puller, to idle", 1.2, run.ratio("p99", loaded(hub, 1), loaded(hub, 0)))
    yield Target(
        "W6 p99, 8 pullers, to bare relay + history", 1.0, run.ratio("p99", loaded(hub, 8), loaded("zmq", 8))
    )
    share = run.middle("hub_p99", loaded(hub, 8))
    yield Target("W6 until the hub has it, p99, 8 pullers", 1000, share, unit="µs")

    def growing(name: str, value: float) -> Where:
        return {"workload": "w8", "lane": "rdahub", name: value}

    longer = run.ratio("relay_cpu", growing("history", 3600.0), growing("history", 10.0))
    yield Target("growth: hub CPU, history of 1 h to 10 s", 1.1, longer)

    def starting(what: str) -> Value:
        return run.middle("ms", {"kind": "startup", "lane": "rdahub", "what": what})

    yield Target("W7 import beyond numpy", 150, starting("import"), unit="ms")
    yield Target("W7 connect to first block", FIRST_BLOCK_MS, starting("first block"), unit="ms")
