"""What befalls between hub and clients: a hub killed or stopped, a network that holds, a client asleep.

Rule: the limits asserted are those the product promises (a dead hub is noticed within 3.5 s, service is back
within 3 s, a call keeps its time-out), measured on the monotonic clock; all else waits as long as it takes.
Not here: faults that need network namespaces, and the list of cases of `stream` (`test_stream_checklist`).
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from proxy import poll
from test_stream_checklist import (
    WINDOW,
    Told,
    acquiring,
    ask,
    has,
    joined,
    on_the_way,
    other_loopback,
    restart,
    sending,
)

from processes import PATIENCE, Child, Hub, leftovers
from rdahub_client import (
    Client,
    HubLost,
    HubRestarted,
    HubUnreachable,
    LocalClient,
    NotYetAvailable,
    StartTimeout,
    StreamTimeout,
)
from rdahub_client.wire import RangeRequest
from scripted import ScriptedRecorder, values

NOTICED = 3.5  # s, promised
BACK = 3.0  # s, promised
TOLERANCE = 0.5  # s on top of a time-out, for a loaded machine
REQUEST, PROBE = 5.0, 1.0  # s, as documented: an answer to a question for data; to whether it is there

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc of this process")

Reader = Client | LocalClient


@pytest.fixture
def recorder() -> Iterator[ScriptedRecorder]:
    scripted = ScriptedRecorder()
    yield scripted
    scripted.close()


@pytest.fixture
def first(recorder: ScriptedRecorder) -> Iterator[Hub]:
    """A hub that will not see the end of the test; it has 800 samples."""
    child = Hub(recorder.address)
    recorder.start()
    recorder.blocks(40)
    has(child, 800)
    yield child
    child.close()


@pytest.fixture
def readers(recorder: ScriptedRecorder, first: Hub) -> Iterator[list[Reader]]:
    """Two of each kind, who have samples 800 to 1000."""
    with ExitStack() as stack:
        local = [stack.enter_context(LocalClient(first.name)) for _ in range(2)]
        for each in local:
            each.start_streaming(timeout=PATIENCE)
        everyone: list[Reader] = [*(stack.enter_context(joined(first.query)) for _ in range(2)), *local]
        recorder.blocks(10)
        for reader in everyone:
            poll(partial(_has_all, reader, 1000), "all is here")
        yield everyone


def _has_all(reader: Reader, index: int) -> bool:
    return reader.last_sample == index


def at_once(*work: Callable[[], None]) -> None:
    """Each in a thread of its own, so that one that blocks does not hold up the others' measurement."""
    with ThreadPoolExecutor(len(work)) as pool:
        for future in [pool.submit(one) for one in work]:
            future.result()


def seconds(call: Callable[[], object]) -> float:
    before = time.monotonic()
    call()
    return time.monotonic() - before


def unreachable(reader: Reader) -> bool:
    return reader.state == "unreachable"


def keeps_its_time_outs(reader: Reader, index: int) -> None:
    """What waits for samples from `index` on, which nobody sends, says so in time."""
    events = reader.stream(timeout=0.3)

    def next_event() -> None:
        with pytest.raises(StreamTimeout):
            list(events)

    assert 0.3 <= seconds(lambda: reader.wait(index, index + 1, timeout=0.3)) < 0.3 + TOLERANCE
    assert 0.3 <= seconds(lambda: reader.poll(1, timeout=0.3)) < 0.3 + TOLERANCE
    assert 0.3 <= seconds(next_event) < 0.3 + TOLERANCE


# --- a hub that dies ---


def test_a_killed_hub_is_noticed_in_time_and_nothing_hangs(readers: list[Reader], first: Hub) -> None:
    killed = time.monotonic()

    def noticed(how: str) -> None:
        after = time.monotonic() - killed
        print(f"noticed by {how} after {after:.2f} s")
        assert after < NOTICED, how

    def look(reader: Reader) -> None:
        keeps_its_time_outs(reader, 1000)  # before it is noticed
        poll(lambda: unreachable(reader), "noticed")
        noticed("state")
        with pytest.raises(HubLost):
            reader.read(1000, 1020)
        keeps_its_time_outs(reader, 1000)  # and after
        np.testing.assert_array_equal(reader.read(900, 1000), values(900, 1000, 2))

    def only_read(reader: Reader) -> None:
        while True:
            try:
                reader.read(1000, 1020)
            except NotYetAvailable:
                assert time.monotonic() - killed < PATIENCE
            except HubLost:
                return noticed("read")

    first.close()
    network, network_too, local, local_too = readers
    looking = [partial(look, reader) for reader in (network, local)]
    at_once(*looking, *(partial(only_read, reader) for reader in (network_too, local_too)))


