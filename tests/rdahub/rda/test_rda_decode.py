"""The decoder against recorded streams, against every rule of docs/explanation/rda.md, and under any cut."""

from __future__ import annotations

import math
import random
import struct
import tracemalloc
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from rdahub.rda import (
    DATA16,
    DATA32,
    GUID,
    IMPEDANCE_DATA,
    INFO,
    KEEP_ALIVE,
    NEW_STATE,
    START,
    STOP,
    BlockMarker,
    Data,
    Decoder,
    Electrode,
    Impedances,
    ImpedanceStart,
    ImpedanceStop,
    Info,
    KeepAlive,
    Message,
    NewState,
    Note,
    ProtocolError,
    Start,
    Stop,
    TruncatedError,
    Unknown,
    encode,
)

RDA = Path(__file__).parents[2] / "data" / "rda"
CAPTURE = RDA / "pycorder_all_types_3ch_then_5ch.rda"
MANIFEST = [
    line.split("\t")[:2] for line in (RDA / "cases" / "MANIFEST.tsv").read_text("utf-8").splitlines() if line
]
STREAMS = [RDA / "golden.rda", CAPTURE, *sorted((RDA / "cases").glob("*.rda"))]

# Problem and offset that each recorded bad stream must be refused with.
REFUSED = {
    "bad_guid": ("guid", 60),
    "bad_size_small": ("size", 60 + 16),
    "bad_size_huge": ("size", 60 + 16),
    "bad_start_nch0": ("channels", 24),
    "bad_start_dtnan": ("interval", 28),
    "bad_start_names_missing": ("names", 36 + 2 * 8),
    "bad_data_before_start": ("data_before_start", 20),
    "bad_data_points_huge": ("data_body", 60 + 28),
    "bad_marker_size_zero": ("marker_size", 60 + 36 + 10 * 2 * 4),
    "bad_marker_count": ("marker_count", 60 + 32),
}


def plain(message: Message) -> tuple[object, ...]:
    """A message as something that compares, NaN equal to itself and every bit of a sample counting."""
    if isinstance(message, Data):
        samples = message.samples
        markers = repr(message.markers)
        return (message.counter, samples.dtype.str, samples.shape, samples.tobytes(), markers)
    return (repr(message),)


def plains(messages: Iterable[Message]) -> list[tuple[object, ...]]:
    return [plain(message) for message in messages]


def decode(stream: bytes, cuts: Iterable[int] = ()) -> tuple[list[Message], ProtocolError | None]:
    """Messages of the stream fed in pieces, and the error it ended with."""
    decoder = Decoder()
    seen: list[Message] = []
    edges = sorted({0, len(stream), *cuts})
    try:
        for begin, end in pairwise(edges):
            decoder.feed(stream[begin:end])
            for message in decoder:
                seen.append(message)  # noqa: PERF402  list() would be lost with the error
        decoder.eof()
    except ProtocolError as error:
        return seen, error
    return seen, None


def good(stream: bytes) -> list[Message]:
    seen, error = decode(stream)
    assert error is None
    return seen


def refused(stream: bytes) -> ProtocolError:
    """The error of a bad stream, checked to be the same when the bytes come one by one."""
    seen, error = decode(stream)
    seen_bytewise, error_bytewise = decode(stream, range(len(stream)))
    assert error is not None
    assert str(error) == str(error_bytewise)
    assert plains(seen) == plains(seen_bytewise)
    assert str(error).startswith(f"at byte {error.offset}: ")
    assert "\n" not in str(error)
    return error


def frame(kind: int, body: bytes = b"", size: int | None = None) -> bytes:
    return GUID + struct.pack("<II", 24 + len(body) if size is None else size, kind) + body


def start_body(n: int = 2, interval: float = 1000.0, names: bytes = b"a\0b\0") -> bytes:
    return struct.pack("<Idd d", n, interval, 0.5, 0.5) + names


def data_body(points: int = 1, markers: int = 0, rest: bytes = b"", counter: int = 1) -> bytes:
    return struct.pack("<III", counter, points, markers) + bytes(8 * points) + rest


