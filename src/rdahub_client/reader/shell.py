"""What drives verbs: arguments become deadlines, steps become messages and answers.

Rule: a subclass supplies messages (`_listen`) and answers (`_ask`); everything that can block keeps its
time-out. What is known without asking for samples stands here too.
Not here: the verbs by theme (`samples`, `dated`, `around`, `archived`, `for_mne`); deciding anything
(`timeline`, `verbs`); sockets (`blocking`), shared memory (`local`).
"""

from __future__ import annotations

import operator
import os
import socket
import sys
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Final, NoReturn, Self, TypeVar

from rdahub_client.errors import AuthError, HubLost, HubUnreachable, NotStreaming, RdaHubError
from rdahub_client.holdings import Window
from rdahub_client.names import why_unknown
from rdahub_client.one_thread import OneThread
from rdahub_client.query import QuerySocket
from rdahub_client.records import Float32, Gap, Marker, Segment
from rdahub_client.streams import Streams
from rdahub_client.timeline import Timeline
from rdahub_client.times import Times
from rdahub_client.verbs import Heard, Listen, Verb, Verbs
from rdahub_client.windows import Windows
from rdahub_client.wire import HereRequest, Info, InfoRequest, Reply, Request

__all__ = [
    "EVER",
    "PROBE_TIMEOUT",
    "REQUEST_TIMEOUT",
    "SILENCE",
    "Shell",
    "as_index",
    "clocks_now",
    "deadline_of",
    "number_of_samples",
    "patience_for",
    "soon",
    "unreachable",
]

Result = TypeVar("Result")


def _program() -> str:
    arguments = getattr(sys, "argv", None) or [""]  # inside another program there may be none
    return Path(arguments[0]).name[:40] or "python"


REQUEST_TIMEOUT: Final = 5.0
"""Seconds until a hub that does not answer a request for data counts as lost."""
PROBE_TIMEOUT: Final = 1.0
"""The same for the short question whether it is there."""
SILENCE: Final = 2.0
"""Seconds without any sign of the hub (there are two a second at least) until it is asked if it is there.
With the probe above, a dead hub is noticed after 3 s."""
EVER: Final = 1e9  # s
TELL: Final = 5.0
"""Seconds between two words to the hub of how far this reader is."""
_PORTS: Final = {
    "5571": "5571 is where a hub publishes; give its query address, 5570 as a rule",
    **dict.fromkeys(("51234", "51244"), "that is a Recorder's port; give the hub's, 5570 as a rule"),
}
_NUMBERS: Final = count(1)
_PROGRAM: Final = f"{_program()}@{socket.gethostname()[:40]}:{os.getpid()}"


def as_index(value: object) -> int:
    """Take an integer of any kind as an index; a float is a mistake that would shift samples."""
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"an index is an integer, not {value!r}; say round(...) or int(...)") from None


def number_of_samples(value: object) -> int:
    """Take a number of samples to poll for."""
    if (n := as_index(value)) < 1:
        raise ValueError(f"poll wants at least 1 sample, not {n}")
    return n


def deadline_of(timeout: float | None) -> float | None:
    """When a time-out from now passes, on the monotonic clock."""
    if timeout is None:
        return None
    try:
        return time.monotonic() + timeout
    except TypeError:
        raise TypeError(f"a time-out is a number of seconds, or None for ever; not {timeout!r}") from None


def clocks_now() -> tuple[int, int]:
    """This program's monotonic and wall clock, ns, read together: of three readings the quickest."""
    readings = [(time.monotonic_ns(), time.time_ns(), time.monotonic_ns()) for _ in range(3)]  # noqa: TID251
    before, wall, after = min(readings, key=lambda reading: reading[2] - reading[0])
    return (before + after) // 2, wall


def soon() -> float:
    """When a hub that does not answer counts as lost."""
    return time.monotonic() + REQUEST_TIMEOUT


def patience_for(request: Request) -> float:
    """Seconds this request may take until the hub counts as lost."""
    return PROBE_TIMEOUT if isinstance(request, InfoRequest) else REQUEST_TIMEOUT


def unreachable(error: RdaHubError, address: str) -> RdaHubError:
    """What to tell somebody who only asked whether the hub is there. Takes up to 0.5 s if nobody answered."""
    if isinstance(error, AuthError):
        return error
    if isinstance(error, NotStreaming):
        return HubUnreachable("not connected: call connect first")
    if reason := why_unknown(address):
        return HubUnreachable(f"no hub answers at {address}: {reason}; check it, or give the IP address")
    _, _, port = address.rpartition(":")
    hint = _PORTS.get(port, "is it running, and is this its query address?")
    return HubUnreachable(f"no hub answers at {address}; {hint}")


