"""`Client.stream` against all that can befall history-then-live (Aeron's PersistentSubscription, adapted).

Rule: one named case each, a real hub process, a scripted Recorder, real sockets; `Told` compares every sample
with what the Recorder sent, and wants every event to begin where the one before ended.
Not here: faults of the hub or the network as such, and how fast they are noticed (`test_downstream_faults`).
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
from proxy import Proxy, poll

from processes import PATIENCE, Hub, hub
from rdahub_client import (
    BadRange,
    Block,
    Client,
    Gap,
    HubRestarted,
    LocalClient,
    SegmentEnd,
    SegmentStart,
    StartTimeout,
    StreamTimeout,
)
from rdahub_client.records import Event
from rdahub_client.wire import Reply, Request, StatsRequest, decode_reply, encode_request
from scripted import ScriptedRecorder, values

WINDOW = 512  # rows; of 2 channels a page of memory, so that rounding up does not change it
PAGE = 4096  # rows of 64 channels that one answer of the hub holds

other_loopback = pytest.mark.skipif(
    sys.platform != "linux", reason="a proxy with the hub's own port needs 127.0.0.2, which only Linux has"
)


@pytest.fixture
def recorder() -> Iterator[ScriptedRecorder]:
    scripted = ScriptedRecorder()
    yield scripted
    scripted.close()


@dataclass
class Way:
    """A hub, and the proxies on the way to it: a client that is given `address` finds both."""

    server: Hub
    query: Proxy
    publish: Proxy

    @property
    def address(self) -> str:
        return self.query.address

    def break_live(self) -> None:
        """Cut the publish connection, and let nobody in until healed: what is published now is lost."""
        self.publish.refuse()
        self.publish.reset()


@contextlib.contextmanager
def on_the_way(
    recorder: ScriptedRecorder, blocks: int = 0, channels: int = 2, history: str = "600s"
) -> Iterator[Way]:
    """The client learns the publish port from the hub, and uses the host it has: both have a proxy."""
    with Proxy(("127.0.0.2", 0)) as publish, Proxy(("127.0.0.2", 0)) as query:
        publish.target = ("127.0.0.2", publish.port)
        query.target = ("127.0.0.2", query.port)
        endpoints = {"query": f"tcp://127.0.0.2:{query.port}", "publish": f"tcp://127.0.0.2:{publish.port}"}
        with acquiring(recorder, blocks, channels, history, **endpoints) as server:
            yield Way(server, query, publish)


@contextlib.contextmanager
def acquiring(
    recorder: ScriptedRecorder, blocks: int = 0, channels: int = 2, history: str = "600s", **endpoints: str
) -> Iterator[Hub]:
    """A hub that has so many blocks of 20 rows already."""
    with hub(recorder.address, "--history", history, **endpoints) as server:
        recorder.start(channels)
        recorder.blocks(blocks)
        has(server, recorder.index)
        yield server


@contextlib.contextmanager
def joined(address: str, buffer_size: int = WINDOW) -> Iterator[Client]:
    with Client(buffer_size=buffer_size) as client:
        client.connect(address)
        client.start_streaming(timeout=PATIENCE)
        yield client


class Told:
    """What a stream tells, checked as it comes.

    Parameters
    ----------
    recorded : int
        The Recorder's number of the instance's sample 0; `after_restart` is that of the next instance.
    """

    def __init__(self, client: Client | LocalClient, start: str | int = "live", recorded: int = 0) -> None:
        self.events = client.stream(start, timeout=PATIENCE)
        self.recorded = recorded
        self.after_restart = -1
        self.index: int | None = None
        self.segment = -1
        self.n_channels = 0
        self.log: list[Event] = []

    def next(self) -> Event:
        event = next(self.events)
        self.log.append(event)
        match event:
            case SegmentStart(segment):
                assert self.segment == -1, "a segment within a segment"
                self.segment, self.n_channels = segment.number, segment.n_channels
            case SegmentEnd(segment, reason):
                assert segment.number == self.segment
                assert segment.stop == self.index or self.index is None
                self.segment = -1
                if reason == "hub_restart":
                    assert self.after_restart >= 0, "a restart that nobody made"
                    self.recorded, self.after_restart, self.index = self.after_restart, -1, 0
            case Gap(start, stop):
                assert self.index in {None, start}
                self.index = stop
            case Block(start, stop, samples):
                assert self.index in {None, start}
                assert self.segment >= 0, "samples of no segment"
                sent = values(start + self.recorded, stop + self.recorded, self.n_channels)
                np.testing.assert_array_equal(samples, sent)
                self.index = stop
        return event

    def until(self, index: int) -> None:
        self.until_past(index)
        assert self.index == index

    def until_past(self, index: int) -> None:
        while self.index is None or self.index < index:
            self.next()

    def until_restart(self) -> SegmentEnd:
        while not isinstance(event := self.next(), SegmentEnd) or event.reason != "hub_restart":
            pass
        return event

    @property
    def spans(self) -> list[tuple[int, int]]:
        return [(event.start, event.stop) for event in self.log if isinstance(event, Block)]

    @property
    def gaps(self) -> list[Gap]:
        return [event for event in self.log if isinstance(event, Gap)]


def ask(server: Hub, request: Request) -> Reply:
    """A question to the hub itself, past all proxies and not by the client's code."""
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.rcvtimeo = int(PATIENCE * 1000)
        socket.linger = 0
        socket.connect(server.query)
        socket.send(encode_request(request, 1))
        return decode_reply(socket.recv())


