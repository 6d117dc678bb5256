"""Files that grow: every bit and marker in its place, whatever is cut short, by three readers."""

from __future__ import annotations

import itertools
import os
import random
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import FileIO
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pytest

from rdahub import brainvision
from rdahub.recording import fileset, folder, text
from rdahub.recording.fileset import FileSet, InUse
from rdahub.recording.sequence import Sequence
from rdahub_client import Block, Gap, Marker, Segment, SegmentEnd, SegmentStart
from rdahub_client.records import Event, Float32

BEGAN = datetime(2026, 11, 23, 10, 15, 0, 250_000, UTC)
SEGMENT = Segment(3, 1000, None, 4000.0, (0.1, 0.5), ("Fp1", "Cz"), ("µV", "µV"))


def rows(start: int, stop: int) -> Float32:
    index = np.arange(start, stop, dtype=np.float32)[:, None]
    return (index + np.arange(2, dtype=np.float32) / 8).astype(np.float32)


def block(start: int, stop: int, *markers: Marker) -> Block:
    return Block(start, stop, rows(start, stop), tuple(replace(each, block=start) for each in markers))


def stimulus(index: int, description: str = "S  1", points: int = 1, channel: int = -1) -> Marker:
    return Marker(index, points, channel, "Stimulus", description)


def sequence(path: Path, limit: int | None = None) -> Sequence:
    return Sequence(
        path,
        "lab",
        lambda segment: limit,
        lambda index: BEGAN + timedelta(seconds=(index - 1000) / 250),
        lambda files: None,
    )


def write(path: Path, *events: Event, limit: int | None = None, segment: Segment = SEGMENT) -> Sequence:
    writer = sequence(path, limit)
    for event in (SegmentStart(segment), *events):
        writer.take(event, "instance")
    return writer


def headers(path: Path) -> list[Path]:
    return sorted(path.glob("*.vhdr"))


def read(path: Path) -> tuple[int, Float32, list[Marker]]:
    """First index, samples and markers of a set, without the mark of its beginning."""
    facts = text.facts_of(path.read_text(encoding="utf-8"))
    assert facts is not None
    found = brainvision.read(path)
    assert found.raw.dtype == np.float32
    start = int(facts["start"])
    markers = [Marker(start + m.position, m.points, m.channel, m.type, m.description) for m in found.markers]
    assert markers[0] == Marker(start, 1, -1, "New Segment", "")
    return start, np.asarray(found.raw), markers[1:]


def read_mne(path: Path) -> mne.io.BaseRaw:
    return mne.io.read_raw_brainvision(path, preload=True, verbose="error")


def only(path: Path) -> Path:
    found = headers(path)
    assert len(found) == 1
    return found[0]


# --- what is written is what is read ---------------------------------------------------------------------


def test_every_bit_is_kept(tmp_path: Path) -> None:
    odd = np.array([[np.nan, -0.0], [np.inf, -np.inf], [1e-45, 3.4e38], [2**24 + 2, -1 / 3]], np.float32)
    odd.view(np.uint32)[0, 0] = 0x7FC12345  # a NaN with a message
    write(tmp_path, Block(1000, 1004, odd, ())).end()
    start, samples, markers = read(only(tmp_path))
    assert (start, markers) == (1000, [])
    assert samples.tobytes() == odd.tobytes()
    raw = read_mne(only(tmp_path))
    np.testing.assert_array_equal(raw.get_data().T, odd.astype(np.float64) * 1e-6)
    assert raw.info["sfreq"] == 250.0


def test_files_say_what_they_are(tmp_path: Path) -> None:
    write(tmp_path, block(1500, 1510)).end("segment 3 ended: stop")
    path = only(tmp_path)
    assert path.name == "lab_20261123T101502Z_seg003_000000001500.vhdr"
    assert text.facts_of(path.read_text()) == {
        "name": "lab",
        "instance": "instance",
        "segment": 3,
        "start": 1500,
        "n_channels": 2,
        "ch_names": ["Fp1", "Cz"],
        "amplifier_resolutions": [0.1, 0.5],
    }
    assert "; rdahub: segment 3 ended: stop; index after the last sample here: 1510" in (
        path.with_suffix(".vmrk").read_text()
    )
    assert read_mne(path).info["meas_date"] == BEGAN + timedelta(seconds=2)
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(
        path.with_suffix(suffix).name for suffix in (".eeg", ".vhdr", ".vmrk")
    )


