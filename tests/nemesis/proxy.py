"""A TCP proxy that does to a connection what networks, cables and middle boxes do.

Rule: faults are set from the test's thread at any time and hold for every connection, old and new; a counted
fault (`corrupt`, `drop`, `cut`) happens once, counted in bytes that this direction has yet to deliver.
Not here: knowledge of what the bytes mean. The kernel acknowledges what a peer sends even while the proxy
holds it, so keep-alive and TCP_USER_TIMEOUT see a healthy peer: that takes network namespaces.

::

    with Proxy(("127.0.0.1", port)) as proxy:
        ...connect to proxy.address...
        proxy.hold()  # a partition: nothing passes, new connections are accepted and wait
        proxy.heal()
"""

from __future__ import annotations

import asyncio
import math
import socket
import struct
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, Self

PATIENCE = 30.0  # s
QUEUE = 64  # pieces under way in one direction of one connection
RECEIVE = 16384  # bytes
TICK = 0.01  # s; a limited rate is made of pieces this far apart


class Direction:
    """The faults of one direction, and the count of bytes that it delivered."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._passable = asyncio.Event()
        self._passable.set()
        self._taken = 0
        self._xor: dict[int, int] = {}  # byte number -> mask
        self._drop = range(0)
        self._cut: tuple[int, bool] | None = None
        self.passed = 0
        self.latency = 0.0  # s
        self.pieces = 0  # bytes sent at a time; 0: as they come
        self.rate = math.inf  # bytes/s

    def hold(self) -> None:
        """Let nothing pass, and keep it; the end of a connection does not pass either."""
        self._proxy._do(self._passable.clear)

    def release(self) -> None:
        """Let pass what was held, and what comes."""
        self._proxy._do(self._passable.set)

    def corrupt(self, after: int = 0, mask: int = 0xFF) -> None:
        """Change one byte: the one after so many more."""
        self._proxy._do(lambda: self._xor.update({self._taken + after: mask}))

    def drop(self, n: int, after: int = 0) -> None:
        """Lose bytes in the middle of a connection that goes on."""
        self._proxy._do(lambda: setattr(self, "_drop", range(self._taken + after, self._taken + after + n)))

    def cut(self, after: int = 0, reset: bool = False) -> None:
        """End the connection that brings the byte after so many more, before that byte: by FIN or by RST."""
        self._proxy._do(lambda: setattr(self, "_cut", (self._taken + after, reset)))

    def heal(self) -> None:
        """No faults from here on."""
        self.latency, self.pieces, self.rate = 0.0, 0, math.inf
        self._xor, self._drop, self._cut = {}, range(0), None
        self._passable.set()

    def _treat(self, data: bytes) -> tuple[bytes, bool, bool]:
        """What becomes of these bytes, whether the connection ends behind them, and whether by RST."""
        first, result = self._taken, bytearray(data)
        ends = reset = False
        if self._cut is not None and self._cut[0] < first + len(data):
            ends, reset = True, self._cut[1]
            del result[max(0, self._cut[0] - first) :]
            self._cut = None
        self._taken = stop = first + len(result)
        for number in [number for number in self._xor if first <= number < stop]:
            result[number - first] ^= self._xor.pop(number)
        a, b = max(first, self._drop.start), min(stop, self._drop.stop)
        if a < b:
            del result[a - first : b - first]
        return bytes(result), ends, reset

    async def pump(self, source: socket.socket, sink: socket.socket) -> None:
        """Bring bytes from one socket to the other until either ends."""
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(QUEUE)
        reading = asyncio.ensure_future(self._read(source, queue))
        try:
            await self._write(sink, queue, reading)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, source: socket.socket, queue: asyncio.Queue[tuple[float, bytes]]) -> None:
        loop, data = asyncio.get_running_loop(), b"-"
        while data:
            await self._passable.wait()
            try:
                data = await loop.sock_recv(source, RECEIVE)
            finally:
                await queue.put((loop.time(), data))

    async def _write(
        self,
        sink: socket.socket,
        queue: asyncio.Queue[tuple[float, bytes]],
        reading: asyncio.Future[None],
    ) -> None:
        loop, ends = asyncio.get_running_loop(), False
        while not ends:
            arrived, data = await queue.get()
            while (early := arrived + self.latency - loop.time()) > 0:
                await asyncio.sleep(min(early, TICK))
            await self._passable.wait()
            if reading.done() and queue.empty():
                await reading  # the peer's reset is passed on as one
            at_end = not data
            data, ends, reset = self._treat(data)
            while data:
                await self._passable.wait()
                n = self.pieces or len(data)
                if self.rate < math.inf:
                    n = max(1, min(n, int(self.rate * TICK)))
                await loop.sock_sendall(sink, data[:n])
                self.passed += len(data[:n])
                self._proxy._tell()
                await asyncio.sleep(n / self.rate)  # at least one turn of the loop
                data = data[n:]
            if reset:
                raise ConnectionResetError
            ends = ends or at_end
        sink.shutdown(socket.SHUT_WR)


class Proxy:
    """Listens on a free port of the loopback and connects each client to `target`, which may be changed."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.connections = 0
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self.from_upstream = Direction(self)
        self.to_upstream = Direction(self)
        self._served: dict[asyncio.Task[None], list[socket.socket]] = {}
        self._listening: asyncio.Task[None] | None = None
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._await(self._listen())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def open_connections(self) -> int:
        """Connections that have not ended."""
        return len(self._served)

    def hold(self) -> None:
        """A partition until `heal`: nothing passes either way; new connections are accepted and wait."""
        self.from_upstream.hold()
        self.to_upstream.hold()

    def heal(self) -> None:
        """No faults from here on; what was held passes."""
        self._do(self.from_upstream.heal)
        self._do(self.to_upstream.heal)
        self.accept()

    def reset(self) -> None:
        """End every connection by RST, to both sides."""
        self._await(self._reset())

    def refuse(self) -> None:
        """Refuse new connections, as a machine does on which nothing listens. Old ones go on."""
        self._await(self._refuse())

    def accept(self) -> None:
        """Take new connections again."""
        self._await(self._listen())

    def wait_for(self, condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
        """Wait until something is so; it may look at anything of the proxy."""
        with self._changed:
            if not self._changed.wait_for(condition, seconds):
                raise AssertionError(
                    f"not within {seconds} s: {what}; {self.connections} connections made, "
                    f"{self.from_upstream.passed} bytes from upstream, {self.to_upstream.passed} to it"
                )

    def wait_connections(self, n: int, seconds: float = PATIENCE) -> None:
        """Wait until so many connections have been accepted since the start."""
        self.wait_for(lambda: self.connections >= n, f"{n} connections made", seconds)

    def close(self) -> None:
        """End all connections, the listener and the thread."""
        self._await(self._refuse())
        self._await(self._reset())
        self._server.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def _await(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    def _do(self, work: Callable[[], object]) -> None:
        """Run it between two turns of the proxy's thread, and return when it has."""

        async def run() -> None:
            work()

        self._await(run())

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()

    async def _listen(self) -> None:
        if self._listening is None:
            self._server.listen(128)
            self._server.setblocking(False)
            self._listening = asyncio.ensure_future(self._accept())

    async def _refuse(self) -> None:
        if self._listening is None:
            return
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)
        self._listening = None
        self._server.close()
        self._server = socket.socket()  # bound, so that the port stays ours, but not listening
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._server.bind(("127.0.0.1", self.port))

    async def _accept(self) -> None:
        while True:
            client, _ = await self._loop.sock_accept(self._server)
            client.setblocking(False)
            ends = [client]
            task = asyncio.ensure_future(self._serve(ends))
            self._served[task] = ends
            self.connections += 1
            self._tell()

    async def _serve(self, ends: list[socket.socket]) -> None:
        try:
            await self.to_upstream._passable.wait()
            await self.from_upstream._passable.wait()
            upstream = socket.socket()
            upstream.setblocking(False)
            ends.append(upstream)
            await self._loop.sock_connect(upstream, self.target)
            for end in ends:
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.TaskGroup() as group:
                group.create_task(self.from_upstream.pump(upstream, ends[0]))
                group.create_task(self.to_upstream.pump(ends[0], upstream))
        except (asyncio.CancelledError, OSError, ExceptionGroup):  # reset, here or by a peer
            for end in ends:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        finally:
            for end in ends:
                end.close()
            task = asyncio.current_task()
            if task is not None:
                self._served.pop(task, None)
            self._tell()

    async def _reset(self) -> None:
        served = dict(self._served)
        for task in served:
            task.cancel()
        await asyncio.gather(*served, return_exceptions=True)
        for task, ends in served.items():  # one cancelled before its first step closed nothing itself
            self._served.pop(task, None)
            for end in ends:
                end.close()


def poll(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    """Wait for something that nobody announces."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)
