"""Frames there and back, byte for byte as recorded, and out of hostile hands.

The recorded frames in tests/data/wire are the format: a change that breaks them breaks every client there is.
``python tests/rdahub_client/test_wire.py`` writes them anew, for a new version of the wire.
"""

from __future__ import annotations

import contextlib
import struct
import time
from dataclasses import astuple, fields, replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rdahub_client import wire
from rdahub_client.errors import WireError
from rdahub_client.records import Float32, Gap, Instance, Marker, Record, Segment, SegmentEnd, SegmentStart
from rdahub_client.wire import (
    BlockMessage,
    End,
    Events,
    EventsRequest,
    Heartbeat,
    HereRequest,
    Info,
    InfoRequest,
    InstancesRequest,
    MarkersRequest,
    MarkRequest,
    Message,
    Page,
    PastEventsRequest,
    PastRangeRequest,
    PingRequest,
    RangeRequest,
    Records,
    Refusal,
    Reply,
    StatsRequest,
    TimesRequest,
    decode,
    decode_reply,
    record_to_wire,
    segment_to_wire,
)
from rdahub_client.wire.admission import BadRequest, decode_request

DATA = Path(__file__).parents[1] / "data" / "wire"
BITS = (0x00000000, 0x80000000, 0x7FC00000, 0xFFC00001, 0x7FA5A5A5, 0x7F800000, 0xFF800000, 0x00000001,
        0x3F800000, 0xC2F6E979, 0x7F7FFFFF, 0x4B800000)  # fmt: skip


def from_bits(*bits: int, n_channels: int) -> Float32:
    return np.array(bits, np.uint32).view(np.float32).reshape(-1, n_channels)


def comparable(value: Any) -> Any:
    """A message as something that compares by content: samples by their bits, markers with their blocks."""
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str, value.tobytes()
    if isinstance(value, Marker):
        return "Marker", astuple(value)
    if isinstance(value, list):
        return [comparable(item) for item in value]
    if isinstance(value, Reply):
        return value.id, value.header, comparable(value.samples)
    if isinstance(value, BlockMessage):  # its rows are an array, or bytes of the frame
        known = [field.name for field in fields(value) if field.name not in {"data", "n_channels"}]
        return BlockMessage, [comparable(getattr(value, name)) for name in (*known, "samples")]
    if isinstance(value, Records | Page):
        return type(value), [comparable(getattr(value, field.name)) for field in fields(value)]
    return value


def as_lists(value: Any) -> Any:
    return [as_lists(item) for item in value] if isinstance(value, list | tuple) else value


# --- recorded frames ------------------------------------------------------------------------------------

INSTANCE = "8f14e45fceea167a"
STIMULUS = Marker(2**32 + 1, 1, -1, "Stimulus", "S  1", block=2**32)
EARLY = Marker(-3, 0, 2, "Comment", "Zwölf µV", injected=True, block=2**32)
OPEN = Segment(3, 2**31, None, 200.0, (0.1, 0.5), ("Cz", "VEOG"), ("µV", "mV"))
ENDED = Segment(2, 0, 2**31, 1e6 / 512, (0.0488281,), ("",), ("µV",), "counter")
BEAT = Heartbeat(INSTANCE, "streaming", 3, 2**24 - 1, 2**53 + 1, 7, 2**62, 1_700_000_000_000_000_001)
NO_BEAT = Heartbeat(INSTANCE, "disconnected", None, 0, 0, 0, 1, 2)
SAMPLES = from_bits(*BITS, n_channels=3)

