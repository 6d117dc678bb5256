"""Results as a table and a file, ratios to the floor of the same round, and what was not right.

Rule: a figure is the median over rounds; a ratio is taken within each round first, then its median. A lane
that is missing or failed is in the table as such. Faults are lost, wrong or repeated samples, never times.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any, Final, TypeAlias

from benchmarks import targets
from benchmarks.lanes import LANES

__all__ = ["faults", "text", "write"]

Entry: TypeAlias = dict[str, Any]
Key: TypeAlias = tuple[Any, ...]

HOW: Final = "Medians over rounds; x: to the bare pyzmq relay of the same round. CPU: % of one core."


def write(results: dict[str, Any], folder: Path) -> None:
    """The file and the table."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=1, ensure_ascii=False))
    (folder / "results.txt").write_text(text(results) + "\n")


def faults(results: dict[str, Any]) -> list[str]:
    """What was not right: samples lost, wrong or repeated, lanes that failed."""
    found = []
    for entry in results["results"]:
        where = f"{entry['workload']} {entry['step']}"
        if "failed" in entry:
            found.append(f"{where}: {entry['failed'].splitlines()[0]}")
        elif entry.get("wrong"):
            found.append(f"{where}: {entry['wrong']} wrong or repeated")
        elif entry.get("missing") and (results["about"]["small"] or entry["lane"] in ("rdahub", "local")):
            found.append(f"{where}: {entry['missing']} blocks lost")
    return found


def text(results: dict[str, Any]) -> str:
    """All tables."""
    about = results["about"]
    lines = [
        f"{about['cores']} cores, {about['processor']}, Python {about['python']}, {about['rounds']} rounds "
        f"of {about['seconds']:g} s, cores {'kept awake' if about['awake'] else 'as they are'}, "
        f"load {about['load_before']:.1f} to {about.get('load_after', about['load_before']):.1f}",
        HOW,
    ]
    lines += [f"missing: {LANES[name].title}: {why}" for name, why in results["missing"].items()]
    entries = [entry for entry in results["results"] if "failed" not in entry]
    by_kind: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        by_kind[entry["workload"], entry["kind"]].append(entry)
    makers: dict[str, Callable[[list[Entry]], list[list[str]]]] = {
        "live": live_table, "loaded": loaded_table, "history": history_table, "read": read_table,
        "greatest": greatest_table, "startup": startup_table, "remembering": remembering_table,
    }  # fmt: skip
    for (workload, kind), group in sorted(by_kind.items()):
        lines += ["", f"{workload.upper()} {kind}", *_layout(makers[kind](group))]
    if not about["small"] and (rows := targets.table(entries)):
        lines += ["", "TARGETS", *_layout(rows)]
    failed = [entry for entry in results["results"] if "failed" in entry]
    lines += [f"FAILED {e['workload']} {e['step']}: {e['failed'].splitlines()[0]}" for e in failed]
    return "\n".join(lines)


def live_table(entries: list[Entry]) -> list[list[str]]:
    """Delay, CPU and losses by shape, consumers and lane."""

    def key(e: Entry) -> Key:
        return e["shape"]["channels"], e["shape"]["rate"], e["consumers"]

    head = [
        "consumers",
        "lane",
        "p50 µs",
        "x",
        "p99 µs",
        "x",
        "hub CPU",
        "x",
        "consumer CPU",
        "x",
        "lost",
        "repaired",
    ]
    rows = [head]
    for (channels, rate, consumers), group in _groups(entries, key):
        for lane, of_lane in _groups(group, lambda e: e["lane"]):
            row = [f"{consumers} ({channels} x {rate / 1000:g} kHz)", LANES[lane].title]
            for name, scale in (("p50", 1), ("p99", 1), ("relay_cpu", 100), ("consumer_cpu", 100)):
                value = median(e[name] for e in of_lane) * scale
                digits = 0 if scale == 1 else 1
                row += [f"{value:.{digits}f}", _ratio(of_lane, group, name)]
            row += [str(sum(e["missing"] for e in of_lane)), str(sum(e["repaired"] for e in of_lane))]
            rows.append(row)
    return rows


def remembering_table(entries: list[Entry]) -> list[list[str]]:
    """Delay and the hub's CPU against the length of its history."""
    rows = [["history", "p50 µs", "p99 µs", "hub CPU", "lost"]]
    for seconds, group in _groups(entries, lambda e: e["history"]):
        delays = [f"{median(e[name] for e in group):.0f}" for name in ("p50", "p99")]
        cpu = f"{median(e['relay_cpu'] for e in group) * 100:.1f}"
        rows.append([f"{seconds:g} s", *delays, cpu, str(sum(e["missing"] for e in group))])
    return rows


