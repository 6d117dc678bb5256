"""The broker: where samples get their index, and what is said of what is missing."""

from __future__ import annotations

import numpy as np
import pytest
from lossy import plain_ring

from rdahub import rda
from rdahub.answers import Answers
from rdahub.broker import Broker
from rdahub.rings import History
from rdahub_client.records import Gap, Marker, Record, SegmentEnd, SegmentStart
from rdahub_client.wire import (
    BLOCK,
    GAP,
    MARKERS,
    PAGE_BYTES,
    SEGMENT,
    BlockMessage,
    EventsRequest,
    MarkersRequest,
    RangeRequest,
    Records,
    Reply,
    decode,
    decode_reply,
)


def make(rows: int = 1000, start_index: int = 0) -> Broker:
    return Broker(
        "life",
        History(rows / 1000.0, 1 << 30),
        plain_ring,
        start_index,
    )


def layout(n_channels: int = 2, resolution: float = 1.0, interval_us: float = 1000.0) -> rda.Start:
    return rda.Start(interval_us, (resolution,) * n_channels, tuple(f"C{i}" for i in range(n_channels)))


def block(
    counter: int,
    n: int = 10,
    n_channels: int = 2,
    markers: tuple[rda.BlockMarker, ...] = (),
    value: float | None = None,
) -> rda.Data:
    samples = np.full((n, n_channels), counter if value is None else value, np.float32)
    return rda.Data(counter, samples, markers)


def running(*counters: int, broker: Broker | None = None) -> Broker:
    broker = broker or make()
    broker.begin(layout())
    for counter in counters:
        broker.extend(block(counter), 1, 2)
    return broker


def records(broker: Broker) -> list[Record]:
    return broker.journal.since(0, 10_000)[1]


def ask(broker: Broker, start: int, stop: int, instance: str | None = None) -> Reply:
    return decode_reply(Answers(broker).answer(RangeRequest(id=7, instance=instance, start=start, stop=stop)))


def refused(reply: Reply) -> str:
    assert reply.refusal is not None
    return reply.refusal.code


# --- samples --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_samples_are_raw_times_resolution_rounded_once(dtype: type) -> None:
    broker = make()
    resolutions = (0.1, 0.5, 1.0 / 3.0)
    broker.begin(rda.Start(1000.0, resolutions, ("a", "b", "c")))
    raw: rda.Samples = np.array([[1, -2, 3], [32767, -32768, 12345]], dtype)
    frames = broker.extend(rda.Data(1, raw), 1, 2)
    expected = (raw.astype(np.float64) * np.array(resolutions)).astype(np.float32)
    message = decode(frames[0])
    assert isinstance(message, BlockMessage)
    np.testing.assert_array_equal(message.samples, expected)
    np.testing.assert_array_equal(ask(broker, 0, 2).page().samples, expected)


def test_nan_inf_and_negative_zero_pass_through() -> None:
    for resolution in (1.0, 0.5):
        broker = make()
        broker.begin(layout(4, resolution))
        raw = np.array([[np.nan, np.inf, -np.inf, -0.0]], np.float32)
        broker.extend(rda.Data(1, raw), 1, 2)
        samples = ask(broker, 0, 1).page().samples
        np.testing.assert_array_equal(samples, raw)
        assert np.signbit(samples[0, 3])


def test_a_block_longer_than_the_history_is_published_whole_and_kept_in_part() -> None:
    broker = make(rows=64)
    broker.begin(layout())
    raw = np.arange(400, dtype=np.float32).reshape(200, 2)
    message = decode(broker.extend(rda.Data(1, raw), 1, 2)[0])
    assert isinstance(message, BlockMessage)
    np.testing.assert_array_equal(message.samples, raw)
    assert broker.first_available == 136
    np.testing.assert_array_equal(ask(broker, 136, 200).page().samples, raw[136:])


def test_history_is_the_lesser_of_seconds_and_bytes() -> None:
    assert History(600, 1 << 30).rows(64, 1000.0) == 600_000
    assert History(600, 1 << 20).rows(64, 1000.0) == 4096
    assert History(0.001, 1 << 30).rows(1, 1000.0) == 64


