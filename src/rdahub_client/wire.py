"""Messages <-> frames: the one place that knows the bytes between hub and clients.

Rule: a frame is hostile until decoded. Everything read from one is checked by hand (blocks, records) or by a
strict pydantic model (requests, info); what does not fit is a `WireError` or `BadRequest`, never a KeyError.
The format is described for other languages in docs/wire.md; golden frames in tests/data keep both honest.

::

    frame   = kind (1 byte) version (1 byte) 0 0 | header length (uint32) | header (msgpack) | 0-padding to 8
              | samples (float32, C order, little-endian)
    request = msgpack map, at most MAX_REQUEST bytes

Not here: sockets, and what a message means.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgpack
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from rdahub_client.errors import WireError
from rdahub_client.records import Float32, Gap, Marker, Record, Segment, SegmentEnd, SegmentStart

__all__ = [
    "BLOCK",
    "END",
    "GAP",
    "HEARTBEAT",
    "MARKERS",
    "MAX_REQUEST",
    "PAGE_BYTES",
    "PAGE_RECORDS",
    "REPLY",
    "SEGMENT",
    "VERSION",
    "BadRequest",
    "BlockMessage",
    "End",
    "Events",
    "EventsRequest",
    "Heartbeat",
    "Info",
    "InfoRequest",
    "MarkersRequest",
    "Message",
    "Page",
    "PingRequest",
    "RangeRequest",
    "Records",
    "Refusal",
    "Reply",
    "Request",
    "StatsRequest",
    "decode",
    "decode_reply",
    "decode_request",
    "encode_block",
    "encode_end",
    "encode_heartbeat",
    "encode_page",
    "encode_records",
    "encode_reply",
    "encode_request",
    "record_from_wire",
    "record_to_wire",
    "segment_from_wire",
    "segment_to_wire",
]

VERSION: Final = 1

BLOCK: Final = b"B"
SEGMENT: Final = b"S"
GAP: Final = b"G"
MARKERS: Final = b"M"
HEARTBEAT: Final = b"H"
END: Final = b"X"
REPLY: Final = b"R"

MAX_REQUEST: Final = 4096
"""Bytes. A request is five numbers and a word; more is hostile (reliability: msgpack bombs)."""
PAGE_BYTES: Final = 1 << 20
"""Bytes of samples in one page. Live blocks wait behind a page: 4 MiB cost them 5-24 ms at p99."""
PAGE_RECORDS: Final = 4096
"""Journal records in one reply, for the same reason."""

_PREFIX: Final = struct.Struct("<ccxxI")
_INDEX_LIMIT: Final = 2**63

Index = Annotated[int, Field(ge=0, lt=_INDEX_LIMIT)]
SignedIndex = Annotated[int, Field(ge=-_INDEX_LIMIT, lt=_INDEX_LIMIT)]


# --- what the hub publishes -----------------------------------------------------------------------------


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


# --- what a client asks ---------------------------------------------------------------------------------


class _Request(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    v: Annotated[int, Field(ge=VERSION, le=VERSION)] = VERSION  # a Literal would take True and 1.0 for 1
    id: Index = 0


class InfoRequest(_Request):
    """What is the hub, where does it publish, what does it hold?"""

    op: Literal["info"] = "info"


class PingRequest(_Request):
    """Are you there, and what do your clocks say?"""

    op: Literal["ping"] = "ping"


class StatsRequest(_Request):
    """State, counters and ages."""

    op: Literal["stats"] = "stats"


class RangeRequest(_Request):
    """The first page of samples ``[start, stop)``."""

    op: Literal["range"] = "range"
    instance: Annotated[str, Field(max_length=64)] | None = None
    start: Index
    stop: Index


class MarkersRequest(_Request):
    """Markers on samples ``[start, stop)``, in index order, from the `skip`-th on."""

    op: Literal["markers"] = "markers"
    instance: Annotated[str, Field(max_length=64)] | None = None
    start: SignedIndex  # a marker may stand before the first sample
    stop: SignedIndex
    skip: Index = 0


class EventsRequest(_Request):
    """Journal records from sequence number `seq` on."""

    op: Literal["events"] = "events"
    instance: Annotated[str, Field(max_length=64)] | None = None
    seq: Index


Request: TypeAlias = InfoRequest | PingRequest | StatsRequest | RangeRequest | MarkersRequest | EventsRequest

_REQUEST: Final[TypeAdapter[Request]] = TypeAdapter(Annotated[Request, Field(discriminator="op")])


class BadRequest(Exception):
    """A request that cannot be understood; `id` is what to answer to, None if even that is missing."""

    def __init__(self, message: str, request_id: int | None = None) -> None:
        super().__init__(message)
        self.id = request_id


# --- what the hub answers -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """Samples ``[start, stop)`` of one segment, and what the hub held at that very moment."""

    instance: str
    segment: int
    start: int
    stop: int
    first_available: int
    next_index: int
    samples: Float32


@dataclass(frozen=True, slots=True)
class Events:
    """Journal records from `seq` on, which is later than asked for if older ones are pruned.

    Attributes
    ----------
    before : Segment or None
        As in `Info`.
    """

    instance: str
    seq: int
    records: list[Record]
    before: Segment | None


@dataclass(frozen=True, slots=True)
class Info:
    """A hub's answer to ``info``.

    Attributes
    ----------
    publish_port : int or None
        TCP port of the publish socket, on the host the query socket was reached at; None if not TCP.
    publish : str
        The endpoint as bound, for transports that have no port.
    segment : Segment or None
        The newest segment.
    first_seq, next_seq : int
        Journal records held.
    before : Segment or None
        The segment that was open before record `first_seq`.
    """

    instance: str
    name: str
    version: str
    state: str
    recorder: str
    publish_port: int | None
    publish: str
    history_seconds: float
    first_available: int
    next_index: int
    first_seq: int
    next_seq: int
    segment: Segment | None
    before: Segment | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A named error instead of an answer."""

    code: str
    message: str
    instance: str
    first_available: int
    next_index: int


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer's header as it came, and its samples (shape (0, 0) if none)."""

    id: int
    header: dict[str, Any]
    samples: Float32

    @property
    def refusal(self) -> Refusal | None:
        """The refusal this reply is, if it is one."""
        if self.header.get("ok") is True:
            return None
        with _shape("refusal"):
            h = self.header
            return Refusal(
                str(h["error"]), str(h["message"]), str(h["instance"]), int(h["first_available"]),
                int(h["next_index"]),
            )  # fmt: skip

    def page(self) -> Page:
        """Read as the answer to ``range``."""
        with _shape("page"):
            h = self.header
            page = Page(
                h["instance"], h["segment"], h["start"], h["stop"], h["first_available"], h["next_index"],
                self.samples,
            )  # fmt: skip
            _texts(page.instance)
            _ints(page.segment, page.start, page.stop, page.first_available, page.next_index)
            if page.stop - page.start != len(page.samples):
                raise ValueError("page length")
            return page

    def events(self) -> Events:
        """Read as the answer to ``events``."""
        with _shape("events"):
            h = self.header
            return Events(
                instance=str(h["instance"]),
                seq=int(h["seq"]),
                records=[record_from_wire(r) for r in h["records"]],
                before=None if h["before"] is None else segment_from_wire(h["before"]),
            )

    def markers(self) -> list[Marker]:
        """Read as the answer to ``markers``."""
        with _shape("markers"):
            return [_marker_from_wire(m) for m in self.header["markers"]]

    def info(self) -> Info:
        """Read as the answer to ``info``."""
        with _shape("info"):
            h = self.header
            port = h["publish_port"]
            return Info(
                instance=str(h["instance"]),
                name=str(h["name"]),
                version=str(h["version"]),
                state=str(h["state"]),
                recorder=str(h["recorder"]),
                publish_port=None if port is None else int(port),
                publish=str(h["publish"]),
                history_seconds=float(h["history_seconds"]),
                first_available=int(h["first_available"]),
                next_index=int(h["next_index"]),
                first_seq=int(h["first_seq"]),
                next_seq=int(h["next_seq"]),
                segment=None if h["segment"] is None else segment_from_wire(h["segment"]),
                before=None if h["before"] is None else segment_from_wire(h["before"]),
            )