PUBLISHED: dict[str, Message] = {
    "block": BlockMessage(INSTANCE, 3, 2**32, 2**32 - 1, 5, 6, 9, [STIMULUS, EARLY], SAMPLES),
    "block_without_markers": BlockMessage("0123456789abcdef", 3, 2**32, 2**32 - 1, 5, 6, 9, [], SAMPLES),
    "block_without_rows": BlockMessage(INSTANCE, 3, 8, 0, 5, 6, 9, [STIMULUS], np.empty((0, 2), np.float32)),
    "segment_start": Records(INSTANCE, 4, [SegmentStart(OPEN)]),
    "segment_end": Records(INSTANCE, 3, [SegmentEnd(ENDED, "counter")]),
    "gap": Records(INSTANCE, 5, [Gap(2**24, 2**24 + 500, "counter")]),
    "markers": Records(INSTANCE, 7, [STIMULUS, EARLY]),
    "inserted_marker": Records(INSTANCE, 9, [EARLY]),
    "heartbeat": BEAT,
    "heartbeat_before_all": NO_BEAT,
    "end": End(INSTANCE),
}
KINDS = {"segment_start": b"S", "segment_end": b"S", "gap": b"G", "markers": b"M", "inserted_marker": b"S"}
REQUESTS: dict[str, wire.Request] = {
    "info": InfoRequest(id=0),
    "ping": PingRequest(id=1),
    "stats": StatsRequest(id=2**32),
    "range": RangeRequest(id=2**63 - 1, start=0, stop=2**63 - 1),
    "range_of_instance": RangeRequest(id=5, instance=INSTANCE, start=2**53 + 1, stop=2**53 + 2),
    "markers": MarkersRequest(id=6, instance=INSTANCE, start=1, stop=2, skip=3),
    "events": EventsRequest(id=7, seq=8),
    "times": TimesRequest(id=10, instance=INSTANCE, start=2**32, stop=2**63 - 1),
    "here": HereRequest(id=9, instance=INSTANCE, name="reader.py@lab:1.1", next_index=2**40),
    "instances": InstancesRequest(id=12, skip=100),
    "past_range": PastRangeRequest(id=13, instance=INSTANCE, start=2**32, stop=2**33),
    "past_events": PastEventsRequest(id=14, instance=INSTANCE, seq=4096),
    "mark": MarkRequest(id=10, token="e" * 16, type="Comment", description="Zwölf µV"),
    "mark_of_instance": MarkRequest(
        id=11, instance=INSTANCE, token="f" * 64, index=2**40, points=0, channel=3, type="Stimulus",
        description="",
    ),
}  # fmt: skip
PAGE = Page(INSTANCE, 3, 2**32, 2**32 + 4, 17, 2**33, SAMPLES)
HOLDINGS = {"instance": INSTANCE, "first_available": 17, "next_index": 2**33}
INFO = Info(INSTANCE, "rdahub", "0.1.0", "idle", "host:51244", 5571, "tcp://*:5571", 600.0, 17, 2**33, 2, 9,
            OPEN, ENDED)  # fmt: skip
REPLIES: dict[str, tuple[int, dict[str, Any]]] = {
    "info": (
        2**63 - 1,
        {
            "ok": True,
            **{f.name: getattr(INFO, f.name) for f in fields(INFO)},
            "segment": segment_to_wire(OPEN),
            "before": segment_to_wire(ENDED),
        },
    ),
    "info_before_all": (
        1,
        {
            "ok": True,
            **{f.name: getattr(INFO, f.name) for f in fields(INFO)},
            "segment": None,
            "before": None,
            "publish_port": None,
            "publish": "ipc:///run/publish",
        },
    ),
    "events": (
        2,
        {
            "ok": True,
            "instance": INSTANCE,
            "seq": 4,
            "records": [
                record_to_wire(r) for r in (SegmentEnd(ENDED, "counter"), Gap(1, 2, "counter"), EARLY)
            ],
            "before": segment_to_wire(replace(ENDED, stop=None, ended=None)),
        },
    ),
    "markers": (3, {"ok": True, "markers": [record_to_wire(m)[1] for m in (EARLY, STIMULUS)], **HOLDINGS}),
    "instances": (
        7,
        {
            "ok": True,
            **HOLDINGS,
            "instances": [
                {
                    "instance": INSTANCE,
                    "name": "lab",
                    "recorder": "host:51244",
                    "began_ns": 1_700_000_000_000_000_001,
                    "runs": [[0, 2**32], [2**32 + 5, 2**33]],
                }
            ],
            "more": True,
        },
    ),
    "mark": (5, {"ok": True, **HOLDINGS, "seq": 9, "marker": record_to_wire(EARLY)[1]}),
    "ping": (5, {"ok": True, **HOLDINGS, "monotonic_ns": 2**62, "wall_ns": 1_700_000_000_000_000_001}),
    "times": (
        6,
        {"ok": True, **HOLDINGS, "points": [(2**32, 2**62, 1_700_000_000_000_000_001)], "more": True},
    ),
    "refusal": (4, {"ok": False, "error": "OUT_OF_RANGE_OLD", "message": "gone: µ", **HOLDINGS}),
}


def golden() -> dict[str, bytes]:
    """What the files in tests/data/wire hold."""
    frames = {}
    for name, message in PUBLISHED.items():
        frames[f"publish_{name}"] = encode(message, KINDS.get(name, b""))
    for name, request in REQUESTS.items():
        frames[f"request_{name}"] = wire.encode_request(request, request.id)
    for name, (number, header) in REPLIES.items():
        frames[f"reply_{name}"] = wire.encode_reply(number, header)
    frames["reply_page"] = wire.encode_page(8, PAGE)
    return frames


def encode(message: Message, kind: bytes = b"S") -> bytes:
    match message:
        case BlockMessage():
            return wire.encode_block(message)
        case Records():
            return wire.encode_records(kind, message)
        case Heartbeat():
            return wire.encode_heartbeat(message)
        case End():
            return wire.encode_end(message)


def recorded(name: str) -> bytes:
    return (DATA / f"{name}.bin").read_bytes()


FRAMES = sorted(path.stem for path in DATA.glob("*.bin"))
HUB_FRAMES = [name for name in FRAMES if not name.startswith("request_")]


