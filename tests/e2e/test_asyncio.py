"""What is special about `AsyncClient`: cancelling, sharing the loop, loops. All else: test_semantics."""

from __future__ import annotations

import asyncio
import random
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import numpy as np
import pytest

from processes import PATIENCE, Hub, hub
from rdahub_client import Block, HubLost, HubUnreachable, SegmentStart, StreamTimeout
from rdahub_client.asyncio import AsyncClient, _nothing
from scripted import ScriptedRecorder, values

Program = Callable[[], Coroutine[Any, Any, None]]
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "selector": asyncio.SelectorEventLoop,
    "uvloop": lambda: pytest.importorskip("uvloop").new_event_loop(),
}


@pytest.fixture
def recorder() -> Iterator[ScriptedRecorder]:
    scripted = ScriptedRecorder()
    yield scripted
    scripted.close()


@pytest.fixture
def server(recorder: ScriptedRecorder) -> Iterator[Hub]:
    with hub(recorder.address) as running:
        recorder.start()
        recorder.block()
        yield running


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Iterator[Callable[[Program], None]]:
    """Run a program on each kind of loop."""
    with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
        yield lambda program: runner.run(program())


async def following(server: Hub) -> AsyncClient:
    client = AsyncClient(buffer_size=200)
    await client.connect(server.query)
    await client.start_streaming()
    return client


def test_a_cancelled_call_loses_nothing(
    recorder: ScriptedRecorder, server: Hub, run: Callable[[Program], None]
) -> None:
    seed = time.time_ns() % 10**6
    print(f"seed {seed}")
    choose = random.Random(seed)
    done = threading.Event()

    def send() -> None:
        while not done.wait(0.002):  # the Recorder's own pace
            recorder.block()

    async def program() -> None:
        client = await following(server)
        events = client.stream("oldest")
        index, cancelled, polled = 0, 0, 0
        deadline = time.monotonic() + PATIENCE
        while (index < 3000 or cancelled < 30) and time.monotonic() < deadline:
            try:
                if choose.random() < 0.1:
                    polled += await asyncio.wait_for(client.poll(5), choose.random() * 0.004) is not None
                    continue
                event = await asyncio.wait_for(anext(events), choose.random() * 0.004)
            except TimeoutError:
                cancelled += 1
                continue
            if isinstance(event, Block):
                assert event.start == index
                np.testing.assert_array_equal(event.samples, values(event.start, event.stop, 2))
                index = event.stop
            else:
                assert isinstance(event, SegmentStart)
        assert index >= 3000
        assert cancelled >= 30
        assert polled
        await client.disconnect()

    sender = threading.Thread(target=send)
    sender.start()
    try:
        run(program)
    finally:
        done.set()
        sender.join()


def test_others_on_the_loop_run_while_history_is_told(
    recorder: ScriptedRecorder, server: Hub, run: Callable[[Program], None]
) -> None:
    async def program() -> None:
        for _ in range(30):
            recorder.start()
            recorder.block()
        client = await following(server)
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        events, index, seen = client.stream("oldest"), 0, set()
        while index < 31 * 20:
            event = await anext(events)
            seen.add(ticks)
            if isinstance(event, Block):
                index = event.stop
        assert len(seen) > 30
        ticking.cancel()
        await client.disconnect()

    run(program)


def test_two_tasks_at_once_are_refused_and_disturb_nothing(
    recorder: ScriptedRecorder, server: Hub, run: Callable[[Program], None]
) -> None:
    async def program() -> None:
        client = await following(server)
        waiting = asyncio.create_task(client.wait(20, 40, timeout=PATIENCE))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task"):
            await client.poll(5)
        recorder.block()
        data = await waiting
        assert data is not None
        np.testing.assert_array_equal(data, values(20, 40, 2))
        await client.disconnect()

    run(program)


