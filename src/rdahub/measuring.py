"""Timing a running hub from where this runs: blocks, questions, history; over the network and on its machine.

Rule: the clients are the public ones, used as a user uses them, and one thing is timed at a time. Readers on
the hub's machine get no time of receipt with a block, so a process of its own notes when `LocalClient` had
which sample, and a `Client` here when the hub had it; both on the one monotonic clock of the machine.
Not here: what the times mean (`timing`), settings, what is told (`commands.bench`).

``python -m rdahub.measuring NAME FOLDER`` is that process: it follows the hub until its stdin is closed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import zmq

from rdahub.timing import Arrival, Ping, Tally, match_delays
from rdahub_client import (
    Block,
    Client,
    LocalClient,
    Overwritten,
    RdaHubError,
    SegmentChanged,
    SegmentEnd,
    StreamTimeout,
)
from rdahub_client.address import query_endpoint
from rdahub_client.keys import client_keys
from rdahub_client.query import QuerySocket, end_context
from rdahub_client.reader import Reader
from rdahub_client.verbs import Heard
from rdahub_client.wire import BlockMessage, InfoRequest, PingRequest

__all__ = ["Hub", "LocalReader", "SpanRead", "follow", "read_history", "time_first_blocks"]

_STEP: Final = 0.1  # s between two looks whether it is time to end
_PINGS: Final = 200
_CONNECTIONS: Final = 5
_PINGS_OVER: Final = 1.0  # s
_CONNECTIONS_OVER: Final = 1.0  # s
_TIMES: Final = 5
_READ_OVER: Final = 2.0  # s
_SPANS: Final = 1.0, 10.0, 60.0  # s of history
_MOST_BYTES: Final = 256 << 20  # read from history at once
_MARGIN: Final = 0.05  # of a full history, which loses its oldest samples while it is read


@dataclass(frozen=True, slots=True)
class Hub:
    """A hub, and how to get in."""

    address: str
    timeout: float
    curve_key: Path | None = None
    server_key: Path | None = None

    def client(self, tally: Tally | None = None, *, window: int = 300_000) -> Client:
        """A client that streams, and that tells a tally what it hears."""
        client = _Watched(window, curve_key=self.curve_key, server_key=self.server_key)
        client.tally = tally
        try:
            client.connect(self.address, self.timeout)
            client.start_streaming(self.timeout)
        except BaseException:
            client.disconnect()
            raise
        return client

    def pings(self) -> list[Ping]:
        """Questions back to back, each with the hub's clock in its answer."""
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        query = QuerySocket(
            context, query_endpoint(self.address), client_keys(self.curve_key, self.server_key)
        )
        found: list[Ping] = []
        try:
            query.ask(InfoRequest(), None, self.timeout)  # so that no ping waits for the connection
            until = time.monotonic() + _PINGS_OVER
            while not found or (len(found) < _PINGS and time.monotonic() < until):
                sent = time.monotonic_ns()
                reply = query.ask(PingRequest(), None, self.timeout)
                found.append(Ping(sent, int(reply.header["monotonic_ns"]), time.monotonic_ns()))
        finally:
            query.close()
            end_context(context)
        return found


class _Watched(Client):
    """Tells a tally of each block that comes."""

    tally: Tally | None = None

    def _listen(self, deadline: float | None) -> Heard:
        message = super()._listen(deadline)
        if self.tally is not None and type(message) is BlockMessage:
            self.tally.hear(message)
        return message


# --- live ------------------------------------------------------------------------------------------------


def follow(client: Reader, tally: Tally, seconds: float) -> None:
    """Take what `stream` gives, for so long."""
    events = client.stream("live", timeout=_STEP)
    tally.begin()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with suppress(StreamTimeout):
            event = next(events)
            tally.take(event, time.monotonic_ns())


def time_first_blocks(hub: Hub, found: list[int]) -> None:
    """From nothing to the first block, in ns, some times; ends early where none comes."""
    until = time.monotonic() + _CONNECTIONS_OVER
    while not found or (len(found) < _CONNECTIONS and time.monotonic() < until):
        began = time.monotonic_ns()
        with hub.client() as client:
            if client.poll(1, hub.timeout) is None:
                return
            found.append(time.monotonic_ns() - began)


