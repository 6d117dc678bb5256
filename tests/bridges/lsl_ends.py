"""`rdahub lsl` as its users run it, and inlets that take what it gives; all LSL stays on this machine."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from processes import PATIENCE, Child

CONFIGURATION = str(Path(__file__).parent / "lsl_api.cfg")
os.environ["LSLAPICFG"] = CONFIGURATION  # read at LSL's first call; children have it too

import pylsl  # noqa: E402

Float64 = npt.NDArray[np.float64]


class Streams:
    """Both streams of one name, open."""

    def __init__(self, name: str) -> None:
        self.markers_inlet = self._open(f"{name} Markers")  # first: no marker of a row below is missed
        self.samples_inlet = self._open(name)
        self.texts: list[tuple[str, float]] = []

    @staticmethod
    def _open(name: str) -> Any:
        found = pylsl.resolve_byprop("name", name, timeout=PATIENCE)
        assert len(found) == 1, f"{name}: {len(found)} streams"
        inlet = pylsl.StreamInlet(found[0], max_buflen=60)
        inlet.open_stream(PATIENCE)
        return inlet

    def rows(self, n: int) -> tuple[npt.NDArray[np.float32], Float64]:
        """The next `n` rows, and their times."""
        rows: list[list[float]] = []
        times: list[float] = []
        deadline = time.monotonic() + PATIENCE
        while len(rows) < n:
            assert time.monotonic() < deadline, f"{len(rows)} of {n} rows came"
            more, stamps = self.samples_inlet.pull_chunk(timeout=0.2, max_samples=n - len(rows))
            rows += more
            times += stamps
        return np.array(rows, np.float32), np.array(times)

    def until(self, text: str, when: float | None = None) -> float:
        """The time of this text, or that it came with just this time, once it is here."""
        deadline = time.monotonic() + PATIENCE
        while not (found := [at for each, at in self.texts if each == text and when in {None, at}]):
            assert time.monotonic() < deadline, f"no {text!r} at {when}: {self.texts}"
            sample, at = self.markers_inlet.pull_sample(timeout=0.2)
            if sample is not None:
                self.texts.append((sample[0], at))
        return found[0]

    def close(self) -> None:
        self.samples_inlet.close_stream()
        self.markers_inlet.close_stream()


def start_bridge(query: str, name: str, *arguments: str) -> Child:
    return Child("lsl", query, "--name", name, *arguments)


@contextlib.contextmanager
def bridge(query: str, name: str, *arguments: str) -> Iterator[Child]:
    """A bridge whose streams are there, and that must end well."""
    child = start_bridge(query, name, *arguments)
    try:
        match = child.wait_for(r'^ready name="(.*)" markers="(.*)"$')
        assert match.groups() == (name, f"{name} Markers")
        yield child
        assert child.stop() == 0, child.stderr
        assert "Traceback" not in child.stderr, child.stderr
        assert child.stdout.count("\n") == 1, child.stdout
    finally:
        child.close()


@contextlib.contextmanager
def streams(name: str) -> Iterator[Streams]:
    opened = Streams(name)
    try:
        yield opened
    finally:
        opened.close()