def test_names_and_units_are_the_recorders(tmp_path: Path) -> None:
    names = ("a,b", "Fp1", "Cz [Comment]", "x\r\ny=z;", "Ch1=µ", "mT")
    units = ("µV", "\u03bcV", "nV", "°C", "V", "mV")
    segment = replace(SEGMENT, resolutions=(0.1,) * 6, ch_names=names, units=units)
    write(tmp_path, Block(1000, 1002, np.ones((2, 6), np.float32), ()), segment=segment).end()
    expected = ["a,b", "Fp1", "Cz (Comment)", "x y=z;", "Ch1=µ", "mT"]
    found = brainvision.read(only(tmp_path))
    assert list(found.names) == expected
    assert found.units == ("µV", "µV", "nV", "°C", "V", "mV")
    assert found.resolutions == (1.0,) * 6
    raw = read_mne(only(tmp_path))
    assert raw.ch_names == expected
    np.testing.assert_array_equal(raw.get_data()[:, 0], [1e-6, 1e-6, 1e-9, 1, 1, 1e-3])
    assert raw.get_channel_types() == ["eeg", "eeg", "eeg", "misc", "eeg", "eeg"]


def test_a_name_that_is_there_twice_or_empty_is_told_apart(tmp_path: Path) -> None:
    names = ("Cz", "Cz", "Cz-2", "", " [Comment]", "Cz")
    segment = replace(SEGMENT, resolutions=(0.1,) * 6, ch_names=names, units=("µV",) * 6)
    write(tmp_path, Block(1000, 1002, np.ones((2, 6), np.float32), ()), segment=segment).end()
    told_apart = ["Cz", "Cz-2", "Cz-2-2", "Ch4", "(Comment)", "Cz-3"]
    assert list(brainvision.read(only(tmp_path)).names) == told_apart
    assert read_mne(only(tmp_path)).ch_names == told_apart
    facts = text.facts_of(only(tmp_path).read_text())
    assert facts is not None
    assert tuple(facts["ch_names"]) == names


@pytest.mark.parametrize("interval", [1000.0, 3906.25, 1e6 / 3, 40.0, 1e6])
def test_the_sampling_interval_is_exact(tmp_path: Path, interval: float) -> None:
    write(tmp_path, block(1000, 1010), segment=replace(SEGMENT, sampling_interval_us=interval)).end()
    assert brainvision.read(only(tmp_path)).interval_us == interval


def test_markers_of_every_kind(tmp_path: Path) -> None:
    markers = [
        Marker(1000, 1, -1, "Stimulus", "S  1"),
        Marker(1003, 0, 1, "Comment", "one, two; µ = [x]"),
        Marker(1003, 5, 0, "a,b", "\\ {} %s"),
        Marker(1003, 1, -1, "Stimulus", "S  1"),
        Marker(1003, 1, -1, "Stimulus", "S  1"),
        Marker(1009, 10**6, -1, "", ""),
    ]
    write(tmp_path, block(1000, 1010, *markers)).end()
    assert read(only(tmp_path))[2] == markers
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one is longer than the recording
        described = list(read_mne(only(tmp_path)).annotations.description)
    assert sorted(described) == sorted(f"{m.type}/{m.description}" for m in markers)


def test_the_recorders_new_segment_begins_the_file(tmp_path: Path) -> None:
    write(tmp_path, block(1000, 1010, Marker(1000, 1, -1, "New Segment", ""), stimulus(1004))).end()
    assert read(only(tmp_path))[2] == [stimulus(1004)]
    raw = read_mne(only(tmp_path))
    assert list(raw.annotations.description) == ["Stimulus/S  1"]
    assert raw.info["meas_date"] == BEGAN


def test_the_files_can_be_read_at_any_moment(tmp_path: Path) -> None:
    writer = write(tmp_path, block(1000, 1010, stimulus(1008)), block(1010, 1020, stimulus(1002)))
    samples, markers = read(only(tmp_path))[1:]
    np.testing.assert_array_equal(samples, rows(1000, 1020))
    assert markers == [stimulus(1008), stimulus(1002)]
    assert read_mne(only(tmp_path)).n_times == 20
    writer.end()
    assert read(only(tmp_path))[2] == [stimulus(1002), stimulus(1008)]
    numbers = re.findall(r"^Mk(\d+)=", only(tmp_path).with_suffix(".vmrk").read_text(), re.MULTILINE)
    assert numbers == ["1", "2", "3"]


