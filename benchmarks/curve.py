"""What encryption costs: a hub with keys compared with one without, in one run.

    python benchmarks/curve.py [--rounds 5] [--seconds 10]

Rule: two figures measured minutes apart say nothing of each other, so plain and CURVE take turns, each pair
of rounds gives a ratio, and the median ratio counts. A Recorder of 64 channels at 1 kHz in blocks of 20
samples runs in this process, hub and clients are processes of their own. Latency is from before the
Recorder's send until the client has the block, on the one monotonic clock of the machine. CPU time is the
hub's own, of all its threads, while blocks flow. Linux.
Not here: networks; how many clients a hub can serve.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from rdahub import rda
from rdahub_client import Block, Client

CHANNELS: Final = 64
RATE: Final = 1000
BLOCK: Final = 20
HISTORY: Final = 10 * RATE  # samples, read over and over for the throughput of history
READS: Final = 20
SETTLE: Final = 0.5  # s of blocks at the beginning that are not counted
CLIENTS: Final = (1, 4)
NAMES: Final = ("hub", "reader")


class Recorder:
    """An RDA server for one hub: 10 s at once, then real time until told to end."""

    def __init__(self) -> None:
        self.sent: list[int] = []  # ns, when block k was about to be sent
        self._end = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(30)
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # a hub that failed; the round says so
            self._send()

    def _send(self) -> None:
        connection, _ = self._server.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        names = tuple(f"C{i}" for i in range(CHANNELS))
        connection.sendall(rda.encode(rda.Start(1e6 / RATE, (0.1,) * CHANNELS, names)))
        rows = np.random.default_rng(0).normal(0, 100, (BLOCK, CHANNELS)).astype(np.float32)
        began = time.monotonic()
        for k in range(1 << 30):
            message = rda.encode(rda.Data(k + 1, rows))
            live = k - HISTORY // BLOCK
            if live > 0 and self._end.wait(max(0.0, began + live * BLOCK / RATE - time.monotonic())):
                break
            self.sent.append(time.monotonic_ns())
            connection.sendall(message)
        connection.close()

    def close(self) -> None:
        """Hang up."""
        self._end.set()
        self._thread.join()
        self._server.close()


def read(address: str, seconds: float, keys: list[str]) -> None:
    """Be a client process: print when each block came, then how fast history was."""
    files = {"curve_key": keys[0], "server_key": keys[1]} if keys else {"curve_key": None, "server_key": None}
    with Client(buffer_size=RATE, **files) as client:
        client.connect(address, timeout=30)
        client.start_streaming(timeout=30)
        print("ready", flush=True)
        came: list[tuple[int, int]] = []
        until = time.monotonic() + SETTLE + seconds
        counted_from = time.monotonic() + SETTLE
        for event in client.stream("live", timeout=30):
            now = time.monotonic_ns()
            if isinstance(event, Block) and now > counted_from * 1e9:
                came.append((event.start // BLOCK, now))
            if now > until * 1e9:
                break
        print(json.dumps(came), flush=True)
        sys.stdin.readline()  # until the hub's CPU time has been looked at
        rates = []
        for _ in range(READS):
            began = time.monotonic()
            samples = client.read(0, HISTORY)
            rates.append(samples.nbytes / (time.monotonic() - began) / 1e6)
        print(json.dumps(statistics.median(rates)), flush=True)


@dataclass
class Figures:
    """Of all rounds of one kind."""

    p50: list[float] = field(default_factory=list)  # ms
    p99: list[float] = field(default_factory=list)  # ms
    cpu: list[float] = field(default_factory=list)  # ms of CPU time per second of data
    history: list[float] = field(default_factory=list)  # MB/s


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process so far."""
    return (
        sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9
    )