def test_rows_announced_first_are_kept_under_the_same_index_whatever_comes_next() -> None:
    broker = running(1)
    for counter in (2, 3):  # as if sending had failed, and nobody had said keep
        broker.announce(block(counter), 1, 2)
    broker.announce(block(5), 1, 2)  # a gap of one block
    broker.keep()
    broker.keep()
    samples = ask(broker, 0, 50).page().samples
    assert [int(value) for value in samples[[0, 10, 20, 40], 0]] == [1, 2, 3, 5]
    assert np.isnan(samples[30:40]).all()


# --- the counter ----------------------------------------------------------------------------------------


def test_a_jump_becomes_nan_rows_and_a_gap_of_exact_length() -> None:
    broker = running(1, 2)
    frames = broker.extend(block(5), 1, 2)
    gap = decode(frames[0])
    assert frames[0][:1] == GAP
    assert isinstance(gap, Records)
    assert gap.records == [Gap(20, 40, "counter")]
    message = decode(frames[1])
    assert isinstance(message, BlockMessage)
    assert (message.start, message.stop) == (40, 50)
    samples = ask(broker, 10, 50).page().samples
    assert np.isnan(samples[10:30]).all()
    assert (samples[30:] == 5).all()
    assert broker.counters.gaps == 1
    assert broker.counters.missing_samples == 20


def test_a_jump_after_blocks_of_varying_length_begins_a_new_segment() -> None:
    broker = running(1, 2)
    broker.extend(block(3, n=7), 1, 2)
    broker.extend(block(6), 1, 2)
    kinds = [type(record) for record in records(broker)]
    assert kinds == [SegmentStart, SegmentEnd, SegmentStart]
    first, second = broker.journal.segments
    assert (first.stop, first.ended) == (27, "counter")
    assert (second.start, second.stop, second.ch_names) == (27, None, first.ch_names)


def test_a_hole_larger_than_history_begins_a_new_segment() -> None:
    broker = running(1, 2)
    broker.extend(block(2 + 102), 1, 2)
    assert [s.ended for s in broker.journal.segments] == ["counter", None]
    assert broker.next_index == 30


def test_a_hole_as_large_as_history_is_still_a_gap() -> None:
    broker = running(1, 2)
    broker.extend(block(2 + 101), 1, 2)
    assert broker.journal.gaps(0, 2000) == [Gap(20, 1020, "counter")]


def test_a_counter_that_goes_back_begins_a_new_segment_and_the_next_jump_counts() -> None:
    broker = running(10, 11, 12)
    broker.extend(block(1), 1, 2)
    assert [s.ended for s in broker.journal.segments] == ["counter", None]
    broker.extend(block(3), 1, 2)
    assert broker.journal.gaps(0, 100) == [Gap(40, 50, "counter")]


def test_a_repeated_block_is_dropped_and_counted() -> None:
    broker = running(1, 2)
    assert broker.extend(block(2), 1, 2) == []
    broker.extend(block(3), 1, 2)
    assert broker.next_index == 30
    assert broker.counters.repeated_blocks == 1
    assert broker.counters.gaps == 0


def test_the_step_after_the_first_block_is_not_judged_but_counted() -> None:
    broker = running(4000, 1, 2)
    assert broker.next_index == 30
    assert len(broker.journal.segments) == 1
    assert broker.counters.unchecked_steps == 1


@pytest.mark.parametrize("top", [2**32, 2**24])
def test_a_wrapping_counter_is_no_gap(top: int) -> None:
    broker = running(top - 3, top - 2, top - 1, 0, 1)
    assert broker.next_index == 50
    assert len(records(broker)) == 1


def test_a_jump_across_the_wrap_is_a_gap() -> None:
    broker = running(2**32 - 3, 2**32 - 2)
    broker.extend(block(0), 1, 2)
    assert broker.journal.gaps(0, 100) == [Gap(20, 30, "counter")]


