"""A recording through simulator, hub and readers in other processes equals its file to the last bit."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pybv
import pytest

from processes import Child, hub, simulator
from rdahub import brainvision
from rdahub_client import Client

REAL = Path(__file__).parents[3] / "shared" / "eeg" / "test.vhdr"
READER = str(Path(__file__).with_name("reader.py"))


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real recording if it is at hand, else one of the same kind: int16, 32 channels, odd resolutions."""
    if REAL.exists():
        return REAL
    folder = tmp_path_factory.mktemp("recording")
    rng = np.random.default_rng(5)
    events = [
        {"onset": int(onset), "duration": 1, "type": "Stimulus", "description": int(k + 1)}
        for k, onset in enumerate(np.linspace(7, 7890, 14))
    ]
    pybv.write_brainvision(
        data=rng.integers(-20_000, 20_000, (32, 7900)) * 0.5 * 1e-6,
        sfreq=1000,
        ch_names=[f"C{i}" for i in range(32)],
        fname_base="test",
        folder_out=str(folder),
        events=events,
        resolution=0.5,
        unit="µV",
        fmt="binary_int16",
    )
    return folder / "test.vhdr"


@pytest.mark.timeout(180)
@pytest.mark.parametrize("port", ["float32", "int16"])
def test_every_reader_gets_every_sample_and_marker(recording: Path, tmp_path: Path, port: str) -> None:
    source = brainvision.read(recording)
    expected = (source.raw.astype(np.float64) * np.array(source.resolutions)).astype(np.float32)
    at = sorted(marker.position for marker in source.markers)
    n = len(expected)
    assert expected.shape == (7900, 32)
    assert len(at) == 14
    children: dict[str, Child] = {}

    def start(kind: str, address: str, name: str) -> Child:
        children[name] = Child(kind, address, str(n), str(tmp_path / f"{name}.npz"), program=(READER,))
        children[name].wait_for("streaming")
        return children[name]

    flags = ["--vhdr", str(recording), "--speed", "1.5", *(["--int16"] if port == "int16" else [])]
    try:
        with simulator(*flags) as recorder, hub(recorder.rda) as server:
            start("wait", server.query, "early")
            start("compat", server.query, "compat")
            stopped = start("stream", server.query, "stopped")
            with Client() as clock:
                clock.connect(server.query)
                clock.start_streaming()
                assert clock.wait(1500, 1501, timeout=30) is not None
                stopped.send(signal.SIGSTOP)
                start("local", server.name, "local")
                start("stream", server.query, "late")
                assert clock.wait(6500, 6501, timeout=30) is not None
                stopped.send(signal.SIGCONT)
                for child in children.values():
                    assert child.finish() == 0, child.stderr
                assert [m.index for m in clock.markers(0, n)] == at
                read = clock.get_data(0, n)
                assert read is not None
                np.testing.assert_array_equal(read, expected)
    finally:
        for child in children.values():
            child.close()
    for name in children:
        got = np.load(tmp_path / f"{name}.npz")
        np.testing.assert_array_equal(got["samples"], expected, err_msg=name)
        assert got["samples"].dtype == np.float32
        if name != "compat":
            assert sorted(got["markers"]) == at, name