class Shell(ABC):
    """What all readers are, before they read."""

    def __init__(self, backlog: int) -> None:
        self._timeline = Timeline(self._open_window)
        self._verbs = Verbs(self._timeline, backlog)
        self._streams = Streams(self._verbs)
        self._times = Times(self._verbs, clocks_now)
        self._windows = Windows(self._verbs)
        self._alone = OneThread()
        self._streaming = False
        self._name = f"{_PROGRAM}.{next(_NUMBERS)}"
        self._tell_at = 0.0

    # --- what a shell supplies -----------------------------------------------------------------------

    @abstractmethod
    def _open_window(self, n_channels: int, start: int) -> Window: ...

    @abstractmethod
    def _listen(self, deadline: float | None) -> Heard: ...

    @abstractmethod
    def _ask(self, request: Request, deadline: float | None, patience: float) -> Reply: ...

    @property
    @abstractmethod
    def address(self) -> str:
        """Where the hub is, as text."""

    @abstractmethod
    def disconnect(self) -> None:
        """Close everything. The window can still be read."""

    # --- segments ------------------------------------------------------------------------------------

    @property
    def is_streaming(self) -> bool:
        """True between `start_streaming` and `stop_streaming`."""
        return self._streaming

    @property
    def instance(self) -> str:
        """The hub's instance: with an index it names one sample for ever. Empty before streaming."""
        self._verbs.know(self._timeline.instance)
        return self._timeline.instance

    @property
    def start_msg(self) -> Segment | None:
        """The newest segment: layout, rate, names, units; None before `start_streaming`."""
        self._refresh()
        return self._timeline.segment

    @property
    def segments(self) -> list[Segment]:
        """All segments that history or window still touch, oldest first."""
        self._refresh()
        return self._timeline.journal.segments

    @property
    def last_sample(self) -> int:
        """Index after the newest sample this client has."""
        self._refresh()
        return self._timeline.next_index

    @property
    def state(self) -> str:
        """What is known of the Recorder, and of the hub.

        ``streaming``; ``stalled``: acquiring, but nothing comes; ``idle``: connected, not acquiring;
        ``disconnected``: no Recorder; ``unreachable``: the hub itself does not answer.
        """
        if self._streaming:
            with suppress(HubLost):
                self._run(self._verbs.catch_up(soon()))
        return self._timeline.state if self._timeline.lost is None else "unreachable"

    @property
    def first_available(self) -> int:
        """Index of the oldest sample the hub still held when it was last heard."""
        self._refresh()
        return self._timeline.first_available

    def info(self, timeout: float | None = REQUEST_TIMEOUT) -> Info:
        """What the hub is and holds.

        Raises
        ------
        HubUnreachable
            No answer in time.
        AuthError
            Hub and client do not accept each other's keys.
        """
        request, patience = InfoRequest(), EVER if timeout is None else timeout
        try:
            with self._alone:
                return self._ask(request, deadline_of(timeout), patience).info()
        except (NotStreaming, HubLost) as error:
            raise unreachable(error, self.address) from error

    def markers(self, start: int, stop: int) -> list[Marker]:
        """Markers on samples ``[start, stop)``, in index order."""
        self._refresh()
        return self._timeline.journal.markers(as_index(start), as_index(stop))

    def gaps(self, start: int, stop: int) -> list[Gap]:
        """Gaps that touch ``[start, stop)``, in index order: what is missing there, and why."""
        self._refresh()
        return self._timeline.gaps(as_index(start), as_index(stop))

    # --- beginning and ending ------------------------------------------------------------------------

    def stop_streaming(self) -> None:
        """Stop following the hub. The window can still be read.

        Raises
        ------
        NotStreaming
            It was not streaming.
        """
        with self._alone:
            self._require_streaming("stop_streaming")
            self._streaming = False

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} has sockets of its own, so it cannot be copied or sent to a process; "
            "connect one there"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disconnect()

    def _held(self, start: int, stop: int) -> Float32 | None:
        """The range from the window, unless the caller's indices are of an instance that is gone."""
        if self._verbs.known_instance != self._timeline.instance:
            return None
        return self._timeline.held(start, stop)

    # --- driving -------------------------------------------------------------------------------------

    def _tell_where(self, query: QuerySocket | None, now: float) -> None:
        """Let the hub's status show how far behind this reader is; nothing depends on it."""
        timeline = self._timeline
        if now < self._tell_at or query is None or not timeline.instance:
            return
        self._tell_at = now + TELL
        query.tell(HereRequest(instance=timeline.instance, name=self._name, next_index=timeline.next_index))

    def _refresh(self) -> None:
        """Take in what has come. Who is told an index by what follows is told one of the present instance."""
        if self._streaming:
            with suppress(HubLost):  # what is known stays known; `read` and `state` tell that the hub is gone
                self._run(self._verbs.catch_up(soon()))
            self._verbs.know(self._timeline.instance)

    def _require_streaming(self, verb: str) -> None:
        if not self._streaming:
            raise NotStreaming(f"{verb}: call start_streaming first", hub=self.address)

    def _require_instance(self) -> None:
        if not self._timeline.instance:
            raise NotStreaming("nothing to read: call start_streaming first", hub=self.address)

    def _run(self, verb: Verb[Result]) -> Result:
        """Drive a verb to its result."""
        with self._alone:
            try:
                step = next(verb)
                while True:
                    if isinstance(step, Listen):
                        step = verb.send(self._listen(step.deadline) if self._streaming else None)
                        continue
                    try:
                        reply = self._ask(step.request, step.deadline, patience_for(step.request))
                    except RdaHubError as error:
                        step = verb.throw(error)
                    else:
                        step = verb.send(reply)
            except StopIteration as end:
                result: Result = end.value
                return result
            except RdaHubError as error:
                error.hub = error.hub or self.address
                raise