@pytest.mark.parametrize("gone", [0.0, 4.5])
def test_a_restarted_hub_serves_again_in_time_and_is_never_taken_for_the_old_one(
    recorder: ScriptedRecorder, readers: list[Reader], first: Hub, gone: float
) -> None:
    told = [Told(reader, "oldest") for reader in readers]
    for one in told:
        one.until(1000)
    old = readers[0].instance

    def says_restarted(reader: Reader) -> bool:
        kept = reader.get_data(990, 1000)
        assert kept is None or np.array_equal(kept, values(990, 1000, 2)), "new samples under an old index"
        try:
            reader.read(1000, 1020)
        except HubRestarted:
            return True
        except (HubLost, NotYetAvailable):
            return False
        raise AssertionError("new samples under an old index")

    first.close()
    stays_away_until = time.monotonic() + gone
    while time.monotonic() < stays_away_until:
        assert not any(says_restarted(reader) for reader in readers)
    with restart(first, recorder) as second:
        ready = time.monotonic()
        recorded = recorder.index
        recorder.start()
        recorder.blocks(60)

        def go_on(reader: Reader, told: Told) -> None:
            poll(lambda: says_restarted(reader), "the restart is said")
            assert reader.wait(1000, 1020, timeout=PATIENCE) is not None
            new = values(recorded + 1000, recorded + 1020, 2)
            np.testing.assert_array_equal(reader.read(1000, 1020), new)  # the restart is said once
            after = time.monotonic() - ready
            print(f"{type(reader).__name__} is back after {after:.2f} s")
            assert after < BACK
            told.after_restart = recorded
            assert told.until_restart().segment.stop == 1000
            told.until(1200)
            assert told.gaps == []
            assert reader.instance != old

        at_once(*(partial(go_on, *pair) for pair in zip(readers, told, strict=True)))
        refusal = ask(second, RangeRequest(instance=old, start=990, stop=1000)).refusal
        assert refusal is not None
        assert refusal.code == "WRONG_INSTANCE"
        recorder.block()
        for one in told:
            one.until(1220)
    assert leftovers(first.name) == []


# --- a network that holds ---


@other_loopback
@pytest.mark.parametrize("held", [0.0, 4.5])
def test_a_held_network_is_noticed_and_made_up_for_in_time(recorder: ScriptedRecorder, held: float) -> None:
    with on_the_way(recorder, 10) as way, joined(way.address) as client:
        told = Told(client, "oldest")
        told.until(200)
        way.query.hold()
        way.publish.hold()
        since = time.monotonic()
        recorder.blocks(100)
        poll(lambda: unreachable(client), "noticed")
        print(f"noticed after {time.monotonic() - since:.2f} s")
        assert time.monotonic() - since < NOTICED
        keeps_its_time_outs(client, 200)
        while time.monotonic() - since < held:  # no sign of life comes of asking
            assert client.last_sample == 200
            with pytest.raises(HubLost):
                client.read(200, 220)
        recorder.blocks(100)
        has(way.server, recorder.index)
        healed = time.monotonic()
        way.query.heal()
        way.publish.heal()
        told.until(recorder.index)
        print(f"back after {time.monotonic() - healed:.2f} s")
        assert time.monotonic() - healed < BACK
        assert client.state == "streaming"
        assert told.gaps == []


# --- a client that stands still ---

FOLLOWER = """
import sys
import numpy as np
from rdahub_client import Block, Client, Gap, LocalClient

kind, address, stop = sys.argv[1:]
with Client(buffer_size=512) if kind == "network" else LocalClient(address) as client:
    if kind == "network":
        client.connect(address)
    client.start_streaming(timeout=30)
    index = 0
    for event in client.stream(0, timeout=30):
        if isinstance(event, Gap | Block):
            assert event.start == index, (event.start, index)
            index = event.stop
        if isinstance(event, Gap):
            print("gap", event.start, event.stop, event.reason, flush=True)
        if isinstance(event, Block):
            rows = np.arange(event.start, event.stop)[:, None] + np.arange(2) / 8
            assert np.array_equal(event.samples, rows.astype(np.float32)), event.start
        if isinstance(event, Block) and event.start <= 180 < event.stop:
            print("following", flush=True)
        if index == int(stop):
            break
print("done", flush=True)
"""


