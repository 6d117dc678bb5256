"""A client used by two threads at once, in a forked process, or copied: it is said, and that is all."""

from __future__ import annotations

import copy
import os
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from processes import PATIENCE, Child, hub, simulator
from rdahub_client import Client, LocalClient
from scripted import ScriptedRecorder, values

CALLS: dict[str, Callable[[Client | LocalClient], Any]] = {
    "poll": lambda client: client.poll(1, timeout=0),
    "read": lambda client: client.read(0, 1000),
    "last_sample": lambda client: client.last_sample,
    "info": lambda client: client.info(),
    "stream": lambda client: next(client.stream("oldest")),
    "stop_streaming": lambda client: client.stop_streaming(),
    "disconnect": lambda client: client.disconnect(),
}


@pytest.mark.parametrize("kind", ["network", "local"])
def test_who_comes_second_is_told_and_who_was_there_first_goes_on(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "local" and os.name != "posix":
        pytest.skip("LocalClient is POSIX only")
    recorder = ScriptedRecorder()
    try:
        with (
            hub(recorder.address) as server,
            Client() if kind == "network" else LocalClient(server.name) as client,
        ):
            if isinstance(client, Client):
                client.connect(server.query)
            recorder.start()
            client.start_streaming(timeout=PATIENCE)
            inside, listen, found = threading.Event(), client._listen, []

            def listening(deadline: float | None) -> object:
                inside.set()
                return listen(deadline)

            def wait() -> None:
                found.append(np.array(client.wait(0, 40, timeout=PATIENCE)))

            monkeypatch.setattr(client, "_listen", listening)
            worker = threading.Thread(target=wait)
            worker.start()
            assert inside.wait(PATIENCE)
            for call in CALLS.values():
                with pytest.raises(RuntimeError, match="in use by another thread; make one for each"):
                    call(client)
            recorder.blocks(2)
            worker.join(PATIENCE)
            np.testing.assert_array_equal(found, [values(0, 40, found[0].shape[1])])
            assert client.last_sample == 40  # handed from one thread to another
    finally:
        recorder.close()


IN_A_FORK = """
import os, sys
from rdahub_client import Client, LocalClient

query, name, kind = sys.argv[1:]
client = Client() if kind == "network" else LocalClient(name)
if kind == "network":
    client.connect(query)
client.start_streaming()
client.wait(0, 40)
if (pid := os.fork()) == 0:
    for call in (lambda: client.poll(1), lambda: client.info(), lambda: client.state, client.disconnect):
        try:
            call()
        except RuntimeError as error:
            print(error)
    if kind == "network":
        client.connect(query)
        client.start_streaming()
        print("anew:", client.read(0, 40).shape)
    sys.stdout.flush()
    os._exit(0)
os.waitpid(pid, 0)
client.wait(client.last_sample + 1, client.last_sample + 2)
print("before:", client.read(0, 40).shape)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@pytest.mark.parametrize("kind", ["network", "local"])
def test_a_forked_process_connects_anew(kind: str) -> None:
    with simulator("--channels=2") as recorder, hub(recorder.rda) as server:
        server.wait_for("segment of", "stderr")
        child = Child(server.query, server.name, kind, program=("-W", "ignore", "-c", IN_A_FORK))
        try:
            assert child.finish() == 0, child.stderr
        finally:
            child.close()
    told = ["this client is of the process that forked this one; make one here"] * 4
    anew = ["anew: (40, 2)"] if kind == "network" else []
    assert child.stdout.splitlines() == [*told, *anew, "before: (40, 2)"]


@pytest.mark.parametrize("take", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_client_cannot_be_copied(take: Callable[[object], object]) -> None:
    with Client() as client, pytest.raises(TypeError, match=r"a Client has sockets of its own.*connect one"):
        take(client)