def record(text: bytes, position: int = 0, points: int = 1, channel: int = -1) -> bytes:
    return struct.pack("<IiIi", 16 + len(text), position, points, channel) + text


TWO = frame(START, start_body())  # a START of two channels
N = len(TWO)


# Recorded streams


def test_golden_vector() -> None:
    start, data, stop = good((RDA / "golden.rda").read_bytes())
    assert start == Start(2000.0, (0.1, 0.5), ("Fp1", "auxµ"))
    assert isinstance(data, Data)
    assert data.counter == 7
    assert data.samples.dtype == np.float32
    assert data.samples.tolist() == [[1.0, -2.0], [3.5, 0.25]]
    assert data.markers == (BlockMarker(1, 1, -1, "Stimulus", "S  1"),)
    assert stop == Stop()


@pytest.mark.parametrize(("name", "verdict"), MANIFEST)
def test_recorded_stream_gets_its_verdict(name: str, verdict: str) -> None:
    seen, error = decode((RDA / "cases" / f"{name}.rda").read_bytes())
    if verdict == "reject":
        assert error is not None
        assert (error.problem, error.offset) == REFUSED[name]
    elif verdict == "disconnect":
        assert isinstance(error, TruncatedError)
        assert (error.offset, error.missing) == (236, 56)
    else:
        assert error is None
        assert any(isinstance(message, Data) for message in seen)
        notes = [message.name for message in seen if isinstance(message, Note)]
        assert notes == (["mixed_types"] if name == "soft_type_mix" else [])


def test_manifest_is_complete() -> None:
    assert {name for name, _ in MANIFEST} == {path.stem for path in (RDA / "cases").glob("*.rda")}
    assert {name for name, verdict in MANIFEST if verdict == "reject"} == REFUSED.keys()


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.stem)
def test_recorded_stream_byte_by_byte(path: Path) -> None:
    stream = path.read_bytes()
    whole, bytewise = decode(stream), decode(stream, range(len(stream)))
    assert plains(whole[0]) == plains(bytewise[0])
    assert str(whole[1]) == str(bytewise[1])


@pytest.mark.parametrize("seed", range(20))
def test_recorded_streams_at_random_cuts(seed: int) -> None:
    rng = random.Random(seed)
    for path in STREAMS:
        stream = path.read_bytes()
        whole = decode(stream)
        cut = decode(stream, rng.sample(range(len(stream)), rng.randint(1, min(40, len(stream)))))
        assert plains(whole[0]) == plains(cut[0])
        assert str(whole[1]) == str(cut[1])


def test_pycorder_capture_sample_by_sample() -> None:
    layouts: list[Start] = []
    kinds = set()
    k = 0
    rows = []
    for message in good(CAPTURE.read_bytes()):
        kinds.add(type(message))
        if isinstance(message, Start):
            layouts.append(message)
            rows.append(k)
            k = 0
        elif isinstance(message, Data):
            n_points, n_channels = message.samples.shape
            assert n_channels == layouts[-1].n_channels
            index = np.arange(k, k + n_points)[:, None]
            expected = (7 * index + 1000 * np.arange(n_channels)) % 20001 - 10000 + 0.25
            np.testing.assert_array_equal(message.samples, expected.astype(np.float32))
            k += n_points
    assert [*rows[1:], k] == [30 * 25, 20 * 25]
    assert [layout.names for layout in layouts] == [
        ("ch00", "ch01", "auxµ2"),
        ("ch00", "ch01", "ch02", "ch03", "auxµ4"),
    ]
    assert kinds == {
        Unknown, Info, NewState, KeepAlive, ImpedanceStart, Impedances, ImpedanceStop, Start, Data, Stop,
    }  # fmt: skip


def test_pycorder_capture_vendor_bodies() -> None:
    seen = good(CAPTURE.read_bytes())
    assert seen[0] == Unknown(100_000, 42)
    assert seen[1] == Info(2.0, 2000.0, (1.0,) * 3, ("ch00", "ch01", "auxµ2"), ("µV",) * 3)
    impedances = next(message for message in seen if isinstance(message, Impedances))
    assert [(e.name, e.kohm) for e in impedances.electrodes] == [
        ("ch00", 5), ("ch01", 6), ("auxµ2", -1), ("GND", 3),
    ]  # fmt: skip
    markers = [marker for message in seen if isinstance(message, Data) for marker in message.markers]
    assert BlockMarker(-25, 1, 0, "Stimulus", "S  3") in markers
    assert BlockMarker(0, 1, 0, "Comment", "äö note") in markers


