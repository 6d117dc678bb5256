"""`get_data`, `wait`, `poll`, `read` and `stream` against a real hub, and what they do when things change."""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from on_a_loop import OnALoop
from processes import Hub, hub, leftovers, simulator, unique_name
from rdahub import rda
from rdahub_client import (
    Block,
    Client,
    Gap,
    HubLost,
    HubRestarted,
    HubUnreachable,
    LocalClient,
    NotYetAvailable,
    Overwritten,
    RdaHubError,
    SegmentChanged,
    SegmentEnd,
    SegmentStart,
    SharedMemoryError,
    StartTimeout,
    StreamTimeout,
)
from rdahub_client.compat import Client as OldClient
from rdahub_client.records import Float32
from rdahub_client.shared import default_directory
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


@pytest.fixture(params=MAKE)
def client(request: pytest.FixtureRequest, server: Hub) -> Iterator[Reader]:
    with MAKE[request.param](server) as made:
        if not isinstance(made, LocalClient):
            made.connect(server.query)
        yield made


def reach(client: Reader, index: int) -> None:
    """Until the client has samples up to an index."""
    assert client.wait(index - 1, index, timeout=30) is not None


def test_wait_returns_with_the_block_that_completes_the_range(
    recorder: ScriptedRecorder, client: Reader
) -> None:
    recorder.start()
    client.start_streaming()
    sender = threading.Thread(target=recorder.blocks, args=(5,))
    sender.start()
    data = client.wait(35, 100, timeout=30)  # nothing is sent after sample 99: it must not need another block
    sender.join()
    assert data is not None
    np.testing.assert_array_equal(data, values(35, 100, 2))


def test_wait_and_poll_keep_their_time_out(recorder: ScriptedRecorder, client: Reader) -> None:
    recorder.start()
    recorder.block()
    client.start_streaming()
    reach(client, 20)
    calls: list[Callable[[], Float32 | None]] = [
        lambda: client.wait(20, 40, timeout=0.3),
        lambda: client.poll(5, timeout=0.3),
    ]
    for call in calls:
        before = time.monotonic()
        assert call() is None
        assert 0.3 <= time.monotonic() - before < 5  # the upper bound only tells a hang from a return


def test_poll_gives_the_newest_after_the_next_block_and_none_if_there_are_fewer(
    recorder: ScriptedRecorder, client: Reader
) -> None:
    recorder.start()
    recorder.block()
    client.start_streaming()
    reach(client, 20)
    done = threading.Event()

    def send() -> None:
        while not done.wait(0.02):  # the Recorder's own pace
            recorder.block()

    sender = threading.Thread(target=send)
    sender.start()
    try:
        data = client.poll(30, timeout=30)
        last = client._timeline.next_index
        none = client.poll(10**6, timeout=30)
    finally:
        done.set()
        sender.join()
    assert data is not None
    np.testing.assert_array_equal(data, values(last - 30, last, 2))
    assert none is None


def test_segments_end_and_begin_and_nothing_hangs_or_mixes(
    recorder: ScriptedRecorder, client: Reader
) -> None:
    recorder.start()
    recorder.block()
    client.start_streaming()
    events = client.stream("oldest", timeout=30)
    assert isinstance(next(events), SegmentStart)
    assert isinstance(next(events), Block)
    waited: list[object] = []
    recorder.block()
    recorder.stop()
    waited.append(client.wait(30, 60, timeout=30))  # can never come: the segment ended at 40
    recorder.start()  # the same layout
    recorder.block()
    reach(client, 60)
    waited.append(client.get_data(30, 50))
    assert waited == [None, None]
    np.testing.assert_array_equal(client.read(0, 40), values(0, 40, 2))
    np.testing.assert_array_equal(client.read(40, 60), values(40, 60, 2))
    with pytest.raises(SegmentChanged):
        client.read(39, 41)
    recorder.start(n_channels=5)  # another, without a stop
    recorder.block()
    reach(client, 80)
    np.testing.assert_array_equal(client.read(60, 80), values(60, 80, 5))
    assert client.start_msg is not None
    assert client.start_msg.n_channels == 5
    assert [segment.ended for segment in client.segments][-3:] == ["stop", "restart", None]
    np.testing.assert_array_equal(client.read(0, 40), values(0, 40, 2))  # a layout takes nothing away
    told = []
    for event in events:
        told.append(event)
        if isinstance(event, Block) and event.stop == 80:
            break
    assert [type(event) for event in told if not isinstance(event, Block)].count(SegmentEnd) == 2
    spans = [(event.start, event.stop) for event in told if isinstance(event, Block | Gap)]
    assert spans[0][0] == 20
    assert all(before[1] == after[0] for before, after in pairwise(spans))


