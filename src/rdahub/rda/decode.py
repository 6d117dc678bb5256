"""Bytes of a BrainVision RDA connection to messages, without any input or output: framing, START and DATA.

Rule: a byte stream gives the same messages, notes and error however it is cut; no peer can make this module
raise anything but `ProtocolError`, and memory follows the bytes really received, never a size they state.
Not here: the memory bytes are received into (`receive_buffer`), bodies nothing depends on (`vendor`);
sockets, clocks, block counter checks, scaling, sample indices.

Format facts: docs/explanation/rda.md.
"""

from __future__ import annotations

import math
import struct
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Final

import numpy as np

from rdahub.rda.errors import ProtocolError, TruncatedError
from rdahub.rda.messages import (
    DATA16,
    DATA32,
    GUID,
    HEADER_SIZE,
    IMPEDANCE_START,
    IMPEDANCE_STOP,
    KEEP_ALIVE,
    START,
    STOP,
    BlockMarker,
    Data,
    ImpedanceStart,
    ImpedanceStop,
    KeepAlive,
    Message,
    Note,
    Samples,
    Start,
    Stop,
    Unknown,
)
from rdahub.rda.receive_buffer import ReceiveBuffer
from rdahub.rda.text import decode_text
from rdahub.rda.vendor import VENDOR_BODIES, BadBody

MAX_MESSAGE: Final = 64 * 2**20
"""Largest message taken, in bytes: real blocks stay well under 4 MiB; a corrupt size can claim 4 GiB."""

MAX_CHANNELS: Final = 65_536
"""Most channels taken: amplifiers have up to a few hundred; the format's uint32 could claim 4 billion."""

_HEADER: Final = struct.Struct("<16sII")  # GUID, nSize, nType
_START_FIXED: Final = struct.Struct("<Id")  # nChannels, interval in microseconds
_BLOCK: Final = struct.Struct("<16sIIIII")  # both, of a data message
_DATA_FIXED: Final = struct.Struct("<III")  # nBlock, nPoints, nMarkers
_MARKER: Final = struct.Struct("<IiIi")  # nSize, nPosition (signed in PyCorder), nPoints, nChannel

_LITTLE: Final = sys.byteorder == "little"
_INT16: Final = np.dtype("<i2")
_FLOAT32: Final = np.dtype("<f4")

_MIXED: Final = -1  # in place of a data type: this run has had both, and it was said

_BODYLESS: Final[Mapping[int, Message]] = {
    STOP: Stop(),
    IMPEDANCE_START: ImpedanceStart(),
    IMPEDANCE_STOP: ImpedanceStop(),
    KEEP_ALIVE: KeepAlive(),
}


