"""A hub and its readers in one process, with a link between them that loses what the test wants lost.

Real broker, real wire, real timeline and verbs; only sockets and time are missing. Every sample's value is a
function of its instance, index and channel, so whatever a reader shows can be checked without remembering it.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from rdahub import rda
from rdahub.answers import Answers
from rdahub.broker import Broker
from rdahub.rings import History
from rdahub_client.errors import HubLost
from rdahub_client.reader import Reader
from rdahub_client.records import Float32
from rdahub_client.ring import Ring
from rdahub_client.verbs import Heard
from rdahub_client.wire import (
    BLOCK,
    END,
    GAP,
    HEARTBEAT,
    SEGMENT,
    End,
    Heartbeat,
    InfoRequest,
    Reply,
    Request,
    decode,
    decode_reply,
    encode_end,
    encode_heartbeat,
    encode_reply,
    encode_request,
)
from rdahub_client.wire.admission import decode_request

TOPICS = (BLOCK, SEGMENT, GAP, HEARTBEAT, END)  # what a client subscribes to


def plain_ring(n_channels: int, rows: int, start: int) -> Ring:
    return Ring(np.zeros((2 * rows, n_channels), np.float32), start, mirrored=False)


def truth(life: int, start: int, stop: int, n_channels: int) -> Float32:
    """What samples ``[start, stop)`` of a hub's life are."""
    index = np.arange(start, stop, dtype=np.int64)[:, None]
    channel = np.arange(n_channels)[None, :]
    return ((index * 7 + channel * 13 + life * 1009) % 65_521).astype(np.float32)


class FakeHub:
    """Broker and published frames; `restart` begins another instance."""

    def __init__(self, history_rows: int = 500, start_index: int = 0) -> None:
        self.readers: list[LossyReader] = []
        self.history_rows = history_rows
        self.life = 0
        self.alive = True
        self.counter = 0
        self.missing: set[int] = set()
        self._missing_in: dict[int, set[int]] = {}
        self._new_broker(start_index)

    def _new_broker(self, start_index: int = 0) -> None:
        self.broker = Broker(
            f"life-{self.life}",
            History(self.history_rows / 1000.0, 1 << 30),
            lambda n_channels, _rows, start: plain_ring(n_channels, self.history_rows, start),
            start_index,
        )
        self.missing = self._missing_in[self.life] = set()

    def restart(self, *, goodbye: bool) -> None:
        if goodbye:
            self.publish([*self.broker.end("lost"), encode_end(End(self.broker.instance))])
        self.life += 1
        self._new_broker()

    def publish(self, frames: list[bytes]) -> None:
        for frame in frames:
            for reader in self.readers:
                reader.offer(frame)

    def start(self, n_channels: int, rate: float = 1000.0) -> None:
        self.counter = 1
        names = tuple(f"C{i}" for i in range(n_channels))
        self.publish(self.broker.begin(rda.Start(1e6 / rate, (1.0,) * n_channels, names)))

    def block(self, n: int, markers: tuple[rda.BlockMarker, ...] = (), skip_blocks: int = 0) -> None:
        """The next block; first `skip_blocks` of the same length are dropped by the Recorder."""
        broker = self.broker
        segment = broker.segment
        assert segment is not None
        number = segment.number
        # The broker decides how many rows the jump is worth; ask it by looking at its index afterwards.
        start = broker.next_index + skip_blocks * n
        self.counter += skip_blocks
        samples = truth(self.life, start, start + n, segment.n_channels)
        frames = broker.extend(rda.Data(self.counter, samples, markers), 1, 2)
        self.counter += 1
        if skip_blocks:
            assert broker.segment is not None
            assert broker.segment.number == number
            assert broker.next_index == start + n
            self.missing.update(range(start - skip_blocks * n, start))
        self.publish(frames)

    def stop(self) -> None:
        self.publish(self.broker.end("stop"))

    def beat(self) -> None:
        broker = self.broker
        broker.prune(broker.next_index / 1000.0)  # as if it were a clock
        frames = [
            encode_heartbeat(
                Heartbeat(
                    broker.instance, "streaming", None, broker.first_available, broker.next_index,
                    broker.journal.next_seq, 1, 2,
                )
            )
        ]  # fmt: skip
        if broker.segment_frame is not None:
            frames.append(broker.segment_frame)
        self.publish(frames)

    def answer(self, frame: bytes) -> bytes:
        request = decode_request(frame)
        if isinstance(request, InfoRequest):
            return encode_reply(
                request.id,
                {
                    "ok": True, "name": "fake", "version": "0", "state": "streaming", "recorder": "fake:1",
                    "publish": "tcp://127.0.0.1:1", "publish_port": 1, **Answers(self.broker).describe(),
                },
            )  # fmt: skip
        return Answers(self.broker).answer(request)  # type: ignore[arg-type]

    def expected(
        self, start: int, stop: int, n_channels: int, instance: str | None = None
    ) -> npt.NDArray[np.float32]:
        """What a reader must see; of the present instance, or of the one named."""
        life = self.life if instance is None else int(instance.removeprefix("life-"))
        rows = truth(life, start, stop, n_channels)
        for index in self._missing_in[life].intersection(range(start, stop)):
            rows[index - start] = np.nan
        return rows


class LossyReader(Reader):
    """A reader whose link drops published frames with a probability, or all of them while it sleeps."""

    def __init__(
        self, hub: FakeHub, chance: random.Random, loss: float = 0.0, window_rows: int = 300
    ) -> None:
        super().__init__(backlog=10_000)
        self.hub = hub
        self.chance = chance
        self.loss = loss
        self.asleep = False
        self.deaf = False
        self.window_rows = window_rows
        self.asked: list[Request] = []
        self._queue: deque[bytes] = deque()
        hub.readers.append(self)

    def offer(self, frame: bytes) -> None:
        if frame[:1] in TOPICS and not self.asleep and self.chance.random() >= self.loss:
            self._queue.append(frame)

    def start(self) -> None:
        self._streaming = True
        self._run(self._verbs.begin(None))

    def drain(self, *, start: str | int = "oldest") -> Iterator[object]:
        """Events until the link is empty."""
        cursor = self._run(self._streams.open(start, 0.0))
        return self.resume(cursor)

    def resume(self, cursor: object) -> Iterator[object]:
        while True:
            try:
                yield self._run(self._streams.next_event(cursor, 0.0))  # type: ignore[arg-type]
            except TimeoutError:
                return

    @property
    def address(self) -> str:
        return "lossy"

    def disconnect(self) -> None:
        self._streaming = False

    def _open_window(self, n_channels: int, start: int) -> Ring:
        return plain_ring(n_channels, self.window_rows, start)

    def _listen(self, deadline: float | None) -> Heard:
        if self._queue:
            return decode(self._queue.popleft())
        assert deadline is not None, "the test would wait for ever"
        return None

    def _ask(self, request: Request, deadline: float | None, patience: float) -> Reply:
        if self.deaf or not self.hub.alive:
            raise HubLost("the test's hub is away")
        self.asked.append(request)
        return decode_reply(self.hub.answer(encode_request(request, len(self.asked))))