class LocalReader:
    """A `LocalClient` in a process of its own, that notes when it had which samples.

    Parameters
    ----------
    name : str
        The hub's name.
    folder : Path
        Of its shared memory.

    Raises
    ------
    RdaHubError
        It cannot attach; the reason.
    """

    def __init__(self, name: str, folder: Path) -> None:
        # A session of its own: a terminal's Ctrl-C is for its parent, which ends it by closing stdin.
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "rdahub.measuring", name, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        try:
            self.instance = str(self._said()["instance"])
        except BaseException:
            self.close()
            raise

    def _said(self) -> dict[str, Any]:
        assert self._process.stdout is not None  # noqa: S101 - a pipe was asked for
        said: dict[str, Any] = json.loads(self._process.stdout.readline() or '{"error": "it ended"}')
        if "error" in said:
            raise RdaHubError(said["error"])
        return said

    def delays(self, arrivals: list[Arrival]) -> list[int]:
        """End it; for each of these blocks of its hub that it had, ns from the hub's receipt to its own."""
        assert self._process.stdin is not None  # noqa: S101 - a pipe was asked for
        self._process.stdin.close()
        said = self._said()
        ours = [arrival for arrival in arrivals if arrival.instance == self.instance]
        return match_delays(ours, said["start"], said["stops"], said["took_ns"])

    def close(self) -> None:
        """See that it is gone."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _be_local_reader(name: str, folder: str) -> None:
    """Attach, say so; follow the hub until stdin is closed; say what was noted."""
    over = threading.Event()
    try:
        with LocalClient(name, folder) as client:
            client.start_streaming()
            _tell({"instance": client.instance})
            threading.Thread(target=_wait_for_end, args=(over,), daemon=True).start()
            noted = _note(client, over)
    except RdaHubError as error:
        noted = {"error": str(error)}
    _tell(noted)


def _tell(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def _wait_for_end(over: threading.Event) -> None:
    sys.stdin.read()
    over.set()


def _note(client: LocalClient, over: threading.Event) -> dict[str, Any]:
    start, stops, took_ns = None, [], []
    events = client.stream("live", timeout=_STEP)
    while not over.is_set():
        with suppress(StreamTimeout):
            event = next(events)
            now = time.monotonic_ns()
            if isinstance(event, Block):
                start = event.start if start is None else start
                stops.append(event.stop)
                took_ns.append(now)
            elif isinstance(event, SegmentEnd) and event.reason == "hub_restart":
                break  # from here on the same indices are other samples
    return {"start": start or 0, "stops": stops, "took_ns": took_ns}


# --- history ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SpanRead:
    """The newest samples of a length, read some times."""

    seconds: float
    samples: int
    n_bytes: int
    took_ns: list[int]


def read_history(reader: Reader, found: list[SpanRead]) -> None:
    """Read the newest 1, 10 and 60 s into memory of our own, or the last of them as far as it is held."""
    for span in _SPANS:
        took: list[int] = []
        rows = row_bytes = wanted = 0
        sfreq = 1.0
        until = time.monotonic() + _READ_OVER
        while len(took) < _TIMES and (not took or time.monotonic() < until):
            segment, stop = reader.start_msg, reader.last_sample
            if segment is None:
                return
            row_bytes, sfreq = 4 * segment.n_channels, segment.sfreq
            wanted = round(span * sfreq)
            held = _most(segment.start, reader.first_available, stop)
            rows = rows or min(wanted, held, _MOST_BYTES // row_bytes)
            if rows < 1:
                return
            began = time.monotonic_ns()
            try:
                samples = reader.read(stop - rows, stop)
            except (Overwritten, SegmentChanged):
                return  # it is no longer what it was when we looked; what was read before is told
            if not samples.flags.owndata:
                samples = samples.copy()  # a view alone has read nothing
            took.append(time.monotonic_ns() - began)
        found.append(SpanRead(rows / sfreq, rows, rows * row_bytes, took))
        if rows < wanted:
            return


def _most(begin: int, first_available: int, stop: int) -> int:
    """Rows of a segment that are held, and will be when they are asked for."""
    held = stop - max(begin, first_available)
    return held if first_available <= begin else int(held * (1 - _MARGIN))


if __name__ == "__main__":
    _be_local_reader(*sys.argv[1:])
