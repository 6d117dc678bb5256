"""What the hub publishes: blocks, journal records, heartbeats, a goodbye.

Rule: the first byte is the topic; a block is one frame, its header an array, because it is the hot path.
Not here: framing (`frame`), how records look (`records`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from rdahub_client.errors import WireError
from rdahub_client.records import Float32, Marker, Record
from rdahub_client.wire.frame import Shape, check_ints, check_texts, pack, samples_of, unpack
from rdahub_client.wire.records import marker_from_wire, marker_to_wire, record_from_wire, record_to_wire

__all__ = [
    "BLOCK",
    "END",
    "GAP",
    "HEARTBEAT",
    "MARKERS",
    "SEGMENT",
    "BlockMessage",
    "End",
    "Heartbeat",
    "Message",
    "Records",
    "decode",
    "encode_block",
    "encode_end",
    "encode_heartbeat",
    "encode_records",
]

BLOCK: Final = b"B"
SEGMENT: Final = b"S"
GAP: Final = b"G"
MARKERS: Final = b"M"
HEARTBEAT: Final = b"H"
END: Final = b"X"


@dataclass(slots=True, eq=False)
class BlockMessage:
    """One block of a segment, with the markers that came in it. Not frozen: that costs a block 8 µs.

    Attributes
    ----------
    counter : int
        The Recorder's own block counter.
    received_ns, wall_ns : int
        When the hub received it: monotonic clock (of the hub's machine) and wall clock, in ns.
    seq : int
        The journal's next sequence number after this block's markers.
    data : ndarray of float32, shape (n, n_channels), or memoryview
        The rows; or their bytes in the frame, of which `samples` makes an array if somebody wants one.
    """

    instance: str
    segment: int
    start: int
    counter: int
    received_ns: int
    wall_ns: int
    seq: int
    markers: list[Marker]
    data: Float32 | memoryview
    n_channels: int = 0

    @property
    def samples(self) -> Float32:
        """The rows."""
        if isinstance(self.data, memoryview):
            self.data = np.frombuffer(self.data, np.float32).reshape(-1, self.n_channels)
        return self.data

    @property
    def stop(self) -> int:
        """Index after the last row."""
        return self.start + len(self.samples)


@dataclass(frozen=True, slots=True)
class Records:
    """Consecutive journal records from `seq` on."""

    instance: str
    seq: int
    records: list[Record]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Where the hub is, so that silence is told from loss."""

    instance: str
    state: str
    segment: int | None
    first_available: int
    next_index: int
    seq: int
    sent_ns: int
    wall_ns: int


@dataclass(frozen=True, slots=True)
class End:
    """The instance says goodbye."""

    instance: str


Message: TypeAlias = BlockMessage | Records | Heartbeat | End


# A block without markers from an instance of 16 letters is written and read at one go: the same msgpack, but
# every number an int64 (tag 0xD3), so that all has its fixed place. A block comes after 20 ms of other work,
# and code that is cold costs most: 30 µs less on each end.
_INT64: Final = 0xD3
_PLAIN_HEAD: Final = b"\x9a\xb0"  # an array of 10, a text of 16
_PLAIN_TAIL: Final = b"\x90"  # no markers
_PLAIN_BEGIN: Final = BLOCK + b"\1\0\0" + (91).to_bytes(4, "little") + _PLAIN_HEAD
_PACK_PLAIN: Final = struct.Struct(">10s16s" + "Bq" * 8 + "s5x")
_READ_PLAIN: Final = struct.Struct(">10x16s" + "xq" * 8 + "6x")
_TAGS: Final = slice(26, 98, 9)
_PLAIN_TAGS: Final = bytes([_INT64] * 8)


def encode_block(message: BlockMessage) -> bytes:
    """Frame of a block: header and samples together, in one piece."""
    m = message
    rows, channels = m.samples.shape
    if not m.markers and len(m.instance) == 16 and m.instance.isascii():
        i = _INT64
        header = _PACK_PLAIN.pack(
            _PLAIN_BEGIN, m.instance.encode(), i, m.segment, i, m.start, i, rows, i, channels,
            i, m.counter, i, m.received_ns, i, m.wall_ns, i, m.seq, _PLAIN_TAIL,
        )  # fmt: skip
        return b"".join((header, m.samples.data))
    return pack(
        BLOCK,
        (
            m.instance, m.segment, m.start, len(m.samples), m.samples.shape[1], m.counter, m.received_ns,
            m.wall_ns, m.seq, [marker_to_wire(marker) for marker in m.markers],
        ),
        m.samples,
    )  # fmt: skip


def encode_records(kind: bytes, message: Records) -> bytes:
    """Frame of journal records on topic `kind` (SEGMENT, GAP or MARKERS)."""
    return pack(
        kind,
        {
            "instance": message.instance,
            "seq": message.seq,
            "records": [record_to_wire(r) for r in message.records],
        },
    )


def encode_heartbeat(message: Heartbeat) -> bytes:
    """Frame of a heartbeat."""
    return pack(HEARTBEAT, {name: getattr(message, name) for name in Heartbeat.__slots__})


def encode_end(message: End) -> bytes:
    """Frame of a goodbye."""
    return pack(END, {"instance": message.instance})


def decode(frame: bytes | memoryview) -> Message:
    """Read a published frame.

    Raises
    ------
    WireError
        Not a frame of this version, or one that contradicts itself.
    """
    if frame[:10] == _PLAIN_BEGIN and frame[_TAGS] == _PLAIN_TAGS and frame[98:99] == _PLAIN_TAIL:
        block = _decode_plain(frame)
        if block is not None:
            return block
    kind, header, end = unpack(frame)
    with Shape("message"):
        if kind == BLOCK:
            instance, segment, start, n, n_channels, counter, received, wall, seq, markers = header[:10]
            check_texts(instance)
            check_ints(segment, start, counter, received, wall, seq)
            samples = samples_of(frame, end, n, n_channels)
            return BlockMessage(
                instance, segment, start, counter, received, wall, seq,
                [marker_from_wire(m) for m in markers], samples,
            )  # fmt: skip
        if kind in (SEGMENT, GAP, MARKERS):
            check_texts(header["instance"])
            check_ints(header["seq"])
            return Records(
                header["instance"], header["seq"], [record_from_wire(r) for r in header["records"]]
            )
        if kind == HEARTBEAT:
            beat = Heartbeat(**{name: header[name] for name in Heartbeat.__slots__})  # keys may be added
            check_texts(beat.instance, beat.state)
            check_ints(beat.first_available, beat.next_index, beat.seq, beat.sent_ns, beat.wall_ns)
            check_ints(0 if beat.segment is None else beat.segment)
            return beat
        if kind == END:
            check_texts(header["instance"])
            return End(header["instance"])
    raise WireError(f"a message of unknown kind {kind!r}; {WireError.hint}")


def _decode_plain(frame: bytes | memoryview) -> BlockMessage | None:
    """A block of the fixed form; None if it contradicts itself, for the general way to say how."""
    if len(frame) <= _READ_PLAIN.size:
        return None
    instance, segment, start, rows, channels, counter, received, wall, seq = _READ_PLAIN.unpack_from(frame)
    if rows <= 0 or channels <= 0 or len(frame) != _READ_PLAIN.size + 4 * rows * channels:
        return None
    data = memoryview(frame)[_READ_PLAIN.size :]
    try:
        return BlockMessage(
            instance.decode(), segment, start, counter, received, wall, seq, [], data, channels
        )
    except UnicodeDecodeError:
        return None
