"""Timeline and verbs over a lossy link: whatever is lost on the way, what a reader shows is exact."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
from lossy import FakeHub, LossyReader

from rdahub import rda
from rdahub_client.bridges.mne_names import Events
from rdahub_client.errors import (
    BadRange,
    HubRestarted,
    NoSegment,
    NotStreaming,
    NotYetAvailable,
    Overwritten,
    SegmentChanged,
)
from rdahub_client.records import Block, Gap, Marker, SegmentEnd, SegmentStart
from rdahub_client.wire import EventsRequest, RangeRequest


def pair(**reader: object) -> tuple[FakeHub, LossyReader]:
    hub = FakeHub()
    return hub, LossyReader(hub, random.Random(0), **reader)  # type: ignore[arg-type]


def stimulus(position: int) -> rda.BlockMarker:
    return rda.BlockMarker(position, 1, -1, "Stimulus", "S  1")


def streaming(n_channels: int = 3, blocks: int = 0) -> tuple[FakeHub, LossyReader]:
    hub, reader = pair()
    hub.start(n_channels)
    reader.start()
    for _ in range(blocks):
        hub.block(20)
    return hub, reader


def test_live_blocks_are_views_of_the_window_and_ask_the_hub_nothing() -> None:
    hub, reader = streaming(blocks=5)
    assert reader.last_sample == 100
    before = len(reader.asked)
    data = reader.get_data(10, 90)
    assert data is not None
    np.testing.assert_array_equal(data, hub.expected(10, 90, 3))
    assert not data.flags.writeable
    assert not data.flags.owndata
    assert len(reader.asked) == before


def test_a_lost_block_is_fetched_before_the_next_one_is_shown() -> None:
    hub, reader = streaming(blocks=2)
    assert reader.last_sample == 40
    reader.asleep = True
    hub.block(20, (stimulus(3),))
    reader.asleep = False
    hub.block(20)
    assert reader.last_sample == 80
    np.testing.assert_array_equal(reader.read(0, 80), hub.expected(0, 80, 3))
    assert [marker.index for marker in reader.markers(0, 100)] == [43]
    kinds = [type(request) for request in reader.asked[-2:]]
    assert kinds == [EventsRequest, RangeRequest]


def test_blocks_lost_before_a_silence_are_noticed_by_the_heartbeat() -> None:
    hub, reader = streaming(blocks=2)
    reader.asleep = True
    hub.block(20)
    reader.asleep = False
    assert reader.last_sample == 40
    hub.beat()
    assert reader.last_sample == 60
    np.testing.assert_array_equal(reader.read(0, 60), hub.expected(0, 60, 3))


def test_a_late_joiner_reads_what_was_before_it_from_history() -> None:
    hub, reader = pair()
    hub.start(2)
    for _ in range(10):
        hub.block(20, (stimulus(0),))
    reader.start()
    assert reader.last_sample == 200
    np.testing.assert_array_equal(reader.read(0, 200), hub.expected(0, 200, 2))
    assert len(reader.markers(0, 200)) == 10


def test_get_data_gives_none_where_read_says_why() -> None:
    hub, reader = streaming(blocks=5)
    for start, stop, error in [
        (-1, 10, BadRange),
        (10, 5, BadRange),
        (50, 101, NotYetAvailable),
        (100, 120, NotYetAvailable),
    ]:
        assert reader.get_data(start, stop) is None
        with pytest.raises(error):
            reader.read(start, stop)
    for _ in range(40):
        hub.block(20)
    hub.beat()
    assert reader.last_sample == 900
    assert reader.get_data(0, 10) is None
    with pytest.raises(Overwritten) as caught:
        reader.read(300, 600)
    assert caught.value.first_available == 400
    assert caught.value.next_index == 900
    assert "400" in str(caught.value)


def test_a_range_half_overwritten_is_refused_whole() -> None:
    hub, reader = streaming(blocks=40)
    assert reader.last_sample == 800
    first = hub.broker.first_available
    with pytest.raises(Overwritten):
        reader.read(first - 1, first + 10)
    np.testing.assert_array_equal(reader.read(first, first + 10), hub.expected(first, first + 10, 3))


def test_no_array_mixes_segments() -> None:
    hub, reader = streaming(blocks=2)
    hub.stop()
    hub.start(3)
    hub.block(20)
    assert reader.last_sample == 60
    assert reader.get_data(30, 50) is None
    with pytest.raises(SegmentChanged, match="ended at 40"):
        reader.read(30, 50)
    np.testing.assert_array_equal(reader.read(20, 40), hub.expected(20, 40, 3))
    np.testing.assert_array_equal(reader.read(40, 60), hub.expected(40, 60, 3))


def test_a_new_layout_ends_the_old_segment_and_says_so() -> None:
    hub, reader = streaming(blocks=2)
    hub.stop()
    hub.start(5)
    hub.block(20)
    assert reader.start_msg is not None
    assert reader.start_msg.n_channels == 5
    assert [segment.ended for segment in reader.segments] == ["stop", None]
    assert reader.read(40, 60).shape == (20, 5)
    np.testing.assert_array_equal(reader.read(0, 40), hub.expected(0, 40, 3))
    hub.broker.rings.release()
    with pytest.raises(Overwritten):
        reader.read(0, 40)


def test_the_window_answers_after_the_hub_has_moved_to_another_layout_until_rows_come() -> None:
    hub, reader = streaming(blocks=2)
    hub.stop()
    hub.start(5)
    np.testing.assert_array_equal(reader.read(0, 40), hub.expected(0, 40, 3))


def test_samples_missed_before_another_layout_are_fetched() -> None:
    hub, reader = streaming(blocks=2)
    stream = reader.stream("live")
    reader.asleep = True
    hub.block(20)
    hub.stop()
    hub.start(5)
    reader.asleep = False
    hub.block(20)
    assert reader.last_sample == 80
    assert reader.gaps(0, 80) == []
    np.testing.assert_array_equal(reader.read(30, 60), hub.expected(30, 60, 3))
    np.testing.assert_array_equal(reader.read(60, 80), hub.expected(60, 80, 5))
    events = [next(stream) for _ in range(5)]
    spans = [(event.start, event.stop) for event in events if isinstance(event, Block)]
    assert spans == [(40, 60), (60, 80)]


def test_samples_lost_with_a_layout_are_named_lost() -> None:
    hub, reader = streaming(blocks=2)
    assert reader.last_sample == 40
    reader.asleep = True
    hub.block(20)
    hub.stop()
    hub.start(5)
    hub.broker.rings.release()
    reader.asleep = False
    hub.block(20)
    assert reader.last_sample == 80
    assert Gap(40, 60, "overwritten") in reader.gaps(0, 80)
    with pytest.raises(Overwritten):
        reader.read(30, 50)
    np.testing.assert_array_equal(reader.read(60, 80), hub.expected(60, 80, 5))


def test_a_gap_reads_as_nan_and_is_recorded() -> None:
    hub, reader = streaming(blocks=3)
    hub.block(20, skip_blocks=2)
    data = reader.read(40, 120)
    np.testing.assert_array_equal(data, hub.expected(40, 120, 3))
    assert np.isnan(data[20:60]).all()
    assert reader.gaps(0, 120) == [Gap(60, 100, "counter")]
    assert reader.gaps(0, 60) == []


def test_a_lost_gap_record_is_fetched() -> None:
    hub, reader = streaming(blocks=3)
    reader.asleep = True
    hub.block(20, skip_blocks=2)
    reader.asleep = False
    hub.block(20)
    assert reader.gaps(0, 200) == [Gap(60, 100, "counter")]
    np.testing.assert_array_equal(reader.read(0, 140), hub.expected(0, 140, 3))


def test_markers_may_stand_before_or_after_their_block() -> None:
    hub, reader = streaming(blocks=2)
    hub.block(20, (stimulus(-25), stimulus(30), stimulus(5), stimulus(5)))
    assert [marker.index for marker in reader.markers(0, 100)] == [15, 45, 45, 70]
    assert [marker.index for marker in reader.markers(15, 16)] == [15]


def test_poll_waits_for_the_next_block_and_gives_the_newest() -> None:
    hub, reader = streaming(blocks=2)
    assert reader.poll(10, timeout=0) is None  # what had arrived is not the next block
    assert reader.last_sample == 40
    hub.block(20)
    hub.block(20)
    assert reader.poll(10, timeout=0) is None
    queue = reader._queue
    hub.block(20)
    frame = queue.pop()
    assert reader.last_sample == 80
    queue.append(frame)
    reader._verbs.catch_up = lambda _deadline: iter(())  # type: ignore[method-assign, assignment, return-value]
    data = reader.poll(30, timeout=0)
    assert data is not None
    np.testing.assert_array_equal(data, hub.expected(70, 100, 3))


def test_wait_gives_up_at_once_on_what_can_never_come() -> None:
    hub, reader = streaming(blocks=2)
    assert reader.wait(-5, 5, timeout=None) is None
    assert reader.wait(30, 10, timeout=None) is None
    hub.stop()
    assert reader.wait(30, 50, timeout=None) is None
    hub.start(3)
    for _ in range(40):
        hub.block(20)
    hub.beat()
    assert reader.last_sample == 840
    assert reader.wait(0, 20, timeout=None) is None


def test_verbs_before_start_streaming_are_a_clear_error() -> None:
    _, reader = pair()
    for call in (
        lambda: reader.wait(0, 1),
        lambda: reader.poll(1),
        lambda: reader.read(0, 1),
        reader.stream,
        reader.stop_streaming,
    ):
        with pytest.raises(NotStreaming, match="start_streaming"):
            call()
    assert reader.get_data(0, 1) is None


def test_a_range_in_a_hub_without_segment_is_named() -> None:
    hub, reader = streaming(blocks=1)
    assert reader.last_sample == 20
    hub.restart(goodbye=False)
    hub.beat()
    assert reader.last_sample == 0
    with pytest.raises(NoSegment):
        reader.read(0, 1)


def test_after_a_start_that_timed_out_there_is_no_segment_and_no_talk_of_a_restart() -> None:
    hub, reader = pair()
    hub.beat()
    reader._streaming = True
    with pytest.raises(TimeoutError):
        reader._run(reader._verbs.begin(0.0))
    with pytest.raises(NoSegment):
        reader.read(0, 1)


def test_mistakes_in_arguments_are_named() -> None:
    _, reader = streaming(blocks=1)
    with pytest.raises(TypeError, match="a time-out is a number of seconds"):
        reader.wait(0, 10_000, timeout="5")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="window wants a Marker"):
        reader.window(7, -0.1, 0.1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="event_id is a name"):
        Events(7)  # type: ignore[arg-type]


def test_a_restarted_hub_is_said_once_and_then_followed() -> None:
    hub, reader = streaming(blocks=3)
    assert reader.last_sample == 60
    hub.restart(goodbye=False)
    hub.start(3)
    for _ in range(5):
        hub.block(20)
    with pytest.raises(HubRestarted, match="life-1"):
        reader.read(0, 100)
    np.testing.assert_array_equal(reader.read(0, 100), hub.expected(0, 100, 3))
    assert reader.instance == "life-1"


def test_wait_on_an_old_instance_gives_none_and_never_mixes() -> None:
    hub, reader = streaming(blocks=3)
    assert reader.last_sample == 60
    hub.restart(goodbye=True)
    hub.start(3)
    for _ in range(10):
        hub.block(20)
    assert reader.wait(60, 80, timeout=None) is None
    assert reader.wait(60, 80, timeout=None) is None
    assert reader.get_data(60, 80) is None
    assert reader.poll(5, timeout=0) is None
    assert reader.get_data(60, 80) is None  # and so on, until the caller has seen the new indices
    assert reader.last_sample == 200
    data = reader.wait(60, 80, timeout=None)
    assert data is not None
    np.testing.assert_array_equal(data, hub.expected(60, 80, 3))


def test_the_window_answers_when_the_hub_is_dead() -> None:
    hub, reader = streaming(blocks=3)
    assert reader.last_sample == 60
    hub.alive = False
    reader.asleep = True
    np.testing.assert_array_equal(reader.read(0, 60), hub.expected(0, 60, 3))
    assert reader.get_data(0, 61) is None


def test_after_disconnect_the_window_still_answers() -> None:
    hub, reader = streaming(blocks=3)
    assert reader.last_sample == 60
    reader.disconnect()
    data = reader.get_data(0, 60)
    assert data is not None
    np.testing.assert_array_equal(data, hub.expected(0, 60, 3))


def test_a_hole_larger_than_the_window_keeps_the_newest_and_the_rest_in_history() -> None:
    hub, reader = streaming(blocks=1)
    assert reader.last_sample == 20
    reader.asleep = True
    for _ in range(22):
        hub.block(20)
    reader.asleep = False
    hub.block(20)
    assert reader.last_sample == 480
    before = len(reader.asked)
    np.testing.assert_array_equal(reader.read(200, 480), hub.expected(200, 480, 3))
    assert len(reader.asked) == before
    np.testing.assert_array_equal(reader.read(0, 480), hub.expected(0, 480, 3))


@pytest.mark.parametrize("start_index", [2**24 - 30, 2**31 - 30, 2**32 - 30, 2**53 - 30])
def test_indices_stay_exact_past_powers_of_two(start_index: int) -> None:
    hub = FakeHub(start_index=start_index)
    reader = LossyReader(hub, random.Random(1), loss=0.3)
    hub.start(2)
    reader.start()
    for k in range(20):
        hub.block(10, (stimulus(k % 10),))
    hub.beat()
    reader.loss = 0
    hub.beat()
    stop = start_index + 200
    assert reader.last_sample == stop
    np.testing.assert_array_equal(reader.read(start_index, stop), hub.expected(start_index, stop, 2))
    assert [m.index for m in reader.markers(start_index, stop)] == [
        start_index + 10 * k + k % 10 for k in range(20)
    ]


# --- streams --------------------------------------------------------------------------------------------


def test_a_stream_tells_history_then_live_in_index_order() -> None:
    hub, reader = pair()
    hub.start(2)
    hub.block(20, (stimulus(4),))
    hub.block(20)
    hub.block(20)
    hub.block(20, skip_blocks=1)
    hub.stop()
    hub.start(2)
    hub.block(20)
    reader.start()
    events = list(reader.drain())
    assert [type(event) for event in events] == [
        SegmentStart, Block, Gap, Block, SegmentEnd, SegmentStart, Block,
    ]  # fmt: skip
    spans = [(event.start, event.stop) for event in events if isinstance(event, Block | Gap)]
    assert spans == [(0, 60), (60, 80), (80, 100), (100, 120)]
    first = events[1]
    assert isinstance(first, Block)
    assert first.markers == (Marker(4, 1, -1, "Stimulus", "S  1"),)


def test_a_live_stream_begins_with_its_segment_and_holds_nothing_old() -> None:
    hub, reader = streaming(blocks=4)
    cursor = reader._run(reader._streams.open("live", 0.0))
    assert [type(event) for event in reader.resume(cursor)] == [SegmentStart]
    hub.block(20)
    (block,) = reader.resume(cursor)
    assert isinstance(block, Block)
    assert (block.start, block.stop) == (80, 100)


def test_a_stream_from_before_history_says_what_is_gone() -> None:
    hub, reader = streaming(blocks=50)
    events = list(reader.drain(start=100))
    first = hub.broker.first_available
    gaps = [event for event in events if isinstance(event, Gap)]
    assert gaps == [Gap(100, first, "overwritten")]
    blocks = [event for event in events if isinstance(event, Block)]
    assert blocks[0].start == first
    assert blocks[-1].stop == 1000


def test_a_stream_begins_no_segment_whose_end_it_cannot_tell() -> None:
    hub, reader = streaming(n_channels=2, blocks=1)
    assert reader.last_sample == 20
    hub.stop()
    hub.start(2)
    hub.block(20)
    assert reader.last_sample == 40
    hub.start(3)
    for _ in range(40):
        hub.block(20)
    hub.beat()
    assert reader.last_sample == 840
    events = list(reader.drain(start=0))
    assert [type(event) for event in events[:3]] == [Gap, SegmentStart, Gap]
    assert isinstance(events[1], SegmentStart)
    assert events[1].segment.number == 2
    assert all(event.samples.shape[1] == 3 for event in events if isinstance(event, Block))


def test_markers_of_blocks_without_samples_are_told_before_the_segment_ends() -> None:
    hub, reader = streaming(blocks=1)
    hub.block(0, (stimulus(0),))
    hub.stop()
    events = list(reader.drain())
    assert [type(event) for event in events] == [SegmentStart, Block, Block, SegmentEnd]
    last = events[2]
    assert isinstance(last, Block)
    assert (last.start, last.stop, last.samples.shape) == (20, 20, (0, 3))
    assert [marker.index for marker in last.markers] == [20]


def test_a_stream_from_the_middle_of_a_block_tells_the_markers_on_samples_to_come() -> None:
    hub, reader = streaming(blocks=1)
    hub.block(20, (stimulus(3), stimulus(15), stimulus(25)))
    hub.block(20, (stimulus(1),))
    start, early, block = reader.drain(start=30)
    assert isinstance(start, SegmentStart)
    assert isinstance(early, Block)
    assert (early.start, early.stop) == (30, 30)
    assert [marker.index for marker in early.markers] == [35, 45]
    assert isinstance(block, Block)
    assert (block.start, block.stop) == (30, 60)
    assert [marker.index for marker in block.markers] == [41]


def test_a_stream_from_where_a_segment_ended_begins_with_the_segment_of_what_is_told_first() -> None:
    hub, reader = streaming(blocks=1)
    hub.block(0, (stimulus(-5),))  # as an inserted marker is: of no block, on a sample of before
    hub.stop()
    hub.start(3)
    hub.block(20)
    events = list(reader.drain(start=20))
    assert [type(event) for event in events] == [SegmentStart, Block, SegmentEnd, SegmentStart, Block]
    numbers = [event.segment.number for event in events if isinstance(event, SegmentStart | SegmentEnd)]
    assert numbers == [0, 0, 1]


def test_a_stream_over_a_hub_restart_ends_one_segment_and_begins_the_next() -> None:
    hub, reader = streaming(blocks=2)
    cursor = reader._run(reader._streams.open("oldest", 0.0))
    assert len(list(reader.resume(cursor))) == 2
    hub.restart(goodbye=False)
    hub.start(4)
    hub.block(20)
    events = list(reader.resume(cursor))
    assert [type(event) for event in events] == [SegmentEnd, SegmentStart, Block]
    assert isinstance(events[0], SegmentEnd)
    assert events[0].reason == "hub_restart"
    assert isinstance(events[2], Block)
    assert events[2].start == 0


def test_markers_inserted_behind_all_that_was_told_do_not_go_with_their_hub() -> None:
    hub, reader = streaming(blocks=2)
    cursor = reader._run(reader._streams.open("oldest", 0.0))
    assert len(list(reader.resume(cursor))) == 2
    inserted = Marker(12, 1, -1, "Comment", "on a sample told long ago", injected=True, block=40)
    hub.publish(hub.broker.insert(inserted))
    assert reader.markers(0, 40) == [inserted]  # by another call
    hub.restart(goodbye=False)
    hub.start(3)
    hub.block(20)
    assert reader.last_sample == 20
    events = list(reader.resume(cursor))
    assert [type(event) for event in events] == [Block, SegmentEnd, SegmentStart, Block]
    assert isinstance(events[0], Block)
    assert (events[0].start, events[0].stop, events[0].markers) == (40, 40, (inserted,))


def test_what_was_not_told_when_the_hub_went_is_named_and_its_markers_are_told() -> None:
    hub, reader = streaming(blocks=2)
    cursor = reader._run(reader._streams.open("oldest", 0.0))
    assert len(list(reader.resume(cursor))) == 2
    hub.block(20, (stimulus(3),))
    hub.stop()
    hub.start(3)
    hub.block(20, (stimulus(1),))
    assert reader.last_sample == 80
    hub.restart(goodbye=False)
    hub.start(3)
    assert reader.last_sample == 0
    events = list(reader.resume(cursor))
    assert [type(event) for event in events] == [Gap, Block, SegmentEnd, SegmentStart]
    assert events[0] == Gap(40, 80, "hub_restart")
    assert isinstance(events[1], Block)
    assert [each.index for each in events[1].markers] == [43, 61]
    assert isinstance(events[2], SegmentEnd)
    assert (events[2].segment.stop, events[2].reason) == (80, "hub_restart")


def test_a_hub_that_came_and_went_between_two_events_is_passed_over() -> None:
    hub, reader = streaming(blocks=1)
    cursor = reader._run(reader._streams.open("live", 0.0))
    list(reader.resume(cursor))
    for _ in range(2):
        hub.restart(goodbye=False)
        hub.start(3)
        hub.block(20)
        assert reader.last_sample == 20  # by another call
        hub.beat()
    events = list(reader.resume(cursor))
    assert [type(event) for event in events] == [SegmentEnd, SegmentStart, Block]
    assert isinstance(events[2], Block)
    np.testing.assert_array_equal(events[2].samples, hub.expected(0, 20, 3))


def test_a_bad_start_of_a_stream_is_named() -> None:
    _, reader = streaming(blocks=1)
    for start in (-1, "newest", 1.5):
        with pytest.raises(BadRange, match="oldest"):
            reader.stream(start)  # type: ignore[arg-type]


# --- the campaign ---------------------------------------------------------------------------------------


class Listener:
    """A stream's consumer that checks everything it is told."""

    def __init__(self, reader: LossyReader, start: str | int) -> None:
        self.reader = reader
        self.cursor = reader._run(reader._streams.open(start, 0.0))
        self.instance = self.cursor.instance
        self.position = self.begin = self.cursor.index
        self.open = False
        self.known: set[tuple[str, Marker]] = set()
        self.told: list[tuple[str, Marker]] = []

    def take_note(self) -> None:
        """Of the markers the reader knows: sooner or later the stream must tell them."""
        journal = self.reader._timeline.journal
        begin = self.begin if journal.instance == "life-0" else 0
        known = journal.markers(-(10**6), 10**9)
        if journal.instance == self.instance and self.open:  # what it has not begun may go with its hub
            self.known |= {(journal.instance, each) for each in known if each.block >= begin}

    def listen(self) -> None:
        for event in self.reader.resume(self.cursor):
            if self.cursor.instance != self.instance:  # all begins at sample 0
                assert not self.open
                self.instance = self.cursor.instance
                self.position = 0
            self._check(event)

    def _check(self, event: object) -> None:
        hub = self.reader.hub
        match event:
            case SegmentStart(segment):
                assert not self.open
                assert segment.start <= self.position
                self.open = True
            case SegmentEnd(segment, reason):
                assert self.open
                assert reason in {"stop", "restart", "lost", "counter", "overwritten", "hub_restart"}
                assert reason != "hub_restart" or self.instance != hub.broker.instance
                assert segment.stop == self.position
                self.open = False
            case Gap(start, stop, reason):
                assert start == self.position
                if reason == "counter":
                    assert np.isnan(hub.expected(start, stop, 1, self.instance)).all()
                elif reason == "hub_restart":
                    assert self.instance != hub.broker.instance
                else:
                    assert reason == "overwritten"
                    assert self.instance != hub.broker.instance or start < hub.broker.first_available
                self.position = stop
            case Block():
                assert self.open
                assert event.start == self.position
                expected = hub.expected(event.start, event.stop, event.samples.shape[1], self.instance)
                np.testing.assert_array_equal(event.samples, expected)
                assert not np.isnan(event.samples).any()
                self.position = event.stop
                self.told += [(self.instance, marker) for marker in event.markers]


