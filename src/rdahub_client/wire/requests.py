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
    "MarkersRequest",
    "PingRequest",
    "RangeRequest",
    "Request",
    "StatsRequest",
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
class HereRequest:
    """I am here, and this far; not answered. For people who want to see who is behind."""

    op: Literal["here"] = "here"
    id: Index = 0
    instance: Instance
    name: ReaderName
    next_index: Index


Request: TypeAlias = (
    InfoRequest | PingRequest | StatsRequest | RangeRequest | MarkersRequest | EventsRequest | HereRequest
)


def encode_request(request: Request, request_id: int) -> bytes:
    """Frame of a request."""
    values = {name: getattr(request, name) for name in request.__slots__ if name != "id"}
    packed: bytes = msgpack.packb({"v": VERSION, "id": request_id, **values})
    return packed
