"""Bodies of the messages that only the vendor's Recorder sends: its state, its amplifier, its impedances.

Rule: pure; a body, without its header, gives a message or `BadBody`; no count is believed before the bytes
it needs are seen to be there. Bytes behind the last field are ignored: a later Recorder may say more.
Not here: what becomes of a bad body (nothing depends on these: the decoder notes it and goes on), writing.

Format facts: docs/explanation/rda.md.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Final

from rdahub.rda.messages import (
    IMPEDANCE_DATA,
    INFO,
    NEW_STATE,
    Electrode,
    Impedances,
    Info,
    NewState,
)

_STATE: Final = struct.Struct("<i")
_INFO_FIXED: Final = struct.Struct("<dId")  # version, n, interval in microseconds
_COUNT: Final = struct.Struct("<I")
_ELECTRODE: Final = struct.Struct("<ffi")  # x, y, kOhm


class BadBody(ValueError):
    """A body that is not what its type says.

    Parameters
    ----------
    index : int
        Index into the body, in bytes, of the field that is wrong.
    text : str
        What is wrong.
    """

    def __init__(self, index: int, text: str) -> None:
        super().__init__(text)
        self.index = index


def new_state(body: bytes | bytearray) -> NewState:
    """Read a NEWSTATE body."""
    _need(body, 0, _STATE.size, "state")
    return NewState(*_STATE.unpack_from(body))


def info(body: bytes | bytearray) -> Info:
    """Read an INFO body."""
    _need(body, 0, _INFO_FIXED.size, "fixed fields")
    version, n, interval = _INFO_FIXED.unpack_from(body)
    begin = _INFO_FIXED.size
    # Two strings of at least their end each.
    _need(body, begin, n * (8 + 2 + 2), f"{n} channels")
    resolutions = struct.unpack_from(f"<{n}d", body, begin)
    begin += 8 * n
    texts = []
    for _ in range(2 * n):
        text, begin = _utf16(body, begin)
        texts.append(text)
    return Info(version, interval, resolutions, tuple(texts[:n]), tuple(texts[n:]))


def impedances(body: bytes | bytearray) -> Impedances:
    """Read an IMP_DATA body."""
    _need(body, 0, _COUNT.size, "count")
    (n,) = _COUNT.unpack_from(body)
    begin = _COUNT.size
    _need(body, begin, n * (_ELECTRODE.size + 2), f"{n} electrodes")
    electrodes = []
    for _ in range(n):
        _need(body, begin, _ELECTRODE.size, "an electrode")
        x, y, kohm = _ELECTRODE.unpack_from(body, begin)
        name, begin = _utf16(body, begin + _ELECTRODE.size)
        electrodes.append(Electrode(name, x, y, kohm))
    return Impedances(tuple(electrodes))


VENDOR_BODIES: Final[Mapping[int, Callable[[bytes | bytearray], NewState | Info | Impedances]]] = {
    NEW_STATE: new_state,
    IMPEDANCE_DATA: impedances,
    INFO: info,
}
"""Who reads the body of which type."""


def _need(body: bytes | bytearray, begin: int, size: int, what: str) -> None:
    if len(body) - begin < size:
        raise BadBody(begin, f"{what} need {size} bytes, {len(body) - begin} are left")


def _utf16(body: bytes | bytearray, begin: int) -> tuple[str, int]:
    """Text in UTF-16LE up to its 2-byte NUL, and the index behind that."""
    stop = body.find(b"\0\0", begin)
    while stop >= 0 and (stop - begin) % 2:  # halves of two characters
        stop = body.find(b"\0\0", stop + 1)
    if stop < 0:
        raise BadBody(begin, "text has no end")
    try:
        return body[begin:stop].decode("utf-16-le"), stop + 2
    except UnicodeDecodeError as error:
        raise BadBody(begin, "text is not UTF-16") from error