# --- frames ---------------------------------------------------------------------------------------------


def _frame(kind: bytes, header: object, samples: Float32 | None = None) -> bytes:
    packed: bytes = msgpack.packb(header)
    prefix = _PREFIX.pack(kind, b"\x01", len(packed))
    if samples is None:
        return prefix + packed
    return b"".join((prefix, packed, b"\0" * (-len(packed) % 8), samples.data if samples.size else b""))


def encode_block(message: BlockMessage) -> bytes:
    """Frame of a block: header and samples together, in one piece."""
    m = message
    return _frame(
        BLOCK,
        (
            m.instance, m.segment, m.start, len(m.samples), m.samples.shape[1], m.counter, m.received_ns,
            m.wall_ns, m.seq, [_marker_to_wire(marker) for marker in m.markers],
        ),
        m.samples,
    )  # fmt: skip


def encode_records(kind: bytes, message: Records) -> bytes:
    """Frame of journal records on topic `kind` (SEGMENT, GAP or MARKERS)."""
    return _frame(
        kind,
        {
            "instance": message.instance,
            "seq": message.seq,
            "records": [record_to_wire(r) for r in message.records],
        },
    )


def encode_heartbeat(message: Heartbeat) -> bytes:
    """Frame of a heartbeat."""
    return _frame(HEARTBEAT, {name: getattr(message, name) for name in Heartbeat.__slots__})