def test_no_recorded_frame_is_without_a_test() -> None:
    assert sorted(golden()) == FRAMES


@pytest.mark.parametrize("name", FRAMES)
def test_messages_encode_to_the_recorded_bytes(name: str) -> None:
    assert golden()[name] == recorded(name)


@pytest.mark.parametrize("name", PUBLISHED)
def test_recorded_messages_decode_to_exactly_these_values(name: str) -> None:
    assert comparable(decode(recorded(f"publish_{name}"))) == comparable(PUBLISHED[name])


@pytest.mark.parametrize("name", REQUESTS)
def test_recorded_requests_decode_to_exactly_these_values(name: str) -> None:
    assert decode_request(recorded(f"request_{name}")) == REQUESTS[name]


@pytest.mark.parametrize("name", REPLIES)
def test_recorded_replies_decode_to_exactly_these_values(name: str) -> None:
    reply = decode_reply(recorded(f"reply_{name}"))
    number, header = REPLIES[name]
    assert reply.id == number
    # Tuples are arrays on the wire.
    assert reply.header == {"id": number} | {key: as_lists(value) for key, value in header.items()}
    assert reply.samples.shape == (0, 0)
    assert (reply.refusal is None) is header["ok"]


def test_a_recorded_page_is_read_as_it_was_written() -> None:
    reply = decode_reply(recorded("reply_page"))
    assert reply.id == 8
    assert comparable(reply.page()) == comparable(PAGE)


def test_replies_are_read_as_what_they_answer() -> None:
    def read(name: str) -> Reply:
        return decode_reply(recorded(f"reply_{name}"))

    assert read("info").info() == INFO
    none = replace(INFO, segment=None, before=None, publish_port=None, publish="ipc:///run/publish")
    assert read("info_before_all").info() == none
    assert read("events").events() == Events(
        INSTANCE,
        4,
        [SegmentEnd(ENDED, "counter"), Gap(1, 2, "counter"), EARLY],
        replace(ENDED, stop=None, ended=None),
    )
    assert comparable(read("markers").markers()) == comparable([EARLY, STIMULUS])
    past = Instance(
        INSTANCE, "lab", "host:51244", 1_700_000_000_000_000_001, ((0, 2**32), (2**32 + 5, 2**33))
    )
    assert read("instances").instances() == ([past], True)
    assert comparable(list(read("mark").mark())) == comparable([INSTANCE, 9, EARLY])
    assert read("ping").clocks() == (2**62, 1_700_000_000_000_000_001)
    assert read("times").times() == ([(2**32, 2**62, 1_700_000_000_000_000_001)], True)
    assert read("refusal").refusal == Refusal("OUT_OF_RANGE_OLD", "gone: µ", INSTANCE, 17, 2**33)


def test_the_samples_of_a_recorded_block_begin_where_the_document_says() -> None:
    frame = recorded("publish_block")
    kind, version, length = struct.unpack_from("<cBxxI", frame)
    assert (kind, version) == (b"B", 1)
    at = 8 + -(-length // 8) * 8
    assert frame[8 + length : at] == bytes(at - 8 - length)
    assert struct.unpack(f"<{len(BITS)}I", frame[at:]) == BITS


# --- there and back -------------------------------------------------------------------------------------

int64 = st.integers(-(2**63), 2**63 - 1)
index = st.integers(0, 2**63 - 1)
text = st.text(max_size=12)
positive = st.floats(0, exclude_min=True, allow_infinity=False)
markers = st.builds(Marker, int64, int64, int64, text, text, st.booleans(), int64)
reasons = st.sampled_from(("stop", "restart", "lost", "counter"))
layouts = st.lists(st.tuples(st.floats(allow_nan=False), text, text), min_size=1, max_size=4)


@st.composite
def segments(draw: st.DrawFn, *, ended: bool) -> Segment:
    resolutions, names, units = zip(*draw(layouts), strict=True)
    stop, reason = (draw(index), draw(reasons)) if ended else (None, None)
    return Segment(draw(index), draw(index), stop, draw(positive), resolutions, names, units, reason)


records: st.SearchStrategy[Record] = st.one_of(
    markers,
    st.builds(Gap, index, index, text),
    segments(ended=False).map(SegmentStart),
    segments(ended=True).map(lambda s: SegmentEnd(s, str(s.ended))),
)


@st.composite
def samples(draw: st.DrawFn) -> Float32:
    """Any bits at all."""
    n, n_channels = draw(st.integers(0, 6)), draw(st.integers(1, 5))
    return np.frombuffer(draw(st.binary(min_size=4 * n * n_channels, max_size=4 * n * n_channels)), np.float32
                         ).reshape(n, n_channels)  # fmt: skip


messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(BlockMessage, text, index, index, int64, int64, int64, index, st.lists(markers, max_size=3),
              samples()),
    st.builds(BlockMessage, st.text("abc0", min_size=15, max_size=17), index, index, int64, int64, int64,
              index, st.just([]), samples()),
    st.builds(Records, text, index, st.lists(records, max_size=4)),
    st.builds(Heartbeat, text, text, st.none() | index, index, index, index, int64, int64),
    st.builds(End, text),
)  # fmt: skip
optional = st.none() | text
requests: st.SearchStrategy[wire.Request] = st.one_of(
    st.builds(InfoRequest, id=index),
    st.builds(PingRequest, id=index),
    st.builds(StatsRequest, id=index),
    st.builds(RangeRequest, id=index, instance=optional, start=index, stop=index),
    st.builds(MarkersRequest, id=index, instance=optional, start=int64, stop=int64, skip=index),
    st.builds(EventsRequest, id=index, instance=optional, seq=index),
    st.builds(HereRequest, id=index, instance=text, name=st.text(min_size=1, max_size=100), next_index=index),
    st.builds(InstancesRequest, id=index, skip=index),
    st.builds(PastRangeRequest, id=index, instance=text, start=index, stop=index),
    st.builds(PastEventsRequest, id=index, instance=text, seq=index),
    st.builds(MarkRequest, id=index, instance=optional, token=st.text(min_size=16, max_size=64),
              index=st.none() | index, points=st.integers(0, 2**31 - 1), channel=st.integers(-1, 2**15 - 1),
              type=st.text(min_size=1, max_size=50), description=st.text(max_size=200)),
)  # fmt: skip


