"""The checker believes an honest witness and convicts every liar.

Rule: one story of a source, told by a perfect hub to a witness; each test changes one thing in what was told.
"""

from __future__ import annotations

import copy
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checker import Checker, Verdict
from source import truth

Log = list[dict[str, Any]]
HISTORY, RATE, BLOCK = 10.0, 1000.0, 20


class Story:
    """What a source sent and what a perfect hub told of it, both growing together."""

    def __init__(self) -> None:
        self.source: Log = []
        self.told: Log = [self.at(what="open", start="oldest", index=0, instance="i")]
        self.samples = b""
        self.faults: Log = []
        self.index = self.row = self.number = self.acquisition = self.channels = 0
        self._segment_start = self._markers = self._hole = 0

    def at(self, **entry: Any) -> dict[str, Any]:
        """A moment after the last."""
        self.t = getattr(self, "t", 100.0) + 0.02
        return {"t": self.t, **entry}

    def tell(self, **entry: Any) -> None:
        self.told.append(self.at(instance="i", **entry))

    def start(self, channels: int = 2) -> None:
        self.acquisition += 1
        self.channels, self.row = channels, 0
        layout = {"channels": channels, "interval": 1e6 / RATE, "resolution": 0.5}
        self.source.append(self.at(what="start", connection=1, acquisition=self.acquisition, **layout))
        self._begin()

    def _begin(self) -> None:
        self._segment_start = self.index
        names = [f"A{self.acquisition}-{k}" for k in range(self.channels)]
        self.tell(
            what="start", number=self.number, start=self.index, interval=1e6 / RATE,
            resolutions=[0.5] * self.channels, names=names,
        )  # fmt: skip

    def blocks(self, count: int, n: int = BLOCK) -> None:
        for _ in range(count):
            self._markers += 1
            sent: list[Any] = [-3, 1, -1, "Stimulus", f"m{self._markers}"]
            self.source.append(
                self.at(what="block", acquisition=self.acquisition, row=self.row, n=n, markers=[sent])
            )
            if self._hole:
                self.tell(what="gap", start=self.index, stop=self.index + self._hole, reason="counter")
                self.index, self._hole = self.index + self._hole, 0
            data = (truth(self.acquisition, np.arange(self.row, self.row + n), self.channels) / 2).tobytes()
            marker = [self.index + sent[0], *sent[1:], self.index]
            self.tell(
                what="block", start=self.index, stop=self.index + n, shape=[n, self.channels],
                offset=len(self.samples), crc=zlib.crc32(data), markers=[marker],
            )  # fmt: skip
            self.samples += data
            self.row += n
            self.index += n

    def skip(self, blocks: int) -> None:
        """As the source says it; what was lost is told with the next block."""
        self._hole = blocks * BLOCK
        self.source.append(self.at(what="skip", acquisition=self.acquisition, row=self.row, n=self._hole))
        self.row += self._hole

    def stop(self, reason: str = "stop") -> None:
        how = {"stop": {"what": "stop"}, "lost": {"what": "close", "how": "hang up"}}.get(reason)
        if how:
            self.source.append(self.at(acquisition=self.acquisition, **how))
        self.tell(
            what="end", number=self.number, start=self._segment_start, stop=self.index, reason=reason,
            name=f"A{self.acquisition}-0",
        )  # fmt: skip
        self.number += 1


@pytest.fixture
def story() -> Story:
    """Two parts with a gap in the first, a hole too large for one, a hang-up, another layout."""
    made = Story()
    made.start()
    made.blocks(5)
    made.skip(2)
    made.blocks(5)
    made.skip(3000)
    made._hole = 0
    made.stop("counter")
    made._begin()
    made.blocks(4)
    made.stop("stop")
    made.start(channels=3)
    made.blocks(3)
    made.stop("lost")
    made.start(channels=3)
    made.blocks(3)
    made.stop("stop")
    return made


def verdict(story: Story, folder: Path, *liars: Log) -> Verdict:
    """On one witness, or several of one hub."""
    checker = Checker(story.source, story.faults, HISTORY)
    samples = folder / "samples"
    samples.write_bytes(story.samples)
    for k, told in enumerate(liars or (story.told,)):
        checker.add(f"w{k}", told, samples)
    return checker.judge()


def blocks_of(told: Log) -> list[int]:
    return [k for k, entry in enumerate(told) if entry["what"] == "block"]


