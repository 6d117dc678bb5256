"""What the hub answers: pages of samples, the journal, what there is, or a named refusal.

Rule: every answer says which instance it speaks of and what was held at that moment.
Not here: framing (`frame`), questions (`requests`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from rdahub_client.errors import WireError
from rdahub_client.records import Float32, Instance, Marker, Record, Segment
from rdahub_client.wire.frame import Shape, check_ints, check_texts, pack, samples_of, unpack
from rdahub_client.wire.records import marker_from_wire, record_from_wire, segment_from_wire

__all__ = [
    "PAGE_BYTES",
    "PAGE_POINTS",
    "PAGE_RECORDS",
    "REPLY",
    "Events",
    "Info",
    "Page",
    "Refusal",
    "Reply",
    "decode_reply",
    "encode_page",
    "encode_reply",
]

REPLY: Final = b"R"

PAGE_BYTES: Final = 1 << 20
"""Bytes of samples in one page. Live blocks wait behind a page: 4 MiB cost them 5-24 ms at p99."""
PAGE_RECORDS: Final = 4096
"""Journal records in one reply, for the same reason."""
PAGE_POINTS: Final = 1024
"""Times of arrival in one reply, for the same reason: a quarter of an hour."""


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
        with Shape("refusal"):
            h = self.header
            return Refusal(
                str(h["error"]), str(h["message"]), str(h["instance"]), int(h["first_available"]),
                int(h["next_index"]),
            )  # fmt: skip

    def page(self) -> Page:
        """Read as the answer to ``range``."""
        with Shape("page"):
            h = self.header
            page = Page(
                h["instance"], h["segment"], h["start"], h["stop"], h["first_available"], h["next_index"],
                self.samples,
            )  # fmt: skip
            check_texts(page.instance)
            check_ints(page.segment, page.start, page.stop, page.first_available, page.next_index)
            if page.stop - page.start != len(page.samples):
                raise ValueError("page length")
            return page

    def events(self) -> Events:
        """Read as the answer to ``events``."""
        with Shape("events"):
            h = self.header
            return Events(
                instance=str(h["instance"]),
                seq=int(h["seq"]),
                records=[record_from_wire(r) for r in h["records"]],
                before=None if h["before"] is None else segment_from_wire(h["before"]),
            )

    def instances(self) -> tuple[list[Instance], bool]:
        """Read as the answer to ``instances``; are there more."""
        with Shape("instances"):
            found = []
            for each in self.header["instances"]:
                runs = tuple((start, stop) for start, stop in each["runs"])
                check_texts(each["instance"], each["name"], each["recorder"])
                check_ints(each["began_ns"], *(index for run in runs for index in run))
                found.append(
                    Instance(each["instance"], each["name"], each["recorder"], each["began_ns"], runs)
                )
            return found, bool(self.header["more"])

    def markers(self) -> list[Marker]:
        """Read as the answer to ``markers``."""
        with Shape("markers"):
            return [marker_from_wire(m) for m in self.header["markers"]]

    def clocks(self) -> tuple[int, int]:
        """Read as the answer to ``ping``: the hub's monotonic and wall clock, ns."""
        with Shape("ping"):
            clocks = self.header["monotonic_ns"], self.header["wall_ns"]
            check_ints(*clocks)
            return clocks

    def times(self) -> tuple[list[tuple[int, int, int]], bool]:
        """Read as the answer to ``times``: sample, monotonic and wall clock (ns) of points; whether more."""
        with Shape("times"):
            points = [(index, received_ns, wall_ns) for index, received_ns, wall_ns in self.header["points"]]
            for point in points:
                check_ints(*point)
            return points, bool(self.header["more"])

    def mark(self) -> tuple[str, int, Marker]:
        """Read as the answer to ``mark``: instance, the marker's number in the journal, the marker."""
        with Shape("mark"):
            h = self.header
            check_texts(h["instance"])
            check_ints(h["seq"])
            return h["instance"], h["seq"], marker_from_wire(h["marker"])

    def info(self) -> Info:
        """Read as the answer to ``info``."""
        with Shape("info"):
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


def encode_reply(request_id: int, header: dict[str, Any]) -> bytes:
    """Frame of an answer without samples."""
    return pack(REPLY, {"id": request_id, **header})


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
    return pack(REPLY, header, page.samples)


def decode_reply(frame: bytes | memoryview) -> Reply:
    """Read an answer.

    Raises
    ------
    WireError
        Not an answer of this version.
    """
    kind, header, end = unpack(frame)
    if kind != REPLY:
        raise WireError(f"an answer of unknown kind {kind!r}; {WireError.hint}")
    with Shape("reply"):
        check_ints(header["id"])
        n = header["stop"] - header["start"] if "n_channels" in header else 0
        return Reply(header["id"], header, samples_of(frame, end, n, header.get("n_channels", 0)))
