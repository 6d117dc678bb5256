"""The Recorder of the nemesis campaign: an RDA server that logs what it really sent.

Rule: every value is a function of acquisition, row and channel, exact in float32; an acquisition is one START
on the wire, its number stands in the channel names ("A17-3") and is never used again; markers are told apart
by their descriptions. So whoever shows samples or markers can be checked against this file and the log alone.
A thread sends; other threads give orders, which take effect between two blocks.
Not here: which order is given when (`campaign`), what must become of it (`checker`).
"""

from __future__ import annotations

import contextlib
import queue
import random
import select
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from rdahub import rda
from rdahub_client.records import Float32

COUNTED: Final = 2**24  # channel 0 counts rows modulo this
GOODBYE: Final = 5.0  # s for the hub to take what it was sent, when this side hangs up


def truth(acquisition: int, rows: npt.NDArray[np.int64], n_channels: int) -> Float32:
    """Raw values of rows of an acquisition: row number, then 24 bits of a hash per channel."""
    row = rows.astype(np.uint64)[:, None]
    channel = np.arange(n_channels, dtype=np.uint64)[None, :]
    x = row * np.uint64(0x9E3779B97F4A7C15) + channel * np.uint64(0xC2B2AE3D27D4EB4F)
    x += np.uint64((acquisition * 0x165667B19E3779F9) % 2**64)
    x ^= x >> np.uint64(32)
    x *= np.uint64(0xD6E8FEB86659FD93)
    values = (x >> np.uint64(40)).astype(np.float32)
    values[:, 0] = rows % COUNTED
    return values


@dataclass(frozen=True)
class Layout:
    """What START says, and how long blocks are; the resolution is a power of two, so scaling is exact."""

    channels: int = 8
    rate: float = 1000.0
    block: int = 20
    resolution: float = 1.0