# --- which sample and marker goes where ------------------------------------------------------------------


def test_files_are_begun_anew_at_an_exact_sample(tmp_path: Path) -> None:
    early = stimulus(1049, "told in the next files")
    late = stimulus(1055, "told in the files before")
    last = stimulus(1121, "told two files before")
    edge = stimulus(1050, "first of its files")
    write(
        tmp_path,
        block(1000, 1047, late, last),
        block(1047, 1120, edge),  # lies in three sets
        block(1120, 1130, early),
        limit=50,
    ).end()
    sets = [read(path) for path in headers(tmp_path)]
    assert [start for start, _, _ in sets] == [1000, 1050, 1100]
    for start, samples, _ in sets:
        np.testing.assert_array_equal(samples, rows(start, min(start + 50, 1130)))
    assert [markers for _, _, markers in sets] == [[early], [edge, late], [last]]


def test_a_set_is_begun_only_for_a_sample(tmp_path: Path) -> None:
    write(tmp_path, block(1000, 1050), limit=50).end()
    assert len(headers(tmp_path)) == 1


def test_a_marker_before_the_first_sample_is_a_comment(tmp_path: Path) -> None:
    write(tmp_path, block(1000, 1010, stimulus(997), stimulus(1001))).end()
    assert read(only(tmp_path))[2] == [stimulus(1001)]
    assert "\n; rdahub: before the first sample: Stimulus,S  1,-2,1,0\n" in (
        only(tmp_path).with_suffix(".vmrk").read_text()
    )
    assert len(read_mne(only(tmp_path)).annotations) == 1


def test_markers_before_any_sample_wait_for_one(tmp_path: Path) -> None:
    writer = write(tmp_path, Block(1000, 1000, rows(0, 0), (stimulus(1003),)))
    assert headers(tmp_path) == []
    writer.take(block(1000, 1010), "instance")
    writer.end()
    assert read(only(tmp_path))[2] == [stimulus(1003)]


def test_a_gap_is_rows_of_nan_and_a_bad_interval(tmp_path: Path) -> None:
    writer = write(tmp_path, block(1000, 1030), Gap(1030, 1070, "counter"), block(1070, 1080), limit=50)
    writer.end()
    assert (writer.totals.samples, writer.totals.missing) == (40, 40)
    (_, first, marks), (start, second, more) = [read(path) for path in headers(tmp_path)]
    assert start == 1050
    missing = np.isnan(np.concatenate([first, second])).all(axis=1)
    assert missing.tolist() == [1030 <= i < 1070 for i in range(1000, 1080)]
    np.testing.assert_array_equal(second[20:], rows(1070, 1080))
    assert marks == [Marker(1030, 20, -1, "Bad Interval", "gap (counter)")]
    assert more == [Marker(1050, 20, -1, "Bad Interval", "gap (counter)")]
    raw = read_mne(headers(tmp_path)[0])
    kept = raw.get_data(reject_by_annotation="omit")
    np.testing.assert_array_equal(kept.T, rows(1000, 1030).astype(np.float64) * 1e-6)


def test_a_hole_too_long_to_fill_in_begins_new_files(tmp_path: Path) -> None:
    behind = 1010 + 250 * 3601
    writer = write(tmp_path, block(1000, 1010), Gap(1010, behind, "overwritten"), block(behind, behind + 5))
    writer.end()
    assert [read(path)[0] for path in headers(tmp_path)] == [1000, behind]
    assert f"samples [1010, {behind}) are missing (overwritten)" in (
        headers(tmp_path)[0].with_suffix(".vmrk").read_text()
    )


def test_a_recording_begins_with_a_sample_not_with_a_gap(tmp_path: Path) -> None:
    write(tmp_path, Gap(1000, 1100, "overwritten"), block(1100, 1110)).end()
    assert read(only(tmp_path))[0] == 1100


