"""How exactly clocks are estimated, against truths that are made up: jitter, bursts, stalls, drift, gaps.

The points are made as the hub makes them. ``python tests/rdahub_client/test_clock.py`` prints the table that
docs/explanation/clocks.md shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from rdahub.measures import BlockTimes
from rdahub_client import (
    BadRange,
    HubLost,
    HubRestarted,
    NoSegment,
    NotYetAvailable,
    Overwritten,
    RequestRefused,
)
from rdahub_client.clock import DRIFT, Float64, HubOffset, SegmentClock
from rdahub_client.journal import Journal
from rdahub_client.records import Segment, SegmentEnd, SegmentStart
from rdahub_client.times import Times
from rdahub_client.verbs import Ask, Verbs
from rdahub_client.wire import (
    PAGE_POINTS,
    InfoRequest,
    PingRequest,
    Reply,
    TimesRequest,
    segment_to_wire,
)

RATE, BLOCK, MS = 1000.0, 20, 1_000_000
BOOTED = 5_000_000_000_000  # ns on the hub's clock when the recording began
Delays = Callable[[np.random.Generator, int], Float64]


def segment(number: int = 0, start: int = 0, stop: int | None = None, rate: float = RATE) -> Segment:
    return Segment(number, start, stop, 1e6 / rate, (1.0,), ("a",), ("µV",), None if stop is None else "stop")


def uniform(chance: np.random.Generator, n: int) -> Float64:
    return chance.uniform(0, 0.02, n)


def exponential(chance: np.random.Generator, n: int) -> Float64:
    return chance.exponential(0.02, n)


def bursts(chance: np.random.Generator, n: int) -> Float64:
    """Five blocks at a time, and the burst late by up to 20 ms."""
    late: Float64 = np.repeat(chance.uniform(0, 0.02, n // 5 + 1), 5)[:n]
    late += 0.02 * (4 - np.arange(n) % 5)
    return late


def stalls(chance: np.random.Generator, n: int) -> Float64:
    """Usual jitter, but for 10 s of every 30 nothing comes sooner than 100 ms late."""
    late: Float64 = chance.uniform(0, 0.02, n)
    late[np.arange(n) // 500 % 3 == 1] += 0.1
    return late


JITTER: dict[str, Delays] = {
    "uniform": uniform,
    "exponential": exponential,
    "bursts": bursts,
    "stalls": stalls,
}


class Recording:
    """A segment as the hub hears it, and when its samples were truly taken.

    Parameters
    ----------
    drift
        How much longer than nominal a sample lasts, relative, at a time in seconds.
    """

    def __init__(
        self, seconds: float, delays: Delays, drift: Callable[[Float64], Any] = np.zeros_like, seed: int = 0,
        here: Segment | None = None, rate: float = RATE, lost: tuple[int, int] = (0, 0),
    ) -> None:  # fmt: skip
        self.segment = here or segment()
        self.chance = np.random.default_rng(seed)
        n = round(seconds * rate)
        even = np.arange(n) / rate
        self.taken = np.cumsum(np.concatenate(([0.0], (1 + drift(even[1:])) / rate)))
        times = BlockTimes()
        stops = np.arange(BLOCK, n + 1, BLOCK)
        arrived = np.maximum.accumulate(self.taken[stops - 1] + delays(self.chance, len(stops)))
        for stop, at in zip(stops.tolist(), arrived.tolist(), strict=True):
            if not lost[0] < stop <= lost[1]:
                ns = BOOTED + round(at * 1e9)
                times.block(ns, ns, self.segment, self.segment.start + stop, ns)
        self.points, _ = times.arrivals.between(0, 2**63 - 1, 10**6)

    def clock(self, until: float = math.inf) -> SegmentClock:
        """What a client knows that asked for points every five seconds until then."""
        made, asked = SegmentClock(self.segment), 0.0
        while asked < min(until, self.taken[-1] + 5):
            asked += 5.0
            now = BOOTED + min(asked, until) * 1e9
            made.add([p for p in self.points if p[0] >= made.next_wanted and p[1] <= now])
        return made

    def error(self, clock: SegmentClock, start: int = 0, stop: int | None = None) -> Float64:
        """Estimated minus true times of samples, s."""
        indices = np.arange(start, len(self.taken) if stop is None else stop)
        truth = self.taken[indices] + BOOTED * 1e-9
        return clock.time_of(indices + self.segment.start) - truth


def drifting(ppm: float) -> Callable[[Float64], Any]:
    return lambda seconds: np.full_like(seconds, ppm * 1e-6)


def warming(seconds: Float64) -> Any:
    """From +60 to +40 ppm within some minutes, as a crystal does after it is switched on."""
    return (40 + 20 * np.exp(-seconds / 400)) * 1e-6


# --- samples in time --------------------------------------------------------------------------------------


@pytest.mark.parametrize("ppm", [0, 100, -300])
@pytest.mark.parametrize("jitter", JITTER)
def test_after_two_minutes_every_sample_is_known_within_a_millisecond(jitter: str, ppm: float) -> None:
    for seed in range(3):
        recording = Recording(120, JITTER[jitter], drifting(ppm), seed)
        clock = recording.clock()
        assert np.abs(recording.error(clock)).max() < min(1e-3, 1.2 * clock.line.error)


@pytest.mark.parametrize("ppm", [0, 100, -100])
def test_two_seconds_of_jitter_give_a_time_and_say_how_rough_it_is(ppm: float) -> None:
    for seed in range(20):
        recording = Recording(2, uniform, drifting(ppm), seed)
        clock = recording.clock()
        assert np.abs(recording.error(clock)).max() < clock.line.error < 0.015


def test_the_stated_error_becomes_smaller_and_holds() -> None:
    for seed in range(5):
        recording = Recording(60, uniform, drifting(100), seed)
        stated = []
        for seconds in (1, 2, 5, 10, 30, 60):
            clock = recording.clock(seconds + 0.05)
            newest = recording.error(clock, int(seconds * RATE) - 1000, int(seconds * RATE))
            assert np.abs(newest).max() < clock.line.error
            stated.append(clock.line.error)
        assert stated == sorted(stated, reverse=True)


def test_over_an_hour_of_changing_drift_old_samples_and_new_are_exact() -> None:
    recording = Recording(3600, uniform, warming)
    clock = recording.clock()
    assert np.abs(recording.error(clock)).max() < 5e-4
    assert clock.drift == pytest.approx(40e-6, abs=0.5e-6)


def test_samples_ahead_are_dated_too() -> None:
    recording = Recording(100, uniform, drifting(100))
    clock = recording.clock(60)
    assert np.abs(recording.error(clock)).max() < 1e-3


def test_no_time_of_the_past_is_changed_by_what_comes_long_after() -> None:
    recording = Recording(1200, uniform, drifting(50))
    old = np.arange(0, 200_000, 1000)
    before = recording.clock(700).time_of(old)
    assert np.abs(recording.clock().time_of(old) - before).max() < 1e-9


def test_times_rise_evenly_across_seconds_and_lines() -> None:
    recording = Recording(900, exponential, drifting(100))
    steps = np.diff(recording.clock().time_of(np.arange(-1000, 905_000)))
    assert np.abs(steps * RATE - 1).max() < 200e-6


def test_rows_lost_for_minutes_shift_no_sample() -> None:
    recording = Recording(1500, uniform, drifting(100), lost=(100_000, 700_000))
    assert np.abs(recording.error(recording.clock())).max() < 1e-3


def test_a_recording_that_begins_in_a_stall_is_put_right_when_blocks_come_in_time() -> None:
    def late_at_first(chance: np.random.Generator, n: int) -> Float64:
        return chance.uniform(0, 0.02, n) + 0.2 * (np.arange(n) < 1000)

    recording = Recording(120, late_at_first, drifting(50))
    assert np.abs(recording.error(recording.clock())).max() < 2e-3


def test_a_queue_that_grows_for_a_minute_is_no_slow_amplifier() -> None:
    def ever_later(chance: np.random.Generator, n: int) -> Float64:
        return chance.uniform(0, 0.02, n) + np.linspace(0, 1.0, n)

    recording = Recording(60, ever_later)
    assert np.abs(recording.error(recording.clock())).max() < 0.08


def test_the_newest_point_gives_way_to_one_that_came_sooner() -> None:
    clock = SegmentClock(segment())
    clock.add([(19, BOOTED, 0)])
    clock.add([(39, BOOTED + 15 * MS, 0)])
    assert len(clock) == 1
    assert clock.time_of(np.array([39])) == pytest.approx(BOOTED * 1e-9 + 0.015)


def test_time_runs_forward_even_where_lost_rows_were_miscounted() -> None:
    recording = Recording(1200, uniform)
    clock = SegmentClock(recording.segment)
    clock.add([(i + 400_000 * (i > 600_000), mono, wall) for i, mono, wall in recording.points])
    assert np.diff(clock.time_of(np.arange(0, 1_600_000, 100))).min() >= 0
    clear = 200_000
    truth = recording.taken[:clear] + BOOTED * 1e-9
    assert np.abs(clock.time_of(np.arange(clear)) - truth).max() < 1e-3
    assert np.abs(clock.time_of(np.arange(1_600_000 - clear, 1_600_000)) - recording.taken[-clear:]
                  - BOOTED * 1e-9).max() < 1e-3  # fmt: skip


@pytest.mark.parametrize("speed", [0.5, 2.0, 4.0])
def test_a_replay_at_another_speed_is_followed(speed: float) -> None:
    recording = Recording(60, uniform, rate=RATE * speed)
    clock = recording.clock()
    assert np.abs(recording.error(clock)).max() < 2e-3
    assert 1 / (1 + clock.drift) == pytest.approx(speed, rel=1e-3)


def test_indices_of_years_lose_no_precision() -> None:
    far = segment(start=2**52)
    recording = Recording(100, uniform, here=far)
    clock = recording.clock()
    assert np.abs(recording.error(clock)).max() < 1e-3
    indices = far.start + np.arange(100_000)
    assert np.array_equal(clock.index_at(clock.time_of(indices)), indices)


@pytest.mark.parametrize("rate", [250.0, 1000.0, 25_000.0])
def test_an_index_comes_back_from_its_time_also_as_a_date(rate: float) -> None:
    recording = Recording(20, uniform, here=segment(rate=rate), rate=rate)
    clock = recording.clock()
    indices = np.arange(-1000, round(25 * rate))
    assert np.array_equal(clock.index_at(clock.time_of(indices)), indices)
    since_1970 = 1.8e9
    assert np.array_equal(clock.index_at(clock.time_of(indices) + since_1970 - since_1970), indices)


# --- the hub's clock ----------------------------------------------------------------------------------------


def pinged(chance: np.random.Generator, offset_ns: int, n: int, trip_ms: tuple[float, float]) -> HubOffset:
    """Pings whose way there and whose way back take some time each."""
    offset = HubOffset()
    for i in range(n):
        sent = BOOTED + i * 100 * MS
        there, back = (round(trip * MS) for trip in chance.uniform(*trip_ms, 2) * chance.exponential(1, 2))
        offset.add(sent, sent + there + back, sent + there + offset_ns, sent + there + offset_ns)
    return offset


def test_the_quickest_ping_bounds_the_offset() -> None:
    for seed in range(50):
        chance = np.random.default_rng(seed)
        truth = int(chance.integers(-(10**15), 10**15))
        estimate, bound = pinged(chance, truth, 20, (0.5, 30)).estimate(BOOTED + 2000 * MS)
        assert abs(estimate - truth * 1e-9) <= bound + 1e-6
        assert bound < 0.02


def test_on_one_machine_the_offset_is_nothing() -> None:
    chance = np.random.default_rng(1)
    assert pinged(chance, 0, 8, (0.1, 0.4)).estimate(BOOTED + 800 * MS)[0] == 0.0


def test_an_old_ping_gives_way_to_a_newer_that_was_a_little_slower() -> None:
    offset = HubOffset()
    offset.add(BOOTED, BOOTED + MS, BOOTED + MS // 2 + 10**12, 0)
    later = BOOTED + 10**11  # 100 s; the clocks are 5 ms apart by now
    offset.add(later, later + 2 * MS, later + MS + 10**12 + 5 * MS, 0)
    estimate, bound = offset.estimate(later + 2 * MS)
    assert estimate == pytest.approx(1000.005)
    assert bound == pytest.approx(1e-3)
    assert offset.estimate(later + 10**10)[1] == pytest.approx(1e-3 + 10 * DRIFT, rel=0.01)


def test_pings_from_before_a_machine_was_suspended_are_not_believed() -> None:
    offset = HubOffset()
    for i in range(8):
        sent = BOOTED + i * MS
        offset.add(sent, sent + MS // 5, sent + MS // 10 + 10**12, 0)
    hour = 3600 * 10**9  # slept through; the first ping after it took longer than those before
    sent = BOOTED + 20 * MS
    offset.add(sent, sent + 10 * MS, sent + 5 * MS + 10**12 + hour, 0)
    estimate, bound = offset.estimate(sent + 10 * MS)
    assert estimate == pytest.approx(4600.0)
    assert bound == pytest.approx(5e-3)


# --- the verbs --------------------------------------------------------------------------------------------


class Hub:
    """A hub that answers verbs, seconds from which a program's clocks are offset and its wall clock set."""

    def __init__(self, offset: float = 1000.0, wall: float = 1.8e9) -> None:
        self.now, self.offset, self.wall = 0.0, offset, wall
        self.asked: list[str] = []
        self.pings: set[PingRequest] = set()
        self.recordings: list[Recording] = []
        self.answers: Callable[[Ask], Reply] = self.answer
        self.journal = Journal()
        self.instance = self.known = "one"
        self.next_index = self.first_available = 0
        self.lost: HubLost | None = None
        self.ended = False
        self.times = Times(cast(Verbs, self), self.clocks)
        self.timeline = self
        self.answering = ""
        """Instance, if it is not the one that was heard of."""
        self.newest: Segment | None = None
        """The same of the segment."""

    @property
    def segment(self) -> Segment | None:
        return self.journal.segment

    def catch_up(self, deadline: float | None) -> Generator[Any, Any, None]:
        yield from ()

    def recognise(self) -> None:
        if self.known != self.instance:
            raise HubRestarted("another")

    def know(self, instance: str) -> None:
        self.known = instance

    def record(self, recording: Recording, reason: str = "") -> None:
        self.recordings.append(recording)
        self.journal.append(SegmentStart(recording.segment))
        self.next_index = recording.segment.start + len(recording.taken)
        self.now = BOOTED * 1e-9 + recording.taken[-1]
        if reason:
            begun = recording.segment
            ended = segment(begun.number, begun.start, self.next_index)
            self.journal.append(SegmentEnd(ended, reason))

    def clocks(self) -> tuple[int, int]:
        self.now += 1e-5
        mine = self.now - self.offset
        return round(mine * 1e9), round((mine + self.wall) * 1e9)

    def answer(self, ask: Ask) -> Reply:
        self.now += 1e-4
        header: dict[str, Any] = {"ok": True, "instance": self.answering or self.instance}
        request = ask.request
        if isinstance(request, InfoRequest):
            header |= dict.fromkeys(("name", "version", "state", "recorder", "publish"), "")
            header |= dict.fromkeys(("history_seconds", "first_available", "next_index", "first_seq"), 0)
            newest = segment_to_wire(self.newest or self.journal.segments[-1])
            header |= {"publish_port": None, "next_seq": 0, "before": None, "segment": newest}
        if isinstance(request, PingRequest):
            header |= {"monotonic_ns": round(self.now * 1e9), "wall_ns": round((self.now + 1e9) * 1e9)}
        elif isinstance(request, TimesRequest):
            points = [
                p for each in self.recordings for p in each.points
                if request.start <= p[0] < request.stop and p[1] <= self.now * 1e9
            ]  # fmt: skip
            header |= {"points": points[:PAGE_POINTS], "more": len(points) > PAGE_POINTS}
        self.now += 1e-4
        return Reply(0, header, np.empty((0, 0), np.float32))

    def run(self, verb: Generator[Any, Any, Any]) -> Any:
        try:
            step = next(verb)
            while True:
                self.asked.append(step.request.op)
                if isinstance(step.request, PingRequest):
                    self.pings.add(step.request)
                try:
                    reply = self.answers(step)
                except HubLost as error:
                    step = verb.throw(error)
                else:
                    step = verb.send(reply)
        except StopIteration as end:
            return end.value

    def time_of(self, index: int | npt.NDArray[np.int64], clock: Any = "monotonic") -> Any:
        return self.run(self.times.time_of(index, clock, None))

    def index_at(self, time: float | Float64, clock: Any = "monotonic") -> Any:
        return self.run(self.times.index_at(time, clock, None))