class Recorder:
    """An RDA server for one hub at a time; a new connection replaces the one before.

    Parameters
    ----------
    seed : int
        Of what it decides by itself: markers and first counters.
    speed : float
        Times real time; 0 is as fast as the hub takes it.
    """

    def __init__(self, seed: int, layout: Layout, speed: float = 1.0) -> None:
        self.log: list[dict[str, Any]] = []
        self.layout = layout
        self.acquisition = 0
        self.row = 0
        self.connected = threading.Event()
        self._rng = random.Random(seed)
        self._speed = speed
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._server.getsockname()
        self._orders: queue.Queue[tuple[Callable[[], None], threading.Event]] = queue.Queue()
        self._connection: socket.socket | None = None
        self._connections = self._markers = 0
        self._acquiring = self._paused = self._closing = False
        self._began = False  # START was sent on this connection
        self._blocks = self._counter = self._rows_paced = 0
        self._paced_from = 0.0
        self._next_length: int | None = None
        self._last = b""
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    # --- orders ----------------------------------------------------------------------------------------

    def start(self, layout: Layout | None = None) -> None:
        """Begin an acquisition; while one runs, without a STOP."""

        def begin() -> None:
            self.layout = layout or self.layout
            self._acquiring, self._began = True, False

        self._order(begin)

    def stop(self) -> None:
        """End the acquisition."""

        def end() -> None:
            if self._began and self._send(rda.encode(rda.Stop())):
                self._note("stop", acquisition=self.acquisition)
            self._acquiring = self._began = False

        self._order(end)

    def skip(self, blocks: int) -> None:
        """Lose blocks before the hub: the counter jumps, rows go on. Only once the hub judges the counter."""

        def jump() -> None:
            if self._began and self._blocks >= 3:
                self._counter = (self._counter + blocks) % 2**32
                self._note("skip", acquisition=self.acquisition, row=self.row, n=blocks * self.layout.block)
                self.row += blocks * self.layout.block

        self._order(jump)

    def repeat(self) -> None:
        """Send the last block once more."""

        def again() -> None:
            if self._began and self._blocks and self._send(self._last):
                self._note("repeat", acquisition=self.acquisition)

        self._order(again)

    def vary(self, length: int) -> None:
        """Let the next block have another length; 0 rows is a block with nothing but markers."""
        self._order(lambda: setattr(self, "_next_length", length))

    def corrupt(self) -> None:
        """Send a message whose GUID is wrong: the hub must drop the connection there."""

        def spoil() -> None:
            if self._began:
                frame = bytearray(rda.encode(rda.Data(self._counter, truth(0, np.arange(1), 1))))
                frame[self._rng.randrange(16)] ^= 1 << self._rng.randrange(8)
                if self._send(bytes(frame)):
                    self._end("corrupt")

        self._order(spoil)

    def hang_up(self) -> None:
        """Close the connection, all that was sent before it."""
        self._order(lambda: self._end("hang up"))

    def pause(self) -> None:
        """Acquire, but send nothing."""
        self._order(lambda: setattr(self, "_paused", True))

    def resume(self) -> None:
        """Send on from here."""

        def go() -> None:
            self._paused = False
            self._pace()

        self._order(go)

    def close(self) -> None:
        """End all; the log is complete then."""
        self._closing = True
        self._thread.join(GOODBYE + 30)
        self._server.close()

    def _order(self, work: Callable[[], None]) -> None:
        done = threading.Event()
        self._orders.put((work, done))
        done.wait(1.0)  # while the hub takes nothing an order waits, its giver does not

    # --- the thread ------------------------------------------------------------------------------------

    def _note(self, what: str, **more: Any) -> None:
        self.log.append({"what": what, "t": time.monotonic(), **more})

    def _run(self) -> None:
        while not self._closing:
            wait = 0.02
            if self._acquiring and not self._paused and self._connection is not None:
                wait = self._due()
            if wait > 0:
                sockets = [self._server] if self._connection is None else [self._server, self._connection]
                readable, _, _ = select.select(sockets, [], [], min(wait, 0.02))
                self._look(readable)
            with contextlib.suppress(queue.Empty):
                while True:
                    work, done = self._orders.get_nowait()
                    work()
                    done.set()
            if self._connection is not None and self._acquiring and not self._paused and self._due() <= 0:
                if not self._began:
                    self._begin()
                else:
                    self._block()
        self._end("hang up")

    def _look(self, readable: list[socket.socket]) -> None:
        if self._connection in readable:  # a hub never speaks: it has gone
            self._end("lost")
        if self._server in readable:
            self._end("replaced")
            self._connection, _ = self._server.accept()
            self._connection.settimeout(0.1)
            self._connections += 1
            self._note("open", connection=self._connections)
            self.connected.set()

    def _due(self) -> float:
        """Seconds until the next block."""
        if not self._began or not self._speed:
            return 0.0
        due = self._paced_from + self._rows_paced / self.layout.rate / self._speed
        return due - time.monotonic()

    def _pace(self) -> None:
        self._paced_from, self._rows_paced = time.monotonic(), 0

    def _begin(self) -> None:
        layout = self.layout
        self.acquisition += 1
        self.row = self._blocks = 0
        self._counter = self._rng.choice((0, 0, 2**24 - 100, 2**32 - 200, self._rng.randrange(2**32)))
        names = tuple(f"A{self.acquisition}-{k}" for k in range(layout.channels))
        message = rda.Start(1e6 / layout.rate, (layout.resolution,) * layout.channels, names)
        self._note(
            "start", connection=self._connections, acquisition=self.acquisition, channels=layout.channels,
            interval=1e6 / layout.rate, resolution=layout.resolution,
        )  # fmt: skip
        self._began = self._send(rda.encode(message))
        self._pace()

    def _block(self) -> None:
        layout, n = self.layout, self._next_length
        n, self._next_length = layout.block if n is None else n, None
        markers = tuple(self._marker(n) for _ in range(self._how_many(n)))
        self._counter = (self._counter + 1) % 2**32
        rows = np.arange(self.row, self.row + n)
        self._last = rda.encode(
            rda.Data(self._counter, truth(self.acquisition, rows, layout.channels), markers)
        )
        written = [[m.position, m.points, m.channel, m.type, m.description] for m in markers]
        t = time.monotonic()
        if self._send(self._last):
            self._note("block", acquisition=self.acquisition, row=self.row, n=n, markers=written)
            self.log[-1]["t"] = t
            self.row += n
            self._blocks += 1
            self._rows_paced += n

    def _how_many(self, n: int) -> int:
        return self._rng.choice((1, 2, 30)) if n == 0 or self._rng.random() < 0.1 else 0

    def _marker(self, n: int) -> rda.BlockMarker:
        self._markers += 1
        position = self._rng.choice((0, self._rng.randrange(-2 * n - 1, 3 * n + 1)))
        return rda.BlockMarker(position, self._rng.randrange(3), -1, "Stimulus", f"m{self._markers}")

    def _send(self, data: bytes) -> bool:
        """All of it, or the connection is lost."""
        left = memoryview(data)
        while left and self._connection is not None:
            try:
                left = left[self._connection.send(left) :]
            except TimeoutError:
                if self._closing or select.select([self._server], [], [], 0)[0]:
                    self._end("lost")  # somebody else wants to be served
            except OSError:
                self._end("lost")
        return self._connection is not None

    def _end(self, how: str) -> None:
        if self._connection is None:
            return
        self._note("close", connection=self._connections, acquisition=self.acquisition, how=how)
        note = self.log[-1]
        with contextlib.suppress(OSError):
            if how == "hang up":
                self._connection.shutdown(socket.SHUT_WR)
            if how in {"hang up", "corrupt"}:
                # Until it has taken all, or another connection shows that it never will.
                readable, _, _ = select.select([self._connection, self._server], [], [], GOODBYE)
                note["dropped"] = self._connection in readable
        self._connection.close()
        self._connection, self._began = None, False
        self.connected.clear()
