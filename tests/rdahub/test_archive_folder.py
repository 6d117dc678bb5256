"""The archive's folders: what was written whole comes back, what was torn is cut off, no more is read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rdahub.archive.shelf import Shelf
from rdahub.archive.volume import Volume, Writer
from rdahub_client.records import Gap, Marker, Record, Segment, SegmentEnd, SegmentStart
from rdahub_client.wire import (
    InstancesRequest,
    PastEventsRequest,
    PastRangeRequest,
    Reply,
    decode_reply,
)
from scripted import values

ONE, TWO = "0123456789abcdef", "fedcba9876543210"
ABOUT = {"name": "lab", "recorder": "amp:51244", "began_ns": 1}
FIRST = Segment(0, 0, None, 1000.0, (1.0, 1.0), ("a", "b"), ("µV", "µV"))
FIRST_ENDED = Segment(0, 0, 100, 1000.0, (1.0, 1.0), ("a", "b"), ("µV", "µV"), "stop")
SECOND = Segment(1, 100, None, 500.0, (1.0,) * 3, ("c", "d", "e"), ("µV",) * 3)
MARKER = Marker(42, 1, -1, "Stimulus", "S  1", block=40)
RECORDS: list[Record] = [SegmentStart(FIRST), MARKER, SegmentEnd(FIRST_ENDED, "stop"), SegmentStart(SECOND)]
HUB = {"instance": TWO, "first_available": 7, "next_index": 9}


def write(folder: Path, instance: str = ONE) -> Writer:
    """An instance of two segments: 100 rows of 2 channels, 60 rows of 3."""
    writer = Writer(folder / instance, ABOUT)
    writer.add_records(0, RECORDS, None)
    writer.add_rows(FIRST, 0, values(0, 70, 2))
    writer.add_rows(FIRST, 70, values(70, 100, 2))
    writer.add_rows(SECOND, 100, values(100, 160, 3))
    return writer


def rows(shelf: Shelf, start: int, stop: int, instance: str = ONE) -> Reply:
    return ask(shelf, PastRangeRequest(id=5, instance=instance, start=start, stop=stop))


def ask(shelf: Shelf, request: Any) -> Reply:
    return decode_reply(shelf.answer(request, HUB))


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    write(tmp_path).close()
    return Shelf(tmp_path, Writer(tmp_path / TWO, ABOUT))


def test_a_file_holds_the_rows_of_one_segment_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path).close()
    found = np.fromfile(tmp_path / ONE / "samples-000000000000-2.f32", "<f4").reshape(-1, 2)
    assert found.tobytes() == values(0, 100, 2).tobytes()
    found = np.fromfile(tmp_path / ONE / "samples-000000000100-3.f32", "<f4").reshape(-1, 3)
    assert found.tobytes() == values(100, 160, 3).tobytes()


def test_what_was_written_is_read_to_the_last_bit(shelf: Shelf) -> None:
    page = rows(shelf, 0, 100).page()
    assert (page.instance, page.segment, page.start, page.stop) == (ONE, 0, 0, 100)
    assert (page.first_available, page.next_index) == (0, 160)
    assert page.samples.tobytes() == values(0, 100, 2).tobytes()
    assert rows(shelf, 101, 103).page().samples.tobytes() == values(101, 103, 3).tobytes()
    events = ask(shelf, PastEventsRequest(instance=ONE, seq=1)).events()
    assert (events.instance, events.seq, events.records[:-1]) == (ONE, 1, RECORDS[1:])
    assert [each.block for each in events.records if isinstance(each, Marker)] == [40]


def test_a_segment_that_nobody_ended_is_lost_at_the_last_sample(shelf: Shelf) -> None:
    *_, last = ask(shelf, PastEventsRequest(instance=ONE, seq=0)).events().records
    assert isinstance(last, SegmentEnd)
    assert (last.reason, last.segment.stop, last.segment.number) == ("lost", 160, 1)


@pytest.mark.parametrize(
    ("start", "stop", "code"),
    [
        (90, 110, "WRONG_SEGMENT"),
        (100, 161, "OUT_OF_RANGE_FUTURE"),
        (10**6, 10**6 + 1, "OUT_OF_RANGE_FUTURE"),
        (5, 4, "BAD_REQUEST"),
    ],
)
def test_a_range_that_is_not_there_is_refused(shelf: Shelf, start: int, stop: int, code: str) -> None:
    refusal = rows(shelf, start, stop).refusal
    assert refusal is not None
    assert refusal.code == code


@pytest.mark.parametrize(
    "instance", ["", ".", "..", f"../{ONE}", f"{ONE}/", f"{ONE}\0", ONE.upper(), "a" * 16, "../../etc/passwd"]
)
def test_an_instance_is_a_folder_that_is_there_and_never_a_path(shelf: Shelf, instance: str) -> None:
    for request in (
        PastRangeRequest(instance=instance, start=0, stop=1),
        PastEventsRequest(instance=instance, seq=0),
    ):
        refusal = ask(shelf, request).refusal
        assert refusal is not None
        assert refusal.code == "WRONG_INSTANCE"
        assert (refusal.instance, refusal.first_available, refusal.next_index) == (TWO, 7, 9)


def test_a_link_and_a_foreign_folder_are_no_instances(tmp_path: Path, shelf: Shelf) -> None:
    (tmp_path / ("a" * 16)).symlink_to(tmp_path / ONE)
    (tmp_path / ("b" * 16)).mkdir()
    (tmp_path / ("c" * 16)).mkdir()
    (tmp_path / ("c" * 16) / "journal").write_bytes(b"something else")
    (tmp_path / "notes").mkdir()
    found, more = ask(shelf, InstancesRequest()).instances()
    assert {each.id for each in found} == {ONE, TWO}
    assert not more
    for name in ("a" * 16, "b" * 16, "c" * 16):
        refusal = rows(shelf, 0, 1, name).refusal
        assert refusal is not None
        assert refusal.code == ("WRONG_INSTANCE" if name[0] == "a" else "NOT_READABLE")


def test_instances_tell_what_there_is_of_them(shelf: Shelf) -> None:
    found, _ = ask(shelf, InstancesRequest()).instances()
    one = next(each for each in found if each.id == ONE)
    assert (one.name, one.recorder, one.began_ns, one.runs) == ("lab", "amp:51244", 1, ((0, 160),))
    assert (one.first_available, one.next_index) == (0, 160)
    assert ask(shelf, InstancesRequest(skip=1)).instances() == (found[1:], False)


def test_a_journal_cut_anywhere_gives_the_records_that_are_whole(tmp_path: Path) -> None:
    write(tmp_path).close()
    journal = tmp_path / ONE / "journal"
    whole = journal.read_bytes()
    numbers = []
    for length in range(len(whole), 0, -1):
        os.truncate(journal, length)
        try:
            volume = Volume(tmp_path / ONE)
        except ValueError:  # not even who wrote it
            numbers.append(-1)
            continue
        kept = volume.journal.since(0, 100)[1]
        open_there = bool(kept) and isinstance(kept[-1], SegmentEnd) and kept[-1].reason == "lost"
        own = kept[:-1] if open_there else kept
        assert own == RECORDS[: len(own)]
        numbers.append(len(own))
    assert numbers == sorted(numbers, reverse=True)
    assert set(numbers) == {4, 3, 2, 1, 0, -1}


def test_a_flipped_bit_ends_the_journal_there(tmp_path: Path) -> None:
    write(tmp_path).close()
    journal = tmp_path / ONE / "journal"
    content = bytearray(journal.read_bytes())
    content[-3] ^= 1
    journal.write_bytes(content)
    assert Volume(tmp_path / ONE).journal.since(0, 100)[1][:3] == RECORDS[:3]


@pytest.mark.parametrize("torn", range(1, 12))
def test_writing_goes_on_after_what_was_whole(tmp_path: Path, torn: int) -> None:
    write(tmp_path).close()
    path, journal = tmp_path / ONE / "samples-000000000100-3.f32", tmp_path / ONE / "journal"
    os.truncate(path, path.stat().st_size - torn)
    journal.write_bytes(journal.read_bytes() + b"\x20\0\0\0torn")
    writer = Writer(tmp_path / ONE, {**ABOUT, "name": "another"})
    assert writer.about["name"] == "lab"
    assert (writer.next_index, writer.journal.next_seq) == (159, 4)
    writer.add_records(4, [MARKER], None)
    writer.add_rows(SECOND, 159, values(159, 200, 3))
    writer.close()
    assert path.read_bytes() == values(100, 200, 3).tobytes()
    records = Volume(tmp_path / ONE).journal.since(0, 100)[1]
    assert records[:-1] == [*RECORDS, MARKER]


def test_what_could_not_be_written_in_time_is_a_hole(tmp_path: Path) -> None:
    writer = write(tmp_path)
    writer.add_rows(SECOND, 200, values(200, 230, 3))
    gap = Gap(240, 250, "counter")
    writer.add_records(9, [gap], SECOND)  # four records are missing too
    assert writer.runs() == [(0, 160), (200, 230)]
    assert writer.reach == (200, 230)
    writer.close()
    shelf = Shelf(tmp_path, Writer(tmp_path / TWO, ABOUT))
    page = rows(shelf, 150, 210).page()
    assert (page.start, page.stop) == (150, 160)
    refusal = rows(shelf, 160, 210).refusal
    assert refusal is not None
    assert (refusal.code, "from 200 on" in refusal.message) == ("OUT_OF_RANGE_OLD", True)
    (each,) = [each for each in ask(shelf, InstancesRequest()).instances()[0] if each.id == ONE]
    assert each.runs == ((0, 160), (200, 230))
    events = ask(shelf, PastEventsRequest(instance=ONE, seq=4)).events()
    assert (events.seq, events.records[0]) == (4, gap), "counted without those that are missing"


def test_a_segment_whose_end_was_missed_has_ended(tmp_path: Path) -> None:
    writer = Writer(tmp_path / ONE, ABOUT)
    writer.add_records(0, RECORDS[:2], None)
    writer.add_rows(FIRST, 0, values(0, 50, 2))
    writer.add_records(9, [Gap(150, 160, "counter")], SECOND)  # the end of the first is among those missing
    writer.add_rows(SECOND, 140, values(140, 200, 3))
    while_written = writer.journal.segments
    writer.close()
    read = Volume(tmp_path / ONE).journal.segments
    assert [(each.number, each.stop, each.ended) for each in read] == [
        (0, 50, "overwritten"), (1, 200, "lost"),
    ]  # fmt: skip
    assert (while_written[0], while_written[1].stop) == (read[0], None)


def test_rows_whose_segment_was_torn_off_are_not_told_as_the_one_before(tmp_path: Path) -> None:
    write(tmp_path).close()
    journal = tmp_path / ONE / "journal"
    journal.write_bytes(journal.read_bytes()[: ends_of_entries(journal)[2]])
    volume = Volume(tmp_path / ONE)
    assert [(each.number, each.stop) for each in volume.journal.segments] == [(0, 100)]
    shelf = Shelf(tmp_path, Writer(tmp_path / TWO, ABOUT))
    assert rows(shelf, 0, 100).page().samples.tobytes() == values(0, 100, 2).tobytes()
    for start, code in ((90, "WRONG_SEGMENT"), (100, "OUT_OF_RANGE_OLD")):
        refusal = rows(shelf, start, 110).refusal
        assert refusal is not None
        assert refusal.code == code


def test_no_row_is_written_before_its_segment_is_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, pwrite = os.fsync, os.pwrite

    def noted(step: str, fd: int) -> int:
        is_journal = os.path.samestat(os.fstat(fd), (tmp_path / ONE / "journal").stat())
        steps.append(f"{step} {'journal' if is_journal else 'samples'}")
        return fd

    monkeypatch.setattr(os, "fsync", lambda fd: fsync(noted("sync", fd)))
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(noted("write", fd), data, at))
    write(tmp_path).close()
    rows_of_each_segment = [place for place, step in enumerate(steps) if step == "write samples"]
    assert steps[rows_of_each_segment[0] - 1] == "sync journal"
    assert steps[rows_of_each_segment[-1] - 1] == "sync journal"


def ends_of_entries(journal: Path) -> list[int]:
    content, ends = journal.read_bytes(), [0]
    while ends[-1] < len(content):
        ends.append(ends[-1] + 8 + int.from_bytes(content[ends[-1] : ends[-1] + 4], "little"))
    return ends[1:]


def test_a_question_that_has_no_answer_is_refused_and_harms_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path).close()
    journal = tmp_path / ONE / "journal"
    journal.write_bytes(journal.read_bytes()[: ends_of_entries(journal)[0]])
    present = write(tmp_path, TWO)
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", lambda *_: os.write(-1, b""))  # it fails
        with pytest.raises(OSError, match="Bad file"):
            present.add_rows(SECOND, 300, values(300, 400, 3))  # behind a hole
    shelf = Shelf(tmp_path, present)
    for instance, start, stop in ((ONE, 0, 10), (TWO, 200, 210), (TWO, 300, 300)):
        refusal = rows(shelf, start, stop, instance).refusal
        assert refusal is not None
        assert (refusal.code, refusal.message) == ("OUT_OF_RANGE_OLD", "not archived")
    empty = rows(shelf, 5, 5, TWO).page()
    assert (empty.start, empty.stop, empty.samples.shape) == (5, 5, (0, 2))


def test_a_hub_that_dies_after_it_was_read_has_ended(tmp_path: Path) -> None:
    writer = write(tmp_path)
    shelf = Shelf(tmp_path, Writer(tmp_path / TWO, ABOUT))
    assert ask(shelf, PastEventsRequest(instance=ONE, seq=0)).events().records == RECORDS
    writer.close()  # as the system does for a process that was killed
    *_, last = ask(shelf, PastEventsRequest(instance=ONE, seq=0)).events().records
    assert isinstance(last, SegmentEnd)


def test_two_processes_do_not_write_to_one_folder(tmp_path: Path) -> None:
    writer = write(tmp_path)
    with pytest.raises(BlockingIOError):
        Writer(tmp_path / ONE, ABOUT)
    assert Volume(tmp_path / ONE).journal.segment == SECOND, "it goes on, so its segment has not ended"
    writer.close()


def test_a_disk_that_is_full_leaves_whole_rows_and_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = write(tmp_path)
    really = os.pwrite

    def full(fd: int, data: memoryview, at: int) -> int:
        if len(data) < 50:
            raise OSError(28, "No space left on device")
        return really(fd, data[:-49], at)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space"):
            writer.add_rows(SECOND, 160, values(160, 200, 3))
        with pytest.raises(OSError, match="No space"):
            writer.add_records(4, [MARKER] * 3, None)
    assert (writer.next_index, writer.journal.next_seq) == (160, 4)
    writer.add_rows(SECOND, 160, values(160, 200, 3))
    writer.add_records(4, [MARKER], None)
    writer.close()
    volume = Volume(tmp_path / ONE)
    assert volume.next_index == 200
    assert volume.journal.since(0, 100)[1][:-1] == [*RECORDS, MARKER]


def test_a_folder_that_grows_is_read_again(tmp_path: Path) -> None:
    writer = write(tmp_path)
    shelf = Shelf(tmp_path, Writer(tmp_path / TWO, ABOUT))
    assert rows(shelf, 159, 161).refusal is not None
    writer.add_rows(SECOND, 160, values(160, 161, 3))  # another hub's, that shares the folder
    assert rows(shelf, 159, 161).page().samples.tobytes() == values(159, 161, 3).tobytes()