@pytest.fixture
def server() -> Hub:
    made = Hub()
    made.record(Recording(60, uniform))
    return made


def test_each_clock_tells_its_own_time(server: Hub) -> None:
    truth = BOOTED * 1e-9 + 30.0
    assert server.time_of(30_000, "monotonic") == pytest.approx(truth - server.offset, abs=1e-3)
    assert server.time_of(30_000, "wall") == pytest.approx(truth - server.offset + server.wall, abs=1e-3)
    assert server.time_of(30_000, "hub") == pytest.approx(truth + 1e9, abs=1e-3)
    for clock in ("monotonic", "wall", "hub"):
        assert server.index_at(server.time_of(30_000, clock), clock) == 30_000
    with pytest.raises(ValueError, match="'monotonic', 'wall' or 'hub', not 'utc'"):
        server.time_of(30_000, "utc")


def test_a_wall_clock_that_is_set_moves_dates_and_nothing_else(server: Hub) -> None:
    before = server.time_of(30_000), server.time_of(30_000, "wall")
    server.wall += 3600
    assert server.time_of(30_000) == pytest.approx(before[0], abs=1e-4)
    assert server.time_of(30_000, "wall") == pytest.approx(before[1] + 3600, abs=1e-4)


def test_one_index_gives_a_float_and_an_array_an_array(server: Hub) -> None:
    assert type(server.time_of(5)) is float
    assert type(server.index_at(server.time_of(5))) is int
    indices = np.arange(12).reshape(3, 4)
    times = server.time_of(indices)
    assert times.shape == (3, 4)
    assert np.array_equal(server.index_at(times), indices)
    assert server.time_of(np.empty(0, np.int64)).shape == (0,)
    for wrong in (1.5, np.array([1.5]), "3"):
        with pytest.raises(TypeError, match="integer"):
            server.time_of(cast(Any, wrong))


