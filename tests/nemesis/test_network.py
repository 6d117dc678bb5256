"""Recorder, hub and client in networks of their own, and what the wires between them do to the recording.

Rule: real namespaces, real TCP, the hub on an address that is not loopback; every sample a reader is given is
held against what the Recorder sent. Asserted limits are the promised ones (noticed within 3.5 s, back within
3 s, a call keeps its time-out); all else waits as long as it takes.
Not here: what a proxy can do to the bytes of a connection (`test_upstream_faults`, `test_downstream_faults`).
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from netns import Link, Namespace, Network, RoughLink, Weather, needs_namespaces
from proxy import poll
from test_downstream_faults import BACK, NOTICED, TOLERANCE, seconds, unreachable
from test_stream_checklist import WINDOW, Told, sending, stats

from processes import PATIENCE, Child, Hub, hub
from rdahub_client import Block, Client, Gap, HubUnreachable, LocalClient, SegmentEnd, StreamTimeout
from scripted import ScriptedRecorder, values

pytestmark = needs_namespaces

REAL_TIME = 0.02  # s between blocks of 20 rows at 1000 Hz
CHANNELS = 8
STALLED_AFTER = 2.0  # s of silence, as documented
GIVEN_UP = 5.0, 16.0  # s: keep-alive after 5 s, user time-out 10 s, and TCP's own timers

SHORT = 0.3  # s, a time-out
EARLY = 0.005  # s that it may end before: libzmq's clock ticks in milliseconds

Keys = dict[str, Path]


def chance() -> int:
    """A seed."""
    seed = int(os.environ.get("NEMESIS_SEED") or random.SystemRandom().randrange(2**32))
    print(f"NEMESIS_SEED={seed} repeats this weather")
    return seed


class FarRecorder(ScriptedRecorder):
    """A Recorder on another machine."""

    def __init__(self, side: Namespace, host: str) -> None:
        with side.entered():
            super().__init__()
            self.server.close()
            self.server = socket.create_server((host, 0))
        self.server.settimeout(PATIENCE)
        self.address = f"{host}:{self.server.getsockname()[1]}"


@dataclass
class Scene:
    """Three machines: Recorder -- upstream -- hub -- downstream -- client."""

    upstream: RoughLink
    downstream: Link
    recorder: FarRecorder
    server: Hub
    keys: Keys = field(default_factory=dict)

    @contextlib.contextmanager
    def reader(self, buffer_size: int = WINDOW) -> Iterator[Client]:
        """A client on its own machine."""
        with Client(buffer_size, curve_key=self.keys.get("own"), server_key=self.keys.get("hub")) as client:
            with self.downstream.ends[1].entered():
                client.connect(self.server.query, timeout=PATIENCE)
            client.start_streaming(timeout=PATIENCE)
            yield client

    @contextlib.contextmanager
    def witness(self) -> Iterator[LocalClient]:
        """A reader on the hub's machine, whom no network can keep from seeing."""
        with LocalClient(self.server.name) as client:
            with self.downstream.ends[0].entered():
                client.start_streaming(timeout=PATIENCE)
            yield client

    def stats(self) -> dict[str, Any]:
        with self.downstream.ends[0].entered():
            return stats(self.server)


@contextlib.contextmanager
def scene(
    *arguments: str,
    plain: bool = False,
    keys: Keys | None = None,
    cut_off: str = "",
) -> Iterator[Scene]:
    """All of it.

    Parameters
    ----------
    plain : bool
        A cable between hub and client, not a rough link.
    keys : dict
        What a client is made with; the hub's own arguments say the rest.
    cut_off : {"", "silence", "plug"}
        How the Recorder's machine is out of reach from the beginning.
    """
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(Network(chance()))
        far, middle, near = (network.namespace() for _ in range(3))
        upstream = network.rough(far, middle)
        downstream = network.cable(middle, near) if plain else network.rough(middle, near)
        recorder = FarRecorder(far, upstream.left)
        stack.callback(recorder.close)
        if cut_off == "silence":
            upstream.set(partitioned=True)
        elif cut_off == "plug":
            upstream.down()
        endpoint = f"tcp://{downstream.left}:0"
        safety = () if keys else ("--insecure",)
        with middle.entered():
            server = stack.enter_context(
                hub(recorder.address, *arguments, *safety, query=endpoint, publish=endpoint)
            )
        yield Scene(upstream, downstream, recorder, server, keys or {})


def rough(link: Link) -> RoughLink:
    assert isinstance(link, RoughLink)
    return link