def test_a_recorder_that_hangs_up_ends_the_segment_as_lost_and_is_found_again(
    recorder: ScriptedRecorder, client: Reader
) -> None:
    recorder.start()
    recorder.block()
    client.start_streaming()
    reach(client, 20)
    recorder.hang_up()
    recorder.start()
    recorder.block()
    reach(client, 40)
    assert [segment.ended for segment in client.segments] == ["lost", None]


def test_a_gap_reads_as_nan_and_streams_as_a_gap(recorder: ScriptedRecorder, client: Reader) -> None:
    recorder.start()
    for _ in range(3):
        recorder.block()
    recorder.counter += 2
    recorder.index += 40
    recorder.block()
    client.start_streaming()
    reach(client, 120)
    data = client.read(0, 120)
    assert np.isnan(data[60:100]).all()
    np.testing.assert_array_equal(data[100:], values(100, 120, 2))
    assert client.gaps(0, 120) == [Gap(60, 100, "counter")]
    kinds = [(type(e).__name__, getattr(e, "start", None)) for e in islice(client.stream(0), 4)]
    assert kinds == [("SegmentStart", None), ("Block", 0), ("Gap", 60), ("Block", 100)]


def test_a_protocol_error_closes_says_why_and_begins_again(recorder: ScriptedRecorder, server: Hub) -> None:
    recorder.start()
    recorder.block()
    recorder.connection.sendall(b"\0" * 64)
    line = server.wait_for(r"not RDA: at byte (\d+): (.*)", "stderr")
    assert int(line[1]) > 0
    recorder.hang_up()
    recorder.start()
    recorder.block()
    with Client() as client:
        client.connect(server.query)
        client.start_streaming()
        reach(client, 40)
        assert client.segments[0].ended == "lost"


def test_units_of_the_recorders_info_reach_the_client(recorder: ScriptedRecorder, client: Reader) -> None:
    recorder.send(rda.Info(2.0, 1000.0, (1.0, 1.0), ("a", "b"), ("µV", "mm")))
    recorder.start()
    client.start_streaming()
    assert client.start_msg is not None
    assert client.start_msg.units == ("µV", "mm")


def test_ranges_across_the_wrap_and_longer_than_a_page_are_exact() -> None:
    flags = ["--channels", "64", "--speed", "0", "--seconds", "37"]
    with (  # noqa: SIM117 - the readers end before the hub
        simulator(*flags) as fast,
        hub(fast.rda, "--history", "10s") as server,
    ):
        with Client(buffer_size=5000) as client, LocalClient(server.name) as local:
            client.connect(server.query)
            for reader in (client, local):
                reader.start_streaming()
                while (segment := reader.start_msg) is None or segment.stop is None:
                    reader.wait(10**9, 10**9 + 1, timeout=0.1)
                assert segment.stop == 37_000
                with pytest.raises(Overwritten) as gone:
                    reader.read(0, 10)
                first = gone.value.first_available
                assert first is not None
                assert 37_000 - 11_000 < first <= 27_000
                rng = np.random.default_rng(3)
                ranges = [(first, 37_000), (36_999, 37_000)]
                ranges += [tuple(sorted(rng.integers(first, 37_001, 2))) for _ in range(100)]
                for start, stop in ranges:
                    data = reader.read(start, stop)
                    assert data.shape == (stop - start, 64)
                    np.testing.assert_array_equal(data[:, 0], np.arange(start, stop))
                with pytest.raises(Overwritten):
                    reader.read(first - 1, first + 100)
                with pytest.raises(SegmentChanged):
                    reader.read(36_990, 37_001)
                with pytest.raises(NotYetAvailable):
                    reader.read(37_000, 37_001)


def test_a_stream_without_events_times_out_and_a_hub_without_segment_too(
    recorder: ScriptedRecorder, client: Reader
) -> None:
    with pytest.raises(StartTimeout, match="not started"):
        client.start_streaming(timeout=0.3)
    recorder.start()
    client.start_streaming(timeout=30)
    events = client.stream(timeout=0.3)
    assert isinstance(next(events), SegmentStart)
    with pytest.raises(StreamTimeout):
        next(events)


def test_no_hub_is_said_within_the_time_out() -> None:
    with Client() as client:
        before = time.monotonic()
        with pytest.raises(HubUnreachable, match=r"127\.0\.0\.1:9"):
            client.connect("127.0.0.1:9", timeout=0.5)
        assert time.monotonic() - before < 5
    with pytest.raises(SharedMemoryError, match="no hub named"):
        LocalClient(unique_name())


