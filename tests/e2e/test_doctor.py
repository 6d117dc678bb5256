"""`rdahub doctor` as users run it: Recorders that are well, ill, silent, hidden, or no Recorder at all."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from processes import Child, Hub, Simulator, hub, simulator
from rdahub import rda
from rdahub.checks import machine, stream
from rdahub.checks.findings import Finding
from rdahub.checks.hub import look as look_at_hub
from rdahub.commands import doctor as doctor_command
from rdahub.config import DoctorSettings, load
from rdahub.rings import History
from rdahub_client import Client

CASES = Path(__file__).parents[1] / "data" / "rda" / "cases"
NO_HUB = "127.0.0.1:1"  # a port that no program may have without being root


class Told(NamedTuple):
    code: int
    lines: list[str]

    def about(self, about: str) -> str:
        """The lines on one thing, as one text."""
        return "\n".join(line for line in self.lines if line[9:20].strip() == about)


def doctor(*arguments: str, hub: str = NO_HUB) -> Told:
    """What it says."""
    command = Child("doctor", *arguments, "--hub", hub)
    try:
        code = command.finish()
        assert command.stderr == ""
        lines = command.stdout.splitlines()
        for line in lines:
            assert re.match(r"(ok      |note    |warning |wrong   ) \S", line), line
            assert line.startswith(("ok ", "note ")) or ". Do: " in line, f"not said what to do: {line}"
        assert code == (0 if all(line.startswith(("ok ", "note ")) for line in lines) else 1), lines
        return Told(code, lines)
    finally:
        command.close()


@contextlib.contextmanager
def server(*to_send: bytes, close: bool = False) -> Iterator[str]:
    """HOST:PORT that sends these bytes to whoever comes."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        kept: list[socket.socket] = []

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    connection.sendall(b"".join(to_send))
                    if close:
                        connection.close()
                    else:
                        kept.append(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
            for each in kept:
                each.close()


@pytest.fixture
def refusing() -> Iterator[str]:
    """HOST:PORT that refuses connections, and is nobody else's meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.9" if sys.platform == "linux" else "127.0.0.1", 0))
        host, port = taken.getsockname()
        yield f"{host}:{port}"


# --- the Recorder ----------------------------------------------------------------------------------------


def test_a_recorder_that_is_well_is_ok_in_every_line() -> None:
    with simulator("--channels=5", "--rate=500", "--block=10") as sim, hub(sim.rda) as server:
        server.wait_for("segment of", "stderr")
        told = doctor(sim.rda, "--seconds=1s", hub=server.query)
        assert "5 channels at 500 Hz, float32" in told.about("stream")
        blocks = told.about("blocks")
        number, seconds = re.search(r"(\d+) in ([\d.]+) s, 20 ms each; jitter median", blocks).groups()  # type: ignore[union-attr]
        assert int(number) == pytest.approx(50 * float(seconds), rel=0.3)
        assert f"{server.name!r} is up, streaming" in told.about("hub")
        assert "600 s of history" in told.about("memory")
        assert re.search(r"rdahub \S+, Python 3.+, numpy \d.+, pyzmq \d.+, libzmq \d", told.about("versions"))
        # Blocks may come late on a loaded machine; everything else must be well.
        assert {line.split()[1] for line in told.lines if not line.startswith("ok ")} <= {"blocks", "rate"}


def test_int16_is_told() -> None:
    with simulator("--int16") as sim:
        assert "int16" in doctor(sim.rda, "--seconds=200ms").about("stream")


def test_a_refusal_means_that_rda_is_off(refusing: str) -> None:
    told = doctor(refusing)
    assert told.code == 1
    assert "refuses" in told.about("port")
    assert "enable Remote Data Access" in told.about("port")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere 127.0.0.1 is the one loopback address")
@pytest.mark.parametrize(("wanted", "there"), [(51244, 51234), (51234, 51244)])
def test_the_port_that_answers_instead_is_named(wanted: int, there: int) -> None:
    host = f"127.83.{wanted % 250}.7"
    sim = Simulator("--host", host, port=there)
    try:
        told = doctor(f"{host}:{wanted}")
    finally:
        sim.close()
    assert told.code == 1
    assert f"use --recorder {host}:{there}" in told.about("port")


@pytest.mark.skipif(sys.platform != "linux", reason="a full queue means silence on Linux only")
def test_silence_means_a_firewall_or_a_wrong_address() -> None:
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.9", 0))
        listening.listen(0)
        address = listening.getsockname()
        for _ in range(3):  # more than its queue takes: the next ones hear nothing
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        told = doctor(f"127.0.0.9:{address[1]}", "--timeout=500ms")
    assert told.code == 1
    assert "firewall" in told.about("port")
    assert f"allow incoming TCP {address[1]}" in told.about("port")


def test_a_name_that_does_not_exist_is_said() -> None:
    told = doctor("no-such-recorder.invalid")
    assert told.code == 1
    assert "no-such-recorder.invalid" in told.about("address")


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"", "sends nothing"),
        (b"SSH-2.0-x\r\n", "11 bytes that are no RDA message"),
        (b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n", "GUID"),
    ],
    ids=["nothing", "few bytes", "many bytes"],
)
def test_what_is_no_recorder_is_recognised(sent: bytes, said: str) -> None:
    with server(sent) as address:
        told = doctor(address, "--timeout=500ms")
    assert told.code == 1
    assert said in told.about("stream")


def test_one_that_closes_at_once_is_said() -> None:
    with server(close=True) as address:
        assert "closes it" in doctor(address, "--timeout=2s").about("stream")


def test_a_recorder_that_does_not_acquire_is_no_fault_of_the_network() -> None:
    with server(rda.encode(rda.KeepAlive())) as address:
        told = doctor(address, "--timeout=500ms")
    assert "start monitoring" in told.about("stream")
    with server((CASES / "ok_min.rda").read_bytes()) as address:  # START to STOP
        told = doctor(address, "--timeout=500ms", "--seconds=500ms")
    assert "the acquisition has ended" in told.about("stream")


def test_dropped_blocks_are_seen() -> None:
    layout = rda.Start(1000.0, (0.1, 0.1), ("a", "b"))
    blocks = [rda.encode(rda.Data(counter, samples())) for counter in (1, 2, 3, 4, 9, 10, 11, 12)]
    with server(rda.encode(layout), *blocks) as address:
        told = doctor(address, "--timeout=1s", "--seconds=300ms")
    assert "jumped 1 times" in told.about("losses")


def samples() -> rda.Samples:
    import numpy as np

    return np.zeros((20, 2), np.float32)


def test_a_wrong_address_is_one_line_and_exit_code_2() -> None:
    command = Child("doctor", "amp:0")
    try:
        assert command.finish() == 2
        assert command.stderr.count("\n") == 1
        assert "--recorder" in command.stderr
        assert command.stdout == ""
    finally:
        command.close()


def test_pauses_and_a_wrong_rate_are_warnings() -> None:
    seen = stream.Stream(messages=1, start=rda.Start(1000.0, (1.0,), ("a",)), kind="float32")
    seen.times = [0.02 * i for i in range(100)]
    seen.lengths = [20] * 100
    seen.counters = list(range(100))
    assert levels(stream.judge(seen, 1)) == {"stream": "ok", "blocks": "ok"}
    seen.times[50:] = [time + 0.4 for time in seen.times[50:]]
    found = stream.judge(seen, 1)
    assert levels(found) == {"stream": "ok", "blocks": "warning", "rate": "warning"}
    assert "longest pause 420 ms" in str(found[1])
    seen.times = [0.021 * i for i in range(1000)]
    seen.lengths, seen.counters = [20] * 1000, [0] + [2**32 - 500 + i for i in range(500)] + list(range(499))
    found = stream.judge(seen, 1)
    assert levels(found) == {"stream": "ok", "blocks": "ok", "rate": "warning"}
    assert "952.4 Hz measured" in str(found[2])


def levels(findings: list[Finding]) -> dict[str, str]:
    return {finding.about: finding.level for finding in findings}


# --- this machine and the hub ----------------------------------------------------------------------------


def test_too_little_shared_memory_is_said_with_what_fits() -> None:
    with simulator("--channels=64") as sim:
        told = doctor(sim.rda, "--seconds=100ms", "--history=1000h", "--history-bytes=1000TiB")
    memory = told.about("memory")
    free, fits = re.search(r"(\d+) MiB .*: only (\d+) s fit", memory).groups()  # type: ignore[union-attr]
    assert int(fits) == pytest.approx(int(free) * 2**20 / (64 * 4 * 1000), rel=0.01)
    assert "supposing" not in memory
    assert f"--history {fits}s" in memory


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    told = doctor(f"--shm-dir={tmp_path / 'absent'}")
    assert "--shm-dir" in told.about("memory")
    assert told.about("memory").startswith("wrong")


def test_memory_that_just_suffices_is_ok(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = History(10, 2**40)
    monkeypatch.setattr("rdahub.memory_watch.room", lambda: 10_000 * 4 * 3)
    assert machine.memory(tmp_path, history, (3, 1000)).level == "ok"
    monkeypatch.setattr("rdahub.memory_watch.room", lambda: 10_000 * 4 * 3 - 1)
    finding = machine.memory(tmp_path, history, (3, 1000))
    assert finding.level == "warning"
    assert "left by the memory limit" in finding.text


def test_a_step_of_the_clock_is_seen_and_its_slewing_not(monkeypatch: pytest.MonkeyPatch) -> None:
    class Time:
        now = 10**12
        wall = 10**18

        def monotonic_ns(self) -> int:
            return self.now

        def time_ns(self) -> int:
            return self.wall

    time = Time()
    monkeypatch.setattr(machine, "time", time)
    clock = machine.Clock()
    time.now, time.wall = time.now + 5 * 10**9, time.wall + 5 * 10**9 + 2_500_000  # 500 ppm
    finding = clock.judge()
    assert finding.level == "ok"
    assert "did not jump in the 5.0 s it was watched" in finding.text
    time.wall -= 10**9
    finding = clock.judge()
    assert finding.level == "warning"
    assert "-1.000 s" in finding.text


def test_a_hub_without_recorder_is_wrong_and_says_what_to_look_at(refusing: str) -> None:
    with hub(refusing) as server:
        server.wait_for("cannot reach the Recorder", "stderr")
        told = doctor(hub=server.query)
    assert told.code == 1
    assert "disconnected" in told.about("hub")
    assert f"rdahub doctor {refusing}" in told.about("hub")


def test_gaps_of_a_hub_are_told() -> None:
    with simulator("--dump", str(CASES / "ok_gap.rda")) as sim, hub(sim.rda) as server:
        read_up_to(server, 50)
        assert "20 samples in 1 gaps" in doctor(hub=server.query).about("hub")


def read_up_to(server: Hub, stop: int) -> None:
    with Client() as client:
        client.connect(server.query)
        client.start_streaming()
        assert client.wait(stop - 1, stop, timeout=30) is not None


def test_a_hub_that_should_run_and_does_not_is_wrong() -> None:
    told = doctor(hub=NO_HUB)
    assert told.about("hub").startswith("wrong")
    assert "start it (rdahub serve)" in told.about("hub")
    with server(struct.pack("<q", 0)) as address:
        told = doctor("--timeout=500ms", hub=address)
    assert "something listens" in told.about("hub")
    status, findings = look_at_hub(NO_HUB, 1, None, wanted=False)
    assert (status, levels(findings)) == (None, {"hub": "note"})


def test_a_hub_whose_name_nobody_has_is_called_that() -> None:
    told = doctor("--timeout=500ms", hub="no-such-hub.invalid:51245")
    assert "the name no-such-hub.invalid is not known" in told.about("hub")
    assert "give the IP address" in told.about("hub")


def test_what_was_not_there_to_be_looked_at_reads_like_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    settings = load(DoctorSettings, [], "rdahub doctor")
    settings.hub = NO_HUB
    settings.model_fields_set.discard("hub")  # as if it were the default, where a hub may run
    assert doctor_command.run(settings) == 0
    told = Told(0, capsys.readouterr().out.splitlines())
    assert told.about("hub") == f"note     hub        nothing listens at {NO_HUB}, so no hub was looked at"
    assert told.about("clock").startswith("note ")
    assert "not watched for jumps" in told.about("clock")
