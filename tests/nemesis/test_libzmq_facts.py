"""What libzmq and msgpack really do, one test for each fact that the design leans on.

Rule: about the hub or the client wherever that is possible; about libzmq alone, as a canary, where the design
relies on it or avoids it: if such a test fails with a new libzmq, docs/explanation/libzmq-facts.md tells what
to think over. That page names the tests of all facts, and the last test here holds it to that.
"""

from __future__ import annotations

import math
import re
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest
import zmq
from hostile import GREETING, frame, is_cut, knock, port_of, shake_hands
from proxy import poll

from processes import PATIENCE, Child, Hub, hub
from rdahub import limits
from rdahub.commands.status import fetch
from rdahub.questions import QUERY_OPTIONS
from rdahub_client import Client
from rdahub_client.query import QuerySocket
from rdahub_client.wire import (
    BLOCK,
    END,
    GAP,
    HEARTBEAT,
    MAX_REQUEST,
    SEGMENT,
    PingRequest,
    decode_reply,
    encode_reply,
    encode_request,
)
from rdahub_client.wire.admission import BadRequest, decode_request
from scripted import ScriptedRecorder

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "libzmq-facts.md"
FACTS = 22
JOIN = 1.0  # s, promised to a late joiner

READERS, AWAY = 12, 3.5  # s
COMPUTES = """
import contextlib, sys, time
from rdahub_client import Client
with contextlib.ExitStack() as stack:
    clients = [stack.enter_context(Client()) for _ in range(int(sys.argv[2]))]
    for client in clients:
        client.connect(sys.argv[1])
        client.start_streaming(timeout=30)
    print("streaming", flush=True)
    time.sleep(float(sys.argv[3]))
    for client in clients:  # one after the other: it matters when, after a new connection, a client is read
        client.poll(1, timeout=0.05)
        time.sleep(0.3)
    stop = int(sys.argv[4])
    for client in clients:
        if client.wait(stop - 20, stop, timeout=30) is None:
            raise SystemExit("not all is here")
"""


class Sockets:
    """Sockets of one test, held until it is over."""

    def __init__(self) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._made: list[zmq.Socket[bytes]] = []

    def __call__(self, kind: int) -> zmq.Socket[bytes]:
        socket = self.context.socket(kind)
        self._made.append(socket)
        return socket

    def close(self) -> None:
        for socket in self._made:
            socket.close(0)
        self.context.term()


@pytest.fixture
def make() -> Iterator[Sockets]:
    made = Sockets()
    yield made
    made.close()


@pytest.fixture(scope="module")
def recorder() -> Iterator[ScriptedRecorder]:
    scripted = ScriptedRecorder()
    yield scripted
    scripted.close()


@pytest.fixture(scope="module")
def server(recorder: ScriptedRecorder) -> Iterator[Hub]:
    """A hub with 200 samples, for all tests."""
    with hub(recorder.address) as child:
        recorder.start()
        recorder.blocks(10)
        poll(lambda: fetch(child.query, PATIENCE)["next_index"] == 200, "200 samples")
        yield child


def counter(server: Hub, name: str) -> int:
    return int(fetch(server.query, PATIENCE)["counters"][name])


def bound(socket: zmq.Socket[bytes]) -> str:
    socket.bind("tcp://127.0.0.1:*")
    return str(socket.get_string(zmq.LAST_ENDPOINT))


def all_in(sub: zmq.Socket[bytes]) -> list[int]:
    """Numbers of what a subscriber still gets."""
    got = []
    while sub.poll(500):
        got.append(int(sub.recv()[:8]))
    return got


def test_z01_a_full_queue_keeps_the_oldest_and_drops_the_newest(
    make: Sockets,
) -> None:
    pub, sub = make(zmq.XPUB), make(zmq.SUB)
    pub.sndhwm = sub.rcvhwm = 100
    sub.subscribe(b"")
    sub.connect(bound(pub))
    assert pub.recv() == b"\1"
    for k in range(5000):
        pub.send(b"%08d" % k + bytes(4000), zmq.DONTWAIT)
    got = all_in(sub)
    assert got[0] == 0
    assert got[:100] == list(range(100))
    assert len(got) < 5000
    assert got == sorted(got)
    pub.send(b"%08d" % 5000)
    assert all_in(sub) == [5000]


def test_z03_nodrop_lets_one_subscriber_stop_all_and_is_used_nowhere(
    make: Sockets,
) -> None:
    pub, sub = make(zmq.XPUB), make(zmq.SUB)
    pub.set(zmq.XPUB_NODROP, 1)
    pub.sndhwm = sub.rcvhwm = 10
    sub.subscribe(b"")
    sub.connect(bound(pub))
    assert pub.recv() == b"\1"

    def publish() -> None:
        for _ in range(20_000):
            pub.send(bytes(4000), zmq.DONTWAIT)

    with pytest.raises(zmq.Again):
        publish()
    assert not [path for path in (ROOT / "src").rglob("*.py") if "NODROP" in path.read_text()]


