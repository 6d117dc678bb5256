"""Messages <-> bytes: the one place that knows what travels between hub and clients.

Rule: a frame is hostile until decoded. Everything read from one is checked by hand (blocks, records, replies)
or by a strict pydantic model (requests). docs/wire.md describes the format for other languages; golden frames
in tests/data keep both honest.

Rooms: `frame` (framing), `records` (segments, gaps, markers), `published`, `requests`, `replies`.
Not here: sockets, and what a message means.
"""

from rdahub_client.wire.frame import (
    VERSION,
)
from rdahub_client.wire.published import (
    BLOCK,
    END,
    GAP,
    HEARTBEAT,
    MARKERS,
    SEGMENT,
    BlockMessage,
    End,
    Heartbeat,
    Message,
    Records,
    decode,
    encode_block,
    encode_end,
    encode_heartbeat,
    encode_records,
)
from rdahub_client.wire.records import (
    record_from_wire,
    record_to_wire,
    segment_from_wire,
    segment_to_wire,
)
from rdahub_client.wire.replies import (
    PAGE_BYTES,
    PAGE_POINTS,
    PAGE_RECORDS,
    REPLY,
    Events,
    Info,
    Page,
    Refusal,
    Reply,
    decode_reply,
    encode_page,
    encode_reply,
)
from rdahub_client.wire.requests import (
    MAX_REQUEST,
    EventsRequest,
    HereRequest,
    InfoRequest,
    InstancesRequest,
    MarkersRequest,
    MarkRequest,
    PastEventsRequest,
    PastRangeRequest,
    PingRequest,
    RangeRequest,
    Request,
    StatsRequest,
    TimesRequest,
    encode_request,
)

__all__ = [
    "BLOCK",
    "END",
    "GAP",
    "HEARTBEAT",
    "MARKERS",
    "MAX_REQUEST",
    "PAGE_BYTES",
    "PAGE_POINTS",
    "PAGE_RECORDS",
    "REPLY",
    "SEGMENT",
    "VERSION",
    "BlockMessage",
    "End",
    "Events",
    "EventsRequest",
    "Heartbeat",
    "HereRequest",
    "Info",
    "InfoRequest",
    "InstancesRequest",
    "MarkRequest",
    "MarkersRequest",
    "Message",
    "Page",
    "PastEventsRequest",
    "PastRangeRequest",
    "PingRequest",
    "RangeRequest",
    "Records",
    "Refusal",
    "Reply",
    "Request",
    "StatsRequest",
    "TimesRequest",
    "decode",
    "decode_reply",
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
