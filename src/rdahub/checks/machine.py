"""This machine: versions, room for the history, the clock.

Rule: it looks and reserves nothing.
"""

from __future__ import annotations

import itertools
import os
import platform
import shutil
import time
from importlib.metadata import version
from pathlib import Path
from typing import Final

import zmq

from rdahub import memory_watch
from rdahub.checks.findings import NOTE, OK, WARNING, WRONG, Finding
from rdahub.rings import History
from rdahub_client.memory import MIRRORS

__all__ = ["Clock", "memory", "versions"]

_USUAL: Final = (64, 1000.0)  # channels and Hz that are supposed where the Recorder's are not known
_LEAST: Final = 0.5  # s to watch the clocks before anything can be said of them
_STEP: Final = 0.02  # s between the two clocks: a clock that is only slewed stays far below in some seconds


def versions() -> list[Finding]:
    """Versions of all that matters."""
    text = (
        f"rdahub {version('rdahub')}, Python {platform.python_version()}, numpy {version('numpy')}, "
        f"pyzmq {zmq.__version__}, libzmq {zmq.zmq_version()}; {platform.platform(terse=True)}"
    )
    findings = [Finding(OK, "versions", text)]
    if not zmq.has("curve"):
        findings.append(
            Finding(
                WARNING, "versions", "this libzmq cannot encrypt", "install pyzmq from a wheel: "
                "pip install --force-reinstall --only-binary=pyzmq pyzmq",
            )
        )  # fmt: skip
    return findings


def memory(folder: Path, history: History, layout: tuple[int, float] | None) -> Finding:
    """Whether the history fits.

    Parameters
    ----------
    folder : Path
        Where the hub's ring would lie.
    layout : tuple of (int, float) or None
        Channels and rate (Hz) of the Recorder, if known.
    """
    channels, rate = layout or _USUAL
    supposed = "" if layout else f" (supposing {channels} channels at {rate:g} Hz)"
    rows = history.rows(channels, 1e6 / rate)
    wanted, seconds = rows * channels * 4, rows / rate
    if not MIRRORS:
        return Finding(
            WARNING, "memory", "this system has no shared memory for the hub",
            "read through Client; the history lies in the hub's own memory",
        )  # fmt: skip
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding(
            WRONG, "memory", f"{folder}: {error.strerror}",
            "give the hub another folder for shared memory (--shm-dir)",
        )  # fmt: skip
    if not os.access(folder, os.W_OK | os.X_OK):
        return Finding(
            WRONG, "memory", f"{folder} cannot be written to by this user",
            "give the hub another folder for shared memory (--shm-dir)",
        )  # fmt: skip
    limit = memory_watch.room()
    room, what = (
        (free, f"free in {folder}") if limit is None or free <= limit else (limit, "left by the memory limit")
    )
    text = f"{_mib(room)} {what}; {seconds:.0f} s of history need {_mib(wanted)}{supposed}"
    if wanted <= room:
        return Finding(OK, "memory", text)
    fits = int(room / (channels * 4 * rate))
    return Finding(
        WARNING, "memory", f"{text}: only {fits} s fit",
        f"more shared memory (in Docker --shm-size), or serve --history {max(1, fits)}s",
    )  # fmt: skip


def _mib(n_bytes: float) -> str:
    return f"{n_bytes / 2**20:.0f} MiB"


class Clock:
    """Watches the wall clock beside the monotonic one while other things are looked at."""

    def __init__(self) -> None:
        self._looks: list[tuple[int, int]] = []
        self.look()

    def look(self) -> None:
        """Read both clocks."""
        before = time.monotonic_ns()
        wall = time.time_ns()  # noqa: TID251 - whether it jumps is the question
        self._looks.append(((before + time.monotonic_ns()) // 2, wall))

    def judge(self) -> Finding:
        """Whether the wall clock stepped between the looks."""
        self.look()
        apart = [wall - monotonic for monotonic, wall in self._looks]
        steps = [(b - a) * 1e-9 for a, b in itertools.pairwise(apart)]
        step = max(steps, key=abs)
        seconds = (self._looks[-1][0] - self._looks[0][0]) * 1e-9
        if abs(step) <= _STEP and seconds < _LEAST:
            return Finding(NOTE, "clock", "not watched for jumps; it is while a Recorder is looked at")
        if abs(step) <= _STEP:
            return Finding(OK, "clock", f"the wall clock did not jump in the {seconds:.1f} s it was watched")
        return Finding(
            WARNING, "clock", f"the wall clock jumped by {step:+.3f} s (indices are not touched by it, "
            "wall times of blocks are)",
            "let the clock be slewed instead of set (chrony or ntpd), and do so before a recording",
        )  # fmt: skip
