"""Markers that clients insert, and windows around markers, on real hubs: one recording, every kind of reader.

Rule: what one client inserts, all others have, on the same sample, once; who may only read cannot.
Not here: windows over a lossy link (`test_windows`), how many markers a hub takes (`test_insertions`).
"""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
import zmq.auth

from on_a_loop import OnALoop
from processes import PATIENCE, Hub, hub
from rdahub import rda
from rdahub.commands.status import fetch
from rdahub_client import (
    Block,
    Client,
    Gap,
    HubRestarted,
    LocalClient,
    Marker,
    NoSegment,
    NotStreaming,
    NotYetAvailable,
    Overwritten,
    ReadOnly,
    RequestRefused,
    SegmentEnd,
    SegmentStart,
    StreamTimeout,
)
from rdahub_client.wire import MARKERS, Records, decode
from scripted import ScriptedRecorder, values


@pytest.fixture
def recorder() -> Iterator[ScriptedRecorder]:
    scripted = ScriptedRecorder()
    yield scripted
    scripted.close()


@pytest.fixture
def server(recorder: ScriptedRecorder) -> Iterator[Hub]:
    with hub(recorder.address) as running:
        yield running


Reader = Client | LocalClient
MAKE: dict[str, Callable[[Hub], Any]] = {
    "network": lambda _: Client(),
    "local": lambda server: LocalClient(server.name),
    "asyncio": lambda _: OnALoop(),
}


@pytest.fixture
def join(server: Hub) -> Iterator[Callable[[str], Any]]:
    """Clients of a kind, streaming."""
    made: list[Any] = []

    def join(kind: str) -> Any:
        client = MAKE[kind](server)
        made.append(client)
        if kind != "local":
            client.connect(server.query)
        client.start_streaming()
        return client

    yield join
    for client in made:
        client.__exit__(None, None, None)


def reach(client: Any, index: int) -> None:
    assert client.wait(index - 1, index, timeout=PATIENCE) is not None


def until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def counter(server: Hub, name: str) -> int:
    return int(fetch(server.query, PATIENCE)["counters"][name])


# --- inserting -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MAKE)
def test_what_one_client_inserts_all_have_on_the_same_sample(
    recorder: ScriptedRecorder, server: Hub, join: Callable[[str], Any], kind: str
) -> None:
    recorder.start()
    recorder.blocks(2)
    writer, *readers = join(kind), *(join(each) for each in MAKE)
    late = Client()
    for each in (writer, *readers):
        reach(each, 40)
    streams = [each.stream("live", timeout=PATIENCE) for each in readers]
    newest = writer.insert_marker("eyes closed")
    placed = writer.insert_marker("blink", "Artifact", index=7, points=5, channel=1)
    assert newest == Marker(40, 1, -1, "Comment", "eyes closed", injected=True)
    assert placed == Marker(7, 5, 1, "Artifact", "blink", injected=True)
    assert writer.markers(0, 100) == [placed, newest]  # at once
    for each in readers:
        until(lambda each=each: each.markers(0, 100) == [placed, newest])  # type: ignore[misc]
    recorder.block(markers=(rda.BlockMarker(3, 1, -1, "Stimulus", "S  1"),))
    sent = Marker(43, 1, -1, "Stimulus", "S  1")
    for events in streams:
        start, block = islice(events, 2)
        assert isinstance(start, SegmentStart)
        assert isinstance(block, Block)
        assert (block.start, block.stop, block.markers) == (40, 60, (newest, placed, sent))
        np.testing.assert_array_equal(block.samples, values(40, 60, 2))
    with late:
        late.connect(server.query)
        late.start_streaming()
        assert late.markers(0, 100) == [placed, newest, sent]
    assert (counter(server, "markers"), counter(server, "inserted_markers")) == (1, 2)