def encode_end(message: End) -> bytes:
    """Frame of a goodbye."""
    return _frame(END, {"instance": message.instance})


def encode_reply(request_id: int, header: dict[str, Any]) -> bytes:
    """Frame of an answer without samples."""
    return _frame(REPLY, {"id": request_id, **header})


def encode_page(request_id: int, page: Page) -> bytes:
    """Frame of an answer to ``range``. The samples are copied here: a ring's view never leaves the hub."""
    header = {
        "id": request_id,
        "ok": True,
        "instance": page.instance,
        "segment": page.segment,
        "start": page.start,
        "stop": page.stop,
        "n_channels": page.samples.shape[1],
        "first_available": page.first_available,
        "next_index": page.next_index,
    }
    return _frame(REPLY, header, page.samples)


def decode(frame: bytes | memoryview) -> Message:
    """Read a published frame.

    Raises
    ------
    WireError
        Not a frame of this version, or one that contradicts itself.
    """
    kind, header, end = _open(frame)
    with _shape("message"):
        if kind == BLOCK:
            instance, segment, start, n, n_channels, counter, received, wall, seq, markers = header[:10]
            _texts(instance)
            _ints(segment, start, counter, received, wall, seq)
            samples = _samples(frame, end, n, n_channels)
            return BlockMessage(
                instance, segment, start, counter, received, wall, seq,
                [_marker_from_wire(m) for m in markers], samples,
            )  # fmt: skip
        if kind in (SEGMENT, GAP, MARKERS):
            _texts(header["instance"])
            _ints(header["seq"])
            return Records(
                header["instance"], header["seq"], [record_from_wire(r) for r in header["records"]]
            )
        if kind == HEARTBEAT:
            beat = Heartbeat(**{name: header[name] for name in Heartbeat.__slots__})  # keys may be added
            _texts(beat.instance, beat.state)
            _ints(beat.first_available, beat.next_index, beat.seq, beat.sent_ns, beat.wall_ns)
            _ints(0 if beat.segment is None else beat.segment)
            return beat
        if kind == END:
            _texts(header["instance"])
            return End(header["instance"])
    raise WireError(f"a message of unknown kind {kind!r}; {WireError.hint}")


def decode_reply(frame: bytes | memoryview) -> Reply:
    """Read an answer.

    Raises
    ------
    WireError
        Not an answer of this version.
    """
    kind, header, end = _open(frame)
    if kind != REPLY:
        raise WireError(f"an answer of unknown kind {kind!r}; {WireError.hint}")
    with _shape("reply"):
        _ints(header["id"])
        n = header["stop"] - header["start"] if "n_channels" in header else 0
        return Reply(header["id"], header, _samples(frame, end, n, header.get("n_channels", 0)))


def encode_request(request: Request, request_id: int) -> bytes:
    """Frame of a request."""
    packed: bytes = msgpack.packb({**request.model_dump(), "id": request_id})
    return packed


