"""The simulator's TCP server: sends a source to any number of clients, each paced on its own.

Rule: a client waits for nobody and nobody waits for a client; every block has a due time counted from one
beginning, so pacing does not drift.
Not here: what is sent (see `rdahub.simulator.sources`), the command line.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Final

from rdahub import brainvision
from rdahub.rda import KeepAlive, Start, Stop, encode
from rdahub.simulator.dump import Dump
from rdahub.simulator.sources import Replay, Source, Synthetic

__all__ = ["KEEP_ALIVE_EVERY", "SKIP_AFTER", "run", "serve"]

log = logging.getLogger(__name__)

# A client this many seconds late skips to the current block. Real servers give up after 1 s (PyCorder, 20
# messages) to about 9 s (Recorder, as BBCI saw it); 5 s forgives a pause and still shows a stuck client.
SKIP_AFTER: Final = 5.0

# Seconds between signs of life when nothing is acquired; real servers send them too, and oftener.
KEEP_ALIVE_EVERY: Final = 1.0

_MAX_SPEED: Final = 1e6  # more is "as fast as clients read", which is 0
_MIN_STEP: Final = 1e-9  # seconds between two blocks: no clock tells less, and none may be 0
_PIECE: Final = 65_536  # bytes of a capture written at once, so that back pressure is felt
_HANDOVER: Final = 5  # turns of the event loop from a pending connection to `connected`, and one more
_SHARED_BLOCKS: Final = 8  # encoded blocks kept: clients at the same place share the work

Ready = Callable[[str, int], None]


async def serve(
    source: Source | Dump,
    host: str,
    port: int,
    ready: Ready,
    *,
    speed: float = 1.0,
    skip_after: float = SKIP_AFTER,
    keep_alive: float = KEEP_ALIVE_EVERY,
) -> None:
    """Serve `source` until cancelled; every connection is closed then.

    A run begins when a client connects while no other is there, and is shared: who comes later gets `Info`,
    `Start` and the blocks from now on, or `Info` alone if the run is over. At its end `Stop` is sent and the
    connections stay open. A `Dump`, and any source at speed 0, goes to each client from its beginning.

    Parameters
    ----------
    source : Source or Dump
    host : str
    port : int
        0 for any free one.
    ready : callable
        Called once with host and port, when clients can connect.
    speed : float
        Times real time; 0 for as fast as each client reads.
    skip_after : float
        Seconds late after which a client skips to the current block.
    keep_alive : float
        Seconds between two `KeepAlive` after the end of a run.

    Raises
    ------
    OSError
        If the address cannot be had.
    ValueError
        For a speed out of range, or a source that RDA cannot express.
    """
    if not 0 <= speed <= _MAX_SPEED:
        raise ValueError(f"speed is {speed}; it must be from 0 (as fast as clients read) to {_MAX_SPEED:.0f}")
    player = (
        _DumpPlayer(source, speed)
        if isinstance(source, Dump)
        else _RunPlayer(source, speed, skip_after, keep_alive)
    )
    tasks: set[asyncio.Task[None]] = set()
    closing = asyncio.Event()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if closing.is_set():
            writer.transport.abort()
            return
        task = asyncio.create_task(_attend(player, reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        # Not in the task: one cancelled before its first step would not come to it.
        task.add_done_callback(lambda _: writer.transport.abort())

    server = await asyncio.start_server(connected, host, port)
    try:
        ready(*server.sockets[0].getsockname()[:2])
        # Not serve_forever: from Python 3.12 it would wait for the clients to leave.
        await closing.wait()
    finally:
        closing.set()
        # Python 3.11 leaves open a connection it has accepted but not handed over when the server closes.
        for _ in range(_HANDOVER):
            await asyncio.sleep(0)
        server.close()
        while tasks:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0)  # from Python 3.12 gathering what is done does not let callbacks run
        await server.wait_closed()


class _DumpPlayer:
    """Sends captured bytes."""

    def __init__(self, dump: Dump, speed: float) -> None:
        self._dump, self._speed = dump, speed

    def arrive(self) -> int:
        """Every client begins at the beginning."""
        return 0

    def leave(self) -> None:
        """Nothing is shared."""

    async def send(self, writer: asyncio.StreamWriter, first: int) -> None:
        """Send all; return only if the connection is to be closed."""
        now = asyncio.get_running_loop().time
        begin, sent = now(), first
        for seconds, end in self._dump.parts:
            if self._speed:
                await asyncio.sleep(begin + seconds / self._speed - now())
            while sent < end:
                piece = self._dump.content[sent : min(end, sent + _PIECE)]
                writer.write(piece)
                sent += len(piece)
                await writer.drain()
                await asyncio.sleep(0)  # drain alone does not let others run
        if not self._dump.ends_inside:
            await asyncio.Event().wait()


class _RunPlayer:
    """Sends a source's blocks, to all clients of one run by one clock."""

    def __init__(self, source: Source, speed: float, skip_after: float, keep_alive: float) -> None:
        self._source, self._paced = source, speed > 0
        self._step = max(source.block_seconds / speed, _MIN_STEP) if speed else 0.0
        self._skip_after, self._keep_alive = skip_after, keep_alive
        self._clients = 0
        self._begin = 0.0
        preamble = source.preamble()
        self._preamble = b"".join(map(encode, preamble))
        self._idle_preamble = b"".join(encode(m) for m in preamble if not isinstance(m, Start))
        self._encoded = lru_cache(_SHARED_BLOCKS)(self._encode)

    def arrive(self) -> int:
        """Count a client in; the number of its first block, the first that is not yet due."""
        self._clients += 1
        if self._clients == 1:
            self._begin = asyncio.get_running_loop().time()
            return 0
        return self._blocks_due() if self._paced else 0

    def leave(self) -> None:
        """Count a client out."""
        self._clients -= 1

    async def send(self, writer: asyncio.StreamWriter, first: int) -> None:
        """Send blocks from `first` on, Stop, then signs of life; never returns."""
        now, begin, k = asyncio.get_running_loop().time, self._begin, first
        if self._source.n_blocks is None or k < self._source.n_blocks:
            writer.write(self._preamble)
            while (block := self._encoded(k)) is not None:
                if self._paced:
                    late = now() - begin - (k + 1) * self._step
                    current = self._newest() if late > self._skip_after else k
                    if current > k:
                        name = writer.get_extra_info("peername")
                        log.warning("client %s is %.1f s late: %d blocks skipped", name, late, current - k)
                        k = current
                        continue
                    if late < 0:
                        await asyncio.sleep(-late)
                writer.write(block)
                k += 1
                await writer.drain()
                await asyncio.sleep(0)  # drain alone does not let others run
            writer.write(encode(Stop()))
        else:
            writer.write(self._idle_preamble)
        while True:
            await writer.drain()
            await asyncio.sleep(self._keep_alive)
            writer.write(encode(KeepAlive()))

    def _encode(self, k: int) -> bytes | None:
        data = self._source.block(k)
        return None if data is None else encode(data)

    def _blocks_due(self) -> int:
        return int((asyncio.get_running_loop().time() - self._begin) / self._step)

    def _newest(self) -> int:
        """Number of the newest block that is due."""
        newest = self._blocks_due() - 1
        n_blocks = self._source.n_blocks
        return newest if n_blocks is None else min(newest, n_blocks - 1)


