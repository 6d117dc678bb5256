"""Peers that mean harm, over real sockets, and a hub among honest readers to set them on.

``hostile.py ATTACK PORT AMOUNT`` is one attacker in a process of its own; it says "ready" when it has begun,
ends when it is cut off, when it is done, or at SIGTERM, and then says in a line of JSON what it did.
Rule: attackers speak ZMTP 3.0 themselves where a ZeroMQ library would be too polite to do harm. A `Siege`
sees to it that honest readers were told everything, once, in order, with the right values.
Not here: which harm must do what (`test_hostile`), a million hostile requests (`hostile_campaign`).
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import zmq

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from proxy import poll

from processes import PATIENCE, Child, Hub, Simulator, leftovers
from rdahub.commands.status import fetch
from rdahub_client.wire import BLOCK, PingRequest, RangeRequest, decode_reply, encode_request

MIB: Final = 1 << 20
HERE: Final = Path(__file__)
COUNTED: Final = 2**24  # of the simulator's channel 0

GREETING: Final = b"\xff" + bytes(8) + b"\x7f\3\0" + b"NULL".ljust(20, b"\0") + bytes(32)


def port_of(endpoint: str) -> int:
    return int(endpoint.rpartition(":")[2])


# --- ZMTP ---


def frame(data: bytes, more: bool = False) -> bytes:
    """A frame of a message."""
    if len(data) < 256:
        return bytes((more, len(data))) + data
    return bytes((2 | more,)) + len(data).to_bytes(8, "big") + data


def ready(kind: bytes) -> bytes:
    """The command that ends a handshake (mechanism NULL)."""
    body = b"\5READY" + b"\x0bSocket-Type" + len(kind).to_bytes(4, "big") + kind
    return bytes((4, len(body))) + body


def knock(port: int) -> socket.socket:
    """A TCP connection on which nothing has been said."""
    return socket.create_connection(("127.0.0.1", port), PATIENCE)


def shake_hands(port: int, kind: bytes = b"DEALER") -> socket.socket:
    """A connection on which frames may be sent."""
    connection = knock(port)
    try:
        connection.sendall(GREETING + ready(kind))
        heard = 0
        while heard < len(GREETING) + 2:
            data = connection.recv(4096)
            if not data:
                raise ConnectionResetError("cut off in the handshake")
            heard += len(data)
    except OSError:
        connection.close()
        raise
    return connection


def is_cut(connection: socket.socket, seconds: float = PATIENCE) -> bool:
    """Whether the other side hangs up within a time; what it says until then is not looked at."""
    deadline = time.monotonic() + seconds
    try:
        while (left := deadline - time.monotonic()) > 0:
            connection.settimeout(left)
            if not connection.recv(65536):
                return True
    except TimeoutError:
        return False
    except OSError:
        return True
    return False


@contextlib.contextmanager
def many(port: int, n: int, make: Callable[[int], socket.socket]) -> Iterator[list[socket.socket]]:
    """So many connections at a time; some may not come about, and that is nobody's fault here."""
    made: list[socket.socket] = []
    try:
        for _ in range(n):
            with contextlib.suppress(OSError):
                made.append(make(port))
        yield made
    finally:
        for each in made:
            each.close()


# --- attackers ---

_over = False


def _end(*_: object) -> None:
    global _over  # noqa: PLW0603 - a signal handler has nowhere else to put it
    _over = True


