"""The command line: which workloads, which lanes, how long; writes a table, a JSON file and plots.

    python -m benchmarks --workload w1,w4 --rounds 3 --seconds 5 --consumers 1,4,16 [--awake]
    python -m benchmarks --small          # everything once, tiny: does it work, is every sample right?

Rule: within a round every lane has its turn, in an order drawn anew, so that what the machine does meanwhile
hits all alike. A lane that fails is named and the run goes on.
Not here: measuring (`live`, `history`, `greatest`, `local_reads`, `startup`), tables (`report`).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks import report
from benchmarks.awake import cores_awake
from benchmarks.children import ROOT, LaneFailed
from benchmarks.lanes import LANES, Lane, peers_python
from benchmarks.plan import SMALL, WORKLOADS, Plan

DEFAULT_LANES: Final = (
    "zmq", "tcp", "rdahub", "rdahub-poll", "local", "local-poll", "lsl", "mne-lsl", "redis", "rdaclient",
)  # fmt: skip


ALL_LANES: Final = (*DEFAULT_LANES, "rdahub-sub")


def numbers(text: str) -> tuple[int, ...]:
    """``1,4,16``."""
    return tuple(int(part) for part in text.split(","))


def names(allowed: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    """``w1,w4`` or ``all``."""

    def parse(text: str) -> tuple[str, ...]:
        chosen = allowed if text == "all" else tuple(text.split(","))
        if unknown := [name for name in chosen if name not in allowed]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: there are {', '.join(allowed)}")
        return chosen

    return parse


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.split("\n", 1)[0])
    known = tuple(WORKLOADS)
    parser.add_argument("--workload", type=names(known), default=known, help=f"all, or of {','.join(known)}")
    parser.add_argument(
        "--lanes", type=names(ALL_LANES), default=DEFAULT_LANES, help="some of: " + ",".join(ALL_LANES)
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="per measurement")
    parser.add_argument("--consumers", type=numbers, default=(), help="instead of the workload's own counts")
    parser.add_argument("--readers", type=numbers, default=(1, 8), help="of history")
    parser.add_argument("--awake", action="store_true", help="keep the cores awake (idle-priority spinners)")
    parser.add_argument("--check", action="store_true", help="compare every sample (costs consumers time)")
    parser.add_argument("--small", action="store_true", help="all of it, tiny; times mean nothing")
    parser.add_argument("--seed", type=int, default=None, help="of the order of lanes")
    parser.add_argument("--out", type=Path, default=ROOT / "build/bench")
    return parser.parse_args()


def about(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Machine and settings, as far as they matter; no names."""
    model = ""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return {
        "cores": len(os.sched_getaffinity(0)), "processor": model, "system": platform.system(),
        "kernel": platform.release(), "python": platform.python_version(), "awake": options.awake,
        "rounds": 1 if options.small else options.rounds,
        "seconds": SMALL.seconds if options.small else options.seconds, "seed": seed, "small": options.small,
        "load_before": os.getloadavg()[0],
    }  # fmt: skip


def present(lane_names: tuple[str, ...]) -> tuple[dict[str, Lane], dict[str, str]]:
    """Lanes that can run here, and what keeps the others."""
    lanes = {name: LANES[name] for name in lane_names}
    missing = {name: why for name, lane in lanes.items() if (why := lane.missing())}
    return {name: lane for name, lane in lanes.items() if name not in missing}, missing


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All workloads, all rounds."""
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    print(f"order of lanes: --seed {seed}", flush=True)
    lanes, missing = present(options.lanes)
    for name, why in missing.items():
        print(f"missing: {LANES[name].title}: {why}", flush=True)
    results: dict[str, Any] = {"about": about(options, seed), "missing": missing, "results": []}
    plan = Plan(options.consumers, options.readers, options.seconds, options.check)
    if options.small:
        plan = SMALL
    order = random.Random(seed)
    began = time.monotonic()
    for workload in options.workload:
        steps = WORKLOADS[workload](plan, lanes)
        for turn in range(1 if options.small else options.rounds):
            order.shuffle(steps)
            for label, step in steps:
                entries: list[dict[str, Any]] = []
                try:
                    entries.extend(step())
                except LaneFailed as error:
                    notes = "\n".join([str(error), *getattr(error, "__notes__", [])])
                    entries.append({"failed": notes})
                    print(f"FAILED {workload} {label}: {notes}", file=sys.stderr, flush=True)
                for entry in entries:
                    results["results"].append({"workload": workload, "round": turn, "step": label, **entry})
                spent = time.monotonic() - began
                print(f"[{spent:6.1f} s] {workload} round {turn + 1}: {label}", flush=True)
                report.write(results, options.out)
    results["about"]["load_after"] = os.getloadavg()[0]
    report.write(results, options.out)
    return results


def main() -> int:
    """Measure, tell, draw. With ``--small`` the exit code says whether all was right."""
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # children are ended, folders removed
    with cores_awake(options.awake):
        results = run(options)
    print(report.text(results))
    if not options.small:
        drawn = subprocess.run(
            [peers_python(), "-m", "benchmarks.plots", str(options.out)], cwd=ROOT, check=False
        ) if Path(peers_python()).exists() else None  # fmt: skip
        print(
            f"results: {options.out}", "" if drawn and drawn.returncode == 0 else "(no plots: no matplotlib)"
        )
    faults = report.faults(results)
    for fault in faults:
        print(f"FAULT {fault}")
    print(f"{len(results['results']) - len(faults)} passed, {len(faults)} failed")
    return 1 if faults else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except json.JSONDecodeError as error:
        sys.exit(f"a child wrote what is no JSON: {error}")
