"""What a campaign's logs prove: each witness was told the Recorder's samples, all, in order, nothing else.

Rule: pure; logs in, verdict out. A hole needs a record, a record needs a cause: in the source's log
(`counter`, `stop`, `restart`), in the faults' log (`lost`, `hub_restart`), or in time (`overwritten` only
what was by then older than the history, or of another layout, and only for a witness that was late, away, or
held up).
Times are the machine's monotonic clock, the same in all processes.
Not here: making logs (`source`, `witness`, `campaign`).
"""

from __future__ import annotations

import json
import zlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from source import COUNTED, truth

Entry = Mapping[str, Any]

CUTS: Final = frozenset({"recorder reset", "recorder cut", "hub kill", "hub end"})
"""Faults that may destroy what was sent and not yet taken in."""
SLACK: Final = 4.0
"""Seconds within which what was sent is with the hub, and with a client that nothing ails."""


@dataclass
class Part:
    """What must become one segment, if all of it arrives: rows of one acquisition, with holes."""

    acquisition: int
    first: int
    stop: int = 0
    rows: list[int] = field(default_factory=list)  # first rows of blocks, ascending; equal for empty ones
    lengths: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    holes: list[tuple[int, int]] = field(default_factory=list)
    markers: list[tuple[int, list[Any]]] = field(default_factory=list)  # row of the block, marker
    ended: str = ""

    def sent_by(self, t: float) -> int:
        """Row after the last one sent by then."""
        k = bisect_left(self.times, t)
        return self.first if k == 0 else self.rows[k - 1] + self.lengths[k - 1]

    def hole_in(self, a: int, b: int) -> bool:
        return any(start < b and a < stop for start, stop in self.holes)


@dataclass
class Acquisition:
    """One START of the source."""

    number: int
    t: float
    channels: int
    interval: float
    resolution: float
    parts: list[Part] = field(default_factory=list)
    ended: str = ""  # stop, restart, hang up, corrupt, lost, replaced
    t_ended: float = np.inf

    def part_of(self, row: int) -> Part | None:
        found = [part for part in self.parts if part.first <= row]
        return found[-1] if found and row < max(found[-1].stop, found[-1].first + 1) else None

    def names(self) -> list[str]:
        return [f"A{self.number}-{k}" for k in range(self.channels)]


def acquisitions(log: Iterable[Entry], history: float) -> dict[int, Acquisition]:
    """What the source sent, cut into parts by the hub's rules for holes."""
    found: dict[int, Acquisition] = {}
    hole = 0
    for entry in log:
        number = entry.get("acquisition", 0)
        match entry["what"]:
            case "start":
                before = found.get(number - 1)
                if before is not None and not before.ended:
                    before.ended, before.t_ended = "restart", entry["t"]
                made = Acquisition(
                    number, entry["t"], entry["channels"], entry["interval"], entry["resolution"]
                )
                made.parts.append(Part(number, 0))
                found[number] = made
                hole = 0
            case "skip":
                hole += entry["n"]
            case "block":
                acquisition, row, n = found[number], entry["row"], entry["n"]
                if hole:
                    _skip(acquisition, row, hole, history)
                    hole = 0
                part = acquisition.parts[-1]
                part.rows.append(row)
                part.lengths.append(n)
                part.times.append(entry["t"])
                part.markers += [(row, marker) for marker in entry["markers"]]
                part.stop = row + n
            case "stop":
                found[number].ended, found[number].t_ended = "stop", entry["t"]
            case "close" if number in found and not found[number].ended:
                found[number].ended, found[number].t_ended = entry["how"], entry["t"]
    return found


def _skip(acquisition: Acquisition, row: int, hole: int, history: float) -> None:
    part = acquisition.parts[-1]
    capacity = int(history * 1e6 / acquisition.interval)
    constant = len(set(part.lengths)) == 1
    if constant and capacity < hole <= 2 * capacity:
        raise ValueError("the source skipped about as much as the history; what must follow is open")
    if constant and hole <= capacity:
        part.holes.append((row - hole, row))
    else:
        part.ended = "counter"
        acquisition.parts.append(Part(acquisition.number, row, row))


