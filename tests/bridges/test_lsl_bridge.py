"""What the bridge pushes for rare turns of events, told by hand; LSL itself is real in test_lsl.py."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from rdahub_client.bridges.lsl import LslBridge
from rdahub_client.errors import HubLost, RequestRefused
from rdahub_client.records import Block, Gap, Marker, Segment, SegmentEnd, SegmentStart

NOTE = "rdahub: "


class Told:
    """A bridge at 100 Hz; `origin` is the time of sample 0, and what was pushed is here."""

    def __init__(self) -> None:
        self.origin = 1000.0
        self.trouble: Exception | None = None
        self.rows: list[float] = []
        self.times: list[float] = []
        self.texts: dict[str, float] = {}
        self.layouts: list[tuple[str, str]] = []
        lsl = SimpleNamespace(
            StreamInfo=self._info, StreamOutlet=self._outlet, local_clock=time.monotonic,
            IRREGULAR_RATE=0.0, cf_float32=1, cf_string=3,
        )  # fmt: skip
        self.bridge = LslBridge(lsl, self._time_of, "x", "id", lambda *names: self.layouts.append(names))
        self.take = self.bridge.take

    def _info(self, *_: Any) -> Any:
        node = SimpleNamespace(append_child_value=lambda *_: None)
        node.append_child = lambda _: node
        return SimpleNamespace(desc=lambda: node)

    def _outlet(self, _: Any) -> Any:
        return SimpleNamespace(push_chunk=self._chunk, push_sample=self._sample)

    def _chunk(self, rows: npt.NDArray[np.float32], times: list[float]) -> None:
        assert len(rows) == len(times)
        self.rows += rows[:, 0].tolist()
        self.times += times

    def _sample(self, row: list[str], when: float) -> None:
        self.texts[row[0]] = when

    def _time_of(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        if self.trouble is not None:
            raise self.trouble
        return self.origin + indices.astype(np.float64) / 100.0

    def begin(self, number: int, start: int) -> None:
        self.take(SegmentStart(segment(number, start)))

    def end(self, number: int, start: int, stop: int, reason: str) -> None:
        self.take(SegmentEnd(segment(number, start, stop), reason))

    def block(self, start: int, stop: int, *markers: tuple[int, str]) -> None:
        rows = np.arange(start, stop, dtype=np.float32)[:, None]
        told = tuple(Marker(index, 1, -1, "Stimulus", text) for index, text in markers)
        self.take(Block(start, stop, rows, told))


def segment(number: int, start: int, stop: int | None = None) -> Segment:
    return Segment(number, start, stop, 1e4, (1.0,), ("Cz",), ("µV",))


@pytest.fixture
def told() -> Told:
    told = Told()
    told.begin(0, 0)
    told.block(0, 100)
    return told


def test_a_marker_of_another_instance_waits_for_its_own_sample(told: Told) -> None:
    told.end(0, 0, 100, "hub_restart")
    told.origin = 1005.0
    told.begin(0, 0)
    told.block(0, 0, (5, "early"))  # sample 5 of the old instance had a time
    assert "early" not in told.texts
    told.block(0, 10)
    assert told.texts["early"] == told.times[-5]


def test_a_short_time_between_segments_is_rows_of_nan(told: Told) -> None:
    told.end(0, 0, 100, "restart")
    told.origin += 1.0
    told.begin(1, 100)
    told.block(100, 120)
    assert np.isnan(told.rows[100:200]).all()
    assert told.rows[200:] == list(range(100, 120))
    assert np.diff(told.times) == pytest.approx(0.01, rel=1e-3)
    assert told.texts[f"{NOTE}segment 0 ended (restart)"] == told.times[99]
    assert told.texts[f"{NOTE}segment 1 begins"] == told.times[200]
    assert len(told.layouts) == 1


def test_a_long_time_between_segments_is_a_jump(told: Told) -> None:
    told.end(0, 0, 100, "stop")
    told.origin += 60.0
    told.begin(1, 100)
    told.block(100, 120)
    assert told.rows == list(range(120))
    assert told.times[100] - told.times[99] == pytest.approx(60.01)


def test_a_gap_that_came_with_a_lost_hub_is_told_and_not_filled(told: Told) -> None:
    told.take(Gap(100, 150, "hub_restart"))
    told.end(0, 0, 150, "hub_restart")
    assert told.rows == list(range(100))
    assert told.texts[f"{NOTE}gap of 50 samples (hub_restart)"] == pytest.approx(told.times[-1] + 0.01)


def test_what_is_lost_of_another_instance_between_segments_is_told_before_its_indices_mean_something_else(
    told: Told,
) -> None:
    told.end(0, 0, 100, "stop")
    told.take(Gap(100, 150, "hub_restart"))
    told.origin = 1005.0
    told.begin(0, 0)
    told.block(0, 120)
    assert told.texts[f"{NOTE}gap of 50 samples (hub_restart)"] == pytest.approx(told.times[99] + 0.01)


def test_samples_whose_time_cannot_be_asked_go_on_by_the_rate(told: Told) -> None:
    told.trouble = HubLost("gone")
    told.block(100, 120)
    assert told.rows == list(range(120))
    assert np.diff(told.times) == pytest.approx(0.01, rel=1e-3)


def test_a_hub_too_old_to_tell_times_is_an_error(told: Told) -> None:
    told.trouble = RequestRefused("the hub does not know 'times'", code="BAD_REQUEST")
    with pytest.raises(RequestRefused):
        told.block(100, 120)
