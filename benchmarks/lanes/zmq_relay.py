"""The floor of ZeroMQ: TCP in, PUB out, one frame per RDA message, no logic whatever.

    python -m benchmarks.lanes.zmq_relay HOST:PORT

It loses blocks without a word when a consumer is slow, knows no history and no late joiner's layout.
"""

from __future__ import annotations

import sys
from typing import ClassVar

import zmq

from benchmarks.feed import Feed
from benchmarks.lanes import Lane, Relay, Setting
from benchmarks.messages import DATA32, Splitter, connect, samples_of


class ZmqRelay(Lane):
    """PUB and SUB."""

    name: ClassVar[str] = "zmq"
    title: ClassVar[str] = "bare pyzmq relay"

    def start(self, setting: Setting) -> Relay:
        """Run this module."""
        child = self.module("benchmarks.lanes.zmq_relay", setting.source)
        return Relay(child.said(), [child])

    def consume(self, address: str, feed: Feed) -> None:
        """Receive, and look at the bytes as an array."""
        channels = feed.shape.channels
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        sub = context.socket(zmq.SUB)
        sub.subscribe(b"")
        sub.set(zmq.RCVTIMEO, 1000)
        sub.connect(address)
        while True:
            try:
                message = sub.recv()
            except zmq.Again:
                if feed.silent():
                    break
                continue
            if message[20] == DATA32 and feed.take(samples_of(message, channels)):
                break
        context.destroy(0)


def main() -> None:
    """Relay until the source closes."""
    source = connect(sys.argv[1])
    pub = zmq.Context().socket(zmq.PUB)
    port = pub.bind_to_random_port("tcp://127.0.0.1")
    print(f"ready tcp://127.0.0.1:{port}", flush=True)
    splitter = Splitter()
    while True:
        for _, message in splitter.receive(source):
            pub.send(message)


if __name__ == "__main__":
    main()