def test_a_client_stopped_for_longer_than_heartbeats_last_is_exact_or_has_one_gap() -> None:
    with ExitStack() as stack:
        children, recorders = [], []
        for history, gaps in (("600s", 0), ("1s", 1)):
            recorder = ScriptedRecorder()
            recorders.append(recorder)
            stack.callback(recorder.close)
            server = stack.enter_context(acquiring(recorder, 10, history=history))
            for kind, address in (("network", server.query), ("local", server.name)):
                child = Child(kind, address, "20000", program=("-c", FOLLOWER))
                stack.callback(child.close)
                child.wait_for("following")
                children.append((child, gaps))
        for child, _ in children:
            child.send(signal.SIGSTOP)
        stopped = time.monotonic()
        while recorders[-1].index < 20_000:  # the Recorder goes on: clients are cut off after 3 to 4 s of 5
            if recorders[-1].index < (time.monotonic() - stopped) / 5.0 * 20_000:
                for recorder in recorders:
                    recorder.block()
            else:
                time.sleep(0.01)
        for child, _ in children:
            child.send(signal.SIGCONT)
        for child, gaps in children:
            child.wait_for("done")
            assert child.finish() == 0, child.stderr
            told = [line for line in child.stdout.splitlines() if line.startswith("gap")]
            assert len(told) <= gaps, told  # what the systems of both ends kept is not missing
            assert all(line.endswith("overwritten") for line in told)


# --- a hub that stands still ---


def all_events(start: str | int) -> Callable[[Reader], object]:
    return lambda reader: list(reader.stream(start, timeout=1))


@dataclass(frozen=True)
class Call:
    """A call into a client, the seconds it may take, and what it ends with: an error, None or an answer."""

    make: Callable[[Reader], object]
    limit: float
    ends: type[Exception] | str | None = None
    before: str = "streaming"  # or "connected", "nothing"


def look(name: str) -> Call:
    """An attribute or question about what is known, looked at again and again until long after the notice."""

    def once(reader: Reader) -> None:
        value = getattr(reader, name)
        if callable(value):
            value(0, 100)

    def again(reader: Reader) -> object:
        worst, until = 0.0, time.monotonic() + 4.5
        while time.monotonic() < until:
            worst = max(worst, seconds(lambda: once(reader)))
            time.sleep(0.01)  # others measure too
        return worst

    return Call(again, PROBE, "worst")


CALLS = {
    "start_streaming": Call(lambda c: c.start_streaming(timeout=1), 1, StartTimeout, "connected"),
    "info": Call(lambda c: c.info(timeout=1), 1, HubUnreachable),
    "wait": Call(lambda c: c.wait(2000, 2001, timeout=1), 1),
    "wait_longer_than_a_probe": Call(lambda c: c.wait(2000, 2001, timeout=4), 4),
    "wait_for_nothing": Call(lambda c: c.wait(2000, 2001, timeout=0), 0),
    "poll": Call(lambda c: c.poll(1, timeout=1), 1),
    "poll_longer_than_a_probe": Call(lambda c: c.poll(1, timeout=4), 4),
    "stream": Call(all_events("live"), 1, StreamTimeout),
    "stream_of_history": Call(all_events(0), 1, StreamTimeout),
    "read_too_early": Call(lambda c: c.read(2000, 2001), REQUEST, NotYetAvailable),
    "disconnect": Call(lambda c: c.disconnect(), 0),
    "stop_streaming": Call(lambda c: c.stop_streaming(), 0),
    **{name: look(name) for name in ("state", "last_sample", "start_msg", "segments", "instance")},
    **{name: look(name) for name in ("first_available", "markers", "gaps")},
}
ONLY_ELSEWHERE = {
    "connect": Call(lambda c: Client().connect(c.address, timeout=1), 1, HubUnreachable),
    "wait_for_history": Call(lambda c: c.wait(0, 10, timeout=1), 1),
    "get_data_from_history": Call(lambda c: c.get_data(0, 10), REQUEST),
    "read_from_history": Call(lambda c: c.read(0, 10), REQUEST, HubLost),
}
EVERY = {f"network-{name}": call for name, call in (CALLS | ONLY_ELSEWHERE).items()} | {
    f"local-{name}": call for name, call in CALLS.items()
}


