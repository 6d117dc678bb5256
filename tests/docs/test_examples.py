"""Every example runs for a moment against a real hub and shows what it promises."""

from __future__ import annotations

import re
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))
PATIENCE = 30.0
WITHOUT_MATPLOTLIB = """
import runpy, sys
sys.modules["matplotlib"] = None
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

EXPECTED = {
    "band_power": r"\A( *\d+  alpha +\d+\.\d µV², most at (Fp2|F3|F4)\n)+\Z",
    "record_markers": r"index,seconds,type,description\n0,0\.0,segment,4 channels\n0,0\.0000,New Segment,\n",
    "live_plot": r"peak-to-peak amplitudes instead\n *\d+  Fp2 \d+ µV  F3 \d+ µV  F4 \d+ µV\n",
    "old_rdaclient_script": r"\A(\d+ delta \d+, alpha \d+, beta \d+\n)+\Z",
}


def start(path: Path, hub: Any, *arguments: str) -> subprocess.Popen[str]:
    # Without matplotlib, so that the test is the same wherever it runs.
    code = [sys.executable, "-W", "error", "-c", WITHOUT_MATPLOTLIB, str(path)]
    address = hub.query.removeprefix("tcp://")
    return subprocess.Popen(
        [*code, "--address", address, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
    )  # fmt: skip


def test_every_example_is_expected() -> None:
    assert [path.stem for path in EXAMPLES] == sorted(EXPECTED)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path: Path, hub: Any) -> None:
    seconds = "1.2" if path.stem == "band_power" else "0.8"
    with start(path, hub, "--seconds", seconds) as process:
        output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, "")
    assert re.search(EXPECTED[path.stem], output), output


def test_alpha_power_of_a_known_sinusoid(root: Path) -> None:
    import runpy

    import numpy as np

    power = runpy.run_path(str(root / "examples/band_power.py"))["alpha_power"]
    t = np.arange(1000) / 1000
    samples = np.stack([10 * np.sin(2 * np.pi * 10 * t), 10 * np.sin(2 * np.pi * 30 * t)], axis=1)
    assert power(samples, 1000.0) == pytest.approx([10**2 / 2, 0], rel=1e-3, abs=1e-3)


def test_markers_are_written_to_a_file(root: Path, hub: Any, tmp_path: Path) -> None:
    table = tmp_path / "markers.csv"
    arguments = ("--seconds", "0.3", "--output", str(table))
    with start(root / "examples/record_markers.py", hub, *arguments) as process:
        _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, "")
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