def test_the_hub_is_asked_seldom(server: Hub) -> None:
    server.time_of(5)
    assert server.asked == ["ping"] * 8 + ["times"]
    assert len(server.pings) == 8  # each another request, lest one that was given up be taken for the next
    for _ in range(100):
        server.time_of(5)
        server.index_at(server.now - server.offset - 1)
    assert len(server.asked) == 9
    server.now += 6
    server.time_of(5)
    assert server.asked[9:] == ["ping"] * 3 + ["times"]
    server = Hub()
    server.record(Recording(60, uniform), "stop")
    for _ in range(3):
        server.time_of(5)
        server.now += 60
    assert server.asked.count("times") == 1  # of what has ended nothing more comes


def test_long_histories_come_in_pages(server: Hub) -> None:
    server = Hub()
    server.record(Recording(3000, uniform))
    assert server.time_of(2_999_000) == pytest.approx(BOOTED * 1e-9 + 2999 - server.offset, abs=1e-3)
    assert server.asked.count("times") == 3


def test_what_is_known_is_told_when_the_hub_is_gone(server: Hub) -> None:
    patience = []

    def lost(ask: Ask) -> Reply:
        patience.append(ask.deadline)
        raise HubLost("gone")

    before = server.time_of(30_000)
    server.answers = lost
    server.now += 60
    for _ in range(100):  # and none waits long for it, but few wait at all
        assert server.time_of(30_000) == pytest.approx(before, abs=1e-6)
    assert len(patience) == 2
    assert max(cast(list[float], patience)) <= server.now - server.offset + 0.5
    server.now += 60
    server.lost = HubLost("known to be")
    server.time_of(30_000)
    assert len(patience) == 2
    fresh = Hub()
    fresh.record(Recording(10, uniform))
    fresh.answers = lost
    with pytest.raises(HubLost):
        fresh.time_of(5)


