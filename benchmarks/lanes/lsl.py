"""Lab Streaming Layer: a bridge from RDA to a pylsl outlet, consumers with pylsl inlets.

    python -m benchmarks.lanes.lsl HOST:PORT '{"shape": …, "name": …}'

Rule: the fastest ways both libraries have: one array per block pushed through at once, and pulled into an
array that exists already, a whole block at a time. LSL is kept on this machine by lsl_api.cfg.
LSL has no history: who comes later or falls out of the inlet's memory has lost it.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import sys
from typing import Any, ClassVar

import numpy as np

from benchmarks.children import ROOT
from benchmarks.feed import Feed
from benchmarks.lanes import Lane, Relay, Setting
from benchmarks.messages import DATA32, Splitter, connect, samples_of
from benchmarks.shape import Shape

_numbers = itertools.count()


class Lsl(Lane):
    """pylsl."""

    name: ClassVar[str] = "lsl"
    title: ClassVar[str] = "LSL (bridge + pylsl)"
    peers: ClassVar[bool] = True
    packages: ClassVar[tuple[str, ...]] = ("pylsl",)
    environment: ClassVar[dict[str, str]] = {"LSLAPICFG": str(ROOT / "benchmarks/lsl_api.cfg")}

    def start(self, setting: Setting) -> Relay:
        """Run this module."""
        name = f"bench{os.getpid()}-{next(_numbers)}"
        spec = json.dumps({"shape": setting.shape.to_json(), "name": name})
        child = self.module("benchmarks.lanes.lsl", setting.source, spec)
        return Relay(name, [child])

    def warm_up(self) -> None:
        """Load the library."""
        importlib.import_module("pylsl")

    def consume(self, address: str, feed: Feed) -> None:
        """Pull one sample at a time up to the end of a block, then whole blocks."""
        shape = feed.shape
        inlet = _inlet(address)
        rows = np.empty((shape.rows, shape.channels), np.float32)
        wanted = 1
        while True:
            _, stamps = inlet.pull_chunk(timeout=1.0, max_samples=wanted, dest_obj=rows)
            n = len(stamps)
            if n == 0:
                if feed.silent():
                    break
                continue
            if feed.take(rows[:n]):
                break
            over = feed.next_index % shape.rows
            wanted = shape.rows if not over else 1 if wanted == 1 else shape.rows - over


def _inlet(name: str) -> Any:
    pylsl = importlib.import_module("pylsl")
    found = pylsl.resolve_byprop("name", name, timeout=30)
    if not found:
        raise RuntimeError(f"no LSL stream {name} was found on this machine")
    inlet = pylsl.StreamInlet(found[0], max_buflen=60)
    inlet.open_stream(30)
    return inlet


def main() -> None:
    """Relay until the source closes."""
    pylsl = importlib.import_module("pylsl")
    spec = json.loads(sys.argv[2])
    shape = Shape(**spec["shape"])
    info = pylsl.StreamInfo(
        spec["name"], "EEG", shape.channels, shape.rate, pylsl.cf_float32, source_id=spec["name"]
    )
    outlet = pylsl.StreamOutlet(info, max_buffered=60)
    source = connect(sys.argv[1])
    print("ready outlet", flush=True)
    splitter = Splitter()
    while True:
        for kind, message in splitter.receive(source):
            if kind == DATA32:
                outlet.push_chunk(samples_of(message, shape.channels))


if __name__ == "__main__":
    main()