@contextlib.contextmanager
def certified(folder: Path) -> Iterator[Scene]:
    """The same with keys: the hub lets in one client."""
    for name in ("hub", "clients/reader"):
        child = Child("keygen", str((folder / name).parent), "--name", Path(name).name)
        assert child.finish() == 0, child.stderr
        child.close()
    keys = {"own": folder / "clients/reader.key_secret", "hub": folder / "hub.key"}
    flags = ("--curve-key", str(folder / "hub.key_secret"), "--curve-clients", str(folder / "clients"))
    with scene(*flags, keys=keys) as made:
        yield made


# --- hub and client apart ---


def noticed(client: Client, since: float) -> float:
    """Seconds from the last sign of life to knowing that there is none."""
    last, index = since, client.last_sample
    while not unreachable(client):
        if client.last_sample > index:
            last, index = time.monotonic(), client.last_sample
        assert time.monotonic() - since < PATIENCE, "never noticed"
        time.sleep(0.01)
    return time.monotonic() - last


def keeps_its_time_outs(client: Client, index: int) -> None:
    """What waits for samples from `index` on, which cannot come, says so in time."""
    events = client.stream(timeout=SHORT)

    def event() -> None:
        with pytest.raises(StreamTimeout):
            list(events)

    for call in (lambda: client.wait(index, index + 1, SHORT), lambda: client.poll(1, SHORT), event):
        assert SHORT - EARLY <= seconds(call) < SHORT + TOLERANCE


def test_a_poll_that_ends_a_little_early_is_not_a_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with scene() as there:
        there.recorder.start(CHANNELS)
        there.recorder.blocks(10)
        with there.reader() as client:
            poll(lambda: client.last_sample == 200, "all is here")
            assert client._waiting is not None
            real = client._waiting.changes
            early = lambda seconds: real(seconds - 0.003)  # noqa: E731 - a clock three times as coarse
            monkeypatch.setattr(client._waiting, "changes", early)
            rough(there.downstream).set(partitioned=True)
            assert seconds(lambda: client.wait(200, 201, timeout=4)) > 3.9


@pytest.mark.parametrize(
    ("partition", "held"),
    [("plug", 0.0), ("silence", 5.0), ("keys", 0.0), ("deaf", 0.0), ("mute", 0.0)],
)
def test_a_partition_is_noticed_and_everything_in_it_made_up_for_in_time(
    tmp_path: Path, partition: str, held: float
) -> None:
    with contextlib.ExitStack() as stack:
        there = stack.enter_context(
            certified(tmp_path) if partition == "keys" else scene(plain=partition == "plug")
        )
        recorder, link = there.recorder, there.downstream
        recorder.start(CHANNELS)
        recorder.blocks(10)
        client, local = stack.enter_context(there.reader()), stack.enter_context(there.witness())
        told = Told(client, "oldest")
        told.until(200)
        instance = client.instance
        with sending(recorder, REAL_TIME):
            since = time.monotonic()
            match partition:
                case "plug":
                    link.down()
                case "deaf":  # the hub hears the client, and is not heard
                    rough(link).there.partitioned = True
                case "mute":  # the client hears the hub, until TCP wants to hear that it did
                    rough(link).back.partitioned = True
                case _:
                    rough(link).set(partitioned=True)
            took = noticed(client, since)
            print(f"noticed after {took:.2f} s")
            assert took < NOTICED
            at = client.last_sample
            keeps_its_time_outs(client, at)
            while time.monotonic() - since < held:
                assert client.wait(at, at + 1, timeout=0.1) is None, "a sample through a partition"
            assert unreachable(client)
            missed = recorder.index
            poll(lambda: local.last_sample >= missed, "the hub has what the client misses")
            healed = time.monotonic()
            if partition == "plug":
                link.up()
            else:
                rough(link).set(partitioned=False)
            while told.index is None or told.index < missed:
                told.next()
            print(f"back after {time.monotonic() - healed:.2f} s with {missed - at} samples made up for")
            assert time.monotonic() - healed < BACK
        told.until(recorder.index)
        assert missed - at > 1000, "too little was missed to show anything"
        assert client.state == "streaming"
        assert client.instance == instance
        assert told.gaps == []
        assert [event for event in told.log if isinstance(event, SegmentEnd)] == []


