"""Client of an rdahub: live EEG and its history, by exact sample index, from any number of machines."""

from rdahub_client.blocking import Client
from rdahub_client.errors import (
    AuthError,
    BadRange,
    HubLost,
    HubRestarted,
    HubUnreachable,
    KeyFileError,
    NoSegment,
    NotStreaming,
    NotYetAvailable,
    Overwritten,
    RdaHubError,
    RequestRefused,
    SegmentChanged,
    SharedMemoryError,
    StartTimeout,
    StreamTimeout,
    WireError,
)
from rdahub_client.local import LocalClient
from rdahub_client.records import Block, Event, Gap, Marker, Segment, SegmentEnd, SegmentStart

__all__ = [
    "AuthError",
    "BadRange",
    "Block",
    "Client",
    "Event",
    "Gap",
    "HubLost",
    "HubRestarted",
    "HubUnreachable",
    "KeyFileError",
    "LocalClient",
    "Marker",
    "NoSegment",
    "NotStreaming",
    "NotYetAvailable",
    "Overwritten",
    "RdaHubError",
    "RequestRefused",
    "Segment",
    "SegmentChanged",
    "SegmentEnd",
    "SegmentStart",
    "SharedMemoryError",
    "StartTimeout",
    "StreamTimeout",
    "WireError",
]
