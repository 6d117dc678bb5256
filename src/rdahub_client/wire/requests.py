"""What a client may ask.

Rule: a request is hostile until a strict model has taken it; anyone may send one. What is no request is a
`BadRequest` with the reason, never another exception.
Not here: answering (`rdahub.answers`), the answers' form (`replies`).
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

import msgpack
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from rdahub_client.wire.frame import INDEX_LIMIT, VERSION

__all__ = [
    "MAX_REQUEST",
    "BadRequest",
    "EventsRequest",
    "InfoRequest",
    "MarkersRequest",
    "PingRequest",
    "RangeRequest",
    "Request",
    "StatsRequest",
    "decode_request",
    "encode_request",
]

MAX_REQUEST: Final = 4096
"""Bytes. A request is five numbers and a word; more is hostile (1 MiB of nested msgpack costs 43 MiB)."""

Index = Annotated[int, Field(ge=0, lt=INDEX_LIMIT)]
SignedIndex = Annotated[int, Field(ge=-INDEX_LIMIT, lt=INDEX_LIMIT)]


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
    if type(request_id) is not int or not 0 <= request_id < INDEX_LIMIT:
        raise BadRequest("no request id: 'id' must be an integer from 0 to 2**63 - 1")
    try:
        return _REQUEST.validate_python(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "request"
        raise BadRequest(f"{where}: {first['msg']}", request_id) from None
