"""Messages to the bytes of BrainVision RDA: the decoder's mirror, for the simulator and the tests.

Rule: what is encoded here decodes to the same message; what the format cannot hold is a ValueError.
Not here: anything malformed on purpose (edit the bytes), block counting, checks against a layout.
"""

from __future__ import annotations

import math
import struct

import numpy as np

from rdahub.rda.messages import (
    DATA16,
    DATA32,
    GUID,
    HEADER_SIZE,
    IMPEDANCE_DATA,
    IMPEDANCE_START,
    IMPEDANCE_STOP,
    INFO,
    KEEP_ALIVE,
    NEW_STATE,
    START,
    STOP,
    BlockMarker,
    Data,
    Impedances,
    ImpedanceStart,
    ImpedanceStop,
    Info,
    KeepAlive,
    Message,
    NewState,
    Start,
    Stop,
    Unknown,
)
from rdahub.rda.text import decode_text

_KNOWN = frozenset(
    {
        START,
        DATA16,
        STOP,
        DATA32,
        NEW_STATE,
        IMPEDANCE_START,
        IMPEDANCE_DATA,
        IMPEDANCE_STOP,
        INFO,
        KEEP_ALIVE,
    }
)


def encode(message: Message) -> bytes:
    """Encode one message, header included.

    Channel names are written in Windows-1252, as PyCorder does, or in UTF-8 where that would read back
    differently; marker texts in UTF-8; texts of `Info` and `Impedances` in UTF-16LE. The body of an
    `Unknown` is zeros.

    Parameters
    ----------
    message : Message
        Anything but a `Note`, which is not on the wire. A `Data` needs samples of int16 or float32, shape
        (n_points, n_channels); that n_channels agrees with the last `Start` is the caller's business.

    Raises
    ------
    ValueError
        If the format cannot hold it: a NUL in a text, another dtype or shape, a number out of range.
    """
    try:
        kind, body = _body(message)
        return GUID + struct.pack("<II", HEADER_SIZE + len(body), kind) + body
    except (struct.error, OverflowError) as error:
        raise ValueError(f"a number in {type(message).__name__} does not fit its field: {error}") from error


def _body(message: Message) -> tuple[int, bytes]:
    match message:
        case Data():
            return _data(message)
        case Start():
            return START, _start(message)
        case Stop():
            return STOP, b""
        case NewState():
            return NEW_STATE, struct.pack("<i", message.state)
        case ImpedanceStart():
            return IMPEDANCE_START, b""
        case Impedances(electrodes):
            parts = [struct.pack("<ffi", e.x, e.y, e.kohm) + _text(e.name, "utf-16-le") for e in electrodes]
            return IMPEDANCE_DATA, struct.pack("<I", len(parts)) + b"".join(parts)
        case ImpedanceStop():
            return IMPEDANCE_STOP, b""
        case Info():
            return INFO, _info(message)
        case KeepAlive():
            return KEEP_ALIVE, b""
        case Unknown(kind, size):
            if kind in _KNOWN:
                raise ValueError(f"type {kind} is known, Unknown cannot stand for it")
            if not HEADER_SIZE <= size < 2**32:
                raise ValueError(f"message size is {size} bytes, expected {HEADER_SIZE} to {2**32 - 1}")
            return kind, bytes(size - HEADER_SIZE)
        case _:
            raise ValueError(f"RDA has no message for {type(message).__name__}")


def _start(start: Start) -> bytes:
    n = len(start.resolutions)
    if not n:
        raise ValueError("START needs at least one channel")
    if len(start.names) != n:
        raise ValueError(f"START has {n} resolutions but {len(start.names)} names")
    interval = start.interval_us
    if not (0 < interval < math.inf and 1e6 / interval < math.inf):
        raise ValueError(f"sampling interval is {interval} microseconds, expected a finite value above 0")
    fixed = struct.pack(f"<Id{n}d", n, interval, *start.resolutions)
    return fixed + b"".join(_name(name) for name in start.names)


def _data(data: Data) -> tuple[int, bytes]:
    samples = data.samples
    if samples.ndim != 2:
        raise ValueError(f"samples have {samples.ndim} dimensions, expected 2: points and channels")
    if samples.dtype == np.int16:
        kind, raw = DATA16, samples.astype("<i2", copy=False).tobytes()
    elif samples.dtype == np.float32:
        kind, raw = DATA32, samples.astype("<f4", copy=False).tobytes()
    else:
        raise ValueError(f"samples are {samples.dtype}, expected int16 or float32")
    fixed = struct.pack("<III", data.counter, len(samples), len(data.markers))
    return kind, b"".join([fixed, raw, *map(_marker, data.markers)])


def _marker(marker: BlockMarker) -> bytes:
    text = _text(marker.type, "utf-8") + _text(marker.description, "utf-8")
    return struct.pack("<IiIi", 16 + len(text), marker.position, marker.points, marker.channel) + text


def _info(info: Info) -> bytes:
    n = len(info.resolutions)
    if len(info.names) != n or len(info.units) != n:
        counts = f"{n} resolutions, {len(info.names)} names and {len(info.units)} units"
        raise ValueError(f"INFO has {counts}, expected as many of each")
    fixed = struct.pack(f"<dId{n}d", info.version, n, info.interval_us, *info.resolutions)
    return fixed + b"".join(_text(text, "utf-16-le") for text in info.names + info.units)


def _name(name: str) -> bytes:
    try:
        raw = name.encode("cp1252")
    except UnicodeEncodeError:
        return _text(name, "utf-8")
    # Some Windows-1252 bytes happen to be UTF-8 of another text, and a reader would take them for that.
    return _text(name, "cp1252" if decode_text(raw) == name else "utf-8")


def _text(text: str, encoding: str) -> bytes:
    if "\0" in text:
        raise ValueError(f"text {text!r} holds a NUL, which ends a text in RDA")
    try:
        return (text + "\0").encode(encoding)
    except UnicodeEncodeError as error:
        raise ValueError(f"text {text!r} holds a lone surrogate, which no encoding of RDA can") from error
