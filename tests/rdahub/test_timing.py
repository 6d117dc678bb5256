"""What times of arrival tell, on times that were made up so that the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdahub.timing import Arrival, Clock, Ping, Tally, fit_beat, lateness, match_delays, spread
from rdahub_client import Block, Gap, Segment, SegmentEnd, SegmentStart
from rdahub_client.wire import BlockMessage

ROWS = 20
PERIOD = 20_000_000  # ns
YEAR = 31_536_000 * 10**9  # ns; a machine that is not restarted
FAR = 2**40  # an index
INSTANCE = "0011223344556677"
OTHER = "7766554433221100"


def beat(late: list[int], origin: int = YEAR, first: int = FAR) -> tuple[list[int], list[int]]:
    """Stops and times of receipt of blocks that are late by so much."""
    return (
        [first + ROWS * (k + 1) for k in range(len(late))],
        [origin + PERIOD * k + late[k] for k in range(len(late))],
    )


# --- the Recorder's beat ---------------------------------------------------------------------------------


def test_lateness_is_found_to_the_nanosecond_however_large_clock_and_index() -> None:
    late = [0, 700, 3_000_001, 0, 15, 0]
    found = fit_beat(*beat(late))
    assert found is not None
    assert found.rate == pytest.approx(1000.0, rel=1e-12)
    np.testing.assert_allclose(found.late_ns, late, atol=1)


@given(st.lists(st.integers(0, 10**9), min_size=3, max_size=200))
def test_no_block_is_ahead_of_the_beat_and_together_they_are_least_behind(late: list[int]) -> None:
    stops, received = beat(late)
    found = fit_beat(stops, received)
    if found is None:
        assert received[-1] <= received[0] or min(np.diff(received)) < 0
        return
    assert found.late_ns.min() >= -1
    # The true beat has no block ahead of it either, so the one found cannot be further away from them.
    assert found.late_ns.sum() <= sum(late) + len(late)


def test_late_blocks_change_nothing_for_the_others() -> None:
    late = [0] * 500
    late[300:] = [k % 3 and 8_000_000 for k in range(200)]
    found = fit_beat(*beat(late))
    assert found is not None
    assert found.rate == pytest.approx(1000.0, rel=1e-9)
    np.testing.assert_allclose(found.late_ns, late, atol=2)


def test_a_recorder_with_a_fast_clock_is_fast_and_not_late() -> None:
    stops, _ = beat([0] * 50)
    found = fit_beat(stops, [YEAR + PERIOD * k * 999 // 1000 for k in range(50)])
    assert found is not None
    assert found.rate == pytest.approx(1000 / 0.999, rel=1e-9)
    assert found.late_ns.max() < 2


def test_rows_that_are_missing_are_no_delay() -> None:
    stops, received = beat([0] * 30)
    found = fit_beat(stops[:10] + stops[20:], received[:10] + received[20:])
    assert found is not None
    assert found.late_ns.max() < 1


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_blocks_have_no_beat(n: int) -> None:
    assert fit_beat(*beat([0] * n)) is None


def test_blocks_that_come_all_at_once_have_no_beat() -> None:
    assert fit_beat([20, 40, 60, 80], [YEAR] * 4) is None


def arrivals(late: list[int], instance: str, segment: int, origin: int, first: int) -> list[Arrival]:
    return [
        Arrival(instance, segment, stop - ROWS, stop, received)
        for stop, received in zip(*beat(late, origin, first), strict=True)
    ]


def test_a_pause_between_segments_or_hubs_is_nobodys_lateness() -> None:
    late = [0, 5, 0, 9, 0]
    found = lateness(
        arrivals(late, INSTANCE, 0, YEAR, 0)
        + arrivals(late * 2, INSTANCE, 1, YEAR + 10**12, 100)
        + arrivals(late, OTHER, 0, YEAR + 10**13, 0)
        + arrivals([0], OTHER, 1, YEAR + 10**14, 100)  # it has no beat, and spoils none
    )
    assert found is not None
    np.testing.assert_allclose(found.late_ns, late * 4, atol=0.1)
    assert found.rate == pytest.approx(1000.0)
    assert lateness([]) is None


def test_a_spread_is_in_milliseconds() -> None:
    found = spread([k * 1_000_000 for k in range(101)])
    assert found == pytest.approx({"p50_ms": 50.0, "p99_ms": 99.0, "worst_ms": 100.0})
    assert spread([]) is None


# --- another machine's clock -----------------------------------------------------------------------------


def ping(at: int, there: int, back: int, ahead: int) -> Ping:
    """A question that took so long there and back, to a clock that is ahead by so much."""
    return Ping(at, at + there + ahead, at + there + back)


@given(st.lists(st.tuples(st.integers(1, 10**7), st.integers(1, 10**7)), min_size=1, max_size=20))
def test_the_clock_of_this_machine_is_recognised(ways: list[tuple[int, int]]) -> None:
    clock = Clock([ping(YEAR, there, back, 0) for there, back in ways])
    assert clock.is_shared
    assert clock.uncertainty_ns == 0
    assert clock.here(np.array([YEAR])).tolist() == [YEAR]


@given(
    st.lists(st.tuples(st.integers(1, 10**7), st.integers(1, 10**7)), min_size=1, max_size=20),
    st.lists(st.tuples(st.integers(1, 10**7), st.integers(1, 10**7)), min_size=1, max_size=20),
    st.integers(10**9, 10**16),
    st.integers(-500, 500),
    st.floats(0, 1),
)
def test_another_clock_is_known_to_half_the_shortest_round_trip(
    before: list[tuple[int, int]], after: list[tuple[int, int]], ahead: int, ppm: int, part: float
) -> None:
    run = 10 * 10**9
    drift = run * ppm // 10**6
    clock = Clock(
        [ping(YEAR, there, back, ahead) for there, back in before],
        [ping(YEAR + run, there, back, ahead + drift) for there, back in after],
    )
    assert not clock.is_shared
    assert clock.uncertainty_ns == max(min(map(sum, before)), min(map(sum, after))) / 2
    ours = (
        YEAR + 2 * 10**7 + round((run - 2 * 10**7) * part)
    )  # from the last answer before to the first ping after
    hub = ours + ahead + drift * (ours - YEAR) // run
    slack = 20 * abs(ppm) + 2  # the drift while a ping is on its way, and rounding
    assert abs(float(clock.here(np.array([hub]))[0]) - ours) <= clock.uncertainty_ns + slack


def test_the_shortest_round_trip_counts() -> None:
    clock = Clock(
        [ping(0, 9_000_000, 1000, 10**12), ping(10**7, 50, 50, 10**12), ping(2 * 10**7, 1000, 10**6, 10**12)]
    )
    assert clock.uncertainty_ns == 50
    assert clock.here(np.array([10**12 + 10**7])).tolist() == [10**7]


def test_without_a_ping_there_is_no_clock() -> None:
    with pytest.raises(ValueError, match="ping"):
        Clock([], [])


# --- each block's delay ----------------------------------------------------------------------------------


def message(k: int, received: int = 0, rows: int = ROWS, instance: str = INSTANCE) -> BlockMessage:
    """Block `k`, as `Client` gets it: with its rows as bytes."""
    data = memoryview(bytes(8 * rows))
    return BlockMessage(instance, 0, k * ROWS, k, received, 0, 0, [], data, 2)


def block(start: int, stop: int) -> Block:
    return Block(start * ROWS, stop * ROWS, np.zeros(((stop - start) * ROWS, 2), np.float32), ())


def segment(number: int = 0) -> Segment:
    return Segment(number, 0, None, 1000.0, (1.0, 1.0), ("a", "b"), ("µV", "µV"))


def delays(tally: Tally) -> list[int]:
    return [now - then for now, then in zip(tally.returned_ns, tally.received_ns, strict=True)]


def test_each_block_has_the_delay_of_the_call_that_returned_it() -> None:
    tally = Tally()
    tally.take(SegmentStart(segment()), 0)
    tally.hear(message(0, 100))
    tally.take(block(0, 1), 130)
    tally.hear(message(1, 200))
    tally.hear(message(2, 300))
    tally.take(block(1, 3), 350)  # it came late to both
    assert delays(tally) == [30, 150, 50]
    assert (len(tally), tally.samples, tally.repaired) == (3, 60, 0)


def test_hearing_leaves_the_block_as_it_came() -> None:
    """An array made of its bytes would take the client's short way from it, and time something else."""
    heard = message(0)
    Tally().hear(heard)
    assert isinstance(heard.data, memoryview)