def test_pings_that_another_hub_answers_tell_nothing_of_the_first() -> None:
    server = Hub()
    server.record(Recording(60, uniform))
    before = server.time_of(30_000)
    server.answering = (
        "two"  # at the same address, on a machine that was started anew; nobody has heard it yet
    )
    server.now += 60 + 5000
    server.offset += 5000
    assert server.time_of(30_000) == pytest.approx(before, abs=1e-6)
    assert server.asked.count("ping") == 9
    fresh = Hub()
    fresh.record(Recording(60, uniform))
    fresh.answering = "two"
    with pytest.raises(HubRestarted):
        fresh.time_of(30_000)


def test_arrivals_of_a_segment_not_heard_of_yet_are_not_taken_for_this_one(server: Hub) -> None:
    before = server.time_of(30_000)
    later = Recording(120, uniform, here=segment(1, 60_000))
    later.points = [(i, mono + 160 * 10**9, wall) for i, mono, wall in later.points]  # after 100 s
    server.recordings.append(later)
    server.newest = later.segment
    server.now += 100 + 120
    assert server.time_of(30_000) == pytest.approx(before, abs=1e-3)
    server.journal.append(SegmentEnd(segment(0, 0, 60_000), "stop"))
    server.journal.append(SegmentStart(later.segment))
    server.next_index = 180_000
    server.now += 6
    begun = BOOTED * 1e-9 + 160 - server.offset
    assert server.time_of(np.array([30_000, 60_000])) == pytest.approx([before, begun], abs=1e-3)


