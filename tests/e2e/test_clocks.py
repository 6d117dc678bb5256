"""Times of samples through real sockets, from a Recorder that is late by chance and knows the truth."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

from on_a_loop import OnALoop
from processes import PATIENCE, Child, Hub, hub, unique_name
from rdahub_client import Client, LocalClient, NoSegment, NotYetAvailable, SegmentChanged
from scripted import ScriptedRecorder

RATE, BLOCK, JITTER = 2000.0, 10, 0.02
SAMPLES = 6000
OTHER_CLOCK = 5000  # s
LATE = 0.005
"""Seconds that the quickest of some hundred blocks may need on its way on a loaded machine."""


@pytest.fixture
def recorder() -> Iterator[ScriptedRecorder]:
    scripted = ScriptedRecorder()
    yield scripted
    scripted.close()


def play(recorder: ScriptedRecorder, samples: int) -> float:
    """A segment, each block up to 20 ms late; returns when its first sample was taken."""
    recorder.start(rate=RATE)
    chance = np.random.default_rng(1)
    begin = time.monotonic()
    for stop in range(BLOCK, samples + 1, BLOCK):
        due = begin + (stop - 1) / RATE + chance.uniform(0, JITTER)
        time.sleep(max(0.0, due - time.monotonic()))
        recorder.block(BLOCK)
    return begin


def reach(client: Any, index: int) -> None:
    assert client.wait(index - 1, index, timeout=PATIENCE) is not None


def following(server: Hub, stack: ExitStack) -> list[Any]:
    """A client of each kind."""
    clients: list[Any] = [Client(), OnALoop(), LocalClient(server.name)]
    for client in clients:
        stack.enter_context(client)
        if not isinstance(client, LocalClient):
            client.connect(server.query)
        client.start_streaming(timeout=PATIENCE)
    return clients


def test_samples_are_dated_and_found_by_time(recorder: ScriptedRecorder) -> None:
    with hub(recorder.address) as server, ExitStack() as stack:
        first = play(recorder, SAMPLES)
        clients = following(server, stack)
        for client in clients:
            reach(client, SAMPLES)
            indices = np.arange(0, SAMPLES + 500, 7)  # and some ahead
            times = client.time_of(indices)
            told = client.sample_clock()
            error = times - (first + indices / RATE)
            print(type(client).__name__, f"median {np.median(error) * 1e3:.3f} ms", told)
            assert np.abs(error).max() < told.error + LATE < JITTER
            assert told.offset == 0.0
            assert told.sfreq == pytest.approx(RATE, rel=1e-3)
            assert np.array_equal(client.index_at(times), indices)
            by_index = client.read(1000, 1400).copy()
            np.testing.assert_array_equal(client.at(client.time_of(1000), client.time_of(1400)), by_index)
            wall = client.time_of(1000, "wall")
            assert wall - client.time_of(1000) == pytest.approx(time.time() - time.monotonic(), abs=LATE)
            assert client.time_of(1000, "hub") == pytest.approx(wall, abs=told.error + LATE)
            assert client.index_at(wall, "wall") == 1000
            with pytest.raises(NotYetAvailable):
                client.at(times[0], times[-1])
            with pytest.raises(NoSegment):
                client.index_at(times[0] - 1.0)

        recorder.stop()
        second = play(recorder, 1000)
        for client in clients:
            reach(client, SAMPLES + 1000)
            last, begun = client.time_of(np.array([SAMPLES - 1, SAMPLES]))
            assert last == pytest.approx(first + (SAMPLES - 1) / RATE, abs=2 * LATE)
            assert begun == pytest.approx(second, abs=JITTER)
            with pytest.raises(SegmentChanged):
                client.at(last - 0.1, begun + 0.1)

        server.stop()
        for client in clients:  # what was known stays known
            assert client.time_of(SAMPLES - 1) == pytest.approx(last, abs=1e-3)


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or shutil.which("unshare") is None,
    reason="another monotonic clock needs Linux, root and unshare",
)
def test_a_hub_with_another_monotonic_clock_is_dated_on_this_one(recorder: ScriptedRecorder) -> None:
    elsewhere = (
        "import os, sys; os.execvp('unshare', ['unshare', '--time', '--monotonic', "
        f"'{OTHER_CLOCK}', sys.executable, '-m', 'rdahub', *sys.argv[1:]])"
    )
    free = "tcp://127.0.0.1:0"
    server = Child(
        "serve", "--recorder", recorder.address, "--query", free, "--publish", free, "--name", unique_name(),
        program=("-c", elsewhere),
    )  # fmt: skip
    try:
        query = server.wait_for(r"ready query=(\S+)")[1]
        first = play(recorder, SAMPLES // 2)
        with Client() as client:
            client.connect(query)
            client.start_streaming(timeout=PATIENCE)
            reach(client, SAMPLES // 2)
            told = client.sample_clock()
            print(told)
            assert told.offset == pytest.approx(OTHER_CLOCK, abs=told.offset_error + 1e-6)
            assert told.offset_error < LATE
            indices = np.arange(SAMPLES // 2)
            assert np.abs(client.time_of(indices) - (first + indices / RATE)).max() < told.error + LATE
        assert server.stop() == 0
    finally:
        server.close()


def test_times_are_there_from_the_first_block_on_and_become_better(recorder: ScriptedRecorder) -> None:
    with hub(recorder.address) as server, Client() as client:
        recorder.start(rate=RATE)
        client.connect(server.query)
        client.start_streaming(timeout=PATIENCE)
        with pytest.raises(NotYetAvailable, match="arrived"):
            client.time_of(0)
        recorder.block()
        reach(client, 20)
        now = time.monotonic()
        assert now - PATIENCE < client.time_of(19) <= now
        early = client.sample_clock().error
        begin = client.time_of(0)
        for stop in itertools.takewhile(lambda stop: stop <= 3 * RATE, itertools.count(40, 20)):
            time.sleep(max(0.0, begin + stop / RATE - time.monotonic()))
            recorder.block()
        reach(client, int(2.9 * RATE))
        assert client.sample_clock().error < early / 2