def loaded_table(entries: list[Entry]) -> list[list[str]]:
    """Live delay under readers of history; the ratio is to the same lane without readers."""
    rows = [
        [
            "readers",
            "lane",
            "p50 µs",
            "p99 µs",
            "x idle",
            "until the hub has it p99",
            "lost",
            "reads/s each p50 ms",
        ]
    ]
    for readers, group in _groups(entries, lambda e: e["readers"]):
        for lane, of_lane in _groups(group, lambda e: e["lane"]):
            idle = {e["round"]: e for e in entries if e["lane"] == lane and e["readers"] == 0}
            ratios = [e["p99"] / idle[e["round"]]["p99"] for e in of_lane if e["round"] in idle]
            pulled = [e["extra"]["pulled"]["p50"] for e in of_lane if "pulled" in e["extra"]]
            rows.append([
                str(readers), LANES[lane].title, f"{median(e['p50'] for e in of_lane):.0f}",
                f"{median(e['p99'] for e in of_lane):.0f}", f"{median(ratios):.2f}" if ratios else "",
                f"{median(e['hub_p99'] for e in of_lane):.0f}", str(sum(e["missing"] for e in of_lane)),
                f"{median(pulled):.1f}" if pulled else "",
            ])  # fmt: skip
    return rows


def history_table(entries: list[Entry]) -> list[list[str]]:
    """Time per read by length and readers."""
    rows = [["seconds", "readers", "lane", "p50 ms", "x", "p99 ms", "x"]]
    for (span, readers), group in _groups(entries, lambda e: (e["span"], e["readers"])):
        for lane, of_lane in _groups(group, lambda e: e["lane"]):
            row = [f"{span:g}", str(readers), LANES[lane].title]
            for name in ("p50", "p99"):
                value = median(e[name] for e in of_lane)
                row += [f"{value:.3f}", _ratio(of_lane, group, name, base="zmq-history")]
            rows.append(row)
    return rows


def read_table(entries: list[Entry]) -> list[list[str]]:
    """µs per read."""
    rows = [["one second from", "p50 µs", "p99 µs"]]
    for lane, group in _groups(entries, lambda e: e["lane"]):
        rows.append([lane, *(f"{median(e[name] for e in group):.3f}" for name in ("p50", "p99"))])
    return rows


def greatest_table(entries: list[Entry]) -> list[list[str]]:
    """The greatest input."""
    rows = [["lane", "consumers", "kHz", "MB/s", "x", "repaired", "beyond it"]]
    for (lane, consumers), group in _groups(entries, lambda e: (e["lane"], e["consumers"])):
        rows.append([
            LANES[lane].title, str(consumers), f"{median(e['rate'] for e in group) / 1000:.1f}",
            f"{median(e['megabytes_per_second'] for e in group):.1f}",
            _ratio(group, entries, "megabytes_per_second"), str(sum(e["repaired"] for e in group)),
            str(group[-1]["beyond"])[:60],
        ])  # fmt: skip
    return rows


def startup_table(entries: list[Entry]) -> list[list[str]]:
    """Milliseconds until something is there."""
    rows = [["what", "lane", "median ms", "worst ms"]]
    for (what, lane), group in _groups(entries, lambda e: (e["what"], e["lane"])):
        values = [e["ms"] for e in group]
        rows.append([what, LANES[lane].title, f"{median(values):.1f}", f"{max(values):.1f}"])
    return rows


def _ratio(of_lane: list[Entry], group: list[Entry], name: str, base: str = "zmq") -> str:
    """Median over rounds of the ratio to the floor within the round."""
    floor = {e["round"]: e[name] for e in group if e["lane"] == base}
    ratios = [e[name] / floor[e["round"]] for e in of_lane if floor.get(e["round"])]
    return f"{median(ratios):.2f}" if ratios else ""


def _groups(entries: Iterable[Entry], key: Callable[[Entry], Any]) -> list[tuple[Any, list[Entry]]]:
    """Entries by key; lanes in the table's order, numbers ascending."""
    order = list(LANES)
    groups: dict[Any, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[key(entry)].append(entry)

    def place(item: tuple[Any, list[Entry]]) -> Any:
        parts = item[0] if isinstance(item[0], tuple) else (item[0],)
        return tuple(order.index(p) if p in order else 0 if isinstance(p, str) else p for p in parts)

    return sorted(groups.items(), key=place)


def _layout(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
