"""``rdahub bench``: how fast a hub is on these machines, and where the time goes.

Rule: what was measured is told, whatever ended it; counts must be exact, times are told and not judged.
Without HUB a simulator and a hub are started here as processes of their own (see `children`).
Not here: measuring (`rdahub.measuring`), what times mean (`rdahub.timing`), peers of rdahub (``benchmarks``).
"""

from __future__ import annotations

import json
import os
import sys
import textwrap
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from rdahub.commands.children import READY, Child, children
from rdahub.config import BenchSettings
from rdahub.measuring import Hub, LocalReader, SpanRead, follow, read_history, time_first_blocks
from rdahub.timing import Clock, Ping, Tally, lateness, spread
from rdahub_client import LocalClient, RdaHubError, Segment
from rdahub_client.wire import Info

_HISTORY: Final = "90s"  # of the hub started here: more than the longest span read
_ABOUT_EQUAL: Final = 1.5  # a ratio below which neither dominates
_WIDTH: Final = 100  # characters of a line of words


def run(settings: BenchSettings) -> int:
    """Measure and tell. 0: done, or interrupted; 1: no block came, or the hub was lost meanwhile."""
    found = _Found(simulated=settings.hub is None)
    with children() as started:
        try:
            _measure(_hub(settings, started), settings, found)
        except KeyboardInterrupt:
            found.interrupted = True
        except RdaHubError as error:
            if found.segment is None:
                raise
            found.error = str(error)
    if found.segment is None:
        return 0  # interrupted before anything was found
    report = found.report()
    print(json.dumps(report, allow_nan=False) if settings.json else describe(report), flush=True)
    if found.error:
        print(f"rdahub bench: {found.error}", file=sys.stderr)
    return 1 if found.error else 0


def _hub(settings: BenchSettings, started: list[Child]) -> Hub:
    """The hub that was named, or one of our own."""
    if settings.hub is not None:
        return Hub(settings.hub, settings.timeout, settings.curve_key, settings.server_key)
    simulator = Child("sim", port=0, channels=settings.channels, rate=settings.rate, block=settings.block)
    started.append(simulator)
    free = "tcp://127.0.0.1:0"
    hub = Child(
        "serve", recorder=simulator.ready()["rda"], query=free, publish=free, name=f"bench-{os.getpid()}",
        history=_HISTORY, shm_dir=settings.shm_dir,
    )  # fmt: skip
    started.append(hub)
    return Hub(hub.ready()["query"], max(settings.timeout, READY))


# --- measuring -------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Found:
    """All that is known so far."""

    simulated: bool
    info: Info | None = None
    segment: Segment | None = None
    address: str = ""
    first_ns: list[int] = field(default_factory=list)
    pings: list[list[Ping]] = field(default_factory=list)
    live: Tally = field(default_factory=Tally)
    local: Tally = field(default_factory=Tally)
    """Of a client beside `LocalClient`."""
    local_ns: list[int] = field(default_factory=list)
    no_local: str = ""
    """Why `LocalClient` is not measured."""
    from_hub: list[SpanRead] = field(default_factory=list)
    from_ring: list[SpanRead] = field(default_factory=list)
    interrupted: bool = False
    error: str = ""

    def report(self) -> dict[str, Any]:
        """As one object for JSON; what was not found is null."""
        assert self.info is not None  # noqa: S101 - it comes before the segment
        assert self.segment is not None  # noqa: S101
        clock = Clock(*self.pings) if self.pings else None
        arrivals = self.live.arrivals
        sizes = [arrival.stop - arrival.start for arrival in arrivals]
        beat = lateness(arrivals)
        both = (self.live, self.local)
        jitter = None if beat is None else {**(spread(beat.late_ns) or {}), "rate": beat.rate}
        return {
            "hub": {
                "address": self.address,
                "name": self.info.name,
                "instance": self.info.instance,
                "version": self.info.version,
                "recorder": self.info.recorder,
                "simulated": self.simulated,
            },
            "segment": {"n_channels": self.segment.n_channels, "sfreq": self.segment.sfreq},
            "block": int(np.median(sizes)) if sizes else None,
            "blocks": len(self.live),
            "clock": clock and {"shared": clock.is_shared, "uncertainty_ms": clock.uncertainty_ns / 1e6},
            "recorder_jitter": jitter,
            "client": clock and _delays(self.live, clock),
            "local": spread(self.local_ns),
            "local_blocks": len(self.local_ns),
            "no_local": self.no_local or None,
            "query": spread([ping.round_trip_ns for group in self.pings for ping in group]),
            "first_block": spread(self.first_ns),
            "history": [_speed("hub", read) for read in self.from_hub]
            + [_speed("ring", read) for read in self.from_ring],
            "samples": {
                name: sum(getattr(tally, name) for tally in both)
                for name in ("samples", "repaired", "lost", "missing")
            },
            "restarts": sum(tally.restarts for tally in both),
            "machine": {"cores": os.cpu_count(), "load": _load()},
            "interrupted": self.interrupted,
            "error": self.error or None,
        }