def test_a_block_in_two_calls_has_the_delay_of_its_last_sample() -> None:
    tally = Tally()
    tally.hear(message(0, 100, rows=3 * ROWS))
    tally.take(block(0, 2), 150)
    tally.take(block(2, 3), 170)
    assert delays(tally) == [70]
    assert (tally.samples, tally.repaired) == (60, 0)


def test_what_no_block_brought_was_repaired() -> None:
    tally = Tally()
    tally.hear(message(0))
    tally.take(block(0, 1), 1)
    tally.hear(message(3))
    tally.take(block(1, 3), 2)
    tally.take(block(3, 4), 3)
    assert (tally.samples, tally.repaired) == (80, 40)
    tally.hear(message(5))
    tally.take(block(4, 6), 4)  # the same in one call
    assert (tally.samples, tally.repaired) == (120, 60)
    assert len(tally) == 3


def test_what_a_client_fetches_to_join_is_no_loss() -> None:
    tally = Tally()
    tally.hear(message(0))
    tally.begin()  # heard before there was a call to return it
    tally.take(block(1, 4), 1)
    tally.hear(message(6, 10))
    tally.take(block(4, 7), 12)
    assert (tally.samples, tally.repaired, delays(tally)) == (20, 0, [2])
    assert [arrival.start for arrival in tally.arrivals] == [6 * ROWS]


