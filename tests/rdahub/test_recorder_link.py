"""The link to the Recorder, where a platform is less patient with sockets than Linux."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest

from rdahub.recorder import RecorderLink, RecorderLost


@pytest.fixture
def link() -> Iterator[RecorderLink]:
    made = RecorderLink("", 0, lambda: None)
    yield made
    made.close()


class AsOnMacOS(socket.socket):
    """Its peer has closed already, so it takes no options."""

    def setsockopt(self, *_: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")


def test_a_recorder_that_hung_up_at_once_is_lost_as_any_other(link: RecorderLink) -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    link.use(AsOnMacOS(fileno=ours.detach()))
    assert link.has_arrived()
    with pytest.raises(RecorderLost, match="it closed the connection"):
        list(link.receive())


def test_without_a_recorder_nothing_is_asked(link: RecorderLink, monkeypatch: pytest.MonkeyPatch) -> None:
    def as_on_windows(_: float) -> list[int]:
        raise OSError(errno.EINVAL, "An invalid argument was supplied")

    monkeypatch.setattr(link._arrived, "changes", as_on_windows)
    assert not link.has_arrived()