# Refused

BAD = {
    "guid": (frame(STOP) + b"X" + frame(STOP)[1:], "guid", 24),
    "size below 24": (frame(STOP, size=23), "size", 16),
    "size 0": (frame(STOP, size=0), "size", 16),
    "size above the cap": (frame(START, size=64 * 2**20 + 1), "size", 16),
    "size of an unknown type above the cap": (frame(77, size=2**32 - 1), "size", 16),
    "START without body": (frame(START), "start_body", 16),
    "START one byte short": (frame(START, bytes(11)), "start_body", 16),
    "START without room for resolutions": (frame(START, struct.pack("<Idd", 2, 1.0, 1.0)), "start_body", 24),
    "no channels": (frame(START, start_body(n=0)), "channels", 24),
    "too many channels": (frame(START, start_body(n=65_537)), "channels", 24),
    "8n wraps 32 bits": (frame(START, start_body(n=0x2000_0000)), "channels", 24),
    "interval 0": (frame(START, start_body(interval=0.0)), "interval", 28),
    "interval negative": (frame(START, start_body(interval=-1.0)), "interval", 28),
    "interval NaN": (frame(START, start_body(interval=math.nan)), "interval", 28),
    "interval infinite": (frame(START, start_body(interval=math.inf)), "interval", 28),
    "interval so small that the rate is infinite": (
        frame(START, start_body(interval=5e-324)),
        "interval",
        28,
    ),
    "no names": (frame(START, start_body(names=b"")), "names", 52),
    "last name without NUL": (frame(START, start_body(names=b"a\0b")), "names", 52),
    "int16 before START": (frame(KEEP_ALIVE) + frame(DATA16, data_body()), "data_before_start", 24 + 20),
    "float32 before START": (frame(DATA32), "data_before_start", 20),
    "DATA without body": (TWO + frame(DATA32), "data_body", N + 16),
    "DATA one byte short": (TWO + frame(DATA32, bytes(11)), "data_body", N + 16),
    "more points than bytes": (TWO + frame(DATA32, data_body()[:-1]), "data_body", N + 28),
    "points wrap 32 bits": (
        TWO + frame(DATA32, struct.pack("<III", 1, 0x2000_0000, 0) + bytes(64)),
        "data_body",
        N + 28,
    ),
    "more markers than bytes": (TWO + frame(DATA32, data_body(markers=2**32 - 1)), "marker_count", N + 32),
    "fewer records than markers": (
        TWO + frame(DATA32, data_body(markers=2, rest=record(bytes(16)))),
        "marker_count",
        N + 32,
    ),
    "marker size 0": (TWO + frame(DATA32, data_body(markers=1, rest=bytes(16))), "marker_size", N + 44),
    "marker size 15": (
        TWO + frame(DATA32, data_body(markers=1, rest=b"\x0f" + bytes(15))),
        "marker_size",
        N + 44,
    ),
    "second marker past the end": (
        TWO + frame(DATA32, data_body(markers=2, rest=record(b"a\0b\0") + record(b"a\0b\0")[:-1])),
        "marker_size",
        N + 44 + 20,
    ),
}


@pytest.mark.parametrize(("stream", "problem", "offset"), BAD.values(), ids=BAD.keys())
def test_refused(stream: bytes, problem: str, offset: int) -> None:
    error = refused(stream + frame(STOP))
    assert (error.problem, error.offset) == (problem, offset)


