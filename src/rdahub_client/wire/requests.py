"""What a client may ask.

Rule: what a request looks like stands here, once; `admission` makes of it the strict check that a hub needs
and a client need not load.
Not here: answering (`rdahub.answers`), the answers' form (`replies`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal, TypeAlias

import msgpack

from rdahub_client.wire.frame import INDEX_LIMIT, VERSION

__all__ = [
    "MAX_REQUEST",
    "Bounds",
    "EventsRequest",
    "HereRequest",
    "InfoRequest",
    "InstancesRequest",
    "MarkRequest",
    "MarkersRequest",
    "PastEventsRequest",
    "PastRangeRequest",
    "PingRequest",
    "RangeRequest",
    "Request",
    "StatsRequest",
    "TimesRequest",
    "encode_request",
]

MAX_REQUEST: Final = 4096
"""Bytes. A request is five numbers and a word; more is hostile (1 MiB of nested msgpack costs 43 MiB)."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """A number from `low` up to, not including, `high`; of a text, its length."""

    low: int
    high: int


Index = Annotated[int, Bounds(0, INDEX_LIMIT)]
SignedIndex = Annotated[int, Bounds(-INDEX_LIMIT, INDEX_LIMIT)]
Instance = Annotated[str, Bounds(0, 65)]
ReaderName = Annotated[str, Bounds(1, 101)]
# Of a marker that a client inserts: what BrainVision files can hold, and bounded, for the hub keeps it.
Points = Annotated[int, Bounds(0, 2**31)]
Channel = Annotated[int, Bounds(-1, 2**15)]
MarkerType = Annotated[str, Bounds(1, 51)]
Description = Annotated[str, Bounds(0, 201)]
Token = Annotated[str, Bounds(16, 65)]


@dataclass(frozen=True, slots=True, kw_only=True)
class InfoRequest:
    """What is the hub, where does it publish, what does it hold?"""

    op: Literal["info"] = "info"
    id: Index = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PingRequest:
    """Are you there, and what do your clocks say?"""

    op: Literal["ping"] = "ping"
    id: Index = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StatsRequest:
    """State, counters and ages."""

    op: Literal["stats"] = "stats"
    id: Index = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeRequest:
    """The first page of samples ``[start, stop)``."""

    op: Literal["range"] = "range"
    id: Index = 0
    instance: Instance | None = None
    start: Index
    stop: Index


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkersRequest:
    """Markers on samples ``[start, stop)``, in index order, from the `skip`-th on."""

    op: Literal["markers"] = "markers"
    id: Index = 0
    instance: Instance | None = None
    start: SignedIndex  # a marker may stand before the first sample
    stop: SignedIndex
    skip: Index = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsRequest:
    """Journal records from sequence number `seq` on."""

    op: Literal["events"] = "events"
    id: Index = 0
    instance: Instance | None = None
    seq: Index


@dataclass(frozen=True, slots=True, kw_only=True)
class TimesRequest:
    """When samples ``[start, stop)`` arrived: the soonest block of each second."""

    op: Literal["times"] = "times"
    id: Index = 0
    instance: Instance | None = None
    start: Index
    stop: Index


@dataclass(frozen=True, slots=True, kw_only=True)
class InstancesRequest:
    """Instances there is something of, this one and earlier ones, newest first, from the `skip`-th on."""

    op: Literal["instances"] = "instances"
    id: Index = 0
    skip: Index = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PastRangeRequest:
    """As `RangeRequest`, of any instance in the hub's archive."""

    op: Literal["past_range"] = "past_range"
    id: Index = 0
    instance: Instance
    start: Index
    stop: Index


@dataclass(frozen=True, slots=True, kw_only=True)
class PastEventsRequest:
    """As `EventsRequest`, of any instance in the hub's archive, from its first record on."""

    op: Literal["past_events"] = "past_events"
    id: Index = 0
    instance: Instance
    seq: Index


@dataclass(frozen=True, slots=True, kw_only=True)
class HereRequest:
    """I am here, and this far; not answered. For people who want to see who is behind."""

    op: Literal["here"] = "here"
    id: Index = 0
    instance: Instance
    name: ReaderName
    next_index: Index


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkRequest:
    """Put this marker into the recording: on sample `index`, or on the next to come.

    The one request that changes something. `token` is the client's, another for each marker: a hub that has
    met it answers as it did then, so a request that may have been lost can be sent again like all others.
    """

    op: Literal["mark"] = "mark"
    id: Index = 0
    instance: Instance | None = None
    token: Token
    index: Index | None = None
    points: Points = 1
    channel: Channel = -1
    type: MarkerType
    description: Description


Request: TypeAlias = (
    InfoRequest
    | PingRequest
    | StatsRequest
    | RangeRequest
    | MarkersRequest
    | EventsRequest
    | TimesRequest
    | InstancesRequest
    | PastRangeRequest
    | PastEventsRequest
    | HereRequest
    | MarkRequest
)


def encode_request(request: Request, request_id: int) -> bytes:
    """Frame of a request."""
    values = {name: getattr(request, name) for name in request.__slots__ if name != "id"}
    packed: bytes = msgpack.packb({"v": VERSION, "id": request_id, **values})
    return packed