@dataclass(frozen=True)
class Key:
    instance: str
    number: int


@dataclass
class Seen:
    """A segment as witnesses told of it."""

    start: int
    acquisition: Acquisition
    part: Part | None = None
    stop: int | None = None
    reason: str = ""
    reached: int = 0


@dataclass
class Verdict:
    """Errors, and the figures of what was checked."""

    errors: list[str] = field(default_factory=list)
    samples: int = 0  # values compared
    rows: int = 0
    streams: int = 0
    joins: int = 0
    markers: int = 0
    gaps: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        return (
            f"{self.streams} streams, {self.rows} rows ({self.samples} values) compared, "
            f"{self.markers} markers; gaps {dict(self.gaps)}, segment ends {dict(self.ends)}; "
            f"{len(self.errors)} errors"
        )


def read_log(path: Path) -> list[Entry]:
    """Lines of a log; the last may be half written by a process that was killed."""
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


class Checker:
    """Judges witnesses against one source.

    Parameters
    ----------
    source, nemesis : list of dict
        What was sent, and which faults were made: ``{"fault", "target", "t0", "t1", ...}``.
    history : float
        The hub's, in seconds.
    """

    def __init__(self, source: Iterable[Entry], nemesis: Iterable[Entry], history: float) -> None:
        self.history = history
        self.acquisitions = acquisitions(source, history)
        self.faults = sorted(nemesis, key=lambda fault: float(fault["t0"]))
        self.killed = {
            fault["instance"] for fault in self.faults if fault["fault"] in {"hub kill", "hub end"}
        }
        self.markers = {
            marker[4]: (part, row, marker)
            for acquisition in self.acquisitions.values()
            for part in acquisition.parts
            for row, marker in part.markers
        }
        self.segments: dict[Key, Seen] = {}
        self.verdict = Verdict()
        self._logs: dict[str, tuple[Sequence[Entry], Path]] = {}

    def add(self, name: str, log: Sequence[Entry], samples: Path) -> None:
        """Take a witness; `judge` comes when all are here, because each proves what others may miss."""
        self._logs[name] = (log, samples)
        for entry in log:
            if entry["what"] == "start":
                self._note_start(name, entry)
            elif entry["what"] == "end":
                self._note_end(name, entry)

    def judge(self) -> Verdict:
        """The verdict on all witnesses and the hub."""
        data = {
            name: np.memmap(samples, np.uint8, "r") if samples.stat().st_size else np.empty(0, np.uint8)
            for name, (_, samples) in self._logs.items()
        }
        for name, (log, _) in self._logs.items():
            self._find_parts(log, data[name])
        for name, (log, _) in self._logs.items():
            for stream in _streams(log):
                Stream(self, name, data[name]).judge(stream)
                self.verdict.streams += 1
        self._judge_segments()
        self._judge_arrival()
        return self.verdict

    def convict(self, who: str, entry: Entry | None, what: str) -> None:
        short = {} if entry is None else {k: v for k, v in entry.items() if k not in {"markers", "names"}}
        self.verdict.errors.append(f"{who}: {what} {short or ''}")

    # --- segments, of which all must tell the same -----------------------------------------------------

    def _note_start(self, who: str, entry: Entry) -> None:
        names = list(entry["names"])
        acquisition = self.acquisitions.get(int(names[0].partition("-")[0][1:]))
        if acquisition is None or names != acquisition.names():
            self.convict(who, entry, "a segment of a layout that the source never sent")
            return
        if entry["interval"] != acquisition.interval or set(entry["resolutions"]) != {acquisition.resolution}:
            self.convict(who, entry, "another rate or resolution than the source's")
        seen = self.segments.setdefault(
            Key(entry["instance"], entry["number"]), Seen(entry["start"], acquisition)
        )
        if seen.start != entry["start"] or seen.acquisition is not acquisition:
            self.convict(who, entry, f"segment {entry['number']} is another than others were told of")

    def _note_end(self, who: str, entry: Entry) -> None:
        seen = self.segments.get(Key(entry["instance"], entry["number"]))
        if seen is None or entry["reason"] in {"hub_restart", "overwritten"}:
            return
        if seen.reason and (seen.stop, seen.reason) != (entry["stop"], entry["reason"]):
            self.convict(who, entry, f"others were told it ended at {seen.stop} ({seen.reason})")
        seen.stop, seen.reason = entry["stop"], entry["reason"]

    def _find_parts(self, log: Sequence[Entry], data: np.ndarray) -> None:
        """Which part of its acquisition each segment is: channel 0 of its samples counts rows."""
        seen: Seen | None = None
        for entry in log:
            match entry["what"]:
                case "start":
                    seen = self.segments.get(Key(entry["instance"], entry["number"]))
                    if seen is not None and len(seen.acquisition.parts) == 1:
                        seen.part = seen.acquisition.parts[0]
                case "block" if seen is not None and seen.part is None and entry["shape"][0]:
                    value = np.frombuffer(data[entry["offset"] : entry["offset"] + 4], np.float32)[0]
                    row = int(value / seen.acquisition.resolution) if np.isfinite(value) else -1
                    for part in seen.acquisition.parts:
                        if (part.first + entry["start"] - seen.start) % COUNTED == row:
                            seen.part = part

    def _judge_segments(self) -> None:
        """In order, one behind the other, none of an acquisition that was over, all for a reason."""
        for key, seen in self.segments.items():
            after = self.segments.get(Key(key.instance, key.number + 1))
            if after is not None and seen.stop is not None and after.start != seen.stop:
                self.convict(key.instance, None, f"segment {key.number + 1} begins elsewhere than one ended")
            if seen.reason:
                self._judge_reason(key, seen)
        for instance in {key.instance for key in self.segments}:
            ordered = sorted(key.number for key in self.segments if key.instance == instance)
            for a, b in pairwise(ordered):
                one, two = self.segments[Key(instance, a)], self.segments[Key(instance, b)]
                if one.start > two.start or one.acquisition.number > two.acquisition.number:
                    self.convict(instance, None, f"segments {a} and {b} are out of order")
        owners = {(seen.acquisition.number, key.instance) for key, seen in self.segments.items()}
        if len({number for number, _ in owners}) != len(owners):
            self.convict("all", None, "an acquisition in two instances")

    def _judge_reason(self, key: Key, seen: Seen) -> None:
        part, acquisition = seen.part, seen.acquisition
        if seen.reason not in {"stop", "restart", "lost", "counter"}:
            self.convict(key.instance, None, f"segment {key.number} ended as {seen.reason!r}")
        elif part is not None and seen.stop is not None:
            length = seen.stop - seen.start
            whole = length == part.stop - part.first
            wanted = part.ended or {"stop": "stop", "restart": "restart"}.get(acquisition.ended, "lost")
            torn = self._required(acquisition) < np.inf  # something cut the line
            boundaries = {row + n - part.first for row, n in zip(part.rows, part.lengths, strict=True)} | {0}
            sent = part.stop - part.first
            if not (whole and seen.reason == wanted) and not (torn and seen.reason == "lost"):
                self.convict(
                    key.instance, None,
                    f"segment {key.number} of A{acquisition.number} has {length} rows ({seen.reason}) "
                    f"where the source sent {sent} ({wanted})",
                )  # fmt: skip
            elif length not in boundaries:
                self.convict(key.instance, None, f"segment {key.number} ends inside a block")

    # --- did everything arrive --------------------------------------------------------------------------

    def settled(self, t: float, targets: Iterable[str]) -> float:
        """Before which what was sent had arrived by `t`, whatever held these up."""
        settled, targets = t - SLACK, set(targets)
        for fault in reversed(self.faults):
            if fault["target"] in targets and fault["t0"] < t and fault["t1"] + SLACK > settled:
                settled = min(settled, fault["t0"] - SLACK)
        return settled

    def _required(self, acquisition: Acquisition) -> float:
        """All that was sent by then must have come to the hub."""
        cuts = [
            settled
            for fault in self.faults
            if fault["fault"] in CUTS and fault["t1"] + SLACK > acquisition.t
            if (settled := self.settled(fault["t0"], {"recorder", "hub"})) <= acquisition.t_ended
        ]
        return min(cuts, default=np.inf)

    def _judge_arrival(self) -> None:
        """What was sent while nothing stood in the way is in some witness's hands."""
        reached: dict[int, int] = {}
        for seen in self.segments.values():
            if seen.part is not None:
                row = seen.part.first + (seen.stop if seen.stop is not None else seen.reached) - seen.start
                number = seen.acquisition.number
                reached[number] = max(reached.get(number, 0), row)
        for number, acquisition in self.acquisitions.items():
            required = self._required(acquisition)
            sent = ((part.first, part.sent_by(required)) for part in acquisition.parts if part.rows)
            rows = max((stop for first, stop in sent if stop > first), default=0)
            if reached.get(number, 0) < rows:
                self.convict(
                    f"A{number}", None, f"{rows} rows must have arrived, {reached.get(number, 0)} were seen"
                )

    # --- what the hub may have overwritten ---------------------------------------------------------------

    def oldest(self, instance: str, t: float) -> int:
        """The hub's first_available at a time, at most."""
        oldest, before = 0, None
        for key in sorted((key for key in self.segments if key.instance == instance), key=lambda k: k.number):
            seen = self.segments[key]
            layout, part = seen.acquisition, seen.part
            if layout.t > t:
                break
            rows = max(64, int(self.history * 1e6 / layout.interval))
            # Samples of earlier layouts stay for as long as the history is meant to reach, by the clock.
            over = (
                before is not None and before.interval != layout.interval and t - layout.t > self.history - 1
            )
            if before is not None and (over or before.channels != layout.channels):
                oldest = max(oldest, seen.start)
            elif before is not None:
                oldest = max(oldest, seen.start - rows)
            stop = seen.start if seen.stop is None else seen.stop
            if part is not None:
                sent = seen.start + part.sent_by(t) - part.first
                stop = sent if seen.stop is None else min(sent, stop)
            oldest, before = max(oldest, stop - rows), layout
        return oldest


