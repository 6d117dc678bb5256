"""`LocalClient` where its hub's files change under it; the verbs over a real hub are in tests/e2e."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path

import pytest

from rdahub_client.local import LocalClient
from rdahub_client.memory import MIRRORS
from rdahub_client.ring import RingReader
from rdahub_client.shared import Attachment, Owner, default_directory


@pytest.mark.skipif(not MIRRORS, reason="no shared memory here")
def test_a_hub_that_closes_before_its_ring_was_mapped_does_not_hold_its_reader_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, asked = Attachment.ring, []

    def counting(self: Attachment, generation: int) -> RingReader | None:
        asked.append(generation)
        assert len(asked) < 100, "the reader is caught in a loop"
        return real(self, generation)

    monkeypatch.setattr(Attachment, "ring", counting)
    with contextlib.ExitStack() as stack:
        shm = Path(tempfile.mkdtemp(dir=default_directory()))
        stack.callback(shutil.rmtree, shm)
        owner = Owner("hub", shm)
        owner.describe({"instance": "abc", "query": f"ipc://{shm}/nobody"})
        owner.create_ring(64, 16, 0)
        client = LocalClient("hub", shm)
        stack.callback(client.disconnect)
        owner.close()
        client._follow_ring()
        assert client._ring is None