def test_a_partition_longer_than_the_history_leaves_one_gap_and_no_more_than_was_overwritten() -> None:
    with scene("--history", "1s") as there:
        recorder = there.recorder
        recorder.start(CHANNELS)
        recorder.blocks(10)
        with there.reader() as client, there.witness() as local:
            told = Told(client, "oldest")
            told.until(200)
            rough(there.downstream).set(partitioned=True)
            recorder.blocks(250)
            poll(lambda: local.last_sample == 5200, "the hub has all")
            # The hub gives up too: until then all may still be on its way to the client.
            poll(lambda: there.stats()["clients"] == 1, "the hub has dropped the client")
            first = int(there.stats()["first_available"])
            assert 3000 < first < 5200, "the history holds more than it should, or nothing"
            rough(there.downstream).set(partitioned=False)
            told.until(5200)
            assert told.gaps == [Gap(200, first, "overwritten")]
            recorder.blocks(5)
            told.until(5300)
            assert len(told.gaps) == 1
            assert client.get_data(first - 1, first + 1) is None
            np.testing.assert_array_equal(client.read(first + 200, 5300), values(first + 200, 5300, CHANNELS))


def test_a_plug_that_wobbles_costs_nothing() -> None:
    rng = random.Random(chance())
    with scene(plain=True) as there:
        recorder = there.recorder
        recorder.start(CHANNELS)
        recorder.blocks(10)
        with there.reader() as client:
            told = Told(client, "oldest")
            told.until(200)
            with sending(recorder, REAL_TIME):
                for _ in range(5):
                    there.downstream.down()
                    time.sleep(rng.uniform(0.05, 0.6))  # the fault
                    there.downstream.up()
                    while told.index is None or told.index < recorder.index - 100:
                        told.next()
            told.until(recorder.index)
            assert told.gaps == []


# --- bad weather ---

WEATHER: dict[str, dict[str, float]] = {
    "loss of 5 %": {"loss": 0.05},
    "loss of 20 %": {"loss": 0.2},
    "duplicates": {"duplicate": 0.3},
    "another order": {"reorder": 0.2},
    "50 ms and jitter": {"latency": 0.05, "jitter": 0.03},
    "all of it": {"loss": 0.1, "duplicate": 0.1, "reorder": 0.1, "latency": 0.02, "jitter": 0.02},
}


def _struck(way: Weather, weather: dict[str, float]) -> bool:
    """Whether all that the weather is made of has befallen enough datagrams."""
    return (
        way.passed > 50
        and (way.lost > 0 or "loss" not in weather)
        and (way.duplicated > 0 or "duplicate" not in weather)
        and (way.held_back > 0 or "reorder" not in weather)
    )


@pytest.mark.parametrize("weather", list(WEATHER))
def test_in_bad_weather_the_recording_is_the_same(weather: str) -> None:
    with scene() as there:
        recorder, links = there.recorder, (there.upstream, rough(there.downstream))
        recorder.start(CHANNELS)
        recorder.blocks(10)
        with there.reader() as client:
            told = Told(client, "oldest")
            told.until(200)
            for link in links:
                link.set(**WEATHER[weather])
            with sending(recorder, REAL_TIME / 4):
                began = time.monotonic()
                while (elapsed := time.monotonic() - began) < 1.5 or not all(
                    _struck(way, WEATHER[weather]) for link in links for way in (link.there, link.back)
                ):
                    assert elapsed < PATIENCE, f"the weather did not come: {links}"
                    told.next()
            told.until(recorder.index)
            assert told.gaps == []
            with there.reader() as second:
                joined = Told(second, "oldest")
                joined.until(recorder.index)
                assert joined.gaps == []
        print(f"{recorder.index} samples; {links}")
        told_of = there.stats()
        assert told_of["counters"]["protocol_errors"] == told_of["counters"]["reconnects"] == 0


def test_a_client_far_away_is_served_and_its_time_outs_hold() -> None:
    with scene() as there:
        recorder, link = there.recorder, rough(there.downstream)
        recorder.start(CHANNELS)
        recorder.blocks(100)
        link.set(latency=0.1)  # there, and as much back
        with Client(buffer_size=WINDOW) as hurried, link.ends[1].entered():

            def connect() -> None:
                with pytest.raises(HubUnreachable):
                    hurried.connect(there.server.query, timeout=SHORT)

            assert SHORT - EARLY <= seconds(connect) < SHORT + TOLERANCE
        with there.reader() as client, there.witness() as local:
            poll(lambda: client.last_sample == 2000, "it has come")
            keeps_its_time_outs(client, 2000)
            np.testing.assert_array_equal(_patiently(client, 0, 20), values(0, 20, CHANNELS))
            link.set(partitioned=True)
            recorder.blocks(100)
            poll(lambda: local.last_sample == 4000, "the hub has all")
            poll(lambda: unreachable(client), "noticed")
            link.set(partitioned=False)
            np.testing.assert_array_equal(_patiently(client, 3990, 4000), values(3990, 4000, CHANNELS))
            np.testing.assert_array_equal(_patiently(client, 2000, 2100), values(2000, 2100, CHANNELS))
            recorder.block()
            assert isinstance(client.wait(4000, 4020, timeout=PATIENCE), np.ndarray)
            np.testing.assert_array_equal(client.read(3980, 4020), values(3980, 4020, CHANNELS))


