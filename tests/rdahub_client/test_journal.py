"""The journal against a plain list of all records ever made."""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rdahub_client import journal as journal_module
from rdahub_client.journal import KEPT_SEGMENTS, Journal
from rdahub_client.records import Gap, Marker, Record, Segment, SegmentEnd, SegmentStart


def segment(number: int, start: int, stop: int | None = None) -> Segment:
    return Segment(number, start, stop, 1000.0, (1.0,), ("Cz",), ("µV",), None if stop is None else "stop")


def marker(index: int, block: int | None = None, points: int = 1) -> Marker:
    return Marker(index, points, -1, "Stimulus", f"S{index:3}", block=index if block is None else block)


def journal(*records: Record) -> Journal:
    made = Journal()
    for record in records:
        made.append(record)
    return made


def exactly(markers: list[Marker]) -> list[tuple[Marker, int]]:
    """Markers with their blocks, which do not count in a comparison."""
    return [(marker, marker.block) for marker in markers]


HISTORY: tuple[Record, ...] = (
    SegmentStart(segment(0, 0)),
    marker(5),
    Gap(10, 20, "counter"),
    marker(25),
    SegmentEnd(segment(0, 0, 30), "stop"),
    SegmentStart(segment(1, 30)),
    marker(31),
)


# --- what is in it --------------------------------------------------------------------------------------


def test_an_empty_journal_knows_nothing() -> None:
    empty = Journal()
    assert (empty.first_seq, empty.next_seq, empty.segment, empty.segments) == (0, 0, None, [])
    assert (empty.since(0, 10), empty.markers(0, 10), empty.gaps(0, 10)) == ((0, []), [], [])
    assert (empty.segment_at(0), empty.place_of(0), empty.ahead(0)) == (None, 0, ([], None))
    empty.prune(100)
    assert (empty.first, empty.next_seq, empty.before) == (0, 0, None)


def test_records_are_numbered_from_0_in_the_order_they_happened() -> None:
    full = journal(*HISTORY)
    assert (full.first_seq, full.next_seq) == (0, 7)
    assert full.since(0, 100) == (0, list(HISTORY))
    assert full.since(2, 3) == (2, list(HISTORY[2:5]))
    assert full.since(7, 3) == (7, [])
    assert full.since(9, 3) == (9, [])
    assert full.since(0, 0) == (0, [])


def test_since_begins_with_the_oldest_record_if_that_asked_for_is_gone() -> None:
    full = journal(*HISTORY)
    full.prune(22)
    assert full.since(0, 2) == (3, list(HISTORY[3:5]))
    assert full.next_seq == 7


def test_a_segments_end_replaces_its_start_in_the_table() -> None:
    full = journal(*HISTORY)
    assert full.segments == [segment(0, 0, 30), segment(1, 30)]
    assert full.segment == segment(1, 30)


@pytest.mark.parametrize(("index", "number"), [(-1, None), (0, 0), (29, 0), (30, 1), (31, 1), (2**62, 1)])
def test_the_open_segment_holds_all_that_is_to_come(index: int, number: int | None) -> None:
    found = journal(*HISTORY).segment_at(index)
    assert (None if found is None else found.number) == number


def test_after_an_ended_segment_and_in_an_empty_one_there_is_no_sample() -> None:
    ended = SegmentEnd(segment(0, 0, 30), "stop")
    empty = SegmentStart(segment(1, 30)), SegmentEnd(segment(1, 30, 30), "stop")
    assert journal(HISTORY[0], ended).segment_at(30) is None
    assert journal(HISTORY[0], ended, *empty).segment_at(30) is None
    assert journal(HISTORY[0], ended, *empty).segment_at(29) == segment(0, 0, 30)
    assert journal(HISTORY[0], ended, *empty, SegmentStart(segment(2, 30))).segment_at(30) == segment(2, 30)


def test_markers_stand_in_index_order_wherever_their_blocks_lie() -> None:
    late, early, twin = marker(3, block=40), marker(99, block=20), marker(3, block=60)
    full = journal(*HISTORY, late, early, twin)
    assert exactly(full.markers(0, 100)) == exactly([late, twin, marker(5), marker(25), marker(31), early])
    assert full.markers(3, 5) == [late, twin]
    assert full.markers(4, 5) == []
    assert full.markers(31, 31) == []
    assert full.markers(-10, 2**62) == full.markers(0, 100)