def test_arrivals_ahead_of_what_was_heard_count_if_the_segment_goes_on(server: Hub) -> None:
    server.next_index = 20_000
    assert server.run(server.times.sample_clock(0, None)).seconds == pytest.approx(59, abs=1)


@pytest.mark.parametrize("time", [math.nan, math.inf, -math.inf])
def test_a_time_is_a_number_of_seconds(server: Hub, time: float) -> None:
    now = server.now - server.offset
    for verb in (
        server.times.index_at(time, "monotonic", None),
        server.times.index_at(np.array([now, time]), "monotonic", None),
        server.times.span(now - 1, time, "monotonic", None),
        server.times.span(time, now, "monotonic", None),
    ):
        with pytest.raises(BadRange, match="number of seconds"):
            server.run(verb)


def test_samples_of_two_segments_are_dated_by_their_own() -> None:
    server = Hub()
    server.record(Recording(30, uniform), "stop")
    second = Recording(30, uniform, here=segment(1, 30_000))
    second.taken += 100  # 70 s later
    second.points = [(i, mono + 100 * 10**9, wall) for i, mono, wall in second.points]
    server.record(second)
    times = server.time_of(np.array([29_999, 30_000, 10]))
    assert times - (BOOTED * 1e-9 - server.offset) == pytest.approx([29.999, 100.0, 0.01], abs=3e-3)
    assert np.array_equal(server.index_at(times), [29_999, 30_000, 10])
    with pytest.raises(NoSegment, match="no samples were taken at"):
        server.index_at(float(times[0]) + 65)
    with pytest.raises(NoSegment):
        server.index_at(float(times[2]) - 1)
    assert server.run(server.times.span(times[2], times[0] + 10, "monotonic", None)) == (10, 39_999)
    assert server.run(server.times.sample_clock(29_999, None)).segment == 0
    assert server.run(server.times.sample_clock(None, None)).segment == 1