def test_an_honest_witness_is_believed_and_everything_it_showed_is_counted(
    story: Story, tmp_path: Path
) -> None:
    found = verdict(story, tmp_path)
    assert found.errors == []
    assert (found.streams, found.rows, found.markers) == (1, 20 * BLOCK, 20)
    assert found.gaps == {"counter": 1}
    assert found.ends == {"counter": 1, "stop": 2, "lost": 1}


def test_a_witness_that_joined_late_is_believed(story: Story, tmp_path: Path) -> None:
    third = blocks_of(story.told)[2]
    index = story.told[third]["start"]
    told = [{**story.told[0], "index": index, "start": index}, story.told[1], *story.told[third:]]
    assert verdict(story, tmp_path, story.told, told).errors == []


def _lose_block(story: Story) -> None:
    del story.told[blocks_of(story.told)[3]]


def _lose_last_block(story: Story) -> None:
    last = blocks_of(story.told)[-1]
    story.told[last + 1]["stop"] -= BLOCK
    del story.told[last]


def _repeat_block(story: Story) -> None:
    at = blocks_of(story.told)[3]
    story.told.insert(at, story.told[at])


def _swap_blocks(story: Story) -> None:
    a, b = blocks_of(story.told)[2:4]
    story.told[a], story.told[b] = story.told[b], story.told[a]


def _rewrite(story: Story, k: int, change: Callable[[np.ndarray], object]) -> None:
    """Change samples and the witness's own check sum with them."""
    entry = story.told[blocks_of(story.told)[k]]
    rows, channels = entry["shape"]
    a, b = entry["offset"], entry["offset"] + 4 * rows * channels
    samples = np.frombuffer(story.samples[a:b], np.float32).reshape(rows, channels).copy()
    change(samples)
    story.samples = story.samples[:a] + samples.tobytes() + story.samples[b:]
    entry["crc"] = zlib.crc32(samples.tobytes())


def _shift_samples(story: Story) -> None:
    _rewrite(story, 4, lambda samples: samples.__setitem__(slice(None), np.roll(samples, 1, axis=0)))


def _change_one_value_by_one_bit(story: Story) -> None:
    _rewrite(
        story, 4, lambda samples: samples.view(np.uint32).__ixor__(np.eye(*samples.shape, dtype=np.uint32))
    )


def _fill_with_nan(story: Story) -> None:
    _rewrite(story, 4, lambda samples: samples.fill(np.nan))


def _say_gap(reason: str) -> Callable[[Story], None]:
    def lie(story: Story) -> None:
        at = blocks_of(story.told)[3]
        story.told[at] = {**story.told[at], "what": "gap", "reason": reason}

    return lie


def _hide_gap(story: Story) -> None:
    story.told.remove(next(entry for entry in story.told if entry["what"] == "gap"))


def _lengthen_gap(story: Story) -> None:
    gap = next(k for k, entry in enumerate(story.told) if entry["what"] == "gap")
    story.told[gap]["stop"] += BLOCK
    del story.told[gap + 1]


def _lose_marker(story: Story) -> None:
    story.told[blocks_of(story.told)[5]]["markers"] = []


def _shift_marker(story: Story) -> None:
    story.told[blocks_of(story.told)[5]]["markers"][0][0] += 1


def _tell_marker_twice(story: Story) -> None:
    story.told[blocks_of(story.told)[5]]["markers"] *= 2


def _invent_marker(story: Story) -> None:
    story.told[blocks_of(story.told)[5]]["markers"] += [[104, 1, -1, "Stimulus", "never", 100]]


def _tell_marker_with_another_block(story: Story) -> None:
    a, b = blocks_of(story.told)[5:7]
    story.told[b]["markers"] += story.told[a]["markers"]
    story.told[a]["markers"] = []


def _end_of(story: Story, k: int) -> dict[str, Any]:
    return [entry for entry in story.told if entry["what"] == "end"][k]


def _end_for_no_reason(story: Story) -> None:
    _end_of(story, 1)["reason"] = "lost"


def _restart_of_a_living_hub(story: Story) -> None:
    _end_of(story, 1)["reason"] = "hub_restart"


def _leave_out_segment(story: Story) -> None:
    starts = [k for k, entry in enumerate(story.told) if entry["what"] == "start"]
    rows = story.told[starts[2]]["start"] - story.told[starts[1]]["start"]
    del story.told[starts[1] : starts[2]]
    for entry in story.told[starts[1] :]:
        for name in ("start", "stop"):
            if name in entry:
                entry[name] -= rows


