"""How many requests a turn of the hub's loop reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import zmq

from rdahub import limits
from rdahub.broker import Counters
from rdahub.questions import Questions
from rdahub_client.waiting import is_readable
from rdahub_client.wire import PingRequest, encode_request


class OpenDoor:
    """A door that lets everybody in, over a socket without a network."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self.socket = socket

    def costs(self, _frame: zmq.Frame, _weight: int) -> bool:
        return False


@pytest.fixture
def asked() -> Iterator[tuple[Questions, Counters]]:
    """A door before which 20 requests wait."""
    with ExitStack() as stack:
        context = stack.enter_context(zmq.Context())
        router = stack.enter_context(context.socket(zmq.ROUTER))
        router.bind("inproc://query")
        dealer = stack.enter_context(context.socket(zmq.DEALER))
        dealer.connect("inproc://query")
        for number in range(20):
            dealer.send(encode_request(PingRequest(), number))
        assert is_readable(router)
        counters, door = Counters(), OpenDoor(router)
        refusal: Any = lambda *_: b""  # noqa: E731
        yield Questions(door, lambda _: b"", refusal, counters), counters  # type: ignore[arg-type]


def test_some_requests_are_read_in_one_turn(asked: tuple[Questions, Counters]) -> None:
    questions, counters = asked
    questions.take_in()
    assert counters.requests == limits.REQUESTS_PER_TURN
    assert questions.is_flooded


def test_a_block_that_has_come_goes_before_all_requests_but_one(asked: tuple[Questions, Counters]) -> None:
    questions, counters = asked
    questions.comes_first = lambda: True
    for turn in (1, 2):  # with a Recorder faster than the hub, requests are still read
        questions.take_in()
        assert counters.requests == turn
        assert not questions.is_flooded
