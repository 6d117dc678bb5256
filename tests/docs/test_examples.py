"""Every example runs for a moment against a real hub and shows what it promises."""

from __future__ import annotations

import itertools
import json
import os
import re
import runpy
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rdahub.simulator.sources import Synthetic

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))
PATIENCE = 30.0

EXPECTED = {
    "band_power": r"\A( *\d+  alpha +\d+\.\d µV², most at (Fp2|F3|F4)\n)+\Z",
    "record_markers": r"index,seconds,type,description\n0,0\.0,segment,4 channels\n0,0\.0000,New Segment,\n",
    "live_plot": r"\Adrew [1-9]\d* times\n\Z",
    "neurofeedback": r"\A( *\d+  alpha +\d+\.\d\d µV  #+ *  latency +-?\d+\.\d ms\n)+latency of \d+ values",
    "old_rdaclient_script": r"\A(\d+ delta \d+, alpha \d+, beta \d+\n)+\Z",
    "p300_epochs": r"\Aepochs: [1-9]\d* of 'S  1', [1-9]\d* of 'S  2'; \d+ left out\n",
    "record_samples": r"\Arecording to \S+segment-0-from-\d+\.f32\n[1-9]\d* rows recorded\n\Z",
    "two_amplifiers": r"\Asample \d+ of hub 1 = sample \d+ of hub 2; last channel \d+\.\d µV, \d+\.\d µV\n\Z",
}


def start(path: Path, hub: Any, *arguments: str) -> subprocess.Popen[str]:
    address = hub.query.removeprefix("tcp://")
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(path), "--address", address, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
        env={**os.environ, "MPLBACKEND": "Agg", "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip


def run(name: str, hub: Any, *arguments: str) -> str:
    """What an example prints."""
    with start(Path(EXAMPLES[0].parent, f"{name}.py"), hub, *arguments) as process:
        output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, "")
    return output


def test_every_example_is_expected() -> None:
    assert [path.stem for path in EXAMPLES] == sorted(EXPECTED)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path: Path, hub: Any, tmp_path: Path) -> None:
    more = {
        "neurofeedback": ("--seconds=1.5",),
        "p300_epochs": ("--epochs=1", "--seconds=10"),
        "record_samples": ("--seconds=0.3", f"--output={tmp_path}"),
        "two_amplifiers": ("--seconds=1", "--other", hub.query),
    }
    seconds = "1.2" if path.stem == "band_power" else "0.8"
    output = run(path.stem, hub, *more.get(path.stem, ("--seconds", seconds)))
    assert re.search(EXPECTED[path.stem], output), output


def test_alpha_power_of_a_known_sinusoid(root: Path) -> None:
    power = runpy.run_path(str(root / "examples/band_power.py"))["alpha_power"]
    t = np.arange(1000) / 1000
    samples = np.stack([10 * np.sin(2 * np.pi * 10 * t), 10 * np.sin(2 * np.pi * 30 * t)], axis=1)
    assert power(samples, 1000.0) == pytest.approx([10**2 / 2, 0], rel=1e-3, abs=1e-3)


def test_markers_are_written_to_a_file(root: Path, hub: Any, tmp_path: Path) -> None:
    table = tmp_path / "markers.csv"
    assert run("record_markers", hub, "--seconds", "0.3", "--output", str(table)) == ""
    assert table.read_text().startswith("index,seconds,type,description\n0,0.0,segment,4 channels\n")


def test_an_old_script_ends_on_ctrl_c(root: Path, hub: Any) -> None:
    """Its signal handler calls into the client while the client waits."""
    with start(root / "examples/old_rdaclient_script.py", hub) as process:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], PATIENCE)[0]
        assert "alpha" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, "")
    assert output.endswith("Caught Ctrl+C, stopping...\n")


def test_the_feedback_is_the_alpha_of_the_samples_it_names(hub: Any) -> None:
    """Held against the spectrum of what the simulator is known to send."""
    output = run("neurofeedback", hub, "--seconds=2", "--channel=2")
    found = [(int(a), float(b)) for a, b in re.findall(r"^ *(\d+)  alpha +([\d.]+) ", output, re.MULTILINE)]
    source = Synthetic(channels=4)
    taper = np.hanning(1000)
    for stop, amplitude in found:
        signal = 0.1 * source.samples(stop - 1000, stop)[:, 2].astype(float)
        spectrum = np.fft.rfft(taper * (signal - signal.mean())) * 2 / taper.sum()
        assert amplitude == pytest.approx(abs(spectrum[10]), abs=0.006)
    assert min(after - before for (before, _), (after, _) in itertools.pairwise(found)) == 100
    latencies = [float(ms) for ms in re.findall(r"latency +(-?[\d.]+) ms$", output, re.MULTILINE)]
    median, longest = re.findall(r"median (-?[\d.]+) ms, longest ([\d.]+) ms", output)[0]
    assert float(median) == pytest.approx(np.median(latencies), abs=0.11)
    assert float(longest) == max(latencies)
    assert len(latencies) == len(found) > 2


