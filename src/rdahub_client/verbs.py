"""What `get_data`, `wait`, `poll` and `read` do, without doing any of it to a socket.

Rule: a verb is a generator that yields what it needs (`Listen`, `Ask`) and returns its result; a shell
(blocking, local, asyncio) drives it and supplies messages, answers and the passing of time. One body, many
shells. Deadlines are the shell's numbers; a verb only hands them on.

Not here: sockets, clocks; what is known and what is missing (`timeline`); `stream` (`streams`).
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, TypeAlias, TypeVar, cast

import numpy as np

from rdahub_client.errors import (
    AuthError,
    HubLost,
    HubRestarted,
    NoSegment,
    NotYetAvailable,
    Overwritten,
    RdaHubError,
    ReadOnly,
    RequestRefused,
    SegmentChanged,
    StartTimeout,
    Unanswered,
    WireError,
)
from rdahub_client.holdings import Place
from rdahub_client.records import (
    Float32,
)
from rdahub_client.timeline import Timeline
from rdahub_client.wire import Message, PastRangeRequest, RangeRequest, Refusal, Reply, Request

__all__ = ["Ask", "Listen", "Silence", "Step", "Verb", "Verbs", "fetch", "refused"]

Result = TypeVar("Result")

NOW: Final = 0.0
"""A deadline long past: take what is here, do not wait."""

_REFUSALS: Final[dict[str, type[RdaHubError]]] = {
    "OUT_OF_RANGE_OLD": Overwritten,
    "OUT_OF_RANGE_FUTURE": NotYetAvailable,
    "WRONG_SEGMENT": SegmentChanged,
    "NO_STREAM": NoSegment,
    "WRONG_INSTANCE": HubRestarted,
}


def refused(refusal: Refusal, start: int, stop: int) -> RdaHubError:
    """What a refusal means to who asked about ``[start, stop)``."""
    kind = _REFUSALS.get(refusal.code)
    if kind is None:
        other = ReadOnly if refusal.code == "READ_ONLY" else RequestRefused
        return other(refusal.message, code=refusal.code)
    return kind(
        refusal.message,
        requested=(start, stop),
        first_available=refusal.first_available,
        next_index=refusal.next_index,
    )


@dataclass(frozen=True, slots=True)
class Listen:
    """Give me the next message; None when the deadline has passed; `Silence` when the hub is overdue."""

    deadline: float | None


@dataclass(frozen=True, slots=True)
class Ask:
    """Put this to the hub and give me the reply; throw `HubLost` into me if it does not answer.

    `Unanswered` if only the deadline passed: then the answer may be had by asking the same again.
    """

    request: Request
    deadline: float | None


@dataclass(frozen=True, slots=True)
class Silence:
    """No message for longer than heartbeats are apart."""


Step: TypeAlias = Listen | Ask
Heard: TypeAlias = Message | Silence | Reply | None
Verb: TypeAlias = Generator[Step, Heard, Result]


class Verbs:
    """The verbs over one timeline.

    Parameters
    ----------
    backlog : int
        Messages taken in at most before a call answers; data that come faster than they can be taken in would
        otherwise hold it up for ever.

    Ranges are absolute and half-open; answers are float32 of shape (stop - start, n_channels).
    """

    def __init__(self, timeline: Timeline, backlog: int) -> None:
        self.timeline = timeline
        self.known_instance = ""
        """The instance the caller's indices belong to."""
        self._backlog = backlog

    # --- keeping up ----------------------------------------------------------------------------------

    def begin(self, deadline: float | None) -> Verb[None]:
        """Join the hub and return once a segment is known."""
        timeline = self.timeline
        timeline.doubt()
        why = "the hub does not answer"
        while timeline.doubted or timeline.segment is None:
            try:
                yield from self.settle(deadline)
                why = f"the hub is up, but its Recorder has not started ({timeline.state})"
                if timeline.segment is None and not (yield from self.listen(deadline)):
                    raise StartTimeout(why)
            except AuthError:
                raise
            except HubLost:
                if not (yield from self.pause(deadline)):
                    raise StartTimeout(why) from None
                timeline.doubt()
        self.known_instance = timeline.instance

    def catch_up(self, deadline: float | None) -> Verb[None]:
        """Apply everything that has arrived, without waiting for more.

        A hub that is silent is asked whether it is there; one that is not costs this call a moment, and the
        next ones nothing until the silence has lasted as long again.
        """
        yield from self.settle(deadline)
        for _ in range(self._backlog):
            if not (yield from self.listen(NOW, deadline)):
                return

    def listen(self, deadline: float | None, settle_by: float | None = None) -> Verb[bool]:
        """Wait for one message and apply it; False when the deadline has passed."""
        message = yield Listen(deadline)
        if message is None:
            return False
        if isinstance(message, Silence):
            self.timeline.doubt()
        else:
            self.timeline.feed(cast(Message, message))
        yield from self.settle(deadline if settle_by is None else settle_by)
        return True

    def pause(self, deadline: float | None) -> Verb[bool]:
        """After a lost hub: wait for any sign of life; False when the deadline has passed."""
        message = yield Listen(deadline)
        if message is not None and not isinstance(message, Silence):
            self.timeline.feed(cast(Message, message))
        return message is not None

    def settle(self, deadline: float | None) -> Verb[None]:
        """Ask for whatever stands in the way of what has been heard."""
        timeline = self.timeline
        while (request := timeline.advance()) is not None:
            try:
                reply = cast(Reply, (yield Ask(request, deadline)))
            except Unanswered:
                raise  # the next call asks on
            except HubLost as error:
                timeline.give_up(error)
                raise
            timeline.settle(request, reply)

    def know(self, instance: str) -> None:
        """From here on the caller's indices are of this instance."""
        self.known_instance = instance

    def recognise(self) -> None:
        """Refuse indices of another instance than the hub is now."""
        if not self.known_instance:  # the caller was told none yet
            self.know(self.timeline.instance)
        if self.known_instance != self.timeline.instance:
            raise HubRestarted(
                f"the hub restarted: instance {self.known_instance} is gone, {self.timeline.instance} "
                "counts from 0 again",
                first_available=self.timeline.first_available,
                next_index=self.timeline.next_index,
            )

    # --- ranges --------------------------------------------------------------------------------------

    def get_data(self, start: int, stop: int, deadline: float | None) -> Verb[Float32 | None]:
        """The range, or None if it is not to be had now."""
        try:
            return (yield from self._look(start, stop, deadline))
        except RdaHubError:
            return None

    def read(self, start: int, stop: int, deadline: float | None) -> Verb[Float32]:
        """The range, or the reason why not as an error. A restart is said once; the caller knows then."""
        try:
            return (yield from self._look(start, stop, deadline))
        except HubRestarted:
            self.know(self.timeline.instance)
            raise
        except NotYetAvailable as error:
            if self.timeline.ended:
                raise HubLost("the hub has ended", requested=error.requested) from None
            if (lost := self.timeline.lost) is not None:
                raise type(lost)(lost.message, requested=error.requested, hub=lost.hub) from None
            raise

    def _look(self, start: int, stop: int, deadline: float | None) -> Verb[Float32]:
        try:
            yield from self.catch_up(deadline)
        except HubLost:
            self.recognise()
            if (held := self.timeline.held(start, stop)) is not None:
                return held
            raise
        self.recognise()
        return (yield from self.find(start, stop, None))  # as long as it takes, while pages come

    def wait(self, start: int, stop: int, deadline: float | None) -> Verb[Float32 | None]:
        """The range as soon as it is complete; None when the deadline passes or it can never come."""
        while True:
            try:
                yield from self.settle(deadline)
                self.recognise()
                return (yield from self.find(start, stop, deadline))
            except (NotYetAvailable, NoSegment):
                pass
            except HubRestarted:
                return None
            except HubLost:
                pass  # it may come back before the deadline
            except RdaHubError:
                return None
            try:
                if not (yield from self.listen(deadline)):
                    return None
            except HubLost:
                pass

    def poll(self, n: int, deadline: float | None) -> Verb[Float32 | None]:
        """The newest `n` samples after the next block; None at the deadline, or if the segment has fewer."""
        timeline = self.timeline
        with suppress(HubLost):  # as in wait
            yield from self.catch_up(deadline)
        arrivals = timeline.arrivals
        while timeline.arrivals == arrivals:
            try:
                if not (yield from self.listen(deadline)):
                    return None
            except HubLost:
                pass
        stop = timeline.next_index
        segment = timeline.segment
        if segment is None or stop - n < segment.start:
            return None
        try:
            return (yield from self.find(stop - n, stop, deadline))
        except RdaHubError:
            return None

    def find(self, start: int, stop: int, deadline: float | None) -> Verb[Float32]:
        """The range from the window, or else from the hub's history."""
        timeline = self.timeline
        held = timeline.held(start, stop)
        if held is not None:
            return held
        place = timeline.locate(start, stop)
        if start == stop:
            return np.empty((0, timeline.segment.n_channels if timeline.segment else 0), np.float32)
        if place is Place.WINDOW and timeline.window is not None:
            view = timeline.window.view(start, stop)
            if view is not None:
                return view
        instance = timeline.instance
        return (yield from fetch(RangeRequest(instance=instance, start=start, stop=stop), deadline))


def fetch(request: RangeRequest | PastRangeRequest, deadline: float | None) -> Verb[Float32]:
    """The range from the hub's history, page by page, as a copy."""
    samples: Float32 | None = None
    start, stop = request.start, request.stop
    position = start
    while position < stop:
        reply = cast(Reply, (yield Ask(replace(request, start=position), deadline)))
        if (refusal := reply.refusal) is not None:
            raise refused(refusal, start, stop)
        page = reply.page()
        if samples is None:
            samples = np.empty((stop - start, page.samples.shape[1]), np.float32)
        if page.start != position or not position < page.stop <= stop:
            raise WireError(f"a page [{page.start}, {page.stop}) where [{position}, {stop}) was asked for")
        samples[position - start : page.stop - start] = page.samples
        position = page.stop
    assert samples is not None  # noqa: S101 - stop > start
    samples.flags.writeable = False
    return samples