def stats(server: Hub) -> dict[str, Any]:
    return ask(server, StatsRequest()).header


def has(server: Hub, index: int) -> None:
    """Until the hub has taken samples up to an index."""
    poll(lambda: bool(stats(server)["next_index"] >= index), f"the hub has sample {index - 1}")


def questions(server: Hub) -> int:
    """Requests the hub was ever asked, this one and those before it among them."""
    return int(stats(server)["counters"]["requests"])


@contextlib.contextmanager
def sending(recorder: ScriptedRecorder, pace: float = 0.003) -> Iterator[None]:
    """The Recorder at its own pace, in blocks of 20 rows, while the test does something else."""
    done = threading.Event()

    def send() -> None:
        while not done.wait(pace):
            recorder.block()

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        done.set()
        sender.join()


@contextlib.contextmanager
def restart(first: Hub, recorder: ScriptedRecorder) -> Iterator[Hub]:
    """The hub is killed and comes back where it was."""
    first.close()  # SIGKILL
    recorder.hang_up()
    with hub(recorder.address, name=first.name, query=first.query, publish=first.publish) as second:
        yield second


@pytest.fixture
def first(recorder: ScriptedRecorder) -> Iterator[Hub]:
    """A hub that will not see the end of the test."""
    child = Hub(recorder.address)
    yield child
    child.close()


