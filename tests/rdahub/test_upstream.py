"""When to connect, and which state the Recorder is in; time is an argument."""

from __future__ import annotations

import pytest

from rdahub.upstream import (
    DISCONNECTED,
    FIRST_DELAY,
    IDLE,
    JITTER,
    LAST_DELAY,
    SETTLED_SECONDS,
    STALLED,
    STREAMING,
    Upstream,
)


def test_the_way_through_the_states() -> None:
    upstream = Upstream(lambda: 0.0)
    assert upstream.state(0, 0) == DISCONNECTED
    assert upstream.wants_connection(0)
    upstream.attempting()
    assert not upstream.wants_connection(1)
    upstream.connected()
    assert upstream.state(1, 0) == IDLE
    upstream.acquiring(1)
    assert upstream.state(1, 0) == STREAMING
    upstream.stopped()
    assert upstream.state(100, 0) == IDLE
    upstream.acquiring(100)
    upstream.lost(101, "it closed the connection")
    assert upstream.state(101, 0) == DISCONNECTED
    assert upstream.last_error == "it closed the connection"


@pytest.mark.parametrize(("block_seconds", "patience"), [(0.0, 2.0), (0.02, 2.0), (1.0, 5.0)])
def test_silence_while_acquiring_is_a_stall(block_seconds: float, patience: float) -> None:
    upstream = Upstream(lambda: 0.0)
    upstream.attempting()
    upstream.connected()
    upstream.acquiring(10)
    upstream.data(20)
    assert upstream.state(20 + patience, block_seconds) == STREAMING
    assert upstream.state(20 + patience + 0.001, block_seconds) == STALLED
    upstream.data(40)
    assert upstream.state(40, block_seconds) == STREAMING


def test_attempts_back_off_and_jitter_stays_within_bounds() -> None:
    now = 0.0
    upstream = Upstream(lambda: 1.0)
    waits = []
    for _ in range(8):
        upstream.attempting()
        upstream.lost(now, "refused")
        deadline = upstream.next_deadline()
        assert deadline is not None
        waits.append(deadline - now)
        assert not upstream.wants_connection(deadline - 0.001)
        assert upstream.wants_connection(deadline)
        now = deadline
    assert waits[0] == pytest.approx(FIRST_DELAY * (1 + JITTER))
    assert waits[-1] == pytest.approx(LAST_DELAY * (1 + JITTER))
    assert waits == sorted(waits)


def test_a_server_that_delivers_is_tried_again_at_once_after_a_loss() -> None:
    upstream = Upstream(lambda: 0.0)
    for _ in range(6):
        upstream.attempting()
        upstream.lost(0, "refused")
    upstream.attempting()
    upstream.connected()
    upstream.acquiring(100)
    upstream.data(100)
    upstream.data(100 + SETTLED_SECONDS)
    upstream.lost(200, "reset")
    assert upstream.next_deadline() == 200 + FIRST_DELAY


def test_a_failure_is_news_once() -> None:
    upstream = Upstream(lambda: 0.0)
    assert upstream.lost(0, "refused")
    assert not upstream.lost(1, "refused")
    assert upstream.lost(2, "no route")
    upstream.attempting()
    upstream.connected()
    upstream.data(2)
    assert not upstream.lost(3, "no route"), "it fails each time it is connected"
    upstream.connected()
    upstream.data(10)
    upstream.data(10 + SETTLED_SECONDS)
    assert upstream.lost(20, "no route")
