"""`to_raw` and `epochs` against recordings and real hubs: the same numbers, annotations and reasons."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pybv
import pytest

from processes import PATIENCE, Hub, hub, simulator
from rdahub import brainvision, rda
from rdahub_client import Client, HubRestarted, Overwritten, Segment, SegmentChanged
from rdahub_client.bridges import mne_arrays
from rdahub_client.bridges.mne_arrays import make_info
from rdahub_client.bridges.mne_names import Events, channel_type, unit_exponent
from rdahub_client.records import Marker
from scripted import ScriptedRecorder, values

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "eeg" / "test.vhdr"


def write_recording(folder: Path) -> Path:
    """Int16, resolutions that are no binary fractions, channels of several kinds, all kinds of markers."""
    rng = np.random.default_rng(5)
    resolutions = [0.1, 0.5, 0.04883, 0.1, 0.5]
    raw = rng.integers(-20_000, 20_000, (5, 3000))
    kinds = [("Stimulus", 1), ("Response", 12), ("Comment", "blink left"), ("Stimulus", 255)]
    pybv.write_brainvision(
        data=raw * np.array(resolutions)[:, None] * 1e-6,
        sfreq=500,
        ch_names=["Fp1", "Cz", "Oz", "HEOG", "Chin_EMG"],
        fname_base="made",
        folder_out=str(folder),
        events=[
            {"onset": 3 + 290 * k, "duration": 1 + k, "type": kind, "description": what}
            for k, (kind, what) in enumerate(kinds * 2)
        ],
        resolution=np.array(resolutions),
        unit="µV",
        fmt="binary_int16",
    )
    return folder / "made.vhdr"


@pytest.mark.parametrize("port", ["float32", "int16"])
@pytest.mark.parametrize("which", ["made", "real"])
def test_a_recording_through_the_hub_is_what_mne_reads_from_its_file(
    which: str, port: str, tmp_path: Path
) -> None:
    if which == "real" and not REAL.exists():
        pytest.skip("the real recording is not at hand")
    path = write_recording(tmp_path) if which == "made" else REAL
    expected = mne.io.read_raw_brainvision(path, preload=True, verbose="error")
    n = expected.n_times
    flags = ["--vhdr", str(path), "--speed", "0", *(["--int16"] if port == "int16" else [])]
    with simulator(*flags) as recorder, hub(recorder.rda) as server, Client() as client:
        client.connect(server.query)
        client.start_streaming(PATIENCE)
        assert client.wait(0, n, timeout=PATIENCE) is not None
        raw = client.to_raw(0, n)
        samples = client.read(0, n)
    assert raw.ch_names == expected.ch_names
    assert raw.info["sfreq"] == expected.info["sfreq"]
    got, wanted = raw.get_data(), expected.get_data()
    assert got.dtype == np.float64
    # To the last bit in the hub's unit: float32 of µV. MNE's own float64 is raw * (resolution * 1e-6).
    units = brainvision.read(path).units
    scale = np.array([1e-6 if unit in {"µV", "µS", "uS"} else 1.0 for unit in units])[:, None]
    np.testing.assert_array_equal(got, samples.T.astype(np.float64) * scale)
    np.testing.assert_array_equal((got / scale).astype(np.float32), (wanted / scale).astype(np.float32))
    np.testing.assert_array_equal((got / scale).astype(np.float32), samples.T)
    notes, file_notes = raw.annotations, expected.annotations
    # MNE leaves out the first New Segment of a file, for it only tells the date.
    first = len(notes) - len(file_notes)
    assert list(notes.description[:first]) in ([], ["New Segment/"])
    assert len(file_notes) >= 8
    for name in ("onset", "duration", "description", "ch_names"):
        np.testing.assert_array_equal(getattr(notes, name)[first:], getattr(file_notes, name), err_msg=name)
    file_events, codes = mne.events_from_annotations(expected, verbose="error")
    events, _ = mne.events_from_annotations(raw, event_id=codes, verbose="error")
    np.testing.assert_array_equal(events, file_events)
    assert abs(datetime.now(UTC) - raw.info["meas_date"]).total_seconds() < 3600
    if which == "made":
        assert raw.get_channel_types() == ["eeg", "eeg", "eeg", "eog", "emg"]
        positions = raw.get_montage().get_positions()["ch_pos"]
        assert list(positions) == ["Fp1", "Cz", "Oz"]


@contextlib.contextmanager
def scripted(*flags: str) -> Iterator[tuple[ScriptedRecorder, Client]]:
    recorder = ScriptedRecorder()
    with contextlib.closing(recorder), hub(recorder.address, *flags) as server, Client() as client:
        recorder.start()
        client.connect(server.query)
        client.start_streaming(PATIENCE)
        yield recorder, client


def stimulus(position: int, code: int = 1, kind: str = "Stimulus") -> rda.BlockMarker:
    return rda.BlockMarker(position, 1, -1, kind, f"{kind[0]}{code:3}")


def caught_up(client: Client, index: int) -> None:
    assert client.wait(index - 1, index, timeout=PATIENCE) is not None


def test_a_gap_is_nan_annotated_so_that_filters_skip_it() -> None:
    with scripted() as (recorder, client):
        recorder.blocks(50)
        recorder.counter += 2
        recorder.index += 40
        recorder.block(markers=(rda.BlockMarker(3, 500, 1, "Comment", "long"),))
        recorder.blocks(50)
        caught_up(client, 2060)
        raw = client.to_raw(10, 2060)
        inside = client.to_raw(1010, 1030)
    assert raw.first_samp == 0
    gap = raw.annotations[raw.annotations.description == "BAD_ACQ_SKIP"]
    assert [(note["onset"], note["duration"]) for note in gap] == [(0.99, 0.04)]
    note = raw.annotations[raw.annotations.description == "Comment/long"][0]
    assert (note["onset"], note["duration"], tuple(note["ch_names"])) == (1.033, 0.5, ("C1",))
    expected = values(10, 2060, 2).T * np.float64(1e-6)
    expected[:, 990:1030] = np.nan
    np.testing.assert_array_equal(raw.get_data(), expected)
    raw.filter(None, 40, verbose="error")
    assert np.isfinite(np.delete(raw.get_data(), slice(990, 1030), axis=1)).all()
    assert list(inside.annotations.description) == ["BAD_ACQ_SKIP"]
    assert inside.annotations.duration[0] == 0.02


def test_what_comes_meanwhile_does_not_change_what_was_read() -> None:
    with (
        simulator("--rate", "20000", "--block", "20000", "--speed", "20", "--channels", "2") as recorder,
        hub(recorder.rda) as server,
        Client(buffer_size=21_000) as client,
    ):
        client.connect(server.query)
        client.start_streaming(PATIENCE)
        epochs = None
        for _ in range(8):
            assert client.poll(20_000, timeout=PATIENCE) is not None
            stop = client.last_sample
            time.sleep(0.1)  # two blocks come: more than the window holds
            first = (client.to_raw(stop - 20_000, stop).get_data()[0] * 1e6).round()
            assert list(first[[0, -1]]) == [stop - 20_000, stop - 1]
            assert (np.diff(first) == 1).all()
            epochs = client.epochs(None, 0, 0.5, since=stop - 30_000, until=stop - 10_000)
            for epoch, event in zip(epochs.get_data(), epochs.events, strict=True):
                np.testing.assert_array_equal((epoch[0] * 1e6).round(), event[0] + np.arange(10_001))
        assert epochs


def test_two_segments_are_not_one_raw_and_meas_date_is_that_of_its_first_sample() -> None:
    before = datetime.now(UTC)
    with scripted() as (recorder, client):
        recorder.blocks(5)
        recorder.stop()
        recorder.start()
        recorder.blocks(5)
        caught_up(client, 200)
        with pytest.raises(SegmentChanged):
            client.to_raw(90, 110)
        raw = client.to_raw(100, 200)
        later = client.to_raw(150, 200)
        description = f"rdahub instance {client.instance}, samples [100, 200)"
    assert raw.info["description"] == description
    assert -1 < (raw.info["meas_date"] - before).total_seconds() < PATIENCE
    assert (later.info["meas_date"] - raw.info["meas_date"]).total_seconds() == pytest.approx(0.05, abs=0.01)


def test_epochs_are_also_those_of_before_and_every_other_marker_has_its_reason() -> None:
    with scripted("--history", "1s") as (recorder, client):
        recorder.block(markers=(stimulus(1, 1),))  # overwritten when the rest has come
        recorder.blocks(30)
        first = recorder.index
        recorder.start(n_channels=3)  # shown at another layout
        recorder.block(markers=(stimulus(10, 1),))
        recorder.start()
        start = recorder.index
        recorder.block(markers=(stimulus(2, 1), stimulus(17, 2)))
        recorder.blocks(3)
        recorder.block(markers=(stimulus(0, 3), stimulus(0, 1, "Response"), stimulus(19, 1)))
        recorder.counter += 1
        recorder.index += 20
        recorder.block()
        recorder.block(markers=(stimulus(5, 1), rda.BlockMarker(6, 1, -1, "Comment", "no event")))
        recorder.blocks(2)
        recorder.block(markers=(stimulus(15, 2),))
        end = recorder.index
        caught_up(client, end)
        epochs = client.epochs(["Stimulus", "Response/R 1"], tmin=-0.005, tmax=0.01, since=first)
        at = np.array([17, 80, 145]) + start
        assert list(epochs.events[:, 0]) == list(at)
        assert list(epochs.events[:, 2]) == [2, 3, 1]
        assert epochs.event_id == {"Stimulus/S  1": 1, "Stimulus/S  2": 2, "Stimulus/S  3": 3}
        assert epochs.drop_log == (
            ("OTHER_LAYOUT",), ("SEGMENT_END",), (), (), ("SAME_SAMPLE",), ("GAP",), (), ("NOT_YET",),
        )  # fmt: skip
        assert list(epochs.selection) == [2, 3, 6]
        assert (epochs.tmin, epochs.tmax) == (-0.005, 0.01)
        expected = [values(i - 5, i + 11, 2).T * np.float64(1e-6) for i in at]
        np.testing.assert_array_equal(epochs.get_data(), expected)
        assert len(epochs["Stimulus"]) == 3
        only = client.epochs({"S  3": 77}, -0.005, 0.01, since=start, until=start + 81)
        assert only.event_id == {"S  3": 77}
        assert list(only.events[0]) == [start + 80, 0, 77]
        recorder.blocks(100)
        caught_up(client, end + 2000)
        with pytest.raises(ValueError, match=r"no marker on samples .* there are 'Comment/no event', 'Resp"):
            client.epochs("Stimulus/S 99", since=start, until=end)


def test_an_event_whose_window_is_gone_is_dropped_as_overwritten() -> None:
    with scripted("--history", "1s") as (recorder, client):
        recorder.block(markers=(stimulus(10),))
        recorder.blocks(100)
        recorder.block(markers=(stimulus(10),))
        recorder.blocks(10)
        caught_up(client, recorder.index)
        fresh = _fresh(client)
        with pytest.raises(Overwritten):
            fresh.to_raw(0, 100)
        oldest = fresh.first_available
        marker = Marker(oldest + 3, 1, -1, "Stimulus", "S  1", block=oldest)
        fresh._timeline.journal.append(marker)
        epochs = fresh.epochs(None, -0.01, 0.01)
        fresh.disconnect()
    assert epochs.drop_log[0] == ("OVERWRITTEN",)
    assert len(epochs) == 1


def _fresh(client: Client) -> Client:
    """A client whose window has none of the past."""
    other = Client()
    other.connect(client.address)
    other.start_streaming(PATIENCE)
    return other


@pytest.mark.parametrize(
    ("name", "unit", "kind", "exponent"),
    [
        ("Fp1", "µV", "eeg", -6), ("Fp1", "\N{GREEK SMALL LETTER MU}V", "eeg", -6), ("C3", "uV", "eeg", -6),
        ("HEOG", "mV", "eog", -3), ("L_VEOG", "nV", "eog", -9), ("ECG1", "V", "ecg", 0),
        ("EKG", "µV", "ecg", -6),
        ("Chin EMG", "microvolts", "emg", -6), ("Temp", "°C", "misc", 0), ("GSR", "µS", "misc", -6),
        ("EOG", "C", "misc", 0), ("time", "µs", "misc", 0), ("ECoG1", "µV", "eeg", -6),
    ],
)  # fmt: skip
def test_channels_are_what_name_and_unit_say(name: str, unit: str, kind: str, exponent: int) -> None:
    assert channel_type(name, unit) == kind
    assert unit_exponent(unit) == exponent
    segment = Segment(0, 0, None, 1000.0, (1.0,), (name,), (unit,))
    info = make_info(segment, "STI")
    assert info.get_channel_types() == [kind, "stim"]
    assert info["chs"][0]["unit_mul"] == exponent


def test_names_that_are_empty_or_repeated_do_not_end_it() -> None:
    with scripted() as (recorder, client):
        recorder.blocks(1)
        recorder.send(rda.Start(1000.0, (1.0,) * 4, ("a", "a", "", "\u00c4")))
        recorder.n_channels, recorder.counter = 4, 0
        recorder.block(markers=tuple(rda.BlockMarker(c, 1, c, "Comment", "\u00fc") for c in range(4)))
        caught_up(client, 40)
        raw = client.to_raw(20, 40)
        epochs = client.epochs("Comment", 0, 0, since=20)
    assert len(set(raw.ch_names)) == 4
    assert raw.ch_names[3] == "\u00c4"
    assert [note["ch_names"] for note in raw.annotations] == [(name,) for name in raw.ch_names]
    assert list(epochs.events[:, 0]) == [20, 21, 22, 23]


@pytest.mark.parametrize("verb", ["to_raw", "epochs"])
def test_of_a_hub_that_restarts_meanwhile_nothing_is_mixed(
    verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new instance has samples and markers of the same indices."""
    recorder = ScriptedRecorder()
    with contextlib.closing(recorder), contextlib.ExitStack() as stack, Client() as client:
        first = stack.enter_context(contextlib.closing(Hub(recorder.address)))
        recorder.start()
        client.connect(first.query)
        client.start_streaming(PATIENCE)
        recorder.block(markers=(stimulus(2), stimulus(8), stimulus(15)))
        caught_up(client, 20)
        volts, restarted = mne_arrays._volts, threading.Event()

        def restart(data: Any, segment: Segment) -> Any:
            if not restarted.is_set():
                restarted.set()
                assert first.stop() == 0
                recorder.hang_up()
                second = Hub(recorder.address, query=first.query, publish=first.publish)
                stack.enter_context(contextlib.closing(second))
                recorder.start()
                recorder.block(markers=(stimulus(9),))
                recorder.blocks(1)
                instance, deadline = client.instance, time.monotonic() + PATIENCE
                while client.instance == instance or client.last_sample < 40:
                    assert time.monotonic() < deadline
                    client.poll(1, timeout=0.1)
            return volts(data, segment)

        monkeypatch.setattr(mne_arrays, "_volts", restart)
        with pytest.raises(HubRestarted, match="restarted meanwhile"):
            client.to_raw(0, 20) if verb == "to_raw" else client.epochs(None, 0, 0.002)
        raw = client.to_raw(0, 20)
        assert list(raw.annotations.onset) == [0.009]
        np.testing.assert_array_equal(raw.get_data(), values(20, 40, 2).T * np.float64(1e-6))


