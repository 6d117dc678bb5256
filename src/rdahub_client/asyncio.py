"""`AsyncClient`: the verbs awaited, for programs that run on an event loop.

Rule: the same timeline, verbs and sockets as `Client`; only the waiting is the loop's. Messages are taken in
between two waits and never inside one, so a cancelled call loses nothing: the next one goes on from there.
Needs a loop that can watch descriptors: asyncio's selector loops and uvloop, not Windows' proactor loop.
Not here: deciding anything (`timeline`, `verbs`), sockets (`blocking`, `query`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Self, TypeVar, overload

import numpy as np
import numpy.typing as npt

from rdahub_client.address import Address, hub_wanted
from rdahub_client.blocking import Client
from rdahub_client.clock import Float64, SampleClock
from rdahub_client.discovery import find_address
from rdahub_client.errors import HubLost, NotStreaming, RdaHubError, StreamTimeout
from rdahub_client.journal import Journal
from rdahub_client.keys import KeyFile
from rdahub_client.past import Past, list_instances, recall
from rdahub_client.reader import (
    EVER,
    PROBE_TIMEOUT,
    REQUEST_TIMEOUT,
    SILENCE,
    as_index,
    deadline_of,
    number_of_samples,
    patience_for,
    soon,
    unreachable,
)
from rdahub_client.records import Epoch, Event, Float32, Gap, Instance, Marker, Segment
from rdahub_client.streams import Cursor
from rdahub_client.times import Clock, Indices, Seconds
from rdahub_client.verbs import Heard, Listen, Verb
from rdahub_client.windows import Pending, Texts
from rdahub_client.wire import Info, InfoRequest, Reply, Request

__all__ = ["AsyncClient"]

Result = TypeVar("Result")


class AsyncClient:
    """A reader of one hub for asyncio; parameters as for `Client`.

    Notes
    -----
    A client belongs to one task: two calls at once are refused. Properties tell what has arrived so far and
    never wait; `refresh` asks.

    Examples
    --------
    >>> async with AsyncClient() as client:  # doctest: +SKIP
    ...     await client.connect("127.0.0.1")
    ...     await client.start_streaming()
    ...     newest = await client.poll(250)
    """

    def __init__(
        self,
        buffer_size: int = 300_000,
        buffer_window: int = 1,
        *,
        curve_key: KeyFile | None = None,
        server_key: KeyFile | None = None,
    ) -> None:
        self._client = Client(buffer_size, buffer_window, curve_key=curve_key, server_key=server_key)
        self._timeline = self._client._timeline
        self._verbs = self._client._verbs
        self._times = self._client._times
        self._busy = False
        self._let_go: Callable[[], None] = _nothing
        """Ends the wait under way, before the sockets it waits for are closed."""

    # --- beginning and ending ------------------------------------------------------------------------

    async def connect(self, address: Address = "127.0.0.1", timeout: float | None = 5) -> None:
        """Find the hub; as `Client.connect`."""
        deadline = deadline_of(timeout)
        with self._alone():
            if hub_wanted(address) is not None:
                address = await asyncio.to_thread(find_address, address, timeout, self._client._keys)
            self._client._open_query(address)
            try:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                self._client._found(await self._inform(left))
            except (RdaHubError, asyncio.CancelledError):
                self._client.disconnect()
                raise

    async def start_streaming(self, timeout: float | None = 10) -> None:
        """Follow the hub; as `Client.start_streaming`."""
        with self._alone():
            self._client._begin_streaming()
        try:
            await self._run(self._verbs.begin(deadline_of(timeout)))
        except (RdaHubError, asyncio.CancelledError):
            if self._client.is_streaming:
                self._client.stop_streaming()
            raise

    async def stop_streaming(self) -> None:
        """Stop following the hub; a task's stream or wait ends. The window can still be read."""
        self._let_go()
        self._client.stop_streaming()

    async def disconnect(self) -> None:
        """Close all sockets; what a task waits for ends. The window can still be read."""
        self._let_go()
        self._client.disconnect()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.disconnect()

    # --- what is known -------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """The hub's query endpoint."""
        return self._client.address

    @property
    def buffer_size(self) -> int:
        """Samples kept in the window."""
        return self._client.buffer_size

    @property
    def buffer_window(self) -> int:
        """Longest range promised as a contiguous view, in samples."""
        return self._client.buffer_window

    @property
    def data_dtype(self) -> str:
        """Type of the samples, ``float32``."""
        return self._client.data_dtype

    @property
    def is_streaming(self) -> bool:
        """True between `start_streaming` and `stop_streaming`."""
        return self._client.is_streaming

    @property
    def instance(self) -> str:
        """The hub's instance; empty before streaming."""
        self._verbs.know(self._timeline.instance)
        return self._timeline.instance

    @property
    def start_msg(self) -> Segment | None:
        """The newest segment; None before `start_streaming`."""
        self._glance()
        return self._timeline.segment

    @property
    def segments(self) -> list[Segment]:
        """All segments that history or window still touch, oldest first."""
        self._glance()
        return self._timeline.journal.segments

    @property
    def last_sample(self) -> int:
        """Index after the newest sample this client has."""
        self._glance()
        return self._timeline.next_index

    @property
    def first_available(self) -> int:
        """Index of the oldest sample the hub still held when it was last heard."""
        self._glance()
        return self._timeline.first_available

    @property
    def state(self) -> str:
        """What is known of the Recorder, and of the hub; as `Client.state`."""
        self._glance()
        lost = self._timeline.lost is not None or self._client._silent_for() > SILENCE + PROBE_TIMEOUT
        return "unreachable" if lost and self.is_streaming else self._timeline.state

    async def refresh(self) -> None:
        """Take in what has come, and ask the hub for what stands in its way: lost records, who it is now.

        The properties then tell the present, also after a restart of the hub. All other calls do this too.
        """
        if self._client.is_streaming:
            with contextlib.suppress(HubLost):  # `state` tells that it is gone
                await self._run(self._verbs.catch_up(soon()))
            self._verbs.know(self._timeline.instance)

    async def info(self, timeout: float | None = REQUEST_TIMEOUT) -> Info:
        """What the hub is and holds; as `Client.info`."""
        with self._alone():
            return await self._inform(timeout)

    async def markers(self, start: int, stop: int) -> list[Marker]:
        """Markers on samples ``[start, stop)``, in index order."""
        await self.refresh()
        return self._timeline.journal.markers(as_index(start), as_index(stop))

    async def gaps(self, start: int, stop: int) -> list[Gap]:
        """Gaps that touch ``[start, stop)``, in index order."""
        await self.refresh()
        return self._timeline.gaps(as_index(start), as_index(stop))

    # --- samples -------------------------------------------------------------------------------------

    async def get_data(self, start: int, stop: int) -> Float32 | None:
        """Samples ``[start, stop)`` if they are there now; as `Client.get_data`."""
        start, stop = as_index(start), as_index(stop)
        held = self._client._held(start, stop)
        return held if held is not None else await self._run(self._verbs.get_data(start, stop, soon()))

    async def read(self, start: int, stop: int) -> Float32:
        """As `get_data`, but says why there is nothing; as `Client.read`."""
        start, stop = as_index(start), as_index(stop)
        held = self._client._held(start, stop)
        if held is not None:
            return held
        self._client._require_instance()
        return await self._run(self._verbs.read(start, stop, soon()))

    async def wait(self, start: int, stop: int, timeout: float | None = 1) -> Float32 | None:
        """Samples ``[start, stop)`` as soon as the last of them has arrived; as `Client.wait`."""
        self._client._require_streaming("wait")
        start, stop = as_index(start), as_index(stop)
        held = self._client._held(start, stop)
        if held is not None:
            return held
        return await self._run(self._verbs.wait(start, stop, deadline_of(timeout)))

    async def poll(self, n: int, timeout: float | None = 10) -> Float32 | None:
        """The newest `n` samples, after the NEXT block has arrived; as `Client.poll`."""
        self._client._require_streaming("poll")
        return await self._run(self._verbs.poll(number_of_samples(n), deadline_of(timeout)))

    # --- time ----------------------------------------------------------------------------------------

    @overload
    async def time_of(self, index: int, clock: Clock = "monotonic") -> float: ...
    @overload
    async def time_of(self, index: npt.NDArray[np.int64], clock: Clock = "monotonic") -> Float64: ...
    async def time_of(self, index: Indices, clock: Clock = "monotonic") -> Seconds:
        """When samples were taken, or will be; as `Client.time_of`."""
        self._client._require_instance()
        return await self._run(self._times.time_of(index, clock, soon()))

    @overload
    async def index_at(self, time: float, clock: Clock = "monotonic") -> int: ...
    @overload
    async def index_at(self, time: Float64, clock: Clock = "monotonic") -> npt.NDArray[np.int64]: ...
    async def index_at(self, time: Seconds, clock: Clock = "monotonic") -> Indices:
        """The sample taken nearest to a time; as `Client.index_at`."""
        self._client._require_instance()
        return await self._run(self._times.index_at(time, clock, soon()))

    async def at(self, start: float, stop: float, clock: Clock = "monotonic") -> Float32:
        """Samples taken from `start` up to, not including, `stop`; as `Client.at`."""
        self._client._require_instance()
        return await self.read(*await self._run(self._times.span(start, stop, clock, soon())))

    async def sample_clock(self, index: int | None = None) -> SampleClock:
        """How exactly times are known; as `Client.sample_clock`."""
        self._client._require_instance()
        return await self._run(self._times.sample_clock(None if index is None else as_index(index), soon()))

    # --- everything in order -------------------------------------------------------------------------

    def stream(self, start: str | int = "live", timeout: float | None = None) -> AsyncIterator[Event]:
        """Everything from `start` on, as events in index order; as `Client.stream`.

        Asking on after a time-out or a cancelled ``anext`` is allowed, and loses nothing.
        """
        self._client._require_streaming("stream")
        self._glance()
        return AsyncEventStream(self, self._client._streams.cursor_at(start), timeout)

    # --- around markers ------------------------------------------------------------------------------

    async def window(
        self, marker: Marker, tmin: float, tmax: float, timeout: float | None = 1
    ) -> Float32 | None:
        """Samples around a marker as soon as they are complete; as `Client.window`."""
        self._client._require_streaming("window")
        return await self._run(self._client._windows.window(marker, tmin, tmax, deadline_of(timeout)))

    def windows(
        self,
        tmin: float,
        tmax: float,
        type: Texts = None,  # noqa: A002 - as in Marker
        description: Texts = None,
        start: str | int = "live",
        timeout: float | None = None,
    ) -> AsyncIterator[Epoch]:
        """The window around each marker of a kind; as `Client.windows`.

        Asking on after a time-out or a cancelled ``anext`` is allowed, and loses nothing.
        """
        self._client._require_streaming("windows")
        self._glance()
        pending = self._client._windows.open(start, tmin, tmax, type, description)
        return AsyncEpochStream(self, pending, timeout)

    async def _next_epoch(self, pending: Pending, timeout: float | None) -> Epoch:
        return await self._next(self._client._windows.next_epoch(pending, deadline_of(timeout)))

    async def insert_marker(
        self,
        description: str,
        type: str = "Comment",  # noqa: A002 - as in Marker
        index: int | None = None,
        time: float | None = None,
        points: int = 1,
        channel: int = -1,
        timeout: float | None = 5,
    ) -> Marker:
        """Put a marker into the recording; as `Client.insert_marker`."""
        if time is not None:
            if index is not None:
                raise ValueError("a marker stands at an index or at a time, not at both")
            index = await self.index_at(time)
        request = self._client._mark_request(description, type, index, points, channel)
        return await self._run(self._client._windows.insert(request, deadline_of(timeout)))

    # --- the archive -----------------------------------------------------------------------------------

    async def instances(self, timeout: float | None = 5) -> list[Instance]:
        """Instances of which there are samples; as `Client.instances`."""
        return await self._run(list_instances(deadline_of(timeout)))

    async def archive(self, instance: str | Instance) -> AsyncArchive:
        """What an instance in the hub's archive recorded; as `Client.archive`."""
        return AsyncArchive(self, *await self._run(recall(instance)))

    async def _next_event(self, cursor: Cursor, timeout: float | None) -> Event:
        return await self._next(self._client._streams.next_event(cursor, deadline_of(timeout)))

    # --- driving -------------------------------------------------------------------------------------

    def _glance(self) -> None:
        """Take in what has come, as far as no question is open."""
        if self._busy or not self._client.is_streaming:
            return
        while self._timeline.advance() is None and (message := self._client._receive()) is not None:
            self._timeline.feed(message)
        self._verbs.know(self._timeline.instance)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if self._busy:
            raise RuntimeError("this AsyncClient is in use by another task; make one for each")
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    async def _next(self, verb: Verb[Result]) -> Result:
        """The next of a stream, which is over when the client stops streaming, also while this waits."""
        await asyncio.sleep(0)  # others get their turn, also while history comes without any waiting
        try:
            if self._client.is_streaming:
                return await self._run(verb)
        except StreamTimeout:
            if self._client.is_streaming:
                raise
        raise StopAsyncIteration

    async def _run(self, verb: Verb[Result]) -> Result:
        """Drive a verb to its result, as `Reader._run` does without a loop."""
        with self._alone():
            try:
                step = next(verb)
                while True:
                    if isinstance(step, Listen):
                        step = verb.send(await self._listen(step.deadline))
                        continue
                    try:
                        reply = await self._ask(step.request, step.deadline, patience_for(step.request))
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
            finally:
                verb.close()

    async def _listen(self, deadline: float | None) -> Heard:
        client = self._client
        client._tell_where(client._query, client._heard)
        while client.is_streaming and client._sub is not None:
            if (message := client._receive()) is not None:
                return message
            until = client._overdue if deadline is None else min(deadline, client._overdue)
            if time.monotonic() >= until:
                return client._note_silence()
            await self._readable(client._descriptors, until)
        return None

    async def _ask(self, request: Request, deadline: float | None, patience: float | None) -> Reply:
        query = self._client._reachable()
        asking = query.asking(request, deadline, EVER if patience is None else patience)
        with contextlib.closing(asking):
            try:
                while True:
                    until = next(asking)
                    await self._readable(query.descriptors, until)
                    if self._client._query is not query:
                        raise HubLost("disconnected")
            except StopIteration as answered:
                reply: Reply = answered.value
        self._client._follow_hub(request, reply)
        return reply

    async def _inform(self, timeout: float | None) -> Info:
        try:
            return (await self._ask(InfoRequest(), deadline_of(timeout), timeout)).info()
        except (NotStreaming, HubLost) as error:
            raise await asyncio.to_thread(unreachable, error, self.address) from error

    async def _readable(self, descriptors: list[int], until: float) -> None:
        """Until one of these can be read, the time has come, or they are about to be closed."""
        loop = asyncio.get_running_loop()
        woken = loop.create_future()

        def wake() -> None:
            if not woken.done():
                woken.set_result(None)

        def let_go() -> None:  # once: after a close their numbers may be others'
            self._let_go = _nothing
            timer.cancel()
            for descriptor in descriptors:
                loop.remove_reader(descriptor)
            wake()

        timer = loop.call_later(max(0.0, until - time.monotonic()), wake)
        self._let_go = let_go
        try:
            for descriptor in descriptors:
                loop.add_reader(descriptor, wake)
            await woken
        finally:
            if self._let_go is let_go:
                let_go()


