"""Every command as a process of its own: what it writes, where, and how it ends."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import socket
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pybv
import pytest
import zmq.auth

from processes import Child, Hub, hub, leftovers, simulator, unique_name
from rdahub import brainvision
from rdahub.commands import dump
from rdahub.config import DumpSettings, load
from rdahub.simulator import Synthetic
from rdahub_client import Client
from rdahub_client.records import Float32

CASES = Path(__file__).parents[1] / "data" / "rda" / "cases"
ENDS_WITHIN = 2.0  # s, what the interface promises
FREE = "tcp://127.0.0.1:0"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def silent() -> Iterator[str]:
    """HOST:PORT that refuses connections, and is nobody else's meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def child(stack: ExitStack, *arguments: str) -> Child:
    started = Child(*arguments)
    stack.callback(started.close)
    return started


def done(*arguments: str, code: int = 0) -> str:
    """What a command that works says."""
    with ExitStack() as stack:
        command = child(stack, *arguments)
        assert command.finish() == code, command.stderr
        assert command.stderr == ""
        return command.stdout


def refused(*arguments: str, code: int) -> str:
    """The one line of a command that does not."""
    with ExitStack() as stack:
        command = child(stack, *arguments)
        assert command.finish() == code, command.stderr
        assert command.stdout == ""
        assert command.stderr.count("\n") == 1, command.stderr
        assert command.stderr.startswith("rdahub")
        assert "Traceback" not in command.stderr
        return command.stderr


def ends(command: Child, number: signal.Signals) -> None:
    """Exit code 0 in time."""
    began = time.monotonic()
    command.send(number)
    assert command.finish() == 0, command.stderr
    assert time.monotonic() - began < ENDS_WITHIN
    assert "Traceback" not in command.stderr


def only_logs(command: Child) -> None:
    """Its stderr is log lines, nothing else."""
    for line in command.stderr.splitlines():
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (INFO|WARNING) +rdahub", line), line


def filled(stack: ExitStack, n: int, *flags: str, history: str = "600s") -> Hub:
    """A hub that has `n` samples of a simulator that sends no more."""
    sim = stack.enter_context(simulator("--speed=0", *flags))
    server = stack.enter_context(hub(sim.rda, "--history", history))
    with Client() as client:
        client.connect(server.query)
        client.start_streaming()
        assert client.wait(n - 1, n, timeout=30) is not None
    return server


# --- settings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve"], "--recorder"),
        (["serve", "--recorder", "x", "--nonsense"], "--nonsense"),
        (["serve", "--recorder", "x", "--history", "soon"], "--history"),
        (["serve", "--recorder", "x", "--config", "/absent.toml"], "/absent.toml"),
        (["sim", "--port", "x"], "--port"),
        (["sim", "--vhdr", "/absent.vhdr"], "/absent.vhdr"),
        (["sim", "--port=0", "--dump", __file__], f"{__file__}: it is no captured stream"),
        (["dump", "--last", "1s"], "--output"),
        (["dump", "-o", "x.npy"], "--last"),
        (["status", "udp://x"], "--hub"),
        (["watch", "--seconds", "0"], "--seconds"),
        (["demo", "--channels", "0"], "--channels"),
        (["keygen"], "FOLDER"),
        (["nonsense"], "nonsense"),
    ],
    ids=" ".join,
)
def test_a_wrong_setting_is_one_line_that_names_it(arguments: list[str], said: str) -> None:
    assert said in refused(*arguments, code=2)


def test_a_setting_may_be_a_variable(stack: ExitStack, silent: str) -> None:
    command = Child("status", RDAHUB_HUB=silent, RDAHUB_TIMEOUT="200ms")
    stack.callback(command.close)
    assert command.finish() == 2
    assert silent in command.stderr


# --- what is taken, and what is not there ----------------------------------------------------------------