@given(messages, st.sampled_from((wire.SEGMENT, wire.GAP, wire.MARKERS)))
def test_every_message_comes_back_as_it_was(message: Message, kind: bytes) -> None:
    assert comparable(decode(memoryview(encode(message, kind)))) == comparable(message)


@given(requests, index)
def test_every_request_comes_back_as_it_was_under_its_number(request: wire.Request, number: int) -> None:
    frame = wire.encode_request(request, number)
    assert len(frame) <= wire.MAX_REQUEST
    assert decode_request(frame) == replace(request, id=number)


@given(samples(), text, index, index)
def test_every_page_comes_back_as_it_was(rows: Float32, instance: str, number: int, start: int) -> None:
    start = min(start, 2**63 - 1 - len(rows))
    page = Page(instance, 1, start, start + len(rows), start, start, rows)
    reply = decode_reply(wire.encode_page(number, page))
    assert reply.id == number
    assert comparable(reply.page()) == comparable(page)


@given(segments(ended=True) | segments(ended=False), st.lists(records, max_size=3))
def test_every_journal_comes_back_as_it_was(before: Segment, some: list[Record]) -> None:
    header = {"instance": "a", "seq": 3, "records": [record_to_wire(r) for r in some]}
    frame = wire.encode_reply(1, {**header, "before": segment_to_wire(before)})
    events = decode_reply(frame).events()
    assert comparable(events.records) == comparable(some)
    assert events.before == before


def test_decoded_samples_are_aligned_read_only_and_not_copied() -> None:
    for name in ("a", "ab", "abc", "abcd", "abcde", "abcdef", "abcdefg"):
        message = replace(PUBLISHED["block"], instance=name)
        frame = encode(message)
        decoded = decode(frame)
        assert isinstance(decoded, BlockMessage)
        assert decoded.samples.flags.aligned
        assert decoded.samples.ctypes.data % 8 == 0
        assert not decoded.samples.flags.writeable
        assert np.shares_memory(decoded.samples, np.frombuffer(frame, np.uint8))


def test_a_page_is_a_copy_of_the_ring_it_was_read_from() -> None:
    ring = SAMPLES.copy()
    frame = wire.encode_page(8, replace(PAGE, samples=ring))
    ring[:] = 0
    assert frame == recorded("reply_page")


def test_a_request_without_version_or_instance_means_this_version_and_any_instance() -> None:
    frame = msgpack.packb({"op": "range", "id": 1, "start": 2, "stop": 3})
    assert decode_request(frame) == RangeRequest(id=1, instance=None, start=2, stop=3)


# --- hostile requests -----------------------------------------------------------------------------------

RANGE = {"v": 1, "op": "range", "id": 7, "start": 0, "stop": 1}


def refused(frame: bytes) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        decode_request(frame)
    assert str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert len(str(caught.value)) < 2 * wire.MAX_REQUEST
    return caught.value