@pytest.mark.parametrize(
    ("there", "problem"),
    [
        (frame(START, size=2**32 - 1), "size"),
        (frame(START, size=30), "start_body"),
        (frame(START, start_body(n=0)[:12], size=1000), "channels"),
        (frame(START, start_body(n=1000)[:12], size=1000), "start_body"),
        (frame(START, start_body(interval=0.0)[:12], size=1000), "interval"),
        (frame(DATA32, size=1000), "data_before_start"),
        (TWO + frame(DATA32, size=30), "data_body"),
        (TWO + frame(DATA32, struct.pack("<III", 1, 1000, 0), size=1000), "data_body"),
        (TWO + frame(DATA32, struct.pack("<III", 1, 1, 1000), size=1000), "marker_count"),
    ],
)
def test_refused_before_the_body_is_there(there: bytes, problem: str) -> None:
    decoder = Decoder()
    decoder.feed(there[:-1])
    list(decoder)
    decoder.feed(there[-1:])
    with pytest.raises(ProtocolError) as caught:
        list(decoder)
    assert caught.value.problem == problem


def test_error_says_what_was_found_and_expected() -> None:
    assert str(refused(frame(STOP, size=20))) == (
        "at byte 16: message size is 20 bytes, expected 24 to 67108864"
    )


def test_good_messages_come_before_the_error() -> None:
    decoder = Decoder()
    decoder.feed(TWO + frame(STOP) + bytes(24))
    messages = iter(decoder)
    assert isinstance(next(messages), Start)
    assert next(messages) == Stop()
    with pytest.raises(ProtocolError):
        next(messages)


def test_dead_decoder_stays_dead() -> None:
    decoder = Decoder()
    decoder.feed(TWO + bytes(24))
    assert isinstance(next(iter(decoder)), Start)
    with pytest.raises(ProtocolError) as first:
        list(decoder)
    decoder.feed(TWO * 100_000)
    assert len(decoder._buffer) < 2**20
    with pytest.raises(ProtocolError) as second:
        list(decoder)
    with pytest.raises(ProtocolError) as third:
        decoder.eof()
    assert first.value is second.value is third.value
    assert (decoder.offset, first.value.offset) == (N, N)


def test_limits_can_be_set() -> None:
    decoder = Decoder(max_message=N, max_channels=2)
    decoder.feed(TWO)
    assert len(list(decoder)) == 1
    for narrow, problem in (Decoder(max_message=N - 1), "size"), (Decoder(max_channels=1), "channels"):
        narrow.feed(TWO)
        with pytest.raises(ProtocolError) as caught:
            list(narrow)
        assert caught.value.problem == problem


# The end of the stream


@pytest.mark.parametrize(
    ("stream", "offset", "missing"),
    [
        (TWO[:1], 1, 23),
        (TWO[:23], 23, 1),
        (TWO[:24], 24, N - 24),
        (TWO + TWO[:-1], 2 * N - 1, 1),
        (frame(77, bytes(10), size=100), 34, 66),
        (frame(KEEP_ALIVE, size=25), 24, 1),
    ],
)
def test_end_inside_a_message(stream: bytes, offset: int, missing: int) -> None:
    error = refused(stream)
    assert isinstance(error, TruncatedError)
    assert (error.problem, error.offset, error.missing) == ("truncated", offset, missing)
    assert f"{missing} bytes missing" in str(error)


@pytest.mark.parametrize("stream", [b"", TWO, frame(77, bytes(10))])
def test_end_between_messages(stream: bytes) -> None:
    assert decode(stream)[1] is None


def test_eof_keeps_messages_not_yet_taken() -> None:
    stream = TWO + frame(DATA32, data_body(rest=b"?")) + frame(DATA16, struct.pack("<III", 2, 0, 0))
    expected = plains(good(stream))
    decoder = Decoder()
    decoder.feed(stream)
    next(iter(decoder))
    decoder.eof()
    assert plains(decoder) == expected[1:]
    assert decoder.offset == len(stream)


def test_iteration_begun_before_eof_goes_on_after_it() -> None:
    stream = TWO + frame(DATA32, data_body(rest=b"?")) + frame(STOP)
    expected = plains(good(stream))
    decoder = Decoder()
    decoder.feed(stream)
    messages = iter(decoder)
    seen = [next(messages), next(messages)]  # the note on the second is waiting
    decoder.eof()
    assert plains([*seen, *messages]) == expected


