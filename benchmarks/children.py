"""Child processes of a measurement: started, awaited by the line they print, their CPU time read, ended.

Rule: CPU time is that of all threads (and of children they started), in ns from the scheduler's own count.
Not here: what they do.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

__all__ = ["PATIENCE", "ROOT", "Child", "LaneFailed", "cpu_ns", "die_with_parent"]

ROOT: Final = Path(__file__).parents[1]
PATIENCE: Final = 60.0


_libc = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Have the kernel end this process with its parent, whatever becomes of that."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class LaneFailed(Exception):
    """A process of a lane did not do what it should; the text has what it wrote."""


class Child:
    """A child process.

    Parameters
    ----------
    command : list of str
    ready : str
        Pattern of the line that says it is ready; the constructor waits for it.
    environment : mapping, optional
        Added to this process's own.
    """

    def __init__(
        self, command: list[str], ready: str = "", environment: Mapping[str, str] | None = None
    ) -> None:
        began = time.monotonic()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        clean = {key: value for key, value in os.environ.items() if not key.startswith("RDAHUB_")}
        clean |= {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "OPENBLAS_NUM_THREADS": "1"}
        self.command = command
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self._errors, env={**clean, **(environment or {})},
            cwd=ROOT, preexec_fn=die_with_parent,  # noqa: PLW1509 - this process has no threads
        )  # fmt: skip
        self._output = b""
        self.match = self.wait_for(ready) if ready else None
        self.ready_seconds = time.monotonic() - began

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def said(self, group: int = 1) -> str:
        """A group of the ready line."""
        assert self.match is not None
        return self.match[group]

    def wait_for(self, pattern: str, seconds: float = PATIENCE) -> re.Match[str]:
        """The first line like this.

        Raises
        ------
        LaneFailed
            It ended or the time is over.
        """
        assert self.process.stdout is not None
        pipe = self.process.stdout.fileno()
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        deadline = time.monotonic() + seconds
        while True:
            whole, _, _ = self._output.rpartition(b"\n")
            for line in whole.decode(errors="replace").splitlines():
                if match := re.search(pattern, line):
                    return match
            left = deadline - time.monotonic()
            data = os.read(pipe, 65536) if left > 0 and poll.poll(left * 1000) else b""
            if not data:
                raise self.failure(f"no line like {pattern!r}")
            self._output += data

    def failure(self, what: str) -> LaneFailed:
        """An error that quotes what the child wrote last."""
        self.process.poll()
        self._errors.seek(0)
        text = (self._output + self._errors.read()).decode(errors="replace")[-2000:]
        return LaneFailed(f"{what} from {' '.join(self.command[:5])}; it wrote:\n{text}")

    def finish(self, seconds: float = PATIENCE) -> None:
        """Wait for it to end by itself.

        Raises
        ------
        LaneFailed
            It does not, or not well.
        """
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise self.failure("it does not end") from None
        if code:
            raise self.failure(f"exit code {code}")

    def close(self) -> None:
        """End it."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._errors.close()


def cpu_ns(pid: int) -> int:
    """CPU time of a process and of the children it has now; 0 if it is gone."""
    total = 0
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                total += int((task / "schedstat").read_text().split()[0])
                for child in (task / "children").read_text().split():
                    total += cpu_ns(int(child))
    except OSError:
        return total
    return total
