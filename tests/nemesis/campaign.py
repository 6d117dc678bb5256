"""Faults of every kind at random against a running hub and its readers, then proof that nobody was lied to.

``python tests/nemesis/campaign.py --seconds 60 --seed 7 [--joins 1000] [--only "hub kill,client stop"]``

Source -> proxy -> hub (a process, short history) -> a pair of proxies per witness -> witnesses (processes),
and joiners that come and go. After the time all is healed, one last acquisition must reach every witness, all
must end well, and `checker` judges the logs. The schedule follows from the seed; its timing does not.
Linux: each witness has a loopback address of its own, so that the ports can be the hub's.
Not here: what is true (`source`), what a witness does (`witness`), what is a lie (`checker`).
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import random
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from checker import Checker, Verdict, read_log
from proxy import Proxy, poll
from source import Layout, Recorder

from processes import Child, Hub, leftovers, unique_name
from rdahub_client import Client

WITNESS = str(Path(__file__).with_name("witness.py"))
PATIENCE = 60.0  # s for everybody to reach the end once all is healed


class HostProxy(Proxy):
    """A proxy on a given loopback address and port."""

    def __init__(self, host: str, port: int, target: tuple[str, int]) -> None:
        super().__init__(target)
        self._await(self._refuse())
        self._server.close()
        self._server = socket.create_server((host, port))
        self.accept()


def free_ports() -> int:
    """Two neighbours that are free, below those the kernel gives away: a dead hub's must stay its own."""
    rng = random.Random()
    while True:
        port = rng.randrange(20_000, 30_000)
        try:
            for number in (port, port + 1):
                socket.create_server(("127.0.0.1", number)).close()
        except OSError:
            continue
        return port


@dataclass
class Witness:
    """A reader, its way to the hub, and its log."""

    name: str
    kind: str
    child: Child
    log: Path
    proxies: list[HostProxy] = field(default_factory=list)
    follows: bool = True
    joins: int = 0


