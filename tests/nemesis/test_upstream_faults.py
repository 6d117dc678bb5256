"""What the hub makes of a Recorder, or a network before it, that misbehaves.

Rule: a real hub process; the fault is real, made by the proxy or by a server that sends what the test says.
Each test holds every sample that a reader gets against what was sent: missing ones end a segment or are a
gap, no other value ever stands in for them. Where RDA cannot tell (it has no checksum), the test says so.
Not here: faults between hub and clients, a network that loses packets of TCP itself.
"""

from __future__ import annotations

import contextlib
import json
import re
import selectors
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
from proxy import PATIENCE, Proxy, poll

from processes import Child, Hub, Simulator, hub
from rdahub import rda
from rdahub_client import Block, Client, Gap, SegmentEnd, SegmentStart
from rdahub_client.records import Event
from rdahub_client.wire import StatsRequest, decode_reply, encode_request
from scripted import ScriptedRecorder, values

RST = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s
Sent = tuple[int, int, str | None]  # value of the first sample, number of samples, why the segment ended


class Recorder(ScriptedRecorder):
    """Counts the bytes of a connection, sends parts of messages, and ends as told."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = 0
        self.port: int = self.server.getsockname()[1]

    def send_bytes(self, data: bytes) -> None:
        self.connection.sendall(data)
        self.sent += len(data)

    def send(self, message: rda.Message) -> None:
        self.send_bytes(rda.encode(message))

    def hang_up(self, reset: bool = False) -> None:
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
        super().hang_up()
        self.sent = 0

    def next_block(self, n: int = 20) -> bytes:
        """The bytes that `block` would send, not sent."""
        return rda.encode(rda.Data(self.counter + 1, values(self.index, self.index + n, self.n_channels)))

    def await_end(self) -> None:
        """Until the hub has closed the connection."""
        self.connection.settimeout(PATIENCE)
        with contextlib.suppress(ConnectionResetError):  # it had not read all
            assert self.connection.recv(1) == b""
        self.hang_up()


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    scripted = Recorder()
    yield scripted
    scripted.close()


@pytest.fixture
def proxy(recorder: Recorder) -> Iterator[Proxy]:
    with Proxy(("127.0.0.1", recorder.port)) as running:
        yield running


@pytest.fixture
def server(proxy: Proxy) -> Iterator[Hub]:
    with hub(proxy.address) as running:
        yield running


@contextlib.contextmanager
def following(server: Hub) -> Iterator[tuple[Client, Iterator[Event]]]:
    """A client that streams from the beginning; a segment is known."""
    with Client() as client:
        client.connect(server.query)
        client.start_streaming(timeout=PATIENCE)
        yield client, client.stream("oldest", timeout=PATIENCE)


def status(server: Hub) -> dict[str, Any]:
    """What ``rdahub status --json`` says, and that its exit code agrees."""
    child = Child("status", server.query, "--json")
    try:
        code = child.finish()
        assert child.stdout, child.stderr
        told: dict[str, Any] = json.loads(child.stdout)
    finally:
        child.close()
    assert code == (0 if told["state"] == "streaming" else 1)
    return told


def peek(server: Hub, seconds: float = PATIENCE) -> dict[str, Any]:
    """The same, sooner: for polling."""
    with zmq.Context() as context, context.socket(zmq.REQ) as query:
        query.linger = 0
        query.connect(server.query)
        query.send(encode_request(StatsRequest(), 1))
        assert query.poll(int(seconds * 1000)), "the hub does not answer"
        return dict(decode_reply(query.recv()).header)


def log_of(server: Hub) -> str:
    """What it has logged so far."""
    while server._selector.select(0) and server._read(0):
        pass
    return server.stderr


def await_state(server: Hub, state: str) -> None:
    poll(lambda: peek(server)["state"] == state, f"state {state}")


def await_samples(server: Hub, n: int) -> None:
    poll(lambda: peek(server)["counters"]["samples"] >= n, f"{n} samples")


def follow(events: Iterator[Event], sent: list[Sent], n_channels: int = 2) -> None:
    """Events tell exactly these segments, sample by sample; the last may be open."""
    index = 0
    for first, count, reason in sent:
        start = next(events)
        assert isinstance(start, SegmentStart), start
        assert start.segment.start == index
        stop = index + count
        while index < stop:
            block = next(events)
            assert isinstance(block, Block), (block, index, stop)
            assert block.start == index
            offset = first - (stop - count)
            expected = values(block.start + offset, block.stop + offset, n_channels)
            np.testing.assert_array_equal(block.samples, expected)
            index = block.stop
        assert index == stop
        if reason is not None:
            end = next(events)
            assert isinstance(end, SegmentEnd), end
            assert (end.reason, end.segment.stop) == (reason, stop)


def test_a_lost_recorder_ends_the_segment_and_is_found_again(
    recorder: Recorder, proxy: Proxy, server: Hub
) -> None:
    recorder.start()
    recorder.block()
    sent: list[Sent] = []
    with following(server) as (client, events):
        for inside in (False, True):
            for reset in (False, True):
                first = recorder.index - 20
                recorder.block()
                await_samples(server, 40 * (len(sent) + 1))
                if inside:
                    whole = recorder.next_block()
                    proxy.from_upstream.cut(after=len(whole) // 2, reset=reset)
                    recorder.send_bytes(whole)
                    recorder.index += 20  # half a block is none: these 20 never had an index
                    recorder.await_end()
                else:
                    recorder.hang_up(reset=reset)
                sent.append((first, 40, "lost"))
                recorder.start()
                recorder.block()
        recorder.stop()
        follow(events, [*sent, (recorder.index - 20, 20, "stop")])
        assert client.state == "idle"
    told = status(server)
    assert told["state"] == "idle"
    assert told["recorder"]["error"] == ""
    assert (told["counters"]["reconnects"], told["counters"]["protocol_errors"]) == (4, 0)
    assert proxy.connections == 5
    lost = re.findall(r"lost the Recorder at \S+: (.*); connecting again", log_of(server))
    assert len(lost) == 4
    assert lost[0] == "it closed the connection"
    assert "reset" in lost[1]
    assert re.search(r"inside a message .*at byte \d+.*bytes missing", lost[2])
    assert "reset" in lost[3]


def test_silence_while_acquiring_is_a_stall_that_everyone_sees(recorder: Recorder, server: Hub) -> None:
    await_state(server, "idle")  # connected, and nothing comes: not acquiring
    assert status(server)["state"] == "idle"
    recorder.start()
    recorder.block()
    measured = []
    with following(server) as (client, events):
        for rows, patience in ((20, 2.0), (600, 3.0)):  # max(2 s, 5 block periods) at 1 kHz
            if rows == 600:
                recorder.stop()
                recorder.start()
            before = time.monotonic()
            recorder.block(rows)
            await_state(server, "streaming")
            poll(lambda: client.state == "streaming", "the stall before is over")
            poll(lambda: client.state == "stalled", "a client sees the stall")
            measured.append(round(time.monotonic() - before, 2))
            told = status(server)
            assert told["state"] == "stalled"
            assert told["ages"]["block"] > patience
            assert patience < measured[-1] < patience + 1.5  # a heartbeat is 0.5 s, the rest a busy machine's
        before_block = recorder.index
        recorder.block(600)
        poll(lambda: client.state == "streaming", "the stall is over")
        follow(events, [(0, 40, "stop"), (40, before_block + 600 - 40, None)])
        assert peek(server)["counters"]["reconnects"] == 0
    print("noticed by the client after", measured, "s")


def test_a_half_open_connection_stalls_and_brings_everything_when_it_heals(
    recorder: Recorder, proxy: Proxy, server: Hub
) -> None:
    recorder.start()
    recorder.block()
    with following(server) as (client, events):
        await_samples(server, 20)
        proxy.hold()
        recorder.blocks(50)
        poll(lambda: client.state == "stalled", "a client sees the stall")
        assert client.last_sample == 20
        assert status(server)["state"] == "stalled"
        proxy.heal()
        follow(events, [(0, 1020, None)])
        assert client.state == "streaming"
    told = status(server)
    assert (told["counters"]["reconnects"], told["counters"]["samples"], told["gaps"]) == (0, 1020, [])
    assert proxy.connections == 1


def _message(kind: int, body: bytes, size: int | None = None, guid: bytes = rda.GUID) -> bytes:
    return guid + struct.pack("<II", 24 + len(body) if size is None else size, kind) + body


_ROWS = np.zeros((20, 2), "<f4").tobytes()
GARBAGE: dict[str, tuple[bytes, int, str]] = {  # bytes, where in them the wrong field is, words of the log
    "a wrong GUID": (_message(4, _ROWS, guid=bytes(16)), 0, "GUID is 00000000"),
    "size 23": (_message(4, _ROWS, size=23), 16, "message size is 23 bytes"),
    "size 0": (_message(4, _ROWS, size=0), 16, "message size is 0 bytes"),
    "size 0xFFFFFFFF": (_message(4, _ROWS, size=0xFFFFFFFF), 16, "message size is 4294967295 bytes"),
    "more rows than bytes": (
        _message(4, struct.pack("<III", 2, 21, 0) + _ROWS),
        28,
        "21 points of 2 channels",
    ),
    "2^32-1 rows": (_message(4, struct.pack("<III", 2, 2**32 - 1, 0) + _ROWS), 28, "4294967295 points"),
    "a marker too many": (_message(4, struct.pack("<III", 2, 20, 1) + _ROWS), 32, "1 markers need"),
    "2^32-1 markers": (_message(4, struct.pack("<III", 2, 20, 2**32 - 1) + _ROWS), 32, "4294967295 markers"),
    "no channels": (_message(1, struct.pack("<Id", 0, 1000.0)), 24, "START has 0 channels"),
    "2^32-1 channels": (_message(1, struct.pack("<Id", 2**32 - 1, 1000.0)), 24, "4294967295 channels"),
    "an interval that is none": (_message(1, struct.pack("<Idd", 1, np.nan, 1.0) + b"a\0"), 28, "nan"),
    "names without end": (_message(1, struct.pack("<Idd", 1, 1000.0, 1.0) + b"abc"), 44, "NUL-ended"),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_bytes_that_are_not_rda_are_refused_by_name_and_place_and_cost_no_memory(
    recorder: Recorder, server: Hub, name: str
) -> None:
    data, at, words = GARBAGE[name]
    recorder.start()
    recorder.block()
    with following(server) as (_, events):
        before = _peak_mib(server)
        offset = recorder.sent + at
        recorder.send_bytes(data)
        line = server.wait_for(rf"not RDA: at byte (\d+): .*{re.escape(words)}", "stderr")
        assert int(line[1]) == offset
        recorder.await_end()
        recorder.start()
        recorder.block()
        follow(events, [(0, 20, "lost"), (20, 20, None)])
        assert _peak_mib(server) - before < 8
    told = status(server)
    assert (told["counters"]["protocol_errors"], told["counters"]["reconnects"]) == (1, 1)
    assert told["counters"]["samples"] == recorder.index


def test_a_size_of_which_little_comes_costs_what_came(recorder: Recorder, server: Hub) -> None:
    recorder.start()
    recorder.block()
    with following(server) as (_, events):
        before = _peak_mib(server)
        recorder.send_bytes(_message(4, struct.pack("<III", 2, 2**22, 0), size=2**26))
        recorder.hang_up()
        server.wait_for(r"inside a message .* bytes missing", "stderr")
        recorder.start()
        recorder.block()
        follow(events, [(0, 20, "lost"), (20, 20, None)])
        assert _peak_mib(server) - before < 8


def test_data_before_a_start_have_no_layout_and_are_refused(recorder: Recorder, server: Hub) -> None:
    recorder.send(rda.Data(1, values(0, 20, 2)))
    line = server.wait_for(r"not RDA: at byte (\d+): data .* before any START", "stderr")
    assert int(line[1]) == 20
    recorder.await_end()
    recorder.start()
    recorder.block()
    with following(server) as (_, events):
        follow(events, [(recorder.index - 20, 20, None)])


def _peak_mib(server: Hub) -> float:
    if sys.platform != "linux":
        return 0.0
    text = Path(f"/proc/{server.process.pid}/status").read_text()
    match = re.search(r"VmHWM:\s+(\d+) kB", text)
    assert match is not None
    return round(int(match[1]) / 1024, 1)


def test_one_byte_at_a_time_is_the_same_recording(recorder: Recorder, proxy: Proxy, server: Hub) -> None:
    proxy.from_upstream.pieces = 1
    marker = rda.BlockMarker(3, 1, -1, "Stimulus", "S  1")
    recorder.start()
    for _ in range(20):
        recorder.block(markers=(marker,))
    recorder.stop()
    with following(server) as (client, events):
        follow(events, [(0, 400, "stop")])
        assert [m.index for m in client.markers(0, 400)] == list(range(3, 400, 20))
    told = status(server)
    assert (told["counters"]["blocks"], told["counters"]["protocol_errors"]) == (20, 0)


def test_a_corrupt_header_is_found_where_it_is_and_nothing_behind_it_is_believed(
    recorder: Recorder, proxy: Proxy, server: Hub
) -> None:
    recorder.start()
    recorder.block()
    with following(server) as (_, events):
        await_samples(server, 20)
        offset = recorder.sent + len(recorder.next_block())
        proxy.from_upstream.corrupt(len(recorder.next_block()) + 5, mask=0x10)
        recorder.blocks(3)  # of these the first is good
        line = server.wait_for(r"not RDA: at byte (\d+): GUID", "stderr")
        assert int(line[1]) == offset
        recorder.await_end()
        recorder.start()
        recorder.block()
        follow(events, [(0, 40, "lost"), (80, 20, None)])
    assert status(server)["counters"]["protocol_errors"] == 1


def test_a_corrupt_counter_shifts_nothing_without_saying_so(
    recorder: Recorder, proxy: Proxy, server: Hub
) -> None:
    recorder.start()
    recorder.blocks(3)
    with following(server) as (client, events):
        await_samples(server, 60)
        proxy.from_upstream.corrupt(24, mask=0x08)  # block 4 says it is 12: 8 seem missing
        recorder.blocks(2)
        assert isinstance(next(events), SegmentStart)
        told: list[Event] = []
        while sum(e.stop - e.start for e in told if isinstance(e, Block)) < 100:
            told.append(next(events))
        got = np.concatenate([e.samples for e in told if isinstance(e, Block)])
        np.testing.assert_array_equal(got, values(0, 100, 2))
        assert [e for e in told if isinstance(e, Gap)] == [Gap(60, 220, "counter")]
        # 5 after 12 cannot be: what follows is a segment of its own.
        assert [e.reason for e in told if isinstance(e, SegmentEnd)] == ["counter"]
        assert client.segments[-1].start == 240


def test_a_corrupt_sample_passes_as_rda_has_no_checksum_and_harms_no_other(
    recorder: Recorder, proxy: Proxy, server: Hub
) -> None:
    recorder.start()
    recorder.block()
    await_samples(server, 20)
    proxy.from_upstream.corrupt(36 + 8 * 7 + 3, mask=0x80)  # the sign of sample 27, channel 0
    recorder.blocks(2)
    with following(server) as (client, _):
        data = client.wait(0, 60, timeout=PATIENCE)
        assert data is not None
        expected = values(0, 60, 2)
        expected[27, 0] *= -1
        np.testing.assert_array_equal(data, expected)


def test_a_count_that_leaves_rows_over_ends_the_segment(recorder: Recorder, server: Hub) -> None:
    recorder.start()
    recorder.blocks(2)
    data = bytearray(recorder.next_block())
    data[28] = 16  # 16 of 20 rows; 4 rows are "left over"
    recorder.send_bytes(bytes(data))
    recorder.index += 20
    recorder.counter += 1
    with contextlib.suppress(OSError):
        recorder.block()
    with following(server) as (_, events):
        next(events)
        told: list[Event] = []
        while not any(isinstance(event, Gap | SegmentEnd) for event in told):
            told.append(next(events))
            if isinstance(told[-1], Block) and told[-1].stop == 76:
                break
        assert any(isinstance(event, Gap | SegmentEnd) for event in told)


def test_bytes_lost_on_the_way_are_noticed_at_the_next_header(
    recorder: Recorder, proxy: Proxy, server: Hub
) -> None:
    recorder.start()
    recorder.blocks(2)
    with following(server) as (client, events):
        await_samples(server, 40)
        # A broken middle box takes 8 bytes (a row) out of a block. RDA has no checksum: that block is
        # completed by the next one's first bytes, and only then it shows.
        proxy.from_upstream.drop(8, after=36 + 8 * 10)
        recorder.blocks(2)
        server.wait_for(r"not RDA: at byte \d+: GUID", "stderr")
        recorder.await_end()
        recorder.start()
        recorder.block()
        start = next(events)
        assert isinstance(start, SegmentStart)
        np.testing.assert_array_equal(client.wait(0, 50, timeout=PATIENCE), values(0, 50, 2))
        assert client.segments[0].stop == 60
        assert client.segments[0].ended == "lost"
        np.testing.assert_array_equal(client.wait(60, 80, timeout=PATIENCE), values(80, 100, 2))
    assert status(server)["counters"]["protocol_errors"] == 1


def test_a_recorder_that_starts_late_is_killed_and_starts_again_is_found_each_time() -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    with hub(f"127.0.0.1:{port}") as server:
        server.wait_for(r"cannot reach the Recorder .*refused; trying on", "stderr")
        told = status(server)
        assert told["state"] == "disconnected"
        assert "refused" in told["recorder"]["error"]
        index = 0
        with Client() as client:
            client.connect(server.query)
            for number in range(2):
                simulator = Simulator("--channels", "3", "--rate", "1000", port=port)
                try:
                    if number == 0:
                        client.start_streaming(timeout=PATIENCE)
                        events = client.stream("oldest", timeout=PATIENCE)
                    start = next(events)
                    assert isinstance(start, SegmentStart)
                    assert (start.segment.number, start.segment.start) == (number, index)
                    first, beginning = None, index
                    while index < beginning + 500:
                        index, first = _check_counting(next(events), index, first)
                finally:
                    simulator.process.kill()
                    simulator.close()
                while isinstance(event := next(events), Block):
                    index, first = _check_counting(event, index, first)
                assert isinstance(event, SegmentEnd)
                assert (event.reason, event.segment.stop) == ("lost", index)
                poll(lambda: client.state == "disconnected", "the client sees that the Recorder is gone")
        told = status(server)
        assert told["state"] == "disconnected"
        assert told["counters"]["samples"] == told["next_index"] == index
        assert told["counters"]["protocol_errors"] == 0


def _check_counting(event: Event, index: int, first: int | None) -> tuple[int, int]:
    """A simulator's block: channel 0 counts, from wherever the run was joined. Returns the next index."""
    assert isinstance(event, Block), event
    assert event.start == index
    count = event.samples[:, 0]
    first = int(count[0]) - index if first is None else first
    np.testing.assert_array_equal(count, np.arange(event.start, event.stop) + first)
    return event.stop, first


