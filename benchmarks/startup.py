"""How long it takes until something comes (W7): importing, a relay getting ready, the first block.

Rule: an import is timed after numpy, in a fresh interpreter, with its bytecode there; ready is from starting
the process to its line; the first block is from making the client to having rows, everything imported.
"""

from __future__ import annotations

import json
import subprocess
import time
from typing import Any, Final

from benchmarks.board import FOR_EVER, LAST, SENT
from benchmarks.children import ROOT, LaneFailed
from benchmarks.lanes import Lane
from benchmarks.live import crowd, stage
from benchmarks.shape import Shape

__all__ = ["IMPORTS", "first_block", "import_ms", "ready_ms"]

IMPORTS: Final = {
    "rdahub": "rdahub_client",
    "zmq": "zmq",
    "lsl": "pylsl",
    "mne-lsl": "mne_lsl.stream",
    "redis": "redis",
}
_CODE: Final = (
    "import time, numpy\nt = time.perf_counter()\nimport {}\nprint((time.perf_counter() - t) * 1e3)"
)


def import_ms(lane: Lane) -> float:
    """Milliseconds beyond numpy that importing what a consumer needs takes."""
    command = [lane.python(), "-c", _CODE.format(IMPORTS[lane.name])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)
    if done.returncode:
        raise LaneFailed(done.stderr[-1000:])
    return float(done.stdout.split()[-1])


def ready_ms(lane: Lane, shape: Shape) -> float:
    """Milliseconds from starting the relay to its being ready; its source is there already."""
    with stage(lane, shape) as on:
        return sum(child.ready_seconds for child in on.relay.children) * 1e3


def first_block(lane: Lane, shape: Shape, times: int) -> list[dict[str, Any]]:
    """Milliseconds from making a client to its first rows, beside data that flow; several times."""
    found = []
    with stage(lane, shape) as on:
        for _ in range(times):
            with crowd(lane, on, "consume", 1, check=False) as group:
                on.board.cells[LAST] = on.board.cells[SENT] + 1
                group.finish()
            notes = json.loads((on.folder / "received-0.json").read_text())
            found.append({"lane": lane.name, "ms": round(notes["first_rows_ms"], 3)})
            on.board.cells[LAST] = FOR_EVER
            time.sleep(shape.block_seconds * 0.37)  # not always at the same place between two blocks
    return found