def test_every_segment_and_instance_has_its_own_files(tmp_path: Path) -> None:
    writer = write(tmp_path, block(1000, 1010))
    other = Segment(4, 1010, None, 1000.0, (1.0,) * 3, ("x", "y", "z"), ("µV",) * 3)
    for event in (
        SegmentEnd(replace(SEGMENT, stop=1010, ended="stop"), "stop"),
        SegmentStart(other),
        Block(1010, 1012, np.ones((2, 3), np.float32), ()),
        SegmentEnd(replace(other, stop=1012, ended="lost"), "hub_restart"),
    ):
        writer.take(event, "instance")
    for event in (
        SegmentStart(replace(other, number=0, start=0)),
        Block(0, 2, np.ones((2, 3), np.float32), ()),
    ):
        writer.take(event, "another")
    writer.end()
    found = [text.facts_of(path.read_text()) or {} for path in headers(tmp_path)]
    assert sorted((each["instance"], each["segment"], each["start"]) for each in found) == [
        ("another", 0, 0), ("instance", 3, 1000), ("instance", 4, 1010),
    ]  # fmt: skip
    assert writer.totals.sets == 3


def ended(segment: Segment, stop: int) -> SegmentEnd:
    return SegmentEnd(replace(segment, stop=stop, ended="stop"), "stop")


NEXT = replace(SEGMENT, number=4, start=1010)


def test_a_marker_on_a_sample_of_the_segment_before_is_in_its_files(tmp_path: Path) -> None:
    writer = write(tmp_path, block(1000, 1010), ended(SEGMENT, 1010), SegmentStart(NEXT))
    writer.take(block(1010, 1020, stimulus(1005), stimulus(1012)), "instance")
    writer.end()
    assert [read(path)[2] for path in headers(tmp_path)] == [[stimulus(1005)], [stimulus(1012)]]


AHEAD = "\n; rdahub: after the last sample: Stimulus,S  1,11,1,0\n"


def test_a_marker_on_the_sample_after_the_last_is_a_comment(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, block(1000, 1010, stimulus(1009), stimulus(1010)), ended(SEGMENT, 1010)).end()
    assert read(only(tmp_path))[2] == [stimulus(1009)]
    written = only(tmp_path).with_suffix(".vmrk").read_text()
    assert AHEAD in written
    assert "segment 3 ended: stop" in written
    assert "a marker after the last sample is a comment" in caplog.text
    raw = mne.io.read_raw_brainvision(only(tmp_path), preload=True)  # whose warnings are errors
    assert list(raw.annotations.onset) == [9 / 250]


def test_a_marker_on_the_sample_after_the_last_is_in_the_files_that_have_it(tmp_path: Path) -> None:
    ahead = (stimulus(1010), stimulus(1010), stimulus(1013, "further"))
    writer = write(tmp_path, block(1000, 1010, *ahead), ended(SEGMENT, 1010), SegmentStart(NEXT))
    writer.take(block(1010, 1020), "instance")
    writer.end()
    assert [read(path)[2] for path in headers(tmp_path)] == [[], [*ahead]]
    other = tmp_path / "restarted"
    other.mkdir()
    writer = write(other, block(1000, 1010, *ahead), ended(SEGMENT, 1010))
    writer.take(SegmentStart(replace(NEXT, number=0)), "another")  # the same indices, other samples
    writer.take(block(1010, 1020), "another")
    writer.end()
    assert [read(path)[2] for path in headers(other)] == [[], []]


@pytest.mark.parametrize("first", ["ended", "killed", "killed when it went on"])
def test_a_recording_that_is_gone_on_with_has_its_markers_ahead_back(tmp_path: Path, first: str) -> None:
    twice = (stimulus(1010), stimulus(1010))
    writer = write(tmp_path, block(1000, 1010, *twice))
    told = [replace(each, block=1000) for each in twice]
    if first == "killed":
        writer.close()
    else:
        writer.end()
        assert read(only(tmp_path))[2] == []
        assert (only(tmp_path).with_suffix(".vmrk").read_text() + AHEAD[1:]).count(AHEAD[1:]) == 3
    if first == "killed when it went on":
        FileSet.reopen(only(tmp_path), 1000, 2, told).close()
    writer = sequence(tmp_path)
    writer.resume("instance", folder.find(tmp_path, "lab", "instance"), told)
    writer.take(SegmentStart(SEGMENT), "instance")
    writer.take(Block(1010, 1010, rows(0, 0), tuple(told)), "instance")
    writer.take(block(1010, 1020), "instance")
    writer.end()
    assert read(only(tmp_path))[2] == [*twice]
    assert "after the last sample" not in only(tmp_path).with_suffix(".vmrk").read_text()


