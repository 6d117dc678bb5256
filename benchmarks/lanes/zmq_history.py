"""The floor of history over ZeroMQ: a plain array, requests for ranges answered in pages, nothing else.

    python -m benchmarks.lanes.zmq_history HOST:PORT '{"shape": …, "rows": …}'

It has no index that lasts, no check that rows are still there, no segments, no late joiner.
"""

from __future__ import annotations

import contextlib
import json
import struct
import sys
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import zmq

from benchmarks.feed import Feed
from benchmarks.lanes import Lane, Read, Relay, Setting
from benchmarks.messages import DATA32, Splitter, connect, samples_of
from benchmarks.shape import Float32, Shape

PAGE = 1 << 20
"""As large as rdahub's."""
_RANGE = struct.Struct("<qq")


class ZmqHistory(Lane):
    """DEALER and ROUTER."""

    name: ClassVar[str] = "zmq-history"
    title: ClassVar[str] = "bare pyzmq request/reply of pages"

    def start(self, setting: Setting) -> Relay:
        """Run this module."""
        rows = round(setting.history_seconds * setting.shape.rate)
        spec = json.dumps({"shape": setting.shape.to_json(), "rows": rows})
        child = self.module("benchmarks.lanes.zmq_history", setting.source, spec)
        return Relay(child.said(), [child])

    def consume(self, address: str, feed: Feed) -> None:  # noqa: ARG002 - as every lane
        """It has no live data."""
        raise RuntimeError(f"{self.title} has no live data")

    @contextlib.contextmanager
    def history(self, address: str, shape: Shape) -> Iterator[Read]:
        """Ask for page after page."""
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        query = context.socket(zmq.REQ)
        query.connect(address)

        def read(start: int, stop: int) -> Float32:
            whole = np.empty((stop - start, shape.channels), np.float32)
            at = start
            while at < stop:
                query.send(_RANGE.pack(at, stop))
                page = np.frombuffer(query.recv(copy=False).buffer, np.float32).reshape(-1, shape.channels)
                whole[at - start : at - start + len(page)] = page
                at += len(page)
            return whole

        try:
            yield read
        finally:
            context.destroy(0)


def main() -> None:
    """Serve until the source closes."""
    spec = json.loads(sys.argv[2])
    shape, capacity = Shape(**spec["shape"]), int(spec["rows"])
    ring = np.zeros((capacity, shape.channels), np.float32)
    per_page = max(1, PAGE // (shape.channels * 4))
    router = zmq.Context().socket(zmq.ROUTER)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    source = connect(sys.argv[1])
    print(f"ready tcp://127.0.0.1:{port}", flush=True)
    splitter = Splitter()
    poller = zmq.Poller()
    poller.register(source.fileno(), zmq.POLLIN)
    poller.register(router, zmq.POLLIN)
    written = 0
    while True:
        events = dict(poller.poll())
        if source.fileno() in events:
            for kind, message in splitter.receive(source):
                if kind == DATA32:
                    samples = samples_of(message, shape.channels)
                    at = written % capacity
                    part = min(len(samples), capacity - at)
                    ring[at : at + part] = samples[:part]
                    ring[: len(samples) - part] = samples[part:]
                    written += len(samples)
        if router in events:
            peer, empty, question = router.recv_multipart()
            start, stop = _RANGE.unpack(question)
            at = start % capacity
            stop_at = at + min(stop - start, per_page, capacity - at)
            router.send_multipart([peer, empty, ring[at:stop_at].tobytes()])


if __name__ == "__main__":
    main()