def test_beginning_anew_is_refused_too_while_a_task_waits_and_disturbs_nothing(
    recorder: ScriptedRecorder, server: Hub, run: Callable[[Program], None]
) -> None:
    async def program() -> None:
        client = await following(server)
        waiting = asyncio.create_task(client.wait(20, 40, timeout=PATIENCE))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task"):
            await client.connect(server.query)
        recorder.block()
        data = await waiting
        assert data is not None
        np.testing.assert_array_equal(data, values(20, 40, 2))
        await client.stop_streaming()
        server.send(signal.SIGSTOP)  # so that it is not answered at once
        asking = asyncio.create_task(client.info())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task"):
            await client.start_streaming()
        server.send(signal.SIGCONT)
        assert (await asking).next_index == 40
        assert not client.is_streaming
        await client.start_streaming()
        await client.disconnect()

    run(program)


async def rest(events: AsyncIterator[Any]) -> str:
    async for _ in events:
        pass
    return "ended"


WAITS: dict[str, tuple[Callable[[AsyncClient], Coroutine[Any, Any, Any]], str | None]] = {
    "stream": (lambda client: rest(client.stream("live")), "ended"),
    "windows": (lambda client: rest(client.windows(0, 1)), "ended"),
    "poll": (lambda client: client.poll(1, timeout=None), None),
    "wait": (lambda client: client.wait(20, 40, timeout=None), None),
}


@pytest.mark.parametrize("ends", ["stop_streaming", "disconnect"])
@pytest.mark.parametrize("waits", WAITS)
def test_what_a_task_waits_for_ends_with_the_streaming(
    server: Hub, run: Callable[[Program], None], waits: str, ends: str
) -> None:
    begin, result = WAITS[waits]

    async def program() -> None:
        client = await following(server)
        waiting = asyncio.create_task(begin(client))
        while client._let_go is _nothing:  # it does not wait yet
            await asyncio.sleep(0)
        loop, watched = asyncio.get_running_loop(), client._client._descriptors
        await getattr(client, ends)()
        assert not any(loop.remove_reader(each) for each in watched)  # they are closed, or another's by now
        assert await asyncio.wait_for(waiting, PATIENCE) == result
        await client.disconnect()

    run(program)


def test_a_question_to_a_hub_that_does_not_answer_ends_with_the_connection(
    server: Hub, run: Callable[[Program], None]
) -> None:
    async def program() -> None:
        client = await following(server)
        server.send(signal.SIGSTOP)
        try:
            asking = asyncio.create_task(client.sample_clock())
            while client._let_go is _nothing:
                await asyncio.sleep(0)
            await client.disconnect()
            with pytest.raises(HubLost, match="disconnected"):
                await asking
        finally:
            server.send(signal.SIGCONT)

    run(program)


def test_a_time_out_of_a_stream_is_no_end(
    recorder: ScriptedRecorder, server: Hub, run: Callable[[Program], None]
) -> None:
    async def program() -> None:
        async with AsyncClient() as client:
            await client.connect(server.query)
            await client.start_streaming()
            events = client.stream(20, timeout=0.1)
            assert isinstance(await anext(events), SegmentStart)
            with pytest.raises(StreamTimeout):
                await anext(events)
            recorder.block()
            while True:
                try:
                    event = await anext(events)
                except StreamTimeout:
                    continue
                break
            assert isinstance(event, Block)
            assert (event.start, event.stop) == (20, 40)
            await client.stop_streaming()
            with pytest.raises(StopAsyncIteration):
                await anext(events)

    run(program)


def test_several_clients_share_a_loop(
    recorder: ScriptedRecorder, server: Hub, run: Callable[[Program], None]
) -> None:
    async def program() -> None:
        clients = [await following(server) for _ in range(5)]
        waiting = [asyncio.create_task(client.wait(20, 60, timeout=PATIENCE)) for client in clients]
        await asyncio.sleep(0)
        recorder.blocks(2)
        for data in await asyncio.gather(*waiting):
            assert data is not None
            np.testing.assert_array_equal(data, values(20, 60, 2))
        for client in clients:
            await client.disconnect()

    run(program)


def test_nobody_there_is_said_in_time(run: Callable[[Program], None]) -> None:
    async def program(address: str) -> None:
        client = AsyncClient()
        began = time.monotonic()
        with pytest.raises(HubUnreachable):
            await client.connect(address, timeout=0.3)
        assert 0.3 <= time.monotonic() - began < 5  # the upper bound only tells a hang from a return

    with socket.create_server(("127.0.0.1", 0)) as nobody:
        run(lambda: program(f"127.0.0.1:{nobody.getsockname()[1]}"))
