"""Hostile requests by the million and connections full of noise; what a bad peer does to others' latency.

``hostile_campaign.py --requests 1000000 --connections 10000 --seed 7`` sets both on a hub.
``hostile_campaign.py --latency 5`` measures instead, for each kind of bad peer, how long a block takes from
the Recorder's send to the client's return, with and without it, in so many interleaved rounds.
Rule: every answer is well-formed and a named error, or the answer to a request that is a good one; nothing is
INTERNAL; honest readers are told exactly what the Recorder sent. What is sent follows from the seed.
Not here: single attacks (`test_hostile`).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgpack
import numpy as np
import zmq

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from hostile import (
    GREETING,
    Memory,
    Siege,
    attacker,
    babble,
    deaf,
    descriptors,
    flood,
    knock,
    listen,
    many,
    own_mib,
    port_of,
    ready,
    reset,
    shake_hands,
    subscribe,
)
from proxy import poll

from processes import PATIENCE, hub
from rdahub_client import Client
from rdahub_client.wire import PingRequest, decode_reply, encode_request
from scripted import ScriptedRecorder

NAMED: Final = {
    "OUT_OF_RANGE_OLD", "OUT_OF_RANGE_FUTURE", "WRONG_INSTANCE", "WRONG_SEGMENT", "NO_STREAM", "BAD_REQUEST",
    "BUSY", "BAD_MARKER", "TOO_MANY_MARKERS",
}  # fmt: skip
DEALERS: Final = 64
COLLECTOR: Final = 7  # descriptors of pyzmq's collector of large messages, from the first of them on

STRANGE: Final[list[Any]] = [
    True, False, None, -1, -(2**63), 2**63, 2**64 - 1, 2**63 - 1, 1.0, 0.5, float("nan"), float("inf"), "",
    "0", "x" * 3000, b"", b"\xff" * 64, [], [0], {}, {"a": 1}, [[[[[]]]]], msgpack.Timestamp(0),
    msgpack.ExtType(5, b"x"),
]  # fmt: skip


# --- what is asked ---


def good(rng: random.Random, number: int) -> dict[str, Any]:
    """A request that a hub may well answer."""
    a, b = sorted(rng.randrange(0, 3000) for _ in range(2))
    asked: dict[str, Any] = {"v": 1, "id": number, "op": rng.choice(("info", "ping", "stats"))}
    match rng.randrange(5):
        case 3:
            text = chr(rng.randrange(999))
            asked |= {"op": "mark", "token": f"{number:016}", "type": "x", "description": text}
            asked |= rng.choice(({}, {"index": a}, {"points": a, "channel": rng.randrange(-1, 99)}))
        case 0:
            asked |= {"op": "range", "start": a, "stop": min(b, a + 50)}
        case 1:
            asked |= {"op": "markers", "start": a, "stop": b, "skip": rng.randrange(3)}
        case 2:
            asked |= {"op": "events", "seq": rng.randrange(5)}
    return asked


def wrong_field(rng: random.Random, number: int) -> dict[Any, Any]:
    """A request with one thing in it that may not be there."""
    asked: dict[Any, Any] = good(rng, number)
    match rng.randrange(5):
        case 0:
            asked[rng.choice(list(asked))] = rng.choice(STRANGE)
        case 1:
            asked["op"] = rng.choice(("", "Range", "range ", "stop", "__class__", "x" * 500))
        case 2:
            asked["v"] = rng.choice((0, 2, True, 1.0, "1", None, -1))
        case 3:
            asked[rng.choice(("more", "", "id ", 7, b"id", "instance"))] = rng.choice(STRANGE)
        case 4:
            asked = {"id": number, "op": "range", "start": rng.choice(STRANGE), "stop": rng.choice(STRANGE)}
    return asked


def bomb(rng: random.Random) -> bytes:
    """msgpack that says it is far larger, or far deeper, than it is."""
    return rng.choice(
        (
            b"\xdd\xff\xff\xff\xff" * rng.randrange(1, 800),
            b"\xdf\xff\xff\xff\xff" + bytes(rng.randrange(4000)),
            b"\xc6\xff\xff\xff\xff" + bytes(100),
            b"\xdb\x7f\xff\xff\xff",
            b"\x91" * rng.randrange(1, 4096),
            b"\x81\xa2id" * rng.randrange(1, 1000),
            b"\x82\xa2id\x01\xa2op" + b"\x91" * rng.randrange(1, 4000),
            b"\xc9\xff\xff\xff\xff\x01",
        )
    )


def hostile_request(rng: random.Random, number: int) -> list[bytes]:
    """Frames of a request that is none, or hardly one."""
    match rng.randrange(9):
        case 0:
            return [rng.randbytes(rng.choice((1, 5, 40, 300, 4096)))]
        case 1:
            return [bomb(rng)]
        case 2 | 3:
            return [pack(wrong_field(rng, number))]
        case 4:
            data = bytearray(pack(good(rng, number)))
            for _ in range(rng.randrange(1, 4)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            return [bytes(data)]
        case 5:
            data = bytearray(pack(good(rng, number)))
            return [bytes(data[: rng.randrange(len(data))]) if rng.random() < 0.5 else bytes(data) + b"\0"]
        case 6:
            asked = {"id": number, "op": "range", "start": rng.randrange(2**63), "stop": rng.randrange(2**63)}
            return [pack(asked)]
        case 7:
            return [rng.randbytes(rng.randrange(9)) for _ in range(rng.randrange(2, 8))]
        case _:
            return rng.choice(
                ([b""], [b"", b""], [b"", pack(good(rng, number))], [pack(good(rng, number)), b""])
            )


def pack(value: object) -> bytes:
    packed: bytes = msgpack.packb(value)
    return packed


def noise(rng: random.Random, kind: int) -> bytes:
    """Bytes for a connection, some with a beginning that is ZMTP's."""
    beginning = (
        b"", GREETING[:10], GREETING, GREETING + ready(b"DEALER"), GREETING + ready(b"SUB"),
        b"\xff" + bytes(8) + b"\x7f\1", b"\1\0", GREETING[:12] + b"CURVE".ljust(20, b"\0") + bytes(32),
    )[kind % 8]  # fmt: skip
    return beginning + rng.randbytes(rng.choice((1, 3, 20, 200, 3000)))