UNREADABLE = {
    "nothing": b"",
    "text": b"GET / HTTP/1.1\r\n\r\n",
    "a reserved byte": b"\xc1",
    "nil": b"\xc0",
    "a number": b"\x07",
    "an array": msgpack.packb(["op", "info"]),
    "a map and more": msgpack.packb(RANGE) + b"\0",
    "two maps": msgpack.packb(RANGE) * 2,
    "half a map": msgpack.packb(RANGE)[:-1],
    "an array bomb": b"\xdd\xff\xff\xff\xff" * 800,
    "a map bomb": b"\xdf\xff\xff\xff\xff",
    "a text bomb": b"\xdb\xff\xff\xff\xff",
    "a binary bomb": b"\xc6\xff\xff\xff\xff",
    "an extension bomb": b"\xc9\xff\xff\xff\xff\x01",
    "a deep array": b"\x91" * 4095 + b"\xc0",
    "a deep map": b"\x81\xa1a" * 1365 + b"\xc0",
    "integer keys": b"\x81\x01\x01",
    "array keys": b"\x81\x90\x01",
    "broken UTF-8": b"\x81\xa2op\xa1\xff",
    "a broken timestamp": b"\x81\xa2id\xd7\xff" + b"\xff" * 8,
    "an empty map": b"\x80",
    "too much": msgpack.packb({**RANGE, "x": "x" * wire.MAX_REQUEST}),
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_what_is_no_request_is_refused_without_a_number(what: str) -> None:
    assert refused(UNREADABLE[what]).id is None


@pytest.mark.parametrize("number", [None, True, -1, 2**63, 1.0, float("nan"), "1", b"1", [1], {}])
def test_a_request_without_a_usable_number_is_refused_without_one(number: object) -> None:
    error = refused(msgpack.packb({**RANGE, "id": number}))
    assert error.id is None
    assert "'id' must be an integer" in str(error)


NO_INDEX = [True, False, 2**63, 2**64 - 1, 0.0, 1e300, float("nan"), float("inf"), "0", b"0",
            None, [], [0], {}, msgpack.Timestamp(0), msgpack.ExtType(5, b"")]  # fmt: skip


@pytest.mark.parametrize("value", NO_INDEX, ids=repr)
@pytest.mark.parametrize(
    ("op", "field"),
    [("range", "start"), ("range", "stop"), ("markers", "start"), ("markers", "skip"), ("events", "seq")],
)
def test_what_is_no_index_is_refused_by_the_name_of_its_field(op: str, field: str, value: object) -> None:
    whole: dict[str, Any] = {"op": op, "id": 7}
    whole |= {"seq": 0} if op == "events" else {"start": 0, "stop": 1}
    assert decode_request(msgpack.packb(whole)).id == 7
    error = refused(msgpack.packb({**whole, field: value}))
    assert error.id == 7
    assert str(error).startswith(f"{op}.{field}: ")


@pytest.mark.parametrize("value", [-1, -(2**63)])
@pytest.mark.parametrize("field", ["start", "stop"])
def test_only_a_marker_may_stand_before_the_first_sample(field: str, value: int) -> None:
    asked = decode_request(msgpack.packb({**RANGE, "op": "markers", field: value}))
    assert isinstance(asked, MarkersRequest)
    assert getattr(asked, field) == value
    error = refused(msgpack.packb({**RANGE, field: value}))
    assert error.id == 7
    assert str(error).startswith(f"range.{field}: ")


@pytest.mark.parametrize(("op", "field"), [("markers", "skip"), ("events", "seq")])
def test_a_count_is_never_negative(op: str, field: str) -> None:
    whole = {"op": op, "id": 7, field: -1, **({"start": 0, "stop": 1} if op == "markers" else {})}
    assert str(refused(msgpack.packb(whole))).startswith(f"{op}.{field}: ")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"v": 0}, "range.v"),
        ({"v": 2}, "range.v"),
        ({"v": True}, "range.v"),
        ({"v": 1.0}, "range.v"),
        ({"v": "1"}, "range.v"),
        ({"v": None}, "range.v"),
        ({"op": "Range"}, "request"),
        ({"op": "delete"}, "request"),
        ({"op": None}, "request"),
        ({"op": b"range"}, "request"),
        ({"op": 1}, "request"),
        ({"op": ["range"]}, "request"),
        ({"op": {}}, "request"),
        ({"op": "x" * 4000}, "request"),
        ({"more": 1}, "range.more"),
        ({b"start": 1}, "range"),
        ({"skip": 0}, "range.skip"),
        ({"seq": 0}, "range.seq"),
        ({"instance": 1}, "range.instance"),
        ({"instance": b"a"}, "range.instance"),
        ({"instance": "x" * 65}, "range.instance"),
    ],
)
def test_a_request_with_a_wrong_field_is_refused_under_its_number(change: dict[Any, Any], named: str) -> None:
    error = refused(msgpack.packb({**RANGE, **change}))
    assert error.id == 7
    assert str(error).startswith(named)


@pytest.mark.parametrize("missing", ["op", "start", "stop"])
def test_a_request_that_lacks_a_field_is_refused_under_its_number(missing: str) -> None:
    error = refused(msgpack.packb({key: value for key, value in RANGE.items() if key != missing}))
    assert error.id == 7
    assert missing in str(error)


