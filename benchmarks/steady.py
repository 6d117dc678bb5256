"""Growth in time: one hub, live data for as long as wanted, a measurement each minute.

    python -m benchmarks.steady --minutes 60

Rule: the hub is the same throughout, consumers are new each minute. What must stay flat: its CPU per block,
its own memory, its descriptors. (Faults, layouts and restarts: tests/nemesis/soak.py.)
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.lanes import LANES
from benchmarks.live import live, stage
from benchmarks.plan import W1

MINUTE = 55.0
"""Seconds measured in each; the rest is for new consumers."""


def own_mib(pid: int) -> float:
    """Resident memory without what is shared: the history is."""
    text = Path(f"/proc/{pid}/status").read_text()
    return sum(int(kib) for kib in re.findall(r"^Rss(?:Anon|File):\s+(\d+)", text, re.MULTILINE)) / 1024


def main() -> None:
    """Measure, and tell the slopes."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.steady", description=__doc__.split("\n", 1)[0]
    )
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--consumers", type=int, default=4)
    parser.add_argument("--out", type=Path, help="file for one JSON object per minute")
    options = parser.parse_args()
    lane = LANES["rdahub"]
    rows: list[dict[str, float]] = []
    with stage(lane, W1, history_seconds=600.0, longest=60.0 * (options.minutes + 2)) as on:
        pid = on.relay.children[0].pid
        for minute in range(options.minutes):
            measured = live(on, lane, options.consumers, MINUTE)
            row = {
                "minute": minute, "p50": measured.p50, "p99": measured.p99, "missing": measured.missing,
                "repaired": measured.repaired, "hub_cpu": 100 * measured.relay_cpu, "hub_mib": own_mib(pid),
                "descriptors": len(list(Path(f"/proc/{pid}/fd").iterdir())),
            }  # fmt: skip
            rows.append(row)
            line = json.dumps({key: round(value, 2) for key, value in row.items()})
            print(line, flush=True)
            if options.out is not None:
                with options.out.open("a") as file:
                    file.write(line + "\n")
    half = len(rows) // 2
    for name in ("hub_cpu", "hub_mib", "descriptors", "p50"):
        values = [row[name] for row in rows]
        slope = np.polyfit(range(len(values)), values, 1)[0] * 60 if len(values) > 1 else 0.0
        print(
            f"{name}: first half {median(values[: half or 1]):.2f}, second half {median(values[half:]):.2f}, "
            f"fitted {slope:+.2f} an hour"
        )


if __name__ == "__main__":
    main()