def test_eof_keeps_good_messages_before_an_error() -> None:
    decoder = Decoder()
    decoder.feed(TWO + bytes(24))
    with pytest.raises(ProtocolError):
        decoder.eof()
    messages = iter(decoder)
    assert isinstance(next(messages), Start)
    with pytest.raises(ProtocolError):
        next(messages)


# Tolerated


@pytest.mark.parametrize(
    ("raw", "names"),
    [
        (b"a\0b\0\0\0", ("a", "b")),
        (b"\0\0", ("", "")),
        (b"a\0a\0", ("a", "a")),
        (b"\xb5\0\xc2\xb5\0", ("µ", "µ")),  # Windows-1252 and UTF-8 beside each other
        (b"\x81\xb5\0b\0", ("\x81µ", "b")),  # no Windows-1252 character
    ],
)
def test_names(raw: bytes, names: tuple[str, ...]) -> None:
    (start,) = good(frame(START, start_body(names=raw)))
    assert isinstance(start, Start)
    assert start.names == names


@pytest.mark.parametrize("interval", [1e-300, 1000 / 3, 1e300])
def test_any_finite_rate(interval: float) -> None:
    (start,) = good(frame(START, start_body(interval=interval)))
    assert start == Start(interval, (0.5, 0.5), ("a", "b"))


@pytest.mark.parametrize(
    ("raw", "texts"),
    [
        (b"Stimulus\0S  1\0", ("Stimulus", "S  1")),
        (b"New Segment\0\0", ("New Segment", "")),
        (b"Stimulus:S  1\0", ("Stimulus:S  1", "")),
        (b"Stimulus", ("Stimulus", "")),
        (b"Stimulus\0S  1", ("Stimulus", "S  1")),
        (b"Stimulus\0S  1\0more\0", ("Stimulus", "S  1")),
        (b"", ("", "")),
        (b"\0", ("", "")),
        (b"\0\0", ("", "")),
        (b"Comment\0\xc3\xa4\0", ("Comment", "ä")),
        (b"Comment\0\xe4\0", ("Comment", "ä")),
    ],
)
def test_marker_text_stays_in_its_record(raw: bytes, texts: tuple[str, str]) -> None:
    body = data_body(markers=2, rest=record(raw) + record(b"next\0one\0"))
    _, data = good(TWO + frame(DATA32, body))
    assert isinstance(data, Data)
    assert data.markers == (BlockMarker(0, 1, -1, *texts), BlockMarker(0, 1, -1, "next", "one"))


@pytest.mark.parametrize("position", [-25, -(2**31), 0, 5000, 2**31 - 1])
@pytest.mark.parametrize("channel", [-1, 0, 99])
def test_marker_anywhere(position: int, channel: int) -> None:
    body = data_body(points=0, markers=1, rest=record(b"a\0b\0", position, 0, channel))
    _, data = good(TWO + frame(DATA32, body))
    assert isinstance(data, Data)
    assert data.samples.shape == (0, 2)
    assert data.markers == (BlockMarker(position, 0, channel, "a", "b"),)


@pytest.mark.parametrize("kind", [STOP, 6, 8, KEEP_ALIVE, 77, 0, 2**32 - 1])
def test_bodies_are_skipped(kind: int) -> None:
    bare = good(frame(kind))[0]
    seen = good(frame(kind, GUID * 1000) + frame(STOP))
    assert seen == [Unknown(kind, 16_024) if isinstance(bare, Unknown) else bare, Stop()]


def test_runs_follow_each_other_in_any_way() -> None:
    data = frame(DATA32, data_body())
    three = encode(Start(500.0, (1.0,) * 3, ("x", "y", "z")))
    wide = encode(Data(0, np.ones((1, 3), np.float32)))
    stream = TWO + data + TWO + data + frame(STOP) * 2 + three + wide + TWO + data
    shapes = [message.samples.shape for message in good(stream) if isinstance(message, Data)]
    assert shapes == [(1, 2), (1, 2), (1, 3), (1, 2)]


def test_counter_is_passed_on_unjudged() -> None:
    counters = [0, 1, 1, 7, 2**32 - 1, 0]
    stream = TWO + b"".join(frame(DATA32, data_body(counter=c)) for c in counters)
    assert [message.counter for message in good(stream) if isinstance(message, Data)] == counters