@pytest.mark.parametrize("kind", ["network", "local"])
def test_a_killed_hub_that_returns_is_a_new_instance_and_leaves_nothing(
    recorder: ScriptedRecorder, kind: str
) -> None:
    name = unique_name()
    first = Hub(recorder.address, name=name)
    try:
        with Client() if kind == "network" else LocalClient(name) as client:
            if isinstance(client, Client):
                client.connect(first.query)
            recorder.start()
            client.start_streaming()
            recorder.block()
            reach(client, 20)
            old = client.instance
            first.close()  # SIGKILL
            assert leftovers(name) != []
            kept = client.get_data(0, 20)
            assert kept is not None
            np.testing.assert_array_equal(kept, values(0, 20, 2))
            recorder.hang_up()
            with hub(recorder.address, name=name, query=first.query, publish=first.publish):
                recorder.index = 0
                recorder.start(n_channels=3)
                recorder.block()
                deadline = time.monotonic() + 30
                while client.instance == old and time.monotonic() < deadline:
                    client.poll(1, timeout=0.5)
                    recorder.block()
                assert client.instance != old
                data = client.wait(0, 20, timeout=30)
                assert data is not None
                np.testing.assert_array_equal(data, values(0, 20, 3))
        assert leftovers(name) == []
    finally:
        first.close()


def test_a_program_that_only_looks_notices_a_silent_hub_and_its_return(
    recorder: ScriptedRecorder, server: Hub, client: Reader
) -> None:
    recorder.start()
    client.start_streaming()
    recorder.block()
    reach(client, 20)
    server.send(signal.SIGSTOP)
    while client.state != "unreachable":
        assert client.last_sample == 20
    kept = client.get_data(0, 20)
    assert kept is not None
    np.testing.assert_array_equal(kept, values(0, 20, 2))
    recorder.block()
    server.send(signal.SIGCONT)
    while client.last_sample < 40:
        pass
    while client.state != "streaming":  # for a moment it is what it was when the hub stood still: stalled
        recorder.block()
    np.testing.assert_array_equal(client.read(0, 40), values(0, 40, 2))


def test_a_hub_that_comes_back_on_other_ports_of_publishing_is_found(recorder: ScriptedRecorder) -> None:
    first = Hub(recorder.address)
    with Client() as client:
        try:
            client.connect(first.query)
            recorder.start()
            client.start_streaming()
            recorder.block()
            reach(client, 20)
        finally:
            first.close()
        recorder.hang_up()
        with hub(recorder.address, query=first.query) as second:
            assert second.publish != first.publish
            recorder.start(n_channels=3)
            recorder.block()
            with pytest.raises(HubRestarted):
                _read_for_ever(client)
            assert client.wait(0, 20, timeout=30) is not None
            assert client.segments[-1].n_channels == 3


def test_subscribers_that_come_and_go_while_segments_change_do_not_disturb_the_hub(
    recorder: ScriptedRecorder,
) -> None:
    # Changing a limit of the publish socket under such a storm once killed the hub inside libzmq (SEGV).
    over = threading.Event()

    def come_and_go(publish: str) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        while not over.is_set():
            with context.socket(zmq.SUB) as subscriber:
                subscriber.linger = 0
                subscriber.subscribe(b"")
                subscriber.connect(publish)
                subscriber.poll(2)  # long enough to be let in, short enough to leave at any moment
        context.term()

    with hub(recorder.address, "--history", "1s") as server:
        crowd = [threading.Thread(target=come_and_go, args=(server.publish,)) for _ in range(4)]
        for one in crowd:
            one.start()
        try:
            for k in range(300):
                recorder.start(n_channels=2 + k % 2 * 62)
                recorder.block()
            with Client() as client:
                client.connect(server.query)
                client.start_streaming()
                reach(client, 300 * 20)
        finally:
            over.set()
            for one in crowd:
                one.join()


def _read_for_ever(client: Client) -> None:
    while True:
        client.wait(10**6, 10**6 + 1, timeout=0.1)
        client.get_data(0, 20)
        client.read(0, 20)


def test_a_local_reader_in_a_hurry_never_sees_another_hub_under_old_indices(
    recorder: ScriptedRecorder,
) -> None:
    name = unique_name()
    first = Hub(recorder.address, name=name)
    try:
        with LocalClient(name) as client:
            recorder.start()
            client.start_streaming()
            recorder.blocks(5)
            reach(client, 100)
            first.close()
            recorder.hang_up()
            with hub(recorder.address, name=name):
                recorder.index = 5000
                recorder.start()
                recorder.blocks(3)
                deadline = time.monotonic() + 30
                while True:  # time-outs far too short for a question to be answered in
                    client.wait(10**9, 10**9 + 1, timeout=0.0005)
                    data = client.get_data(40, 60)
                    assert data is None or data[0, 0] == 40
                    try:
                        client.read(40, 60)
                    except HubRestarted:
                        break
                    except RdaHubError:
                        pass
                    assert time.monotonic() < deadline
                np.testing.assert_array_equal(client.read(40, 60), values(5040, 5060, 2))
    finally:
        first.close()