class Decoder(ReceiveBuffer):
    """Decode one RDA connection; put bytes in, take messages out.

    Bytes enter through `get_buffer` and `buffer_updated` (the methods of `asyncio.BufferedProtocol`) or
    `feed`; messages leave by iterating. A `Note` follows the message it is about, or stands in its place
    if that was dropped. After a `ProtocolError` the decoder is dead: it drops what enters, and iterating
    and `eof` raise the same error again.

    Parameters
    ----------
    max_message : int
        Largest message accepted, in bytes.
    max_channels : int
        Most channels accepted.
    copy : bool
        Whether a message owns its samples. If not, they are a view of the bytes received, valid until
        more are.

    Examples
    --------
    >>> decoder = Decoder()
    >>> decoder.feed(GUID + bytes.fromhex("18000000 03000000"))
    >>> list(decoder)
    [Stop()]
    """

    __slots__ = (
        "_copy",
        "_error",
        "_max_channels",
        "_max_message",
        "_n_channels",
        "_of",
        "_place",
        "_ready",
        "_run_type",
        "_running",
        "_skip_left",
        "_skipped",
        "_view",
    )

    def __init__(
        self, max_message: int = MAX_MESSAGE, max_channels: int = MAX_CHANNELS, *, copy: bool = True
    ) -> None:
        super().__init__()
        self._copy = copy
        self._max_message = max_message
        self._max_channels = max_channels
        self._ready: deque[Message] = deque()  # decoded, not yet taken
        self._error: ProtocolError | None = None
        self._n_channels = 0  # 0 until the first START
        self._running = False  # between a START and its STOP
        self._run_type = 0  # data type of this run: 0 none yet, DATA16, DATA32 or _MIXED
        self._skip_left = 0  # bytes to pass over before _skipped is a message
        self._skipped: Message | None = None
        self._place: tuple[object, ...] = ()
        self._of = self._buffer
        self._view: Samples = np.empty((0, 0), np.float32)

    def __iter__(self) -> Iterator[Message]:
        return self.messages()

    def messages(self) -> Iterator[Message]:
        """Messages decodable from the bytes so far, each given once; ends where more bytes are needed.

        Leaving the iteration early loses nothing: the next one goes on from there. Take messages one by one
        if those before an error matter; ``list(decoder)`` is lost with the error.

        Raises
        ------
        ProtocolError
            After the last good message, if the stream is broken.
        """
        while (message := self.take()) is not None:
            yield message

    def take(self) -> Message | None:
        """The next message, or None if more bytes are needed for it.

        Raises
        ------
        ProtocolError
            The stream is broken here.
        """
        return self._ready.popleft() if self._ready else self._decode()

    def eof(self) -> None:
        """Take the stream as ended. Messages not yet taken stay there to be iterated.

        Raises
        ------
        TruncatedError
            If it ended inside a message.
        ProtocolError
            If it was broken before.
        """
        # _decode leaves notes about a message in _ready; they belong behind it.
        messages: deque[Message] = deque(self._ready)
        self._ready.clear()
        try:
            while (message := self._decode()) is not None:
                messages.append(message)
                messages.extend(self._ready)
                self._ready.clear()
        finally:
            self._ready.extend(messages)
        held = self._tail - self._head
        if not held and not self._skip_left:
            return
        end = self._origin + self._tail
        if self._skip_left:
            missing, what = self._skip_left, "a message"
        elif held < HEADER_SIZE:
            missing, what = HEADER_SIZE - held, "a message header"
        else:
            missing = _HEADER.unpack_from(self._buffer, self._head)[1] - held
            what = "a message"
        raise self._die(TruncatedError(end, missing, f"stream ended inside {what}, {missing} bytes missing"))

    def _die(self, error: ProtocolError) -> ProtocolError:
        self._error = error
        self._skip_left = 0
        self._close()
        return error

    def _wrong(self, index: int, problem: str, text: str) -> ProtocolError:
        return ProtocolError(self._origin + index, problem, text)

    def _decode(self) -> Message | None:
        """Decode the next message, or None if it is not all there."""
        at = self._head
        have = self._tail - at
        if have >= 36 and self._running and not self._skip_left:
            # A whole block like the ones before it, without markers: nearly every message. What does not fit
            # goes the general way, which says why.
            guid, size, kind, counter, points, n_markers = _BLOCK.unpack_from(self._buffer, at)
            whole = size == 36 + 4 * points * self._n_channels and not n_markers and size <= have
            if whole and kind == DATA32 == self._run_type and guid == GUID and size <= self._max_message:
                self._head = at + size
                return Data(counter, self._samples(_FLOAT32, points, at + 36))
        if self._error is not None:
            raise self._error.with_traceback(None)
        if self._skip_left:
            return self._skip_on()
        if have < HEADER_SIZE:
            return None
        try:
            guid, size, kind = _HEADER.unpack_from(self._buffer, at)
            if guid != GUID:
                raise self._wrong(
                    at, "guid", f"GUID is {guid.hex()}, expected {GUID.hex()}: not an RDA message"
                )
            if not HEADER_SIZE <= size <= self._max_message:
                expected = f"expected {HEADER_SIZE} to {self._max_message}"
                raise self._wrong(at + 16, "size", f"message size is {size} bytes, {expected}")
            parse = self._PARSERS.get(kind)
            if parse is not None:
                return parse(self, kind, at, size, have)
        except ProtocolError as error:
            self._die(error)
            raise
        if kind == STOP:
            self._running = False
        return self._skip(_BODYLESS.get(kind) or Unknown(kind, size), size)

    def _skip(self, message: Message, size: int) -> Message | None:
        """Pass over `size` bytes without collecting them; `message` is complete behind the last."""
        self._skipped, self._skip_left = message, size
        return self._skip_on()

    def _skip_on(self) -> Message | None:
        n = min(self._skip_left, self._tail - self._head)
        self._head += n
        self._skip_left -= n
        return None if self._skip_left else self._skipped

    # Parsers: (type, index of the header, nSize, bytes there) -> message, or None if bytes are missing.
    # They check the fixed fields as soon as those are there, and move head past the message.

    def _start(self, kind: int, at: int, size: int, have: int) -> Start | None:  # noqa: ARG002  one signature
        if size < 36:
            raise self._wrong(at + 16, "start_body", f"START is {size} bytes, expected at least 36")
        if have < 36:
            return None
        n, interval = _START_FIXED.unpack_from(self._buffer, at + 24)
        if not 1 <= n <= self._max_channels:
            raise self._wrong(
                at + 24, "channels", f"START has {n} channels, expected 1 to {self._max_channels}"
            )
        names_at = 36 + 8 * n
        if names_at > size:
            text = f"START of {size} bytes is too short for {n} channels, expected at least {names_at}"
            raise self._wrong(at + 24, "start_body", text)
        # The rate counts too: it overflows for intervals next to 0.
        if not (0 < interval < math.inf and 1e6 / interval < math.inf):
            text = f"sampling interval is {interval} microseconds, expected a finite value above 0"
            raise self._wrong(at + 28, "interval", text)
        if have < size:
            return None
        resolutions = struct.unpack_from(f"<{n}d", self._buffer, at + 36)
        names = self._buffer[at + names_at : at + size].split(b"\0", n)
        if len(names) <= n:
            text = f"START has {len(names) - 1} NUL-ended channel names, expected {n}"
            raise self._wrong(at + names_at, "names", text)
        rest = names.pop()

        bad = [i for i, r in enumerate(resolutions) if not 0 < r < math.inf]
        if bad:
            text = f"resolution of channel {bad[0]} is {resolutions[bad[0]]}; {len(bad)} of {n} are unusable"
            self._note(at + 36 + 8 * bad[0], "bad_resolution", text)
        if len(rest) > rest.count(0):  # one NUL too many is usual, text is not
            self._note(
                at + size - len(rest), "leftover_bytes", f"{len(rest)} bytes after the last channel name"
            )
        self._n_channels = n
        self._running = True
        self._run_type = 0
        self._head = at + size
        return Start(interval, resolutions, tuple(map(decode_text, names)))

    def _data(self, kind: int, at: int, size: int, have: int) -> Message | None:
        n = self._n_channels
        if not n:
            text = f"data (type {kind}) before any START: the layout is unknown"
            raise self._wrong(at + 20, "data_before_start", text)
        if not self._running:
            text = f"data (type {kind}, {size} bytes) after STOP without a new START: dropped"
            return self._skip(Note(self._origin + at + 20, "data_after_stop", text), size)
        if size < 36:
            raise self._wrong(at + 16, "data_body", f"data message is {size} bytes, expected at least 36")
        if have < 36:
            return None
        counter, points, n_markers = _DATA_FIXED.unpack_from(self._buffer, at + 24)
        dtype = _INT16 if kind == DATA16 else _FLOAT32
        markers_at = 36 + dtype.itemsize * points * n
        if markers_at > size:
            text = f"{points} points of {n} channels need {markers_at} bytes, the message has {size}"
            raise self._wrong(at + 28, "data_body", text)
        if n_markers * _MARKER.size > size - markers_at:
            need = f"{n_markers} markers need at least {n_markers * _MARKER.size} bytes"
            text = f"{need}, {size - markers_at} are left"
            raise self._wrong(at + 32, "marker_count", text)
        if have < size:
            return None
        samples = self._samples(dtype, points, at + 36)
        markers: tuple[BlockMarker, ...] = ()
        end = markers_at
        if n_markers:
            markers, end = self._markers(n_markers, at, markers_at, size)
        if size - end >= dtype.itemsize * n:
            text = f"{size - end} bytes are left over: rows that the count of {points} points leaves out?"
            raise self._wrong(at + 28, "data_body", text)
        if end < size:
            self._note(at + end, "leftover_bytes", f"{size - end} bytes after the last marker")
        if self._run_type != kind:
            if self._run_type in {DATA16, DATA32}:
                text = f"data of type {kind} in a run that began with type {self._run_type}"
                self._note(at + 20, "mixed_types", text)
                self._run_type = _MIXED
            elif not self._run_type:
                self._run_type = kind
        self._head = at + size
        return Data(counter, samples, markers)

    def _samples(self, dtype: np.dtype[Any], points: int, at: int) -> Samples:
        if self._copy or not _LITTLE:
            # The message's own, in the machine's byte order.
            samples = np.ndarray((points, self._n_channels), dtype, self._buffer, at)
            return samples.astype(dtype.newbyteorder("="))
        # Blocks of one kind that come one by one lie in one place, and one view of it will do: 35 µs less.
        place = (dtype, points, self._n_channels, at)
        if place != self._place or self._of is not self._buffer:
            self._view = np.ndarray((points, self._n_channels), dtype, self._buffer, at)
            self._place, self._of = place, self._buffer
        return self._view

    def _markers(self, count: int, at: int, begin: int, size: int) -> tuple[tuple[BlockMarker, ...], int]:
        """`count` records from `begin`, and where they end; both relative to the message at `at`."""
        buffer, markers = self._buffer, []
        for i in range(count):
            if size - begin < _MARKER.size:
                raise self._wrong(at + 32, "marker_count", f"there are {i} marker records, expected {count}")
            length, position, points, channel = _MARKER.unpack_from(buffer, at + begin)
            if not _MARKER.size <= length <= size - begin:
                text = (
                    f"marker {i} states a size of {length} bytes, expected {_MARKER.size} to {size - begin}"
                )
                raise self._wrong(at + begin, "marker_size", text)
            texts = buffer[at + begin + _MARKER.size : at + begin + length].split(b"\0", 2)
            description = decode_text(texts[1]) if len(texts) > 1 else ""
            markers.append(BlockMarker(position, points, channel, decode_text(texts[0]), description))
            begin += length
        return tuple(markers), begin

    def _vendor(self, kind: int, at: int, size: int, have: int) -> Message | None:
        """Bodies that nothing depends on: a bad one is noted and passed over."""
        if have < size:
            return None
        body_at = at + HEADER_SIZE
        message: Message
        try:
            message = VENDOR_BODIES[kind](self._buffer[body_at : at + size])
        except BadBody as error:
            text = f"message of type {kind} dropped: {error}"
            message = Note(self._origin + body_at + error.index, "bad_body", text)
        self._head = at + size
        return message

    def _note(self, index: int, name: str, text: str) -> None:
        self._ready.append(Note(self._origin + index, name, text))

    # The table stands behind what it names.
    _PARSERS: ClassVar[Mapping[int, Callable[[Decoder, int, int, int, int], Message | None]]] = {
        START: _start,
        DATA16: _data,
        DATA32: _data,
        **dict.fromkeys(VENDOR_BODIES, _vendor),
    }