def _load() -> float | None:
    """Processes that wanted a core in the last minute; Windows does not count them."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _delays(tally: Tally, clock: Clock) -> dict[str, float] | None:
    received = clock.here(np.array(tally.received_ns, np.int64))
    return spread(np.array(tally.returned_ns, np.int64) - received)


def _speed(through: str, read: SpanRead) -> dict[str, Any]:
    took = spread(read.took_ns)
    assert took is not None  # noqa: S101 - a span is read once at least
    speed = read.n_bytes / 1e3 / took["p50_ms"]
    return {
        "through": through, "seconds": read.seconds, "samples": read.samples, "bytes": read.n_bytes,
        "times": len(read.took_ns), "p50_ms": took["p50_ms"], "mb_per_s": speed,
    }  # fmt: skip


def _measure(hub: Hub, settings: BenchSettings, found: _Found) -> None:
    with hub.client() as client:
        found.address, found.info, found.segment = client.address, client.info(hub.timeout), client.start_msg
    _say(f"connecting to {found.address}")
    time_first_blocks(hub, found.first_ns)
    found.pings.append(hub.pings())
    with hub.client(found.live) as client:
        _say(f"live blocks to Client, {settings.seconds:g} s")
        follow(client, found.live, settings.seconds)
    found.pings.append(hub.pings())
    local = _measure_local(hub, settings, found)
    _say("history")
    with hub.client(window=1) as client:
        read_history(client, found.from_hub)
    if local:
        with LocalClient(found.info.name, settings.shm_dir) as reader:
            reader.start_streaming(hub.timeout)
            read_history(reader, found.from_ring)
    if not found.live:
        raise RdaHubError(
            f"no block came in {settings.seconds:g} s; `rdahub status` tells what the Recorder does",
            hub=found.address,
        )


def _measure_local(hub: Hub, settings: BenchSettings, found: _Found) -> bool:
    """Live blocks to `LocalClient`, if it can be had."""
    assert found.info is not None  # noqa: S101 - it was asked first
    if not settings.local:
        found.no_local = "not asked for"
    elif not Clock(*found.pings).is_shared:
        found.no_local = "the hub is on another machine: its clock is not the one here"
    if found.no_local:
        return False
    try:
        local = LocalReader(found.info.name, settings.shm_dir)
    except RdaHubError as error:
        found.no_local = str(error)
        return False
    with local, hub.client(found.local) as client:
        if local.instance != client.instance:
            found.no_local = f"the hub named {found.info.name!r} on this machine is another one"
            return False
        _say(f"live blocks to LocalClient, {settings.seconds:g} s")
        follow(client, found.local, settings.seconds)
        found.local_ns = local.delays(found.local.arrivals)
    return True


def _say(what: str) -> None:
    """Progress, for people who wait."""
    if sys.stderr.isatty():
        print(f"{what} ...", file=sys.stderr, flush=True)


# --- telling ---------------------------------------------------------------------------------------------


def describe(report: dict[str, Any]) -> str:
    """A report as lines for people."""
    hub, segment, block = report["hub"], report["segment"], report["block"]
    sfreq = segment["sfreq"]
    recorder = "a simulator" if hub["simulated"] else hub["recorder"]
    blocks = f", blocks of {block} samples ({_ms(1e3 * block / sfreq)})" if block else ""
    lines = [
        f"hub {hub['name']} at {hub['address']}, Recorder {recorder}",
        f"{segment['n_channels']} channels, {sfreq:g} Hz{blocks}; {report['blocks']} blocks timed",
        "",
        f"{'':<44}{'p50':>11}{'p99':>11}",
    ]
    jitter, clock = report["recorder_jitter"], report["clock"]
    unsure = "" if not clock or clock["shared"] else f"  +- {_ms(clock['uncertainty_ms'])}"
    lines += [
        _row("Recorder's jitter: block at the hub, late by", jitter)
        + (f"  worst {_ms(jitter['worst_ms'])}" if jitter else ""),
        _row("hub and network: from there to Client", report["client"]) + unsure,
        _row("hub: from there to LocalClient", report["local"])
        + (f"  {report['no_local']}" if report["no_local"] else ""),
        _row("question and answer", report["query"]),
        _row("from connecting to the first block", report["first_block"]),
    ]
    if jitter:
        deviation = 100 * (jitter["rate"] / sfreq - 1)
        lines += ["", f"rate       {jitter['rate']:.7g} Hz found, {sfreq:g} Hz nominal ({deviation:+.3f} %)"]
    lines += [
        f"history    newest {read['seconds']:.3g} s {_THROUGH[read['through']]}: {_ms(read['p50_ms'])}, "
        f"{read['mb_per_s']:.{0 if read['mb_per_s'] >= 100 else 1}f} MB/s"
        for read in report["history"]
    ]
    count = report["samples"]
    lines.append(
        f"samples    {count['samples']} returned live; lost on the way and fetched again {count['repaired']}"
        f", lost for good {count['lost']}; gaps of the Recorder's {count['missing']}"
    )
    if report["restarts"]:
        lines.append(f"the hub restarted {report['restarts']} times meanwhile")
    lines += ["", *textwrap.wrap(conclusion(report), _WIDTH)]
    cores, load = report["machine"]["cores"], report["machine"]["load"]
    if load and cores and load > cores:
        lines.append(f"This machine was busy (load {load:.1f} on {cores} cores), and so are these times.")
    if report["interrupted"]:
        lines.append("Interrupted: this is what there was until then.")
    return "\n".join(lines)


_THROUGH: Final = {"hub": "through the hub", "ring": "from the ring"}


def conclusion(report: dict[str, Any]) -> str:
    """Where the time goes, in words."""
    jitter, client, block = report["recorder_jitter"], report["client"], report["block"]
    if not jitter or not client:
        return "Where the time goes cannot be said: too few blocks came."
    length = _ms(1e3 * block / report["segment"]["sfreq"])
    begin = (
        f"A block's first sample is {length} old before the Recorder sends it. What comes on top, at p99: "
    )
    if client["p99_ms"] < report["clock"]["uncertainty_ms"]:
        return f"{begin}the hub's and network's share is too small to be told from here."
    ratio = jitter["p99_ms"] / max(client["p99_ms"], 1e-6)
    if 1 / _ABOUT_EQUAL < ratio < _ABOUT_EQUAL:
        return f"{begin}the Recorder's jitter and the hub's and network's share are about equal."
    if ratio > 1:
        return f"{begin}most is the Recorder's jitter, {ratio:.3g} times the hub's and network's share."
    times = 1 / max(ratio, 1e-6)
    return f"{begin}most is the hub's and network's share, {times:.3g} times the Recorder's jitter."


def _row(name: str, times: dict[str, float] | None) -> str:
    cells = (_ms(times["p50_ms"]), _ms(times["p99_ms"])) if times else ("-", "-")
    return f"{name:<44}{cells[0]:>11}{cells[1]:>11}"


def _ms(value: float) -> str:
    return f"{value:.3f} ms" if abs(value) < 10 else f"{value:.1f} ms"
