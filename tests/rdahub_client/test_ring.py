"""The ring against a list that never forgets, and its reader against a writer at full speed."""

from __future__ import annotations

import os
import random
import time
from typing import Any

import numpy as np
import pytest
from forked import forked, needs_fork
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rdahub_client.memory import MIRRORS, map_rows, private_ring, round_capacity
from rdahub_client.records import Float32
from rdahub_client.ring import FLOOR, MARKS, NEXT, RESERVED, Marks, Ring, RingReader

EDGES = (0, 2**24, 2**31, 2**32, 2**53)
needs_memfd = pytest.mark.skipif(not (MIRRORS and hasattr(os, "memfd_create")), reason="needs memfd (Linux)")


def plain_ring(capacity: int, n_channels: int, start: int = 0) -> tuple[Ring, RingReader, Marks]:
    rows, marks = np.zeros((2 * capacity, n_channels), np.float32), np.zeros(MARKS, np.int64)
    return Ring(rows, start, mirrored=False, marks=marks), RingReader(rows, marks), marks


def counting(start: int, n: int, n_channels: int) -> Float32:
    """Samples that are a function of index and channel, exact in float32."""
    index = np.arange(start, start + n, dtype=np.int64)[:, None]
    values: Float32 = ((index * 5 + np.arange(n_channels)) % 2**24).astype(np.float32)
    return values


