"""A name that nobody has, as `connect` and `AsyncClient.connect` tell it."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from processes import hub
from rdahub_client import Client, HubUnreachable, names
from rdahub_client.asyncio import AsyncClient

NOBODY = "no-such-hub.invalid:51245"
SAID = r"no hub answers at tcp://no-such-hub\.invalid:51245: the name no-such-hub\.invalid is not known"


def test_a_name_that_nobody_has_is_said() -> None:
    with Client() as client, pytest.raises(HubUnreachable, match=SAID):
        client.connect(NOBODY, timeout=0.1)


def test_a_name_that_nobody_has_is_said_on_a_loop() -> None:
    async def connect() -> None:
        async with AsyncClient() as client:
            await client.connect(NOBODY, timeout=0.1)

    with pytest.raises(HubUnreachable, match=SAID):
        asyncio.run(connect())


@pytest.mark.parametrize(
    "endpoint", ["tcp://127.0.0.1:1", "tcp://[::1]:1", "tcp://localhost:1", "ipc://gone/x"]
)
def test_what_is_there_but_silent_has_no_wrong_name(endpoint: str) -> None:
    assert names.why_unknown(endpoint) == ""


def test_a_text_that_is_no_name_is_said() -> None:
    assert names.why_unknown("tcp://a..b:1") == "a..b is no host name"


def test_a_look_up_that_takes_long_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answered, looked = threading.Event(), threading.Event()

    def look_up(*_: object) -> list[object]:
        looked.set()
        answered.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert names.why_unknown("tcp://slow.invalid:1") == ""
    assert looked.is_set()
    answered.set()


def test_a_hub_that_answers_costs_no_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("looked up"))
    with hub("127.0.0.1:1") as server, Client() as client:
        client.connect(server.query.replace("127.0.0.1", "localhost"))
        client.info()