def test_files_that_somebody_moved_away_are_not_missed(tmp_path: Path) -> None:
    writer = write(tmp_path, block(1000, 1010), ended(SEGMENT, 1010), SegmentStart(NEXT))
    for path in tmp_path.iterdir():
        path.unlink()
    writer.take(block(1010, 1020, stimulus(1005), stimulus(1012)), "instance")
    writer.end()
    assert read(only(tmp_path))[1:][1] == [stimulus(1012)]
    assert "before the first sample: Stimulus,S  1,-4,1,0" in only(tmp_path).with_suffix(".vmrk").read_text()
    assert writer.totals.samples == 20


def test_markers_at_the_very_end_of_a_segment_are_told_once(tmp_path: Path) -> None:
    write(tmp_path, block(1000, 1010)).close()
    for _ in range(2):  # killed before it could note that these are on disk
        writer = sequence(tmp_path)
        writer.resume("instance", folder.find(tmp_path, "lab", "instance"), [])
        writer.take(SegmentStart(NEXT), "instance")  # what a stream that begins at 1010 begins with
        late = tuple(replace(stimulus(1005), block=1010) for _ in range(2))
        writer.take(Block(1010, 1010, rows(0, 0), late), "instance")
        writer.take(ended(SEGMENT, 1010), "instance")
        assert read(only(tmp_path))[2] == [stimulus(1005), stimulus(1005)]


def test_what_was_saved_is_said_truly_when_the_end_cannot_be_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = write(tmp_path, block(1000, 1010), ended(SEGMENT, 1010), SegmentStart(NEXT), block(1010, 1030))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fileset, "_write", full)
    with pytest.raises(OSError, match="No space"):
        writer.take(ended(NEXT, 1030), "instance")
    assert writer.files is not None
    assert (writer.files.stop, writer.files.path) == (1030, headers(tmp_path)[1])
    writer.close()


# --- other people's files --------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".vhdr", ".vmrk", ".eeg"])
def test_nothing_is_ever_overwritten(tmp_path: Path, suffix: str) -> None:
    theirs = tmp_path / f"lab_20261123T101500Z_seg003_000000001000{suffix}"
    theirs.write_bytes(b"theirs")
    write(tmp_path, block(1000, 1010)).end()
    assert theirs.read_bytes() == b"theirs"
    np.testing.assert_array_equal(read(tmp_path / f"{theirs.stem}-2.vhdr")[1], rows(1000, 1010))


def test_two_processes_never_write_the_same_files(tmp_path: Path) -> None:
    writer = write(tmp_path, block(1000, 1010))
    with pytest.raises(InUse, match="--name"):
        FileSet.reopen(only(tmp_path), 1000, 2, [])
    writer.end()
    FileSet.reopen(only(tmp_path), 1000, 2, []).close()


def test_only_this_hubs_recordings_of_this_name_are_found(tmp_path: Path) -> None:
    write(tmp_path, block(1000, 1010), limit=4).end()
    (tmp_path / "other.vhdr").write_bytes(b"\xff nonsense")
    (tmp_path / "torn.vhdr").write_text('rdahub={"name": "lab", "inst')
    (tmp_path / "folder.vhdr").mkdir()
    (tmp_path / "link.vhdr").symlink_to("nowhere.vhdr")
    assert [each.start for each in folder.find(tmp_path, "lab", "instance")] == [1000, 1004, 1008]
    assert [each.stop for each in folder.find(tmp_path, "lab", "instance")] == [1004, 1008, 1010]
    assert folder.find(tmp_path, "lab", "another") == []
    assert folder.find(tmp_path, "home", "instance") == []


def test_of_two_that_begin_at_one_sample_the_longer_is_the_newest(tmp_path: Path) -> None:
    write(tmp_path, block(1000, 1010, stimulus(1012, "early"))).close()
    write(tmp_path, block(1000, 1020)).close()
    found = folder.find(tmp_path, "lab", "instance")
    assert [(each.start, each.stop) for each in found] == [(1000, 1010), (1000, 1020)]
    writer = sequence(tmp_path)
    writer.resume("instance", found, [])
    writer.take(SegmentStart(SEGMENT), "instance")
    writer.take(block(1020, 1030), "instance")
    writer.end()
    assert read(found[1].path)[1].tobytes() == rows(1000, 1030).tobytes()
    assert read(found[0].path)[2] == [stimulus(1012, "early")], "it is in no other"


