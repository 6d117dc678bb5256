"""The history over changes of layout: indices run on, old rings go when their time or memory is over."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdahub import limits
from rdahub.rings import History, Rings
from rdahub_client.ring import Ring


def make_ring(n_channels: int, rows: int, start: int) -> Ring:
    return Ring(np.zeros((2 * rows, n_channels), np.float32), start, mirrored=False)


def make(seconds: float = 100.0, n_bytes: int = 1 << 24) -> Rings:
    return Rings(History(seconds, n_bytes), make_ring)


def write(rings: Rings, start: int, n: int) -> None:
    ring = rings.newest
    assert ring is not None
    assert ring.next_index == start
    ring.extend(np.full((n, ring.n_channels), start, np.float32))


def test_nothing_is_held_before_the_first_layout() -> None:
    rings = make()
    assert (rings.newest, rings.at(0), rings.first_available(7), rings.has_older) == (None, None, 7, False)
    rings.prune(0)
    assert not rings.release()


def test_the_same_layout_goes_on_in_the_same_ring() -> None:
    rings = make()
    ring = rings.open(2, 1000.0, 0)
    write(rings, 0, 10)
    assert rings.open(2, 1000.0, 10) is ring


@pytest.mark.parametrize(("n_channels", "interval_us"), [(3, 1000.0), (2, 500.0)])
def test_another_layout_leaves_what_was_before(n_channels: int, interval_us: float) -> None:
    rings = make()
    first = rings.open(2, 1000.0, 0)
    write(rings, 0, 10)
    second = rings.open(n_channels, interval_us, 10)
    write(rings, 10, 5)
    assert rings.has_older
    assert [rings.at(index) for index in (0, 9, 10, 14)] == [first, first, second, second]
    assert rings.first_available(15) == 0
    rings.prune(0)
    rings.prune(99)
    assert rings.first_available(15) == 0
    rings.prune(100)
    assert (rings.first_available(15), rings.at(9)) == (10, None)


def test_a_layout_that_brought_no_sample_is_forgotten() -> None:
    rings = make()
    rings.open(2, 1000.0, 0)
    rings.open(3, 1000.0, 0)
    assert not rings.has_older


def test_beyond_the_memory_allowed_only_the_last_one_stays_and_not_for_long() -> None:
    rings = make(seconds=1000.0, n_bytes=8000)  # 1000 rows of 2 channels
    for i, n_channels in enumerate((2, 3, 2)):
        rings.open(n_channels, 1000.0, 10 * i)
        write(rings, 10 * i, 10)
    rings.prune(0)
    assert rings.first_available(30) == 10
    rings.prune(limits.OLDER_RING_SECONDS)
    assert rings.first_available(30) == 20


def test_a_ring_that_has_come_round_cuts_off_those_before_it() -> None:
    rings = make(seconds=0.1)  # 100 rows
    rings.open(2, 1000.0, 0)
    write(rings, 0, 10)
    rings.open(3, 1000.0, 10)
    write(rings, 10, 100)
    assert rings.first_available(110) == 0
    write(rings, 110, 1)
    assert rings.first_available(111) == 11
    assert not rings.has_older
    rings.prune(0)
    assert rings.at(5) is None


def test_memory_that_is_short_is_given_back() -> None:
    rings = make()
    rings.open(2, 1000.0, 0)
    write(rings, 0, 10)
    rings.open(3, 1000.0, 10)
    assert rings.release()
    assert rings.first_available(10) == 10
    assert not rings.release()


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 150), st.floats(0, 5)), max_size=20))
def test_what_is_said_to_be_held_is_held_without_a_hole(steps: list[tuple[int, int, float]]) -> None:
    rings = make(seconds=0.1, n_bytes=3000)
    index, now = 0, 0.0
    for n_channels, n, seconds in steps:
        rings.open(n_channels, 1000.0, index)
        if n:
            write(rings, index, n)
        index += n
        now += seconds
        rings.prune(now)
        first = rings.first_available(index)
        assert first <= index
        for each in range(first, index):
            ring = rings.at(each)
            assert ring is not None
            assert ring.holds(each, each + 1)