class Machine(RuleBasedStateMachine):
    """Ring and RingReader against ``truth``: every row ever written, by index."""

    mirrored: bool

    @initialize(
        edge=st.sampled_from(EDGES),
        before=st.integers(0, 40),
        n_channels=st.sampled_from((64, 128, 512)),
        capacity=st.integers(1, 24),
    )
    def make(self, edge: int, before: int, n_channels: int, capacity: int) -> None:
        start = max(edge - before, 0)
        if self.mirrored:
            rows, marks = private_ring(capacity, n_channels, start)._rows, np.zeros(MARKS, np.int64)
            self.ring = Ring(rows, start, mirrored=True, marks=marks)
            self.reader = RingReader(rows, marks)
        else:
            self.ring, self.reader, _ = plain_ring(capacity, n_channels // 64, start)
        self.truth: dict[int, Float32] = {}
        self.written = 0
        self.floor = self.next = start

    @rule(n=st.integers(0, 60))
    def extend(self, n: int) -> None:
        rows = counting(self.written, n, self.ring.n_channels)
        self.written += n
        self.ring.extend(rows)
        self.remember(rows)

    @rule(n=st.integers(0, 60))
    def write(self, n: int) -> None:
        n = min(n, self.ring.capacity)
        rows = counting(self.written, n, self.ring.n_channels)
        self.written += n
        self.ring.write(self.next, memoryview(rows.tobytes()))
        self.remember(rows)

    @rule()
    def prepare(self) -> None:
        self.ring.prepare()

    @rule(n=st.integers(0, 60))
    def skip(self, n: int) -> None:
        self.ring.skip(n)
        self.remember(np.full((n, self.ring.n_channels), np.nan, np.float32))

    @rule(ahead=st.integers(0, 100))
    def jump(self, ahead: int) -> None:
        self.next += ahead
        self.floor = self.next
        self.ring.jump(self.next)

    def remember(self, rows: Float32) -> None:
        self.truth.update(enumerate(rows, self.next))
        self.next += len(rows)

    @precondition(lambda self: self.held())
    @rule(data=st.data())
    def every_range_is_exact(self, data: st.DataObject) -> None:
        start = data.draw(st.integers(self.held().start, self.next - 1))
        self.check(start, data.draw(st.integers(start, self.next)))

    @rule(start=st.integers(-70, 70), length=st.integers(0, 70))
    def holds_tells_the_truth(self, start: int, length: int) -> None:
        start = max(self.next + start, 0)
        here = start >= self.held().start and start + length <= self.next
        assert self.ring.holds(start, start + length) is here
        assert self.reader.holds(start, start + length) is here

    @invariant()
    def marks_and_all_newest_ranges_agree(self) -> None:
        ring, reader, held = self.ring, self.reader, self.held()
        assert (ring.first_available, ring.next_index, ring.floor) == (held.start, self.next, self.floor)
        assert (reader.first_available, reader.next_index) == (held.start, self.next)
        for end in (ring, reader):
            assert end.capacity == ring.capacity
            assert end.reaches(self.next)
            assert not end.reaches(self.next + 1)
        for start in held:
            self.check(start, self.next)

    def held(self) -> range:
        return range(max(self.floor, self.next - self.ring.capacity), self.next)

    def check(self, start: int, stop: int) -> None:
        expected = np.array([self.truth[i] for i in range(start, stop)], np.float32)
        view = self.ring.view(start, stop)
        assert view.tobytes() == expected.tobytes()
        assert view.shape == (stop - start, self.ring.n_channels)
        assert view.flags.c_contiguous
        assert not view.flags.owndata
        assert not view.flags.writeable
        read = self.reader.view(start, stop)
        assert read is not None
        assert read.tobytes() == expected.tobytes()


class MirroredMachine(Machine):
    mirrored = True


class TwiceWrittenMachine(Machine):
    mirrored = False


_settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestTwiceWritten = TwiceWrittenMachine.TestCase
TestTwiceWritten.settings = _settings
TestMirrored = needs_memfd(MirroredMachine.TestCase)
TestMirrored.settings = _settings


@pytest.mark.parametrize("edge", EDGES[1:])
def test_a_range_over_an_edge_of_number_formats_is_exact(edge: int) -> None:
    ring, reader, _ = plain_ring(capacity=7, n_channels=2, start=edge - 5)
    ring.extend(counting(edge - 5, 10, 2))
    assert (ring.first_available, ring.next_index) == (edge - 2, edge + 5)
    assert reader.first_available == edge - 2
    np.testing.assert_array_equal(ring.view(edge - 2, edge + 5), counting(edge - 2, 7, 2))


def test_writing_to_a_view_raises() -> None:
    ring, _, _ = plain_ring(4, 1)
    ring.extend(counting(0, 4, 1))
    with pytest.raises(ValueError, match="read-only"):
        ring.view(0, 2)[0] = 1


def test_a_view_is_the_ring_itself_and_not_a_copy() -> None:
    ring, _, _ = plain_ring(4, 1)
    ring.extend(counting(0, 4, 1))
    view = ring.view(1, 4)
    ring.extend(counting(4, 4, 1))
    np.testing.assert_array_equal(view, counting(5, 3, 1))


def test_after_a_jump_nothing_older_is_held() -> None:
    ring, reader, _ = plain_ring(8, 1)
    ring.extend(counting(0, 8, 1))
    ring.jump(10)
    for end in (ring, reader):
        assert not end.holds(7, 8)
        assert not end.holds(8, 10)
        assert end.holds(10, 10)


def test_the_journals_number_reaches_readers() -> None:
    ring, reader, _ = plain_ring(4, 1, start=100)
    assert reader.seq == 0
    ring.note_seq(2**40)
    assert reader.seq == 2**40
    ring.extend(counting(100, 3, 1))
    ring.jump(200)
    assert reader.seq == 2**40


def test_the_oldest_eighth_is_copied_and_the_rest_is_not() -> None:
    ring, reader, _ = plain_ring(64, 1)
    ring.extend(counting(0, 100, 1))
    for start, copied in ((36, True), (43, True), (44, False), (99, False)):
        view = reader.view(start, 100)
        assert view is not None
        assert view.flags.owndata is copied
        assert not (copied and view.flags.writeable)


class Watched(np.ndarray[Any, np.dtype[np.float32]]):
    """Rows that look around whenever they are written or copied."""

    look: Any = None

    def __array_finalize__(self, parent: object) -> None:
        self.look = getattr(parent, "look", None)

    def __setitem__(self, where: Any, what: Any) -> None:
        self.look("before")
        super().__setitem__(where, what)
        self.look("after")

    def copy(self, order: Any = "C") -> Any:
        half = np.array(self, copy=True, order=order)
        self.look("copying")
        return half


@pytest.mark.parametrize("how", ["extend", "skip"])
def test_rows_are_given_up_before_and_shown_after_they_are_written(how: str) -> None:
    rows, marks = np.zeros((16, 1), np.float32).view(Watched), np.zeros(MARKS, np.int64)
    reader, seen = RingReader(rows, marks), []
    rows.look = lambda when: seen.append((when, reader.first_available, reader.next_index))
    ring = Ring(rows, 0, mirrored=False, marks=marks)
    ring.extend(counting(0, 8, 1))
    seen.clear()
    if how == "extend":
        ring.extend(counting(8, 3, 1))
    else:
        ring.skip(3)
    assert {when for when, _, _ in seen} == {"before", "after"}
    assert {(first, stop) for _, first, stop in seen} == {(3, 8)}
    assert (reader.first_available, reader.next_index) == (3, 11)


@pytest.mark.parametrize(("written", "whole"), [(3, True), (4, True), (5, False)])
def test_a_copy_overtaken_by_the_writer_is_refused(written: int, whole: bool) -> None:
    plain, marks = np.zeros((128, 1), np.float32), np.zeros(MARKS, np.int64)
    ring = Ring(plain, 0, mirrored=False, marks=marks)
    ring.extend(counting(0, 64, 1))
    rows = plain.view(Watched)
    rows.look = lambda when: ring.extend(counting(64, written, 1))
    view = RingReader(rows, marks).view(4, 10)
    assert (view is not None) is whole


def test_while_the_writer_jumps_a_reader_is_never_shown_what_was_not_written() -> None:
    """`jump` moves three marks: whatever lies between two of them must hold nothing but the truth."""

    class Steps(np.ndarray[Any, np.dtype[np.int64]]):
        def __setitem__(self, where: Any, what: Any) -> None:
            super().__setitem__(where, what)
            shown.append((max(self[FLOOR], self[RESERVED] - 8), int(self[NEXT])))

    shown: list[tuple[int, int]] = []
    rows, marks = np.zeros((16, 1), np.float32), np.zeros(MARKS, np.int64).view(Steps)
    ring = Ring(rows, 0, mirrored=False, marks=marks)
    ring.extend(counting(0, 8, 1))
    shown.clear()
    ring.jump(12)
    assert len(shown) == 4
    assert all(first >= stop for first, stop in shown), "each of these ranges is empty"


@needs_fork
@needs_memfd
@pytest.mark.timeout(30)
def test_a_reader_never_accepts_a_torn_row_from_a_writer_at_full_speed() -> None:
    n_channels, seed = 128, random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    capacity = round_capacity(256, n_channels)
    fd = os.memfd_create("rdahub-test", os.MFD_CLOEXEC)
    try:
        size = capacity * n_channels * 4
        os.ftruncate(fd, size + 4096)
        rows = map_rows(fd, 0, capacity, n_channels, writable=True)
        marks = map_rows(fd, size, 32, 32, writable=True).reshape(-1).view(np.int64)[:MARKS]
    finally:
        os.close(fd)
    period = 3 * capacity
    blocks = np.resize(counting(0, period, n_channels), (period + 64, n_channels))

    def write(ready: Any) -> None:
        draw, ring = random.Random(seed), Ring(rows, 0, mirrored=True, marks=marks)
        ring.extend(blocks[:capacity])
        ready()
        while True:
            n, at = draw.randrange(1, 33), ring.next_index % period
            ring.extend(blocks[at : at + n])

    draw, copies, refused, views = random.Random(seed + 1), 0, 0, 0
    with forked(write):
        reader = RingReader(rows, marks)
        end = time.monotonic() + 1.2
        while time.monotonic() < end:
            start = reader.first_available + int(draw.expovariate(0.02))
            stop = start + draw.randrange(1, 64)
            if not reader.holds(start, stop):
                continue
            view = reader.view(start, stop)
            if view is None:
                refused += 1
                continue
            at = start % period
            exact = np.array_equal(view, blocks[at : at + stop - start])
            if view.flags.owndata:
                copies += 1
                assert exact, f"a torn copy of [{start}, {stop})"
            elif reader.holds(start, stop):  # a view is whole as long as it is held
                views += 1
                assert exact, f"a torn view of [{start}, {stop})"
        written = reader.next_index
    print(f"{copies} copies, {views} views, {refused} refused, {written} rows written")
    assert written > 10 * capacity
    assert copies > 100
    assert views > 100
