"""What the hub publishes: blocks, journal records, heartbeats, a goodbye.

Rule: the first byte is the topic; a block is one frame, its header an array, because it is the hot path.
Not here: framing (`frame`), how records look (`records`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

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


@dataclass(frozen=True, slots=True, eq=False)
class BlockMessage:
    """One block of a segment, with the markers that came in it.

    Attributes
    ----------
    counter : int
        The Recorder's own block counter.
    received_ns, wall_ns : int
        When the hub received it: monotonic clock (of the hub's machine) and wall clock, in ns.
    seq : int
        The journal's next sequence number after this block's markers.
    """

    instance: str
    segment: int
    start: int
    counter: int
    received_ns: int
    wall_ns: int
    seq: int
    markers: list[Marker]
    samples: Float32

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


def encode_block(message: BlockMessage) -> bytes:
    """Frame of a block: header and samples together, in one piece."""
    m = message
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