def test_blocks_without_samples_count_and_carry_markers() -> None:
    broker = running(1, 2)
    marker = rda.BlockMarker(0, 1, -1, "Stimulus", "S  1")
    broker.extend(block(3, n=0, markers=(marker,)), 1, 2)
    broker.extend(block(4), 1, 2)
    assert broker.next_index == 30
    assert broker.journal.markers(0, 100) == [Marker(20, 1, -1, "Stimulus", "S  1")]
    assert broker.counters.gaps == 0


# --- segments -------------------------------------------------------------------------------------------


def test_indices_go_on_across_segments_and_segments_say_why_they_ended() -> None:
    broker = running(1, 2)
    broker.end("stop")
    broker.begin(layout())
    broker.extend(block(1), 1, 2)
    broker.begin(layout())
    broker.extend(block(1), 1, 2)
    broker.end("lost")
    spans = [(s.number, s.start, s.stop, s.ended) for s in broker.journal.segments]
    assert spans == [(0, 0, 20, "stop"), (1, 20, 30, "restart"), (2, 30, 40, "lost")]


def test_stop_twice_ends_once() -> None:
    broker = running(1)
    assert len(broker.end("stop")) == 1
    assert broker.end("stop") == []


def test_another_channel_count_gets_a_new_ring_and_takes_nothing_away() -> None:
    broker = running(1, 2)
    broker.begin(layout(5))
    broker.extend(block(1, n_channels=5), 1, 2)
    page = ask(broker, 0, 20).page()
    assert (page.samples.shape, page.segment, page.first_available, page.next_index) == ((20, 2), 0, 0, 30)
    assert ask(broker, 20, 30).page().samples.shape == (10, 5)
    assert refused(ask(broker, 10, 25)) == "WRONG_SEGMENT"
    broker.rings.release()
    assert refused(ask(broker, 0, 10)) == "OUT_OF_RANGE_OLD"
    assert broker.first_available == 20


def test_another_rate_keeps_the_samples_there_are() -> None:
    broker = running(1, 2)
    broker.begin(layout(interval_us=500.0))
    broker.extend(block(1), 1, 2)
    assert (ask(broker, 0, 10).page().samples == 1).all()
    assert ask(broker, 20, 30).page().segment == 1
    assert broker.ring is not None
    assert broker.ring.capacity == 2000


def test_units_come_from_info_if_the_channels_agree() -> None:
    broker = make()
    broker.set_units(("mV", "C"))
    broker.begin(layout(2))
    broker.begin(layout(3))
    assert [s.units for s in broker.journal.segments] == [("mV", "C"), ("µV",) * 3]


@pytest.mark.parametrize("start", [2**24 - 15, 2**31 - 15, 2**32 - 15, 2**53 - 15])
def test_indices_are_exact_past_powers_of_two(start: int) -> None:
    broker = running(1, 2, 3, 6, broker=make(start_index=start))
    assert broker.next_index == start + 60
    assert broker.journal.gaps(0, 2**62) == [Gap(start + 30, start + 50, "counter")]
    assert (ask(broker, start + 10, start + 20).page().samples == 2).all()


# --- what is published ------------------------------------------------------------------------------------


def test_markers_are_published_with_their_block_and_on_their_own_topic() -> None:
    broker = running(1)
    markers = (rda.BlockMarker(-5, 3, 0, "Stimulus", "S  1"), rda.BlockMarker(12, 0, -1, "Comment", "hé"))
    frames = broker.extend(block(2, markers=markers), 11, 22)
    assert [frame[:1] for frame in frames] == [BLOCK, MARKERS]
    in_block, alone = decode(frames[0]), decode(frames[1])
    assert isinstance(in_block, BlockMessage)
    assert isinstance(alone, Records)
    assert in_block.markers == [Marker(5, 3, 0, "Stimulus", "S  1"), Marker(22, 0, -1, "Comment", "hé")]
    assert alone.records == in_block.markers
    assert in_block.seq == alone.seq + 2
    assert (in_block.received_ns, in_block.wall_ns, in_block.counter) == (11, 22, 2)


def test_a_segment_start_can_be_said_again_under_its_own_number() -> None:
    broker = make()
    (first,) = broker.begin(layout())
    assert broker.segment_frame == first
    broker.extend(block(1), 1, 2)
    assert broker.segment_frame == first
    (end,) = broker.end("stop")
    assert end[:1] == SEGMENT
    assert broker.segment_frame == end