def test_the_size_of_a_request_is_looked_at_before_anything_else() -> None:
    fits = msgpack.packb({**RANGE, "op": "x" * (wire.MAX_REQUEST - len(msgpack.packb(RANGE)) + 3)})
    assert len(fits) == wire.MAX_REQUEST
    assert refused(fits).id == 7
    assert str(refused(fits + b"\0")) == "a request of 4097 bytes; the limit is 4096"
    assert refused(fits + b"\0").id is None


def test_the_worst_request_takes_no_more_than_a_few_milliseconds() -> None:
    for frame in UNREADABLE.values():
        times = []
        for _ in range(5):
            begin = time.perf_counter()
            with contextlib.suppress(BadRequest):
                decode_request(frame)
            times.append(time.perf_counter() - begin)
        assert min(times) < 0.02


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(max_size=5),
    st.binary(max_size=5), st.sampled_from(("info", "range", "start", "end", "gap", "marker")),
    st.sampled_from((0, 1, -1, 2**63, msgpack.Timestamp(0), msgpack.ExtType(1, b"x"))),
)  # fmt: skip
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)
request_maps = st.dictionaries(
    st.sampled_from(("v", "id", "op", "instance", "start", "stop", "skip", "seq", "more")), scalars
)


@given(st.binary(max_size=64) | (request_maps | trees).map(msgpack.packb))
@settings(max_examples=400)
def test_whatever_comes_is_a_request_or_refused(frame: bytes) -> None:
    with contextlib.suppress(BadRequest):
        request = decode_request(frame)
        assert decode_request(wire.encode_request(request, request.id)) == request


# --- broken frames --------------------------------------------------------------------------------------


def framed(kind: bytes, header: object, rest: bytes = b"") -> bytes:
    packed = msgpack.packb(header)
    return struct.pack("<cBxxI", kind, 1, len(packed)) + packed + rest


def read_all(frame: bytes) -> None:
    """Read a frame as everything it might be; only WireError may come of it."""
    with contextlib.suppress(WireError):
        comparable(decode(frame))
    try:
        reply = decode_reply(frame)
    except WireError:
        return
    for read in (reply.page, reply.info, reply.events, reply.markers, lambda: reply.refusal):
        with contextlib.suppress(WireError):
            read()


@pytest.mark.parametrize("name", HUB_FRAMES)
def test_a_frame_cut_anywhere_is_a_wireerror(name: str) -> None:
    frame = recorded(name)
    # Behind the header of a block without rows there is nothing but zeros.
    (length,) = struct.unpack_from("<I", frame, 4)
    for cut in range(8 + length if name == "publish_block_without_rows" else len(frame)):
        with pytest.raises(WireError):
            (decode_reply if name.startswith("reply_") else decode)(frame[:cut])


@pytest.mark.parametrize("name", ["publish_block", "reply_page"])
@pytest.mark.parametrize("more", [1, 4, 8])
def test_more_samples_than_announced_are_a_wireerror(name: str, more: int) -> None:
    with pytest.raises(WireError, match="bytes of samples where 4 x 3 need 48"):
        (decode_reply if name.startswith("reply_") else decode)(recorded(name) + bytes(more))


@pytest.mark.parametrize("name", HUB_FRAMES)
def test_a_header_longer_than_its_frame_is_a_wireerror(name: str) -> None:
    frame = recorded(name)
    with pytest.raises(WireError, match=f"a header of {len(frame) - 7} bytes in a frame of {len(frame)}"):
        (decode_reply if name.startswith("reply_") else decode)(
            frame[:4] + struct.pack("<I", len(frame) - 7) + frame[8:]
        )


@pytest.mark.parametrize("name", HUB_FRAMES)
def test_another_version_is_named(name: str) -> None:
    frame = bytearray(recorded(name))
    frame[1] = 2
    with pytest.raises(WireError, match="wire version 2, this is 1"):
        (decode_reply if name.startswith("reply_") else decode)(bytes(frame))


def test_what_a_later_hub_adds_to_a_header_is_ignored() -> None:
    beat = {f.name: getattr(BEAT, f.name) for f in fields(BEAT)}
    assert decode(framed(b"H", {**beat, "load": 0.5})) == BEAT
    assert decode(framed(b"X", {"instance": "a", "why": "stop"})) == End("a")
    gap = {"instance": "a", "seq": 0, "records": [["gap", [1, 2, "x"]]]}
    assert decode(framed(b"G", {**gap, "more": 1})) == Records("a", 0, [Gap(1, 2, "x")])
    longer = decode(framed(b"B", [*BLOCK_FIELDS, "more"]))
    assert comparable(longer) == comparable(decode(framed(b"B", BLOCK_FIELDS)))


def test_a_kind_out_of_place_is_a_wireerror() -> None:
    for name in PUBLISHED:
        with pytest.raises(WireError, match="an answer of unknown kind"):
            decode_reply(recorded(f"publish_{name}"))
    for name in REPLIES:
        with pytest.raises(WireError, match="a message of unknown kind b'R'"):
            decode(recorded(f"reply_{name}"))