def test_a_sample_without_a_segment_is_an_error_that_says_which() -> None:
    server = Hub()
    server.record(Recording(30, uniform, here=segment(3, 1000)), "stop")
    with pytest.raises(NotYetAvailable, match="segment of sample 31000 has not begun"):
        server.time_of(31_000)
    with pytest.raises(Overwritten, match="segment of sample 999 is forgotten"):
        server.time_of(np.array([2000, 999]))
    server.recordings[0].points.clear()
    server.times = Times(cast(Verbs, server), server.clocks)
    with pytest.raises(Overwritten, match="arrived"):
        server.time_of(2000)
    asked = len(server.asked)
    with pytest.raises(Overwritten, match="arrived"):
        server.time_of(2000)
    assert len(server.asked) == asked  # nor will it ever be
    server.journal.append(SegmentStart(segment(4, 31_000)))
    with pytest.raises(NotYetAvailable, match="arrived"):
        server.time_of(31_000)


def test_a_segment_that_just_began_hides_none_before_it() -> None:
    server = Hub()
    server.record(Recording(30, uniform), "stop")
    server.journal.append(SegmentStart(segment(1, 30_000)))
    assert server.index_at(server.time_of(2000)) == 2000
    with pytest.raises(NotYetAvailable, match="segment 1"):
        server.index_at(server.now - server.offset + 1)
    begun = Recording(1, uniform, here=segment(1, 30_000))
    server.recordings.append(begun)  # its first block is seen at once
    assert server.index_at(server.time_of(30_000)) == 30_000


