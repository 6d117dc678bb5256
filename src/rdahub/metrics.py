"""The metrics of a hub for Prometheus: which there are, and which number of ``stats`` each is.

Rule: a metric is a number of ``stats`` under another name, never one of this module's own; its name, type
and meaning stand once, in `METRICS`, and docs/reference/metrics.md lists them.
Not here: what is counted (`measures`, `broker`), how metrics are asked for (`metrics_server`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

__all__ = ["METRICS", "HubCollector", "Stats", "families"]

STATES: Final = ("streaming", "stalled", "idle", "disconnected")

_FRESH: Final = 1.0  # s that an answer of the hub's serves all who ask

Stats = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Metric:
    """One metric: `take` finds its value in ``stats``; a dictionary has one for each value of `label`."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    text: str
    take: Callable[[Stats], Any]
    label: str = ""


def _counter(name: str, text: str, key: str = "") -> _Metric:
    return _Metric("counter", name, text, lambda stats: stats["counters"][key or name])


def _held_seconds(stats: Stats) -> float | None:
    segment = stats["segment"]
    return None if segment is None else (stats["next_index"] - stats["first_available"]) / segment["sfreq"]


def _of_segment(key: str) -> Callable[[Stats], Any]:
    return lambda stats: None if stats["segment"] is None else stats["segment"][key]


METRICS: Final = (
    _counter("blocks", "Blocks taken from the Recorder"),
    _counter("samples", "Samples (rows of all channels) taken from the Recorder"),
    _counter("markers", "Markers taken from the Recorder"),
    _counter("segments", "Segments begun"),
    _counter("repeated_blocks", "Blocks dropped because they came twice"),
    _counter("stream_notes", "Oddities in the Recorder's stream", "notes"),
    _counter("protocol_errors", "Times the Recorder's stream was not RDA and was dropped"),
    _counter("reconnects", "Connections to the Recorder that were lost"),
    _counter("requests", "Questions of clients"),
    _counter("refused_requests", "Questions not understood, or told BUSY", "refused"),
    _counter("undelivered_answers", "Answers whose client had gone or did not read", "undelivered"),
    _counter("refused_peers", "Handshakes turned away, by a wrong key for example"),
    _counter("cut_peers", "Connections cut because they asked or subscribed without end"),
    _Metric(
        "counter", "gaps", "Gaps, by what caused them",
        lambda stats: {"counter": 0, **stats["losses"]["gaps"]}, "reason",
    ),
    _Metric(
        "counter", "missing_samples", "Samples in gaps, by what caused them",
        lambda stats: {"counter": 0, **stats["losses"]["missing_samples"]}, "reason",
    ),
    _Metric(
        "counter", "segment_ends", "Segments ended: stop, restart, lost (Recorder), counter (hole)",
        lambda stats: {**dict.fromkeys(("stop", "restart", "lost", "counter"), 0),
                       **stats["losses"]["segment_ends"]}, "reason",
    ),
    _Metric(
        "counter", "published_frames", "Messages handed to the publish socket, each counted once",
        lambda stats: stats["published"]["frames"],
    ),
    _Metric(
        "counter", "published_bytes", "Their bytes; what leaves is as much for each subscriber",
        lambda stats: stats["published"]["bytes"],
    ),
    _Metric(
        "counter", "range_pages", "Pages of history served: repairs, and readers of the past",
        lambda stats: stats["ranges"]["pages"],
    ),
    _Metric(
        "counter", "range_bytes", "Bytes of samples in them",
        lambda stats: stats["ranges"]["bytes"],
    ),
    _Metric(
        "histogram", "range_age_seconds", "How far behind the newest sample the pages began",
        lambda stats: stats["ranges"]["age"],
    ),
    _Metric(
        "histogram", "publish_delay_seconds", "From a block's receipt to its handing to ZeroMQ",
        lambda stats: stats["timings"]["publish_delay"],
    ),
    _Metric(
        "histogram", "recorder_jitter_seconds", "Time between blocks, beside their length",
        lambda stats: stats["timings"]["recorder_jitter"],
    ),
    _Metric(
        "gauge", "state", "1 for the state the Recorder is in, 0 for the others",
        lambda stats: {state: int(state == stats["state"]) for state in STATES}, "state",
    ),
    _Metric("gauge", "clients", "Readers of blocks, by the way they come",
            lambda stats: {"network": stats["subscribers"], "local": stats["local_readers"]}, "way"),
    _Metric(
        "gauge", "reader_behind_samples", "How far behind a reader was when it last looked for samples",
        lambda stats: {
            each["name"]: each["behind"] for each in stats["readers"] if each["behind"] is not None
        },
        "reader",
    ),
    _Metric("gauge", "history_seconds", "What the history has room for",
            lambda stats: stats["history_seconds"]),
    _Metric("gauge", "held_seconds", "What it holds now", _held_seconds),
    _Metric("gauge", "next_index", "Index after the newest sample",
            lambda stats: stats["next_index"]),
    _Metric("gauge", "first_available", "Index of the oldest sample held",
            lambda stats: stats["first_available"]),
    _Metric("gauge", "channels", "Channels of the newest segment", _of_segment("n_channels")),
    _Metric("gauge", "sampling_rate_hertz", "Rate of the newest segment", _of_segment("sfreq")),
    _Metric("gauge", "block_age_seconds", "Since the newest block",
            lambda stats: stats["ages"]["block"]),
    _Metric("gauge", "uptime_seconds", "Since the hub's start", lambda stats: stats["ages"]["hub"]),
    _Metric("gauge", "info", "Always 1; who the hub is",
            lambda stats: {(stats["name"], stats["instance"], stats["version"]): 1}, "name id version"),
)  # fmt: skip
"""Every metric but ``rdahub_up``. Outside ``rdahub_`` stands before each, ``_total`` after a counter's."""


def families(stats: Stats | None) -> Iterator[Metric]:
    """Metrics of one answer to ``stats``; of a hub that does not answer, only that."""
    yield GaugeMetricFamily("rdahub_up", "Whether the hub answers", int(stats is not None))
    if stats is None:
        return
    for metric in METRICS:
        value = metric.take(stats)
        if value is None:  # not known yet
            continue
        name, labels = f"rdahub_{metric.name}", metric.label.split()
        if metric.kind == "histogram":
            yield HistogramMetricFamily(name, metric.text, buckets=_cumulative(value), sum_value=value["sum"])
            continue
        make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
        family = make(name, metric.text, labels=labels)
        for label, each in value.items() if labels else [((), value)]:
            family.add_metric([label] if isinstance(label, str) else label, each)
        yield family


def _cumulative(histogram: dict[str, Any]) -> list[tuple[str, int]]:
    bounds = [*map(str, histogram["bounds"]), "+Inf"]
    total = 0
    steps = []
    for bound, count in zip(bounds, histogram["counts"], strict=True):
        total += count
        steps.append((bound, total))
    return steps


class HubCollector(Collector):
    """Asks the hub when somebody asks for metrics, and no oftener than `_FRESH`.

    Parameters
    ----------
    ask : callable
        Gives the hub's statistics, or None if it does not answer.
    """

    def __init__(self, ask: Callable[[], Stats | None]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._stats: Stats | None = None
        self._asked: float | None = None

    def collect(self) -> Iterator[Metric]:
        """Metrics now, or of up to `_FRESH` ago."""
        with self._lock:
            if self._asked is None or time.monotonic() >= self._asked + _FRESH:
                self._stats = self._ask()
                self._asked = time.monotonic()
            stats = self._stats
        yield from families(stats)

    def describe(self) -> list[Metric]:
        """Nothing: registering must not ask the hub."""
        return []