def test_indices_of_an_instance_that_is_gone_are_refused_by_to_raw() -> None:
    recorder = ScriptedRecorder()
    with contextlib.closing(recorder), Client() as client:
        with contextlib.closing(Hub(recorder.address)) as first:
            recorder.start()
            client.connect(first.query)
            client.start_streaming(PATIENCE)
            recorder.block()
            caught_up(client, 20)
            assert first.stop() == 0
        recorder.hang_up()
        with contextlib.closing(Hub(recorder.address, query=first.query, publish=first.publish)) as second:
            recorder.start()
            recorder.block()
            with Client() as other:
                other.connect(second.query)
                other.start_streaming(PATIENCE)
                caught_up(other, 20)
            client.wait(20, 21, timeout=PATIENCE)  # gives up when it hears of the other instance
            with pytest.raises(HubRestarted):
                client.to_raw(0, 20)
            assert client.to_raw(0, 20).get_data()[0, 0] == 20 * 1e-6


def test_codes_are_those_mne_gives_the_same_annotations() -> None:
    names = [
        "Stimulus/S  1", "Stimulus/S255", "Response/R 15", "Optic/O  1", "SyncStatus/Sync On", "New Segment/",
        "Comment/b", "Comment/a", "Stimulus/S1000",
    ]  # fmt: skip
    events = Events()
    for i, name in enumerate(names):
        kind, _, description = name.partition("/")
        events.code(Marker(i, 1, -1, kind, description))
    raw = mne.io.RawArray(np.zeros((1, 100)), mne.create_info(1, 10, "eeg"), verbose="error")
    raw.set_annotations(mne.Annotations(np.arange(6) / 10, 0, names[:6]))
    _, expected = mne.events_from_annotations(raw, verbose="error")
    assert {name: events.seen[name] for name in names[:6]} == expected
    assert [events.seen[name] for name in names[6:]] == [10001, 10002, 10003]
    assert events.code(Marker(9, 1, -1, "Stimulus", "S  0")) == 10004  # 0 would be no event


@pytest.mark.parametrize(
    ("lacking", "code"),
    [
        ("mne", "from rdahub_client import Client; Client().to_raw(0, 1)"),
        ("mne", "from rdahub_client import Client; Client().epochs()"),
        ("mne_lsl", "import rdahub_client.bridges.mne"),
    ],
)
def test_a_missing_extra_is_told_in_a_line(lacking: str, code: str) -> None:
    program = f"import sys; sys.modules[{lacking!r}] = None; {code}"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("pip install 'rdahub[mne]'")