def _streams(log: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """The log of a witness, cut where it began anew."""
    stream: list[Entry] = []
    for entry in log:
        if entry["what"] == "open" and stream:
            yield stream
            stream = []
        stream.append(entry)
    if stream:
        yield stream


class Stream:
    """Walks the events of one stream; every step must join the one before."""

    def __init__(self, checker: Checker, name: str, data: np.ndarray) -> None:
        self._checker = checker
        self._who = name
        self._data = data
        self._instance = ""
        self._next = 0
        self._first = 0  # where it began within this instance
        self._seen: Seen | None = None
        self._number: int | None = None
        self._lossy = False  # since the last segment something was overwritten
        self._left = False  # the hub took samples with it; the markers known by then follow
        self._opened = 0.0
        self._latest = 0.0
        self._away = 0.0
        self._told: set[str] = set()  # descriptions of markers
        self._rows: list[tuple[int, int, Seen]] = []  # what was shown, for the markers that must be there

    def judge(self, stream: Sequence[Entry]) -> None:
        """Convict what does not fit."""
        for entry in stream:
            match entry["what"]:
                case "open":
                    self._opened = entry["t"]
                    self._instance = entry["instance"]
                    self._next = self._first = entry["index"]
                case "start" | "block" | "gap" | "end":
                    self._enter(entry)
                    getattr(self, f"_{entry['what']}")(entry)
                case "away":
                    self._away += entry["seconds"]
                case "error":
                    self._convict(entry, "an error where only events may come")
            self._latest = entry["t"]
        self._judge_markers()

    def _convict(self, entry: Entry | None, what: str) -> None:
        self._checker.convict(self._who, entry, what)

    def _enter(self, entry: Entry) -> None:
        """Another instance only after the end of the one before, at its sample 0."""
        if entry["instance"] == self._instance:
            return
        if self._instance:
            if self._seen is not None:
                self._convict(entry, f"instance {self._instance} was left inside a segment")
            if self._instance not in self._checker.killed:
                self._convict(entry, f"instance {self._instance} was left and never killed")
            self._judge_markers()
            self._next = self._first = 0
        self._instance, self._number = entry["instance"], None
        self._lossy = self._left = False

    def _step(self, entry: Entry) -> None:
        if entry["start"] != self._next:
            fault = "repeated or reordered" if entry["start"] < self._next else "lost in silence"
            self._convict(entry, f"{fault}: begins at {entry['start']}, expected {self._next}")
        if entry["stop"] < entry["start"]:
            self._convict(entry, "goes backwards")
        self._next = entry["stop"]

    def _start(self, entry: Entry) -> None:
        self._seen = self._checker.segments.get(Key(entry["instance"], entry["number"]))
        if entry["start"] > self._next:
            self._convict(entry, f"lost in silence: begins at {entry['start']}, expected {self._next}")
        if self._number is not None and (
            entry["number"] <= self._number or (entry["number"] > self._number + 1 and not self._lossy)
        ):
            self._convict(entry, f"segment {entry['number']} after segment {self._number}")
        self._number, self._lossy = entry["number"], False

    def _end(self, entry: Entry) -> None:
        reason = entry["reason"]
        self._checker.verdict.ends[reason] += 1
        if self._seen is None or entry["number"] != self._number:
            self._convict(entry, "the end of a segment that was not begun")
        if entry["stop"] != self._next and not (self._next == self._first > entry["stop"]):
            self._convict(entry, f"ends elsewhere than its samples, which end at {self._next}")
        if reason == "hub_restart" and self._instance not in self._checker.killed:
            self._convict(entry, "a restart of a hub that was never killed")
        if reason == "overwritten":
            self._lossy = True
            self._judge_overwritten(entry, entry["stop"])
        self._seen = None

    def _gap(self, entry: Entry) -> None:
        self._checker.verdict.gaps[entry["reason"]] += 1
        if entry["reason"] == "overwritten":
            self._step(entry)
            self._lossy = True
            self._judge_overwritten(entry, entry["stop"])
            return
        if entry["reason"] == "hub_restart":  # what a hub took with it
            self._step(entry)
            self._left = True
            if self._instance not in self._checker.killed:
                self._convict(entry, "a restart of a hub that was never killed")
            return
        joined = self._next == self._first or self._lossy
        self._step(entry)
        if entry["reason"] != "counter":
            self._convict(entry, "a gap of no known reason")
            return
        seen = self._seen
        if seen is None:
            self._convict(entry, "a gap outside segments")
            return
        if seen.part is None:
            self._convict(entry, "a gap in a segment that the source never sent")
            return
        shift = seen.part.first - seen.start
        a, b = entry["start"] + shift, entry["stop"] + shift
        whole = (a, b) in seen.part.holes
        rest = any(start <= a and stop == b for start, stop in seen.part.holes)
        if not whole and not (rest and joined):
            self._convict(entry, "a gap where the source lost nothing")

    def _block(self, entry: Entry) -> None:
        verdict, seen = self._checker.verdict, self._seen
        self._step(entry)
        start, stop = entry["start"], entry["stop"]
        rows, channels = entry["shape"]
        raw = self._data[entry["offset"] : entry["offset"] + 4 * rows * channels]
        if rows != stop - start or zlib.crc32(raw.tobytes()) != entry["crc"]:
            self._convict(entry, "the witness's own files disagree")
            return
        if seen is None:
            self._convict(entry, "samples outside segments")
            return
        if self._left and not rows:
            for marker in entry["markers"]:
                self._late_marker(entry, marker)
            return
        samples = np.frombuffer(raw, np.float32).reshape(rows, channels)
        part, acquisition = seen.part, seen.acquisition
        if part is None:
            if rows:
                self._convict(entry, "samples that the source never sent")
            return
        first = part.first + start - seen.start
        if first < part.first or first + rows > part.stop or part.hole_in(first, first + rows):
            self._convict(entry, f"rows {first} to {first + rows} of A{acquisition.number} were never sent")
            return
        if channels != acquisition.channels:
            self._convict(entry, f"{channels} channels instead of {acquisition.channels}")
            return
        wanted = truth(acquisition.number, np.arange(first, first + rows), channels)
        wanted *= np.float32(acquisition.resolution)
        if wanted.tobytes() != raw.tobytes():
            wrong = np.flatnonzero((wanted != samples).any(axis=1))
            self._convict(entry, f"{len(wrong)} wrong rows, the first at index {start + int(wrong[0])}")
        seen.reached = max(seen.reached, stop)
        verdict.rows += rows
        verdict.samples += rows * channels
        self._rows.append((start, stop, seen))
        for marker in entry["markers"]:
            self._marker(entry, seen, part, marker)

    def _late_marker(self, entry: Entry, marker: list[Any]) -> None:
        """One of the samples a hub took with it, among them segments this stream had not begun."""
        segments = self._checker.segments.items()
        owner = self._checker.markers.get(marker[4], (None, 0, []))[0]
        for key, seen in segments:
            if key.instance == self._instance and seen.part is owner and owner is not None:
                self._lossy = True  # it comes with another block than its own
                self._marker(entry, seen, owner, marker)
                return
        self._convict(entry, f"marker {marker[4]} of no segment that any witness saw")

    def _marker(self, entry: Entry, seen: Seen, part: Part, marker: list[Any]) -> None:
        description, block = marker[4:6]
        if description in self._told:
            self._convict(entry, f"marker {description} was told twice")
        self._told.add(description)
        self._checker.verdict.markers += 1
        owner, row, sent = self._checker.markers.get(description, (None, 0, []))
        if owner is not part:
            self._convict(entry, f"marker {description} that the source never sent there")
            return
        at = row + seen.start - part.first
        if marker != [at + sent[0], *sent[1:], at]:
            self._convict(
                entry, f"marker {description} is not as sent: {marker}, not {[at + sent[0], *sent[1:]]}"
            )
        here = entry["start"] <= block < entry["stop"] or entry["start"] == entry["stop"] == block
        # A stream from amid a block begins with its markers on samples to come.
        here |= self._next == self._first == entry["stop"] and block < self._first <= marker[0]
        if not here and not self._lossy:
            self._convict(entry, f"marker {description} of block {block} came with another")

    def _judge_markers(self) -> None:
        """Every marker of a block whose first row was shown was told."""
        by_segment: dict[int, tuple[Seen, list[tuple[int, int]]]] = {}
        for start, stop, seen in self._rows:
            by_segment.setdefault(id(seen), (seen, []))[1].append((start, stop))
        for seen, spans in by_segment.values():
            part = seen.part
            if part is None:
                continue
            starts = [start for start, _ in spans]
            for row, marker in part.markers:
                block = row + seen.start - part.first
                k = bisect_left(starts, block + 1) - 1
                if k >= 0 and block < spans[k][1] and marker[4] not in self._told:
                    self._convict(None, f"marker {marker[4]} of block {block} was lost")
        self._rows, self._told = [], set()

    # --- overwritten -------------------------------------------------------------------------------------

    def _judge_overwritten(self, entry: Entry, stop: int) -> None:
        """It was: by then that old, or of another layout. And this witness, or the hub, had been held up."""
        if (oldest := self._checker.oldest(self._instance, entry["t"])) < stop:
            self._convict(entry, f"said to be overwritten, but the hub held all from {oldest} on")
            return
        targets = {self._who, "clients", "hub"}
        if self._away or self._latest - self._opened < SLACK:
            return  # it joined late or looked away
        reasons = [
            fault
            for fault in self._checker.faults
            if fault["target"] in targets and fault["t0"] < entry["t"] and fault["t1"] + SLACK > self._latest
        ]
        if not reasons:
            self._convict(entry, "overwritten for a witness that nothing held up")
