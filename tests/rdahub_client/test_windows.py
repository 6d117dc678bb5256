"""Windows around markers over a lossy link: each marker told once, with exact samples or the true reason."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from lossy import FakeHub, LossyReader

from rdahub import rda
from rdahub_client.errors import BadRange, HubLost, NotStreaming, RequestRefused, StreamTimeout
from rdahub_client.records import Epoch, Gap, Marker
from rdahub_client.wire import Reply


def mark(position: int, description: str = "S  1", kind: str = "Stimulus") -> rda.BlockMarker:
    return rda.BlockMarker(position, 1, -1, kind, description)


def streaming(n_channels: int = 2, **reader: Any) -> tuple[FakeHub, LossyReader]:
    hub = FakeHub()
    made = LossyReader(hub, random.Random(0), **reader)
    hub.start(n_channels)
    made.start()
    return hub, made


def drain(windows: Any) -> list[Epoch]:
    """All that are decided."""
    found = []
    while True:
        try:
            found.append(next(windows))
        except StreamTimeout:
            return found


def known(epochs: list[Epoch]) -> list[tuple[int, str | None]]:
    return [(epoch.marker.index, epoch.reason) for epoch in epochs]


def test_a_window_comes_with_the_block_that_completes_it_and_not_before() -> None:
    hub, reader = streaming()
    windows = reader.windows(-0.010, 0.030, timeout=0)
    hub.block(20, (mark(12),))
    hub.block(20)
    assert drain(windows) == []  # [2, 42) has 40 of its rows
    hub.block(20)
    (epoch,) = drain(windows)
    assert (epoch.marker.index, epoch.start, epoch.stop, epoch.reason) == (12, 2, 42, None)
    np.testing.assert_array_equal(epoch.samples, hub.expected(2, 42, 2))
    np.testing.assert_allclose(epoch.times, np.arange(-10, 30) / 1000)
    assert epoch.segment == reader.start_msg
    assert drain(windows) == []


def test_windows_come_in_index_order_history_first_then_live() -> None:
    hub, reader = streaming()
    hub.block(20, (mark(15), mark(3)))
    hub.block(20, (mark(-25), mark(40)))  # before its block, and after it
    windows = reader.windows(-0.002, 0.002, start="oldest", timeout=0)
    hub.block(20, (mark(0),))
    assert known(drain(windows)) == [(3, None), (15, None), (40, None)]
    hub.block(20)
    hub.block(20, (mark(-71, "late"), mark(5)))
    assert known(drain(windows)) == [(60, None), (9, None), (85, None)]


def test_a_marker_before_the_first_sample_wanted_is_not_told() -> None:
    hub, reader = streaming()
    hub.block(20, (mark(3), mark(10)))
    windows = reader.windows(0, 0.001, start=10, timeout=0)
    hub.block(20, (mark(-11), mark(-10)))
    assert known(drain(windows)) == [(10, None), (10, None)]


def test_live_takes_what_comes_from_now_on_also_if_it_stands_before() -> None:
    hub, reader = streaming()
    hub.block(20, (mark(3), mark(30, "still to come")))
    windows = reader.windows(0, 0.001, timeout=0)
    hub.block(20, (mark(-10, "late"),))
    assert [epoch.marker.description for epoch in drain(windows)] == ["late", "still to come"]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, [0, 1, 2, 3]),
        ({"type": "Stimulus"}, [0, 1]),
        ({"description": "S  1"}, [0, 2]),
        ({"type": "Stimulus", "description": ["S  1", "S  2"]}, [0, 1]),
        ({"type": {"Stimulus", "Response"}, "description": "S  2"}, [1, 3]),
        ({"type": []}, []),
    ],
)
def test_only_the_markers_asked_for_are_told(wanted: dict[str, Any], found: list[int]) -> None:
    hub, reader = streaming()
    here, there = (reader.windows(0, 0.001, start=start, timeout=0, **wanted) for start in (0, "live"))
    kinds = [(kind, text) for kind in ("Stimulus", "Response") for text in ("S  1", "S  2")]
    hub.block(20, tuple(mark(at, text, kind) for at, (kind, text) in enumerate(kinds)))
    past = reader.windows(0, 0.001, start=0, timeout=0, **wanted)
    for windows in (here, there, past):
        assert [epoch.marker.index for epoch in drain(windows)] == found


def test_a_gap_inside_is_nan_and_listed() -> None:
    hub, reader = streaming()
    hub.block(20)
    hub.block(20, (mark(-10),))  # at 10
    hub.block(20)
    hub.block(20, skip_blocks=2)
    windows = reader.windows(0, 0.1, start=0, timeout=0)
    (epoch,) = drain(windows)
    assert epoch.gaps == (Gap(60, 100, "counter"),)
    assert epoch.samples is not None
    assert np.isnan(epoch.samples[50:90]).all()
    np.testing.assert_array_equal(epoch.samples, hub.expected(10, 110, 2))


def test_a_window_beyond_its_segment_has_no_samples_and_says_so() -> None:
    hub, reader = streaming(n_channels=2)
    windows = reader.windows(-0.005, 0.010, start=0, timeout=0)
    hub.block(20, (mark(4), mark(5), mark(10), mark(11), mark(25, "of the next segment")))
    hub.stop()
    assert known(drain(windows)) == [
        (4, "segment_start"), (5, None), (10, None), (11, "segment_end"),
    ]  # fmt: skip
    hub.start(3)
    hub.block(20, (mark(4),))
    (epoch, other) = drain(windows)
    assert known([epoch, other]) == [(24, "segment_start"), (25, None)]
    np.testing.assert_array_equal(other.samples, hub.expected(20, 35, 3))


def test_what_history_no_longer_holds_is_told_as_overwritten() -> None:
    hub, reader = streaming(window_rows=100)
    windows = reader.windows(-0.005, 0.010, timeout=0)
    reader.asleep = True
    for at in (5, 6):
        hub.block(20, (mark(at),))
    for _ in range(60):
        hub.block(20)
    hub.block(20, (mark(0),))
    reader.asleep = False
    hub.beat()
    epochs = drain(windows)
    assert [epoch.marker.index for epoch in epochs if epoch.reason is None] == [1240]
    assert {epoch.reason for epoch in epochs if epoch.marker.index < 100} <= {"overwritten"}


def test_markers_that_were_waiting_when_the_hub_restarted_are_told_first() -> None:
    hub, reader = streaming()
    windows = reader.windows(-0.005, 0.030, start="oldest", timeout=0)
    hub.block(20, (mark(3), mark(6)))
    assert known(drain(windows)) == [(3, "segment_start")]
    hub.restart(goodbye=False)
    hub.start(2)
    hub.block(50, (mark(10),))
    epochs = drain(windows)
    assert known(epochs) == [(6, "hub_restart"), (10, None)]
    np.testing.assert_array_equal(epochs[1].samples, hub.expected(5, 40, 2))


def test_markers_known_but_not_yet_waited_for_when_the_hub_restarted_are_told_too() -> None:
    hub, reader = streaming()
    windows = reader.windows(-0.005, 0.030, start="oldest", timeout=0)
    hub.block(20, (mark(8),))
    assert [each.index for each in reader.markers(0, 100)] == [8]  # by a call that is not `next(windows)`
    hub.restart(goodbye=False)
    hub.start(2)
    hub.block(50, (mark(10),))
    assert [each.index for each in reader.markers(0, 100)] == [10]
    assert known(drain(windows)) == [(8, "hub_restart"), (10, None)]


def test_markers_of_a_hub_that_came_and_went_between_two_windows_are_told() -> None:
    hub, reader = streaming()
    windows = reader.windows(-0.005, 0.030, start="oldest", timeout=0)
    hub.block(20, (mark(8),))
    assert reader.last_sample == 20  # by a call that is not `next(windows)`
    for index in (11, 12):
        hub.restart(goodbye=False)
        hub.start(2)
        hub.block(50, (mark(index),))
        assert reader.last_sample == 50
    assert known(drain(windows)) == [(8, "hub_restart"), (11, "hub_restart"), (12, None)]


def test_after_a_restart_no_marker_is_forgotten_before_it_is_told() -> None:
    hub, reader = streaming(window_rows=100)
    windows = reader.windows(-0.005, 0.030, start="oldest", timeout=0)
    for _ in range(20):
        hub.block(20, (mark(1),))
    assert len(drain(windows)) == 19  # one is not complete, and the journal is looked at up to here
    hub.restart(goodbye=True)
    hub.start(2)
    for _ in range(60):  # more than history and window hold, taken in by other calls
        hub.block(20, (mark(1),))
        hub.beat()
        reader.last_sample  # noqa: B018
    epochs = drain(windows)
    assert known(epochs[:1]) == [(381, "hub_restart")]
    assert [epoch.marker.index for epoch in epochs[1:]] == list(
        range(1, 1181, 20)
    )  # the last is not complete
    assert {epoch.reason for epoch in epochs[1:]} == {"segment_start", "overwritten", None}


def test_a_window_without_rows_has_the_channels_of_its_segment() -> None:
    hub, reader = streaming(n_channels=2)
    hub.block(20, (mark(3),))
    hub.stop()
    hub.start(5)
    hub.block(20)
    (epoch,) = drain(reader.windows(0, 0.0004, start=0, timeout=0))
    assert epoch.samples is not None
    assert epoch.samples.shape == (0, 2)


def test_epochs_are_the_callers_to_keep() -> None:
    hub, reader = streaming(window_rows=100)
    windows = reader.windows(0, 0.010, timeout=0)
    hub.block(20, (mark(0),))
    (epoch,) = drain(windows)
    hub.block(20, (mark(0),))
    for _ in range(20):
        hub.block(20)
    reader.last_sample  # noqa: B018 - takes it in
    (other,) = drain(windows)  # fetched, for the window has come round
    for each, at in ((epoch, 0), (other, 20)):
        assert each.samples is not None
        np.testing.assert_array_equal(each.samples, hub.expected(at, at + 10, 2))
        samples = each.samples
        samples -= samples.mean(axis=0)


def test_a_hub_that_is_away_for_a_while_is_waited_for() -> None:
    hub, reader = streaming()
    windows = reader.windows(0, 0.020, timeout=0)
    reader.asleep = True
    hub.block(20, (mark(4),))
    hub.block(20)
    reader.asleep = False
    reader.deaf = True
    hub.beat()
    assert drain(windows) == []
    reader.deaf = False
    hub.beat()
    assert known(drain(windows)) == [(4, None)]


def test_window_gives_the_samples_around_one_marker() -> None:
    hub, reader = streaming()
    hub.block(20, (mark(9), mark(15)))
    first, second = reader.markers(0, 100)
    assert reader.window(second, -0.009, 0.010, timeout=0) is None
    hub.block(20, (mark(-19),))  # before both, and nobody asked for it
    np.testing.assert_array_equal(reader.window(second, -0.009, 0.010, timeout=0), hub.expected(6, 25, 2))
    np.testing.assert_array_equal(reader.window(first, -0.009, 0.010, timeout=0), hub.expected(0, 19, 2))


def test_window_gives_none_at_once_when_it_can_never_come() -> None:
    hub, reader = streaming()
    hub.block(20, (mark(9), mark(15)))
    first, last = reader.markers(0, 100)
    hub.stop()
    hub.start(2)
    hub.block(20)
    # Without a time-out: to wait for anything fails in `LossyReader`.
    assert reader.window(first, -0.010, 0, timeout=None) is None
    assert reader.window(last, 0, 0.010, timeout=None) is None
    assert reader.window(last, 0.010, 0.020, timeout=None) is None  # wholly in the next segment
    hub.block(20, (mark(0),))
    (new,) = reader.markers(40, 100)
    hub.restart(goodbye=True)
    hub.start(2)
    hub.block(100)
    assert reader.window(new, 0, 0.030, timeout=None) is None  # the rest never came


@pytest.mark.parametrize(("tmin", "tmax"), [(0.1, 0.1), (0.1, -0.1), (float("nan"), 1), (0, float("inf"))])
def test_a_window_without_samples_or_end_is_a_mistake(tmin: float, tmax: float) -> None:
    hub, reader = streaming()
    hub.block(20, (mark(9),))
    with pytest.raises(BadRange, match="tmin < tmax"):
        reader.windows(tmin, tmax)
    with pytest.raises(BadRange, match="tmin < tmax"):
        reader.window(reader.markers(0, 20)[0], tmin, tmax)


def test_windows_want_a_start_that_exists_and_a_stream() -> None:
    _, reader = streaming()
    for start in ("newest", -1, 1.5):
        with pytest.raises(BadRange, match="start"):
            reader.windows(0, 1, start=start)  # type: ignore[arg-type]
    reader.disconnect()
    with pytest.raises(NotStreaming):
        reader.windows(0, 1)


@pytest.mark.parametrize("seed", range(40))
def test_every_marker_is_told_once_whatever_is_lost_on_the_way(seed: int) -> None:
    chance = random.Random(seed)
    hub = FakeHub(history_rows=600)
    reader = LossyReader(
        hub, chance, loss=chance.choice((0.0, 0.2, 0.6)), window_rows=chance.choice((50, 300))
    )
    hub.start(2)
    reader.start()
    windows = reader.windows(-0.013, 0.047, timeout=0)
    made: list[Marker] = []
    told: list[Epoch] = []
    channels = 2
    for _ in range(80):
        broker = hub.broker
        match chance.randrange(12):
            case 0:
                hub.stop()
                channels = chance.randrange(1, 4)
                hub.start(channels)
            case 1:
                marker = Marker(broker.next_index + chance.randrange(-40, 40), 1, -1, "Comment", "",
                                injected=True, block=broker.next_index)  # fmt: skip
                made.append(marker)
                hub.publish(broker.insert(marker))
            case 2 if broker.counters.blocks and chance.random() < 0.5:
                hub.block(20, skip_blocks=0)
                hub.block(20)
                hub.block(20, skip_blocks=1)
            case 3:
                hub.beat()
            case 4:
                told += drain(windows)
            case _:
                positions = [chance.randrange(-60, 60) for _ in range(chance.choice((0, 0, 1, 3)))]
                made += [Marker(broker.next_index + at, 1, -1, "Stimulus", "S  1") for at in positions]
                hub.block(20, tuple(mark(at) for at in positions))
        if chance.random() < 0.1:
            reader.asleep = not reader.asleep
    reader.asleep, reader.loss = False, 0.0
    hub.stop()
    hub.beat()
    told += drain(windows)
    end, first = hub.broker.next_index, hub.broker.first_available
    key = lambda marker: (marker.index, marker.type)  # noqa: E731 - read once
    lost = {gap for epoch in told for gap in epoch.gaps if gap.reason == "overwritten"}
    expected = sorted((each for each in made if each.index < end), key=key)
    found = sorted((epoch.marker for epoch in told), key=key)
    missing = [each for each in expected if each not in found]
    assert [each for each in found if each not in expected] == []
    assert len(found) + len(missing) == len(expected)
    # Records that the hub itself has forgotten cannot be told: it forgets them with their samples.
    assert all(each.index < first for each in missing), (missing, lost)
    for epoch in told:
        if epoch.samples is None:
            segment = epoch.segment
            assert epoch.reason in {"segment_start", "segment_end", "overwritten"}
            if epoch.reason == "overwritten":
                assert epoch.start < first
            elif segment is not None and epoch.reason == "segment_start":
                assert epoch.start < segment.start
            elif segment is not None:
                assert segment.stop is not None
                assert epoch.stop > segment.stop
            continue
        assert epoch.segment is not None
        assert (epoch.start, epoch.stop) == (epoch.marker.index - 13, epoch.marker.index + 47)
        assert epoch.samples.shape == (60, epoch.segment.n_channels)
        np.testing.assert_array_equal(
            epoch.samples, hub.expected(epoch.start, epoch.stop, epoch.segment.n_channels)
        )
        nan = {index for gap in epoch.gaps for index in range(gap.start, gap.stop)}
        rows = np.flatnonzero(np.isnan(epoch.samples).any(axis=1)) + epoch.start
        assert set(rows.tolist()) == nan.intersection(range(epoch.start, epoch.stop))


# --- inserting: what the hub's answers mean ---------------------------------------------------------------


class Answered(LossyReader):
    """A reader whose next questions are answered as the test says."""

    answer: dict[str, Any] | None = None

    def _ask(self, request: Any, deadline: float | None, patience: float) -> Reply:
        if request.op != "mark":
            return super()._ask(request, deadline, patience)
        if self.answer is None:
            raise HubLost("no answer to 'mark' in time")
        return Reply(1, self.answer, np.empty((0, 0), np.float32))


def test_a_hub_older_than_markers_is_named_as_such() -> None:
    hub = FakeHub()
    reader = Answered(hub, random.Random(0))
    held = {"instance": "life-0", "first_available": 0, "next_index": 0}
    reader.answer = {"ok": False, "error": "BAD_REQUEST", "message": "request: unknown op", **held}
    with pytest.raises(RequestRefused, match="older than this client") as caught:
        reader.insert_marker("x")
    assert caught.value.code == "BAD_REQUEST"


def test_a_lost_answer_says_that_nobody_knows() -> None:
    reader = Answered(FakeHub(), random.Random(0))
    with pytest.raises(HubLost, match="whether the marker is in the recording is not known"):
        reader.insert_marker("x")


def test_an_index_needs_an_instance_that_it_is_of() -> None:
    reader = Answered(FakeHub(), random.Random(0))
    with pytest.raises(NotStreaming):
        reader.insert_marker("x", index=3)


@pytest.mark.parametrize("index", [-1, 2**63])
def test_an_index_that_cannot_be_is_refused_before_it_is_sent(index: int) -> None:
    _, reader = streaming()
    with pytest.raises(BadRange, match=f"{index} is none"):
        reader.insert_marker("x", index=index)


@pytest.mark.parametrize(
    ("description", "more", "what"),
    [
        ("x" * 201, {}, "description"),
        ("two\nlines", {}, "description"),
        ("bell\a", {}, "description"),
        (7, {}, "description"),
        ("", {"type": ""}, "type"),
        ("", {"type": "x" * 51}, "type"),
        ("", {"points": -1}, "points"),
        ("", {"points": 2**31}, "points"),
        ("", {"channel": -2}, "channel"),
    ],
)
def test_what_cannot_be_a_marker_is_refused_before_it_is_sent(
    description: Any, more: dict[str, Any], what: str
) -> None:
    reader = Answered(FakeHub(), random.Random(0))
    with pytest.raises(ValueError, match=what):
        reader.insert_marker(description, **more)
