"""Segments, gaps and markers as msgpack arrays.

Rule: encoder beside decoder; a decoder checks every field and raises TypeError or ValueError, which
`frame.Shape` makes a `WireError`.
"""

from __future__ import annotations

import math
from typing import Any

from rdahub_client.records import Gap, Marker, Record, Segment, SegmentEnd, SegmentStart
from rdahub_client.wire.frame import check_ints, check_texts

__all__ = [
    "marker_from_wire",
    "marker_to_wire",
    "record_from_wire",
    "record_to_wire",
    "segment_from_wire",
    "segment_to_wire",
]


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
    check_ints(number, start, start if stop is None else stop)
    check_texts(*ch_names, *units, "" if ended is None else ended)
    scale = tuple(map(float, resolutions))
    return Segment(number, start, stop, float(interval), scale, tuple(ch_names), tuple(units), ended)


def marker_to_wire(m: Marker) -> list[Any]:
    """Marker as a msgpack array."""
    return [m.index, m.points, m.channel, m.type, m.description, m.injected, m.block]


def marker_from_wire(fields: Any) -> Marker:
    """Inverse of `marker_to_wire`."""
    index, points, channel, kind, description, injected, block = fields
    check_ints(index, points, channel, block)
    check_texts(kind, description)
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
            return ["marker", marker_to_wire(record)]


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
            check_ints(start, stop)
            check_texts(reason)
            return Gap(start, stop, reason)
        case "marker":
            return marker_from_wire(body)
    raise ValueError(f"record of unknown kind {kind!r}")
