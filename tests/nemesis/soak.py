"""Steady load for a long time: does the hub keep its size, its descriptors and its promises?

``python tests/nemesis/soak.py --seconds 600``: one acquisition at 16 channels x 1 kHz, a reader of each kind
that stays, and readers that come and go without end. After a warm-up (the history must be full once) a line
is fitted to the hub's resident memory. Linux: /proc. All readers' samples are kept to the end: 1 MB/s.
Not here: faults (`campaign`).
"""

from __future__ import annotations

import argparse
import itertools
import random
import re
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from campaign import WITNESS
from checker import Checker, Verdict, read_log
from proxy import poll
from source import Layout, Recorder

from processes import Child, Hub, leftovers, unique_name

HISTORY = 10.0  # s
WARM_UP = 4 * HISTORY
SLOPE = 1.0  # MiB/h; over a short soak the noise of a page more or less allows for some more, see `limit`
NOISE = 0.5  # MiB that resident memory may wander within a soak without being a leak
CROWD = 2  # readers that come and go at the same time
JOINS = 40  # per process, so that processes come and go too


@dataclass
class Size:
    """The hub at moments of the soak, after the warm-up."""

    seconds: list[float] = field(default_factory=list)
    mebibytes: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    def look(self, hub: Hub) -> None:
        process = Path(f"/proc/{hub.process.pid}")
        match = re.search(r"Rss:\s+(\d+) kB", (process / "smaps_rollup").read_text())
        assert match is not None
        self.seconds.append(time.monotonic())
        self.mebibytes.append(int(match[1]) / 1024)
        self.descriptors.append(len(list((process / "fd").iterdir())))
        self.files.append(len(leftovers(hub.name)))

    def slope(self) -> float:
        """MiB per hour."""
        return float(np.polyfit(self.seconds, self.mebibytes, 1)[0]) * 3600

    def limit(self) -> float:
        return SLOPE + NOISE / (self.seconds[-1] - self.seconds[0]) * 3600


def soak(seconds: float, seed: int) -> list[str]:
    """What is wrong afterwards; prints what it measured."""
    folder, rng = Path(tempfile.mkdtemp(prefix="soak-")), random.Random(seed)
    recorder = Recorder(seed, Layout(channels=16))
    hub = Hub("{}:{}".format(*recorder.address), "--history", f"{HISTORY}s", name=unique_name())
    numbers, size, problems = itertools.count(), Size(), list[str]()

    def reader(mode: str, kind: str) -> Child:
        log = folder / f"{mode}{next(numbers)}-{kind}.jsonl"
        address = hub.name if kind == "local" else hub.query
        joins = [str(JOINS), str(rng.randrange(2**31))] if mode == "join" else []
        return Child(mode, kind, address, "live", str(log), *joins, program=(WITNESS,))

    try:
        recorder.start()
        stay = [reader("follow", kind) for kind in ("network", "local")]
        crowd: list[Child] = []
        began, next_look = time.monotonic(), 0.0
        while (now := time.monotonic()) < began + seconds:
            for child in [child for child in crowd if child.process.poll() is not None]:
                crowd.remove(child)
                problems += _end(child)
            crowd += [reader("join", rng.choice(("network", "local"))) for _ in range(CROWD - len(crowd))]
            if now > began + min(WARM_UP, seconds / 2) and now > next_look:
                size.look(hub)
                next_look = now + 1
            time.sleep(0.1)  # the soak is time
        recorder.stop()
        ends = [folder / f"follow{k}-{kind}.jsonl" for k, kind in enumerate(("network", "local"))]
        poll(lambda: all(b'"reason": "stop"' in end.read_bytes()[-1000:] for end in ends), "the end is told")
        for child in (*stay, *crowd, hub):
            problems += _end(child, stop=True)
        if left := leftovers(hub.name):
            problems.append(f"left in shared memory: {left}")
    finally:
        for child in (*stay, *crowd, hub):
            child.close()
        recorder.close()
    faults = [
        {"fault": "hub end", "target": "hub", "t0": time.monotonic(), "t1": time.monotonic(), "instance": ""}
    ]
    checker = Checker(recorder.log, faults, HISTORY)
    for log in sorted(folder.glob("*.jsonl")):
        checker.add(log.stem, read_log(log), Path(f"{log}.samples"))
    problems += _report(size, checker.judge())
    if problems:
        print(f"logs: {folder}\nagain: python tests/nemesis/soak.py --seconds {seconds:g} --seed {seed}")
    else:
        shutil.rmtree(folder)
    return problems


def _end(child: Child, stop: bool = False) -> list[str]:
    code = child.stop() if stop else child.finish()
    child.close()
    bad = code != 0 or "Traceback" in child.stderr
    return [f"a process ended with {code}: {child.stderr[-2000:]}"] if bad else []


def _report(size: Size, verdict: Verdict) -> list[str]:
    slope = size.slope()
    print(verdict)
    print(
        f"hub over {size.seconds[-1] - size.seconds[0]:.0f} s: {size.mebibytes[0]:.1f} to "
        f"{size.mebibytes[-1]:.1f} MiB, {slope:+.2f} MiB/h (limit {size.limit():.1f}); "
        f"descriptors {min(size.descriptors)} to {max(size.descriptors)}, {size.descriptors[-1]} at the end; "
        f"files in shared memory {min(size.files)} to {max(size.files)}"
    )
    problems = list(verdict.errors)
    if slope > size.limit():
        problems.append(f"the hub grows by {slope:.2f} MiB/h")
    half = len(size.files) // 2
    for what, counts in (("descriptors", size.descriptors), ("files in shared memory", size.files)):
        # Each reader has one or two: the crowd's come and go, but the highest must not rise.
        if max(counts[half:]) > max(counts[:half]) + 2 * CROWD:
            problems.append(f"{what} grow: up to {max(counts[:half])}, then up to {max(counts[half:])}")
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    given = parser.parse_args()
    problems = soak(given.seconds, given.seed)
    print("\n".join(problems[:30]))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