def pour(connection: socket.socket, piece: bytes, pieces: int) -> dict[str, Any]:
    """Send the same so often, unless cut off."""
    sent = 0
    at_once = max(1, 65536 // len(piece))
    many_pieces = piece * at_once
    try:
        while sent < pieces and not _over:
            connection.sendall(many_pieces)
            sent += at_once
    except OSError:
        return {"sent": sent, "cut": True}
    return {"sent": sent, "cut": sent >= pieces and is_cut(connection, 2.0)}


def unfinished(port: int, mib: int) -> dict[str, Any]:
    """A request of hundreds of megabytes whose last part never comes."""
    return pour(shake_hands(port), frame(bytes(4000), more=True), mib * MIB // 4000)


def empty_parts(port: int, millions: int) -> dict[str, Any]:
    """The same of empty parts: two bytes to send, 64 to keep."""
    return pour(shake_hands(port), frame(b"", more=True), millions * 1_000_000)


def unfinished_to_publish(port: int, mib: int) -> dict[str, Any]:
    """To the publish socket, in parts as long as it takes them."""
    return pour(shake_hands(port, b"SUB"), frame(bytes(60), more=True), mib * MIB // 60)


def subscribe(port: int, n: int) -> dict[str, Any]:
    """Distinct subscriptions, short enough for the publish socket to take; again after each cut."""
    cuts = sent = 0
    names = (frame(b"\1" + b"%032d" % k) for k in count())
    while sent < n and not _over:
        try:
            connection = shake_hands(port, b"SUB")
        except OSError:
            time.sleep(0.01)  # the door is being opened anew
            continue
        with connection, contextlib.suppress(OSError):
            while sent < n:
                connection.sendall(b"".join(next(names) for _ in range(100)))
                sent += 100
        cuts += sent < n or is_cut(connection, 2.0)
    return {"sent": sent, "cuts": cuts}


def messages(port: int, n: int) -> dict[str, Any]:
    """Messages to the publish socket that are no subscriptions."""
    return pour(shake_hands(port, b"SUB"), frame(b"\7" + bytes(50)), n)


def reset(connection: socket.socket) -> None:
    """Leave without a goodbye."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def pinging_on(port: int, kind: bytes, message: bytes) -> socket.socket:
    """A peer whose messages are followed by PINGs: more than any queue of the hub's holds, in one breath."""
    connection = shake_hands(port, kind)
    ping = bytes((4, 7)) + b"\4PING\0\0"
    with contextlib.suppress(OSError):  # cut off already, perhaps
        connection.sendall(frame(message) * 300 + ping * 20 + frame(message) * 20)
    return connection


def listen(port: int, high_water_mark: int) -> dict[str, Any]:
    """A subscriber, until SIGTERM or for ever: what it suffers is done to it with SIGSTOP."""
    with zmq.Context() as context, context.socket(zmq.SUB) as sub:
        sub.rcvhwm = high_water_mark
        sub.subscribe(BLOCK)
        sub.connect(f"tcp://127.0.0.1:{port}")
        heard = 0
        while not _over:
            heard += bool(sub.poll(100) and sub.recv())
            if heard == 1:
                print("listening", flush=True)
    return {"heard": heard}


def flood(port: int, window: int) -> dict[str, Any]:
    """Requests, good ones, many under way, until SIGTERM."""
    answers = {"answered": 0, "BUSY": 0}
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dealer.sndhwm = window
        dealer.connect(f"tcp://127.0.0.1:{port}")
        ids = count(1)
        while not _over:
            with contextlib.suppress(zmq.Again):
                while True:
                    dealer.send(encode_request(PingRequest(), next(ids)), zmq.DONTWAIT)
            dealer.poll(10)
            with contextlib.suppress(zmq.Again):
                while True:
                    refusal = decode_reply(dealer.recv(zmq.DONTWAIT)).refusal
                    code = "answered" if refusal is None else refusal.code
                    answers[code] = answers.get(code, 0) + 1
    return {"sent": next(ids) - 1, **answers}


def deaf(port: int, n: int) -> dict[str, Any]:
    """Several peers that ask for pages of history all the time and read none of them, until SIGTERM."""
    sent = 0
    with many(port, n, shake_hands) as peers:
        asked = frame(encode_request(RangeRequest(start=0, stop=2000), 1))
        for peer in peers:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.setblocking(False)
        while not _over:
            for peer in peers:
                with contextlib.suppress(OSError):
                    sent += peer.send(asked) // len(asked)
            time.sleep(0.0005)
    return {"sent": sent}


def babble(port: int, n: int) -> dict[str, Any]:
    """Connections, so many at a time, with bytes on them that are no ZMTP, until SIGTERM."""
    made = 0
    rng = random.Random(n)
    while not _over:
        with many(port, n, knock) as peers:
            for peer in peers:
                with contextlib.suppress(OSError):
                    peer.sendall(rng.choice((b"", GREETING[:10], GREETING)) + rng.randbytes(300))
            made += len(peers)
    return {"connections": made}


ATTACKS: Final = {
    each.__name__: each
    for each in (
        unfinished, empty_parts, unfinished_to_publish, subscribe, messages, listen, flood, deaf, babble,
    )
}  # fmt: skip


class Attacker(Child):
    """One of the above in a process of its own."""

    def __init__(
        self, attack: Callable[[int, int], dict[str, Any]], endpoint: str, amount: int, *, afar: bool = False
    ) -> None:
        manner = ("afar",) if afar else ()
        super().__init__(attack.__name__, str(port_of(endpoint)), str(amount), *manner, program=(str(HERE),))
        self.wait_for("ready")

    def result(self) -> dict[str, Any]:
        """What it did, once it is done."""
        assert self.finish() == 0, self.stderr
        did: dict[str, Any] = json.loads(self.stdout.splitlines()[-1])
        print(f"attacker: {did}")
        return did


@contextlib.contextmanager
def attacker(
    attack: Callable[[int, int], dict[str, Any]], endpoint: str, amount: int, *, afar: bool = False
) -> Iterator[Attacker]:
    child = Attacker(attack, endpoint, amount, afar=afar)
    try:
        yield child
    finally:
        child.close()


# --- what is looked at ---


def own_mib(pid: int) -> float:
    """Memory of a process without what it shares: for a hub, without the history."""
    text = Path(f"/proc/{pid}/status").read_text()
    return sum(int(kib) for kib in re.findall(r"^Rss(?:Anon|File):\s+(\d+)", text, re.MULTILINE)) / 1024


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


class Memory(threading.Thread):
    """Looks at a hub's memory a hundred times a second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._done = threading.Event()
        self.before = self.peak = own_mib(pid)
        self.after = 0.0

    def run(self) -> None:
        while not self._done.wait(0.01):
            self.peak = max(self.peak, own_mib(self._pid))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join()
        self.after = own_mib(self._pid)
        print(f"hub's memory: {self.before:.1f} MiB, at peak {self.peak:.1f}, after {self.after:.1f}")


class Asker(threading.Thread):
    """An honest client of the query socket: a few questions under way, answers wanted in order."""

    UNDER_WAY = 2  # as many answers as the hub lets wait for one client

    def __init__(self, endpoint: str) -> None:
        super().__init__(daemon=True)
        self._endpoint = endpoint
        self._done = threading.Event()
        self.answers = 0
        self.longest = 0.0
        self.wrong: list[str] = []

    def run(self) -> None:
        with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
            dealer.linger = 0
            dealer.connect(self._endpoint)
            asked: dict[int, float] = {}
            ids, due = count(1), 1
            while not self._done.is_set() and not self.wrong:
                while len(asked) < self.UNDER_WAY:
                    asked[number := next(ids)] = time.monotonic()
                    dealer.send(encode_request(PingRequest(), number))
                if not dealer.poll(int(PATIENCE * 1000)):
                    self.wrong.append(f"no answer to question {due}")
                    break
                reply = decode_reply(dealer.recv())
                if reply.id != due or reply.refusal is not None:
                    self.wrong.append(f"{reply.header} where the answer to question {due} was due")
                self.longest = max(self.longest, time.monotonic() - asked.pop(reply.id))
                self.answers += 1
                due += 1

    def __enter__(self) -> Self:
        self.start()
        poll(lambda: self.answers > 0 or bool(self.wrong), "an answer")
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join()
        print(f"honest questions: {self.answers} answers, the slowest after {self.longest * 1000:.0f} ms")


class Siege:
    """A simulator, a hub, and honest readers on the network and on this machine who write down everything.

    `end` sees to it that these were told everything, and that the hub ends well.
    """

    def __init__(self, directory: Path, *arguments: str, channels: int = 64) -> None:
        self._directory = directory
        self.simulator = Simulator("--channels", str(channels))
        self._children: list[Child] = [self.simulator]
        try:
            self.hub = Hub(self.simulator.rda, *arguments)
            self._children.append(self.hub)
            for kind, address in (("network", self.hub.query), ("local", self.hub.name)):
                log = str(directory / kind)
                child = Child(
                    "follow", kind, address, "oldest", log, program=(str(HERE.with_name("witness.py")),)
                )
                self._children.append(child)
            self.settle(1)
        except BaseException:
            self.close()
            raise
        self.instance: str = self.status()["instance"]

    @property
    def pid(self) -> int:
        return self.hub.process.pid

    def status(self) -> dict[str, Any]:
        return fetch(self.hub.query, PATIENCE)

    def counter(self, name: str) -> int:
        return int(self.status()["counters"][name])

    def lines(self, pattern: str) -> list[str]:
        """Lines of the hub's log, so far."""
        self.hub._read(0.0)
        return [line for line in self.hub.stderr.splitlines() if re.search(pattern, line)]

    def alive(self) -> bool:
        return self.hub.process.poll() is None

    def told(self, kind: str) -> int:
        """Index after the newest sample a witness has written down."""
        path = self._directory / kind
        if not path.exists():
            return 0
        blocks = re.findall(r'"stop": (\d+)', path.read_text()[-2000:])
        return int(blocks[-1]) if blocks else 0

    def settle(self, more: int = 0) -> int:
        """Wait until both witnesses have all that the hub has now; returns its next index."""
        index = max(int(self.status()["next_index"]), more)
        for kind in ("network", "local"):
            poll(lambda kind=kind: self.told(kind) >= index, f"{kind}: sample {index}")  # type: ignore[misc]
        return index

    def end(self) -> None:
        index = self.settle()
        status = self.status()
        assert status["instance"] == self.instance
        assert status["gaps"] == []
        counters = status["counters"]
        assert [counters[k] for k in ("reconnects", "repeated_blocks", "protocol_errors")] == [0, 0, 0]
        for child in reversed(self._children):
            assert child.stop() == 0, child.stderr
            assert "Traceback" not in child.stderr, child.stderr
        assert leftovers(self.hub.name) == []
        network, local = (exact(self._directory / kind, index) for kind in ("network", "local"))
        common = min(len(network), len(local))
        assert network[:common].tobytes() == local[:common].tobytes()

    def close(self) -> None:
        for child in reversed(self._children):
            child.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.end()
        finally:
            self.close()


def exact(log: Path, index: int) -> npt.NDArray[np.float32]:
    """What a witness was told: from the first sample to at least `index`, no hole, no repeat, no error."""
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    strange = [e for e in entries if e["what"] not in {"open", "start", "block", "left"}]
    assert not strange, strange
    assert sum(e["what"] == "start" for e in entries) == 1
    blocks = [e for e in entries if e["what"] == "block"]
    assert [e["start"] for e in blocks] == [0, *(e["stop"] for e in blocks[:-1])]
    assert blocks[-1]["stop"] >= index
    rows = np.fromfile(f"{log}.samples", np.float32).reshape(-1, blocks[0]["shape"][1])
    assert len(rows) == blocks[-1]["stop"]
    np.testing.assert_array_equal(rows[:, 0], (rows[0, 0] + np.arange(len(rows))) % COUNTED)
    return rows


def main(attack: str, port: str, amount: str, manner: str = "") -> None:
    signal.signal(signal.SIGTERM, _end)
    if manner == "afar":  # on a machine of its own it would take no time from hub and readers
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    print("ready", flush=True)
    print(json.dumps(ATTACKS[attack](int(port), int(amount))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
