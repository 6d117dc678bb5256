"""The process that keeps a hub's archive; `keeper` starts it.

Rule: writing goes first: a few times a second all that is new is written, the journal before the rows it
speaks of, and questions are answered in between, one at a time. A full disk or one that fails stops the
writing, is said, and tried again; what could not be written in time is a hole and is said too.
It ends when its standard input does, and writes what is left first.
Not here: files (`volume`), the hub's ring (`source`), answers (`shelf`).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sys
import time
from pathlib import Path
from typing import Any, Final

import msgpack
import zmq

from rdahub.archive.cached import FILES, pass_span
from rdahub.archive.shelf import Shelf
from rdahub.archive.source import Source
from rdahub.archive.volume import Writer
from rdahub.companion import take_order
from rdahub_client.errors import Overwritten, RdaHubError
from rdahub_client.waiting import Waiting
from rdahub_client.wire import PAGE_BYTES
from rdahub_client.wire.admission import decode_request

__all__ = ["main"]

_LOOK: Final = 0.2  # s between two looks for what is new: so much is lost if this process is killed
_SYNC: Final = 5.0  # s between two times the disk is told to write: so much is lost if the power fails
_PAGES: Final = 16  # written in one go, before questions get their turn


class Archivist:
    """One instance's archive, kept.

    Parameters
    ----------
    order : dict
        As `keeper.Keeper` gives it.
    """

    def __init__(self, order: dict[str, Any]) -> None:
        self._folder = Path(order["folder"])
        self._reserve = int(order["reserve"])
        about = {key: order[key] for key in ("name", "recorder", "began_ns")}
        self._volume = Writer(self._folder / order["instance"], about)
        self._shelf = Shelf(self._folder, self._volume)
        self._source = Source(order)
        self._position = self._volume.next_index  # of the next sample to write
        self._trouble = ""
        self._dirty = False
        self._next_sync = 0.0
        self._files = socket.socket(fileno=order["files"]) if "files" in order else None
        self._passed = 0  # of the volume's spans

    def serve(self, desk: zmq.Socket[bytes]) -> None:
        """Write and answer until standard input ends."""
        waiting = Waiting([desk])
        waiting.add(sys.stdin.fileno())
        next_look = 0.0
        while True:
            now = time.monotonic()
            if now >= next_look:
                behind = self._follow()
                self._tell(desk)
                next_look = now if behind else time.monotonic() + _LOOK
            ready = waiting.wait(next_look - time.monotonic())
            if sys.stdin.fileno() in ready:
                break  # nothing is ever said there: it is the end
            if desk in ready:
                number, question, hub = desk.recv_multipart()
                request: Any = decode_request(question)
                desk.send_multipart([number, self._shelf.answer(request, msgpack.unpackb(hub))], copy=False)
        while self._follow():
            pass
        self._tell(desk)
        self._source.close()
        self._volume.close()

    # --- writing -----------------------------------------------------------------------------------------

    def _follow(self) -> bool:
        """Write what is new, some of it. True if there is more."""
        try:
            if (free := shutil.disk_usage(self._folder).free) < self._reserve:
                self._trouble = (
                    f"only {free >> 20} MiB are free where it lies, and {self._reserve >> 20} MiB are to "
                    "stay free; nothing more is archived"
                )
                return False
            behind = self._write()
            self._trouble = ""
            self._sync()
        except OSError as error:
            if not isinstance(error, RdaHubError):  # some are OSErrors too
                self._trouble = f"cannot be written: {error.strerror or error}"
            return False
        except RdaHubError:
            return False  # the hub is ending, or very busy
        return behind

    def _write(self) -> bool:
        volume = self._volume
        next_index, seq = self._source.look()
        while volume.journal.next_seq < seq:
            events = self._source.events(volume.journal.next_seq)
            if not events.records:
                break
            volume.add_records(events.seq, events.records, events.before)
            self._dirty = True
        for _ in range(_PAGES):
            if self._position >= next_index:
                return False
            self._position = self._write_page(self._position, next_index)
        return True

    def _write_page(self, start: int, next_index: int) -> int:
        """Write some rows from `start` on; returns where to go on."""
        journal = self._volume.journal
        segment = journal.segment_at(start)
        if segment is None:  # it was forgotten before it came here
            later = [each.start for each in journal.segments if each.start > start]
            return min(later, default=next_index)
        stop = min(next_index, start + max(1, PAGE_BYTES // (4 * segment.n_channels)))
        if segment.stop is not None:
            stop = min(stop, segment.stop)
        try:
            samples = self._source.rows(start, stop, segment.n_channels)
        except Overwritten as error:
            return max(error.first_available or 0, start + 1)
        self._volume.add_rows(segment, start, samples)
        self._dirty = True
        return start + len(samples)

    def _sync(self) -> None:
        if self._dirty and time.monotonic() >= self._next_sync:
            self._volume.sync()
            self._dirty = False
            self._next_sync = time.monotonic() + _SYNC

    def _tell(self, desk: zmq.Socket[bytes]) -> None:
        """Let the hub know how far it is."""
        self._pass_files()
        start, stop = self._volume.reach
        spans, runs = self._volume.spans, self._volume.runs()
        report = {
            "first": start,
            "stop": stop,
            "bytes": sum((each.stop - each.start) * each.n_channels * 4 for each in spans),
            "holes": len(runs) - 1 if runs and runs[0][0] == 0 else len(runs),
            "trouble": self._trouble,
        }
        with contextlib.suppress(zmq.Again):
            desk.send_multipart([b"", msgpack.packb(report)], zmq.DONTWAIT)

    def _pass_files(self) -> None:
        """Let the hub have the files it may read by itself."""
        if self._files is None:
            return
        spans = self._volume.spans
        self._passed = max(self._passed, len(spans) - FILES)
        with contextlib.suppress(OSError):  # the hub has ended, or a file cannot be opened: it will ask
            while self._passed < len(spans) and pass_span(self._files, spans[self._passed]):
                self._passed += 1


def main() -> None:
    """Keep the archive until standard input ends."""
    order = take_order()
    context = zmq.Context()
    desk = context.socket(zmq.DEALER)
    desk.linger = 200
    try:
        archivist = Archivist(order)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        print(json.dumps({"error": reason}), flush=True)  # noqa: T201 - `companion` reads it
        return
    print("{}", flush=True)  # noqa: T201
    desk.connect(order["desk"])
    archivist.serve(desk)
    desk.close()
    context.term()
    os._exit(0)  # whatever libzmq still holds


if __name__ == "__main__":
    main()
