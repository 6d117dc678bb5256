"""Lanes of rdahub itself: over the network with `Client`, on the same machine with `LocalClient`.

Rule: the hub is started as a user starts it, the clients are the public ones. Only counting is added: ranges
fetched from history after the first block, which a stream without loss never needs.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import zmq

from benchmarks.children import Child
from benchmarks.feed import Feed
from benchmarks.lanes import Lane, Read, Relay, Setting
from benchmarks.shape import Shape
from rdahub_client import Block, Client, LocalClient, StreamTimeout
from rdahub_client.reader import Reader
from rdahub_client.verbs import Heard
from rdahub_client.wire import BLOCK, BlockMessage, RangeRequest, Reply, Request

_numbers = itertools.count()


class _Network(Client):
    """A client that counts what it had to ask for."""

    ranges = 0
    feed: Feed | None = None

    def _ask(self, request: Request, deadline: float | None, patience: float) -> Reply:
        self.ranges += isinstance(request, RangeRequest)
        return super()._ask(request, deadline, patience)


class _Watched(_Network):
    """Also notes when the hub had each block."""

    def _listen(self, deadline: float | None) -> Heard:
        message = super()._listen(deadline)
        if isinstance(message, BlockMessage) and self.feed is not None:
            self.feed.note_hub(message.start, message.received_ns)
        return message


class _Local(LocalClient):
    """The same on the hub's machine."""

    ranges = 0

    def _ask(self, request: Request, deadline: float | None, patience: float) -> Reply:
        self.ranges += isinstance(request, RangeRequest)
        return super()._ask(request, deadline, patience)


class HubStream(Lane):
    """`Client.stream`."""

    name: ClassVar[str] = "rdahub"
    title: ClassVar[str] = "rdahub Client.stream"

    def start(self, setting: Setting) -> Relay:
        """Run ``rdahub serve``."""
        name = f"bench{os.getpid()}-{next(_numbers)}"
        free = "tcp://127.0.0.1:0"
        child = Child(
            [
                self.python(), "-m", "rdahub", "serve", "--recorder", setting.source, "--query", free,
                "--publish", free, "--name", name, "--history", f"{setting.history_seconds}s",
                "--log-level", "warning",
            ],
            r"ready query=(\S+) publish=\S+ name=(\S+)",
        )  # fmt: skip
        return Relay(f"{child.said(1)} {child.said(2)}", [child])

    def client(self, address: str, feed: Feed | None = None) -> _Network | _Local:
        """A client of this hub."""
        del feed
        client = _Network()
        client.connect(address.split(maxsplit=1)[0], timeout=30)
        return client

    def consume(self, address: str, feed: Feed) -> None:
        """Take blocks from `stream`."""
        with self.client(address, feed) as client:
            client.start_streaming(timeout=30)
            self._follow(client, feed)

    def _follow(self, client: _Network | _Local, feed: Feed) -> None:
        before = None
        events = client.stream("live", timeout=1)
        while True:
            try:
                event = next(events)
            except StreamTimeout:
                if feed.silent():
                    break
                continue
            if isinstance(event, Block) and feed.take(event.samples):
                break
            if before is None and feed.began:
                before = client.ranges
        feed.extra["repaired"] = client.ranges - (before or 0)

    @contextlib.contextmanager
    def history(self, address: str, shape: Shape) -> Iterator[Read]:
        """`Client.read` with a window of one block, so that nearly all comes from the hub."""
        with Client(buffer_size=shape.rows) as client:
            client.connect(address.split(maxsplit=1)[0], timeout=30)
            client.start_streaming(timeout=30)
            yield client.read


class HubWatched(HubStream):
    """The same, also noting the hub's own receive time."""

    name: ClassVar[str] = "rdahub-watched"
    title: ClassVar[str] = "rdahub Client.stream, hub's own time noted"

    def client(self, address: str, feed: Feed | None = None) -> _Network:
        """A client that tells the feed."""
        client = _Watched()
        client.feed = feed
        client.connect(address.split(maxsplit=1)[0], timeout=30)
        return client


class HubBareSub(HubStream):
    """The hub with a bare SUB for a consumer: what the client adds is the difference to `HubStream`."""

    name: ClassVar[str] = "rdahub-sub"
    title: ClassVar[str] = "rdahub hub, bare SUB"

    def consume(self, address: str, feed: Feed) -> None:
        """Receive blocks' frames, and look at their end as an array."""
        with Client() as client:
            client.connect(address.split(maxsplit=1)[0], timeout=30)
            publish = client.info().publish
        shape = feed.shape
        size = shape.rows * shape.channels * 4
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        sub = context.socket(zmq.SUB)
        sub.subscribe(BLOCK)
        sub.set(zmq.RCVTIMEO, 1000)
        sub.connect(publish)
        while True:
            try:
                frame = sub.recv()
            except zmq.Again:
                if feed.silent():
                    break
                continue
            if feed.take(np.frombuffer(frame, np.float32, offset=len(frame) - size).reshape(shape.rows, -1)):
                break
        context.destroy(0)


def _poll(client: Reader, feed: Feed) -> None:
    rows = feed.shape.rows
    while True:
        samples = client.poll(rows, timeout=1)
        if samples is None:
            if feed.silent():
                return
        elif feed.take(samples):
            return


class HubPoll(HubStream):
    """`Client.poll`."""

    name: ClassVar[str] = "rdahub-poll"
    title: ClassVar[str] = "rdahub Client.poll"
    newest_only: ClassVar[bool] = True

    def _follow(self, client: _Network | _Local, feed: Feed) -> None:
        _poll(client, feed)


class LocalStream(HubStream):
    """`LocalClient.stream`."""

    name: ClassVar[str] = "local"
    title: ClassVar[str] = "rdahub LocalClient.stream"

    def client(self, address: str, feed: Feed | None = None) -> _Local:
        """A client by the hub's name."""
        del feed
        return _Local(address.split()[1])

    @contextlib.contextmanager
    def history(self, address: str, shape: Shape) -> Iterator[Read]:
        """`LocalClient.read`: views of the hub's ring."""
        del shape
        with self.client(address) as client:
            client.start_streaming(timeout=30)
            yield client.read


class LocalPoll(LocalStream):
    """`LocalClient.poll`."""

    name: ClassVar[str] = "local-poll"
    title: ClassVar[str] = "rdahub LocalClient.poll"
    newest_only: ClassVar[bool] = True

    def _follow(self, client: _Network | _Local, feed: Feed) -> None:
        _poll(client, feed)