NOT_OF_THE_KIND: tuple[Any, ...] = (
    None,
    True,
    False,
    2**63,
    0.0,
    1.5,
    float("nan"),
    "",
    "x",
    b"x",
    [],
    [1],
    {},
)
BLOCK_FIELDS: tuple[Any, ...] = (INSTANCE, 3, 8, 0, 2, 1, 2, 3, 4, [])
MARKER_FIELDS = record_to_wire(STIMULUS)[1]
SEGMENT_FIELDS = segment_to_wire(ENDED)


def spoiled(whole: Any, at: Any, value: object) -> Any:
    changed: Any = dict(whole) if isinstance(whole, dict) else list(whole)
    changed[at] = value
    return changed


def wrong_ones(kind: type, *, optional: bool = False) -> list[Any]:
    """Values that msgpack can carry and that are not of this kind; a float is no int, a bool neither."""
    none = (None,) if optional else ()
    return [
        value
        for value in NOT_OF_THE_KIND
        if value not in none and (type(value) is not kind or value == 2**63)
    ]


@pytest.mark.parametrize(("at", "kind"), [(0, str), *((i, int) for i in range(1, 9))])
def test_a_block_with_a_field_of_the_wrong_kind_is_a_wireerror(at: int, kind: type) -> None:
    decode(framed(b"B", BLOCK_FIELDS))
    for value in wrong_ones(kind):
        with pytest.raises(WireError):
            decode(framed(b"B", spoiled(BLOCK_FIELDS, at, value)))


@pytest.mark.parametrize("shape", [(1, True), (True, 1), (1.0, 1), (1, 1.0)])
def test_a_shape_is_of_integers_even_where_the_bytes_would_fit(shape: tuple[Any, Any]) -> None:
    def block(n: object, n_channels: object) -> bytes:
        header = spoiled(spoiled(BLOCK_FIELDS, 3, n), 4, n_channels)
        return framed(b"B", header, bytes(-len(msgpack.packb(header)) % 8 + 4))

    decode(block(1, 1))
    with pytest.raises(WireError, match="no int64"):
        decode(block(*shape))


@pytest.mark.parametrize(("at", "kind"), [*enumerate((int, int, int, str, str, bool, int))])
def test_a_marker_with_a_field_of_the_wrong_kind_is_a_wireerror(at: int, kind: type) -> None:
    for value in wrong_ones(kind):
        wrong = spoiled(MARKER_FIELDS, at, value)
        with pytest.raises(WireError):
            decode(framed(b"B", spoiled(BLOCK_FIELDS, 9, [MARKER_FIELDS, wrong])))
        with pytest.raises(WireError):
            decode(framed(b"M", {"instance": "a", "seq": 0, "records": [["marker", wrong]]}))
        with pytest.raises(WireError):
            decode_reply(framed(b"R", {"id": 1, "ok": True, "markers": [wrong]})).markers()


WRONG_SEGMENTS: dict[int, list[Any]] = {
    0: wrong_ones(int),
    1: wrong_ones(int),
    2: wrong_ones(int, optional=True),
    3: [None, "1", [], 0, 0.0, -1.0, float("nan"), float("inf")],
    4: [None, 1.0, [], [1.0, 2.0], ["x"], [None]],
    5: [None, 1, [], ["a", "b"], [1], [b"a"]],
    6: [None, 1, [], ["a", "b"], [1], [b"a"]],
    7: wrong_ones(str, optional=True),
}


@pytest.mark.parametrize("at", WRONG_SEGMENTS)
def test_a_segment_with_a_field_of_the_wrong_kind_is_a_wireerror(at: int) -> None:
    for value in WRONG_SEGMENTS[at]:
        wrong = spoiled(SEGMENT_FIELDS, at, value)
        with pytest.raises(WireError):
            decode(framed(b"S", {"instance": "a", "seq": 0, "records": [["start", wrong]]}))
        header = {"id": 1, "ok": True, "instance": "a", "seq": 0, "records": [], "before": wrong}
        with pytest.raises(WireError):
            decode_reply(framed(b"R", header)).events()


def test_a_segment_without_channels_is_a_wireerror() -> None:
    none = [*SEGMENT_FIELDS[:4], [], [], [], None]
    with pytest.raises(WireError, match="disagree"):
        decode(framed(b"S", {"instance": "a", "seq": 0, "records": [["start", none]]}))


@pytest.mark.parametrize("at", [2, 7])
def test_a_segments_end_that_does_not_say_where_or_why_is_a_wireerror(at: int) -> None:
    record = ["end", spoiled(SEGMENT_FIELDS, at, None)]
    with pytest.raises(WireError, match="where or why"):
        decode(framed(b"S", {"instance": "a", "seq": 0, "records": [record]}))


