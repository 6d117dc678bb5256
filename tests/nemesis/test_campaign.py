"""A campaign of random faults, and many random joins: nothing lost, nothing twice, nothing wrong.

Rule: the seed is printed, and the line that runs the same schedule again; `RDAHUB_NEMESIS_SEED` sets it,
`RDAHUB_NEMESIS_SECONDS` and `RDAHUB_NEMESIS_JOINS` say how much (each test's own number where not set).
What campaigns found stands below them, without chance.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from campaign import campaign
from lossy import FakeHub, LossyReader
from proxy import poll

from processes import Hub, hub, unique_name
from rdahub.commands.status import fetch
from rdahub_client import Block, Client, Event, LocalClient
from rdahub_client.wire import EventsRequest, Reply, Request
from scripted import ScriptedRecorder, values

needs_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="a loopback address for each witness is there on Linux alone"
)

# Its own randomness: pytest-randomly seeds the common one with the same number again for each test.
SEED = int(os.environ.get("RDAHUB_NEMESIS_SEED") or random.SystemRandom().randrange(10**6))
SECONDS = float(os.environ.get("RDAHUB_NEMESIS_SECONDS") or 60)
JOINS = int(os.environ.get("RDAHUB_NEMESIS_JOINS") or 200)


@needs_linux
@pytest.mark.timeout(SECONDS + 240)
def test_under_random_faults_every_reader_is_told_every_sample_once_and_every_hole_with_its_cause() -> None:
    verdict = campaign(SECONDS, SEED)
    assert not verdict.errors, "\n".join(verdict.errors[:30])
    assert verdict.samples > 1000 * SECONDS  # a campaign in which nothing flowed proves nothing


@needs_linux
@pytest.mark.timeout(120 + JOINS)
def test_readers_that_join_anywhere_and_fall_behind_get_exactly_what_was_sent() -> None:
    quiet = frozenset({"skip", "repeat", "vary", "stop start", "restart", "layout", "hang up", "hub stop"})
    verdict = campaign(10, SEED, joins=JOINS, history=5, only=quiet)
    assert not verdict.errors, "\n".join(verdict.errors[:30])
    assert verdict.joins == JOINS


# --- what campaigns found --------------------------------------------------------------------------------


@pytest.fixture
def recorder() -> Iterator[ScriptedRecorder]:
    scripted = ScriptedRecorder()
    yield scripted
    scripted.close()


def join(kind: str, server: Hub) -> Client | LocalClient:
    if kind == "local":
        return LocalClient(server.name)
    client = Client()
    client.connect(server.query)
    return client


def taken_in(server: Hub, index: int) -> None:
    """Until the hub has samples up to an index."""
    poll(lambda: bool(fetch(server.query, 10)["next_index"] == index), f"the hub is at {index}")


@pytest.mark.parametrize("kind", ["network", "network that asks", "local"])
def test_a_reader_a_block_behind_is_told_that_block_though_the_channels_changed_after_it(
    recorder: ScriptedRecorder, kind: str
) -> None:
    with hub(recorder.address) as server, join(kind, server) as client:
        recorder.start(2)
        client.start_streaming(timeout=30)
        recorder.block()
        events = client.stream(0, timeout=30)
        assert [type(next(events)).__name__ for _ in range(2)] == ["SegmentStart", "Block"]
        recorder.block()
        recorder.start(4)
        recorder.block()
        taken_in(server, 60)
        if "asks" in kind:
            assert client.last_sample == 60
        event = next(events)
        assert isinstance(event, Block), event
        np.testing.assert_array_equal(event.samples, values(20, 40, 2))


@pytest.mark.parametrize("kind", ["network", "local"])
def test_a_reader_that_missed_a_segment_of_other_channels_altogether_is_told_of_it_without_an_error(
    recorder: ScriptedRecorder, kind: str
) -> None:
    with hub(recorder.address) as server, join(kind, server) as client:
        recorder.start(2)
        recorder.block()
        taken_in(server, 20)
        client.start_streaming(timeout=30)
        events = client.stream(0, timeout=30)
        told: list[Event] = [next(events), next(events)]
        recorder.start(4)
        recorder.block()
        recorder.start(3)
        recorder.block()
        taken_in(server, 60)
        while not (isinstance(told[-1], Block) and told[-1].stop == 60):
            told.append(next(events))  # once a WireError: a page [40, 40)
        names = [type(event).__name__ for event in told]
        assert [name for name in names if name.startswith("Segment")] == [
            "SegmentStart", "SegmentEnd", "SegmentStart", "SegmentEnd", "SegmentStart",
        ]  # fmt: skip


def test_a_local_reader_that_missed_a_new_ring_and_then_the_death_of_its_hub_finds_the_next_one(
    recorder: ScriptedRecorder,
) -> None:
    name = unique_name()
    first = Hub(recorder.address, name=name)
    try:
        with LocalClient(name) as client:
            recorder.start(2)
            recorder.block()
            client.start_streaming(timeout=30)
            assert client.wait(19, 20, timeout=30) is not None
            recorder.start(4)  # a new ring ...
            taken_in(first, 20)
            poll(lambda: bool(fetch(first.query, 10)["segment"]["number"] == 1), "the new segment")
            first.close()  # SIGKILL; ... which the next hub of that name removes
            recorder.hang_up()
            with hub(recorder.address, name=name) as second:
                recorder.index = 0
                recorder.start(4)
                recorder.block()
                taken_in(second, 20)
                instance = fetch(second.query, 10)["instance"]
                # Asking was once a SharedMemoryError for ever: "no shared memory left".
                poll(lambda: client.last_sample >= 0 and client.instance == instance, "the next hub is found")
                data = client.wait(0, 20, timeout=30)
                assert data is not None
                np.testing.assert_array_equal(data, values(0, 20, 4))
    finally:
        first.close()


class LateJoiner(LossyReader):
    """A reader whose hub has a heartbeat between its first two questions, and forgets old records then."""

    def _ask(self, request: Request, *times: Any) -> Reply:
        if isinstance(request, EventsRequest):
            self.hub.broker.prune(0)
        return super()._ask(request, *times)


def test_a_reader_whose_hub_forgets_records_while_it_joins_streams_from_the_oldest_sample() -> None:
    server = FakeHub(history_rows=100)
    server.start(2)
    server.block(50)
    server.broker.prune(0)
    server.block(60)
    server.broker.prune(0)  # what is remembered begins inside the first segment ...
    server.start(2)
    for _ in range(4):
        server.block(20)
    server.start(2)
    server.block(40)  # ... and will begin inside the second, whose samples are still there in part
    reader = LateJoiner(server, random.Random(0))
    reader.start()
    told = list(reader.drain())  # once SegmentChanged, for ever
    spans = [(event.start, event.stop) for event in told if isinstance(event, Block)]
    assert (spans[0][0], spans[-1][1]) == (server.broker.first_available, server.broker.next_index)
    assert all(before[1] == after[0] for before, after in pairwise(spans))
