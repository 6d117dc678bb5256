"""`rdahub record` as users run it: what is on disk is what the Recorder sent, whatever happens meanwhile.

Not here: which sample and marker goes where, cut short at every write (`test_recording`).
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import mne
import numpy as np
import numpy.typing as npt
import pybv
import pytest

from processes import PATIENCE, Child, Hub, hub, simulator
from rdahub import brainvision, rda
from rdahub.commands import dump
from rdahub.commands import record as record_command
from rdahub.config import RecordSettings, SettingError, load
from rdahub.recording import export, folder, text
from rdahub.simulator import Synthetic
from rdahub_client import Block, Client, HubRestarted, SegmentStart
from rdahub_client.records import Float32
from scripted import ScriptedRecorder, values

REAL = Path(__file__).parents[3] / "shared" / "eeg" / "test.vhdr"
CASES = Path(__file__).parents[1] / "data" / "rda" / "cases"
KILLS = int(os.environ.get("NEMESIS_KILLS", "4"))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def recorder() -> Iterator[ScriptedRecorder]:
    scripted = ScriptedRecorder()
    yield scripted
    scripted.close()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "recordings"


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """The real recording if it is at hand, else one of the same length."""
    if REAL.exists():
        return REAL
    raw = np.random.default_rng(5).integers(-20_000, 20_000, (8, 7900))
    pybv.write_brainvision(
        data=raw * 0.5e-6, sfreq=1000, ch_names=[f"C{i}" for i in range(8)], fname_base="test",
        folder_out=tmp_path, resolution=0.5, fmt="binary_int16", meas_date="20261123101500000000",
        events=[{"onset": 7 * k, "duration": 1, "type": "Stimulus", "description": k} for k in range(1, 9)],
    )  # fmt: skip
    return tmp_path / "test.vhdr"


def record(stack: ExitStack, server: Hub, out: Path, *flags: str) -> Child:
    child = Child("record", server.query, "-o", str(out), *flags)
    stack.callback(child.close)
    return child


def joined(stack: ExitStack, server: Hub) -> Client:
    client = stack.enter_context(Client())
    client.connect(server.query, timeout=PATIENCE)
    client.start_streaming(timeout=PATIENCE)
    return client


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.005)


def headers(out: Path) -> list[Path]:
    return sorted(out.glob("*.vhdr"))


def rows_on_disk(out: Path, n_channels: int) -> int:
    return sum(path.stat().st_size for path in out.glob("*.eeg")) // (4 * n_channels)


def samples_of(path: Path) -> Float32:
    raw = brainvision.read(path).raw
    assert raw.dtype == np.float32
    return np.asarray(raw, np.float32)


def first_index(path: Path) -> int:
    return int((text.facts_of(path.read_text(encoding="utf-8")) or {})["start"])


def bits(samples: npt.NDArray[np.float32]) -> bytes:
    return np.ascontiguousarray(samples, np.float32).tobytes()


def ends_well(child: Child, number: signal.Signals = signal.SIGTERM) -> str:
    """The line it says at the end."""
    child.send(number)
    assert child.finish() == 0, child.stderr
    assert "Traceback" not in child.stderr
    assert child.stdout.count("\n") == 1
    return child.stderr.splitlines()[-1]


# --- equal to the source ---------------------------------------------------------------------------------


@pytest.mark.parametrize("port", ["float32", "int16"])
def test_a_recording_equals_its_source_to_the_last_bit(
    stack: ExitStack, recording: Path, out: Path, port: str
) -> None:
    source = brainvision.read(recording)
    expected = (source.raw.astype(np.float64) * np.array(source.resolutions)).astype(np.float32)
    flags = ["--int16"] if port == "int16" else []
    sim = stack.enter_context(simulator("--vhdr", str(recording), "--speed=8", *flags))
    server = stack.enter_context(hub(sim.rda))
    child = record(stack, server, out, "--start=oldest", "--name=real", "--timeout=10s")
    ready = child.wait_for(r"ready file=(\S+) segment=0 start=0")[1]
    until(lambda: "segment 0 ended: stop" in Path(ready).with_suffix(".vmrk").read_text(), "the end")
    assert f"up to index 7900 in {ready}" in ends_well(child)
    assert [str(path) for path in headers(out)] == [ready]

    found = brainvision.read(ready)
    assert bits(np.asarray(found.raw)) == bits(expected)
    assert found.markers == source.markers
    assert (found.names, found.units) == (source.names, source.units)
    assert found.interval_us == source.interval_us

    ours = mne.io.read_raw_brainvision(ready, preload=True, verbose="error")
    theirs = mne.io.read_raw_brainvision(recording, preload=True, verbose="error")
    assert ours.ch_names == theirs.ch_names
    assert ours.get_channel_types() == theirs.get_channel_types()
    assert list(ours.annotations.description) == list(theirs.annotations.description)
    np.testing.assert_array_equal(ours.annotations.onset, theirs.annotations.onset)
    np.testing.assert_array_equal(ours.annotations.duration, theirs.annotations.duration)
    volts = [1e-6 if kind == "eeg" else None for kind in ours.get_channel_types()]
    for channel, scale in enumerate(volts):
        if scale is not None:
            exact = expected[:, channel].astype(np.float64) * scale
            np.testing.assert_array_equal(ours.get_data([channel])[0], exact)
    np.testing.assert_allclose(ours.get_data(), theirs.get_data(), rtol=1e-7)


def test_gaps_are_in_the_recording(stack: ExitStack, out: Path) -> None:
    sim = stack.enter_context(simulator("--dump", str(CASES / "ok_gap.rda")))
    server = stack.enter_context(hub(sim.rda))
    child = record(stack, server, out, "--start=oldest")
    path = Path(child.wait_for(r"ready file=(\S+)")[1])
    client = joined(stack, server)
    assert client.wait(0, 50, timeout=PATIENCE) is not None
    until(
        lambda: path.with_suffix(".eeg").stat().st_size >= 50 * 4 * client.segments[0].n_channels, "50 rows"
    )
    ends_well(child)
    samples = samples_of(path)[:50]
    expected = client.read(0, 50)
    assert bits(samples) == bits(expected)
    assert np.isnan(samples).all(axis=1).tolist() == [20 <= i < 40 for i in range(50)]
    bad = [m for m in brainvision.read(path).markers if m.type == "Bad Interval"]
    assert [(m.position, m.points, m.channel) for m in bad] == [(20, 20, -1)]


def test_it_waits_for_the_recorder_and_misses_nothing(
    stack: ExitStack, out: Path, recorder: ScriptedRecorder
) -> None:
    server = stack.enter_context(hub(recorder.address))
    child = record(stack, server, out)
    child.wait_for("waiting for the Recorder", "stderr")
    recorder.start()
    recorder.blocks(10)
    child.wait_for("ready file=")
    until(lambda: rows_on_disk(out, 2) == 200, "200 rows")
    ends_well(child)
    assert bits(samples_of(headers(out)[0])) == bits(values(0, 200, 2))


def test_live_begins_at_the_present(stack: ExitStack, out: Path, recorder: ScriptedRecorder) -> None:
    server = stack.enter_context(hub(recorder.address))
    recorder.start()
    recorder.blocks(10)
    client = joined(stack, server)
    assert client.wait(199, 200, timeout=PATIENCE) is not None
    child = record(stack, server, out)
    child.wait_for("from index 200 on", "stderr")
    recorder.blocks(1)
    child.wait_for(r"ready file=.* start=200")
    until(lambda: rows_on_disk(out, 2) == 20, "20 rows")
    assert re.search(r"saved 20 samples, 0 markers, 1 file set, up to index 220", ends_well(child))
    (path,) = headers(out)
    assert bits(samples_of(path)) == bits(values(200, 220, 2))


def test_segments_and_a_restarted_hub_are_files_of_their_own(
    stack: ExitStack, out: Path, recorder: ScriptedRecorder
) -> None:
    with ExitStack() as first:
        server = first.enter_context(hub(recorder.address))
        recorder.start()
        recorder.blocks(2)
        child = record(stack, server, out, "--start=oldest", "--name=lab")
        child.wait_for("ready file=")
        recorder.stop()
        recorder.start(n_channels=3)
        recorder.blocks(2)
        until(
            lambda: len(headers(out)) == 2 and headers(out)[1].with_suffix(".eeg").stat().st_size == 480,
            "2 sets",
        )
        query = server.query
    recorder.hang_up()
    recorder.index = 0
    stack.enter_context(hub(recorder.address, query=query))
    recorder.start(n_channels=4)
    recorder.blocks(3)
    until(
        lambda: len(headers(out)) == 3 and headers(out)[2].with_suffix(".eeg").stat().st_size == 960, "3 sets"
    )
    assert "3 file sets" in ends_well(child)
    found = [(first_index(path), samples_of(path)) for path in headers(out)]
    assert [start for start, _ in found] == [0, 40, 0]
    for (_, samples), expected in zip(
        found, [values(0, 40, 2), values(40, 80, 3), values(0, 60, 4)], strict=True
    ):
        assert bits(samples) == bits(expected)


def test_a_segment_of_the_past_has_its_own_date(
    stack: ExitStack, out: Path, recorder: ScriptedRecorder
) -> None:
    server = stack.enter_context(hub(recorder.address))
    began = datetime.now(UTC)
    recorder.start(rate=10.0)
    recorder.block(20)
    recorder.stop()
    recorder.start(rate=100.0)
    for _ in range(10):
        recorder.block(1000)  # more at a time than time has passed: these say nothing of the first segment
    client = joined(stack, server)
    assert client.wait(10_019, 10_020, timeout=PATIENCE) is not None
    child = record(stack, server, out, "--start=oldest")
    until(lambda: rows_on_disk(out, 2) == 10_020, "all of it")
    ends_well(child)
    (path,) = out.glob("*_seg000_*.vhdr")
    first = mne.io.read_raw_brainvision(path, verbose="error")
    assert first.n_times == 20
    assert abs((first.info["meas_date"] - began).total_seconds()) < PATIENCE


def forty_rows(
    stack: ExitStack, server: Hub, out: Path, recorder: ScriptedRecorder
) -> tuple[Child, Path, Client]:
    """A recording of the first rows of a segment, its header, and somebody who has them too."""
    recorder.start()
    recorder.blocks(2)
    child = record(stack, server, out, "--start=oldest")
    ready = Path(child.wait_for(r"ready file=(\S+)")[1])
    client = joined(stack, server)
    assert client.wait(39, 40, timeout=PATIENCE) is not None
    return child, ready, client


@pytest.mark.parametrize("goes_on", [False, True], ids=["no more comes", "the Recorder goes on"])
def test_a_marker_inserted_on_the_sample_after_the_last_is_no_marker_behind_the_data(
    stack: ExitStack, out: Path, recorder: ScriptedRecorder, goes_on: bool
) -> None:
    server = stack.enter_context(hub(recorder.address))
    child, ready, client = forty_rows(stack, server, out, recorder)
    assert client.insert_marker("too late").index == 40
    recorder.stop()
    until(lambda: "segment 0 ended: stop" in ready.with_suffix(".vmrk").read_text(), "the end")
    child.wait_for("a marker after the last sample is a comment .*: Comment,too late,41,", "stderr")
    if goes_on:
        recorder.start()
        recorder.blocks(1)
        until(lambda: rows_on_disk(out, 2) == 60, "60 rows")
    ends_well(child)
    assert "; rdahub: after the last sample: Comment,too late,41," in ready.with_suffix(".vmrk").read_text()
    found = {
        first_index(path): [m.position for m in brainvision.read(path).markers if m.type == "Comment"]
        for path in headers(out)
    }
    assert found == ({0: [], 40: [0]} if goes_on else {0: []})
    for path in headers(out):
        assert mne.io.read_raw_brainvision(path, verbose="warning").n_times > 0  # warnings are errors
    part = out / "part.vhdr"
    dumped = Child("dump", server.query, "--start=0", "--stop=40", "-o", str(part))
    stack.callback(dumped.close)
    assert dumped.finish() == 0, dumped.stderr
    assert brainvision.read(part).markers == ()


def test_markers_inserted_while_nothing_is_recorded_are_not_lost_with_the_recordings_end(
    stack: ExitStack, out: Path, recorder: ScriptedRecorder
) -> None:
    server = stack.enter_context(hub(recorder.address))
    child, ready, client = forty_rows(stack, server, out, recorder)
    client.insert_marker("told")
    recorder.stop()
    until(lambda: "segment 0 ended: stop" in ready.with_suffix(".vmrk").read_text(), "the end")
    client.insert_marker("of a sample recorded", index=12)
    client.insert_marker("of none")
    ends_well(child)
    found = {m.description: m.position for m in brainvision.read(ready).markers if m.type == "Comment"}
    assert found == {"of a sample recorded": 12}
    lines = [line for line in child.stderr.splitlines() if "no sample recorded is in no file" in line]
    assert len(lines) == 1
    assert "of none" in lines[0]


def test_it_ends_by_itself_after_so_many_samples(
    stack: ExitStack, out: Path, recorder: ScriptedRecorder
) -> None:
    server = stack.enter_context(hub(recorder.address))
    recorder.start(rate=250.0)
    recorder.blocks(2)
    recorder.counter += 1  # a block that the Recorder dropped: a gap of 20 samples
    recorder.index += 20
    recorder.block(20, (rda.BlockMarker(4, 1, -1, "A", "in"), rda.BlockMarker(6, 1, -1, "A", "out")))
    child = record(stack, server, out, "--start=oldest", "--duration=260ms")  # 65 samples
    assert child.finish() == 0, child.stderr
    assert "rdahub record: saved 45 samples and 20 missing, 2 markers, 1 file set" in child.stderr
    (path,) = headers(out)
    samples = samples_of(path)
    assert bits(samples[:40]) == bits(values(0, 40, 2))
    assert np.isnan(samples[40:60]).all()
    assert bits(samples[60:]) == bits(values(60, 65, 2))
    assert [m.description for m in brainvision.read(path).markers if m.type == "A"] == ["in"]

    again = record(stack, server, out, "--duration=0.04s")  # goes on amid a block
    again.wait_for("going on at index 65", "stderr")
    assert again.finish() == 0, again.stderr
    assert "rdahub record: saved 10 samples, 0 markers, 1 file set" in again.stderr
    samples = samples_of(path)
    assert bits(samples[60:]) == bits(values(60, 75, 2))
    marks = [(m.description, m.position) for m in brainvision.read(path).markers if m.type == "A"]
    assert marks == [("in", 64), ("out", 66)]


def test_the_duration_goes_on_over_files_and_segments(
    stack: ExitStack, out: Path, recorder: ScriptedRecorder
) -> None:
    server = stack.enter_context(hub(recorder.address))
    recorder.start(rate=500.0)
    recorder.blocks(2)
    child = record(stack, server, out, "--start=oldest", "--duration=100ms", "--rotate=60ms")  # 50, by 30
    child.wait_for("ready file=")
    until(lambda: rows_on_disk(out, 2) == 40, "40 rows")
    recorder.stop()
    recorder.start(rate=1000.0)
    recorder.block(5)
    until(lambda: rows_on_disk(out, 2) == 45, "5 more")
    assert child.process.poll() is None
    recorder.blocks(1)
    assert child.finish() == 0, child.stderr
    found = [(first_index(path), len(samples_of(path))) for path in headers(out)]
    assert found == [(0, 30), (30, 10), (40, 10)]


# --- ended, killed, gone on ------------------------------------------------------------------------------


def test_it_goes_on_where_it_ended(stack: ExitStack, out: Path, recorder: ScriptedRecorder) -> None:
    server = stack.enter_context(hub(recorder.address))
    recorder.start()
    recorder.block(
        20, (rda.BlockMarker(0, 1, -1, "New Segment", ""), rda.BlockMarker(30, 1, -1, "A", "early"))
    )
    child = record(stack, server, out, "--start=oldest")
    child.wait_for("ready file=")
    until(lambda: rows_on_disk(out, 2) == 20, "20 rows")
    ends_well(child, signal.SIGINT)
    recorder.block(
        20,
        (
            rda.BlockMarker(-25, 1, 0, "B", "late"),
            rda.BlockMarker(5, 2, 1, "C", "here"),
            rda.BlockMarker(10, 1, -1, "A", "early"),
        ),
    )
    client = joined(stack, server)
    assert client.wait(39, 40, timeout=PATIENCE) is not None  # while nobody recorded
    again = record(stack, server, out)
    again.wait_for("going on at index 20", "stderr")
    recorder.block()
    until(lambda: rows_on_disk(out, 2) == 60, "60 rows")
    ends_well(again)
    (path,) = headers(out)
    recording = brainvision.read(path)
    assert bits(np.asarray(recording.raw)) == bits(values(0, 60, 2))
    # "late" stands before the first sample there is, so only a comment can tell it
    assert [(m.type, m.position, m.points, m.channel) for m in recording.markers] == [
        ("New Segment", 0, 1, -1), ("C", 25, 2, 1), ("A", 30, 1, -1), ("A", 30, 1, -1),
    ]  # fmt: skip
    assert "before the first sample: B,late,-4,1,1" in path.with_suffix(".vmrk").read_text()
    fresh = record(stack, server, out, "--no-resume")
    fresh.wait_for("from index 60 on", "stderr")
    ends_well_without_files(fresh)


def ends_well_without_files(child: Child) -> None:
    child.send(signal.SIGTERM)
    assert child.finish() == 0, child.stderr
    assert "saved 0 samples" in child.stderr


def test_markers_of_a_block_that_began_before_are_recorded(
    stack: ExitStack, out: Path, recorder: ScriptedRecorder
) -> None:
    server = stack.enter_context(hub(recorder.address))
    recorder.start()
    recorder.block(40, tuple(rda.BlockMarker(at, 1, -1, "A", f"{at}") for at in (19, 20, 30, 70)))
    recorder.blocks(3)
    client = joined(stack, server)
    assert client.wait(99, 100, timeout=PATIENCE) is not None
    child = record(stack, server, out, "--start=20")
    child.wait_for("ready file=")
    until(lambda: rows_on_disk(out, 2) == 80, "80 rows")
    assert "saved 80 samples, 3 markers" in ends_well(child)
    found = [(m.description, m.position) for m in brainvision.read(headers(out)[0]).markers if m.type == "A"]
    assert found == [("20", 0), ("30", 10), ("70", 50)]


def test_a_marker_inserted_while_nobody_recorded_is_in_the_files_of_its_sample(
    stack: ExitStack, out: Path, recorder: ScriptedRecorder
) -> None:
    server = stack.enter_context(hub(recorder.address))
    recorder.start()
    recorder.blocks(2)
    child = record(stack, server, out, "--start=oldest")
    child.wait_for("ready file=")
    until(lambda: rows_on_disk(out, 2) == 40, "40 rows")
    child.send(signal.SIGKILL)
    child.finish()
    client = joined(stack, server)
    client.insert_marker("the end", index=35)
    recorder.stop()
    recorder.start()
    recorder.blocks(1)
    assert client.wait(59, 60, timeout=PATIENCE) is not None
    again = record(stack, server, out)
    again.wait_for("ready file=")
    until(lambda: rows_on_disk(out, 2) == 60, "60 rows")
    assert "1 markers" in ends_well(again)
    first, second = (brainvision.read(path) for path in headers(out))
    assert [(m.description, m.position) for m in first.markers[1:]] == [("the end", 35)]
    assert second.markers[1:] == ()


def test_a_hub_that_restarts_at_the_very_beginning_is_recorded_from_its_first_sample(
    stack: ExitStack, out: Path, recorder: ScriptedRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Hub(recorder.address)
    stack.callback(first.close)
    recorder.start()
    recorder.blocks(2)
    client = joined(stack, first)
    assert client.wait(0, 40, timeout=PATIENCE) is not None
    info = client.info()
    find = folder.find

    def restart(path: Path, name: str, instance: str) -> list[folder.Found]:
        if instance != info.instance:
            return find(path, name, instance)
        first.close()
        recorder.hang_up()
        recorder.index = 0
        again = {"query": first.query, "publish": first.publish, "name": first.name}
        stack.enter_context(hub(recorder.address, **again))
        recorder.start()
        recorder.blocks(1)
        until(lambda: client.state == "streaming" and client._timeline.instance != instance, "the new one")
        path.mkdir()
        (path / "old.eeg").write_bytes(bytes(8 * 40))
        return [folder.Found(0, 0, path / "old.vhdr", 2)]

    monkeypatch.setattr(folder, "find", restart)
    settings = load(RecordSettings, ["-o", str(out), first.query], "record")
    stream = record_command._Recorder(settings, client, first.name).begin(info)
    assert isinstance(next(stream), SegmentStart)
    block = next(stream)
    assert isinstance(block, Block)
    assert bits(block.samples) == bits(values(0, 20, 2))


def test_two_signals_at_once_end_it_as_well_as_one(
    stack: ExitStack, out: Path, recorder: ScriptedRecorder
) -> None:
    server = stack.enter_context(hub(recorder.address))
    recorder.start()
    recorder.block(20, (rda.BlockMarker(10, 1, -1, "A", "1"), rda.BlockMarker(3, 1, -1, "A", "2")))
    for number in range(3):  # before, it ended well in half of the cases
        child = record(stack, server, out, "--start=oldest", f"--name=n{number}")
        ready = Path(child.wait_for(r"ready file=(\S+)")[1])
        until(lambda: ready.with_suffix(".eeg").stat().st_size == 160, "20 rows")  # noqa: B023
        for each in (signal.SIGSTOP, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGCONT):
            child.send(each)
        assert child.finish() == 0, child.stderr
        assert "saved 20 samples, 2 markers" in child.stderr
        assert [m.position for m in brainvision.read(ready).markers] == [0, 3, 10]


def test_an_archive_that_stands_still_is_waited_for(
    stack: ExitStack, out: Path, tmp_path: Path, recorder: ScriptedRecorder
) -> None:
    archive = ("--archive", str(tmp_path / "archive"), "--history-bytes", "512KiB")
    server = stack.enter_context(hub(recorder.address, *archive))
    recorder.start(16)
    client = joined(stack, server)
    instance = client.instance
    for _ in range(4):
        for _ in range(40):
            recorder.block(100)
        until(lambda: dict(archived(client)).get(instance, 0) == recorder.index, "it is on disk")
    for path in (tmp_path / "archive").glob("*/samples-*"):  # or the hub would read it by itself
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    pid = server.process.pid
    (keeper,) = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    os.kill(keeper, signal.SIGSTOP)
    try:
        child = record(stack, server, out, "--start=oldest")
        child.wait_for("the archive does not answer .* asking again", "stderr")
        assert rows_on_disk(out, 16) == 0
    finally:
        os.kill(keeper, signal.SIGCONT)
    until(lambda: rows_on_disk(out, 16) == recorder.index, "all of it")
    ends_well(child)
    assert bits(samples_of(headers(out)[0])) == bits(values(0, recorder.index, 16))


def archived(client: Client) -> list[tuple[str, int]]:
    return [(each.id, each.next_index) for each in client.instances()]


def test_killed_again_and_again_it_loses_nothing(stack: ExitStack, out: Path) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    rate, channels = 4000, 8
    source = Synthetic(channels, rate, 40)
    sim = stack.enter_context(simulator(f"--channels={channels}", f"--rate={rate}", "--block=40"))
    server = stack.enter_context(hub(sim.rda))
    client = joined(stack, server)
    for _ in range(KILLS):
        child = record(stack, server, out, "--start=oldest", "--rotate=1700ms")
        child.wait_for("ready file=")
        then = client.last_sample + chance.randrange(rate)
        assert client.wait(then, then + 1, timeout=PATIENCE) is not None
        hub_had = client.last_sample
        child.send(signal.SIGKILL)
        assert child.finish() == -signal.SIGKILL
        saved = folder.find(out, server.name, client.instance)[-1].stop
        assert hub_had - saved <= rate, "more than a second was lost"
        for path in headers(out):  # readable as it lies there
            if path.with_suffix(".eeg").stat().st_size >= 4 * channels:
                assert mne.io.read_raw_brainvision(path, verbose="error").n_times > 0
    child = record(stack, server, out)
    child.wait_for("ready file=")
    stop = client.last_sample
    until(lambda: rows_on_disk(out, channels) >= stop, "all the rest")
    ends_well(child)
    scale = np.array([1.0] + [0.1] * (channels - 1))
    index = 0
    marks = []
    for path in headers(out):
        assert first_index(path) == index
        found = brainvision.read(path)
        n = found.n_samples
        expected = (source.samples(index, index + n).astype(np.float64) * scale).astype(np.float32)
        assert bits(np.asarray(found.raw)) == bits(expected)
        marks += [index + m.position for m in found.markers if m.type == "Stimulus"]
        if path != headers(out)[-1]:
            assert n == round(1.7 * rate)
        index += n
    assert index >= stop
    assert marks == list(range(rate, index, rate))


def test_two_do_not_write_the_same_files(stack: ExitStack, out: Path) -> None:
    sim = stack.enter_context(simulator())
    server = stack.enter_context(hub(sim.rda))
    first = record(stack, server, out)
    first.wait_for("ready file=")
    second = record(stack, server, out)
    assert second.finish() == 1
    assert "is being written by another process" in second.stderr.splitlines()[-1]
    other = record(stack, server, out, "--name=other")
    other.wait_for("ready file=.*other_")
    ends_well(first)
    ends_well(other)


# --- the disk --------------------------------------------------------------------------------------------


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[None]:
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    if sys.platform != "linux" or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small tmpfs (Linux, root)")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def test_a_full_disk_is_a_clear_end_and_can_be_gone_on_from(
    stack: ExitStack, out: Path, recorder: ScriptedRecorder
) -> None:
    stack.enter_context(small_disk(out, "2m"))
    server = stack.enter_context(hub(recorder.address))
    recorder.start(n_channels=3, rate=100.0)
    recorder.block(20, (rda.BlockMarker(3, 1, -1, "Stimulus", "S  1"),))
    child = record(stack, server, out, "--start=oldest")
    child.wait_for("ready file=")
    hog = out / "hog"
    with hog.open("wb", buffering=0) as file:
        file.truncate(0)
        free = os.statvfs(out)
        file.write(bytes(free.f_bavail * free.f_frsize - 8192))
    child.wait_for("the disk is nearly full", "stderr")
    blocks = 0
    while child.process.poll() is None and blocks < 1000:
        recorder.block()
        blocks += 1
        time.sleep(0.001)
    assert child.finish() == 1
    said = child.stderr.splitlines()[-1]
    match = re.fullmatch(
        rf"rdahub record: {out}: cannot write \(No space left on device\); saved \d+ samples, 1 markers, "
        r"1 file set, up to index (\d+) in \S+; make room and run the same command again: .*",
        said,
    )
    assert match, said
    saved = int(match[1])
    assert rows_on_disk(out, 3) == saved
    assert bits(samples_of(headers(out)[0])) == bits(values(0, saved, 3))
    refused = record(stack, server, out, "--no-resume")
    assert refused.finish() == 1
    assert "there is room for only" in refused.stderr.splitlines()[-1]

    hog.unlink()
    again = record(stack, server, out)
    until(lambda: rows_on_disk(out, 3) == recorder.index, "the rest")
    ends_well(again)
    recording = brainvision.read(headers(out)[0])
    assert bits(np.asarray(recording.raw)) == bits(values(0, recorder.index, 3))
    assert [m.position for m in recording.markers] == [0, 3]


# --- mistakes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "--output"),
        (["-o", __file__], "not a folder"),
        (["-o", "x", "--start=soon"], "--start"),
        (["-o", "x", "--rotate=often"], "--rotate"),
        (["-o", "x", "--rotate=0"], "--rotate"),
        (["-o", "x", "--duration=0"], "--duration"),
        (["-o", "x", "--name=a/b"], "--name"),
        (["-o", "x", "127.0.0.1:1", "--timeout=100ms"], "no hub answers"),
    ],
    ids=" ".join,
)
def test_a_mistake_is_one_line(
    stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    child = Child("record", *flags)
    stack.callback(child.close)
    assert child.finish() == 2, child.stderr
    assert child.stdout == ""
    assert child.stderr.count("\n") == 1
    assert said in child.stderr
    assert list(tmp_path.iterdir()) == []


# --- parts of the past, by MNE ---------------------------------------------------------------------------


def test_a_range_as_fif_is_exact_and_as_edf_rounded(stack: ExitStack, tmp_path: Path) -> None:
    sim = stack.enter_context(simulator("--channels=5", "--seconds=3", "--speed=0"))
    server = stack.enter_context(hub(sim.rda))
    client = joined(stack, server)
    assert client.wait(2999, 3000, timeout=PATIENCE) is not None
    expected = client.read(500, 2950).copy()
    said = {}
    for suffix in ("fif", "edf"):
        out = tmp_path / f"part.{suffix}"
        child = Child("dump", server.query, "--start=500", "--stop=2950", "-o", str(out))
        stack.callback(child.close)
        assert child.finish() == 0, child.stderr
        assert child.stdout == f"saved {out}: 2450 samples of 5 channels, 2 markers, 0 gaps\n"
        said[suffix] = child.stderr
    assert said == {"fif": "", "edf": "rdahub dump: EDF holds 16 bits: samples are rounded\n"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part.edf", "part.fif"]
    exact = mne.io.read_raw_fif(tmp_path / "part.fif", verbose="error")
    assert bits((exact.get_data().T * 1e6).astype(np.float32)) == bits(expected)
    assert list(exact.annotations.description) == ["Stimulus/S  1", "Stimulus/S  2"]
    np.testing.assert_array_equal(exact.annotations.onset, [0.5, 1.5])
    rounded = mne.io.read_raw_edf(tmp_path / "part.edf", verbose="error")
    step = np.ptp(expected, axis=0) / 65535
    off = np.abs(rounded.get_data().T[:2450] * 1e6 - expected).max(axis=0)
    assert (off <= 0.51 * step).all()
    assert [each for each in rounded.annotations.description if each.startswith("Stim")] == [
        "Stimulus/S  1", "Stimulus/S  2",
    ]  # fmt: skip


def test_a_range_is_of_one_instance_or_not_saved(stack: ExitStack) -> None:
    """A hub that restarts amid it has other samples under the same indices."""
    sim = stack.enter_context(simulator("--channels=64", "--speed=0", "--seconds=50"))
    first = Hub(sim.rda)
    stack.callback(first.close)
    client = joined(stack, first)
    until(lambda: client.last_sample >= 40_000, "40 s")
    pages = dump._Range(client, client.segments[0], 0, 40_000, client.instance).pages()
    next(pages)
    first.close()
    again = stack.enter_context(hub(sim.rda, query=first.query, publish=first.publish, name=first.name))
    other = joined(stack, again)
    until(lambda: other.last_sample >= 40_000, "the same once more")
    until(lambda: client.state != "" and client._timeline.instance == other.instance, "it was noticed")
    with pytest.raises(HubRestarted, match="restarted meanwhile"):
        list(pages)


def test_missing_samples_are_said_in_an_edf(stack: ExitStack, tmp_path: Path) -> None:
    sim = stack.enter_context(simulator("--dump", str(CASES / "ok_gap.rda")))
    server = stack.enter_context(hub(sim.rda))
    assert joined(stack, server).wait(0, 50, timeout=PATIENCE) is not None
    child = Child("dump", server.query, "--start=0", "--stop=50", "-o", str(tmp_path / "gap.edf"))
    stack.callback(child.close)
    assert child.finish() == 0, child.stderr
    assert "20 samples without a value are 0 in it" in child.stderr
    raw = mne.io.read_raw_edf(tmp_path / "gap.edf", verbose="error")
    assert (0.04, 0.04) in zip(raw.annotations.onset, raw.annotations.duration, strict=True)


@pytest.mark.parametrize(("suffix", "extra"), [(".fif", "mne"), (".edf", "edf")])
def test_what_is_not_installed_is_one_line(monkeypatch: pytest.MonkeyPatch, suffix: str, extra: str) -> None:
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(SettingError, match=rf"pip install 'rdahub\[{extra}\]'"):
        export.require(suffix)