class AsyncArchive(Past):
    """What `AsyncClient.archive` returns."""

    def __init__(self, client: AsyncClient, about: Instance, journal: Journal) -> None:
        super().__init__(about, journal)
        self._client = client

    async def read(self, start: int, stop: int) -> Float32:
        """Samples ``[start, stop)``; as `Archive.read`."""
        return await self._client._run(self.find(as_index(start), as_index(stop)))

    async def get_data(self, start: int, stop: int) -> Float32 | None:
        """As `read`, but None where it would raise."""
        try:
            return await self.read(start, stop)
        except RdaHubError:
            return None


class AsyncEventStream(AsyncIterator[Event]):
    """What `AsyncClient.stream` returns; ends when the client stops streaming."""

    def __init__(self, client: AsyncClient, cursor: Cursor, timeout: float | None) -> None:
        self._client = client
        self._cursor = cursor
        self._timeout = timeout

    async def __anext__(self) -> Event:
        return await self._client._next_event(self._cursor, self._timeout)


class AsyncEpochStream(AsyncIterator[Epoch]):
    """What `AsyncClient.windows` returns; ends when the client stops streaming."""

    def __init__(self, client: AsyncClient, pending: Pending, timeout: float | None) -> None:
        self._client = client
        self._pending = pending
        self._timeout = timeout

    async def __anext__(self) -> Epoch:
        return await self._client._next_epoch(self._pending, self._timeout)


def _nothing() -> None:
    pass