@pytest.mark.parametrize(
    "record",
    [None, 1, "ab", [], ["gap"], ["gap", []], ["gap", [1, 2]], ["gap", [1, 2, 3]], ["gap", ["1", 2, "x"]],
     ["other", []], [b"gap", [1, 2, "x"]], ["start", []], ["marker", [1]], ["gap", [1, 2, "x"], 0]],
    ids=repr,
)  # fmt: skip
def test_a_record_of_the_wrong_shape_is_a_wireerror(record: object) -> None:
    with pytest.raises(WireError, match="wrong shape"):
        decode(framed(b"G", {"instance": "a", "seq": 0, "records": [record]}))


@pytest.mark.parametrize("field", ["instance", "state", "segment", "first_available", "next_index", "seq",
                                   "sent_ns", "wall_ns"])  # fmt: skip
def test_a_heartbeat_with_a_field_of_the_wrong_kind_is_a_wireerror(field: str) -> None:
    whole = {f.name: getattr(BEAT, f.name) for f in fields(BEAT)}
    kind = str if field in ("instance", "state") else int
    for value in wrong_ones(kind, optional=field == "segment"):
        with pytest.raises(WireError):
            decode(framed(b"H", spoiled(whole, field, value)))
    del whole[field]
    with pytest.raises(WireError, match="wrong shape"):
        decode(framed(b"H", whole))


@pytest.mark.parametrize("field", ["instance", "segment", "start", "stop", "first_available", "next_index"])
def test_a_page_with_a_field_of_the_wrong_kind_is_a_wireerror(field: str) -> None:
    whole = {"id": 1, "ok": True, **HOLDINGS, "segment": 0, "start": 5, "stop": 5, "n_channels": 3}
    decode_reply(framed(b"R", whole)).page()
    for value in wrong_ones(str if field == "instance" else int):
        with pytest.raises(WireError):
            decode_reply(framed(b"R", spoiled(whole, field, value))).page()


def test_a_reply_without_a_number_is_a_wireerror() -> None:
    assert decode_reply(framed(b"R", {"id": 1})).id == 1
    for value in wrong_ones(int):
        with pytest.raises(WireError):
            decode_reply(framed(b"R", {"id": value}))


@pytest.mark.parametrize("value", [None, float("inf"), float("nan"), "x", []])
def test_a_refusal_with_a_field_of_the_wrong_kind_is_a_wireerror(value: object) -> None:
    _, header = REPLIES["refusal"]
    reply = decode_reply(framed(b"R", {"id": 1, **header, "next_index": value}))
    with pytest.raises(WireError, match="a refusal of the wrong shape"):
        _ = reply.refusal


def test_a_page_that_is_not_as_long_as_it_says_is_a_wireerror() -> None:
    reply = decode_reply(recorded("reply_page"))
    reply.header["stop"] += 1
    with pytest.raises(WireError, match="page length"):
        reply.page()


@pytest.mark.parametrize(
    "shape", [(2**62, 2**62), (2**62, 0), (0, 2**62), (-1, 3), (3, -1), (-1, -1), (1, 1)]
)
def test_an_impossible_shape_is_refused_before_memory_is_taken(shape: tuple[int, int]) -> None:
    header = spoiled(spoiled(BLOCK_FIELDS, 3, shape[0]), 4, shape[1])
    if shape[0] * shape[1] == 0:
        read_all(framed(b"B", header))  # an array of no bytes, if numpy can say it
    else:
        with pytest.raises(WireError):
            decode(framed(b"B", header))


@pytest.mark.parametrize("kind", [b"S", b"G", b"M", b"H", b"X", b"B", b"R"])
@given(header=trees)
@settings(max_examples=60)
@example(header={"instance": "a", "seq": 0, "records": None})
@example(header={"id": 1, "n_channels": 1, "start": float("inf"), "stop": float("inf")})
@example(header="n_channels")
@example(header=["n_channels"])
def test_any_header_is_read_or_a_wireerror(kind: bytes, header: object) -> None:
    read_all(framed(kind, header))


@given(st.binary(max_size=80), st.sampled_from((b"", b"B\1\0\0", b"R\1\0\0", b"S\1\0\0\4\0\0\0")))
@settings(max_examples=300)
def test_random_bytes_are_a_wireerror(body: bytes, prefix: bytes) -> None:
    read_all(prefix + body)


@given(st.sampled_from(HUB_FRAMES), st.integers(0, 400), st.integers(1, 255), st.integers(0, 400))
@settings(max_examples=300)
def test_a_recorded_frame_with_a_wrong_byte_is_read_or_a_wireerror(
    name: str, at: int, flip: int, cut: int
) -> None:
    frame = bytearray(recorded(name))
    frame[at % len(frame)] ^= flip
    read_all(bytes(frame))
    read_all(bytes(frame[: cut % len(frame)]))


def _write_golden() -> None:
    DATA.mkdir(exist_ok=True)
    for old in DATA.glob("*.bin"):
        old.unlink()
    for name, frame in golden().items():
        (DATA / f"{name}.bin").write_bytes(frame)


if __name__ == "__main__":
    _write_golden()