def test_the_picture_shows_the_signal(hub: Any, tmp_path: Path) -> None:
    """Channel 0 counts: its line goes evenly from the lower left to the upper right."""
    from matplotlib.image import imread

    picture = tmp_path / "picture.png"
    run("live_plot", hub, "--seconds=1", "--channels", "0", f"--picture={picture}")
    pixels = imread(picture)[..., :3]
    rows, columns = np.nonzero(np.abs(pixels - np.array([0x1F, 0x77, 0xB4]) / 255).max(axis=2) < 0.05)
    heights = np.array([-rows[columns == column].mean() for column in np.unique(columns)])
    steps = np.diff(heights[3:-3])
    assert len(steps) > 300
    assert np.all(steps > 0)
    assert np.ptp(steps) < 1.5


def test_a_p300_that_was_put_in_is_found(
    start_simulator: Callable[..., Any], start_hub: Callable[..., Any], tmp_path: Path
) -> None:
    """A recording with 10 µV at Pz, 300 ms after every target. The program comes when it is over."""
    from pybv import write_brainvision

    noise = np.random.default_rng(5).normal(0, 2e-6, (3, 250 * 60))
    onsets = 250 + 200 * np.arange(60)
    targets = onsets[::4]
    bump = np.exp(-0.5 * ((np.arange(150) / 250 - 0.3) / 0.04) ** 2)
    for onset in targets:
        noise[2, onset : onset + 150] += 10e-6 * bump
    events = [
        {"onset": int(onset), "description": 11 if onset in targets else 12, "type": "Stimulus"}
        for onset in onsets
    ]
    write_brainvision(
        data=noise,
        sfreq=250,
        ch_names=["Fz", "Cz", "Pz"],
        fname_base="p300",
        folder_out=tmp_path,
        events=events,
    )
    simulator = start_simulator("--vhdr", str(tmp_path / "p300.vhdr"), "--speed", "0")
    hub = start_hub(simulator.rda)
    output = run("p300_epochs", hub, "--target=S 11", "--standard=S 12", "--epochs=15", "--seconds=10")
    assert "epochs: 15 of 'S 11', " in output
    peak, name, at = re.findall(r"largest difference: ([\d.-]+) µV at (\w+), ([\d.]+) s", output)[0]
    cut = {
        onset: noise[2, onset - 25 : onset + 150] * 1e6 for onset in onsets[:57]
    }  # the 15th target is the 57th
    averages = [
        np.mean(
            [each - each[:25].mean() for onset, each in cut.items() if (onset in targets) is wanted], axis=0
        )
        for wanted in (True, False)
    ]
    difference = (averages[0] - averages[1])[26:]
    assert name == "Pz"
    assert float(peak) == pytest.approx(difference.max(), abs=0.05)  # the file's resolution is 0.1 µV
    assert float(at) == pytest.approx((difference.argmax() + 1) / 250, abs=1e-3)
    assert 8 < float(peak) < 12


def test_what_is_recorded_is_what_was_sent(
    root: Path, start_simulator: Callable[..., Any], start_hub: Callable[..., Any], tmp_path: Path
) -> None:
    """Every sample, none twice, and the hole of this recording as NaN."""
    simulator = start_simulator("--dump", str(root / "tests/data/rda/cases/ok_gap.rda"))
    hub = start_hub(simulator.rda)
    output = run("record_samples", hub, "--start=oldest", "--seconds=1.5", f"--output={tmp_path}")
    (path,) = tmp_path.glob("*.f32")
    about = json.loads(path.with_suffix(".json").read_text())
    rows = np.fromfile(path, "<f4").reshape(-1, about["n_channels"])
    assert f"a gap of {np.isnan(rows).all(axis=1).sum()} samples" in output
    assert f"{len(rows)} rows recorded" in output
    from rdahub_client import Client

    with Client() as client:
        client.connect(hub.query)
        client.start_streaming()
        np.testing.assert_array_equal(rows, client.get_data(0, len(rows)))
        assert (about["first_index"], len(rows)) == (0, client.segments[0].stop)


def test_two_hubs_are_aligned_by_time(
    start_simulator: Callable[..., Any], start_hub: Callable[..., Any], tmp_path: Path
) -> None:
    """Two hubs of one Recorder, the second one late: their indices differ, their samples are the same ones.

    Channel 0 counts the Recorder's samples, and so tells how far apart two rows were taken.
    """
    simulator = start_simulator("--channels", "4")
    first = start_hub(simulator.rda)
    first.wait_for("segment of", "stderr")
    second = start_hub(simulator.rda)
    second.wait_for("segment of", "stderr")
    file = tmp_path / "both.npz"
    output = run("two_amplifiers", first, "--other", second.query, "--seconds=2", f"--output={file}")
    pairs = [
        (int(a), int(b)) for a, b in re.findall(r"sample (\d+) of hub 1 = sample (\d+) of hub 2", output)
    ]
    assert len(pairs) == 2
    assert all(a - b > 100 for a, b in pairs)  # the second hub is younger
    both = np.load(file)
    apart = both["first"][:, 0] - both["second"][:, 0]
    assert len(apart) == 2000
    assert np.abs(np.median(apart)) <= 5  # ms; a block is 20
