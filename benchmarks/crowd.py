"""Many consumers, or readers of history: forked from one process that has imported everything already.

    python -m benchmarks.crowd '{"job": "consume", "lane": "zmq", "count": 16, …}'

Rule: one process each, forked before any thread or socket exists. It prints ``ready PID …`` once every one of
them has its first rows, and ends when all have; its exit code tells whether all went well.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.board import GO, Board
from benchmarks.children import die_with_parent
from benchmarks.feed import Feed
from benchmarks.lanes import LANES, Lane
from benchmarks.shape import COUNT, Shape, table_of

MOST_READS = 100_000


def consume(lane: Lane, spec: dict[str, Any], number: int, ready: int) -> None:
    """Follow live data."""
    shape = Shape(**spec["shape"])
    feed = Feed(Path(spec["folder"]), shape, number, check=spec["check"], ready=ready)
    lane.consume(spec["address"], feed)
    feed.save()


def pull(lane: Lane, spec: dict[str, Any], number: int, ready: int) -> None:
    """Read ranges of `span` rows anywhere in the first `held` rows, without pause, from GO on."""
    shape = Shape(**spec["shape"])
    folder, span, held = Path(spec["folder"]), spec["span"], spec["held"]
    cells = Board(folder).cells
    choose = random.Random(number)
    table = table_of(shape) if spec["check"] else None
    took: list[int] = []
    wrong = 0
    reader = lane.history(spec["address"], shape)
    assert reader is not None
    with reader as read:
        read(0, shape.rows)  # connections are made and memory is touched
        os.write(ready, b".")
        while cells[GO] == 0:
            time.sleep(0.001)
        while len(took) < MOST_READS:
            start = choose.randrange(held - span + 1)
            begin = time.monotonic_ns()
            samples = read(start, start + span)
            took.append(time.monotonic_ns() - begin)
            right = len(samples) == span and samples[0, 0] == start % COUNT
            right = right and bool(samples[-1, 0] == (start + span - 1) % COUNT)
            if right and table is not None:
                rows = np.arange(start, start + span) % len(table)
                right = np.array_equal(samples[:, 1:], table[rows, 1:])
            wrong += not right
            if cells[GO] == 2:
                break
    np.save(folder / f"pulled-{number}.npy", np.array(took, np.int64))
    (folder / f"pulled-{number}.json").write_text(json.dumps({"reads": len(took), "wrong": wrong}))


JOBS = {"consume": consume, "pull": pull}


def main() -> int:
    """Fork, tell when all are ready, wait for all."""
    spec = json.loads(sys.argv[1])
    lane, job = LANES[spec["lane"]], JOBS[spec["job"]]
    lane.warm_up()
    first = spec.get("first", 0)
    heard, ready = os.pipe()
    pids: list[int] = []

    def end(*_: object) -> None:
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        os._exit(1)

    signal.signal(signal.SIGTERM, end)
    for number in range(first, first + spec["count"]):
        pid = os.fork()
        if pid == 0:
            die_with_parent()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.close(heard)
            code = 1
            try:
                job(lane, spec, number, ready)
                code = 0
            except BaseException:  # noqa: BLE001 - told, and the exit code says it
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        pids.append(pid)
    os.close(ready)
    count = 0
    while count < len(pids):
        data = os.read(heard, 256)
        if not data:
            break
        count += len(data)
    if count == len(pids):
        print("ready", *pids, flush=True)
    codes = []
    for pid in tuple(pids):
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        pids.remove(pid)
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
