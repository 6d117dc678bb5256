"""Who reads, and how far behind: what `status` shows of readers that said so."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from proxy import poll

from on_a_loop import OnALoop
from processes import Child, Hub, hub
from rdahub_client import Block, Client, LocalClient
from scripted import ScriptedRecorder

MAKE: dict[str, Callable[[Hub], Any]] = {
    "network": lambda _: Client(),
    "local": lambda server: LocalClient(server.name),
    "asyncio": lambda _: OnALoop(),
}


@pytest.fixture
def recorder() -> Iterator[ScriptedRecorder]:
    scripted = ScriptedRecorder()
    yield scripted
    scripted.close()


def status(server: Hub) -> dict[str, Any]:
    command = Child("status", server.query, "--json")
    try:
        command.finish()
        found: dict[str, Any] = json.loads(command.stdout)
        return found
    finally:
        command.close()


@pytest.mark.parametrize("kind", MAKE)
def test_a_reader_says_how_far_it_is_when_it_looks_for_more(recorder: ScriptedRecorder, kind: str) -> None:
    with hub(recorder.address) as server, MAKE[kind](server) as client:
        if kind != "local":
            client.connect(server.query)
        recorder.start()
        recorder.block()
        client.start_streaming()
        events = client.stream("oldest")
        while not isinstance(next(events), Block):
            pass
        recorder.blocks(49)  # and it does something else meanwhile
        poll(lambda: status(server)["next_index"] == 1000, "the hub has them")
        reader = client.client._client if kind == "asyncio" else client
        reader._tell_at = 0.0  # as if some seconds had passed
        next(events)
        poll(
            lambda: [each["behind"] for each in status(server)["readers"]] == [980],
            "it is 980 samples behind",
        )
        (told,) = status(server)["readers"]
        assert told["name"].split("@")[0] != ""
        assert told["age"] >= 0
        assert client.wait(999, 1000, timeout=30) is not None
        reader._tell_at = 0.0
        assert client.wait(1000, 1001, timeout=0.1) is None
        poll(lambda: [each["behind"] for each in status(server)["readers"]] == [0], "it has caught up")