def test_z04_conflate_tears_messages_apart_and_ours_have_one_part(server: Hub, make: Sockets) -> None:
    push, pull = make(zmq.PUSH), make(zmq.PULL)
    pull.set(zmq.CONFLATE, 1)
    pull.connect(bound(push))
    push.send_multipart([b"first", b"second"])
    assert pull.poll(int(PATIENCE * 1000))
    assert pull.recv_multipart() == [b"second"]
    sub = make(zmq.SUB)
    for topic in (BLOCK, SEGMENT, GAP, HEARTBEAT, END):
        sub.subscribe(topic)
    sub.connect(server.publish)
    for _ in range(4):
        assert sub.poll(int(PATIENCE * 1000))
        assert len(sub.recv_multipart()) == 1


def test_z05_a_request_too_long_costs_the_connection_and_the_client_comes_back(
    server: Hub, make: Sockets
) -> None:
    dealer = make(zmq.DEALER)
    monitor = dealer.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    dealer.connect(server.query)
    dealer.send(bytes(MAX_REQUEST + limits.CURVE_BYTES + 1))
    assert monitor.poll(int(PATIENCE * 1000))
    dealer.disable_monitor()
    monitor.close()
    dealer.send(encode_request(PingRequest(), 7))
    assert dealer.poll(int(PATIENCE * 1000))
    assert decode_reply(dealer.recv()).id == 7


def test_z06_a_router_says_that_a_peer_has_gone_only_if_it_must(
    make: Sockets,
) -> None:
    router = make(zmq.ROUTER)
    router.send_multipart([b"nobody", b""], zmq.DONTWAIT)
    router.set(zmq.ROUTER_MANDATORY, 1)
    with pytest.raises(zmq.ZMQError) as caught:
        router.send_multipart([b"nobody", b""], zmq.DONTWAIT)
    assert caught.value.errno == zmq.EHOSTUNREACH
    assert QUERY_OPTIONS[zmq.ROUTER_MANDATORY] == 1


def test_z07_every_subscriber_is_counted_and_soon_knows_the_segment(server: Hub, make: Sockets) -> None:
    before = fetch(server.query, PATIENCE)["clients"]
    subs = [make(zmq.SUB) for _ in range(3)]
    for sub in subs:
        sub.subscribe(BLOCK)
        sub.connect(server.publish)
    poll(lambda: fetch(server.query, PATIENCE)["clients"] == before + 3, "three more")
    for sub in subs:
        sub.close(0)
    poll(lambda: fetch(server.query, PATIENCE)["clients"] == before, "none of them")
    late = make(zmq.SUB)
    late.subscribe(SEGMENT)
    late.connect(server.publish)
    since = time.monotonic()
    assert late.poll(int(PATIENCE * 1000))
    assert time.monotonic() - since < JOIN


def test_z08_a_lost_answer_is_asked_for_again_and_a_stale_one_is_nobodys(
    make: Sockets,
) -> None:
    router = make(zmq.ROUTER)
    query = QuerySocket(make.context, bound(router))

    def serve() -> None:
        router.recv_multipart()  # the first is lost
        peer, request = router.recv_multipart()
        number = decode_request(request).id
        for answer in (number + 1, number):
            router.send_multipart([peer, encode_reply(answer, {"ok": True, "answer": answer})])

    thread = threading.Thread(target=serve)
    thread.start()
    reply = query.ask(PingRequest(), None, PATIENCE)
    thread.join()
    query.close()
    assert reply.header["answer"] == reply.id


def test_z09_a_peer_that_promised_to_be_heard_and_is_not_is_cut_off(server: Hub) -> None:
    for endpoint, kind in ((server.query, b"DEALER"), (server.publish, b"SUB")):
        with shake_hands(port_of(endpoint), kind) as connection:
            connection.sendall(bytes((4, 7)) + b"\4PING" + (5).to_bytes(2, "big"))  # time to live: 0.5 s
            since = time.monotonic()
            assert is_cut(connection)
            assert 0.3 < time.monotonic() - since < 2.0


def test_z14_junk_connections_do_not_stop_the_hub_from_accepting(server: Hub) -> None:
    def wants_keys(port: int) -> object:
        connection = knock(port)
        connection.sendall(GREETING[:12] + b"CURVE".ljust(20, b"\0") + bytes(32))
        connection.close()
        return connection

    before = counter(server, "refused_peers")
    for _ in range(1000):
        for endpoint in (server.query, server.publish):
            wants_keys(port_of(endpoint))
    with Client() as late:
        late.connect(server.query, timeout=PATIENCE)
        late.start_streaming(timeout=PATIENCE)
        assert late.last_sample == 200
    poll(lambda: counter(server, "refused_peers") > before, "they are counted")


