"""Clients that are dropped without `disconnect`, as a notebook does, leave nothing and hang nothing."""

from __future__ import annotations

import os

import pytest

from processes import Child, hub, leftovers, simulator

CODE = """
import asyncio, gc, os, sys
from rdahub_client import Client, LocalClient, compat
from rdahub_client.asyncio import AsyncClient

query, name, kind = sys.argv[1:]
port = int(query.rpartition(":")[2])


def use(stage):
    client = {"network": Client, "compat": compat.Client, "local": lambda: LocalClient(name)}[kind]()
    if kind != "local":
        client.connect(("127.0.0.1", port))
    if stage:
        client.start_streaming()
        client.poll(1)


async def use_on_a_loop(stage):
    client = AsyncClient()
    await client.connect(query)
    if stage:
        await client.start_streaming()
        await client.poll(1)


def open_files():
    gc.collect()
    return len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0


for times in range(4):
    for stage in (0, 1):
        asyncio.run(use_on_a_loop(stage)) if kind == "asyncio" else use(stage)
        found = open_files()
    if times:
        assert found <= before, (found, before)
    before = found
print("ok")
"""


@pytest.mark.parametrize("kind", ["network", "local", "compat", "asyncio"])
def test_a_client_that_is_dropped_hangs_nothing_and_leaves_nothing(kind: str) -> None:
    if kind == "local" and os.name != "posix":
        pytest.skip("LocalClient is POSIX only")
    with simulator("--channels=2") as recorder, hub(recorder.rda) as server:
        server.wait_for("segment of", "stderr")
        child = Child(server.query, server.name, kind, program=("-c", CODE))
        try:
            assert child.finish() == 0, child.stderr
        finally:
            child.close()
        assert child.stdout == "ok\n"
        assert not [name for name in leftovers(server.name) if ".bell-" in name]