def test_a_taken_port_is_one_line(stack: ExitStack, silent: str) -> None:
    sim = stack.enter_context(simulator())
    server = stack.enter_context(hub(sim.rda))
    serve = ("serve", "--recorder", sim.rda, "--name", unique_name())
    said = refused(*serve, "--query", server.query, "--publish", FREE, code=1)
    assert "--query" in said
    assert server.query in said
    said = refused(*serve, "--query", FREE, "--publish", server.publish, code=1)
    assert "--publish" in said
    assert server.publish in said
    assert silent.rpartition(":")[2] in refused("sim", "--port", silent.rpartition(":")[2], code=1)
    assert server.query in refused("demo", "--query", server.query, "--name", unique_name(), code=1)


def test_a_name_belongs_to_one_hub(stack: ExitStack) -> None:
    server = filled(stack, 20, "--seconds=1")
    before = json.loads(done("status", server.query, "--json", code=1))
    flags = ("--query", FREE, "--publish", FREE, "--name", server.name)
    assert server.name in refused("serve", "--recorder", "127.0.0.1:1", *flags, code=1)
    after = json.loads(done("status", server.query, "--json", code=1))
    assert after["instance"] == before["instance"]
    assert leftovers(server.name)


@pytest.mark.parametrize("which", ["query", "publish"])
def test_the_network_is_not_served_in_the_clear_by_accident(which: str, stack: ExitStack) -> None:
    endpoints = {"query": FREE, "publish": FREE, which: "tcp://0.0.0.0:0"}
    flags = [f"--{key}={value}" for key, value in endpoints.items()]
    said = refused("serve", "--recorder=127.0.0.1:1", "--name", unique_name(), *flags, code=2)
    assert f"--{which}" in said
    assert "--insecure" in said
    server = stack.enter_context(hub("127.0.0.1:1", "--insecure", **{which: endpoints[which]}))
    assert "//0.0.0.0:" in getattr(server, which)


def test_a_hub_without_recorder_stays_up_and_says_so(stack: ExitStack, silent: str) -> None:
    server = stack.enter_context(hub(silent))
    server.wait_for("cannot reach the Recorder", "stderr")
    assert "disconnected" in done("status", server.query, code=1)
    status = json.loads(done("status", server.query, "--json", code=1))
    assert status["state"] == "disconnected"
    assert status["recorder"]["address"] == silent
    assert status["recorder"]["error"]
    assert status["segment"] is None
    only_logs(server)
    said = refused("dump", server.query, "--last=1s", "-o=x.npy", "--timeout=200ms", code=1)
    assert "Recorder" in said
    assert "state=disconnected" in done("watch", server.query, "--seconds=10ms")


@pytest.mark.parametrize(
    "command",
    [["status"], ["status", "--json"], ["watch"], ["dump", "--last=1s", "-o=x.npy"]],
    ids=" ".join,
)
def test_no_hub_is_exit_code_2(command: list[str], silent: str) -> None:
    assert silent in refused(*command, silent, "--timeout=200ms", code=2)


@pytest.mark.parametrize("command", [["status"], ["dump", "--last=1s", "-o=x.npy"]], ids=" ".join)
def test_a_name_that_nobody_has_is_said(command: list[str]) -> None:
    said = refused(*command, "no-hub.invalid:51245", "--timeout=200ms", code=2)
    assert "no hub answers at tcp://no-hub.invalid:51245: the name no-hub.invalid is not known" in said


# --- how they end ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_ends_every_command_well(number: signal.Signals, stack: ExitStack) -> None:
    sim = stack.enter_context(simulator())
    server = Hub(sim.rda)
    stack.callback(server.close)
    watch = child(stack, "watch", server.query)
    watch.wait_for("next_index")
    ends(watch, number)
    ends(server, number)
    assert server.stdout.count("\n") == 1
    only_logs(server)
    assert leftovers(server.name) == []
    other = child(stack, "sim", "--port=0")
    other.wait_for("ready rda=")
    ends(other, number)
    assert other.stdout.count("\n") == 1
    assert other.stderr == ""


