"""A reader that stood still for longer than all queues hold loses blocks, and repairs them from history."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest

from processes import Child, hub
from rdahub import rda
from rdahub.commands.status import fetch
from scripted import ScriptedRecorder, values

READER = str(Path(__file__).with_name("reader.py"))
CHANNELS, BLOCK, BLOCKS = 64, 20, 18_000  # 92 MB: more than both high-water marks and the TCP buffers


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", ["stream", "local"])
def test_blocks_dropped_for_a_stopped_reader_are_repaired_without_it_noticing(
    kind: str, tmp_path: Path
) -> None:
    recorder = ScriptedRecorder()
    output = tmp_path / "got.npz"
    n = BLOCK * (BLOCKS + 1)
    marker = rda.BlockMarker(3, 1, -1, "Stimulus", "S  1")
    with hub(recorder.address) as server:
        recorder.start(CHANNELS)
        recorder.block(BLOCK)
        address = server.name if kind == "local" else server.query
        child = Child(kind, address, str(n), str(output), program=(READER,))
        try:
            child.wait_for("streaming")
            child.send(signal.SIGSTOP)
            for k in range(BLOCKS):
                recorder.block(BLOCK, (marker,) if k % 1000 == 0 else ())
            while fetch(server.query, 10)["next_index"] < n:
                pass  # the hub's own index tells when it has taken all
            before = fetch(server.query, 10)["counters"]["requests"]
            child.send(signal.SIGCONT)
            child.wait_for("done")
            assert child.finish() == 0, child.stderr
            requests = fetch(server.query, 10)["counters"]["requests"] - before
        finally:
            child.close()
            recorder.close()
    got = np.load(output)
    np.testing.assert_array_equal(got["samples"], values(0, n, CHANNELS))
    assert got["markers"].tolist() == [BLOCK + 1000 * BLOCK * k + 3 for k in range(BLOCKS // 1000)]
    if kind == "stream":
        assert requests > 3, "nothing was dropped, so nothing was repaired: the test is too small"