def test_blocks_without_rows_and_blocks_told_twice_count_once() -> None:
    tally = Tally()
    for each in (message(0), message(0), message(1, rows=0), message(1)):
        tally.hear(each)
    tally.take(block(0, 2), 1)
    assert (len(tally), len(tally.arrivals), tally.repaired) == (2, 2, 0)


def test_the_recorders_gaps_and_the_clients_losses_are_told_apart() -> None:
    tally = Tally()
    tally.take(Gap(0, 40, "counter"), 0)
    tally.take(Gap(40, 50, "overwritten"), 0)
    tally.take(Gap(50, 53, "hub_restart"), 0)
    assert (tally.missing, tally.lost) == (40, 13)


def test_another_readers_calls_are_matched_by_the_last_sample_of_a_block() -> None:
    blocks = arrivals([0] * 6, INSTANCE, 0, 0, 0)  # [0, 20) at 0, [20, 40) at PERIOD, ...
    calls = {40: PERIOD + 7, 60: 2 * PERIOD + 1, 100: 4 * PERIOD + 9}  # the last brought two blocks
    assert match_delays(blocks, 20, list(calls), list(calls.values())) == [7, 1, PERIOD + 9, 9]
    assert match_delays(blocks, 0, [], []) == []


@pytest.mark.parametrize("first", ["block", "segment"])
def test_a_hub_that_restarts_begins_anew(first: str) -> None:
    """Whether the new hub's first block is heard before its segment is told, or while that is fetched."""
    tally = Tally()
    tally.take(SegmentStart(segment()), 0)
    tally.hear(message(7, 100))
    tally.take(block(7, 8), 110)
    tally.hear(message(8, 120))  # never told: the hub is another one
    if first == "block":
        tally.hear(message(2, 200, instance=OTHER))
    tally.take(SegmentEnd(segment(), "hub_restart"), 200)
    tally.take(SegmentStart(segment()), 200)
    if first == "segment":
        tally.take(block(0, 1), 210)
        tally.hear(message(2, 200, instance=OTHER))
    tally.take(block(int(first == "segment"), 3), 230)
    assert delays(tally) == [10, 30]
    assert (tally.restarts, tally.repaired, tally.lost, tally.samples) == (1, 0, 0, 40)


def test_a_new_segment_is_no_restart() -> None:
    tally = Tally()
    for number in (3, 4, 7):
        tally.take(SegmentStart(segment(number)), 0)
    assert tally.restarts == 0