# --- the campaign ---


class Campaign:
    """Hostility against one hub, and what came of it."""

    def __init__(self, siege: Siege, seed: int) -> None:
        self._siege = siege
        self._seed = seed
        self._rng = random.Random(seed)
        self.answers: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.sent = 0
        self.fences_lost = 0
        self.usual_descriptors = descriptors(siege.pid)
        print(f"seed {seed}")

    def requests(self, number: int) -> None:
        """So many hostile requests, from several peers at once."""
        with zmq.Context() as context, contextlib.ExitStack() as stack:
            poller = zmq.Poller()
            peers: dict[
                zmq.Socket[bytes], tuple[int, float]
            ] = {}  # the honest question due, and when it was asked
            ids = count(1)
            for _ in range(DEALERS):
                peer = stack.enter_context(context.socket(zmq.DEALER))
                peer.linger = 0
                peer.connect(self._siege.hub.query)
                poller.register(peer, zmq.POLLIN)
                peers[peer] = (0, 0.0)
            left = number
            while left > 0 or any(due for due, _ in peers.values()):
                now = time.monotonic()
                for peer, (due, asked) in peers.items():
                    if due and now - asked < 0.2:
                        continue
                    if due:  # the hub drops answers that a peer is slow to take, also this one
                        self.fences_lost += 1
                    elif left > 0:
                        # One: of more, answers are dropped, also the honest one's
                        peer.send_multipart(hostile_request(self._rng, next(ids)))
                        left -= 1
                        self.sent += 1
                    else:
                        continue
                    number = next(ids) + 2**40
                    peer.send(encode_request(PingRequest(), number))
                    peers[peer] = (number, now)
                for peer, _ in poller.poll(100):
                    self._take(peer, peers)
                if not self._siege.alive():
                    raise AssertionError(f"the hub has died, seed {self._seed}, after {self.sent} requests")

    def _take(self, peer: zmq.Socket[bytes], peers: dict[zmq.Socket[bytes], tuple[int, float]]) -> None:
        with contextlib.suppress(zmq.Again):
            while True:
                *before, answer = peer.recv_multipart(zmq.DONTWAIT)
                try:
                    reply = decode_reply(answer)
                    refusal = reply.refusal
                except Exception as error:  # noqa: BLE001 - whatever is wrong with it is the finding
                    self.wrong.append(f"{error!r}: {before} {answer!r}")
                    continue
                if reply.id == peers[peer][0]:
                    peers[peer] = (0, 0.0)
                code = "ok" if refusal is None else refusal.code
                self.answers[code] += 1
                if code != "ok" and (code not in NAMED or "Traceback" in str(reply.header)):
                    self.wrong.append(f"{reply.header}")

    def connections(self, number: int) -> None:
        """So many connections with noise on them."""
        ports = [port_of(self._siege.hub.query), port_of(self._siege.hub.publish)]
        held: list[socket.socket] = []
        for k in range(number):
            connection = knock(ports[k % 2])
            held.append(connection)
            with contextlib.suppress(OSError):
                connection.sendall(noise(self._rng, k // 2))
            while len(held) > (0 if k + 1 == number else 50):
                (reset if self._rng.random() < 0.5 else socket.socket.close)(held.pop(0))

    def judge(self) -> None:
        """See that nothing was wrong and the hub is as before."""
        print(f"{self.sent} requests, {self.fences_lost} honest ones repeated, answers {dict(self.answers)}")
        again = f"; again with seed {self._seed}"
        assert self.wrong == [], f"{self.wrong[:5]}{again}"
        assert self._siege.lines("Traceback|ERROR") == [], again
        poll(
            lambda: descriptors(self._siege.pid) <= self.usual_descriptors + COLLECTOR + 5,
            f"descriptors as before{again}",
        )


def run(number: int, connections: int, seed: int) -> None:
    with tempfile.TemporaryDirectory() as directory, Siege(Path(directory)) as siege:
        with Memory(siege.pid) as memory:
            campaign = Campaign(siege, seed)
            for what, amount in ((campaign.requests, number), (campaign.connections, connections)):
                began = time.monotonic()
                what(amount)
                took = time.monotonic() - began
                print(f"{what.__name__}: {amount} in {took:.0f} s; {own_mib(siege.pid):.1f} MiB")
            siege.settle()
        campaign.judge()
        print(json.dumps(siege.status()["counters"]))
        assert memory.after - memory.before < 24
        print("\n".join(siege.lines("WARNING")))
    print("honest readers were told everything; the hub ended well")


# --- latency ---

_ELSEWHERE: Final = ", at another hub"
Attack: TypeAlias = Callable[[int, int], dict[str, Any]]


@contextlib.contextmanager
def stopped(endpoint: str, number: int) -> Iterator[None]:
    """Subscribers that stand still."""
    with contextlib.ExitStack() as stack:
        for _ in range(number):
            child = stack.enter_context(attacker(listen, endpoint, 100, afar=True))
            child.send(signal.SIGSTOP)
        yield


def measure(rounds: int, only: str, blocks: int = 300) -> None:
    """Print p50 and p99 of a block's way for each kind of bad peer, medians over rounds, relative to none.

    Only kinds with `only` in their name.

    Bad peers get only time that nobody else wants, as if they were on another machine. What they still take
    from others as they are on this one is seen where they go for another hub; the last column is relative
    to that.
    """
    recorder = ScriptedRecorder()
    found: dict[str, list[tuple[float, float]]] = {}
    with hub(recorder.address) as server, contextlib.ExitStack() as stack:
        stack.callback(recorder.close)
        other = stack.enter_context(hub("127.0.0.1:1"))
        recorder.start(64)
        recorder.blocks(300)
        client = stack.enter_context(Client())
        client.connect(server.query)
        client.start_streaming(timeout=PATIENCE)
        query, publish = port_of(server.query), port_of(server.publish)
        attacks: dict[str, tuple[Attack, str, int]] = {
            "a flood of requests": (flood, "query", 200),
            "a flood of subscriptions": (subscribe, "publish", 10**9),
            "noise at the query door": (babble, "query", 20),
            "noise at the publish door": (babble, "publish", 20),
        }
        kinds: dict[str, Callable[[], contextlib.AbstractContextManager[Any]]] = {
            "nobody": contextlib.nullcontext,
            "8 stopped subscribers": lambda: stopped(server.publish, 8),
            "500 silent connections": lambda: many(query, 500, knock),
            "500 idle peers": lambda: many(query, 500, shake_hands),
            "500 idle subscribers": lambda: many(publish, 500, lambda port: shake_hands(port, b"SUB")),
            "4 who read no answer": lambda: attacker(deaf, server.query, 4, afar=True),
        }
        for kind, (attack, door, amount) in attacks.items():
            for where, target in ("", server), (_ELSEWHERE, other):
                endpoint = getattr(target, door)
                kinds[kind + where] = partial(attacker, attack, endpoint, amount, afar=True)
        kinds = {kind: make for kind, make in kinds.items() if kind == "nobody" or only in kind}
        for _ in range(rounds):
            for kind, make in random.sample(list(kinds.items()), len(kinds)):
                times = []
                with make():
                    time.sleep(0.2)
                    poll(lambda: client.last_sample == recorder.index, "all is here")
                    for _ in range(blocks):
                        began = time.monotonic()
                        recorder.block()
                        assert client.wait(recorder.index - 20, recorder.index, timeout=PATIENCE) is not None
                        times.append(time.monotonic() - began)
                        time.sleep(0.004)
                found.setdefault(kind, []).append(tuple(np.percentile(times, [50, 99]) * 1e3))
    middle = {kind: np.median(pairs, axis=0) for kind, pairs in found.items()}
    for kind in kinds:
        (p50, p99), (x50, x99) = middle[kind], middle[kind] / middle["nobody"]
        line = f"{kind:41} p50 {p50:6.2f} ms ({x50:5.2f}x)   p99 {p99:6.2f} ms ({x99:5.2f}x)"
        if (control := middle.get(kind + _ELSEWHERE)) is not None:
            x50, x99 = middle[kind] / control
            line += f"   x there: {x50:5.2f} {x99:5.2f}"
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    parser.add_argument("--latency", type=int, metavar="ROUNDS", help="measure latency instead")
    parser.add_argument("--only", default="", help="only kinds of bad peers with this in their name")
    chosen = parser.parse_args()
    if chosen.latency:
        measure(chosen.latency, chosen.only)
    else:
        run(chosen.requests, chosen.connections, chosen.seed)


if __name__ == "__main__":
    main()