def test_a_client_far_away_with_keys_is_told_live(tmp_path: Path) -> None:
    with certified(tmp_path) as there:
        recorder, link = there.recorder, rough(there.downstream)
        recorder.start(CHANNELS)
        recorder.blocks(10)
        link.set(latency=0.2)
        with there.reader() as client, sending(recorder, REAL_TIME):
            poll(lambda: client.last_sample > 200, "it follows")
            until, quiet, index, last = time.monotonic() + 6, 0.0, 0, time.monotonic()
            while (now := time.monotonic()) < until:
                client.wait(client.last_sample, client.last_sample + 20, timeout=0.1)
                if client.last_sample > index:
                    index, quiet, last = client.last_sample, max(quiet, now - last), now
            print(f"at most {quiet:.1f} s without news, {recorder.index - index} samples behind")
            assert quiet < 1.5, "it lives on what it asks for when the silence has lasted too long"


def _patiently(client: Client, start: int, stop: int) -> Any:
    """By calls that wait far less than a round trip takes."""
    deadline = time.monotonic() + PATIENCE
    while (data := client.wait(start, stop, timeout=0.05)) is None:
        assert time.monotonic() < deadline, "the hole never heals"
    return data


# --- Recorder and hub apart ---


def test_a_recorder_behind_a_silent_network_is_stalled_then_lost_and_found_again() -> None:
    with scene() as there:
        recorder, link = there.recorder, there.upstream
        recorder.start(CHANNELS)
        recorder.blocks(10)
        with there.reader() as client:
            told = Told(client, "oldest")
            told.until(200)
            since = time.monotonic()
            link.set(partitioned=True)
            recorder.block()  # never arrives
            poll(lambda: client.state == "stalled", "stalled")
            stalled = time.monotonic() - since
            # The last block came a moment before `since`.
            assert STALLED_AFTER - 0.1 <= stalled < STALLED_AFTER + 1.5
            poll(lambda: client.state == "disconnected", "given up")
            lost = time.monotonic() - since
            print(f"stalled after {stalled:.1f} s, given up after {lost:.1f} s")
            assert GIVEN_UP[0] <= lost < GIVEN_UP[1]
            end = told.next()
            assert isinstance(end, SegmentEnd)
            assert (end.reason, end.segment.stop) == ("lost", 200)
            recorder.hang_up()  # this half of the connection is as dead
            link.set(partitioned=False)
            healed = time.monotonic()
            recorder.start(CHANNELS)
            print(f"connected again after {time.monotonic() - healed:.1f} s")
            told.recorded = 20
            recorder.blocks(10)
            told.until(400)
            assert [(block.start, block.stop) for block in told.log if isinstance(block, Block)][-1][1] == 400
            assert told.gaps == []
            assert there.stats()["counters"]["reconnects"] == 1


def test_a_short_silence_before_the_hub_brings_everything_late() -> None:
    with scene() as there:
        recorder, link = there.recorder, there.upstream
        recorder.start(CHANNELS)
        recorder.blocks(10)
        with there.reader() as client:
            told = Told(client, "oldest")
            told.until(200)
            link.set(partitioned=True)
            recorder.blocks(50)
            poll(lambda: client.state == "stalled", "stalled")
            link.set(partitioned=False)
            told.until(1200)
            assert told.gaps == []
            assert there.stats()["counters"]["reconnects"] == 0


@pytest.mark.parametrize(("how", "said"), [("plug", "unreachable|No route"), ("silence", "timed out")])
def test_a_recorder_that_is_out_of_reach_at_first_is_found_later(how: str, said: str) -> None:
    with scene(cut_off=how) as there:
        recorder = there.recorder
        poll(lambda: bool(there.stats()["recorder"]["error"]), "an attempt fails")
        told_of = there.stats()
        assert told_of["state"] == "disconnected"
        assert any(word in told_of["recorder"]["error"] for word in said.split("|")), told_of["recorder"]
        if how == "plug":
            there.upstream.up()
        else:
            there.upstream.set(partitioned=False)
        recorder.start(CHANNELS)
        recorder.blocks(10)
        with there.reader() as client:
            told = Told(client, "oldest")
            told.until(200)
            assert told.gaps == []