def test_drops_from_live_back_to_history_then_rejoins(recorder: ScriptedRecorder) -> None:
    with acquiring(recorder) as server, joined(server.query) as client:
        told = Told(client)
        for _ in range(3):
            before = questions(server)
            recorder.blocks(10)
            told.until(recorder.index)
            assert questions(server) - before == 1, "asked for what is live"
            recorder.blocks(4 * WINDOW // 20)  # while this one dreams
            poll(lambda: client.last_sample == recorder.index, "the client has taken in what came")
            told.until(recorder.index)
            assert questions(server) - before > 2, "the window held it all: this was no history"
        assert told.gaps == []


@pytest.mark.parametrize(("start", "first_told"), [("oldest", 0), (0, 0), (333, 333), ("live", 1000)])
def test_from_start_from_mid_and_live_only(
    recorder: ScriptedRecorder, start: str | int, first_told: int
) -> None:
    with acquiring(recorder, 50) as server, joined(server.query) as client:
        told = Told(client, start)
        recorder.blocks(10)
        told.until(1200)
        assert isinstance(told.log[0], SegmentStart)
        assert told.spans[0][0] == first_told
        assert told.gaps == []


def test_error_before_first(recorder: ScriptedRecorder) -> None:
    with acquiring(recorder, 300, history="1s") as server, joined(server.query) as client:
        for nowhere in (-1, "newest"):
            with pytest.raises(BadRange):
                client.stream(nowhere)
        oldest = stats(server)["first_available"]
        assert oldest > 17
        told = Told(client, 17)
        told.until(6000)
        recorder.block()
        told.until(6020)
        assert told.gaps == [Gap(17, oldest, "overwritten")]


def test_error_after_last(recorder: ScriptedRecorder) -> None:
    with acquiring(recorder, 50) as server, joined(server.query) as client:
        told = Told(client, 1230)  # a place to come is waited for, within the time-out
        early = client.stream(1230, timeout=0.2)
        assert isinstance(next(early), SegmentStart)
        with pytest.raises(StreamTimeout):
            next(early)
        recorder.blocks(5)
        recorder.stop()  # it lies in a segment that nobody knew yet
        recorder.start(n_channels=3)
        recorder.blocks(20)
        told.until(1500)
        assert told.spans[0][0] == 1230
        assert told.segment == 1
        assert told.gaps == []


@pytest.mark.parametrize("n_channels", [2, 5])
def test_wrong_segment(recorder: ScriptedRecorder, n_channels: int) -> None:
    with acquiring(recorder, 10) as server:
        recorder.stop()
        recorder.start(n_channels)
        recorder.blocks(10)
        has(server, 400)
        with joined(server.query) as client:
            told = Told(client, 100)
            recorder.block()
            told.until(420)
            kinds = [type(event) for event in told.log]
            assert kinds[:4] == [SegmentStart, Block, SegmentEnd, SegmentStart]
            assert told.spans[0] == (100, 200)
            assert told.gaps == []
            assert told.segment == 1


def test_nothing_to_replay(recorder: ScriptedRecorder) -> None:
    with acquiring(recorder) as server, joined(server.query) as client:
        told = [Told(client, start) for start in ("oldest", 0, "live")]
        for one in told:
            assert isinstance(one.next(), SegmentStart)
        recorder.blocks(3)
        for one in told:
            one.until(60)
            assert one.spans[0][0] == 0
            assert one.gaps == []


def test_join_while_both_advance(recorder: ScriptedRecorder) -> None:
    seed = int(os.environ.get("RDAHUB_NEMESIS_SEED") or random.SystemRandom().randrange(10**6))
    print(
        f"to repeat: RDAHUB_NEMESIS_SEED={seed} pytest tests/nemesis/test_stream_checklist.py -k join_while"
    )
    rng = random.Random(seed)
    with acquiring(recorder) as server, sending(recorder):
        for _ in range(25):
            with joined(server.query, buffer_size=rng.choice([1, WINDOW, 100_000])) as client:
                start = ("oldest", "live", rng.randrange(recorder.index + 1))[rng.randrange(3)]
                told = Told(client, start)
                told.until_past(recorder.index)
                assert told.gaps == []


def test_publisher_restart_on_live(recorder: ScriptedRecorder, first: Hub) -> None:
    recorder.start()
    with joined(first.query) as client:
        told = Told(client)
        recorder.blocks(20)
        told.until(400)
        with restart(first, recorder):
            told.after_restart = recorder.index
            recorder.start(n_channels=3)
            recorder.blocks(10)
            assert told.until_restart().segment.stop == 400
            told.until(200)
            recorder.blocks(40)
            told.until(1000)
            assert told.gaps == []


def test_publisher_restart_during_replay(recorder: ScriptedRecorder, first: Hub) -> None:
    recorder.start(n_channels=64)
    recorder.blocks(1000)
    has(first, 20_000)
    with joined(first.query) as client:
        told = Told(client, "oldest")
        told.until(PAGE)
        with restart(first, recorder):
            told.after_restart = recorder.index
            recorder.start(n_channels=64)  # the same layout: nothing but the values could tell a mixture
            recorder.blocks(1000)
            assert told.until_restart().segment.stop == 20_000
            assert told.gaps == [Gap(PAGE, 20_000, "hub_restart")]  # these were the first hub's alone
            told.until(20_000)
            assert len(told.gaps) == 1


@other_loopback
def test_history_service_away_while_live_continues(recorder: ScriptedRecorder) -> None:
    with on_the_way(recorder) as way, joined(way.address) as client:
        told = Told(client)
        recorder.blocks(10)
        told.until(200)
        asked = way.query.to_upstream.passed
        way.query.hold()
        recorder.blocks(20)
        told.until(600)
        assert way.query.to_upstream.passed == asked
        way.break_live()
        recorder.blocks(20)
        has(way.server, 1000)
        way.publish.heal()
        impatient = client.stream(timeout=0.3)
        with pytest.raises(StreamTimeout):  # what was lost is not to be had now, and is not stepped over
            list(impatient)
        assert client.last_sample == 600
        way.query.heal()
        recorder.block()
        told.until(1020)
        assert told.gaps == []


def test_replay_slower_than_live_stays_on_history(recorder: ScriptedRecorder) -> None:
    with acquiring(recorder, 400, channels=64) as server, joined(server.query) as client:
        told = Told(client, "oldest")
        for pages in range(1, 7):
            told.until(pages * PAGE)
            recorder.blocks(2 * PAGE // 20)  # it takes one page, two more come
            poll(lambda: client.last_sample == recorder.index, "the client has taken in what came")
        assert told.spans == [(k * PAGE, (k + 1) * PAGE) for k in range(6)]
        told.until(recorder.index)
        recorder.blocks(10)
        told.until(recorder.index)
        assert told.gaps == []


def test_live_position_goes_backwards(recorder: ScriptedRecorder, first: Hub) -> None:
    recorder.start()
    with joined(first.query) as client:
        told = Told(client)
        recorder.blocks(50)
        told.until(1000)
        with restart(first, recorder) as second:
            base = told.after_restart = recorder.index
            recorder.start()
            recorder.blocks(10)
            has(second, 200)
            poll(
                lambda: client.poll(1, timeout=0.1) is None and client.get_data(990, 1000) is None, "noticed"
            )
            with pytest.raises(HubRestarted):
                client.read(990, 1000)
            assert told.until_restart().segment.stop == 1000
            told.until(200)
            recorder.blocks(90)  # past where the other ended
            told.until(2000)
            np.testing.assert_array_equal(client.read(990, 1000), values(base + 990, base + 1000, 2))
            assert told.gaps == []


@other_loopback
@pytest.mark.parametrize("first_heard", ["heartbeat", "block"])
def test_loss_on_live(recorder: ScriptedRecorder, first_heard: str) -> None:
    with on_the_way(recorder) as way, joined(way.address) as client:
        told = Told(client)
        for _ in range(3):
            recorder.blocks(10)
            told.until(recorder.index)
            before = questions(way.server)
            connections = way.publish.connections
            way.break_live()
            recorder.blocks(40)
            has(way.server, recorder.index)
            with sending(recorder) if first_heard == "block" else contextlib.nullcontext():
                way.publish.heal()
                told.until_past(recorder.index)
            told.until(recorder.index)
            assert way.publish.connections > connections
            assert questions(way.server) - before > 1, "nothing was lost"
        assert told.gaps == []


@other_loopback
@pytest.mark.parametrize("reset", [False, True])
def test_loss_on_history(recorder: ScriptedRecorder, reset: bool) -> None:
    with on_the_way(recorder, 1000, channels=64) as way, joined(way.address) as client:
        told = Told(client, "oldest")
        told.until(PAGE)
        connections = way.query.connections
        way.query.from_upstream.cut(after=300_000, reset=reset)  # in the midst of an answer
        told.until(20_000)
        assert way.query.connections > connections
        assert told.gaps == []


@other_loopback
def test_close_while_joining(recorder: ScriptedRecorder) -> None:
    descriptors = Path("/proc/self/fd")
    with on_the_way(recorder, 500, channels=64) as way, joined(way.address) as other:
        recorder.block()
        assert other.wait(10_000, 10_020, timeout=PATIENCE) is not None  # its own connections stand by now
        before = len(list(descriptors.iterdir()))
        with Client(buffer_size=WINDOW) as client:  # before it knows a segment
            client.connect(way.address)
            way.query.from_upstream.hold()
            with pytest.raises(StartTimeout):
                client.start_streaming(timeout=0.3)
            closing = time.monotonic()
            client.disconnect()
            assert time.monotonic() - closing < 1
        way.query.heal()
        for _ in range(5):  # between two pages
            with joined(way.address) as client:
                told = Told(client, "oldest")
                told.until(PAGE)
                client.disconnect()
                assert list(told.events) == []
        poll(lambda: len(list(descriptors.iterdir())) <= before, "all descriptors are closed")
        poll(lambda: bool(stats(way.server)["clients"] == 1), "the hub has let them go")
        told = Told(other, "oldest")
        recorder.block()
        told.until(10_040)
        assert told.gaps == []


def test_falls_behind_more_than_a_history_that_moves_on(recorder: ScriptedRecorder) -> None:
    with acquiring(recorder, history="1s") as server, joined(server.query) as client:
        told = Told(client)
        recorder.blocks(10)
        told.until(200)
        recorder.blocks(500)
        poll(lambda: client.last_sample == recorder.index, "the client has taken in what came")
        with sending(recorder):
            told.until_past(10_400)
        told.until(recorder.index)
        first, *others = told.gaps  # the oldest may be gone when asked for: the hole then has a second part
        assert [gap.start for gap in told.gaps] == [200, *(gap.stop for gap in told.gaps[:-1])]
        assert first.stop > 9000
        assert {gap.reason for gap in told.gaps} == {"overwritten"}
        print(f"{1 + len(others)} parts of a hole")


def test_falls_behind_more_than_the_history(recorder: ScriptedRecorder) -> None:
    with acquiring(recorder, history="1s") as server, joined(server.query) as client:
        told = Told(client)
        recorder.blocks(10)
        told.until(200)
        recorder.blocks(500)
        poll(lambda: client.last_sample == recorder.index, "the client has taken in what came")
        oldest = stats(server)["first_available"]
        told.until(recorder.index)
        assert told.gaps == [Gap(200, oldest, "overwritten")]
        recorder.blocks(10)
        told.until(recorder.index)
        assert len(told.gaps) == 1