# --- cut short at every write ----------------------------------------------------------------------------


class Killed(BaseException):
    """The process ends here."""


EVENTS: list[Event] = [
    block(1000, 1020, Marker(1000, 1, -1, "New Segment", ""), stimulus(1019)),
    block(1020, 1040, stimulus(1019, "late"), stimulus(1025), stimulus(1025), stimulus(1062, "early")),
    Block(1040, 1040, rows(0, 0), (replace(stimulus(1039), block=1040),)),
    Gap(1040, 1070, "counter"),
    block(1070, 1090, stimulus(1003, "very late"), stimulus(1089)),
    block(1090, 1100, stimulus(1025), stimulus(1025)),  # once more, twice
]


def told_from(index: int) -> Iterator[Event]:
    """The same history, as a stream that begins at an index tells it."""
    yield SegmentStart(SEGMENT)
    early = tuple(marker for marker in markers_before(index) if marker.index >= index)
    if early:
        yield Block(index, index, rows(0, 0), early)
    for event in EVENTS:
        if isinstance(event, Gap):
            if event.stop > index:
                yield Gap(max(index, event.start), event.stop, event.reason)
        elif isinstance(event, Block) and (event.stop > index or event.start == event.stop >= index):
            first = max(index, event.start)
            markers = tuple(marker for marker in event.markers if marker.block >= index)
            yield Block(first, event.stop, rows(first, event.stop), markers)


def markers_before(index: int) -> list[Marker]:
    return [m for event in EVENTS if isinstance(event, Block) for m in event.markers if m.block < index]


def dying(writes: int, torn: Callable[[int], int]) -> Callable[..., None]:
    """As `fileset._write`, for so many times; then only a part, and the end."""
    left = itertools.count(writes, -1)
    real = fileset._write

    def write(file: FileIO, data: memoryview) -> None:
        if next(left) > 0:
            real(file, data)
            return
        real(file, data[: torn(len(data))])
        raise Killed

    return write


@pytest.mark.parametrize("limit", [None, 25, 7])
def test_killed_at_any_write_it_goes_on_without_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int | None
) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    monkeypatch.setattr(os, "fsync", lambda fd: None)  # a killed process needs none
    whole = tmp_path / "whole"
    whole.mkdir()
    writer = sequence(whole, limit)
    for event in told_from(1000):
        writer.take(event, "instance")
    writer.end()
    expected = [read(path) for path in headers(whole)]
    assert sum(len(samples) for _, samples, _ in expected) == 100
    for writes in itertools.count():
        path = tmp_path / str(writes)
        path.mkdir()
        ended = False
        for life in range(3):  # dies twice at most, the second time soon
            with monkeypatch.context() as patch:
                if life < 2:
                    torn = chance.choice([lambda n: 0, lambda n: n // 2, lambda n: n - 1])
                    patch.setattr(
                        fileset, "_write", dying(writes if life == 0 else chance.randrange(6), torn)
                    )
                ended = live(path, limit, patch)
            if ended:
                break
        assert ended
        found = [read(each) for each in headers(path)]
        assert [start for start, _, _ in found] == [start for start, _, _ in expected]
        for (_, samples, markers), (_, wanted, marks) in zip(found, expected, strict=True):
            assert samples.tobytes() == wanted.tobytes()
            assert without_gaps(markers) == without_gaps(marks)
        if life == 0:
            break  # it outlived all its writes
    assert writes > 10


def without_gaps(markers: Iterable[Marker]) -> list[Marker]:
    """Markers in order; a gap may be marked in two parts, and its samples tell it."""
    kept = (marker for marker in markers if marker.type != "Bad Interval")
    return sorted(kept, key=lambda marker: (marker.index, marker.description))


def live(path: Path, limit: int | None, monkeypatch: pytest.MonkeyPatch) -> bool:
    """One process, to the end or until it is killed."""
    opened: list[FileIO] = []

    class Tracked(FileIO):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            opened.append(self)

    monkeypatch.setattr(fileset, "FileIO", Tracked)
    writer = sequence(path, limit)
    found = folder.find(path, "lab", "instance")
    start = 1000
    if found:
        start = found[-1].stop
        writer.resume("instance", found, markers_before(start))
    try:
        for event in told_from(start):
            writer.take(event, "instance")
        writer.end()
    except Killed:
        for file in opened:  # as the system does
            file.close()
        return False
    return True
