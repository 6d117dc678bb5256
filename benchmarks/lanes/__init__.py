"""Ways from the Recorder to a consumer: rdahub's and its peers', all with one face.

Rule: a lane says what it needs, how its processes are started, and how a consumer gets rows; the measuring
code knows nothing else of it. A lane's module can be imported without its packages.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final, TypeAlias

from benchmarks.children import ROOT, Child, LaneFailed
from benchmarks.feed import Feed
from benchmarks.shape import Float32, Shape

__all__ = ["LANES", "Lane", "Read", "Relay", "Setting", "peers_python", "running"]

Read: TypeAlias = Callable[[int, int], Float32]
"""``read(start, stop)`` gives these rows."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a lane is started for."""

    source: str
    shape: Shape
    folder: Path
    history_seconds: float = 10.0


@dataclass(slots=True)
class Relay:
    """The processes between source and consumers."""

    address: str
    children: list[Child] = field(default_factory=list)

    def close(self) -> None:
        """End them, the last started first."""
        for child in reversed(self.children):
            child.close()


class Lane(ABC):
    """A way from the Recorder to a consumer."""

    name: ClassVar[str]
    title: ClassVar[str]
    peers: ClassVar[bool] = False
    """Whether it runs in the peers' environment."""
    packages: ClassVar[tuple[str, ...]] = ()
    programs: ClassVar[tuple[str, ...]] = ()
    connections: ClassVar[int] = 1
    """The source begins when so many are connected."""
    newest_only: ClassVar[bool] = False
    """Its verb returns the newest rows; what it passes over is not lost."""
    environment: ClassVar[Mapping[str, str]] = {}

    def python(self) -> str:
        """The interpreter it runs in."""
        return peers_python() if self.peers else sys.executable

    def missing(self) -> str:
        """What keeps it from running here; empty if nothing does."""
        if self.peers and not Path(self.python()).exists():
            return "no environment of the peers (.venv-bench, benchmarks/requirements.txt)"
        if lacking := [program for program in self.programs if shutil.which(program) is None]:
            return f"not installed: {', '.join(lacking)}"
        if self.packages and not _importable(self.python(), self.packages, self.environment):
            return f"cannot be imported: {', '.join(self.packages)}"
        return ""

    def module(self, *arguments: str, ready: str = r"^ready (\S+)") -> Child:
        """One of this project's modules in the lane's interpreter."""
        return Child([self.python(), "-m", *arguments], ready, self.environment)

    def warm_up(self) -> None:  # noqa: B027 - most have nothing to do
        """Import what consumers need, before they are forked. Must start no thread."""

    @abstractmethod
    def start(self, setting: Setting) -> Relay:
        """Start what stands between source and consumers."""

    @abstractmethod
    def consume(self, address: str, feed: Feed) -> None:
        """Give rows to the feed as they come, until it says that is enough."""

    def history(self, address: str, shape: Shape) -> AbstractContextManager[Read] | None:
        """A reader of history; None if the lane has none."""
        del address, shape
        return None

    def counters(self, address: str) -> dict[str, int]:
        """What the relay itself has counted."""
        del address
        return {}


def peers_python() -> str:
    """Interpreter of the environment that holds the peers' packages."""
    return os.environ.get("RDAHUB_BENCH_PYTHON") or str(ROOT / ".venv-bench/bin/python")


def _importable(python: str, packages: tuple[str, ...], environment: Mapping[str, str]) -> bool:
    command = [python, "-c", "\n".join(f"import {package}" for package in packages)]
    done = subprocess.run(command, capture_output=True, check=False, env={**os.environ, **environment})
    return done.returncode == 0


_MODULES: Final = {
    "zmq": ("zmq_relay", "ZmqRelay"),
    "tcp": ("tcp_relay", "TcpRelay"),
    "rdahub": ("hub", "HubStream"),
    "rdahub-watched": ("hub", "HubWatched"),
    "rdahub-sub": ("hub", "HubBareSub"),
    "rdahub-poll": ("hub", "HubPoll"),
    "local": ("hub", "LocalStream"),
    "local-poll": ("hub", "LocalPoll"),
    "lsl": ("lsl", "Lsl"),
    "mne-lsl": ("mne_lsl", "MneLsl"),
    "redis": ("redis", "Redis"),
    "rdaclient": ("rdaclient", "RdaClient"),
    "zmq-history": ("zmq_history", "ZmqHistory"),
}


class _Lanes(Mapping[str, Lane]):
    """Lanes by name, made when asked for."""

    def __getitem__(self, name: str) -> Lane:
        module, kind = _MODULES[name]
        lane = getattr(importlib.import_module(f"benchmarks.lanes.{module}"), kind)()
        assert isinstance(lane, Lane)
        return lane

    def __iter__(self) -> Iterator[str]:
        return iter(_MODULES)

    def __len__(self) -> int:
        return len(_MODULES)


LANES: Final = _Lanes()


@contextlib.contextmanager
def running(lane: Lane, setting: Setting) -> Iterator[Relay]:
    """The lane's relay, ended with the context."""
    relay = lane.start(setting)
    try:
        yield relay
        for child in relay.children:
            if child.process.poll() is not None:
                raise child.failure("ended by itself")
    except LaneFailed as error:
        for child in relay.children:
            if child.process.poll() is not None:
                error.add_note(str(child.failure("beside it, this ended")))
        raise
    finally:
        relay.close()