@pytest.mark.parametrize(
    ("start", "stop", "touched"),
    [(0, 10, False), (0, 11, True), (12, 13, True), (19, 99, True), (20, 99, False), (5, 25, True)],
)
def test_gaps_are_those_that_touch_the_range(start: int, stop: int, touched: bool) -> None:
    assert journal(*HISTORY).gaps(start, stop) == ([HISTORY[2]] if touched else [])


def test_a_record_inserted_takes_a_place_but_no_number() -> None:
    full = journal(*HISTORY[:2])
    full.insert(Gap(6, 9, "overwritten"))
    full.append(HISTORY[2])
    assert full.next_seq == 3
    assert full.gaps(0, 100) == [Gap(6, 9, "overwritten"), HISTORY[2]]
    assert full.ahead(2) == ([], Gap(6, 9, "overwritten"))
    assert full.ahead(3) == ([], HISTORY[2])


# --- places ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("index", "place"),
    [(-1, 0), (0, 1), (5, 1), (6, 2), (19, 2), (20, 3), (25, 3), (26, 4), (29, 4), (30, 6), (32, 7)],
)
def test_a_reader_begins_with_the_first_record_not_wholly_before_it(index: int, place: int) -> None:
    assert journal(*HISTORY).place_of(index) == place


def test_a_marker_belongs_to_its_block_and_not_to_its_index() -> None:
    assert journal(marker(50, block=10)).place_of(11) == 1
    assert journal(marker(10, block=50)).place_of(11) == 0


def test_ahead_are_the_markers_in_line_and_the_first_record_behind_them() -> None:
    full = journal(marker(1), marker(2), *HISTORY)
    assert full.ahead(0) == ([marker(1), marker(2)], HISTORY[0])
    assert full.ahead(1) == ([marker(2)], HISTORY[0])
    assert full.ahead(2) == ([], HISTORY[0])
    assert full.ahead(8) == ([marker(31)], None)
    assert full.ahead(9) == ([], None)


def test_places_stay_when_what_was_before_them_is_pruned() -> None:
    full = journal(*HISTORY)
    place = full.place_of(25)
    full.prune(22)
    assert full.first == 3
    assert full.place_of(25) == place
    assert full.ahead(place) == ([marker(25)], HISTORY[4])


# --- pruning --------------------------------------------------------------------------------------------


def test_a_segment_stays_known_while_any_of_it_is_in_history() -> None:
    full = Journal()
    for i in range(KEPT_SEGMENTS + 2):
        full.append(SegmentStart(segment(i, 10 * i)))
        full.append(SegmentEnd(segment(i, 10 * i, 10 * i + 10), "stop"))
    full.prune(9)
    assert full.segment_at(9) == segment(0, 0, 10)
    full.prune(10)
    assert full.segments[0] == segment(1, 10, 20)
    full.prune(2**62)
    assert [known.number for known in full.segments] == [*range(2, KEPT_SEGMENTS + 2)]


def test_the_segment_open_where_the_records_begin_is_remembered() -> None:
    full = journal(*HISTORY)
    seen: list[tuple[int, Segment | None]] = []
    for index in (0, 1, 30, 31, 32):
        full.prune(index)
        seen.append((full.first, full.before))
    # At 30 the end of segment 0 is kept: a reader who begins there is told so.
    first, second = segment(0, 0), segment(1, 30)
    assert seen == [(0, None), (1, first), (4, first), (6, second), (7, second)]


@pytest.mark.parametrize("keep", range(8))
def test_no_record_from_the_place_kept_on_is_dropped(keep: int) -> None:
    full = journal(*HISTORY)
    full.prune(2**62, keep)
    assert full.first == keep
    assert full.since(0, 100) == (keep, list(HISTORY[keep:]))


def test_a_marker_stays_until_both_it_and_its_block_are_past() -> None:
    full = journal(marker(50, block=10), marker(10, block=50))
    full.prune(50)
    assert len(full.markers(0, 100)) == 2
    full.prune(51)
    assert full.markers(0, 100) == []
    assert full.first_seq == 2


