"""A frame: one piece of bytes with a kind, a version, a msgpack header and perhaps samples.

Rule: what does not fit is a `WireError`, never a KeyError; a stated length is checked before it is believed.
Not here: which headers there are (`published`, `replies`).

::

    frame = kind (1 byte) version (1 byte) 0 0 | header length (uint32) | header (msgpack) | 0-padding to 8
            | samples (float32, C order, little-endian)
"""

from __future__ import annotations

import struct
from typing import Any, Final

import msgpack
import numpy as np

from rdahub_client.errors import WireError
from rdahub_client.records import Float32

__all__ = ["INDEX_LIMIT", "VERSION", "Shape", "check_ints", "check_texts", "pack", "samples_of", "unpack"]

VERSION: Final = 1
INDEX_LIMIT: Final = 2**63

_PREFIX: Final = struct.Struct("<ccxxI")


def pack(kind: bytes, header: object, samples: Float32 | None = None) -> bytes:
    """Make a frame; the samples are copied into it."""
    packed: bytes = msgpack.packb(header)
    prefix = _PREFIX.pack(kind, b"\x01", len(packed))
    if samples is None:
        return prefix + packed
    return b"".join((prefix, packed, b"\0" * (-len(packed) % 8), samples.data if samples.size else b""))


def unpack(frame: bytes | memoryview) -> tuple[bytes, Any, int]:
    """Kind, header, and where the header ends."""
    if len(frame) < _PREFIX.size:
        raise WireError(f"a frame of {len(frame)} bytes is too short; {WireError.hint}")
    kind, version, length = _PREFIX.unpack_from(frame)
    if version[0] != VERSION:
        raise WireError(f"wire version {version[0]}, this is {VERSION}; update the older side")
    end = _PREFIX.size + length
    if end > len(frame):
        raise WireError(f"a header of {length} bytes in a frame of {len(frame)}")
    try:
        return kind, msgpack.unpackb(memoryview(frame)[_PREFIX.size : end]), end
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise WireError(f"a header that is not msgpack ({type(error).__name__})") from None


def samples_of(frame: bytes | memoryview, end: int, n: int, n_channels: int) -> Float32:
    """View of the samples behind a header that ends at `end`."""
    check_ints(n, n_channels)
    if n < 0 or n_channels < 0:
        raise ValueError("negative shape")
    count = n * n_channels
    if not count:
        return np.empty((n, n_channels), np.float32)
    offset = end + (-(end - _PREFIX.size) % 8)
    if len(frame) - offset != 4 * count:
        raise WireError(f"{len(frame) - offset} bytes of samples where {n} x {n_channels} need {4 * count}")
    return np.frombuffer(frame, np.float32, count, offset).reshape(n, n_channels)


def check_ints(*values: object) -> None:
    """See that these are int64; bool and float are not."""
    for value in values:
        if type(value) is not int or not -INDEX_LIMIT <= value < INDEX_LIMIT:
            raise TypeError(f"{value!r} is no int64")


def check_texts(*values: object) -> None:
    """See that these are str."""
    for value in values:
        if type(value) is not str:
            raise TypeError(f"{value!r} is no text")


class Shape:
    """Turn the ways a decoded header can be of the wrong shape into one WireError."""

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, KeyError | IndexError | TypeError | ValueError | AttributeError | OverflowError):
            raise WireError(f"a {self._what} of the wrong shape ({error!r}); {WireError.hint}") from None