def test_nan_and_infinite_samples_keep_their_bits() -> None:
    raw = struct.pack("<4I", 0x7FC0_0001, 0x7F80_0001, 0x7F80_0000, 0xFF80_0000)
    _, data = good(TWO + frame(DATA32, struct.pack("<III", 1, 2, 0) + raw))
    assert isinstance(data, Data)
    assert data.samples.astype("<f4").tobytes() == raw


# Reported


def notes(stream: bytes) -> Iterator[tuple[str, int]]:
    whole, bytewise = good(stream), decode(stream, range(len(stream)))[0]
    assert plains(whole) == plains(bytewise)
    return ((message.name, message.offset) for message in whole if isinstance(message, Note))


def test_bytes_after_the_last_marker() -> None:
    body = data_body(markers=1, rest=record(b"a\0b\0") + b"???")
    stream = TWO + frame(DATA32, body) + frame(STOP)
    assert list(notes(stream)) == [("leftover_bytes", N + 24 + 12 + 8 + 20)]
    assert [type(message) for message in good(stream)] == [Start, Data, Note, Stop]


def test_bytes_after_the_samples() -> None:
    assert list(notes(TWO + frame(DATA32, data_body(rest=b"\0")))) == [("leftover_bytes", N + 44)]


def test_text_after_the_last_name() -> None:
    assert list(notes(frame(START, start_body(names=b"a\0b\0\0c")))) == [("leftover_bytes", 52 + 4)]


@pytest.mark.parametrize("resolution", [0.0, -0.0, -1.0, math.nan, math.inf, -math.inf])
def test_bad_resolution(resolution: float) -> None:
    stream = encode(Start(1000.0, (1.0, resolution, resolution), ("a", "b", "c")))
    assert list(notes(stream)) == [("bad_resolution", 36 + 8)]
    start, note = good(stream)
    assert isinstance(start, Start)
    assert isinstance(note, Note)
    assert note.text == f"resolution of channel 1 is {resolution}; 2 of 3 are unusable"


def test_mixed_types_once_per_run() -> None:
    whole, half = frame(DATA32, data_body()), frame(DATA16, struct.pack("<III4x", 1, 1, 0))
    run = whole + half + whole + half
    stream = TWO + run + TWO + half + half + frame(STOP) + TWO + half + whole
    at = len(TWO + whole) + 20
    last = len(stream) - len(whole) + 20
    assert list(notes(stream)) == [("mixed_types", at), ("mixed_types", last)]
    dtypes = [message.samples.dtype for message in good(stream)[1:6] if isinstance(message, Data)]
    assert dtypes == [np.float32, np.int16, np.float32, np.int16]


def test_data_after_stop() -> None:
    stream = TWO + frame(STOP) + frame(DATA32, bytes(3)) + frame(DATA16, data_body()) + TWO
    assert list(notes(stream)) == [("data_after_stop", N + 24 + 20), ("data_after_stop", N + 24 + 27 + 20)]
    assert [type(message) for message in good(stream)] == [Start, Stop, Note, Note, Start]


INFO_FIXED = struct.pack("<dId", 2.0, 1, 1000.0)
ONE_ELECTRODE = struct.pack("<Iffi", 1, 0.0, 0.0, 5)


@pytest.mark.parametrize(
    ("kind", "body", "offset"),
    [
        (NEW_STATE, b"", 24),
        (NEW_STATE, bytes(3), 24),
        (INFO, bytes(19), 24),
        (INFO, struct.pack("<dId", 2.0, 2**32 - 1, 1000.0) + bytes(100), 44),
        (INFO, INFO_FIXED + bytes(8) + b"a\0\0\0b\0", 56),
        (INFO, INFO_FIXED + bytes(8) + b"\0\0\0", 44),
        (INFO, INFO_FIXED + bytes(8) + b"\0\xd8\0\0" + b"\0\0", 52),
        (IMPEDANCE_DATA, bytes(3), 24),
        (IMPEDANCE_DATA, struct.pack("<I", 2**32 - 1) + bytes(100), 28),
        (IMPEDANCE_DATA, ONE_ELECTRODE + b"a\0", 40),
        (IMPEDANCE_DATA, ONE_ELECTRODE + b"a\0\0b\0", 40),
        (IMPEDANCE_DATA, b"\2" + ONE_ELECTRODE[1:] + b"a\0b\0c\0d\0e\0f\0g\0\0\0", 56),
    ],
)
def test_malformed_vendor_body(kind: int, body: bytes, offset: int) -> None:
    stream = frame(kind, body) + frame(STOP)
    assert list(notes(stream)) == [("bad_body", offset)]
    assert good(stream)[-1] == Stop()


