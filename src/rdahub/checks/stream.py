"""What the Recorder sends, looked at for some seconds: is it RDA, does it acquire, are the blocks even.

Rule: it reads as the hub does, with `rda.Decoder`, fast and briefly, and never writes a byte.
Not here: making the connection (`reach`).
"""

from __future__ import annotations

import itertools
import socket
import time
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from rdahub import rda
from rdahub.checks.findings import OK, WARNING, WRONG, Finding

__all__ = ["Stream", "judge", "listen"]

_RATE_OFF: Final = 0.02  # part of the nominal rate; some seconds of blocks tell no finer
_PAUSE: Final = 0.25  # s without a block, or ...
_PAUSE_BLOCKS: Final = 5  # ... so many blocks' length, is long
_COUNTER: Final = 2**32
_LEAST_BLOCKS: Final = 5


@dataclass(slots=True)
class Stream:
    """What came over one connection."""

    bytes: int = 0
    messages: int = 0
    start: rda.Start | None = None
    stopped: bool = False
    info: rda.Info | None = None
    notes: list[str] = field(default_factory=list)
    kind: str = ""
    times: list[float] = field(default_factory=list)
    """When each block came, s on the monotonic clock."""
    lengths: list[int] = field(default_factory=list)
    counters: list[int] = field(default_factory=list)
    broken: str = ""
    closed: bool = False


def listen(connection: socket.socket, seconds: float, patience: float) -> Stream:
    """Take what comes for `seconds` from the first block on; give up waiting for one after `patience`."""
    stream, decoder = Stream(), rda.Decoder(copy=False)
    until = time.monotonic() + patience
    try:
        while not (stream.broken or stream.closed) and (left := until - time.monotonic()) > 0:
            connection.settimeout(left)
            try:
                n = connection.recv_into(decoder.get_buffer())
            except TimeoutError:
                break
            except OSError as error:
                stream.broken = error.strerror or str(error)
                break
            now, first = time.monotonic(), not stream.times
            if n == 0:
                stream.closed = True
                break
            stream.bytes += n
            decoder.buffer_updated(n)
            for message in decoder:
                _take(stream, message, now)
            if first and stream.times:
                until = now + seconds
    except rda.ProtocolError as error:
        stream.broken = str(error)
    return stream


def _take(stream: Stream, message: rda.Message, now: float) -> None:
    stream.messages += 1
    match message:
        case rda.Start():
            stream.start, stream.stopped = message, False
            stream.times, stream.lengths, stream.counters = [], [], []
        case rda.Stop():
            stream.stopped = True
        case rda.Info():
            stream.info = message
        case rda.Note():
            stream.notes.append(message.text)
        case rda.Data():
            stream.kind = str(message.samples.dtype)
            stream.times.append(now)
            stream.lengths.append(len(message.samples))
            stream.counters.append(message.counter)


def judge(stream: Stream, patience: float) -> list[Finding]:
    """Say what is to be said of a stream."""
    if stream.broken:
        return [
            Finding(
                WRONG, "stream", f"what answers is not RDA: {stream.broken}",
                "see that the port is the Recorder's RDA port; if it is, send the developers the bytes",
            )
        ]  # fmt: skip
    if not stream.messages:
        what = f"{stream.bytes} bytes that are no RDA message" if stream.bytes else "nothing"
        how = f"sends {what} " + ("and closes it" if stream.closed else f"for {patience:g} s")
        return [
            Finding(
                WRONG, "stream", f"it takes the connection and {how}",
                "see that the port is the Recorder's; end other RDA clients; start monitoring",
            )
        ]  # fmt: skip
    findings = [Finding(WARNING, "stream", f"an oddity: {text}", "see docs/explanation/rda.md") for text in
                dict.fromkeys(stream.notes)]  # fmt: skip
    start = stream.start
    if start is None or stream.stopped or not stream.times:
        state = "the acquisition has ended" if stream.stopped else f"no data came within {patience:g} s"
        return [
            Finding(WARNING, "stream", f"RDA is on, but {state}", "start monitoring in the Recorder"),
            *findings,
        ]
    rate = 1e6 / start.interval_us
    text = f"{start.n_channels} channels at {rate:g} Hz, {stream.kind}"
    findings.append(Finding(OK, "stream", text))
    if stream.closed:
        todo = "see whether the Recorder ended, or allows only some RDA clients"
        findings.append(Finding(WARNING, "stream", "it closed the connection while acquiring", todo))
    return [*findings, *_blocks(stream, rate)]


def _blocks(stream: Stream, rate: float) -> list[Finding]:
    if len(stream.times) < _LEAST_BLOCKS:
        return [
            Finding(
                WARNING, "blocks", f"only {len(stream.times)} came: nothing can be said of their pace",
                "look for longer (--seconds), and see that the Recorder acquires",
            )
        ]  # fmt: skip
    times, lengths = np.array(stream.times), np.array(stream.lengths[1:]) / rate
    pauses = np.diff(times)
    jitter = np.abs(pauses - lengths) * 1e3
    usual = float(np.median(lengths))
    text = (
        f"{len(times)} in {times[-1] - times[0]:.1f} s, {usual * 1e3:.3g} ms each; jitter median "
        f"{np.median(jitter):.2g} ms, 95 % {np.percentile(jitter, 95):.2g} ms, longest pause "
        f"{pauses.max() * 1e3:.0f} ms"
    )
    findings = []
    if pauses.max() > max(_PAUSE, _PAUSE_BLOCKS * usual):
        todo = "use cable instead of WLAN, and see what else the Recorder's PC is doing"
        findings.append(Finding(WARNING, "blocks", text, todo))
    else:
        findings.append(Finding(OK, "blocks", text))
    missing = _missing(stream.counters)
    if missing:
        findings.append(
            Finding(
                WARNING, "losses", f"the Recorder's counter jumped {missing} times: it dropped blocks",
                "see network and load of the Recorder's PC, and how many other RDA clients it has",
            )
        )  # fmt: skip
    measured = lengths.sum() * rate / (times[-1] - times[0]) if times[-1] > times[0] else rate
    off = abs(measured - rate) * (times[-1] - times[0]) / rate
    if abs(measured - rate) > _RATE_OFF * rate and off > _PAUSE_BLOCKS * usual:
        findings.append(
            Finding(
                WARNING, "rate", f"{measured:.1f} Hz measured, {rate:g} Hz stated",
                "look for longer (--seconds); if it stays, the Recorder or the network is too slow",
            )
        )  # fmt: skip
    return findings


def _missing(counters: list[int]) -> int:
    """Steps that are not 1, from the third block on: the first is unreliable in the field."""
    steps = [(b - a) % _COUNTER for a, b in itertools.pairwise(counters[1:])]
    return sum(1 for step in steps if step != 1 and not (step % 2**24 == 1 and step >= _COUNTER // 2))
