"""What a client loads: analysis scripts start often, and wait for it each time."""

from __future__ import annotations

import subprocess
import sys


def test_a_client_loads_neither_pydantic_nor_asyncio_nor_the_hub() -> None:
    code = "import rdahub_client, sys; print(*sorted(m for m in sys.modules if m.count('.') < 2))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"pydantic", "asyncio", "zmq.asyncio", "rdahub", "logging"} & set(loaded.stdout.split())
    assert "rdahub_client.blocking" in loaded.stdout.split()