def test_vendor_text_with_zero_bytes_across_characters() -> None:
    (seen,) = good(frame(IMPEDANCE_DATA, ONE_ELECTRODE + "Ā\x01Āb".encode("utf-16-le") + b"\0\0"))
    assert seen == Impedances((Electrode("Ā\x01Āb", 0.0, 0.0, 5),))


def test_bytes_behind_vendor_fields_are_ignored() -> None:
    assert good(frame(NEW_STATE, struct.pack("<i", 3) + b"??")) == [NewState(3)]


# The buffer


def test_messages_own_their_samples() -> None:
    decoder = Decoder()
    block = encode(Data(1, np.full((1, 2), 7, np.int16)))
    decoder.feed(TWO + block)
    _, data = decoder
    room = decoder.get_buffer()
    room[:] = b"\xff" * len(room)
    assert isinstance(data, Data)
    assert data.samples.tolist() == [[7, 7]]
    assert data.samples.flags.owndata
    assert data.samples.flags.writeable


def test_stated_size_allocates_nothing() -> None:
    decoder = Decoder()
    tracemalloc.start()
    try:
        decoder.feed(TWO + frame(DATA32, struct.pack("<III", 1, 1, 0), size=63 * 2**20))
        list(decoder)
        decoder.get_buffer(63 * 2**20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 200_000


def test_skipped_body_is_not_collected() -> None:
    decoder = Decoder()
    size = 60 * 2**20
    decoder.feed(frame(77, size=size))
    assert list(decoder) == []
    piece = bytes(48 * 2**10)
    left = size - 24
    while left:
        n = min(left, len(piece))
        decoder.feed(piece[:n])
        left -= n
        assert list(decoder) == ([] if left else [Unknown(77, size)])
        assert len(decoder._buffer) < 2**18
    assert decoder.offset == size


def test_buffer_follows_the_bytes_and_shrinks_again() -> None:
    decoder = Decoder()
    big = encode(Data(1, np.arange(3 * 2**20, dtype=np.float32).reshape(-1, 2)))
    decoder.feed(TWO + big[:-1])
    assert len(list(decoder)) == 1
    assert len(big) <= len(decoder._buffer) <= 4 * len(big)
    decoder.feed(big[-1:])
    (data,) = decoder
    assert isinstance(data, Data)
    assert data.samples[-1].tolist() == [3 * 2**20 - 2, 3 * 2**20 - 1]
    decoder.get_buffer()
    assert len(decoder._buffer) == 2**16
    decoder.feed(frame(STOP))
    assert list(decoder) == [Stop()]
    assert decoder.offset == N + len(big) + 24


def test_buffer_stays_small_in_a_long_run() -> None:
    decoder = Decoder()
    block = encode(Data(1, np.zeros((20, 64), np.float32)))
    stream = encode(Start(1.0, (1.0,) * 64, ("",) * 64)) + block * 500
    seen = 0
    for begin in range(0, len(stream), 7001):
        decoder.feed(stream[begin : begin + 7001])
        seen += sum(1 for _ in decoder)
        assert len(decoder._buffer) == 2**16
    assert seen == 501
    assert decoder.offset == len(stream)


def test_get_buffer_as_asyncio_uses_it() -> None:
    decoder = Decoder()
    stream = TWO * 5000
    seen = 0
    held: list[memoryview] = []  # a transport may keep old views alive
    while stream:
        room = decoder.get_buffer(-1)
        held.append(room)
        assert len(room) > 0
        assert not room.readonly
        n = min(len(room), 1000, len(stream))
        room[:n] = stream[:n]
        decoder.buffer_updated(n)
        stream = stream[n:]
        if len(stream) % 3 == 0:
            seen += sum(1 for _ in decoder)
    seen += sum(1 for _ in decoder)
    assert seen == 5000


@pytest.mark.parametrize("nbytes", [-1, 2**16 + 1])
def test_impossible_byte_count(nbytes: int) -> None:
    with pytest.raises(ValueError, match="cannot have been received"):
        Decoder().buffer_updated(nbytes)


def test_leaving_the_iteration_loses_nothing() -> None:
    stream = TWO + frame(DATA32, data_body(rest=b"?")) + frame(STOP)
    expected = plains(good(stream))
    decoder = Decoder()
    decoder.feed(stream)
    seen = []
    while (message := next(iter(decoder), None)) is not None:
        seen.append(message)
    assert plains(seen) == expected


# Any messages, any cut

uint32 = st.integers(0, 2**32 - 1)
int32 = st.integers(-(2**31), 2**31 - 1)
double = st.floats(width=64)
single = st.floats(width=32)
text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6) | st.text(
    st.sampled_from("aµÃ©Â€äß\x81 "), max_size=6
)
markers = st.lists(st.builds(BlockMarker, int32, uint32, int32, text, text), max_size=3).map(tuple)
electrodes = st.lists(st.builds(Electrode, text, single, single, int32), max_size=3).map(tuple)
unknown = st.builds(Unknown, st.integers(10, 9999) | st.integers(10_001, 2**32 - 1), st.integers(24, 200))


