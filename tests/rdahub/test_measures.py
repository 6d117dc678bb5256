"""What the hub measures of itself, on times that are made up."""

from __future__ import annotations

from rdahub.measures import BlockTimes, Histogram, Losses, Ranges, Readers
from rdahub_client.journal import Journal
from rdahub_client.records import Gap, Marker, Segment, SegmentEnd, SegmentStart

MS = 1_000_000


def segment(number: int = 0, start: int = 0, interval_us: float = 1000.0) -> Segment:
    return Segment(number, start, None, interval_us, (1.0,), ("a",), ("µV",))


def test_a_bound_belongs_to_its_step() -> None:
    histogram = Histogram((0.001, 0.002))
    for ns in (0, MS, MS + 1, 2 * MS, 2 * MS + 1, 10**15):
        histogram.add(ns)
    told = histogram.describe()
    assert told["bounds"] == [0.001, 0.002]
    assert told["counts"] == [2, 2, 2]
    assert told["sum"] == (6 * MS + 2 + 10**15) * 1e-9


def test_sums_stay_exact_for_years() -> None:
    histogram = Histogram((1.0,))
    histogram.sum_ns = 2**62
    histogram.add(1)
    assert histogram.sum_ns == 2**62 + 1


def jitter(times: BlockTimes) -> list[float]:
    """Upper bounds of the steps counted in."""
    return [
        bound for bound, count in zip(times.jitter.bounds, times.jitter.counts, strict=False)
        for _ in range(count)
    ]  # fmt: skip


def test_blocks_that_come_evenly_have_no_jitter() -> None:
    times, here = BlockTimes(), segment()
    for i in range(10):
        times.block(i * 20 * MS, i * 20 * MS + 30_000, here, 20 * (i + 1))
    assert times.jitter.counts[0] == 9
    assert times.jitter.sum_ns == 0
    assert times.delay.sum_ns == 10 * 30_000


def test_two_at_once_after_a_pause_are_jitter_of_both() -> None:
    times, here = BlockTimes(), segment()
    for received_ns, next_index in ((0, 20), (40 * MS, 40), (40 * MS, 60)):
        times.block(received_ns, received_ns, here, next_index)
    assert times.jitter.sum_ns == 40 * MS
    assert jitter(times) == [20 * MS, 20 * MS]


def test_blocks_of_any_length_and_rows_of_a_gap_are_due_when_they_are_due() -> None:
    times, here = BlockTimes(), segment(interval_us=250.0)
    # 20 rows, then 40, then 20 after a gap of 100.
    for received_ns, next_index in ((0, 20), (10 * MS, 60), (40 * MS, 180)):
        times.block(received_ns, received_ns, here, next_index)
    assert times.jitter.sum_ns == 0
    assert sum(times.jitter.counts) == 2


def test_a_new_segment_begins_anew_and_a_block_without_rows_does_not_count() -> None:
    times = BlockTimes()
    first, second = segment(), segment(1, 20)
    times.block(0, 0, first, 20)
    times.block(500 * MS, 500 * MS, second, 40)
    assert sum(times.jitter.counts) == 0
    times.block(510 * MS, 510 * MS, second, 40)
    times.block(520 * MS, 520 * MS, second, 60)
    assert times.jitter.sum_ns == 0
    assert sum(times.jitter.counts) == 1
    assert sum(times.delay.counts) == 3


def test_losses_are_counted_once_by_their_reason() -> None:
    journal, losses = Journal(), Losses()
    losses.note(journal)
    assert losses.describe() == {"gaps": {}, "missing_samples": {}, "segment_ends": {}}
    journal.append(SegmentStart(segment()))
    journal.append(Gap(10, 30, "counter"))
    for i in range(5000):  # more than are looked through at a time
        journal.append(Marker(40 + i, 1, -1, "Stimulus", "", injected=False, block=40))
    losses.note(journal)
    journal.append(SegmentEnd(segment(), "lost"))
    journal.append(Gap(50, 51, "counter"))
    losses.note(journal)
    losses.note(journal)
    assert losses.describe() == {
        "gaps": {"counter": 2}, "missing_samples": {"counter": 21}, "segment_ends": {"lost": 1},
    }  # fmt: skip


def test_a_forgotten_record_was_counted_before() -> None:
    journal, losses = Journal(), Losses()
    journal.append(SegmentStart(segment()))
    journal.append(Gap(10, 30, "counter"))
    losses.note(journal)
    journal.prune(1000)
    assert journal.first_seq == 2
    journal.append(Gap(2000, 2005, "counter"))
    losses.note(journal)
    assert losses.describe()["missing_samples"] == {"counter": 25}


def test_ranges_tell_how_far_behind_they_were() -> None:
    ranges = Ranges()
    ranges.page(start=900, next_index=1000, interval_us=1000.0, n_bytes=400)
    ranges.page(start=0, next_index=100_000, interval_us=1000.0, n_bytes=4)
    told = ranges.describe()
    assert (told["pages"], told["bytes"]) == (2, 404)
    age = told["age"]
    assert round(age["sum"], 9) == 100.1
    steps = dict(zip([*age["bounds"], None], age["counts"], strict=True))
    assert {bound for bound, count in steps.items() if count} == {0.1, 300.0}


def test_readers_are_told_the_slowest_first_and_forgotten_when_silent() -> None:
    readers = Readers()
    readers.note("a", 5, 100.0)
    readers.note("b", 7, 101.0)
    readers.note("c", None, 102.0)
    readers.note("a", 9, 110.0)
    told = readers.describe(112.0)
    assert [(each["name"], each["behind"], each["age"]) for each in told] == [
        ("a", 9, 2.0), ("b", 7, 11.0), ("c", None, 10.0),
    ]  # fmt: skip
    assert [each["name"] for each in readers.describe(131.5)] == ["a", "c"]
    assert readers.describe(200.0) == []


def test_no_more_readers_are_kept_than_anybody_would_look_at() -> None:
    readers = Readers()
    for number in range(1000):
        readers.note(str(number), 0, 1.0)
    readers.note("0", 3, 2.0)
    assert len(readers.describe(2.0)) == 256
    assert readers.describe(2.0)[0]["name"] == "0"