def test_a_hub_that_was_stopped_takes_in_all_that_was_sent_meanwhile(recorder: Recorder) -> None:
    with hub(recorder.address, "--history", "70s") as server:
        recorder.start(n_channels=128)
        recorder.block()
        with following(server) as (_, events):
            await_samples(server, 20)
            server.send(signal.SIGSTOP)
            sender = threading.Thread(target=recorder.blocks, args=(3000,))  # 31 MB: more than TCP holds
            sender.start()
            try:
                time.sleep(2.5)  # the fault
                assert sender.is_alive(), "TCP took it all: the test shows less than it should"
            finally:
                server.send(signal.SIGCONT)
                sender.join(PATIENCE)
            recorder.stop()
            follow(events, [(0, 60_020, "stop")], n_channels=128)
        told = status(server)
        assert (told["counters"]["reconnects"], told["gaps"]) == (0, [])


def test_a_hub_whose_log_nobody_reads_goes_on(recorder: Recorder) -> None:
    with hub(recorder.address, "--history", "10s") as server:
        recorder.start()
        recorder.send_bytes(rda.encode(rda.Start(1000.0, (1.0, 1.0), ("a", "b"))) * 2000)  # a line each
        recorder.block()
        # Where it fails, the pipe is full and the hub stands still; it answers again once somebody reads.
        poll(lambda: peek(server, 3.0)["counters"]["samples"] >= 20, "the hub goes on")