def test_after_a_restart_old_indices_are_refused_once(server: Hub) -> None:
    server.time_of(5)
    server.instance = "two"
    server.offset = 2000.0
    for i, (index, mono, wall) in enumerate(server.recordings[0].points):
        server.recordings[0].points[i] = (index, mono + 100 * 10**9, wall)
    server.now += 100
    with pytest.raises(HubRestarted):
        server.time_of(5)
    assert server.time_of(30_000) == pytest.approx(BOOTED * 1e-9 + 100 + 30 - 2000, abs=1e-3)


def test_a_hub_too_old_to_tell_times_is_named(server: Hub) -> None:
    def old(ask: Ask) -> Reply:
        if isinstance(ask.request, PingRequest):
            return server.answer(ask)
        refusal = {"ok": False, "error": "BAD_REQUEST", "message": "op", "instance": "one",
                   "first_available": 0, "next_index": 0}  # fmt: skip
        return Reply(0, refusal, np.empty((0, 0), np.float32))

    server.answers = old
    with pytest.raises(RequestRefused, match="older than this client"):
        server.time_of(5)


def test_what_is_known_of_a_clock_is_told() -> None:
    server = Hub()
    server.record(Recording(120, uniform, drifting(100)))
    told = server.run(server.times.sample_clock(None, None))
    assert told.sfreq == pytest.approx(999.9, abs=0.01)
    assert told.drift_ppm == pytest.approx(-100, abs=5)
    assert told.offset == pytest.approx(server.offset, abs=told.offset_error)
    assert told.offset_error < told.error < 1e-3
    assert told.seconds == pytest.approx(119.5, abs=1)


def _table() -> None:
    print("| arrivals | drift | after | median | p95 | largest | stated |")
    print("|---|---|---|---|---|---|---|")
    for name, jitter in JITTER.items():
        for ppm in (0, 100, -300):
            for seconds in (2, 10, 60, 600):
                errors, stated = [], []
                for seed in range(20 if seconds < 600 else 5):
                    recording = Recording(seconds, jitter, drifting(ppm), seed)
                    clock = recording.clock()
                    errors.append(np.abs(recording.error(clock)) * 1e3)
                    stated.append(clock.line.error * 1e3)
                each = np.concatenate(errors)
                figures = np.median(each), np.percentile(each, 95), each.max(), np.median(stated)
                print(f"| {name} | {ppm} ppm | {seconds} s |", *(f"{each:.3f} |" for each in figures))


if __name__ == "__main__":
    _table()
