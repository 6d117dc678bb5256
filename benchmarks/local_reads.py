"""Reads of one second that is here already (W5): the ring's view, `get_data`, and what peers offer.

    python -m benchmarks.local_reads '{"lane": "rdahub", "address": …, "shape": …, "reads": 2000}'

Rule: ranges are at random places in the ring, so also across its end; live data go on meanwhile. Reads are
timed in batches of 100, figures are µs per read; the loop around a read costs some 0.03 µs of it.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.lanes import LANES
from benchmarks.lanes.mne_lsl import MneLsl
from benchmarks.shape import COUNT, Shape

BATCH = 100
Reader = Callable[[int, int], Any]
Span = Callable[[], tuple[int, int]]


def measure(read: Reader, span: Span, rows: int, reads: int, *, counted: bool = True) -> dict[str, float]:
    """Median and p99 of batches, µs per read."""
    choose = random.Random(1)
    took = []
    for _ in range(max(1, reads // BATCH)):
        first, last = span()
        starts = [choose.randrange(first, last - rows + 1) for _ in range(BATCH)]
        begin = time.perf_counter_ns()
        for start in starts:
            samples = read(start, start + rows)
        took.append((time.perf_counter_ns() - begin) / BATCH / 1e3)
        if samples is None or (counted and (len(samples) != rows or samples[0, 0] != start % COUNT)):
            raise ValueError(f"a read of {rows} rows from {start} gave something else")
    return {"p50": round(float(np.median(took)), 3), "p99": round(float(np.percentile(took, 99)), 3)}


def of_rdahub(address: str, shape: Shape, reads: int) -> dict[str, dict[str, float]]:
    """A client's window, the ring below it, and the same on the hub's machine."""
    from rdahub_client import Client, LocalClient
    from rdahub_client.memory import private_ring

    query, name = address.split()
    rows = round(shape.rate)
    figures = {}
    ring = private_ring(5 * rows, shape.channels, 0)
    block = np.zeros((shape.rows, shape.channels), np.float32)
    while ring.next_index < 12.5 * rows:
        block[:, 0] = np.arange(ring.next_index, ring.next_index + shape.rows) % COUNT
        ring.extend(block)
    figures["rdahub ring view"] = measure(
        ring.view, lambda: (ring.first_available, ring.next_index), rows, reads
    )
    with LocalClient(name) as local:
        local.start_streaming()

        def here() -> tuple[int, int]:
            return local.last_sample - 5 * rows, local.last_sample

        figures["rdahub LocalClient.get_data"] = measure(local.get_data, here, rows, reads)
    with Client(buffer_size=2 * rows + 10 * shape.rows) as client:
        client.connect(query)
        client.start_streaming()
        begin = client.last_sample
        while (
            client.wait(begin, begin + 3 * rows, timeout=10) is None and client.last_sample < begin + 3 * rows
        ):
            pass

        def window() -> tuple[int, int]:
            return client.last_sample - 2 * rows, client.last_sample

        figures["rdahub Client.get_data"] = measure(client.get_data, window, rows, reads)
    return figures


def of_rdaclient(shape: Shape, reads: int) -> dict[str, dict[str, float]]:
    """The published ring: a view, and a range across its end that is longer than its pocket."""
    from benchmarks.lanes.rdaclient import Ring

    rows = round(shape.rate)
    size = 5 * rows
    ring = Ring.make(size, 1, shape.channels)
    block = np.zeros((rows, shape.channels), np.float32)
    for second in range(12):
        block[:, 0] = np.arange(second * rows, (second + 1) * rows) % COUNT
        ring.put(block)
    across = 2 * size
    return {
        "rdaclient.py view": measure(ring.get, lambda: (across, 12 * rows - 1), rows, reads),
        "rdaclient.py across the end": measure(
            ring.get, lambda: (across - rows // 2, across + rows // 2), rows, max(BATCH, reads // 10)
        ),
    }


def of_mne_lsl(address: str, shape: Shape, reads: int) -> dict[str, dict[str, float]]:
    """StreamLSL has only the newest second."""
    lane = MneLsl()
    lane.warm_up()
    stream = lane.stream(address)
    deadline = time.monotonic() + 10
    while stream.n_new_samples < shape.rate and time.monotonic() < deadline:
        time.sleep(0.01)
    rows = round(shape.rate)

    def read(_start: int, _stop: int) -> Any:
        return stream.get_data(1.0)[0].T

    figures = measure(read, lambda: (0, rows), rows, max(BATCH, reads // 10), counted=False)
    stream.disconnect()
    return {"mne-lsl get_data (newest second)": figures}


def main() -> None:
    """Measure as the JSON on the command line says."""
    spec = json.loads(sys.argv[1])
    shape, reads = Shape(**spec["shape"]), spec["reads"]
    match LANES[spec["lane"]].name:
        case "rdahub":
            figures = of_rdahub(spec["address"], shape, reads)
        case "mne-lsl":
            figures = of_mne_lsl(spec["address"], shape, reads)
        case _:
            figures = of_rdaclient(shape, reads)
    print("figures", json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