@dataclass
class Outcome:
    """How a call ended, and after how many seconds."""

    seconds: float = float("inf")
    result: object = "it hangs"


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    """Every call at once, each by a client and thread of its own, on a hub stopped just before."""
    recorder, found = ScriptedRecorder(), {name: Outcome() for name in EVERY}
    go = threading.Event()

    def run(name: str, reader: Reader) -> None:
        go.wait(PATIENCE)
        before = time.monotonic()
        try:
            result = EVERY[name].make(reader)
        except Exception as error:  # noqa: BLE001 - the test judges it
            result = error
        found[name] = Outcome(time.monotonic() - before, result)

    with acquiring(recorder, 100) as server, ExitStack() as stack:
        threads = []
        for name, call in EVERY.items():
            reader: Reader = (
                Client(buffer_size=WINDOW) if name.startswith("network") else LocalClient(server.name)
            )
            stack.callback(reader.disconnect)
            if isinstance(reader, Client):
                reader.connect(server.query)
            if call.before == "streaming":
                reader.start_streaming(timeout=PATIENCE)
                poll(partial(_has_all, reader, 2000), "all is here")
            threads.append(threading.Thread(target=run, args=(name, reader), daemon=True))
            threads[-1].start()
        server.send(signal.SIGSTOP)
        go.set()
        until = time.monotonic() + PATIENCE
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        server.send(signal.SIGCONT)
        stack.close()
    recorder.close()
    return found


@pytest.mark.parametrize("name", EVERY)
def test_every_call_keeps_its_time_out_with_a_hub_that_stands_still(
    outcomes: dict[str, Outcome], name: str
) -> None:
    call, outcome = EVERY[name], outcomes[name]
    if call.ends == "worst":
        assert isinstance(outcome.result, float)
        assert outcome.result < call.limit + TOLERANCE
        return
    if isinstance(call.ends, type):
        assert isinstance(outcome.result, call.ends), outcome
    else:
        assert outcome.result is None
    assert outcome.seconds < call.limit + TOLERANCE


# --- a hole that cannot be filled at once ---


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@on_linux
@other_loopback
@pytest.mark.parametrize("timeout", [0.0, 0.001])
def test_a_hole_heals_though_no_call_waits_as_long_as_the_answer_takes(
    recorder: ScriptedRecorder, timeout: float
) -> None:
    with on_the_way(recorder, 10) as way:
        before = descriptors()
        with joined(way.address) as client:
            assert client.wait(180, 200, timeout=PATIENCE) is not None
            way.break_live()
            recorder.blocks(50)
            has(way.server, 1200)
            way.query.from_upstream.latency = 0.05  # s
            way.publish.heal()
            most, deadline = 0, time.monotonic() + PATIENCE
            while (found := client.wait(1000, 1200, timeout=timeout)) is None:
                assert time.monotonic() < deadline, "it never heals"
                most = max(most, descriptors())
            np.testing.assert_array_equal(found, values(1000, 1200, 2))
            assert most < before + 30, "descriptors pile up"  # one client has some ten
            assert client.gaps(0, 1200) == []
        poll(lambda: descriptors() <= before, "all descriptors are closed")


def resident() -> int:
    """Bytes of memory this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@on_linux
@other_loopback
def test_memory_stays_bounded_while_blocks_come_and_no_question_is_answered(
    recorder: ScriptedRecorder,
) -> None:
    with on_the_way(recorder, 10, 256, history="60s") as way, joined(way.address) as client:
        told = Told(client, "oldest")
        told.until(200)
        way.query.hold()
        way.break_live()
        recorder.blocks(10)
        has(way.server, 400)
        way.publish.heal()
        poll(lambda: way.publish.open_connections > 0, "it listens again")
        enough, before, most = way.publish.from_upstream.passed + (200 << 20), resident(), 0
        deadline = time.monotonic() + PATIENCE
        with sending(recorder, pace=0.0):
            while way.publish.from_upstream.passed < enough:
                assert client.wait(400, 401, timeout=0) is None
                most = max(most, resident())
                assert time.monotonic() < deadline
        print(f"memory grew by {(most - before) >> 20} MiB while 200 MiB came")
        assert most - before < 120 << 20  # 64 MiB of it may wait in the socket
        way.query.heal()
        told.until(recorder.index)
        # The history moves on while it is read, so more than once may be too late.
        assert {gap.reason for gap in told.gaps} == {"overwritten"}
