"""``rdahub demo``: simulator, hub and live view in one command, to see it work without an amplifier.

Rule: simulator and hub are processes of their own, as in earnest, and never outlive this one's end, however
it comes. (They share its process group, so a terminal's Ctrl-C or hang-up reaches them even if this process
is killed; a SIGKILL for it alone is the one thing they survive.)
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import Final

from rdahub.commands import watch
from rdahub.config import DemoSettings
from rdahub_client import RdaHubError

_READY: Final = 15.0  # s for a child to start: a slow disk, a virus scanner
_GOODBYE: Final = 3.0  # s for a child to end before it is killed
_BLOCKS_PER_SECOND: Final = 50


def run(settings: DemoSettings) -> int:
    """Start both, watch, end both."""
    watch.check_terminal()
    children: list[_Child] = []
    try:
        block = max(1, round(settings.rate / _BLOCKS_PER_SECOND))
        simulator = _Child("sim", port=0, channels=settings.channels, rate=settings.rate, block=block)
        children.append(simulator)
        recorder = simulator.ready()["rda"]
        publish = f"{settings.query.rpartition(':')[0]}:0"
        hub = _Child("serve", recorder=recorder, query=settings.query, publish=publish, name=settings.name)
        children.append(hub)
        address = hub.ready()["query"].removeprefix("tcp://")
        print(f'read from it in Python: client.connect("{address}")', flush=True)
        watch.watch(address, _READY, settings.seconds)
    finally:
        _end(children)
    return 0


class _Child:
    """One command of rdahub as a process, told its settings by flags alone."""

    def __init__(self, command: str, **flags: object) -> None:
        self._command = command
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - `end`
        arguments = [f"--{name}={value}" for name, value in flags.items()]
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
            word, *pairs = lines.get(timeout=_READY).split() or [""]
        except queue.Empty:
            raise RdaHubError(f"rdahub {self._command} is not ready after {_READY:.0f} s") from None
        if word != "ready":
            raise RdaHubError(self._last_words())
        return dict(pair.split("=", 1) for pair in pairs)

    def _last_words(self) -> str:
        self._process.wait(_READY)
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


def _passes(variable: str) -> bool:
    """Settings meant for demo are not meant for its children; where shared memory lies is the machine's."""
    return not variable.startswith("RDAHUB_") or variable == "RDAHUB_SHM_DIR"


def _end(children: list[_Child]) -> None:
    """End all of them; nothing may interrupt that."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    deadline = time.monotonic() + _GOODBYE
    for child in children:
        child.terminate()
    for child in children:
        child.end(deadline)
    for number, handler in before.items():
        signal.signal(number, handler)