def test_what_is_no_hub_is_said_within_the_time_out(recorder: ScriptedRecorder, server: Hub) -> None:
    for address in (recorder.address, server.publish):
        with Client() as client:
            before = time.monotonic()
            with pytest.raises(HubUnreachable):
                client.connect(address, timeout=0.5)
            assert time.monotonic() - before < 10


def test_time_outs_hold_while_data_come_faster_than_they_can_be_taken_in() -> None:
    with simulator("--channels", "2", "--speed", "0") as fast, hub(fast.rda, "--history", "5s") as server:
        for client in (Client(), LocalClient(server.name)):
            with client:
                if isinstance(client, Client):
                    client.connect(server.query)
                client.start_streaming(timeout=30)
                for _ in range(3):
                    before = time.monotonic()
                    client.poll(5, timeout=1)
                    assert time.monotonic() - before < 10


@pytest.mark.skipif(sys.platform != "linux", reason="abstract socket names are Linux's")
def test_a_hello_from_a_stranger_is_ignored(recorder: ScriptedRecorder, server: Hub) -> None:
    recorder.start()
    bell = str(default_directory() / f"rdahub-{server.name}.bell")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        stranger.bind(b"\0rdahub-test")
        stranger.sendto(b"hello", bell)
    recorder.block()
    with LocalClient(server.name) as client:
        client.start_streaming()
        reach(client, 20)


def test_a_ring_file_that_a_cleaner_removed_does_not_end_the_hub(
    recorder: ScriptedRecorder, server: Hub
) -> None:
    recorder.start()
    recorder.block()
    with Client() as client:
        client.connect(server.query)
        client.start_streaming()
        reach(client, 20)
        for ring in default_directory().glob(f"rdahub-{server.name}.ring-*"):
            ring.unlink()
        recorder.start(n_channels=3)
        recorder.block()
        reach(client, 40)


def test_a_reader_on_the_machine_has_the_last_samples_of_a_hub_that_ends(recorder: ScriptedRecorder) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(hub(recorder.address))
        client = stack.enter_context(LocalClient(server.name))
        recorder.start()
        client.start_streaming()
        recorder.blocks(5)
        reach(client, 100)
        server.send(signal.SIGTERM)
        events = client.stream(0, timeout=10)
        kinds: list[type] = []
        while not kinds or kinds[-1] is not SegmentEnd:
            kinds.append(type(next(events)))
        np.testing.assert_array_equal(client.read(0, 100), values(0, 100, 2))


def test_a_hub_that_says_goodbye_is_gone_and_read_says_so(recorder: ScriptedRecorder) -> None:
    with Client() as client:
        with hub(recorder.address) as server:
            client.connect(server.query)
            recorder.start()
            client.start_streaming()
            recorder.block()
            reach(client, 20)
        np.testing.assert_array_equal(client.read(0, 20), values(0, 20, 2))
        with pytest.raises(HubLost, match="ended"):
            client.read(20, 21)


def test_an_old_script_runs_with_its_own_names(
    recorder: ScriptedRecorder, server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    client = OldClient(buffer_size=1000, buffer_window=50)
    host, _, port = server.query.removeprefix("tcp://").rpartition(":")
    recorder.start()
    recorder.block()
    client.connect((host, int(port)))
    assert not client.is_streaming
    client.start_streaming(timeout=10)
    streaming: bool = client.is_streaming
    assert streaming
    assert (client.buffer_size, client.buffer_window, client.data_dtype) == (1000, 50, "float32")
    message = client.start_msg
    assert message is not None
    assert (message.nChannels, message.dSamplingInterval) == (2, 1000.0)
    assert list(np.frombuffer(message.dResolutions, np.double)) == [1.0, 1.0]
    assert "".join(chr(byte) for byte in message.sChannelNames).split("\0") == ["C0", "C1", ""]
    recorder.block()
    waited = client.wait(sampleStart=30, sampleEnd=40, timeout=30, sleep=0.001)
    assert waited is not None
    np.testing.assert_array_equal(waited, values(30, 40, 2))
    data = client.get_data(sampleStart=0, sampleEnd=40)
    assert data is not None
    assert client.last_sample == 40
    recorder.stop()
    assert client.poll(nSamples=5, timeout=0.5, sleep=0.001) is None
    streaming_after_the_stop: bool = client.is_streaming
    assert not streaming_after_the_stop
    client.stop_streaming(write_timelog=True)
    assert len(np.load("streamer_timelog.npy")) in {1, 2}  # of the blocks that came live
    client.disconnect()
    np.testing.assert_array_equal(client.get_data(20, 40), values(20, 40, 2))