class Failing:
    """Servers that take every connection, do the same wrong thing to each, and note when it came."""

    def __init__(self, acts: dict[str, Callable[[socket.socket], None]]) -> None:
        self._acts = acts
        self._selector = selectors.DefaultSelector()
        self.times: dict[str, list[float]] = {}
        self.addresses: dict[str, str] = {}
        self._servers = [self._open(name) for name in acts]

    def _open(self, name: str) -> socket.socket:
        server = socket.create_server(("127.0.0.1", 0))
        self._selector.register(server, selectors.EVENT_READ, name)
        self.times[name] = []
        self.addresses[name] = f"127.0.0.1:{server.getsockname()[1]}"
        return server

    def serve(self, enough: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not enough():
            assert time.monotonic() < deadline, self.times
            for key, _ in self._selector.select(0.5):
                assert isinstance(key.fileobj, socket.socket)
                connection, _ = key.fileobj.accept()
                self.times[key.data].append(
                    time.monotonic()
                )  # before the fault, so no interval looks shorter
                with connection:
                    self._acts[key.data](connection)

    def close(self) -> None:
        self._selector.close()
        for server in self._servers:
            server.close()


def _resets(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)


def _starts_and_fails(connection: socket.socket) -> None:
    connection.sendall(rda.encode(rda.Start(1000.0, (1.0,), ("a",))) + bytes(24))


def _delivers_and_fails(connection: socket.socket) -> None:
    block = rda.encode(rda.Data(1, values(0, 20, 1)))
    connection.sendall(rda.encode(rda.Start(1000.0, (1.0,), ("a",))) + block + bytes(24))


FAILING: dict[str, Callable[[socket.socket], None]] = {
    "closes": lambda connection: None,
    "resets": _resets,
    "speaks HTTP": lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "starts and fails": _starts_and_fails,
    "delivers and fails": _delivers_and_fails,
}


DELAYS = (0.5, 1.0, 2.0, 4.0, 5.0)
QUIET = [name for name in FAILING if name != "delivers and fails"]


@dataclass
class Failures:
    """What came of it: when each server was asked, what each hub logged, and what one says of itself."""

    times: dict[str, list[float]]
    logs: dict[str, str]
    told: dict[str, Any]


@pytest.fixture(scope="module")
def failures() -> Iterator[Failures]:
    """One hub for each kind of failing server, until each was asked six times."""
    failing = Failing(FAILING)
    with contextlib.ExitStack() as stack:
        stack.callback(failing.close)
        hubs = {name: stack.enter_context(hub(failing.addresses[name])) for name in FAILING}
        taken = stack.enter_context(socket.socket())  # and not listened to, so that nobody else gets it
        taken.bind(("127.0.0.1", 0))
        hubs["is not there"] = stack.enter_context(hub(f"127.0.0.1:{taken.getsockname()[1]}"))
        failing.serve(lambda: all(len(failing.times[name]) > len(DELAYS) for name in QUIET))
        told = status(hubs["speaks HTTP"])
        logs = {name: log_of(server) for name, server in hubs.items()}
        for name, log in logs.items():
            print(f"{name}: {len(failing.times.get(name, []))} connections, {len(log.splitlines())} lines")
        yield Failures(failing.times, logs, told)


def test_a_recorder_that_fails_again_and_again_is_asked_ever_more_rarely(failures: Failures) -> None:
    stretched = []
    for name in QUIET:
        intervals = np.diff(failures.times[name])
        for interval, delay in zip(intervals, DELAYS, strict=False):
            assert delay <= interval < 1.2 * delay + 1.0, (name, intervals)  # 1 s: a busy machine's
            stretched.append(interval / delay)
    assert max(stretched) - min(stretched) > 0.01, "no jitter: several hubs would knock in step"
    # One that delivered something may be asked again soon, but is not hammered.
    assert np.diff(failures.times["delivers and fails"]).min() >= 0.5
    told = failures.told
    assert told["state"] == "disconnected"
    assert told["counters"]["protocol_errors"] == told["counters"]["reconnects"] >= len(DELAYS)
    assert "at byte 0: GUID is 485454502f312e31" in told["recorder"]["error"]


def test_a_recorder_that_is_not_there_is_told_once(failures: Failures) -> None:
    assert len(re.findall("WARNING.*cannot reach", failures.logs["is not there"])) == 1
    assert len(failures.logs["is not there"].splitlines()) <= 3


def test_a_recorder_that_fails_the_same_way_each_time_does_not_fill_the_log(failures: Failures) -> None:
    lines = {name: len(failures.logs[name].splitlines()) for name in QUIET}
    assert max(lines.values()) <= 12, lines  # after six times the same; two rounds in full are plenty
