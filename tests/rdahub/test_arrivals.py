"""Which block of a second is remembered, and for how long."""

from __future__ import annotations

import random

import pytest

from rdahub import arrivals
from rdahub.arrivals import LEAST_POINTS, Point
from rdahub.measures import BlockTimes
from rdahub_client.records import Segment

MS = 1_000_000
ALL = 10**6
EVER = 2**63 - 1


def segment(number: int = 0, start: int = 0, interval_us: float = 1000.0) -> Segment:
    return Segment(number, start, None, interval_us, (1.0,), ("a",), ("µV",))


def points(times: BlockTimes, start: int = 0, stop: int = EVER) -> list[Point]:
    found, more = times.arrivals.between(start, stop, ALL)
    assert not more
    return found


def fed(
    delays_ms: dict[int, float], block: int = 20, start: int = 0, interval_us: float = 1000.0
) -> BlockTimes:
    """Blocks as late as said, by number of the block, all others by 50 ms."""
    times, here = BlockTimes(), segment(start=start, interval_us=interval_us)
    for number in range(max(delays_ms) + 1):
        stop = start + (number + 1) * block
        received_ns = int((stop - start) * interval_us * 1e3 + delays_ms.get(number, 50) * MS)
        times.block(received_ns, received_ns, here, stop, received_ns + 7)
    return times


def test_of_each_second_the_block_that_came_soonest_is_remembered() -> None:
    times = fed({3: 5, 30: 4, 70: 9, 71: 10, 99: 11})
    assert points(times) == [
        (619, 624 * MS, 624 * MS + 7),
        (1419, 1429 * MS, 1429 * MS + 7),
    ]


def test_the_second_under_way_is_told_too_and_may_change() -> None:
    times, here = BlockTimes(), segment()
    times.block(30 * MS, 30 * MS, here, 20)
    assert points(times) == [(19, 30 * MS, 0)]
    times.block(45 * MS, 45 * MS, here, 40)
    assert points(times) == [(39, 45 * MS, 0)]
    times.block(75 * MS, 75 * MS, here, 60)
    assert points(times) == [(39, 45 * MS, 0)]


@pytest.mark.parametrize("block", [1, 7, 20, 999, 1000, 2500])
def test_any_delays_leave_the_least_of_each_second(block: int) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    start = chance.randrange(10**12)
    delays = {number: chance.uniform(0, 30) for number in range(6000 // block + 2)}
    times = fed(delays, block, start)
    best: dict[int, tuple[float, int]] = {}
    for number, delay in delays.items():
        last = (number + 1) * block - 1
        best[last // 1000] = min(best.get(last // 1000, (99.0, 0)), (delay, start + last))
    assert [index for index, _, _ in points(times)] == [index for _, index in best.values()]


def test_a_new_segment_begins_a_second_of_its_own() -> None:
    times = BlockTimes()
    first, second = segment(), segment(1, 40, 500.0)
    times.block(20 * MS, 20 * MS, first, 20)
    times.block(50 * MS, 50 * MS, first, 40)
    times.block(9000 * MS, 9000 * MS, second, 60)
    times.block(9001 * MS, 9001 * MS, second, 80)  # 9 ms sooner than nominal
    assert points(times) == [(19, 20 * MS, 0), (79, 9001 * MS, 0)]


def test_a_first_block_without_rows_tells_nothing() -> None:
    times, here = BlockTimes(), segment(start=500)
    times.block(10 * MS, 10 * MS, here, 500)
    assert points(times) == []
    times.block(30 * MS, 30 * MS, here, 520)
    assert points(times) == [(519, 30 * MS, 0)]


def test_a_range_of_points_is_half_open_and_comes_in_pages() -> None:
    times = fed(dict.fromkeys(range(250), 1.0))  # equally late: the first of each second
    assert [index for index, _, _ in points(times)] == [19, 1019, 2019, 3019, 4019]
    assert [index for index, _, _ in points(times, 1019, 3019)] == [1019, 2019]
    assert [index for index, _, _ in points(times, 1020, 3020)] == [2019, 3019]
    told, start = [], 0
    while True:
        page, more = times.arrivals.between(start, EVER, 2)
        told += page
        if not more:
            break
        assert len(page) == 2
        start = page[-1][0] + 1
    assert told == points(times)
    assert times.arrivals.between(0, EVER, len(told)) == (told, False)


def test_points_go_with_their_samples_but_never_the_newest_ten_minutes() -> None:
    times = fed({2 * LEAST_POINTS * 10: 0}, block=100)  # twice as many seconds
    before = points(times)
    times.arrivals.prune(1000)
    assert points(times)[0] == before[0]  # not worth the work yet
    times.arrivals.prune(200_000)
    assert points(times) == [point for point in before if point[0] >= 200_000]
    times.arrivals.prune(EVER)
    assert LEAST_POINTS <= len(points(times)) <= LEAST_POINTS + 64
    assert points(times)[-1] == before[-1]


def test_points_of_a_history_of_days_are_let_go_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "MOST_POINTS", 1000)
    times = fed({12_000: 0}, block=100)
    before = points(times)
    times.arrivals.prune(0)
    assert points(times) == before[-len(points(times)) :]
    assert 1000 <= len(points(times)) <= 1001  # and the second that is not over