async def _attend(
    player: _DumpPlayer | _RunPlayer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Serve one client until it goes. (asyncio sets TCP_NODELAY.)"""
    await asyncio.sleep(0)  # let the departures of this moment count first: a new run may begin
    sending = asyncio.create_task(_send(player, writer, player.arrive()))
    try:
        # A client has nothing to say; what it says anyway is dropped. The end of it is its end.
        with contextlib.suppress(OSError):
            while await reader.read(_PIECE):
                pass
    finally:
        player.leave()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _send(player: _DumpPlayer | _RunPlayer, writer: asyncio.StreamWriter, first: int) -> None:
    try:
        await player.send(writer, first)
    except OSError as error:
        log.info("client %s has gone: %s", writer.get_extra_info("peername"), error)
    except Exception:
        log.exception("client %s is dropped", writer.get_extra_info("peername"))
    finally:
        writer.close()  # what was written still goes out


async def run(
    *,
    ready: Ready,
    host: str = "127.0.0.1",
    port: int = 51244,
    int16: bool = False,
    channels: int = 32,
    rate: float = 1000.0,
    block: int = 20,
    speed: float = 1.0,
    seconds: float | None = None,
    seed: int = 0,
    vhdr: str | Path | None = None,
    loop: bool = False,
    dump: str | Path | None = None,
) -> None:
    """Simulate a Recorder until cancelled: a synthetic signal, or a recording, or a capture.

    Parameters
    ----------
    ready : callable
        Called once with host and port, when clients can connect.
    host, port
        Where to listen; port 0 for any free one.
    int16, block
        Samples as int16 instead of float32; samples per block. Not with `dump`.
    channels, rate, seconds, seed
        As `Synthetic`; not with `vhdr` or `dump`.
    speed : float
        Times real time; 0 for as fast as each client reads.
    vhdr, loop
        Header of a BrainVision recording to replay, and whether to start over at its end.
    dump
        File with a captured byte stream to replay.

    Raises
    ------
    RecordingError
        If the recording cannot be read or sent.
    ValueError
        For a value out of range, settings that do not go together, or a capture that cannot be read.
    OSError
        If the address cannot be had.
    """
    if vhdr is not None and dump is not None:
        raise ValueError("--vhdr and --dump exclude each other; give one of them")
    if loop and vhdr is None:
        raise ValueError("--loop needs a recording to start over; give one with --vhdr")
    given = {"channels": channels, "rate": rate, "seconds": seconds, "seed": seed}
    if dump is not None:
        given |= {"int16": int16, "block": block}
    if vhdr is not None or dump is not None:
        defaults = inspect.signature(run).parameters
        for name, value in given.items():
            # A value equal to its default cannot be told from one not given, and does no harm.
            if value != defaults[name].default:
                what = "--dump" if dump is not None else "--vhdr"
                raise ValueError(f"--{name} has no meaning with {what}, where the file decides; leave it out")
    source: Source | Dump
    if dump is not None:
        source = Dump.from_file(dump)
    elif vhdr is not None:
        source = Replay(brainvision.read(vhdr), block, int16=int16, loop=loop)
    else:
        source = Synthetic(channels, rate, block, int16=int16, seconds=seconds, seed=seed)
    await serve(source, host, port, ready, speed=speed)