def test_a_killed_hub_leaves_nothing_behind_its_successor(stack: ExitStack) -> None:
    sim = stack.enter_context(simulator())
    first = Hub(sim.rda)
    stack.callback(first.close)
    with Client() as client:
        client.connect(first.query)
        client.start_streaming()
        assert client.poll(1, timeout=30) is not None
    first.send(signal.SIGKILL)
    assert first.finish() == -signal.SIGKILL
    assert leftovers(first.name)
    with hub(sim.rda, name=first.name, query=first.query) as second:
        second.wait_for("segment of", "stderr")
        assert done("status", second.query)
    assert leftovers(first.name) == []


def test_a_watch_outlives_its_hub(stack: ExitStack) -> None:
    sim = stack.enter_context(simulator())
    with hub(sim.rda) as first:
        watch = child(stack, "watch", first.query)
        watch.wait_for(r"state=streaming next_index=\d+ rate=\d+\.\d markers=\d+ gaps=0 clients=\d+\n")
    watch.wait_for("state=hub-lost")
    with hub(sim.rda, query=first.query) as second:
        second.wait_for("segment of", "stderr")
        watch.wait_for(r"state=streaming next_index=\d+ .* clients=0\n")
        ends(watch, signal.SIGTERM)
        assert second.name != first.name
    assert watch.stderr == ""


def test_demo_shows_the_way_and_leaves_nothing() -> None:
    name = unique_name()
    lines = done("demo", "--seconds=3", f"--query={FREE}", f"--name={name}", "--channels=3").splitlines()
    hint = re.fullmatch(r'.*client\.connect\("(127\.0\.0\.1:\d+)"\)', lines[0])
    assert hint
    assert "state=streaming" in lines[-1]
    assert leftovers(name) == []
    refused("status", hint[1], "--timeout=200ms", code=2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_demo_ends_its_children(number: signal.Signals, stack: ExitStack) -> None:
    name = unique_name()
    demo = child(stack, "demo", f"--query={FREE}", f"--name={name}")
    address = demo.wait_for(r'connect\("(.*)"\)')[1]
    demo.wait_for("state=streaming")
    recorder = json.loads(done("status", address, "--json"))["recorder"]["address"]
    ends(demo, number)
    assert demo.stderr == ""
    assert leftovers(name) == []
    refused("status", address, "--timeout=200ms", code=2)
    host, port = recorder.split(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))


# --- status ----------------------------------------------------------------------------------------------


def test_status_is_a_health_check(stack: ExitStack) -> None:
    sim = stack.enter_context(simulator("--channels=3"))
    server = stack.enter_context(hub(sim.rda))
    with Client() as client:
        client.connect(server.query)
        client.start_streaming()
        assert client.poll(1, timeout=30) is not None
        status = json.loads(done("status", server.query, "--json"))
    assert status["state"] == "streaming"
    assert status["clients"] == 1
    assert status["segment"]["n_channels"] == 3
    counters = "blocks samples markers gaps repeated_blocks protocol_errors reconnects refused"
    assert set(counters.split()) <= set(status["counters"])
    needed = "instance first_available next_index history_seconds gaps recorder ages"
    assert set(needed.split()) <= set(status)
    assert "streaming" in done("status", server.query)


# --- dump ------------------------------------------------------------------------------------------------

N, CHANNELS, BLOCK = 3000, 5, 33
SOURCE = Synthetic(CHANNELS, 1000, BLOCK, seconds=3, seed=7)
FLAGS = [f"--channels={CHANNELS}", f"--block={BLOCK}", "--seconds=3", "--seed=7"]


def scaled(start: int, stop: int) -> Float32:
    raw = SOURCE.samples(start, stop).astype(np.float64)
    samples: Float32 = (raw * np.array([1.0] + [0.1] * (CHANNELS - 1))).astype(np.float32)
    return samples