def decode_request(frame: bytes | memoryview) -> Request:
    """Read a request; strict, because anyone may send one.

    Raises
    ------
    BadRequest
        With the reason, and the request's id if it has a usable one.
    """
    if len(frame) > MAX_REQUEST:
        raise BadRequest(f"a request of {len(frame)} bytes; the limit is {MAX_REQUEST}")
    try:
        fields = msgpack.unpackb(frame)
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise BadRequest(f"not msgpack: {type(error).__name__}") from None
    if not isinstance(fields, dict):
        raise BadRequest("not a msgpack map")
    request_id = fields.get("id")
    if type(request_id) is not int or not 0 <= request_id < _INDEX_LIMIT:
        raise BadRequest("no request id: 'id' must be an integer from 0 to 2**63 - 1")
    try:
        return _REQUEST.validate_python(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "request"
        raise BadRequest(f"{where}: {first['msg']}", request_id) from None


def _open(frame: bytes | memoryview) -> tuple[bytes, Any, int]:
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


def _samples(frame: bytes | memoryview, end: int, n: int, n_channels: int) -> Float32:
    _ints(n, n_channels)
    if n < 0 or n_channels < 0:
        raise ValueError("negative shape")
    count = n * n_channels
    if not count:
        return np.empty((n, n_channels), np.float32)
    offset = end + (-(end - _PREFIX.size) % 8)
    if len(frame) - offset != 4 * count:
        raise WireError(f"{len(frame) - offset} bytes of samples where {n} x {n_channels} need {4 * count}")
    return np.frombuffer(frame, np.float32, count, offset).reshape(n, n_channels)


def _ints(*values: object) -> None:
    for value in values:
        if type(value) is not int or not -_INDEX_LIMIT <= value < _INDEX_LIMIT:
            raise TypeError(f"{value!r} is no int64")


def _texts(*values: object) -> None:
    for value in values:
        if type(value) is not str:
            raise TypeError(f"{value!r} is no text")


class _shape:  # noqa: N801 - reads as a statement: with _shape("page"):
    """Turn the ways a decoded header can be of the wrong shape into one WireError."""

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, KeyError | IndexError | TypeError | ValueError | AttributeError | OverflowError):
            raise WireError(f"a {self._what} of the wrong shape ({error!r}); {WireError.hint}") from None


# --- records as msgpack arrays --------------------------------------------------------------------------


def segment_to_wire(s: Segment) -> list[Any]:
    """Segment as a msgpack array."""
    return [
        s.number, s.start, s.stop, s.sampling_interval_us, s.resolutions, s.ch_names, s.units, s.ended,
    ]  # fmt: skip


def segment_from_wire(fields: Any) -> Segment:
    """Inverse of `segment_to_wire`."""
    number, start, stop, interval, resolutions, ch_names, units, ended = fields
    if not len(resolutions) == len(ch_names) == len(units) > 0:
        raise ValueError("a segment's channels disagree in number")
    if not 0 < interval < math.inf:
        raise ValueError(f"a sampling interval of {interval!r} us")
    _ints(number, start, start if stop is None else stop)
    _texts(*ch_names, *units, "" if ended is None else ended)
    scale = tuple(map(float, resolutions))
    return Segment(number, start, stop, float(interval), scale, tuple(ch_names), tuple(units), ended)


def _marker_to_wire(m: Marker) -> list[Any]:
    return [m.index, m.points, m.channel, m.type, m.description, m.injected, m.block]


def _marker_from_wire(fields: Any) -> Marker:
    index, points, channel, kind, description, injected, block = fields
    _ints(index, points, channel, block)
    _texts(kind, description)
    if type(injected) is not bool:
        raise TypeError(f"{injected!r} is neither true nor false")
    return Marker(index, points, channel, kind, description, injected, block)


def record_to_wire(record: Record) -> list[Any]:
    """Journal record as a msgpack array that begins with its kind."""
    match record:
        case SegmentStart(segment):
            return ["start", segment_to_wire(segment)]
        case SegmentEnd(segment):
            return ["end", segment_to_wire(segment)]
        case Gap(start, stop, reason):
            return ["gap", [start, stop, reason]]
        case Marker():
            return ["marker", _marker_to_wire(record)]


def record_from_wire(fields: Any) -> Record:
    """Inverse of `record_to_wire`."""
    kind, body = fields
    match kind:
        case "start":
            return SegmentStart(segment_from_wire(body))
        case "end":
            segment = segment_from_wire(body)
            if segment.stop is None or segment.ended is None:
                raise ValueError("a segment's end that does not say where or why")
            return SegmentEnd(segment, segment.ended)
        case "gap":
            start, stop, reason = body
            _ints(start, stop)
            _texts(reason)
            return Gap(start, stop, reason)
        case "marker":
            return _marker_from_wire(body)
    raise ValueError(f"record of unknown kind {kind!r}")
