"""A reader in a process of its own that writes down what it was told, event by event.

``witness.py follow|join KIND ADDRESS START LOG [JOINS SEED]``; KIND is ``network`` or ``local``, START is
``live``, ``oldest`` or an index. `follow` is one stream until SIGTERM; `join` is many short ones, each a new
client that starts somewhere, sometimes with a window too small and a pause too long, and leaves.
One JSON line per event goes to LOG, samples as float32 to LOG.samples, always before their line.
Rule: it verifies nothing; every error that is not a time-out is written down, and the checker convicts it.
"""

from __future__ import annotations

import contextlib
import json
import random
import signal
import sys
import time
import zlib
from pathlib import Path
from typing import Any

from rdahub_client import (
    Block,
    Client,
    Event,
    Gap,
    HubUnreachable,
    LocalClient,
    RdaHubError,
    SegmentEnd,
    SegmentStart,
    SharedMemoryError,
    StartTimeout,
    StreamTimeout,
)

ROWS_PER_JOIN = 3000
LIVE_ROWS = 60
_over = False


def _end(*_: object) -> None:
    global _over  # noqa: PLW0603 - a signal handler has nowhere else to put it
    _over = True


class Log:
    """Two files that grow together."""

    def __init__(self, path: Path) -> None:
        self._lines = path.open("a")
        self._samples = Path(f"{path}.samples").open("ab")  # noqa: SIM115 - open as long as the process

    def write(self, what: str, **more: Any) -> None:
        self._lines.write(json.dumps({"what": what, "t": time.monotonic(), **more}) + "\n")
        self._lines.flush()

    def event(self, instance: str, event: Event) -> None:
        match event:
            case SegmentStart(segment):
                self.write(
                    "start", instance=instance, number=segment.number, start=segment.start,
                    interval=segment.sampling_interval_us, resolutions=segment.resolutions,
                    names=segment.ch_names,
                )  # fmt: skip
            case Block(start, stop, samples, markers):
                data, offset = samples.tobytes(), self._samples.tell()
                self._samples.write(data)
                self._samples.flush()
                self.write(
                    "block", instance=instance, start=start, stop=stop, shape=samples.shape, offset=offset,
                    crc=zlib.crc32(data),
                    markers=[[m.index, m.points, m.channel, m.type, m.description, m.block] for m in markers],
                )  # fmt: skip
            case Gap(start, stop, reason):
                self.write("gap", instance=instance, start=start, stop=stop, reason=reason)
            case SegmentEnd(segment, reason):
                self.write(
                    "end", instance=instance, number=segment.number, start=segment.start, stop=segment.stop,
                    reason=reason, name=segment.ch_names[0],
                )  # fmt: skip


def connect(kind: str, address: str, buffer_size: int) -> Client | LocalClient | None:
    """A client that streams; None once it is time to end."""
    while not _over:
        client: Client | LocalClient | None = None
        try:
            if kind == "local":
                client = LocalClient(address)
            else:
                client = Client(buffer_size=buffer_size)
                client.connect(address, timeout=1)
            client.start_streaming(timeout=1)
        except (HubUnreachable, SharedMemoryError, StartTimeout):
            if client is not None:
                client.disconnect()
            time.sleep(0.1)  # a hub that is down is knocked at, not hammered
        else:
            return client
    return None


def follow(client: Client | LocalClient, start: str | int, log: Log, rows: int | None, away: float) -> None:
    """One stream, until the end of this process or for so many rows."""
    events = client.stream(start, timeout=0.5 if rows is None else 0.2)
    cursor = events._cursor  # type: ignore[attr-defined] # events do not say of which instance they are
    log.write("open", start=start, index=cursor.index, instance=cursor.instance)
    quiet = 0
    try:
        while not _over and (rows is None or (rows > 0 and quiet < 2)):
            before = cursor.instance
            try:
                event = next(events)
            except StreamTimeout:
                quiet += 1
                continue
            restarted = isinstance(event, SegmentEnd) and event.reason == "hub_restart"
            log.event(before if restarted else cursor.instance, event)
            if rows is not None:
                rows -= event.stop - event.start if isinstance(event, Block | Gap) else 1
            if away:
                log.write("away", seconds=away)
                time.sleep(away)  # falling behind is the fault
                away = 0.0
    except RdaHubError as error:
        log.write("error", text=f"{type(error).__name__}: {error}")
    finally:
        log.write("left")


def join(kind: str, address: str, log: Log, joins: int, seed: int) -> None:
    """Many clients, one after the other."""
    rng = random.Random(seed)
    while joins and not _over:
        client = connect(kind, address, buffer_size=rng.choice((1, 30, 500, 100_000)))
        if client is None:
            return
        joins -= 1
        with client:
            first, last = client.first_available, client.last_sample
            start: str | int = rng.choice(
                ("live", "oldest", rng.randint(first, last), rng.randint(0, last), max(first, last - 50))
            )
            away = rng.choice((0.0, 0.0, 0.0, rng.uniform(0.02, 0.3)))
            begin = {"live": last, "oldest": first}.get(str(start), start)
            rows = min(ROWS_PER_JOIN, last - int(begin) + LIVE_ROWS)  # history, and a little of the present
            follow(client, start, log, rng.randint(1, rows), away)


def main(mode: str, kind: str, address: str, start: str, path: str, *rest: str) -> None:
    signal.signal(signal.SIGTERM, _end)
    log = Log(Path(path))
    print("ready", flush=True)
    if mode == "join":
        join(kind, address, log, int(rest[0]), int(rest[1]))
    else:
        while (client := connect(kind, address, 20_000)) is not None:
            with client, contextlib.suppress(KeyboardInterrupt):
                follow(client, int(start) if start.isdecimal() else start, log, None, 0.0)
            start = "oldest"  # an error is convicted; whether there are more is worth knowing too
    print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