def bits(samples: npt.NDArray[np.float32]) -> bytes:
    assert samples.dtype == np.float32
    return samples.tobytes()


def test_dump_saves_what_the_simulator_sent(stack: ExitStack, tmp_path: Path) -> None:
    server = filled(stack, N, *FLAGS)
    for suffix in ("npy", "npz", "vhdr"):
        out = tmp_path / f"run.{suffix}"
        said = done("dump", server.query, "--start=0", f"--stop={N}", "-o", str(out))
        assert said == f"saved {out}: {N} samples of {CHANNELS} channels, 3 markers, 0 gaps\n"
    expected = scaled(0, N)
    samples = np.load(tmp_path / "run.npy")
    assert samples.shape == (N, CHANNELS)
    assert bits(samples) == bits(expected)

    with np.load(tmp_path / "run.npz", allow_pickle=False) as whole:
        assert bits(whole["samples"]) == bits(expected)
        assert (int(whole["start"]), int(whole["stop"]), float(whole["sfreq"])) == (0, N, 1000.0)
        status = json.loads(done("status", server.query, "--json", code=1))
        assert str(whole["instance"]) == status["instance"]
        assert list(whole["ch_names"]) == ["Fp1", "Fp2", "F3", "F4", "C3"]
        assert list(whole["units"]) == ["µV"] * CHANNELS
        assert list(whole["resolutions"]) == [1.0, *[0.1] * (CHANNELS - 1)]
        assert list(whole["marker_index"]) == [0, 1000, 2000]
        assert list(whole["marker_points"]) == [1, 1, 1]
        assert list(whole["marker_channel"]) == [-1, -1, -1]
        assert list(whole["marker_type"]) == ["New Segment", "Stimulus", "Stimulus"]
        assert list(whole["marker_description"]) == ["", "S  1", "S  2"]
        assert whole["gaps"].shape == (0, 2)

    recording = brainvision.read(tmp_path / "run.vhdr")
    assert bits(np.asarray(recording.raw, np.float32)) == bits(expected)
    assert recording.interval_us == 1000.0
    assert recording.resolutions == (1.0,) * CHANNELS
    assert recording.units == ("µV",) * CHANNELS
    assert [(m.position, m.points, m.channel, m.type, m.description) for m in recording.markers] == [
        (0, 1, -1, "New Segment", ""),
        (1000, 1, -1, "Stimulus", "S  1"),
        (2000, 1, -1, "Stimulus", "S  2"),
    ]
    names = ["run.eeg", "run.npy", "run.npz", "run.vhdr", "run.vmrk"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_dump_of_a_part_has_the_markers_of_that_part(stack: ExitStack, tmp_path: Path) -> None:
    server = filled(stack, N, *FLAGS)
    out = tmp_path / "part.vhdr"
    done("dump", server.query, "--start=990", "--stop=2000", "-o", str(out))
    recording = brainvision.read(out)
    assert bits(np.asarray(recording.raw, np.float32)) == bits(scaled(990, 2000))
    assert [(m.position, m.description) for m in recording.markers] == [(10, "S  1")]
    out = tmp_path / "last.npy"
    done("dump", server.query, "--last=500ms", "-o", str(out))
    assert bits(np.load(out)) == bits(scaled(N - 500, N))


def test_dump_goes_page_by_page(stack: ExitStack, tmp_path: Path) -> None:
    n, channels = 40_000, 64  # 10 MB, several pages
    source = Synthetic(channels, 1000, 100, seconds=40, seed=1)
    server = filled(stack, n, f"--channels={channels}", "--block=100", "--seconds=40", "--seed=1")
    out = tmp_path / "long.npy"
    done("dump", server.query, "--start=0", f"--stop={n}", "-o", str(out))
    scale = np.array([1.0] + [0.1] * (channels - 1))
    expected = (source.samples(0, n).astype(np.float64) * scale).astype(np.float32)
    assert bits(np.load(out)) == bits(expected)


def test_dump_writes_gaps_where_they_are(stack: ExitStack, tmp_path: Path) -> None:
    sim = stack.enter_context(simulator("--dump", str(CASES / "ok_gap.rda")))
    server = stack.enter_context(hub(sim.rda))
    with Client() as client:
        client.connect(server.query)
        client.start_streaming()
        assert client.wait(0, 50, timeout=30) is not None
    for suffix in ("npz", "vhdr"):
        said = done("dump", server.query, "--start=15", "--stop=50", "-o", str(tmp_path / f"gap.{suffix}"))
        assert "1 gaps" in said
    with np.load(tmp_path / "gap.npz") as whole:
        assert whole["gaps"].tolist() == [[20, 40]]
        assert list(whole["gap_reasons"]) == ["counter"]
        missing = np.isnan(whole["samples"]).all(axis=1)
        assert missing.tolist() == [20 <= i < 40 for i in range(15, 50)]
        samples = whole["samples"]
    recording = brainvision.read(tmp_path / "gap.vhdr")
    assert bits(np.asarray(recording.raw, np.float32)) == bits(samples)
    assert [(m.position, m.points, m.channel, m.type) for m in recording.markers] == [
        (5, 20, -1, "Bad Interval")
    ]


def test_dump_keeps_units_texts_and_channels(stack: ExitStack, tmp_path: Path) -> None:
    source = tmp_path / "source.vhdr"
    with pytest.warns(UserWarning, match="°C"):
        pybv.write_brainvision(
            data=np.array([[1e-6, 2e-6, 3e-6, 4e-6], [36.6, 36.7, 36.8, 1e-30]]),
            sfreq=512,
            ch_names=["Cz, left", "skin"],
            fname_base="source",
            folder_out=tmp_path,
            resolution=1.0,
            unit=["µV", "°C"],
            events=[
                {"onset": 1, "duration": 2, "type": "Comment", "description": "tea µ", "channels": ["skin"]},
                {"onset": 3, "description": 7},
            ],
        )
    markers = source.with_suffix(".vmrk")
    markers.write_text(markers.read_text() + "Mk3=SyncStatus,on\\1 off,4,0,1\n")
    sim = stack.enter_context(simulator("--vhdr", str(source)))
    server = stack.enter_context(hub(sim.rda))
    with Client() as client:
        client.connect(server.query)
        client.start_streaming()
        assert client.wait(0, 4, timeout=30) is not None
    out = tmp_path / "copy.vhdr"
    done("dump", server.query, "--start=0", "--stop=4", "-o", str(out))
    before, after = brainvision.read(source), brainvision.read(out)
    assert bits(np.asarray(after.raw, np.float32)) == bits(np.asarray(before.raw, np.float32))
    assert after.names == before.names
    assert after.units == before.units == ("µV", "°C")
    assert after.markers == before.markers
    assert after.interval_us == pytest.approx(before.interval_us, rel=1e-15)


def test_dump_says_why_a_range_is_not_to_be_had(stack: ExitStack, tmp_path: Path) -> None:
    n = 100_000
    server = filled(stack, n, "--channels=2", "--block=100", "--seconds=100", history="1s")
    first = json.loads(done("status", server.query, "--json", code=1))["first_available"]
    assert first > 0
    out = tmp_path / "none.npy"
    command = ("dump", server.query, "-o", str(out))
    available = f"available are [{first}, {n})"
    assert available in refused(*command, "--start=0", "--stop=10", code=1)
    said = refused(*command, "--start=0", f"--stop={n}", code=1)
    assert available in said
    assert f"[0, {n})" in said
    said = refused(*command, f"--start={n - 5}", f"--stop={n + 10**12}", code=1)
    assert available in said
    assert f"ended at {n}" in said
    said = refused(*command, "--last=100s", code=1)
    assert available in said
    assert "--last 100s" in said
    assert list(tmp_path.iterdir()) == []


def test_dump_does_not_join_segments(stack: ExitStack, tmp_path: Path) -> None:
    run = (CASES / "ok_min.rda").read_bytes()  # 20 samples from START to STOP
    capture = tmp_path / "twice.rda"
    capture.write_bytes(run + run)
    sim = stack.enter_context(simulator("--dump", str(capture)))
    server = stack.enter_context(hub(sim.rda))
    with Client() as client:
        client.connect(server.query)
        client.start_streaming()
        assert client.wait(20, 40, timeout=30) is not None
    out = tmp_path / "none.npy"
    command = ("dump", server.query, "-o", str(out))
    said = refused(*command, "--start=15", "--stop=25", code=1)
    assert "segment 0 ended at 20 (stop)" in said
    assert "asked for samples [15, 25)" in said
    assert not out.exists()
    done(*command, "--start=0", "--stop=20")
    first = np.load(out)
    done(*command, "--start=20", "--stop=40", "--overwrite")
    assert first.shape == (20, 2)
    assert bits(np.load(out)) == bits(first)


def test_dump_that_cannot_write_says_where(stack: ExitStack, tmp_path: Path) -> None:
    server = filled(stack, 1000, "--seconds=1")
    command = ("dump", server.query, "--start=0", "--stop=1000", "-o")
    for suffix in ("npy", "npz", "vhdr"):
        out = tmp_path / "absent" / f"x.{suffix}"
        assert str(out) in refused(*command, str(out), code=1)
        folder = tmp_path / f"folder.{suffix}"
        folder.mkdir()
        assert str(folder) in refused(*command, str(folder), code=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.npy", "folder.npz", "folder.vhdr"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")], ids=repr)