def child(*arguments: str) -> subprocess.Popen[str]:
    """Start this Python with pipes to it."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, *arguments], text=True, **pipes)  # type: ignore[call-overload,no-any-return]


def line(process: subprocess.Popen[str]) -> str:
    """Wait for a line of a child; one that ended without it has failed."""
    assert process.stdout is not None
    if not (text := process.stdout.readline()):
        raise RuntimeError(f"it ended early: {process.args!r}")
    return text


def one_round(figures: Figures, folder: Path, curve: bool, clients: int, seconds: float) -> None:
    """Start everything, measure, end everything."""
    recorder = Recorder()
    serve = [
        "serve",
        "--recorder",
        recorder.address,
        "--query",
        "tcp://127.0.0.1:0",
        "--name",
        f"b{os.getpid()}",
    ]
    if curve:
        serve += ["--curve-key", str(folder / "hub.key_secret"), "--curve-clients", str(folder / "allowed")]
    hub = child("-m", "rdahub", *serve)
    readers: list[subprocess.Popen[str]] = []
    try:
        address = line(hub).split()[1].removeprefix("query=")
        keys = [str(folder / "reader.key_secret"), str(folder / "hub.key")] if curve else []
        readers = [child(__file__, "--read", address, str(seconds), *keys) for _ in range(clients)]
        for reader in readers:
            line(reader)
        time.sleep(SETTLE)
        before, began = cpu_seconds(hub.pid), time.monotonic()
        time.sleep(seconds - SETTLE)
        figures.cpu.append((cpu_seconds(hub.pid) - before) / (time.monotonic() - began) * 1000)
        late = [(now - recorder.sent[k]) / 1e6 for reader in readers for k, now in json.loads(line(reader))]
        figures.p50.append(float(np.percentile(late, 50)))
        figures.p99.append(float(np.percentile(late, 99)))
        rates = []
        for reader in readers:  # one after the other: what one client gets
            assert reader.stdin is not None
            reader.stdin.write("\n")
            reader.stdin.flush()
            rates.append(json.loads(line(reader)))
        figures.history.append(statistics.median(rates))
    finally:
        recorder.close()
        for process in (*readers, hub):
            process.terminate()
            process.communicate()


ROWS: Final[list[tuple[str, str, Callable[[Figures], list[float]]]]] = [
    ("latency, median", "ms", lambda figures: figures.p50),
    ("latency, 99 %", "ms", lambda figures: figures.p99),
    ("hub's CPU time per second", "ms", lambda figures: figures.cpu),
    ("history of 10 s", "MB/s", lambda figures: figures.history),
]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="of live blocks in each round")
    parser.add_argument("--read", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        address, seconds, *keys = options.read
        read(address, float(seconds), keys)
        return
    found = {(clients, curve): Figures() for clients in CLIENTS for curve in (False, True)}
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        for name in NAMES:
            child("-m", "rdahub", "keygen", text, "--name", name).communicate()
        (folder / "allowed").mkdir()
        shutil.copy(folder / "reader.key", folder / "allowed")
        for number in range(options.rounds):
            order = list(found) if number % 2 == 0 else list(found)[::-1]
            for clients, curve in order:
                one_round(found[clients, curve], folder, curve, clients, options.seconds)
    table(found, options.rounds, options.seconds)


def table(found: dict[tuple[int, bool], Figures], rounds: int, seconds: float) -> None:
    """Print what was found."""
    print(f"{CHANNELS} channels, {RATE} Hz, blocks of {BLOCK}; {rounds} rounds of {seconds:g} s; medians")
    print(f"{os.cpu_count()} cores, {os.uname().machine}, Python {sys.version.split()[0]}\n")
    print(f"{'':32}{'clients':>8}{'plain':>9}{'CURVE':>9}{'ratio':>7}   of pairs")
    for name, unit, get in ROWS:
        for clients in CLIENTS:
            plain, curve = get(found[clients, False]), get(found[clients, True])
            ratios = sorted(after / before for before, after in zip(plain, curve, strict=True))
            a, b, ratio = map(statistics.median, (plain, curve, ratios))
            spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
            print(f"{f'{name}, {unit}':32}{clients:8}{a:9.2f}{b:9.2f}{ratio:7.2f}   {spread}")


if __name__ == "__main__":
    main()
