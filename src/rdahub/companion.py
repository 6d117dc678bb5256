"""A process beside the hub that is none of its business: started, told what to do, looked after.

Rule: nothing foreign runs in the hub's process. Not even a thread: one that held Python's lock would stop the
loop. If the process dies the hub goes on, says so and starts it again. It ends with the hub, however that
ends: its standard input tells it all in one line, and stays open as long as the hub lives.
Not here: what such a process does (`metrics_server`, `mdns`, `fanout`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from rdahub import limits
from rdahub.seldom import Seldom
from rdahub_client.errors import RdaHubError

__all__ = ["Companion", "close_all", "take_order"]

log = logging.getLogger(__name__)

_NICE: Final = 10  # of two processes that want the same core, the hub goes first
_KILLED: Final = 0.1  # s for the system to end it
_OOM_SCORE: Final = "800"  # of those whose memory is taken when there is none, this one goes first


class Companion:
    """The process, as the hub sees it.

    Parameters
    ----------
    module : str
        What it runs.
    what : str
        What it is, for people.
    order : dict
        What it is told, also when it is started again.

    Attributes
    ----------
    answer : dict
        What it said once it was there; ``error`` if it cannot do its work.

    Raises
    ------
    RdaHubError
        It does not start.
    """

    again_seconds = limits.EXPORTER_AGAIN_SECONDS

    def __init__(self, module: str, what: str, order: dict[str, Any]) -> None:
        self.order = order
        self._module, self._what = module, what
        self._again: float | None = None
        self._said = Seldom(log)
        self._process = self._start()
        self.answer = self._hear()

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(  # noqa: S603 - our own
            [sys.executable, "-m", self._module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=self._inherited(),
        )
        order = {**self.order, **self._handed_over(process.pid)}
        with contextlib.suppress(OSError):  # it is dead already: whoever waits for it will see
            os.write(_descriptor(process.stdin), json.dumps(order).encode() + b"\n")
        return process

    def _inherited(self) -> Sequence[int]:
        """Descriptors that the next process gets."""
        return ()

    def _handed_over(self, pid: int) -> dict[str, Any]:  # noqa: ARG002 - for others to override
        """What this process is told beside the order."""
        return {}

    def _hear(self) -> dict[str, Any]:
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101 - a pipe was asked for
        lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=lambda: lines.put(stdout.readline()), daemon=True).start()
        try:
            answer: dict[str, Any] = json.loads(lines.get(timeout=limits.EXPORTER_SECONDS))
        except (queue.Empty, ValueError):
            self.close()
            raise RdaHubError(f"the process for {self._what} does not start") from None
        return answer

    def mind(self, now: float) -> None:
        """Look whether it still runs; start it again if not, some time later. Takes no time.

        Parameters
        ----------
        now : float
            Seconds on the monotonic clock.
        """
        if self._again is None:
            if self._process.poll() is None:
                return
            self._said.warn(
                f"{self._what} has ended (exit code {self._process.returncode}); "
                f"it is started again in {self.again_seconds:.0f} s"
            )
            self._again = now + self.again_seconds
        elif now >= self._again:
            self._again = math.inf
            threading.Thread(target=self._restart, name="rdahub-companion", daemon=True).start()

    def _restart(self) -> None:
        """Off the loop: to start a process takes milliseconds. `mind` sees if it ends at once."""
        self.let_go()
        try:
            self._process = self._start()
        except OSError as error:
            self._said.warn(f"{self._what} cannot be started: {error}")
        self._again = None

    @property
    def is_running(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def let_go(self) -> None:
        """Tell it to end, without waiting until it has."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def close(self) -> None:
        """End it."""
        self.let_go()
        try:
            self._process.wait(limits.EXPORTER_GOODBYE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # one that waits for a disk cannot even die
                self._process.wait(_KILLED)


def close_all(companions: list[Companion]) -> None:
    """End them, all at once."""
    for companion in companions:
        companion.let_go()
    for companion in companions:
        companion.close()


def take_order(nice: int = _NICE) -> dict[str, Any]:
    """In that process: what it is told, after it has stepped back behind the hub in everything.

    Parameters
    ----------
    nice : int
        How far it steps back from the processor.
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # they go to the hub, whose end is this process's
        with contextlib.suppress(AttributeError):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    order: dict[str, Any] = json.loads(sys.stdin.readline())
    with contextlib.suppress(AttributeError, OSError):
        os.nice(nice)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    return order


def _descriptor(stream: Any) -> int:
    return int(stream.fileno())