def test_dump_that_ends_early_leaves_nothing(
    error: BaseException,
    stack: ExitStack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def write(path: Path, _: object) -> None:
        path.write_bytes(b"half")
        raise error

    server = filled(stack, 1000, "--seconds=1", "--channels=2")
    out = tmp_path / "x.npy"
    monkeypatch.setitem(dump._WRITERS, ".npy", write)
    settings = load(DumpSettings, [server.query, "--last=1s", f"--output={out}"], "rdahub dump")
    if isinstance(error, KeyboardInterrupt):
        assert dump.run(settings) == 1
        assert capsys.readouterr().err == "rdahub dump: interrupted; nothing is saved\n"
    else:
        with pytest.raises(OSError, match="No space left") as caught:
            dump.run(settings)
        assert caught.value.filename == str(out)
    assert list(tmp_path.iterdir()) == []


def test_dump_tells_how_far_it_is_if_it_takes_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    times = iter([0.0, 0.9, 1.1, 1.3])  # at the beginning, and at each new tenth
    monkeypatch.setattr(dump, "monotonic", lambda: next(times))
    tell = dump._progress_lines(100)
    for samples in (5, 15, 25, 29, 60, 100):
        tell(samples)
    assert capsys.readouterr().err == "20 %\n60 %\n"


@pytest.mark.parametrize(
    ("name", "there"),
    [("x.npy", "x.npy"), ("x.npz", "x.npz"), ("x.fif", "x.fif"), ("x.edf", "x.edf")]
    + [("x.vhdr", f"x.{suffix}") for suffix in ("vhdr", "eeg", "vmrk")],
)
def test_dump_refuses_to_replace_a_file(name: str, there: str, tmp_path: Path, silent: str) -> None:
    (tmp_path / there).write_bytes(b"before")
    said = refused("dump", silent, "--last=1s", "-o", str(tmp_path / name), code=2)  # no hub was asked
    assert f"{tmp_path / there} is there already" in said
    assert "--overwrite" in said
    assert (tmp_path / there).read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert "no hub" in refused(
        "dump", silent, "--last=1s", "--overwrite", "--timeout=200ms", "-o", str(tmp_path / name), code=2
    )


def test_dump_does_not_replace_what_came_meanwhile(
    stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(path: Path, _: object) -> None:
        path.write_bytes(b"a")
        path.with_name("x-1.fif").write_bytes(b"b")  # as MNE parts a long one

    server = filled(stack, 1000, "--seconds=1", "--channels=2")
    monkeypatch.setitem(dump._WRITERS, ".fif", write)
    (tmp_path / "x-1.fif").write_bytes(b"before")
    flags = [server.query, "--last=1s", f"--output={tmp_path / 'x.fif'}"]
    with pytest.raises(OSError, match=r"x-1\.fif is there by now"):
        dump.run(load(DumpSettings, flags, "rdahub dump"))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"x-1.fif": b"before"}
    assert dump.run(load(DumpSettings, [*flags, "--overwrite"], "rdahub dump")) == 0
    assert (tmp_path / "x-1.fif").read_bytes() == b"b"


def test_dump_replaces_a_file_only_when_it_is_whole(stack: ExitStack, tmp_path: Path) -> None:
    server = filled(stack, 1000, "--seconds=1", "--channels=2")
    out = tmp_path / "x.npy"
    out.write_bytes(b"before")
    command = ("dump", server.query, "--overwrite", "-o", str(out))
    refused(*command, "--start=0", "--stop=2000", code=1)
    assert out.read_bytes() == b"before"
    done(*command, "--start=0", "--stop=1000")
    assert np.load(out).shape == (1000, 2)


# --- keygen, watch in a terminal -------------------------------------------------------------------------


def test_keygen_makes_a_pair_and_guards_the_secret(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    said = done("keygen", str(folder), "--name=lab")
    public, secret = (Path(line) for line in said.splitlines())
    assert (public.name, secret.name) == ("lab.key", "lab.key_secret")
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(public.stat().st_mode) == 0o644
    assert zmq.auth.load_certificate(secret)[0] == zmq.auth.load_certificate(public)[0]
    before = secret.read_bytes()
    assert "lab.key" in refused("keygen", str(folder), "--name=lab", code=1)
    assert secret.read_bytes() == before
    assert "--name" in refused("keygen", str(folder), "--name=../lab", code=2)


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_watch_fits_the_terminal(stack: ExitStack) -> None:
    sim = stack.enter_context(simulator("--channels=64"))
    server = stack.enter_context(hub(sim.rda))
    with Client() as client:
        client.connect(server.query)
        client.start_streaming()
        assert client.wait(1000, 1001, timeout=30) is not None
    code, picture = in_terminal(stack, 24, 90, "watch", server.query, "--seconds=1s")
    assert code == 0
    for text in (server.name, "streaming", sim.rda, "1000 Hz nominal", "Fp1", "F3", "S  1", "more"):
        assert text in picture
    assert "Traceback" not in picture
    shown = len(set(re.findall(r"\b(?:Fp?|C|P|O|T|AF|FC|CP|TP)\d+\b", picture)))
    more = re.search(r"\+ (\d+) more", picture)
    assert more
    assert shown + int(more[1]) == 64


def in_terminal(stack: ExitStack, rows: int, columns: int, *arguments: str) -> tuple[int, str]:
    """Exit code, and all that a command drew on a terminal of this size."""
    import fcntl
    import pty
    import struct
    import subprocess
    import termios

    ours, theirs = pty.openpty()
    stack.callback(os.close, ours)
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in {"LINES", "COLUMNS"}}
    process = subprocess.Popen(
        [sys.executable, "-m", "rdahub", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**environment, "TERM": "xterm-256color", "NO_COLOR": "1"},
    )
    os.close(theirs)
    drawn = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux says so when the other end is closed
            part = b""
        if not part:
            break
        drawn += part
    return process.wait(), drawn.decode()
