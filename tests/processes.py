"""Simulators, hubs and readers as users run them: child processes, awaited by the lines they print.

Nothing here sleeps: readiness is a line read from a pipe, the end is an exit code. Names are unique per
test run, and a hub that stops must have left nothing in shared memory.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rdahub_client.shared import default_directory

PATIENCE = 30.0  # s; a loaded machine is slow, a broken one is found by this
_numbers = itertools.count()

# A shell starts what it runs in the background with Ctrl-C ignored, and children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def unique_name() -> str:
    return f"t{os.getpid()}-{next(_numbers)}"


def leftovers(name: str, directory: Path | None = None) -> list[str]:
    """Files that a hub of this name has in shared memory."""
    return sorted(path.name for path in (directory or default_directory()).glob(f"rdahub-{name}*"))


class Child:
    """A child process whose output is read line by line."""

    def __init__(
        self, *arguments: str, program: tuple[str, ...] = ("-m", "rdahub"), **environment: str
    ) -> None:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("RDAHUB_")}
        self.process = subprocess.Popen(
            [sys.executable, *program, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**clean, **environment, "PYTHONUNBUFFERED": "1"},
        )
        self._seen = {"stdout": b"", "stderr": b""}
        self._selector = selectors.DefaultSelector()
        for name in self._seen:
            self._selector.register(getattr(self.process, name), selectors.EVENT_READ, name)

    def _read(self, seconds: float) -> bool:
        """Read what comes within a time; False when both pipes are closed."""
        for key, _ in self._selector.select(seconds):
            data = os.read(key.fd, 65536)
            self._seen[key.data] += data
            if not data:
                self._selector.unregister(key.fileobj)
        return bool(self._selector.get_map())

    def wait_for(self, pattern: str, stream: str = "stdout") -> re.Match[str]:
        """The first line like this, past or to come."""
        deadline = time.monotonic() + PATIENCE
        while True:
            for line in self._seen[stream].decode().splitlines(keepends=True):
                if line.endswith("\n") and (match := re.search(pattern, line)):
                    return match
            if time.monotonic() > deadline or not self._read(1.0):
                self.close()
                raise AssertionError(f"no line like {pattern!r} on {stream}:\n{self.stdout}\n{self.stderr}")

    @property
    def stdout(self) -> str:
        return self._seen["stdout"].decode()

    @property
    def stderr(self) -> str:
        return self._seen["stderr"].decode()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def finish(self) -> int:
        """Exit code, once it has ended; all output is read by then."""
        if not self._selector.get_map():
            return self.process.wait(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while self._read(0.5):
            if time.monotonic() > deadline:
                self.close()
                raise AssertionError(f"did not end:\n{self.stdout}\n{self.stderr}")
        return self.process.wait(PATIENCE)

    def stop(self) -> int:
        if self.process.poll() is None:
            self.send(signal.SIGTERM)
        return self.finish()

    def close(self) -> None:
        """Make sure it is gone."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()
        self._selector.close()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


class Simulator(Child):
    """``rdahub sim``; `rda` is its HOST:PORT."""

    def __init__(self, *arguments: str, port: int = 0) -> None:
        super().__init__("sim", "--port", str(port), *arguments)
        self.rda = self.wait_for(r"ready rda=(\S+)")[1]
        self.port = int(self.rda.rpartition(":")[2])


class Hub(Child):
    """``rdahub serve`` on free ports."""

    def __init__(
        self, recorder: str, *arguments: str, name: str = "", query: str = "", publish: str = ""
    ) -> None:
        self.name = name or unique_name()
        free = "tcp://127.0.0.1:0"
        super().__init__(
            "serve", "--recorder", recorder, "--query", query or free, "--publish", publish or free,
            "--name", self.name, *arguments,
        )  # fmt: skip
        match = self.wait_for(r"ready query=(\S+) publish=(\S+) name=(\S+)")
        self.query, self.publish = match[1], match[2]
        assert match[3] == self.name


@contextlib.contextmanager
def simulator(*arguments: str) -> Iterator[Simulator]:
    """A simulator that must end well."""
    child = Simulator(*arguments)
    try:
        yield child
        assert child.stop() == 0, child.stderr
        assert "Traceback" not in child.stderr
    finally:
        child.close()


@contextlib.contextmanager
def hub(recorder: str, *arguments: str, **settings: str) -> Iterator[Hub]:
    """A hub that must end well and leave nothing."""
    child = Hub(recorder, *arguments, **settings)
    try:
        yield child
        assert child.stop() == 0, child.stderr
        assert "Traceback" not in child.stderr, child.stderr
        assert leftovers(child.name) == []
    finally:
        child.close()