@pytest.mark.parametrize("seed", range(int(os.environ.get("RDAHUB_SCHEDULES", "100"))))
def test_any_schedule_of_losses_sleeps_and_restarts_is_repaired_or_named(seed: int) -> None:
    chance = random.Random(seed)
    hub = FakeHub(history_rows=chance.choice([200, 1000]))
    readers = [
        LossyReader(hub, chance, chance.choice([0, 0.1, 0.5]), chance.choice([64, 300])) for _ in range(3)
    ]
    hub.start(3)
    told: list[Marker] = []
    for reader in readers:
        reader.start()
    listeners = [Listener(reader, chance.choice(["live", "oldest"])) for reader in readers]
    restarts = chance.random() < 0.5
    length = 10
    for step in range(400):
        action = chance.random()
        segment = hub.broker.segment
        if segment is None:
            length = chance.choice([1, 10, 25])
            hub.start(chance.choice([2, 3, 3, 3]))
            hub.block(length)
            hub.block(length)
        elif action < 0.02:
            hub.stop()
        elif action < 0.03:
            length = chance.choice([1, 10, 25])
            hub.start(3)
            hub.block(length)
            hub.block(length)
        elif action < 0.05:
            if segment.start + 2 * length <= hub.broker.next_index:
                hub.block(length, skip_blocks=chance.randint(1, 3))
        elif action < 0.06:
            sleeper = chance.choice(readers)
            sleeper.asleep = not sleeper.asleep
        elif action < 0.065 and restarts:
            hub.restart(goodbye=chance.random() < 0.5)
            told.clear()
        elif action < 0.2:
            hub.beat()
        elif action < 0.8:
            markers = tuple(stimulus(chance.randint(-30, 30)) for _ in range(chance.choice([0, 0, 0, 1, 4])))
            start = hub.broker.next_index
            hub.block(length, markers)
            told += [Marker(start + m.position, 1, -1, "Stimulus", "S  1") for m in markers]
        elif action < 0.82:
            start = hub.broker.next_index
            marker = Marker(start + chance.randint(-30, 30), 1, -1, "Comment", f"{step}", block=start)
            if marker.index >= hub.broker.first_available:
                hub.publish(hub.broker.insert(marker))
                told.append(marker)
        elif action < 0.95:
            chance.choice(listeners).listen()
        else:
            reader = chance.choice(readers)
            newest = hub.broker.next_index
            start = chance.randint(max(0, newest - 400), newest)
            stop = start + chance.randint(0, 100)
            data = reader.get_data(start, stop)
            if data is not None:
                expected = hub.expected(start, stop, data.shape[1], reader.instance)
                np.testing.assert_array_equal(data, expected)
            listeners[readers.index(reader)].take_note()
    if hub.broker.segment is None:
        hub.start(3)
    hub.block(length)  # brings the markers inserted last
    for reader in readers:
        reader.asleep, reader.loss = False, 0
    hub.beat()
    for listener, reader in zip(listeners, readers, strict=True):
        before = listener.position
        listener.listen()
        assert listener.position == hub.broker.next_index, (seed, before)
        assert listener.known <= set(listener.told)
        inserted = [marker for _, marker in listener.told if marker.type == "Comment"]
        assert len(inserted) == len(set(inserted))
        assert reader.instance == hub.broker.instance
        first = hub.broker.first_available
        recent = reader.markers(first, hub.broker.next_index)
        assert recent == sorted(
            (m for m in told if first <= m.index < hub.broker.next_index), key=lambda m: m.index
        )