def _error(story: Story) -> None:
    story.told.append(story.at(what="error", text="WireError: a page"))


def _another_layout(story: Story) -> None:
    story.told[1]["interval"] = 500.0


def _unknown_acquisition(story: Story) -> None:
    story.told[1]["names"] = ["A99-0", "A99-1"]


@pytest.mark.parametrize(
    ("lie", "charge"),
    [
        (_lose_block, "lost in silence"),
        (_lose_last_block, "where the source sent"),
        (_repeat_block, "repeated or reordered"),
        (_swap_blocks, "lost in silence"),
        (_shift_samples, "20 wrong rows"),
        (_change_one_value_by_one_bit, "2 wrong rows"),
        (_fill_with_nan, "20 wrong rows"),
        (_say_gap("counter"), "a gap where the source lost nothing"),
        (_say_gap("overwritten"), "but the hub held all from 0 on"),
        (_say_gap("hub_restart"), "a hub that was never killed"),
        (_say_gap("weather"), "no known reason"),
        (_hide_gap, "lost in silence"),
        (_lengthen_gap, "a gap where the source lost nothing"),
        (_lose_marker, "m6 of block 140 was lost"),
        (_shift_marker, "m6 is not as sent"),
        (_tell_marker_twice, "m6 was told twice"),
        (_invent_marker, "never that the source|the source never sent there"),
        (_tell_marker_with_another_block, "came with another"),
        (_end_for_no_reason, r"\(lost\) where the source sent"),
        (_restart_of_a_living_hub, "never killed"),
        (_leave_out_segment, "never sent|segment 2 after segment 0"),
        (_error, "only events may come"),
        (_another_layout, "another rate"),
        (_unknown_acquisition, "layout that the source never sent"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_planted_lie_is_convicted(
    story: Story, tmp_path: Path, lie: Callable[[Story], None], charge: str
) -> None:
    lie(story)
    errors = verdict(story, tmp_path).errors
    assert any(re.search(charge, error) for error in errors), errors


def test_two_witnesses_that_tell_different_segments_are_convicted(story: Story, tmp_path: Path) -> None:
    other = copy.deepcopy(story.told)
    for entry in other:
        if entry["what"] == "end" and entry["number"] == 1:
            entry["reason"] = "restart"
    assert any("others were told" in error for error in verdict(story, tmp_path, story.told, other).errors)


def test_an_acquisition_that_nobody_was_told_of_is_convicted(story: Story, tmp_path: Path) -> None:
    end = _end_of(story, 2)
    told = [entry for entry in story.told if entry["t"] <= end["t"]]
    assert any(
        "rows must have arrived, 0 were seen" in error for error in verdict(story, tmp_path, told).errors
    )


def overwritten(story: Story) -> Log:
    """As told to a witness that slept for longer than the history, after six seconds."""
    end = story.told[-1]["t"]
    first = blocks_of(story.told)[300]
    lost = story.told[first + 1]
    late = [story.at(**{k: v for k, v in entry.items() if k != "t"}) for entry in story.told[first + 2 :]]
    gap = {**lost, "what": "gap", "reason": "overwritten", "t": end}
    return [*story.told[: first + 1], gap, *late]


@pytest.mark.parametrize("asleep", [True, False])
def test_overwritten_needs_a_cause(tmp_path: Path, asleep: bool) -> None:
    story = Story()
    story.start()
    story.blocks(900)  # 18 s
    story.stop()
    told = overwritten(story)
    if asleep:
        story.faults.append(
            {"fault": "client stop", "target": "w0", "t0": story.told[300]["t"], "t1": story.t}
        )
    errors = verdict(story, tmp_path, told, story.told).errors
    assert (errors == []) if asleep else any("nothing held up" in error for error in errors)


def test_a_segment_may_end_early_only_if_something_cut_the_line(story: Story, tmp_path: Path) -> None:
    last = blocks_of(story.told)[-1]
    story.told[last + 1].update(stop=story.told[last]["start"], reason="lost")
    del story.told[last]
    assert verdict(story, tmp_path).errors != []
    story.faults.append({"fault": "recorder cut", "target": "recorder", "t0": story.t, "t1": story.t})
    assert verdict(story, tmp_path).errors == []
    story.told[-1]["stop"] -= 1  # not inside a block, though
    story.told[-2]["stop"] -= 1
    assert verdict(story, tmp_path).errors != []