class Machine(RuleBasedStateMachine):
    """A recording, pruned at times; ``log`` forgets nothing."""

    kept = mock.patch.object(journal_module, "KEPT_SEGMENTS", 2)  # within reach of a short recording

    @initialize()
    def begin(self) -> None:
        self.kept.start()
        self.journal = Journal()
        self.log: list[Record] = []
        self.at = self.pruned = self.keep = 0
        self.open: Segment | None = None
        self.number = 0

    def teardown(self) -> None:
        self.kept.stop()

    def add(self, record: Record) -> None:
        self.log.append(record)
        self.journal.append(record)

    @rule()
    @precondition(lambda self: self.open is None)
    def start(self) -> None:
        self.open = segment(self.number, self.at)
        self.number += 1
        self.add(SegmentStart(self.open))

    @rule(n=st.integers(0, 9), positions=st.lists(st.integers(-30, 30), max_size=4))
    @precondition(lambda self: self.open is not None)
    def block(self, n: int, positions: list[int]) -> None:
        for position in positions:
            self.add(marker(self.at + position, block=self.at))
        self.at += n

    @rule(n=st.integers(1, 9))
    @precondition(lambda self: self.open is not None)
    def gap(self, n: int) -> None:
        self.add(Gap(self.at, self.at + n, "counter"))
        self.at += n

    @rule()
    @precondition(lambda self: self.open is not None)
    def stop(self) -> None:
        assert self.open is not None
        self.add(SegmentEnd(replace(self.open, stop=self.at, ended="stop"), "stop"))
        self.open = None

    @rule(back=st.integers(0, 40), kept=st.none() | st.integers(0, 9))
    def prune(self, back: int, kept: int | None) -> None:
        self.pruned = max(self.pruned, self.at - back)
        keep = None if kept is None else max(len(self.log) - kept, self.journal.first)
        before = self.journal.first
        self.journal.prune(self.pruned, keep)
        assert (
            len(self.journal.segments) <= 2
            or self.journal.segments[0].stop is None
            or (self.journal.segments[0].stop > self.pruned)
        )
        for record in self.log[before : self.journal.first]:
            assert self.last_index(record) < self.pruned, "dropped too early"
        if self.journal.first < (len(self.log) if keep is None else keep):
            assert self.last_index(self.log[self.journal.first]) >= self.pruned, "kept for nothing"

    @staticmethod
    def last_index(record: Record) -> int:
        """Last index that a reader must be beyond for this record to be none of its business."""
        match record:
            case SegmentStart(at):
                return at.start
            case SegmentEnd(at):
                assert at.stop is not None
                return at.stop
            case Gap(stop=stop):
                return stop - 1
            case Marker():
                return max(record.index, record.block)

    @invariant()
    def numbers_and_records_are_those_of_the_list(self) -> None:
        first = self.journal.first
        assert (self.journal.next_seq, self.journal.first_seq) == (len(self.log), first)
        for seq, limit in ((0, 3), (first, 100), (len(self.log) - 2, 1), (len(self.log), 5)):
            begin = max(seq, first)
            assert self.journal.since(seq, limit) == (begin, self.log[begin : begin + limit])
        for place in range(first, len(self.log) + 1):
            rest = self.log[place:]
            n = next((i for i, record in enumerate(rest) if not isinstance(record, Marker)), len(rest))
            assert self.journal.ahead(place) == (rest[:n], rest[n] if n < len(rest) else None)
        open_there = None
        for record in self.log[:first]:
            if isinstance(record, SegmentStart | SegmentEnd):
                open_there = record.segment if isinstance(record, SegmentStart) else None
        assert self.journal.before == open_there

    @invariant()
    def what_lies_in_history_is_that_of_the_list(self) -> None:
        low, high = self.pruned, self.at + 40
        markers = [record for record in self.log if isinstance(record, Marker)]
        segments = {r.segment.number: r.segment for r in self.log if isinstance(r, SegmentStart | SegmentEnd)}
        for start, stop in ((low, high), (low + 3, high - 35), (self.at - 5, self.at + 5)):
            if start < low:
                continue
            inside = sorted((m for m in markers if start <= m.index < stop), key=lambda m: m.index)
            assert exactly(self.journal.markers(start, stop)) == exactly(inside)
            assert self.journal.gaps(start, stop) == [
                g for g in self.log if isinstance(g, Gap) and g.start < stop and g.stop > start
            ]
        for index in range(low, self.at + 2):
            holding: list[Segment | None] = [
                s for s in segments.values() if s.start <= index and (s.stop is None or index < s.stop)
            ]
            assert [self.journal.segment_at(index)] == (holding or [None])
        wanted = [s for s in segments.values() if s.stop is None or s.stop > low]
        assert self.journal.segments[len(self.journal.segments) - len(wanted) :] == wanted
        assert self.journal.segment == (segments[self.number - 1] if segments else None)


TestJournal = Machine.TestCase
TestJournal.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
