"""`StreamRDA` against real hubs: every row once, on its sample, and MNE-LSL as it is with LSL."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mne
import mne_twin
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mne_lsl.stream import EpochsStream

from processes import PATIENCE, Child, Hub
from rdahub import rda
from rdahub_client import HubUnreachable
from rdahub_client.bridges.mne import StreamRDA
from rdahub_client.bridges.mne_rows import Rows, SampleClock, Stim
from scripted import ScriptedRecorder, values

HERE = Path(__file__).parent


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def stimulus(position: int, code: int) -> rda.BlockMarker:
    return rda.BlockMarker(position, 1, -1, "Stimulus", f"S{code:3}")


class Rig:
    """A scripted Recorder of 2 channels at 1 kHz, a hub, and a stream of 1 s."""

    def __init__(self) -> None:
        self.recorder = ScriptedRecorder()
        self.hub = Hub(self.recorder.address)
        self.recorder.start()
        self.streams: list[StreamRDA] = []

    def stream(self, delay: float | None = 0, bufsize: float = 1, **settings: Any) -> StreamRDA:
        stream = StreamRDA(bufsize, self.hub.query, **settings).connect(delay)
        self.streams.append(stream)
        return stream

    def close(self) -> None:
        for stream in self.streams:
            if stream.connected:
                stream.disconnect()
        self.recorder.close()
        self.hub.close()


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    try:
        yield rig
    finally:
        rig.close()


def rows(stream: StreamRDA, n: int) -> tuple[Any, Any, Any]:
    """The newest rows once there are n: indices, samples and codes."""
    until(lambda: stream.n_new_samples >= n)
    data, times = stream.get_data()
    assert (np.diff(times[-n:]) > 0).all()
    return stream.index_at(times[-n:]), data[:-1, -n:].T, data[-1, -n:]


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("twins")
    path = [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    children = {
        kind: Child(
            kind, str(folder / f"{kind}.npz"), program=(str(HERE / "mne_twin.py"),),
            LSLAPICFG=str(HERE / "lsl_api.cfg"), PYTHONPATH=os.pathsep.join(path),
        )
        for kind in ("lsl", "rda")
    }  # fmt: skip
    try:
        for child in children.values():
            assert child.finish() == 0, child.stderr
    finally:
        for child in children.values():
            child.close()
    return {kind: np.load(folder / f"{kind}.npz") for kind in children}


def test_a_program_for_streamlsl_gives_the_same_after_one_line_is_changed(twins: dict[str, Any]) -> None:
    one, other = twins["lsl"], twins["rda"]
    assert set(one) == set(other)
    for name in set(one) - {"data"}:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    # Filters begin with the mean of the first rows, and a mean over other pieces is rounded differently.
    np.testing.assert_allclose(one["data"], other["data"], rtol=0, atol=1e-9)
    assert list(one["events"]) == [1, 2, 1] == [mne_twin.EVENTS[k] for k in (300, 620, 1250)]
    assert list(np.flatnonzero(one["seen"])) == list(mne_twin.EVENTS)


def test_every_sample_comes_once_and_in_order_with_gaps_as_nan_and_markers_on_their_sample(rig: Rig) -> None:
    stream = rig.stream()
    rig.recorder.block()
    rig.recorder.block(markers=(stimulus(5, 7),))
    rig.recorder.counter += 2  # two blocks are lost
    rig.recorder.index += 40
    rig.recorder.block(markers=(stimulus(-10, 3), stimulus(0, 4), stimulus(25, 9)))
    rig.recorder.blocks(2)
    indices, samples, codes = rows(stream, 140)
    assert list(indices) == list(range(140))
    expected = values(0, 140, 2)
    expected[40:80] = np.nan
    np.testing.assert_array_equal(samples, expected)
    assert {int(i): int(codes[i]) for i in np.flatnonzero(codes)} == {25: 7, 70: 3, 80: 4, 105: 9}
    assert stream.event_codes == {f"Stimulus/S{code:3}": code for code in (7, 3, 4, 9)}
    assert stream.n_new_samples == 0


def test_a_marker_that_comes_after_its_sample_was_read_is_put_there(rig: Rig) -> None:
    stream = rig.stream()
    rig.recorder.blocks(5)
    _, _, codes = rows(stream, 100)
    assert not codes.any()
    rig.recorder.block(markers=(stimulus(-60, 5),))
    rows(stream, 20)
    data, times = stream.get_data()
    at = np.flatnonzero(data[-1])
    assert list(stream.index_at(times)[at]) == [40]
    assert list(data[-1][at]) == [5]


def test_a_late_marker_is_put_on_its_channel_whatever_that_is_called_and_wherever_it_stands(rig: Rig) -> None:
    stream = rig.stream()
    stream.rename_channels({"STI": "TRIGGER"}).add_reference_channels("REF").drop_channels("C0")
    rig.recorder.blocks(5)
    until(lambda: stream.n_new_samples == 100)
    rig.recorder.block(markers=(stimulus(-60, 5),))
    until(lambda: stream.n_new_samples == 120)
    data, times = stream.get_data(picks="TRIGGER")
    at = np.flatnonzero(data[0])
    assert list(stream.index_at(times)[at]) == [40]
    assert list(data[0][at]) == [5]


def test_epochs_stand_on_the_very_sample_of_their_marker(rig: Rig) -> None:
    stream = rig.stream()
    epochs = EpochsStream(stream, 10, {"a": 1, "b": 2}, "STI", tmin=-0.01, tmax=0.03, baseline=None)
    epochs.connect(acquisition_delay=0.005)
    try:
        for i in range(20):
            rig.recorder.block(markers=(stimulus(i, 1 + i % 3),) if i % 2 else ())
        until(lambda: epochs.n_new_epochs == 6)
        found = epochs.get_data(6)
        at = [i * 20 + i for i in range(1, 19, 2) if i % 3 != 2]
        assert list(epochs.events[-6:]) == [1 + i % 3 for i in range(1, 19, 2) if i % 3 != 2]
        for epoch, index in zip(found, at, strict=True):
            np.testing.assert_array_equal(epoch[:2].T, values(index - 10, index + 30, 2))
    finally:
        epochs.disconnect()


def test_filters_begin_anew_behind_a_gap(rig: Rig) -> None:
    stream = rig.stream()
    stream.filter(None, 100, picks="eeg")
    for counter, value in ((1, 1000), (2, 1000), (4, -500), (5, -500)):
        rig.recorder.send(rda.Data(counter, np.full((20, 2), value, np.float32), ()))
    _, samples, _ = rows(stream, 100)
    assert np.isnan(samples[40:60]).all()
    np.testing.assert_allclose(samples[:40], 1000)  # no transient, neither at the beginning
    np.testing.assert_allclose(samples[60:], -500)  # nor behind the gap


def test_a_new_segment_of_the_same_layout_goes_on_behind_a_row_of_nan(rig: Rig) -> None:
    stream = rig.stream()
    rig.recorder.block()
    rig.recorder.stop()
    rig.recorder.start()
    rig.recorder.block()
    indices, samples, _ = rows(stream, 41)
    assert list(indices) == [*range(20), -1, *range(20, 40)]
    assert np.isnan(samples[20]).all()
    np.testing.assert_array_equal(np.delete(samples, 20, axis=0), values(0, 40, 2))


def test_a_new_layout_ends_the_stream_and_says_so(rig: Rig, capfd: pytest.CaptureFixture[str]) -> None:
    stream = rig.stream()
    rig.recorder.block()
    rows(stream, 20)
    rig.recorder.start(n_channels=3)
    rig.recorder.block()
    until(lambda: not stream.connected)
    written = "".join(capfd.readouterr())
    assert "another layout (3 channels at 1000 Hz after 2 at 1000 Hz): connect again" in written.replace(
        "\n", " "
    )
    assert "Traceback" not in written
    with pytest.raises(RuntimeError, match="not connected"):
        stream.get_data()
    stream.connect(0)
    assert stream.ch_names == ["C0", "C1", "C2", "STI"]


def test_a_lost_hub_is_said_and_when_it_is_back_the_stream_goes_on(
    rig: Rig, capfd: pytest.CaptureFixture[str]
) -> None:
    stream = rig.stream(name=rig.hub.name)
    rig.recorder.block()
    rows(stream, 20)
    query, publish = rig.hub.query, rig.hub.publish
    assert rig.hub.stop() == 0
    rig.hub.close()
    rig.recorder.hang_up()
    until(lambda: "unreachable" in _read(capfd))
    assert stream.connected
    assert stream.n_new_samples == 0
    rig.hub = Hub(rig.recorder.address, query=query, publish=publish)
    rig.recorder.start()
    rig.recorder.block()
    indices, samples, _ = rows(stream, 21)
    assert list(indices) == [-1, *range(20)]
    np.testing.assert_array_equal(samples[1:], values(20, 40, 2))


def test_events_of_an_instance_that_is_gone_are_not_on_the_samples_of_the_next(rig: Rig) -> None:
    """Which have the same indices."""
    stream = rig.stream()
    rig.recorder.block(markers=(stimulus(0, 1), stimulus(19, 2), stimulus(30, 9)))
    rows(stream, 20)
    query, publish = rig.hub.query, rig.hub.publish
    assert rig.hub.stop() == 0
    rig.hub.close()
    rig.recorder.hang_up()
    rig.hub = Hub(rig.recorder.address, query=query, publish=publish)
    rig.recorder.start()
    rig.recorder.block(markers=(stimulus(0, 3), stimulus(19, 4)))
    rig.recorder.block(markers=(stimulus(-15, 5),))  # late
    until(lambda: stream.n_new_samples >= 41)
    data, times = stream.get_data()
    marked = {at: int(data[-1, at]) for at in np.flatnonzero(data[-1])}
    assert marked == {939: 1, 958: 2, 960: 3, 965: 5, 979: 4}
    indices = stream.index_at(times)
    assert (indices[:960] == -1).all()  # of the hub that is there now they are no samples
    assert list(indices[960:]) == list(range(40))
    stream.disconnect()
    assert stream.connect(0).name == rig.hub.name  # another name, where none was asked for


def _read(capfd: pytest.CaptureFixture[str]) -> str:
    return "".join(capfd.readouterr())


@pytest.mark.parametrize("delay", [0, 0.001, 0.05])
def test_settings_can_be_changed_while_nothing_comes(rig: Rig, delay: float) -> None:
    stream = rig.stream(delay)
    stream.pick("eeg").filter(1, 40).set_eeg_reference("average")
    rig.recorder.blocks(3)
    until(lambda: stream.n_new_samples == 60)
    assert stream.get_data()[0].shape == (2, 1000)


def test_without_a_thread_acquire_takes_all_that_has_come(rig: Rig) -> None:
    stream = rig.stream(None)
    assert stream.n_new_samples == 0
    rig.recorder.blocks(5)
    deadline = time.monotonic() + PATIENCE
    while stream.n_new_samples < 100 and time.monotonic() < deadline:
        stream.acquire()
    indices, samples, _ = rows(stream, 100)
    assert list(indices) == list(range(100))
    np.testing.assert_array_equal(samples, values(0, 100, 2))


def test_callbacks_see_every_row_once_and_their_changes_are_kept(rig: Rig) -> None:
    stream = rig.stream()
    seen: list[Any] = []

    def double(data: Any, timestamps: Any, info: mne.Info) -> tuple[Any, Any]:
        assert info.ch_names == ["C0", "C1", "STI"]
        seen.append(data[:, 0].copy())
        data *= 2
        return data, timestamps

    stream.add_callback(double)
    rig.recorder.blocks(10)
    _, samples, _ = rows(stream, 200)
    assert list(np.concatenate(seen)) == list(range(200))
    np.testing.assert_array_equal(samples, 2 * values(0, 200, 2))


def test_a_recording_beside_the_stream_has_what_the_stream_has(rig: Rig, tmp_path: Path) -> None:
    stream = rig.stream()
    rig.recorder.blocks(5)
    rows(stream, 100)
    begun = threading.Event()

    def acquire() -> None:
        while not begun.wait(0.02):
            rig.recorder.block()

    acquisition = threading.Thread(target=acquire)
    acquisition.start()
    folder = tmp_path / "recording"
    try:
        stream.start_record(folder, timeout=PATIENCE)
        with pytest.raises(RuntimeError, match="in progress"):
            stream.start_record(tmp_path / "other")
    finally:
        begun.set()
        acquisition.join()
    n = rig.recorder.index - 100
    until(lambda: sum(path.stat().st_size for path in folder.glob("*.eeg")) >= n * 2 * 4)
    stream.stop_record()
    raw = mne.io.read_raw_brainvision(next(folder.glob("*.vhdr")), verbose="error")
    np.testing.assert_array_equal((raw.get_data().T * 1e6).astype(np.float32), values(100, 100 + n, 2))
    with pytest.raises(FileExistsError, match="not empty"):
        stream.start_record(folder)


def test_mistakes_are_told_in_a_line(rig: Rig) -> None:
    with pytest.raises(ValueError, match=f"is '{rig.hub.name}', not 'other'"):
        rig.stream(name="other")
    with pytest.raises(ValueError, match="give another stim_channel"):
        rig.stream(stim_channel="C0")
    for code in (0, 2**24 + 1):  # which float32 has not
        with pytest.raises(ValueError, match="a code is an integer from 1 on"):
            rig.stream(event_id={"Stimulus": code})
    with pytest.raises(ValueError, match="acquisition delay"):
        rig.stream(-1)
    with pytest.raises(HubUnreachable):
        StreamRDA(1, "127.0.0.1:1").connect(0, timeout=0.2)


def test_markers_that_a_stim_channel_cannot_show_are_named(
    rig: Rig, capfd: pytest.CaptureFixture[str]
) -> None:
    stream = rig.stream(event_id={"S  1": 8, "Response": 3})
    same, next_one = (
        rda.BlockMarker(4, 1, -1, "Response", "R  1"),
        rda.BlockMarker(5, 1, -1, "Response", "R  2"),
    )
    rig.recorder.block(markers=(stimulus(2, 5), stimulus(4, 1), same, next_one))
    _, _, codes = rows(stream, 20)
    assert list(codes[:8]) == [0, 0, 0, 0, 8, 3, 0, 0]
    written = _read(capfd).replace("\n", " ")
    assert "two events on sample 4: 8 is on the stim channel, 3 is not" in written
    assert "events on samples 4 and 5: the second is not seen" in written


@given(st.lists(st.integers(0, 25), max_size=30), st.integers(1, 10))
def test_rows_are_the_newest_and_those_handed_out_stay_as_they_were(sizes: list[int], n: int) -> None:
    everything = np.arange(-n, sum(sizes))[:, None]
    held = Rows(everything[:n])
    given_out = [(held.newest, everything[:n])]
    stop = n
    for size in sizes:
        stop += size
        given_out.append((held.append(everything[stop - size : stop]), everything[stop - n : stop]))
    for got, expected in given_out:
        np.testing.assert_array_equal(got, expected)


@given(st.lists(st.tuples(st.integers(1, 100), st.floats(0, 5)), min_size=1, max_size=50))
def test_times_always_rise_and_stay_nearly_even(blocks: list[tuple[int, float]]) -> None:
    clock, index, now = SampleClock(0.001, after=3.0), 0, 0.0
    times = []
    for n, pause in blocks:
        now += pause
        times.append(clock.times(index, index + n, now))
        index += n
    steps = np.diff(np.concatenate(times))
    assert times[0][0] > 3.0
    assert ((steps > 0.00098) & (steps < 0.00102)).all()


def test_times_tell_of_the_quickest_arrivals_and_follow_a_drifting_clock() -> None:
    clock, rng = SampleClock(0.001), np.random.default_rng(2)
    for block in range(1, 30_000):  # 10 min, 50 ppm fast, up to 15 ms late
        true = 20 * block * 0.001 * (1 + 5e-5)
        time_ = clock.times(20 * block - 20, 20 * block, true + rng.exponential(0.005))[-1]
        if block > 1000:
            assert abs(time_ - true) < 0.002


def test_a_stim_channel_forgets_what_is_long_past() -> None:
    stim = Stim(100)
    for index in range(0, 100_000, 10):
        assert stim.place(index, 1) is None
        assert stim.codes(index, index + 10).sum() == 1
    assert len(stim._pulses) < 15
