"""The recording as it happens: Recorder messages in, published frames out, questions answered.

Rule: here, and only here, a sample gets its index. It counts from the instance's start, never repeats, never
goes back, goes on across segments; nothing is skipped or filled in silence.
Time, ids and memory are arguments; not here: sockets, clocks, files, who is connected.

The block counter (RDA: "blocks since acquisition started"), judged from the third block of a segment on,
because the first value after START is unreliable in the field:

====================  ==========================================================================
step                  what happens
====================  ==========================================================================
+1 (also mod 2^24)    next block; 24-bit and 32-bit wraps are no gap
0                     repeated block: dropped, counted
forward               blocks so far of one length and the hole fits history: NaN rows and a `Gap`;
                      otherwise a new segment, reason ``counter``
backward              a new segment, reason ``counter``
====================  ==========================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, cast

import numpy as np

from rdahub import limits, rda
from rdahub.rings import History, Rings
from rdahub_client.journal import Journal
from rdahub_client.records import Float32, Gap, Marker, Segment, SegmentEnd, SegmentStart
from rdahub_client.ring import Ring
from rdahub_client.wire import (
    GAP,
    MARKERS,
    SEGMENT,
    BlockMessage,
    Records,
    encode_block,
    encode_records,
)

__all__ = ["Broker", "Counters"]

DEFAULT_UNIT: Final = "µV"
_COUNTER: Final = 2**32


@dataclass(slots=True)
class Counters:
    """Counts since the instance began; none ever goes down."""

    blocks: int = 0
    samples: int = 0
    markers: int = 0
    inserted_markers: int = 0
    gaps: int = 0
    missing_samples: int = 0
    segments: int = 0
    repeated_blocks: int = 0
    unchecked_steps: int = 0
    notes: int = 0
    protocol_errors: int = 0
    reconnects: int = 0
    requests: int = 0
    refused: int = 0
    undelivered: int = 0
    refused_peers: int = 0
    cut_peers: int = 0


class Broker:
    """One instance's recording.

    Parameters
    ----------
    instance : str
        Random id of this life of the hub.
    history : History
    make_ring : callable
        ``make_ring(n_channels, rows, start)`` gives a `Ring`, possibly shorter than asked if memory is short.
    start_index : int
        Index of the first sample; 0 but in tests.
    """

    def __init__(
        self,
        instance: str,
        history: History,
        make_ring: Callable[[int, int, int], Ring],
        start_index: int = 0,
    ) -> None:
        self.instance = instance
        self.counters = Counters()
        self.journal = Journal()
        self.rings = Rings(history, make_ring)
        self.next_index = start_index
        self.archived = (0, 0)
        """Samples ``[start, stop)`` that can be had from disk."""
        self._known_from = 0
        self.segment: Segment | None = None
        """The open segment."""
        self.last_block: tuple[int, int] | None = None
        """Monotonic and wall time of the newest block, ns."""
        self.segment_frame: bytes | None = None
        """The newest segment's start or end as published; said again now and then for late joiners."""
        self._counter: int | None = None
        self._judged = False
        self._length: int | None = None
        self._scale = np.empty(0)
        self._raw_is_physical = False
        self._units: tuple[str, ...] = ()
        self._unkept: Float32 | None = None

    # --- what is ---------------------------------------------------------------------------------------

    @property
    def ring(self) -> Ring | None:
        """The ring that is written to."""
        return self.rings.newest

    @property
    def first_available(self) -> int:
        """Index of the oldest sample held, in memory or, where that goes on without a hole, on disk."""
        in_memory = self.first_in_memory
        start, stop = self.archived
        return min(in_memory, max(start, self._known_from)) if stop >= in_memory else in_memory

    @property
    def first_in_memory(self) -> int:
        """Index of the oldest sample held in memory."""
        return self.rings.first_available(self.next_index)

    @property
    def history_seconds(self) -> float:
        """Seconds of samples the ring can hold at the newest layout; 0 before the first."""
        newest = self.journal.segment
        return 0.0 if newest is None or self.ring is None else self.ring.capacity / newest.sfreq

    @property
    def block_seconds(self) -> float:
        """Length of the blocks of this segment; 0 while unknown."""
        segment = self.segment
        length = self._length
        return 0.0 if segment is None or length is None or length < 0 else length / segment.sfreq

    # --- what the Recorder says --------------------------------------------------------------------------

    def set_units(self, units: tuple[str, ...]) -> None:
        """Take units from the Recorder's INFO; they hold from the next START on."""
        self._units = units

    def begin(self, start: rda.Start) -> list[bytes]:
        """START: a new segment. An open one ends as ``restart``. Returns frames to publish."""
        return [*self.end("restart"), *self._begin(start)]

    def _begin(self, start: rda.Start) -> list[bytes]:
        self._counter = None
        self._judged = False
        self._length = None
        self._scale = np.array(start.resolutions, np.float64)
        self._raw_is_physical = bool(np.all(self._scale == 1.0))
        units = self._units if len(self._units) == start.n_channels else (DEFAULT_UNIT,) * start.n_channels
        newest = self.journal.segment
        segment = Segment(
            number=0 if newest is None else newest.number + 1,
            start=self.next_index,
            stop=None,
            sampling_interval_us=start.interval_us,
            resolutions=start.resolutions,
            ch_names=start.names,
            units=units,
        )
        ring = self.rings.open(segment.n_channels, segment.sampling_interval_us, self.next_index)
        ring.note_seq(self.journal.next_seq)
        self.counters.segments += 1
        return [self._record(SEGMENT, SegmentStart(segment))]

    def end(self, reason: str) -> list[bytes]:
        """STOP, a lost Recorder, or a counter that cannot be followed: the open segment ends."""
        segment = self.segment
        if segment is None:
            return []
        ended = replace(segment, stop=self.next_index, ended=reason)
        return [self._record(SEGMENT, SegmentEnd(ended, reason))]

    def extend(self, data: rda.Data, received_ns: int, wall_ns: int) -> list[bytes]:
        """Take a block of samples and its markers. Returns frames to publish.

        Parameters
        ----------
        received_ns, wall_ns : int
            Hub's monotonic and wall clock when the block arrived.
        """
        frames = self.announce(data, received_ns, wall_ns)
        self.keep()
        return frames

    def announce(self, data: rda.Data, received_ns: int, wall_ns: int) -> list[bytes]:
        """As `extend`, but the rows are not in the ring until `keep`, which must come before anything else.

        So frames may be sent first: to readers far away a block is 40 µs younger then.
        """
        before: list[bytes] = []
        if self._unkept is not None:
            self.keep()
        if not self._judged or data.counter - 1 != self._counter:
            counted = self._counter is not None
            step = 1 if self._counter is None else (data.counter - self._counter) % _COUNTER
            if step == 0:
                self.counters.repeated_blocks += 1
                return before
            if step != 1 and not (step % 2**24 == 1 and step >= _COUNTER // 2):
                if self._judged:
                    before = self._jump(step)
                else:
                    self.counters.unchecked_steps += 1
            self._judged = counted
        self._counter = data.counter
        n = len(data.samples)
        if n != self._length:
            self._length = n if self._length is None else -1
        frames = self._index(data, received_ns, wall_ns)
        return before + frames if before else frames

    def keep(self) -> None:
        """Write the rows just announced into the ring."""
        samples, self._unkept = self._unkept, None
        ring = self.rings.newest
        if samples is None or ring is None:
            return
        if ring.next_index + len(samples) != self.next_index:
            raise RuntimeError(f"the ring is at {ring.next_index}, the recording at {self.next_index}")
        ring.extend(samples)
        ring.prepare()

    def _jump(self, step: int) -> list[bytes]:
        """Blocks are missing, or the counter began anew."""
        segment, ring = self.segment, self.ring
        if segment is None or ring is None:
            return []
        length = self._length
        missing = (step - 1) * length if length is not None and length > 0 and step < _COUNTER // 2 else None
        if missing is not None and missing <= ring.capacity:
            gap = Gap(self.next_index, self.next_index + missing, "counter")
            self.counters.gaps += 1
            self.counters.missing_samples += missing
            frame = self._record(GAP, gap)
            ring.skip(missing)
            self.next_index = gap.stop
            return [frame]
        ended = self.end("counter")
        layout = rda.Start(segment.sampling_interval_us, segment.resolutions, segment.ch_names)
        return [*ended, *self._begin(layout)]

    def _index(self, data: rda.Data, received_ns: int, wall_ns: int) -> list[bytes]:
        segment, journal = self.segment, self.journal
        if segment is None:
            raise RuntimeError("a block outside a segment; the decoder lets none through")
        start = self.next_index
        markers = self._markers(data.markers, start) if data.markers else []
        samples = self._physical(data.samples)
        self._unkept = samples
        self.next_index = start + len(samples)
        self.last_block = (received_ns, wall_ns)
        counters = self.counters
        counters.blocks += 1
        counters.samples += len(samples)
        message = BlockMessage(
            self.instance, segment.number, start, data.counter, received_ns, wall_ns, journal.next_seq,
            markers, samples,
        )  # fmt: skip
        if not markers:
            return [encode_block(message)]
        first_seq = journal.next_seq - len(markers)
        return [
            encode_block(message),
            encode_records(MARKERS, Records(self.instance, first_seq, list(markers))),
        ]

    def _markers(self, markers: tuple[rda.BlockMarker, ...], start: int) -> list[Marker]:
        """Journal a block's markers, before its rows can be seen."""
        made = [
            Marker(
                start + m.position, m.points, m.channel, m.type, m.description, injected=False, block=start
            )
            for m in markers
        ]
        for marker in made:
            self.journal.append(marker)
        self.counters.markers += len(made)
        if self.ring is not None:
            self.ring.note_seq(self.journal.next_seq)
        return made

    def _physical(self, raw: rda.Samples) -> Float32:
        """``raw * resolution`` in float64, rounded once."""
        if self._raw_is_physical and raw.dtype == np.float32:
            return cast(Float32, raw)
        with np.errstate(all="ignore"):  # NaN, Inf and overflow to Inf pass through
            return np.multiply(raw, self._scale, dtype=np.float64).astype(np.float32)

    def _record(self, topic: bytes, record: SegmentStart | SegmentEnd | Gap) -> bytes:
        frame = encode_records(topic, Records(self.instance, self.journal.next_seq, [record]))
        self.journal.append(record)
        if not isinstance(record, Gap):
            self.segment = record.segment if isinstance(record, SegmentStart) else None
        if self.ring is not None:
            self.ring.note_seq(self.journal.next_seq)
        if topic == SEGMENT:
            self.segment_frame = frame
        return frame

    def insert(self, marker: Marker) -> list[bytes]:
        """Take a client's marker into the journal. Returns frames to publish.

        All readers hear `SEGMENT`; those that want markers alone hear it there, like a block's.
        """
        message = Records(self.instance, self.journal.next_seq, [marker])
        self.journal.append(marker)
        self.counters.inserted_markers += 1
        if self.ring is not None:
            self.ring.note_seq(self.journal.next_seq)
        return [encode_records(SEGMENT, message), encode_records(MARKERS, message)]

    def prune(self, now: float) -> None:
        """Let go of what the history no longer reaches. Cheap; call now and then.

        Parameters
        ----------
        now : float
            Seconds on a monotonic clock.
        """
        self.rings.prune(now)
        # What is on disk is told only as far as its records are known here, and those are bounded.
        self._known_from = max(self.first_available, self.journal.known_from(limits.ARCHIVED_RECORDS))
        self.journal.prune(self.first_available)

    def holdings(self) -> dict[str, Any]:
        """What every answer says: which instance, and what it holds at this moment."""
        return {
            "instance": self.instance,
            "first_available": self.first_available,
            "next_index": self.next_index,
        }
