"""The encoder's bytes, and what it refuses. That bytes decode to what was encoded: test_rda_decode.py."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from rdahub.rda import (
    GUID,
    BlockMarker,
    Data,
    Electrode,
    Impedances,
    Info,
    KeepAlive,
    Message,
    NewState,
    Note,
    Start,
    Stop,
    Unknown,
    encode,
)

RDA = Path(__file__).parents[2] / "data" / "rda"


def header(size: int, kind: int) -> bytes:
    return GUID + struct.pack("<II", size, kind)


def test_golden_vector() -> None:
    samples = np.array([[1.0, -2.0], [3.5, 0.25]], np.float32)
    messages: list[Message] = [
        Start(2000.0, (0.1, 0.5), ("Fp1", "auxµ")),
        Data(7, samples, (BlockMarker(1, 1, -1, "Stimulus", "S  1"),)),
        Stop(),
    ]
    assert b"".join(map(encode, messages)) == (RDA / "golden.rda").read_bytes()


def test_int16_data() -> None:
    data = Data(2**32 - 1, np.array([[1, -2]], np.int16))
    assert encode(data) == header(40, 2) + struct.pack("<IIIhh", 2**32 - 1, 1, 0, 1, -2)


def test_samples_in_any_memory_order() -> None:
    samples = np.arange(12, dtype=np.int16).reshape(3, 4)
    assert encode(Data(1, np.asfortranarray(samples))) == encode(Data(1, samples))
    assert encode(Data(1, samples[::2, ::-1])) == encode(Data(1, samples[::2, ::-1].copy()))


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("Cz", b"Cz"),
        ("µ€", b"\xb5\x80"),
        ("Ω", "Ω".encode()),
        ("Ã©", "Ã©".encode()),  # in Windows-1252 this would read back as é
        ("\x81", b"\xc2\x81"),
        ("", b""),
    ],
)
def test_names(name: str, raw: bytes) -> None:
    assert encode(Start(1.0, (1.0,), (name,)))[44:] == raw + b"\0"


def test_marker_text_is_utf8() -> None:
    data = Data(1, np.zeros((0, 1), np.int16), (BlockMarker(-25, 0, 3, "Comment", "ä"),))
    assert encode(data)[36:] == struct.pack("<IiIi", 27, -25, 0, 3) + b"Comment\0\xc3\xa4\0"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (KeepAlive(), header(24, 10_000)),
        (NewState(-1), header(28, 5) + b"\xff\xff\xff\xff"),
        (Unknown(77, 27), header(27, 77) + bytes(3)),
        (
            Info(2.0, 500.0, (1.0,), ("a",), ("µV",)),
            header(62, 9) + struct.pack("<dIdd", 2.0, 1, 500.0, 1.0) + "a\0µV\0".encode("utf-16-le"),
        ),
        (
            Impedances((Electrode("GND", 0.5, 0.25, -1),)),
            header(48, 7) + struct.pack("<Iffi", 1, 0.5, 0.25, -1) + "GND\0".encode("utf-16-le"),
        ),
    ],
)
def test_other_messages(message: Message, expected: bytes) -> None:
    assert encode(message) == expected


ROW = np.zeros((1, 1), np.int16)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (Note(0, "bad_body", ""), "RDA has no message for Note"),
        (Start(1.0, (), ()), "at least one channel"),
        (Start(1.0, (1.0,), ("a", "b")), "1 resolutions but 2 names"),
        (Start(0.0, (1.0,), ("a",)), "sampling interval is 0.0 microseconds"),
        (Start(5e-324, (1.0,), ("a",)), "sampling interval is 5e-324 microseconds"),
        (Start(float("nan"), (1.0,), ("a",)), "sampling interval is nan microseconds"),
        (Start(1.0, (1.0,), ("a\0b",)), "holds a NUL"),
        (Start(1.0, (1.0,), ("\ud800",)), "lone surrogate"),
        (Data(1, ROW, (BlockMarker(0, 1, -1, "a\0", ""),)), "holds a NUL"),
        (Data(1, ROW, (BlockMarker(0, 1, -1, "", "\0"),)), "holds a NUL"),
        (Data(1, ROW, (BlockMarker(2**31, 1, -1, "", ""),)), "does not fit its field"),
        (Data(1, ROW, (BlockMarker(0, -1, -1, "", ""),)), "does not fit its field"),
        (Data(-1, ROW), "does not fit its field"),
        (Data(2**32, ROW), "does not fit its field"),
        (Data(1, ROW[0]), "1 dimensions, expected 2"),
        (Data(1, ROW.astype(np.float64)), "samples are float64, expected int16 or float32"),  # type: ignore[arg-type]  # the point
        (Data(1, ROW.astype(np.int32)), "samples are int32, expected int16 or float32"),  # type: ignore[arg-type]  # the point
        (NewState(2**31), "does not fit its field"),
        (Impedances((Electrode("a", 1e300, 0.0, 0),)), "does not fit its field"),
        (Impedances((Electrode("a\0", 0.0, 0.0, 0),)), "holds a NUL"),
        (Info(2.0, 1.0, (1.0,), ("a",), ()), "1 resolutions, 1 names and 0 units"),
        (Info(2.0, 1.0, (1.0,), ("a",), ("\udfff",)), "lone surrogate"),
        (Unknown(77, 23), "message size is 23 bytes"),
        (Unknown(4, 24), "type 4 is known"),
        (Unknown(-1, 24), "does not fit its field"),
    ],
)
def test_refused(message: Message, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        encode(message)
