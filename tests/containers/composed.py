"""A project of compose.yaml as a user runs it: up, faults, logs, down, by the docker command alone.

Rule: nothing is assumed of the engine, so it may be a developer's own; each project has its own name and ends
with `down --volumes`. Waiting is for a condition, never for a time.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

from rdahub.commands.status import fetch
from rdahub_client import Client, RdaHubError
from rdahub_client.keys import ClientKeys

ROOT: Final = Path(__file__).parents[2]
PATIENCE: Final = 30.0  # s
KILL_HUB: Final = """
import os, pathlib, signal
for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    words = path.read_bytes().split(bytes(1))
    if b"serve" in words and b"--" not in words:
        os.kill(int(path.parent.name), signal.SIGKILL)
"""
"""Of the processes in the hub's container all but the first, the small init (`init -- rdahub serve`)."""

Result = TypeVar("Result")


def until(condition: Callable[[], Result | None], what: str, project: Project | None = None) -> Result:
    """The first true answer."""
    deadline = time.monotonic() + PATIENCE
    while not (answer := condition()):
        if time.monotonic() > deadline:
            said = "" if project is None else project.logs()
            raise AssertionError(f"not within {PATIENCE:.0f} s: {what}\n{said}")
        time.sleep(0.1)  # between two questions
    return answer


def docker(*arguments: str, check: bool = True, **variables: str) -> str:
    """Output of a docker command, as text."""
    return docker_bytes(*arguments, check=check, **variables).decode()


def docker_bytes(*arguments: str, check: bool = True, **variables: str) -> bytes:
    """Output of a docker command."""
    done = subprocess.run(
        ["docker", *arguments],
        cwd=ROOT, env={**os.environ, **variables}, check=False, timeout=120,
        stdin=subprocess.DEVNULL, capture_output=True,
    )  # fmt: skip
    if check and done.returncode:
        said = (done.stdout + done.stderr).decode(errors="replace")
        raise AssertionError(f"docker {' '.join(arguments)}: {done.returncode}\n{said}")
    return done.stdout


class Project:
    """compose.yaml under a name of its own."""

    def __init__(self, files: tuple[Path, ...], variables: dict[str, str]) -> None:
        self.name = f"rdahub-test-{uuid.uuid4().hex[:8]}"  # not by process: in a namespace it repeats
        self.address = f"127.0.0.1:{variables.get('QUERY_PORT', '5570')}"
        self.keys: ClientKeys | None = None
        self._variables = variables
        self._files = [word for path in (ROOT / "compose.yaml", *files) for word in ("--file", str(path))]

    def compose(self, *arguments: str, check: bool = True) -> str:
        return self.compose_bytes(*arguments, check=check).decode(errors="replace")

    def compose_bytes(self, *arguments: str, check: bool = True) -> bytes:
        fixed = ("--project-name", self.name, "--project-directory", str(ROOT), "--profile", "demo")
        return docker_bytes("compose", *fixed, *self._files, *arguments, check=check, **self._variables)

    def container(self, service: str) -> str:
        return self.compose("ps", "--all", "--quiet", service).strip()

    def inspect(self, service: str) -> Any:
        return json.loads(docker("inspect", self.container(service)))[0]

    def logs(self, service: str = "hub") -> str:
        """All it said, also before a restart."""
        return self.compose("logs", "--no-color", "--no-log-prefix", service)

    def execute(self, *command: str, check: bool = True) -> str:
        """Run a command in the hub's container."""
        return self.compose("exec", "--no-TTY", "hub", *command, check=check)

    def status(self) -> Any:
        """What the hub says of itself; an empty object if it says nothing."""
        with contextlib.suppress(RdaHubError):
            return fetch(self.address, 5.0, self.keys)
        return {}

    def status_inside(self) -> Any:
        """The same from the hub's container, where no network is needed."""
        said = self.execute("rdahub", "status", "--json", check=False)
        return json.loads(said) if said.startswith("{") else {}

    def health(self) -> str:
        return str(self.inspect("hub")["State"]["Health"]["Status"])

    def await_state(self, *states: str, inside: bool = False) -> Any:
        """Status, once the hub is in one of these states."""

        def ask() -> Any:
            status = self.status_inside() if inside else self.status()
            return status if status.get("state") in states else None

        return until(ask, f"a hub that is {' or '.join(states)}", self)

    def await_line(self, pattern: str, service: str = "hub") -> re.Match[str]:
        return until(lambda: re.search(pattern, self.logs(service)), f"{service} says {pattern!r}", self)

    def await_reader(self) -> None:
        """See the example reader print two more lines with results: it is reading now."""
        before = self.logs("reader").count("alpha")
        until(lambda: self.logs("reader").count("alpha") >= before + 2, "the reader goes on", self)


@contextlib.contextmanager
def project(*services: str, files: tuple[Path, ...] = (), **variables: str) -> Iterator[Project]:
    """Services that are started; nothing of them stays."""
    one = Project(files, variables)
    try:
        one.compose("up", "--detach", "--no-build", *services)
        yield one
    except BaseException as error:
        error.add_note(
            one.compose("ps", "--all", check=False) + one.compose("logs", "--tail", "20", check=False)
        )
        raise
    finally:
        one.compose("--profile", "tools", "down", "--volumes", "--timeout", "5")  # or the recordings stay
        left = docker("volume", "ls", "--quiet", "--filter", f"label=com.docker.compose.project={one.name}")
        assert not left, f"volumes stay: {left}"


def free_ports() -> dict[str, str]:
    """Ports of the host for a project beside another one."""
    with socket.socket() as query, socket.socket() as publish:
        for each in (query, publish):
            each.bind(("127.0.0.1", 0))
        return {"QUERY_PORT": str(query.getsockname()[1]), "PUBLISH_PORT": str(publish.getsockname()[1])}


@contextlib.contextmanager
def client(one: Project, **files: Any) -> Iterator[Client]:
    """A client on the host, through the published ports."""
    with Client(buffer_size=200_000, **files) as reader:
        reader.connect(one.address, timeout=10)
        reader.start_streaming(timeout=10)
        yield reader