# --- questions --------------------------------------------------------------------------------------------


def test_refusals_are_distinct_and_say_what_is_held() -> None:
    broker = make()
    assert refused(ask(broker, 0, 1)) == "NO_STREAM"
    running(*range(1, 201), broker=broker)
    broker.end("stop")
    broker.begin(layout())
    broker.extend(block(1), 1, 2)
    first = broker.first_available
    assert first == 1010
    cases = {
        (first - 1, first + 5): "OUT_OF_RANGE_OLD",
        (first - 1, 10**6): "OUT_OF_RANGE_OLD",
        (2005, 2011): "OUT_OF_RANGE_FUTURE",
        (2011, 2020): "OUT_OF_RANGE_FUTURE",
        (1995, 2005): "WRONG_SEGMENT",
        (20, 10): "BAD_REQUEST",
    }
    for (start, stop), code in cases.items():
        reply = ask(broker, start, stop)
        assert refused(reply) == code
        assert reply.refusal is not None
        assert (reply.refusal.first_available, reply.refusal.next_index) == (first, 2010)
        assert reply.id == 7
    assert refused(ask(broker, 1500, 1600, instance="other")) == "WRONG_INSTANCE"
    assert ask(broker, 1500, 1600, instance="life").page().segment == 0
    assert ask(broker, 2000, 2010).page().segment == 1


def test_a_long_range_comes_in_pages_that_name_themselves() -> None:
    broker = make(rows=100_000)
    broker.begin(layout(64))
    rng = np.random.default_rng(1)
    whole = rng.normal(size=(20_000, 64)).astype(np.float32)
    for k in range(20):
        broker.extend(rda.Data(k + 1, whole[k * 1000 : k * 1000 + 1000]), 1, 2)
    position, parts = 0, []
    while position < 20_000:
        page = ask(broker, position, 20_000).page()
        assert page.start == position
        assert page.samples.nbytes <= PAGE_BYTES
        assert (page.first_available, page.next_index) == (0, 20_000)
        parts.append(page.samples)
        position = page.stop
    assert len(parts) == 5
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_page_is_a_copy_of_the_ring() -> None:
    broker = running(*range(1, 101))
    frame = Answers(broker).answer(RangeRequest(start=0, stop=10))
    for counter in range(101, 250):
        broker.extend(block(counter), 1, 2)
    assert (decode_reply(frame).page().samples == 1).all()


def test_markers_are_answered_by_index_in_pages() -> None:
    broker = make(rows=100_000)
    broker.begin(layout())
    several = tuple(rda.BlockMarker(i, 1, -1, "S", str(i)) for i in range(500))
    for counter in range(1, 11):
        broker.extend(block(counter, n=1000, markers=several), 1, 2)
    found: list[Marker] = []
    while True:
        request = MarkersRequest(start=0, stop=10_000, skip=len(found))
        reply = decode_reply(Answers(broker).answer(request))
        found += reply.markers()
        if not reply.header["more"]:
            break
    assert len(found) == 5000
    assert [m.index for m in found] == sorted(m.index for m in found)


def test_the_journal_is_answered_from_any_number_and_says_what_is_pruned() -> None:
    broker = running(1, 2)
    broker.end("stop")
    broker.begin(layout())
    reply = decode_reply(Answers(broker).answer(EventsRequest(seq=1))).events()
    assert reply.seq == 1
    assert [type(r) for r in reply.records] == [SegmentEnd, SegmentStart]
    assert reply.before is None
    for counter in range(1, 200):
        broker.extend(block(counter), 1, 2)
    broker.prune(0)
    reply = decode_reply(Answers(broker).answer(EventsRequest(seq=0))).events()
    assert reply.seq == 3
    assert reply.records == []
    assert reply.before is not None
    assert reply.before.number == 1


def test_counters_never_go_down() -> None:
    broker = running(1, 2, 3)
    before = Answers(broker).statistics()["counters"]
    broker.begin(layout(3))
    broker.end("stop")
    after = Answers(broker).statistics()["counters"]
    assert all(after[name] >= value for name, value in before.items())
