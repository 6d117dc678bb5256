"""What the hub says of itself when it is asked: who it is, what time it is there, how it is.

Rule: it looks at the other rooms and changes nothing; a marker to insert it hands on. Answers about the
recording are `answers`'.
Not here: sockets and turns (`questions`), what is measured (`measures`).
"""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import Any, Final

from rdahub import rda
from rdahub.answers import Answers
from rdahub.archive.keeper import Keeper
from rdahub.broker import Broker
from rdahub.config import ServeSettings
from rdahub.insertions import Insertions, Refused
from rdahub.measures import BlockTimes, Losses, Readers
from rdahub.publisher import Publisher
from rdahub.rda_out import RdaOut
from rdahub.storage import Storage
from rdahub.upstream import Upstream
from rdahub_client.wire import (
    HereRequest,
    InfoRequest,
    InstancesRequest,
    MarkRequest,
    PastEventsRequest,
    PastRangeRequest,
    PingRequest,
    Request,
    StatsRequest,
    encode_reply,
    record_to_wire,
)

__all__ = ["About"]

_VERSION: Final = version("rdahub")


class About:
    """Answers to all requests; those about the recording are handed on.

    Attributes
    ----------
    times, losses : BlockTimes, Losses
        What the loop measures.
    recorder : rda.Info or None
    impedances : rda.Impedances or None
        What the Recorder said of itself last.
    publisher : Publisher or None
        Set before the first question can come.
    rda_out : RdaOut or None
    """

    def __init__(self, settings: ServeSettings, broker: Broker, upstream: Upstream, storage: Storage) -> None:
        self.rda_out: RdaOut | None = None
        self.times, self.losses, self._readers = BlockTimes(), Losses(), Readers()
        self.recorder: rda.Info | None = None
        self.impedances: rda.Impedances | None = None
        self.publisher: Publisher | None = None
        self.archive: Keeper | None = None
        self._settings = settings
        self._answers = Answers(broker, self.times.arrivals)
        self._insertions = Insertions(broker)
        self._broker = broker
        self._upstream = upstream
        self._storage = storage
        self._started, self._began_ns = time.monotonic(), time.time_ns()

    def state(self, now: float) -> str:
        """The Recorder's state as users see it."""
        return self._upstream.state(now, self._broker.block_seconds)

    def answer(self, request: Request) -> bytes | None:
        """The answer to a request, as one frame; None if it wants none."""
        match request:
            case HereRequest(instance=instance, name=name, next_index=index):
                behind = self._broker.next_index - index if instance == self._broker.instance else None
                self._readers.note(name, behind, time.monotonic())
                return None
            case InfoRequest():
                return encode_reply(request.id, {"ok": True, **self._info()})
            case PingRequest():
                clocks = {"monotonic_ns": time.monotonic_ns(), "wall_ns": time.time_ns()}
                return encode_reply(request.id, {"ok": True, **self._broker.holdings(), **clocks})
            case StatsRequest():
                return encode_reply(request.id, {"ok": True, **self._statistics()})
            case MarkRequest():
                return self._mark(request)
            case InstancesRequest():
                return encode_reply(request.id, {"ok": True, **self._broker.holdings(), **self._only_this()})
            case PastRangeRequest() | PastEventsRequest():
                return self.refuse(request.id, "NO_ARCHIVE", "this hub keeps no archive (serve --archive)")
            case _:
                return self._answers.answer(request)

    def refuse(self, request_id: int, code: str, message: str) -> bytes:
        """A named error as an answer."""
        return self._answers.refuse(request_id, code, message)

    def _mark(self, request: MarkRequest) -> bytes:
        """Insert a marker, and tell all readers before its sender."""
        if (refusal := self._answers.check_instance(request)) is not None:
            return refusal
        try:
            seq, marker, frames = self._insertions.insert(request)
        except Refused as error:
            return self.refuse(request.id, error.code, str(error))
        if frames:
            self._storage.ring_bells()
            if self.publisher is not None:
                self.publisher.send(frames)
        answer = {"ok": True, **self._broker.holdings(), "seq": seq, "marker": record_to_wire(marker)[1]}
        return encode_reply(request.id, answer)

    def _only_this(self) -> dict[str, Any]:
        """The answer to ``instances`` where there is no archive."""
        broker = self._broker
        this = {
            "instance": broker.instance,
            "name": self._settings.name,
            "recorder": self._settings.recorder,
            "began_ns": self._began_ns,
            "runs": [(broker.first_available, broker.next_index)] if broker.next_index else [],
        }
        return {"instances": [this], "more": False}

    def _info(self) -> dict[str, Any]:
        publish = "" if self.publisher is None else self.publisher.door.endpoint
        tcp = publish.startswith("tcp://")
        return {
            **self._answers.describe(),
            "name": self._settings.name,
            "version": _VERSION,
            "state": self.state(time.monotonic()),
            "recorder": self._settings.recorder,
            "publish": publish,
            "publish_port": int(publish.rpartition(":")[2]) if tcp else None,
        }

    def _statistics(self) -> dict[str, Any]:
        now = time.monotonic()
        self.losses.note(self._broker.journal)
        last, publisher = self._broker.last_block, self.publisher
        subscribers = 0 if publisher is None else publisher.subscribers
        impedances = None if self.impedances is None else self.impedances.electrodes
        return {
            **self._answers.statistics(),
            "name": self._settings.name,
            "version": _VERSION,
            "state": self.state(now),
            "recorder": {
                "address": self._settings.recorder,
                "state": self._upstream.recorder_state,
                "version": None if self.recorder is None else self.recorder.version,
                "error": self._upstream.last_error,
            },
            "impedances": None if impedances is None else {each.name: each.kohm for each in impedances},
            "clients": subscribers + self._storage.local_readers,
            "subscribers": subscribers,
            "local_readers": self._storage.local_readers,
            "readers": self._readers.describe(now),
            "published": {
                "frames": 0 if publisher is None else publisher.frames,
                "bytes": 0 if publisher is None else publisher.bytes,
            },
            "rda_out": None if self.rda_out is None else self.rda_out.describe(),
            "losses": self.losses.describe(),
            "archive": None if self.archive is None else self.archive.describe(),
            "timings": {
                "publish_delay": self.times.delay.describe(),
                "recorder_jitter": self.times.jitter.describe(),
            },
            "ages": {
                "hub": now - self._started,
                "block": None if last is None else now - last[0] * 1e-9,
            },
        }
