"""docs/wire.md is enough: a client written from it alone, with zmq, msgpack, struct and numpy only.

`MiniClient` follows the document line by line; it must not use rdahub_client. The simulator's channel 0
counts samples, so that every row says which one it is.
"""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq

from rdahub import rda

COUNT = 2**24  # channel 0 counts modulo this
PATIENCE = 20.0
PATIENCE_MS = 20_000

Start = Callable[..., Any]


# --- the client, from the document ---


class Refused(Exception):
    def __init__(self, header: dict[str, Any]) -> None:
        super().__init__(f"{header['error']}: {header['message']}")
        self.header = header
        self.code = header["error"]


def open_frame(frame: bytes) -> tuple[str, Any, int]:
    """Kind, header, offset of the samples."""
    kind, version, length = struct.unpack_from("<cBxxI", frame)
    assert version == 1
    assert 8 + length <= len(frame)
    return kind.decode(), msgpack.unpackb(frame[8 : 8 + length]), 8 + -(-length // 8) * 8


def rows(frame: bytes, offset: int, n: int, c: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    assert len(frame) - offset == 4 * n * c
    return np.frombuffer(frame, "<f4", n * c, offset).reshape(n, c)


class MiniClient:
    def __init__(self, query: str, socket_type: int = zmq.DEALER) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.address = query
        self.query = self.context.socket(socket_type)
        self.query.linger = 0
        self.query.connect(query)
        self.sub: zmq.Socket[bytes] | None = None
        self.ids = 0
        self.instance = ""
        self.begin = 0
        self.next_index = 0
        self.next_seq = 0
        self.segments: dict[int, list[Any]] = {}
        self.markers: list[list[Any]] = []
        self.gaps: list[list[Any]] = []
        self.lost: list[tuple[int, int]] = []
        self.parts: list[np.ndarray[Any, Any]] = []
        self.ranges_asked = 0

    def close(self) -> None:
        self.query.close()
        if self.sub is not None:
            self.sub.close()
        self.context.term()

    # requests

    def ask_frame(self, frame: bytes) -> bytes:
        self.query.send(frame)
        assert self.query.poll(PATIENCE_MS)
        return self.query.recv()

    def ask(self, op: str, **fields: Any) -> tuple[dict[str, Any], bytes, int]:
        self.ids += 1
        frame = self.ask_frame(msgpack.packb({"op": op, "id": self.ids, "v": 1, **fields}))
        kind, header, offset = open_frame(frame)
        assert kind == "R"
        assert header["id"] == self.ids
        if not header["ok"]:
            raise Refused(header)
        return header, frame, offset

    def page(self, start: int, stop: int) -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
        self.ranges_asked += 1
        header, frame, offset = self.ask("range", instance=self.instance, start=start, stop=stop)
        assert header["start"] == start
        assert header["stop"] <= stop
        return header, rows(frame, offset, header["stop"] - start, header["n_channels"])

    # join

    def subscribe(self) -> None:
        info, _, _ = self.ask("info")
        port = info["publish_port"]
        endpoint = info["publish"] if port is None else f"{self.address.rpartition(':')[0]}:{port}"
        sub = self.context.socket(zmq.SUB)
        sub.linger = 0
        for topic in b"B", b"S", b"G", b"H", b"X":
            sub.subscribe(topic)
        sub.connect(endpoint)
        self.sub = sub

    def join(self, *, live: bool) -> None:
        info, _, _ = self.ask("info")
        self.instance = info["instance"]
        self.next_seq = info["first_seq"]
        self.next_index = self.begin = info["next_index"] if live else info["first_available"]
        if info["before"] is not None:
            self.segments[info["before"][0]] = info["before"]
        self.fill_records(info["next_seq"])

    def step(self, keep: Callable[[str], bool] = lambda kind: True) -> str:
        """Take one message from SUB."""
        assert self.sub is not None
        assert self.sub.poll(PATIENCE_MS)
        frame = self.sub.recv()
        kind, header, offset = open_frame(frame)
        if keep(kind):
            self.apply(kind, header, frame, offset)
        return kind

    def apply(self, kind: str, header: Any, frame: bytes, offset: int) -> None:
        instance = header[0] if kind == "B" else header["instance"]
        assert instance == self.instance
        if kind == "B":
            _, segment, start, n, c, _, _, _, seq, markers = header
            if start + n <= self.next_index and seq <= self.next_seq:
                return
            first = seq - len(markers)
            self.fill_records(first)
            self.fill_rows(start)
            for marker in markers[self.next_seq - first :]:
                self.record("marker", marker)
            assert segment in self.segments
            self.take(rows(frame, offset, n, c)[self.next_index - start :])
        elif kind in "SGM":
            self.fill_records(header["seq"])
            for what, record in header["records"][self.next_seq - header["seq"] :]:
                self.record(what, record)
        elif kind == "H":
            self.fill_records(header["seq"])
            self.fill_rows(header["next_index"])

    def record(self, what: str, record: list[Any]) -> None:
        if what == "marker":
            self.markers.append(record)
        elif what == "gap":
            self.gaps.append(record)
            if record[1] > self.next_index:
                self.fill_rows(record[0])
                c = self.parts[-1].shape[1]
                self.take(np.full((record[1] - self.next_index, c), np.nan, np.float32))
        else:
            if what == "start" and self.next_index < record[1]:
                self.lose(record[1])
            if what == "end":
                self.fill_rows(record[2])
            self.segments[record[0]] = record
        self.next_seq += 1

    def fill_records(self, seq: int) -> None:
        while self.next_seq < seq:
            reply, _, _ = self.ask("events", instance=self.instance, seq=self.next_seq)
            if reply["seq"] > self.next_seq:
                before, newest = reply["before"], max(self.segments, default=None)
                if before is not None and before[0] != newest:
                    self.segments[before[0]] = before
                    self.lose(before[1])
                self.next_seq = reply["seq"]
            for what, record in reply["records"]:
                self.record(what, record)

    def fill_rows(self, index: int) -> None:
        while self.next_index < index:
            try:
                self.take(self.page(self.next_index, index)[1])
            except Refused as refusal:
                if refusal.code != "OUT_OF_RANGE_OLD":
                    raise
                self.lose(min(refusal.header["first_available"], index))

    def lose(self, index: int) -> None:
        if index > self.next_index:
            self.lost.append((self.next_index, index))
            self.next_index = index

    def take(self, samples: np.ndarray[Any, Any]) -> None:
        self.parts.append(samples)
        self.next_index += len(samples)

    @property
    def count(self) -> np.ndarray[Any, Any]:
        """Channel 0 of everything taken."""
        return np.concatenate([part[:, 0] for part in self.parts])


def check_exact(client: MiniClient) -> None:
    """Each row taken is the one whose index it has: no loss, no repetition, no order changed."""
    assert client.lost == []
    expected = np.arange(client.begin, client.next_index) % COUNT
    np.testing.assert_array_equal(client.count, expected.astype(np.float32))


@pytest.fixture
def connect(hub: Any) -> Any:
    clients: list[MiniClient] = []

    def connect(socket_type: int = zmq.DEALER, address: str | None = None) -> MiniClient:
        clients.append(MiniClient(address or hub.query, socket_type))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


def until(client: MiniClient, n: int, keep: Callable[[str], bool] = lambda kind: True) -> None:
    """Follow until `n` samples more are there."""
    goal = client.next_index + n
    deadline = time.monotonic() + PATIENCE
    while client.next_index < goal:
        assert time.monotonic() < deadline
        client.step(keep)


# --- what the document promises ---


@pytest.mark.parametrize("socket_type", [zmq.DEALER, zmq.REQ])
def test_late_join_live(connect: Start, socket_type: int) -> None:
    client = connect(socket_type)
    client.subscribe()
    client.join(live=True)
    until(client, 300)
    check_exact(client)
    [segment] = client.segments.values()
    number, start, stop, interval, resolutions, names, units, ended = segment
    assert (number, start, stop, interval, ended) == (0, 0, None, 1000.0, None)
    assert resolutions == [1.0, 0.1, 0.1, 0.1]
    assert names == ["Fp1", "Fp2", "F3", "F4"]
    assert units == ["µV"] * 4


def test_history_then_live_with_its_markers(connect: Start) -> None:
    client = connect()
    client.subscribe()
    client.join(live=False)
    until(client, 1100)
    check_exact(client)
    assert client.begin == 0
    expected = range(0, client.next_index, 1000)
    assert [marker[0] for marker in client.markers] == list(expected)
    assert client.markers[0][1:] == [1, -1, "New Segment", "", False, 0]
    assert client.markers[1][3:5] == ["Stimulus", "S  1"]


def test_lost_blocks_are_noticed_and_fetched(connect: Start) -> None:
    client = connect()
    client.subscribe()
    client.join(live=True)
    asked = client.ranges_asked
    turn = iter(range(10**6))
    until(client, 600, lambda kind: kind != "B" or next(turn) % 3 == 0)
    check_exact(client)
    assert client.ranges_asked > asked + 5


def test_without_any_block_heartbeats_bring_everything(connect: Start) -> None:
    client = connect()
    client.subscribe()
    client.join(live=True)
    until(client, 600, lambda kind: kind == "H")
    check_exact(client)


def test_a_message_seen_twice_changes_nothing(connect: Start) -> None:
    client = connect()
    client.subscribe()
    client.join(live=True)
    deadline = time.monotonic() + PATIENCE
    seen: set[str] = set()
    while not ({"B", "S", "H"} <= seen and client.parts):  # a block told before the join brings no rows
        assert time.monotonic() < deadline
        assert client.sub.poll(PATIENCE_MS)
        frame = client.sub.recv()
        kind, header, offset = open_frame(frame)
        seen.add(kind)
        client.apply(kind, header, frame, offset)
        client.apply(kind, header, frame, offset)
    check_exact(client)


def test_heartbeats_come_in_time_and_repeat_the_segment(connect: Start) -> None:
    client = connect()
    client.subscribe()
    client.join(live=True)
    beats: list[int] = []
    kinds: list[str] = []
    while len(beats) < 4:
        assert client.sub.poll(PATIENCE_MS)
        kind, header, _ = open_frame(client.sub.recv())
        kinds.append(kind)
        if kind == "H":
            beats.append(header["sent_ns"])
            assert header.keys() == {
                "instance", "state", "segment", "first_available", "next_index", "seq", "sent_ns", "wall_ns",
            }  # fmt: skip
            assert header["state"] == "streaming"
            assert header["segment"] == 0
    assert "S" in kinds
    # 0.5 s by the hub's own clock; the rest is what a loaded machine may add.
    assert 0.1e9 < np.median(np.diff(beats)) < 1.5e9


def test_markers_by_request_and_by_topic(connect: Start) -> None:
    client = connect()
    client.subscribe()
    client.join(live=True)
    client.sub.subscribe(b"M")
    until(client, 1100)
    for socket_type in zmq.REQ, zmq.DEALER:
        reply, _, _ = connect(socket_type).ask(
            "markers", instance=client.instance, start=0, stop=client.next_index
        )
        assert [m[0] for m in reply["markers"]] == list(range(0, client.next_index, 1000))
        assert reply["more"] is False
        less, _, _ = connect(socket_type).ask("markers", start=0, stop=client.next_index, skip=1)
        assert less["markers"] == reply["markers"][1:]
    numbers = [m[0] for m in client.markers]
    assert len(numbers) == len(set(numbers))


def test_pages(start_simulator: Start, start_hub: Start, connect: Start) -> None:
    """A range of several pages: 1 MiB holds 4096 rows of 64 channels."""
    simulator = start_simulator("--channels", "64", "--speed", "0", "--seconds", "12")
    hub = start_hub(simulator.rda)
    client = connect(zmq.REQ, hub.query)
    client.subscribe()
    client.join(live=False)
    while client.segments.get(0, [None] * 8)[7] is None:
        client.step()
    assert client.segments[0][1:3] == [0, 12_000]
    assert client.segments[0][7] == "stop"
    check_exact(client)
    position, sizes = 0, []
    while position < 12_000:
        header, samples = client.page(position, 12_000)
        np.testing.assert_array_equal(samples[:, 0], np.arange(position, header["stop"]))
        sizes.append(len(samples))
        position = header["stop"]
    assert sizes == [4096, 4096, 3808]


def test_a_gap_and_two_segments(
    tmp_path: Path, start_simulator: Start, start_hub: Start, connect: Start
) -> None:
    """Blocks 1 to 5, 8 to 10, STOP, then a new START at half the rate: a gap of two blocks, two segments."""
    names, resolutions = ("count", "b"), (1.0, 0.5)
    stream = [rda.encode(rda.Start(1000.0, resolutions, names))]
    at = 0
    for counter in (1, 2, 3, 4, 5, 8, 9, 10):
        at = (counter - 1) * 20
        stream.append(rda.encode(rda.Data(counter, two_channels(at), ())))
    stream += [rda.encode(rda.Stop()), rda.encode(rda.Start(2000.0, resolutions, names))]
    stream += [rda.encode(rda.Data(k + 1, two_channels(200 + 20 * k), ())) for k in range(5)]
    stream.append(rda.encode(rda.Stop()))
    capture = tmp_path / "capture.rda"
    capture.write_bytes(b"".join(stream))
    hub = start_hub(start_simulator("--dump", str(capture)).rda)
    client = connect(zmq.DEALER, hub.query)
    client.subscribe()
    client.join(live=False)
    while client.segments.get(1, [None] * 8)[7] is None:
        client.step()
    assert client.gaps == [[100, 140, "counter"]]
    assert [segment[:4] + segment[7:] for segment in client.segments.values()] == [
        [0, 0, 200, 1000.0, "stop"],
        [1, 200, 300, 2000.0, "stop"],
    ]
    assert client.next_seq == 5  # start, gap, end, start, end
    expected = np.arange(300, dtype=np.float32)
    expected[100:140] = np.nan
    np.testing.assert_array_equal(client.count, expected)
    np.testing.assert_array_equal(client.page(90, 150)[1][:, 0], expected[90:150])
    np.testing.assert_array_equal(client.page(200, 300)[1][:, 1], np.full(100, 0.5))
    with pytest.raises(Refused, match="WRONG_SEGMENT"):
        client.page(150, 250)


def test_records_forgotten_while_away(
    tmp_path: Path, start_simulator: Start, start_hub: Start, connect: Start
) -> None:
    """A client that slept through 30 segments of 200 rows, while the hub keeps 1000 rows."""
    stream = []
    for number in range(30):
        stream.append(rda.encode(rda.Start(1000.0, (1.0, 1.0), ("count", "b"))))
        stream += [rda.encode(rda.Data(k + 1, two_channels(200 * number + 20 * k), ())) for k in range(10)]
        stream.append(rda.encode(rda.Stop()))
    capture = tmp_path / "capture.rda"
    capture.write_bytes(b"".join(stream))
    simulator = start_simulator("--dump", str(capture), "--speed", "0")
    hub = start_hub(simulator.rda, "--history", "1s")
    client = connect(zmq.DEALER, hub.query)
    client.subscribe()
    client.instance = client.ask("info")[0]["instance"]  # as if it had joined when nothing was there
    while client.ask("info")[0]["first_seq"] == 0 or client.ask("info")[0]["next_index"] < 6000:
        assert client.sub.poll(PATIENCE_MS)  # the hub forgets with a heartbeat
        client.sub.recv()
    while client.next_index < 6000:
        client.step(lambda kind: kind == "H")
    assert client.next_seq == 60
    [(first, stop)] = merged(client.lost)
    assert first == 0
    assert 0 < 6000 - stop <= 1100
    np.testing.assert_array_equal(client.count, np.arange(stop, 6000))
    ends = {number: segment[2] for number, segment in client.segments.items() if segment[2] is not None}
    assert ends.items() >= {number: 200 * number + 200 for number in range(25, 30)}.items()


def merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges that touch, as one."""
    result: list[tuple[int, int]] = []
    for start, stop in ranges:
        touches = result and result[-1][1] == start
        result.append((result.pop()[0] if touches else start, stop))
    return result


def two_channels(at: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Twenty rows from index `at` on: the index, and one raw unit."""
    return np.stack([np.arange(at, at + 20), np.ones(20)], axis=1).astype(np.float32)


def test_each_refusal(connect: Start) -> None:
    client = connect()
    client.subscribe()
    client.join(live=True)
    until(client, 20)
    far = client.next_index + 10**6

    def code(op: str, **fields: Any) -> str:
        with pytest.raises(Refused) as error:
            client.ask(op, **fields)
        header = error.value.header
        assert header["instance"] == client.instance
        assert header["first_available"] <= header["next_index"]
        assert isinstance(header["message"], str)
        return str(error.value.code)

    assert code("range", start=0, stop=far) == "OUT_OF_RANGE_FUTURE"
    assert code("range", instance="somebody else", start=0, stop=1) == "WRONG_INSTANCE"
    assert code("range", start=5, stop=4) == "BAD_REQUEST"
    assert code("range", start=-1, stop=4) == "BAD_REQUEST"
    assert code("range", start=0.0, stop=4) == "BAD_REQUEST"
    assert code("range", start=0, stop=4, more=1) == "BAD_REQUEST"
    assert code("range", start=0) == "BAD_REQUEST"
    assert code("range", start=0, stop=4, v=2) == "BAD_REQUEST"
    assert code("sing") == "BAD_REQUEST"


def test_refusals_that_need_a_history(start_simulator: Start, start_hub: Start, connect: Start) -> None:
    waiting = start_hub("127.0.0.1:1")
    client = connect(zmq.DEALER, waiting.query)
    with pytest.raises(Refused, match="NO_STREAM"):
        client.ask("range", start=0, stop=1)
    simulator = start_simulator("--channels", "64", "--speed", "0", "--seconds", "12")
    hub = start_hub(simulator.rda, "--history", "2s")
    client = connect(zmq.REQ, hub.query)
    client.subscribe()
    client.join(live=False)
    while client.segments.get(0, [None] * 8)[7] is None:
        client.step()
    with pytest.raises(Refused, match="OUT_OF_RANGE_OLD") as error:
        client.ask("range", start=0, stop=1)
    first = error.value.header["first_available"]
    assert 0 < first < 12_000
    assert client.page(first, 12_000)[0]["start"] == first
    with pytest.raises(Refused, match="WRONG_SEGMENT"):
        client.ask("range", start=first, stop=12_001)
    # Whatever was overwritten before it could be fetched is named, and the rest is exact.
    at = client.begin
    lost = dict(client.lost)
    for part in client.parts:
        while at in lost:
            at = lost[at]
        np.testing.assert_array_equal(part[:, 0], np.arange(at, at + len(part)))
        at += len(part)
    assert at == 12_000


def test_ping_stats_and_envelopes(connect: Start) -> None:
    client = connect()
    reply, _, _ = client.ask("ping")
    assert reply.keys() == {
        "id", "ok", "instance", "first_available", "next_index", "monotonic_ns", "wall_ns",
    }  # fmt: skip
    while client.ask("stats")[0]["counters"]["samples"] == 0:
        pass  # the first block is on its way
    times = client.ask("times", start=0, stop=2**63 - 1)[0]
    assert times["more"] is False
    assert times["points"][0][1] <= client.ask("ping")[0]["monotonic_ns"]
    request = msgpack.packb({"op": "ping", "id": 77})
    client.query.send_multipart([b"", request])
    assert client.query.poll(PATIENCE_MS)
    empty, frame = client.query.recv_multipart()
    assert empty == b""
    assert open_frame(frame)[1]["id"] == 77
    client.query.send_multipart([b"\1\2\3\4", b"", request])  # as REQ_CORRELATE does
    assert client.query.poll(PATIENCE_MS)
    assert client.query.recv_multipart()[:2] == [b"\1\2\3\4", b""]
    client.query.send(msgpack.packb({"op": "ping"}))  # no id: no answer ...
    client.query.send(request)  # ... so that the next is to this
    assert client.query.poll(PATIENCE_MS)
    assert open_frame(client.query.recv())[1]["id"] == 77


def test_a_marker_inserted_by_one_client_reaches_another_once(
    start_simulator: Start, start_hub: Start, connect: Start
) -> None:
    hub = start_hub(start_simulator("--channels", "4").rda)
    reader, writer = (connect(zmq.DEALER, hub.query) for _ in range(2))
    reader.subscribe()
    reader.join(live=True)
    until(reader, reader.next_index + 20)
    mark = {"token": "a token of 16 ch", "type": "Comment", "description": "eyes closed"}
    answer, _, _ = writer.ask("mark", **mark)
    assert answer["marker"][3:6] == ["Comment", "eyes closed", True]
    again, _, _ = writer.ask("mark", **mark)
    assert (again["seq"], again["marker"]) == (answer["seq"], answer["marker"])
    begin = reader.ranges_asked
    until(reader, answer["marker"][0] + 100)
    assert [each for each in reader.markers if each[5]] == [answer["marker"]]
    assert reader.ranges_asked == begin
    check_exact(reader)
    other = mark | {"token": "another token of 24 char"}
    for more, code in (({"index": 10**12}, "OUT_OF_RANGE_FUTURE"), ({"channel": 4}, "BAD_MARKER")):
        with pytest.raises(Refused, match=code):
            writer.ask("mark", **other | more)


def test_goodbye(start_simulator: Start, start_hub: Start, connect: Start) -> None:
    hub = start_hub(start_simulator().rda)
    client = connect(zmq.DEALER, hub.query)
    client.subscribe()
    client.join(live=True)
    until(client, 100)
    hub.stop()
    while client.step() != "X":
        continue
    check_exact(client)
    assert client.segments[0][7] == "lost"


# --- the examples ---


def documented(root: Path) -> list[bytes]:
    text = (root / "docs/wire.md").read_text(encoding="utf-8")
    return [bytes.fromhex(block) for block in re.findall(r"```hex\n(.*?)```", text, re.DOTALL)]


def test_the_examples_read_as_the_document_says(root: Path) -> None:
    block, segment, gap, markers, beat, end, request, page, refusal = documented(root)
    instance = "0011223344556677"
    marker = [41, 1, -1, "Stimulus", "S  1", False, 40]
    kind, header, offset = open_frame(block)
    assert kind == "B"
    assert header == [instance, 0, 40, 2, 2, 3, 5 * 10**9, 1_700_000_000 * 10**9, 2, [marker]]
    np.testing.assert_array_equal(rows(block, offset, 2, 2), [[1, -2], [3.5, 0.25]])
    layout = [0, 0, None, 1000.0, [0.1, 0.5], ["Fp1", "Fp2"], ["µV", "µV"], None]
    records = ((segment, "S", 0, ["start", layout]), (gap, "G", 2, ["gap", [42, 62, "counter"]]),
               (markers, "M", 1, ["marker", marker]))  # fmt: skip
    for frame, topic, seq, record in records:
        assert open_frame(frame)[:2] == (topic, {"instance": instance, "seq": seq, "records": [record]})
    kind, header, _ = open_frame(beat)
    assert kind == "H"
    assert list(header.values()) == [
        instance, "streaming", 0, 0, 62, 3, 5_500_000_000, 1_700_000_000_500_000_000,
    ]  # fmt: skip
    assert open_frame(end)[:2] == ("X", {"instance": instance})
    assert msgpack.unpackb(request) == {
        "v": 1, "id": 7, "op": "range", "instance": instance, "start": 40, "stop": 42,
    }  # fmt: skip
    kind, header, offset = open_frame(page)
    assert kind == "R"
    assert (header["id"], header["start"], header["stop"], header["n_channels"]) == (7, 40, 42, 2)
    np.testing.assert_array_equal(rows(page, offset, 2, 2), [[1, -2], [3.5, 0.25]])
    assert open_frame(refusal)[1]["error"] == "OUT_OF_RANGE_FUTURE"


def test_the_examples_are_what_the_code_makes(root: Path) -> None:
    from rdahub_client import wire
    from rdahub_client.records import Gap, Marker, Segment, SegmentStart

    instance = "0011223344556677"
    samples = np.array([[1, -2], [3.5, 0.25]], np.float32)
    marker = Marker(41, 1, -1, "Stimulus", "S  1", injected=False, block=40)
    layout = Segment(0, 0, None, 1000.0, (0.1, 0.5), ("Fp1", "Fp2"), ("µV", "µV"))
    beat = wire.Heartbeat(instance, "streaming", 0, 0, 62, 3, 5_500_000_000, 1_700_000_000_500_000_000)
    refusal = {
        "ok": False, "error": "OUT_OF_RANGE_FUTURE", "message": "the newest sample so far is 61",
        "instance": instance, "first_available": 0, "next_index": 62,
    }  # fmt: skip
    assert documented(root) == [
        wire.encode_block(
            wire.BlockMessage(instance, 0, 40, 3, 5 * 10**9, 1_700_000_000 * 10**9, 2, [marker], samples)
        ),
        wire.encode_records(wire.SEGMENT, wire.Records(instance, 0, [SegmentStart(layout)])),
        wire.encode_records(wire.GAP, wire.Records(instance, 2, [Gap(42, 62, "counter")])),
        wire.encode_records(wire.MARKERS, wire.Records(instance, 1, [marker])),
        wire.encode_heartbeat(beat),
        wire.encode_end(wire.End(instance)),
        wire.encode_request(wire.RangeRequest(instance=instance, start=40, stop=42), 7),
        wire.encode_page(7, wire.Page(instance, 0, 40, 42, 0, 62, samples)),
        wire.encode_reply(8, refusal),
    ]
