"""Which inserted markers a hub takes, and how many; real broker, no sockets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rdahub import limits, rda
from rdahub.broker import Broker
from rdahub.insertions import Insertions, Refused
from rdahub.rings import History
from rdahub_client.records import Marker
from rdahub_client.ring import SEQ, Ring
from rdahub_client.wire import MARKERS, SEGMENT, MarkRequest, Records, decode

ROWS = 100


def ring(n_channels: int, _rows: int, start: int) -> Ring:
    return Ring(np.zeros((2 * ROWS, n_channels), np.float32), start, mirrored=False)


class Recording:
    """A broker of two channels at 1 kHz, and its insertions."""

    def __init__(self) -> None:
        self.broker = Broker("instance", History(0.1, 1 << 30), ring)
        self.insertions = Insertions(self.broker)
        self.counter = 0

    def start(self) -> None:
        self.broker.begin(rda.Start(1000.0, (1.0, 1.0), ("a", "b")))

    def block(self, n: int = 20) -> None:
        self.counter += 1
        self.broker.extend(rda.Data(self.counter, np.zeros((n, 2), np.float32), ()), 1, 2)
        self.broker.prune(0.0)

    def insert(self, number: int, **more: Any) -> tuple[int, Marker, list[bytes]]:
        request = MarkRequest(**{"token": f"{number:016}", "type": "Comment", "description": "x", **more})
        return self.insertions.insert(request)

    def refusal(self, number: int, **more: Any) -> str:
        before = self.broker.journal.next_seq, self.broker.counters.inserted_markers
        with pytest.raises(Refused) as caught:
            self.insert(number, **more)
        assert (self.broker.journal.next_seq, self.broker.counters.inserted_markers) == before
        return caught.value.code


@pytest.fixture
def recording() -> Recording:
    made = Recording()
    made.start()
    made.block()
    return made


def test_a_marker_is_journaled_numbered_counted_and_published_to_all(recording: Recording) -> None:
    seq, marker, frames = recording.insert(1, index=3, points=2, channel=1)
    assert marker == Marker(3, 2, 1, "Comment", "x", injected=True)
    assert (seq, marker.block) == (1, 20)  # after the segment's start
    assert recording.broker.journal.since(seq, 10) == (seq, [marker])
    assert recording.broker.counters.inserted_markers == 1
    assert recording.broker.counters.markers == 0
    assert [frame[:1] for frame in frames] == [SEGMENT, MARKERS]
    assert all(decode(frame) == Records("instance", seq, [marker]) for frame in frames)
    kept = recording.broker.ring
    assert kept is not None
    assert kept._marks[SEQ] == seq + 1  # readers on this machine see it by that


def test_the_same_token_is_the_same_marker(recording: Recording) -> None:
    seq, marker, _ = recording.insert(1)
    recording.block()
    assert recording.insert(1) == (seq, marker, [])
    assert recording.insert(1, description="other", index=5) == (seq, marker, [])
    assert recording.insert(2)[1].index == 40
    assert recording.broker.counters.inserted_markers == 2


def test_it_stands_in_the_history_or_soon(recording: Recording) -> None:
    for _ in range(10):
        recording.block()
    first, stop = recording.broker.first_available, recording.broker.next_index
    assert (first, stop) == (120, 220)
    ahead = int(limits.MARK_AHEAD_SECONDS * 1000)
    assert recording.refusal(1, index=first - 1) == "OUT_OF_RANGE_OLD"
    assert recording.refusal(1, index=stop + ahead + 1) == "OUT_OF_RANGE_FUTURE"
    for number, index in enumerate((first, stop - 1, stop, stop + ahead)):
        assert recording.insert(number, index=index)[1].index == index


def test_what_is_no_marker_of_this_recording_is_refused(recording: Recording) -> None:
    assert recording.refusal(1, channel=2) == "BAD_MARKER"
    for text in ("two\nlines", "\x1b[2J", "\u2028"):
        assert recording.refusal(1, description=text) == "BAD_MARKER"
        assert recording.refusal(1, type=text) == "BAD_MARKER"
    assert Recording().refusal(1) == "NO_STREAM"


def test_a_channel_is_one_of_the_segment_that_the_marker_stands_in(recording: Recording) -> None:
    recording.broker.begin(rda.Start(1000.0, (1.0,) * 3, ("a", "b", "c")))
    assert recording.refusal(1, channel=2, index=19) == "BAD_MARKER"
    assert recording.insert(1, channel=2, index=20)[1].channel == 2
    recording.broker.end("stop")
    assert recording.insert(2, channel=2)[1].channel == 2  # of the newest, while there is no other
    recording.broker.begin(rda.Start(1000.0, (1.0,), ("a",)))
    assert recording.insert(3, channel=1, index=19)[1].channel == 1
    assert recording.refusal(4, channel=1) == "BAD_MARKER"


def test_no_more_are_kept_than_may_be_and_old_ones_make_room(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MARKS", 5)
    for number in range(5):
        recording.insert(number)
    assert recording.refusal(5) == "TOO_MANY_MARKERS"
    assert recording.insert(3)[2] == []  # a repetition is no new one
    while recording.broker.journal.first_seq <= 5:
        assert recording.refusal(5) == "TOO_MANY_MARKERS"
        recording.block()
    for number in range(5, 10):
        recording.insert(number)
    assert recording.refusal(10) == "TOO_MANY_MARKERS"
    assert len(recording.insertions._made) == 5


def test_in_a_long_history_there_is_room_for_more_markers_after_a_while(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MARKS", 5)
    for number in range(5):
        recording.insert(number)
    assert recording.refusal(5) == "TOO_MANY_MARKERS"
    recording.block()
    segment = recording.broker.segment
    assert segment is not None
    monkeypatch.setattr(limits, "MARKS_SECONDS", 1 / segment.sfreq)  # shorter than that block
    for number in range(5, 10):
        recording.insert(number)
    assert recording.broker.journal.first_seq <= 1


def test_markers_far_ahead_do_not_make_the_journal_grow_for_ever(recording: Recording) -> None:
    for number in range(200):
        recording.insert(number, index=recording.broker.next_index + 10_000)
        recording.block()
    for _ in range(600):
        recording.block()
    journal = recording.broker.journal
    assert journal.next_seq - journal.first_seq == 0
    assert journal.markers(0, 10**9) == []