def test_an_inserted_marker_is_told_before_the_next_block_and_costs_readers_no_question(
    recorder: ScriptedRecorder, join: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder.start()
    reader, writer = join("network"), join("network")
    recorder.block()
    reach(reader, 20)
    asked: list[Any] = []
    monkeypatch.setattr(reader, "_ask", lambda *question: asked.append(question))
    windows = reader.windows(-0.005, 0, timeout=PATIENCE)
    marker = writer.insert_marker("now")
    assert next(windows).marker == marker  # nothing is sent after it
    assert asked == []


def test_a_program_that_only_marks_needs_no_samples(recorder: ScriptedRecorder, server: Hub) -> None:
    with Client() as program, zmq.Context() as context, context.socket(zmq.SUB) as topic:
        with pytest.raises(NotStreaming):
            program.insert_marker("S 1")
        program.connect(server.query)
        with pytest.raises(NoSegment, match="no sample to mark"):
            program.insert_marker("S 1")
        topic.linger = 0
        topic.subscribe(MARKERS)
        topic.connect(server.publish)
        recorder.start()
        recorder.block()
        until(lambda: program.info().next_index == 20)
        marker, n = program.insert_marker("S 1", "Stimulus"), 1
        assert (marker.index, marker.type, marker.injected) == (20, "Stimulus", True)
        while not topic.poll(50):  # a subscription takes a while to get there
            marker, n = program.insert_marker("S 1", "Stimulus"), n + 1
            assert n < 1000
        message = decode(topic.recv())
        assert isinstance(message, Records)
        assert message.records == [marker]
        with pytest.raises(NotStreaming):
            program.insert_marker("S 1", index=3)


def test_by_the_callers_clock(recorder: ScriptedRecorder, join: Callable[[str], Any]) -> None:
    recorder.start()
    writers = [join(kind) for kind in MAKE]
    recorder.blocks(3)
    for client in writers:
        reach(client, 60)
        when = client.time_of(33) + 0.0001
        assert client.insert_marker("seen", time=when).index == client.index_at(when)
        with pytest.raises(ValueError, match="not at both"):
            client.insert_marker("seen", index=3, time=when)


def test_what_cannot_be_marked_is_refused_by_name(recorder: ScriptedRecorder) -> None:
    with hub(recorder.address, "--history", "1s") as server, Client() as client:
        client.connect(server.query)
        recorder.start()
        client.start_streaming()
        recorder.blocks(100)
        reach(client, 2000)
        until(lambda: client.info().first_available >= 900)
        with pytest.raises(Overwritten) as gone:
            client.insert_marker("x", index=3)
        assert gone.value.first_available == client.info().first_available
        assert gone.value.requested == (3, 4)
        with pytest.raises(NotYetAvailable, match="at most 10 s ahead"):
            client.insert_marker("x", index=2000 + 10_001)
        assert client.insert_marker("x", index=2000 + 10_000).index == 12_000
        with pytest.raises(RequestRefused, match="there are 2") as channel:
            client.insert_marker("x", channel=2)
        assert channel.value.code == "BAD_MARKER"
        assert counter(server, "inserted_markers") == 1


def test_an_index_of_a_hub_that_is_gone_is_refused(recorder: ScriptedRecorder, server: Hub) -> None:
    with Client() as client:
        client.connect(server.query)
        recorder.start()
        recorder.block()
        client.start_streaming()
        reach(client, 20)
        assert client.instance
        server.stop()
        recorder.hang_up()
        with hub(recorder.address, name=server.name, query=server.query, publish=server.publish) as second:
            recorder.start()
            recorder.block()
            until(lambda: fetch(second.query, PATIENCE)["next_index"] == 20)
            with pytest.raises(HubRestarted):
                client.insert_marker("x", index=3)
            assert client.insert_marker("x").index == 20
            until(lambda: [each.description for each in client.markers(0, 100)] == ["x"])


def test_a_request_that_is_sent_again_inserts_once(recorder: ScriptedRecorder, server: Hub) -> None:
    """The hub stands still for so long that the client asks again, and then has two of the same to answer."""
    recorder.start()
    recorder.block()
    with Client() as client:
        client.connect(server.query)
        client.start_streaming()
        reach(client, 20)
        asked = counter(server, "requests")
        server.send(signal.SIGSTOP)
        going_on = threading.Timer(1.5, server.send, [signal.SIGCONT])
        going_on.start()
        try:
            marker = client.insert_marker("once", timeout=PATIENCE)
        finally:
            going_on.join()
        until(lambda: counter(server, "requests") > asked + 3)  # both, and two of these questions
        assert counter(server, "inserted_markers") == 1
        assert client.markers(0, 100) == [marker]


def test_a_marker_inserted_between_two_segments_comes_with_the_next(
    recorder: ScriptedRecorder, join: Callable[[str], Any]
) -> None:
    recorder.start()
    client = join("network")
    recorder.block()
    recorder.stop()
    events = client.stream(0, timeout=PATIENCE)
    assert [type(each) for each in islice(events, 3)] == [SegmentStart, Block, SegmentEnd]
    before, after = client.insert_marker("was bad", index=5), client.insert_marker("next run")
    assert (before.index, after.index) == (5, 20)
    recorder.start(3)
    recorder.block()
    start, marked, block = islice(events, 3)
    assert isinstance(start, SegmentStart)
    assert (marked.start, marked.stop, marked.samples.shape) == (20, 20, (0, 3))
    assert marked.markers == (before, after)
    assert (block.start, block.stop, block.markers) == (20, 40, ())


# --- windows ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MAKE)
def test_windows_of_the_past_and_of_what_comes(
    recorder: ScriptedRecorder, join: Callable[[str], Any], kind: str
) -> None:
    stimulus = rda.BlockMarker(4, 1, -1, "Stimulus", "S  1")
    recorder.start()
    recorder.block(markers=(stimulus, rda.BlockMarker(5, 1, -1, "Response", "R  1")))
    recorder.blocks(2)
    client = join(kind)
    reach(client, 60)
    windows = client.windows(-0.004, 0.040, type="Stimulus", start="oldest", timeout=PATIENCE)
    first = next(windows)
    assert (first.marker.index, first.gaps, first.reason) == (4, (), None)
    np.testing.assert_array_equal(first.samples, values(0, 44, 2))
    recorder.block(markers=(stimulus,))  # at 64
    recorder.counter += 2
    recorder.index += 40  # rows 80 to 120 are missing
    sender = threading.Timer(0.1, recorder.block)
    sender.start()
    second = next(windows)
    sender.join()
    assert (second.marker.index, second.start, second.stop) == (64, 60, 104)
    assert second.gaps == (Gap(80, 120, "counter"),)
    np.testing.assert_array_equal(second.samples[:20], values(60, 80, 2))
    assert np.isnan(second.samples[20:]).all()
    late = client.insert_marker("late", "Stimulus", index=30)
    third = next(windows)
    assert (third.marker, third.reason) == (late, None)
    recorder.block(markers=(stimulus,))  # at 144
    recorder.stop()
    last = next(windows)
    assert (last.marker.index, last.samples, last.reason) == (144, None, "segment_end")
    np.testing.assert_array_equal(first.samples, values(0, 44, 2))  # still


@pytest.mark.parametrize("kind", MAKE)
def test_a_window_is_waited_for_and_its_time_out_kept(
    recorder: ScriptedRecorder, join: Callable[[str], Any], kind: str
) -> None:
    recorder.start()
    recorder.block(markers=(rda.BlockMarker(4, 1, -1, "Stimulus", "S  1"),))
    client = join(kind)
    reach(client, 20)
    (marker,) = client.markers(0, 20)
    before = time.monotonic()
    assert client.window(marker, 0, 0.036, timeout=0.3) is None
    assert 0.3 <= time.monotonic() - before < 5
    sender = threading.Timer(0.1, recorder.block)
    sender.start()
    np.testing.assert_array_equal(client.window(marker, 0, 0.036, timeout=PATIENCE), values(4, 40, 2))
    sender.join()
    windows = client.windows(0, 1, start=0, timeout=0.2)
    with pytest.raises(StreamTimeout):
        next(windows)
    recorder.stop()
    until(lambda: client.segments[-1].ended == "stop")
    assert next(windows).reason == "segment_end"


# --- who may ---------------------------------------------------------------------------------------------


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    folder.mkdir()
    for name in ("hub", "anna", "ben"):
        zmq.auth.create_certificates(folder, name)
        (folder / f"{name}.key_secret").chmod(0o600)
    return folder


def test_a_key_in_the_folder_read_only_reads_and_does_not_mark(
    recorder: ScriptedRecorder, keys: Path, tmp_path: Path
) -> None:
    allowed = tmp_path / "allowed"
    inner = allowed / "read-only"
    inner.mkdir(parents=True)
    shutil.copy(keys / "anna.key", allowed)
    shutil.copy(keys / "ben.key", inner)
    guard = ["--curve-key", str(keys / "hub.key_secret"), "--curve-clients", str(allowed)]

    def client(name: str) -> Client:
        return Client(curve_key=keys / f"{name}.key_secret", server_key=keys / "hub.key")

    def may(client: Client) -> bool:
        try:
            client.insert_marker("x")
        except ReadOnly:
            return False
        return True

    with hub(recorder.address, *guard) as server, client("anna") as anna, client("ben") as ben:
        for each in (anna, ben):
            each.connect(server.query)
        recorder.start()
        recorder.block()
        ben.start_streaming()
        np.testing.assert_array_equal(ben.wait(0, 20, timeout=PATIENCE), values(0, 20, 2))
        assert may(anna)
        with pytest.raises(ReadOnly, match="folder read-only") as caught:
            ben.insert_marker("x")
        assert caught.value.code == "READ_ONLY"
        until(lambda: len(ben.markers(0, 100)) == 1)
        # A move of the file is enough, both ways, and nobody has to come in again.
        (inner / "ben.key").rename(allowed / "ben.key")
        until(lambda: may(ben))
        (allowed / "anna.key").rename(inner / "anna.key")
        until(lambda: not may(anna))
        shutil.copy(allowed / "ben.key", inner)  # in both: the stricter holds
        until(lambda: not may(ben))
        (inner / "ben.key").unlink()
        until(lambda: may(ben))
        with LocalClient(server.name) as local:
            assert local.insert_marker("local").injected
        assert "taken off the list" not in server.stderr
        assert ben.state != "unreachable"
        (inner / "anna.key").unlink()
        server.wait_for("taken off the list", "stderr")
