"""Commands of rdahub as processes of their own, for a command that needs others beside it.

Rule: a child is told its settings by flags alone, and never outlives its parent's end, however it comes.
(Children share its process group, so a terminal's Ctrl-C or hang-up reaches them even if the parent is
killed; a SIGKILL for it alone is the one thing they survive.)
Not here: which children (`demo`, `bench`).
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Final

from rdahub_client import RdaHubError

__all__ = ["READY", "Child", "children"]

READY: Final = 15.0
"""Seconds for a child to start: a slow disk, a virus scanner."""
_GOODBYE: Final = 3.0  # s for a child to end before it is killed


class Child:
    """One command of rdahub as a process, told its settings by flags alone."""

    def __init__(self, command: str, **flags: object) -> None:
        self._command = command
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - `end`
        arguments = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
        self._process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "rdahub", command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={name: value for name, value in os.environ.items() if _passes(name)},
        )

    def ready(self) -> dict[str, str]:
        """What its ``ready`` line says."""
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101 - a pipe was asked for
        threading.Thread(target=lambda: lines.put(stdout.readline()), daemon=True).start()
        try:
            word, *pairs = lines.get(timeout=READY).split() or [""]
        except queue.Empty:
            raise RdaHubError(f"rdahub {self._command} is not ready after {READY:.0f} s") from None
        if word != "ready":
            raise RdaHubError(self._last_words())
        return dict(pair.split("=", 1) for pair in pairs)

    def _last_words(self) -> str:
        self._process.wait(READY)
        self._log.seek(0)
        said = self._log.read().strip().splitlines() or ["it said nothing"]
        return said[-1].removeprefix(f"rdahub {self._command}: ")

    def terminate(self) -> None:
        """Ask it to end."""
        self._process.terminate()

    def end(self, deadline: float) -> None:
        """See that it has ended, by a deadline on the monotonic clock."""
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()


@contextlib.contextmanager
def children() -> Iterator[list[Child]]:
    """A list to put children into; with the context they end."""
    started: list[Child] = []
    try:
        yield started
    finally:
        _end(started)


def _passes(variable: str) -> bool:
    """Settings meant for the parent are not meant for children; where shared memory lies is the machine's."""
    return not variable.startswith("RDAHUB_") or variable == "RDAHUB_SHM_DIR"


def _end(started: list[Child]) -> None:
    """End all of them; nothing may interrupt that."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    deadline = time.monotonic() + _GOODBYE
    for child in started:
        child.terminate()
    for child in started:
        child.end(deadline)
    for number, handler in before.items():
        signal.signal(number, handler)
