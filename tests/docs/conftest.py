"""A simulator and a hub beside the documents and examples, as their readers would start them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from processes import Hub, Simulator
from processes import hub as running_hub
from processes import simulator as running_simulator


@pytest.fixture(scope="module")
def start_simulator() -> Iterator[Callable[..., Simulator]]:
    """Start simulators: ``start_simulator("--channels", "4")``."""
    with contextlib.ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(running_simulator(*arguments))


@pytest.fixture(scope="module")
def start_hub() -> Iterator[Callable[..., Hub]]:
    """Start hubs: ``start_hub(recorder)``."""
    with contextlib.ExitStack() as stack:
        yield lambda recorder, *arguments: stack.enter_context(running_hub(recorder, *arguments))


@pytest.fixture(scope="module")
def hub(start_simulator: Callable[..., Simulator], start_hub: Callable[..., Hub]) -> Hub:
    """One hub of 4 channels at 1 kHz, for all that only read.

    Its simulator is its own: a run begins with the first connection, so that channel 0 is the index.
    """
    return start_hub(start_simulator("--channels", "4").rda)


@pytest.fixture(scope="session")
def root() -> Path:
    """The project."""
    return Path(__file__).parents[2]