def test_z16_a_long_subscription_costs_the_connection_and_a_short_one_does_not(server: Hub) -> None:
    with shake_hands(port_of(server.publish), b"SUB") as connection:
        connection.sendall(frame(b"\1" + b"x" * 203))
        assert is_cut(connection)
    with shake_hands(port_of(server.publish), b"SUB") as connection:
        connection.sendall(frame(b"\1" + HEARTBEAT))
        connection.settimeout(PATIENCE)
        while HEARTBEAT not in connection.recv(4096):
            pass


def test_z17_noise_on_a_connection_becomes_messages_and_is_refused(server: Hub) -> None:
    before = counter(server, "refused")
    for _ in range(20):
        # ZMTP 1.0: an anonymous greeting, then lengths that count the flags
        with knock(port_of(server.query)) as connection:
            connection.sendall(b"\1\0" + (b"\6\0noise" * 3))
            time.sleep(0.01)  # not all of them need arrive
    poll(lambda: counter(server, "refused") >= before + 20, "refused")
    assert server.process.poll() is None


def test_z18_requests_that_are_bombs_or_pass_msgpack_alone_are_refused_cheaply() -> None:
    assert math.isnan(msgpack.unpackb(msgpack.packb(math.nan)))
    assert msgpack.unpackb(msgpack.packb(2**64 - 1)) == 2**64 - 1
    assert msgpack.unpackb(b"\x82\xa1a\x01\xa1a\x02") == {"a": 2}  # of two the last wins
    hostile = [
        b"\xdd\xff\xff\xff\xff" * 800, b"\xdd\x00\x10\x00\x00" * 800, b"\x91" * 4000, b"\xdf\xff\xff\xff\xff",
        msgpack.packb({"id": 1, "op": "ping"}) + b"\0", msgpack.packb({1: 2}), b"\xc1", b"",
        *(msgpack.packb({"id": 1, "op": "events", "seq": x}) for x in (math.nan, True, 2**63, -1)),
        *(msgpack.packb({"id": x, "op": "ping"}) for x in (math.nan, True, 2**63, -1, None)),
    ]  # fmt: skip
    tracemalloc.start()
    try:
        for request in hostile:
            with pytest.raises(BadRequest):
                decode_request(request)
        with pytest.raises(BadRequest):
            decode_request(b"\xdd\xff\xff\xff\xff" * 200_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


def test_z20_a_program_that_computes_while_its_queue_is_full_does_not_die_of_it() -> None:
    """libzmq aborts if a socket's queue is full, its connection is made anew, and then it is read."""
    recorder = ScriptedRecorder()
    stop = 20 * 501
    try:
        with hub(recorder.address, "--history", "1s") as server:
            recorder.start(64, rate=200_000.0)  # so fast that a client lets 100 messages wait, no more
            recorder.block()
            arguments = (server.query, str(READERS), str(AWAY), str(stop))
            child = Child(*arguments, program=("-c", COMPUTES))
            try:
                child.wait_for("streaming")
                recorder.blocks(500)
                assert child.finish() == 0, child.stderr
            finally:
                child.close()
    finally:
        recorder.close()


def test_z21_who_takes_each_answer_gets_each_answer(make: Sockets, server: Hub) -> None:
    """One question at a time, each as soon as the one before is answered: faster than libzmq looks."""
    before = counter(server, "undelivered")
    dealer = make(zmq.DEALER)
    dealer.connect(server.query)
    asked = msgpack.packb({"id": 1, "op": "no such thing"})
    patience = int(1000 * PATIENCE)
    for number in range(10_000):
        dealer.send(asked)
        assert dealer.poll(patience), number
        dealer.recv()
    assert counter(server, "undelivered") == before


def test_every_fact_has_a_test_that_exists() -> None:
    rows = re.findall(r"^\| Z(\d+) \|(.*)$", PAGE.read_text(), re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, FACTS + 1))
    for number, row in rows:
        named = re.findall(r"`(tests/\S+\.py)::(test_\w+)`", row)
        assert named, f"Z{number} names no test"
        for path, test in named:
            assert f"def {test}(" in (ROOT / path).read_text(), f"Z{number}: {path} has no {test}"
    for module, limit in re.findall(r"`(limits)\.([A-Z_]+)`", PAGE.read_text()):
        assert hasattr(limits, limit), f"{module}.{limit}"