@st.composite
def infos(draw: st.DrawFn) -> Info:
    n = draw(st.integers(0, 3))
    texts = st.tuples(*[text] * n)
    return Info(draw(double), draw(double), draw(st.tuples(*[double] * n)), draw(texts), draw(texts))


others = st.one_of(
    st.just(KeepAlive()),
    st.builds(NewState, int32),
    st.just(ImpedanceStart()),
    st.builds(Impedances, electrodes),
    st.just(ImpedanceStop()),
    infos(),
    unknown,
)


@st.composite
def runs(draw: st.DrawFn) -> list[Message]:
    """Anything, then perhaps a START, data that fit it, and perhaps a STOP."""
    messages: list[Message] = draw(st.lists(others, max_size=2))
    if draw(st.booleans()):
        return messages
    n = draw(st.integers(1, 4))
    interval = draw(st.floats(1e-3, 1e9))
    names, resolutions = draw(st.tuples(*[text] * n)), draw(st.tuples(*[double] * n))
    messages.append(Start(interval, resolutions, names))
    for _ in range(draw(st.integers(0, 3))):
        shape = (draw(st.integers(0, 3)), n)
        samples = draw(npst.arrays(np.float32, shape) | npst.arrays(np.int16, shape))
        messages.append(Data(draw(uint32), samples, draw(markers)))
        messages += draw(st.lists(others, max_size=1))
    if draw(st.booleans()):
        messages.append(Stop())
    return messages


@given(st.lists(runs(), max_size=3), st.data())
def test_any_messages_survive_any_cut(parts: list[list[Message]], data: st.DataObject) -> None:
    sent = [message for part in parts for message in part]
    stream = b"".join(map(encode, sent))
    cuts = data.draw(st.sets(st.integers(0, len(stream)), max_size=20))
    seen, error = decode(stream, cuts)
    assert error is None
    assert plains(message for message in seen if not isinstance(message, Note)) == plains(sent)
    assert plains(decode(stream)[0]) == plains(seen)


@given(st.binary(max_size=200), st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4))
def test_any_bytes_give_nothing_but_protocol_errors(tail: bytes, flips: list[tuple[int, int]]) -> None:
    stream = bytearray((RDA / "golden.rda").read_bytes() + tail)
    for at, value in flips:
        stream[at % len(stream)] = value
    whole, bytewise = decode(bytes(stream)), decode(bytes(stream), range(len(stream)))
    assert plains(whole[0]) == plains(bytewise[0])
    assert str(whole[1]) == str(bytewise[1])