class Campaign:
    """One campaign; `run` gives the verdict.

    Parameters
    ----------
    only, without : set of str
        Faults to make, empty for all; faults to leave out.
    """

    def __init__(
        self,
        seconds: float,
        seed: int,
        joins: int,
        folder: Path,
        history: float,
        only: frozenset[str],
        without: frozenset[str],
    ) -> None:
        self.seconds, self.joins, self.folder, self.history = seconds, joins, folder, history
        self.rng = random.Random(seed)
        self.faults: list[dict[str, Any]] = []
        self.problems: list[str] = []
        self.witnesses: list[Witness] = []
        self._numbers = itertools.count()
        self._busy: set[str] = set()
        self._spared = 0.0  # until when the hub is not killed again
        self._pending: list[tuple[float, int, Callable[[], None]]] = []
        self._deeds = {
            name: deed
            for name, deed in self._all_deeds().items()
            if (not only or name in only) and name not in without
        }
        self.recorder = Recorder(seed, Layout())
        self.link = Proxy(self.recorder.address)
        self.name, self.port = unique_name(), free_ports()
        self.hub = self._start_hub()
        self.recorder.start()

    # --- actors ----------------------------------------------------------------------------------------

    def _start_hub(self) -> Hub:
        query, publish = (f"tcp://127.0.0.1:{self.port + k}" for k in (0, 1))
        hub = Hub(
            self.link.address, "--history", f"{self.history}s", name=self.name, query=query, publish=publish
        )
        with Client() as client:
            client.connect(query, timeout=10)
            self.instance = client.info().instance
        return hub

    def add(self, kind: str, start: str = "live", joins: int = 0) -> Witness:
        """Another witness; a joiner if it has joins to make."""
        number = next(self._numbers)
        name, host = f"w{number}", f"127.0.{1 + number // 250}.{2 + number % 250}"
        log, proxies, address = self.folder / f"{name}.jsonl", [], self.name
        if kind == "network":
            proxies = [HostProxy(host, self.port + k, ("127.0.0.1", self.port + k)) for k in (0, 1)]
            address = f"{host}:{self.port}"
        mode = ["join", kind, address, start, str(log), str(joins), str(self.rng.randrange(2**31))]
        if not joins:
            mode = ["follow", kind, address, start, str(log)]
        witness = Witness(name, kind, Child(*mode, program=(WITNESS,)), log, proxies, not joins, joins)
        witness.child.wait_for("ready")
        self.witnesses.append(witness)
        return witness

    # --- faults ----------------------------------------------------------------------------------------

    def _all_deeds(self) -> dict[str, Callable[[str], bool]]:
        """Each makes its fault and says whether it did; it may be that its victim is busy with another."""
        return {
            "client stop": lambda fault: self._stop_client(fault, self.rng.uniform(0.1, 4)),
            "client stop long": lambda fault: self._stop_client(fault, self.history + self.rng.uniform(1, 4)),
            "client kill": self._kill_client,
            "client hold": lambda fault: self._ail_client(fault, self.rng.uniform(0.3, 6), Proxy.hold),
            "client latency": lambda fault: self._ail_client(fault, self.rng.uniform(1, 4), self._slow),
            "client pieces": lambda fault: self._ail_client(fault, self.rng.uniform(0.3, 1), self._piecemeal),
            "client reset": lambda fault: self._ail_client(fault, 0.0, Proxy.reset),
            "client cut": lambda fault: self._ail_client(fault, 0.5, self._cut),
            "hub stop": self._stop_hub,
            "hub kill": self._kill_hub,
            "recorder hold": lambda fault: self._ail_link(fault, self.rng.uniform(0.3, 5), Proxy.hold),
            "recorder latency": lambda fault: self._ail_link(fault, self.rng.uniform(1, 3), self._slow),
            "recorder pieces": lambda fault: self._ail_link(fault, self.rng.uniform(0.3, 1), self._piecemeal),
            "recorder reset": lambda fault: self._ail_link(fault, 0.0, Proxy.reset),
            "recorder cut": lambda fault: self._ail_link(fault, 0.5, self._cut),
            "stop start": self._stop_start,
            "layout": lambda fault: self._tell(
                fault, lambda: self.recorder.start(self._layout(self.recorder.layout.channels))
            ),
            "channels": lambda fault: self._tell(
                fault, lambda: self.recorder.start(self._layout(self.rng.choice((1, 4, 8, 33, 64))))
            ),
            "restart": lambda fault: self._tell(fault, self.recorder.start),
            "skip": lambda fault: self._tell(fault, lambda: self.recorder.skip(self.rng.randint(1, 5))),
            "skip far": lambda fault: self._tell(fault, self._skip_far),
            "vary": lambda fault: self._tell(fault, lambda: self.recorder.vary(self.rng.choice((0, 1, 7)))),
            "repeat": lambda fault: self._tell(fault, self.recorder.repeat),
            "hang up": lambda fault: self._tell(fault, self.recorder.hang_up),
            "corrupt": lambda fault: self._tell(fault, self.recorder.corrupt),
            "pause": self._pause,
        }  # fmt: skip

    def _make(self, fault: str, target: str, seconds: float, heal: Callable[[], None] | None = None) -> bool:
        """Note a fault that has begun, and see that it ends."""
        now = time.monotonic()
        note: dict[str, Any] = {"fault": fault, "target": target, "t0": now, "t1": now + seconds}
        self.faults.append(note)
        self._busy.add(target)

        def end() -> None:
            if heal is not None:
                heal()
            note["t1"] = time.monotonic()
            self._busy.discard(target)

        if seconds:
            heapq.heappush(self._pending, (now + seconds, len(self.faults), end))
        else:
            end()
        return True

    def _victim(self, kinds: tuple[str, ...] = ("network", "local")) -> Witness | None:
        """A witness that nothing ails; the first two, one of each kind, are left in peace to see all."""
        able = [w for w in self.witnesses[2:] if w.follows and w.kind in kinds and w.name not in self._busy]
        return self.rng.choice(able) if able else None

    def _stop_client(self, fault: str, seconds: float) -> bool:
        if (victim := self._victim()) is None:
            return False
        victim.child.send(signal.SIGSTOP)
        return self._make(fault, victim.name, seconds, lambda: victim.child.send(signal.SIGCONT))

    def _kill_client(self, fault: str) -> bool:
        if (victim := self._victim()) is None:
            return False
        victim.child.close()
        victim.follows = False
        self._make(fault, victim.name, 0)
        self.add(victim.kind, self.rng.choice(("live", "oldest", "0")))
        return True

    def _ail_client(self, fault: str, seconds: float, ail: Callable[[Proxy], None]) -> bool:
        if (victim := self._victim(("network",))) is None:
            return False
        for proxy in victim.proxies:
            ail(proxy)

        def heal() -> None:
            for proxy in victim.proxies:
                proxy.heal()

        return self._make(fault, victim.name, seconds, heal)

    def _ail_link(self, fault: str, seconds: float, ail: Callable[[Proxy], None]) -> bool:
        if "recorder" in self._busy:
            return False
        ail(self.link)
        return self._make(fault, "recorder", seconds, self.link.heal)

    def _slow(self, proxy: Proxy) -> None:
        proxy.from_upstream.latency = proxy.to_upstream.latency = self.rng.uniform(0.01, 0.4)

    def _piecemeal(self, proxy: Proxy) -> None:
        proxy.from_upstream.pieces = proxy.to_upstream.pieces = self.rng.choice((1, 7, 100))

    def _cut(self, proxy: Proxy) -> None:
        proxy.from_upstream.cut(self.rng.randint(1, 5000), reset=self.rng.random() < 0.5)

    def _stop_hub(self, fault: str) -> bool:
        if "hub" in self._busy:
            return False
        self.hub.send(signal.SIGSTOP)
        hub = self.hub
        return self._make(fault, "hub", self.rng.uniform(0.3, 5), lambda: hub.send(signal.SIGCONT))

    def _kill_hub(self, fault: str) -> bool:
        if "hub" in self._busy or time.monotonic() < self._spared:
            return False
        self.hub.send(signal.SIGKILL)
        self.hub.finish()
        self._look_for_tracebacks("hub", self.hub)
        self.hub.close()

        def restart() -> None:
            self.hub = self._start_hub()
            # Long enough for something to happen in this life.
            self._spared = time.monotonic() + self.rng.uniform(1, 8)

        self._make(fault, "hub", self.rng.uniform(0.01, 3), restart)
        self.faults[-1]["instance"] = self.instance
        return True

    def _tell(self, fault: str, order: Callable[[], None]) -> bool:
        if "acquisition" in self._busy:
            return False
        order()
        return self._make(fault, "acquisition", 0)

    def _skip_far(self) -> None:
        layout = self.recorder.layout
        self.recorder.skip(int(2.5 * self.history * layout.rate / layout.block) + 1)

    def _layout(self, channels: int) -> Layout:
        rate = self.rng.choice((250.0, 500.0, 1000.0, 2000.0))
        block = max(1, int(rate * self.rng.choice((0.005, 0.02, 0.05))))
        return Layout(channels, rate, block, self.rng.choice((1.0, 0.5, 2.0**-10)))

    def _stop_start(self, fault: str) -> bool:
        if "acquisition" in self._busy:
            return False
        self.recorder.stop()
        return self._make(fault, "acquisition", self.rng.uniform(0, 3), self.recorder.start)

    def _pause(self, fault: str) -> bool:
        if "acquisition" in self._busy:
            return False
        self.recorder.pause()
        return self._make(fault, "acquisition", self.rng.uniform(0.5, 3), self.recorder.resume)

    # --- the course of it ------------------------------------------------------------------------------

    def run(self) -> Verdict:
        """All of it."""
        try:
            for kind, start in (("network", "oldest"), ("local", "oldest"), *(("network", "live"),) * 3,
                                ("local", "live"), ("local", "live")):  # fmt: skip
                self.add(kind, start)
            shares = [self.joins // 4 + (k < self.joins % 4) for k in range(4)]
            joiners = [
                self.add(("network", "local")[k % 2], joins=share) for k, share in enumerate(shares) if share
            ]
            self._rage(joiners)
            self._quiesce()
        finally:
            self._end()
        return self._judge()

    def _rage(self, joiners: list[Witness]) -> None:
        end = time.monotonic() + self.seconds
        last = end + self.seconds + 0.3 * self.joins  # joins may take longer than the time
        while (now := time.monotonic()) < end or (
            now < last and any(joiner.child.process.poll() is None for joiner in joiners)
        ):
            fault = self.rng.choice(list(self._deeds))
            self._deeds[fault](fault)
            until = time.monotonic() + self.rng.uniform(0.05, 1.0)
            while (now := time.monotonic()) < until:
                if self._pending and self._pending[0][0] <= now:
                    heapq.heappop(self._pending)[2]()
                time.sleep(0.01)  # the course of a fault is time

    def _quiesce(self) -> None:
        """Heal all, and let one last acquisition reach everybody."""
        while self._pending:
            heapq.heappop(self._pending)[2]()
        self.recorder.resume()
        poll(self.recorder.connected.is_set, "the hub connects to the Recorder")
        before = self.recorder.acquisition
        self.recorder.start(self._layout(3 if "channels" in self._deeds else self.recorder.layout.channels))
        poll(lambda: self.recorder.acquisition > before, "the last START")
        time.sleep(1.0)  # an acquisition takes its time
        self.recorder.stop()
        last = re.compile(rb'"end".*"reason": "stop", "name": "A%d-0"' % self.recorder.acquisition)
        deadline = time.monotonic() + PATIENCE
        for witness in self.witnesses:
            while witness.follows and not last.search(witness.log.read_bytes()[-20_000:]):
                if time.monotonic() > deadline or witness.child.process.poll() is not None:
                    self.problems.append(
                        f"{witness.name} ({witness.kind}) was never told of the last end; its last line: "
                        f"{witness.log.read_bytes()[-300:].splitlines()[-1:]}"
                    )
                    break
                time.sleep(0.05)  # nobody announces that a file has grown

    def _end(self) -> None:
        for witness in self.witnesses:
            if witness.follows or witness.joins:
                self._stop(witness.name, witness.child)
        self.faults.append(
            {
                "fault": "hub end",
                "target": "hub",
                "t0": time.monotonic(),
                "t1": time.monotonic(),
                "instance": self.instance,
            }
        )
        self._stop("hub", self.hub)
        if left := leftovers(self.name):
            self.problems.append(f"left in shared memory: {left}")
        self.recorder.close()
        for child in (self.hub, *(witness.child for witness in self.witnesses)):
            child.close()
        for proxy in (self.link, *(proxy for witness in self.witnesses for proxy in witness.proxies)):
            proxy.close()
        for name, log in (("source", self.recorder.log), ("nemesis", self.faults)):
            (self.folder / f"{name}.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in log))

    def _stop(self, who: str, child: Child) -> None:
        try:
            if (code := child.stop()) != 0:
                self.problems.append(f"{who} ended with {code}: {child.stderr[-2000:]}")
        except AssertionError as error:
            self.problems.append(f"{who}: {error}")
        self._look_for_tracebacks(who, child)

    def _look_for_tracebacks(self, who: str, child: Child) -> None:
        if "Traceback" in child.stderr or "error of the hub's own" in child.stderr:
            self.problems.append(f"{who}: {child.stderr}")

    def _judge(self) -> Verdict:
        verdict = judge(self.folder, self.history)
        verdict.errors += self.problems
        return verdict


def judge(folder: Path, history: float) -> Verdict:
    """The verdict on the logs in a folder."""
    checker = Checker(read_log(folder / "source.jsonl"), read_log(folder / "nemesis.jsonl"), history)
    for log in sorted(folder.glob("w*.jsonl")):
        checker.add(log.stem, read_log(log), Path(f"{log}.samples"))
    return checker.judge()


def campaign(
    seconds: float,
    seed: int,
    joins: int = 0,
    history: float = 0.0,
    only: frozenset[str] = frozenset(),
    without: frozenset[str] = frozenset(),
    keep: bool = False,
) -> Verdict:
    """Run one and print what it did; logs of one that failed are kept."""
    history = history or max(4.0, seconds / 6)
    line = f"python tests/nemesis/campaign.py --seconds {seconds:g} --seed {seed} --joins {joins}"
    line += f" --history {history:g}"
    if only:
        line += f' --only "{",".join(sorted(only))}"'
    if without:
        line += f' --without "{",".join(sorted(without))}"'
    print(line, flush=True)
    folder = Path(tempfile.mkdtemp(prefix="nemesis-"))
    made = Campaign(seconds, seed, joins, folder, history, only, without)
    verdict = made.run()
    verdict.joins = sum(
        witness.log.read_bytes().count(b'"what": "open"') for witness in made.witnesses if witness.joins
    )
    print(f"joins: {verdict.joins}; faults:", dict(Counter(fault["fault"] for fault in made.faults)))
    print(verdict)
    if verdict.errors or keep:
        print("\n".join(verdict.errors[:30]))
        print(f"logs: {folder}\nagain: {line}", flush=True)
    else:
        shutil.rmtree(folder)
    return verdict


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--joins", type=int, default=0)
    parser.add_argument("--history", type=float, default=0.0, help="seconds; 0: a sixth of the time")
    parser.add_argument("--keep", action="store_true", help="keep the logs in any case")
    parser.add_argument("--only", default="", help="faults to make, separated by commas")
    parser.add_argument("--without", default="", help="faults to leave out")
    given = parser.parse_args()
    only, without = (frozenset(filter(None, text.split(","))) for text in (given.only, given.without))
    verdict = campaign(given.seconds, given.seed, given.joins, given.history, only, without, given.keep)
    return 1 if verdict.errors else 0


if __name__ == "__main__":
    sys.exit(main())
