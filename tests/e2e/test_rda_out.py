"""`rdahub serve --rda-out`: what programs get that speak only RDA, to the byte, and that they harm nobody."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from processes import PATIENCE, Child, Hub, hub, unique_name
from rdahub import limits, rda
from rdahub.recorder import RecorderLink
from rdahub_client import Client
from rdahub_client.query import QuerySocket
from rdahub_client.wire import StatsRequest
from scripted import ScriptedRecorder, values

DATA = Path(__file__).parents[1] / "data" / "rda"
PYCORDER = (DATA / "pycorder_all_types_3ch_then_5ch.rda").read_bytes()
OUT = "--rda-out=127.0.0.1:0"
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the process is found in /proc")


# --- a Recorder, a reader of bytes -----------------------------------------------------------------------


class Recorder(ScriptedRecorder):
    """Sends bytes as they are."""

    def accept(self) -> socket.socket:
        """The hub is there."""
        return self.connection

    def raw(self, content: bytes, largest: int = 1 << 20) -> None:
        """Send in random pieces."""
        seed = time.time_ns()
        print(f"seed {seed}")
        chance, at = random.Random(seed), 0
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while at < len(content):
            n = chance.randint(1, largest)
            self.connection.sendall(content[at : at + n])
            at += n


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with contextlib.closing(Recorder()) as recorder:
        yield recorder


class Reader:
    """A program that speaks only RDA, as far as bytes go."""

    def __init__(self, server: Hub, small: bool = False) -> None:
        host, port = address(server)
        self.socket = socket.socket()
        if small:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(PATIENCE)
        self.socket.connect((host, port))

    def read(self, n: int) -> bytes:
        """The next `n` bytes, or fewer at the end."""
        got = bytearray()
        while len(got) < n and (data := self.socket.recv(min(n - len(got), 1 << 20))):
            got += data
        return bytes(got)

    def rest(self) -> bytes:
        """All there is until the connection ends."""
        return self.read(sys.maxsize)

    def close(self) -> None:
        self.socket.close()


def address(server: Hub) -> tuple[str, int]:
    host, _, port = server.wait_for(r"^ready query=\S+ publish=\S+ name=\S+ rda=(\S+)$")[1].rpartition(":")
    return host, int(port)


def status(server: Hub) -> dict[str, Any]:
    context = zmq.Context()
    query = QuerySocket(context, server.query, None)
    try:
        found: dict[str, Any] = query.ask(StatsRequest(), None, PATIENCE).header["rda_out"]
        return found
    finally:
        query.close()
        context.destroy(0)


def until(server: Hub, enough: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE
    while not enough(found := status(server)):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


@contextlib.contextmanager
def serving(recorder: Recorder, readers: int, *flags: str) -> Iterator[tuple[Hub, list[Reader]]]:
    """A hub with so many readers, whose Recorder has said nothing yet."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(hub(recorder.address, OUT, *flags))
        there = [stack.enter_context(contextlib.closing(Reader(server))) for _ in range(readers)]
        if readers:
            until(server, lambda found: found["clients"] == readers)
        recorder.accept()
        yield server, there


def framed(kind: int, body: bytes = b"") -> bytes:
    return rda.GUID + struct.pack("<II", 24 + len(body), kind) + body


def everything() -> bytes:
    """All types of messages there are, and some there are not yet."""
    start = rda.encode(rda.Start(2000.0, (0.1, 0.5), ("Fp1", "aux"))) + b""
    samples = np.array([[1, -2], [32767, -32768]], np.int16)
    whole_float = np.array([[np.nan, np.inf], [-0.0, 1e-42]], np.float32)
    markers = (rda.BlockMarker(-25, 0, -1, "Stimulus", "S  1"), rda.BlockMarker(7, 3, 1, "Comment", ""))
    return b"".join(
        [
            PYCORDER,
            start,
            rda.encode(rda.Data(1, samples, markers)),
            framed(rda.KEEP_ALIVE, b"unusual"),
            framed(4711, bytes(range(256)) * 300),  # of a Recorder to come
            rda.encode(rda.Data(2, whole_float, markers[:1])),
            framed(rda.STOP),
            start[:20],
        ]
    )


def large_blocks(first: int, n: int) -> list[bytes]:
    """Blocks of 512 KiB that count."""
    return [
        rda.encode(rda.Data(k + 1, values(k * 8192, (k + 1) * 8192, 16))) for k in range(first, first + n)
    ]


START16 = rda.encode(rda.Start(1000.0, (1.0,) * 16, tuple(f"C{i}" for i in range(16))))


# --- what they get ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("largest", [40, 3000, 1 << 20])
def test_everybody_gets_what_the_recorder_sent_to_the_byte(recorder: Recorder, largest: int) -> None:
    sent = everything()
    with serving(recorder, 4) as (server, readers):
        recorder.raw(sent, largest)
        whole = len(sent) - 20  # the last message does not come to its end
        for reader in readers:
            assert reader.read(whole) == sent[:whole]
        recorder.hang_up()
        assert [reader.rest() for reader in readers] == [b""] * 4  # nor does it leave the hub
        assert status(server)["accepted"] == 4


def test_who_comes_late_is_greeted_as_by_a_recorder(recorder: Recorder) -> None:
    with serving(recorder, 1) as (server, [first]):
        messages = []
        at = 0
        while at < len(PYCORDER):
            (size,) = struct.unpack_from("<I", PYCORDER, at + 16)
            messages.append(PYCORDER[at : at + size])
            at += size
        types = [struct.unpack_from("<I", each, 20)[0] for each in messages]
        now = types.index(4) + 3  # in the middle of the first run, and of a message
        before, torn, after = b"".join(messages[:now]), messages[now][:50], messages[now][50:]
        recorder.raw(before + torn)
        assert first.read(len(before)) == before
        with contextlib.closing(Reader(server)) as late:
            until(server, lambda found: found["clients"] == 2)
            after += b"".join(messages[now + 1 :])
            recorder.raw(after)
            opening = b"".join(
                [each for each, kind in zip(messages[:now], types, strict=False) if kind == wanted][-1]
                for wanted in (100_000, rda.INFO, rda.NEW_STATE, rda.START)
            )
            expected = opening + torn + after
            assert late.read(len(expected)) == expected
        assert first.read(len(torn + after)) == torn + after


def test_a_block_whose_start_one_has_not_seen_is_not_for_one(recorder: Recorder) -> None:
    """Behind a STOP, that is; RDA forbids it, and who has seen the START gets it all the same."""
    stray = large_blocks(0, 1)[0]
    with serving(recorder, 1) as (server, [first]):
        recorder.raw(START16 + framed(rda.STOP))
        assert first.read(len(START16) + 24) == START16 + framed(rda.STOP)
        with contextlib.closing(Reader(server)) as late:
            until(server, lambda found: found["clients"] == 2)
            recorder.raw(stray + START16 + stray)
            assert first.read(len(stray)) == stray
            for reader in (first, late):
                assert reader.read(len(START16) + len(stray)) == START16 + stray


class Notebook:
    """In place of a process."""

    def __init__(self) -> None:
        self.bytes = b""

    def pass_on(self, received: memoryview) -> None:
        self.bytes += received

    def lost(self) -> None:
        self.bytes += b"|"


def test_a_turn_of_the_hub_that_is_cut_short_hands_on_all_it_received_once() -> None:
    one, two, three = START16, framed(rda.KEEP_ALIVE), framed(rda.STOP)
    ours, theirs = socket.socketpair()
    link = RecorderLink("", 0, lambda: None)
    notebook = Notebook()
    link.out = notebook  # type: ignore[assignment]
    link.use(ours)
    with theirs:
        theirs.sendall(one + two + three[:10])
        turn = link.receive()
        assert isinstance(next(turn), rda.Start)
        assert notebook.bytes == b""  # a block has gone its own way before
        turn.close()  # type: ignore[attr-defined]
        assert notebook.bytes == one + two + three[:10]
        assert [type(each) for each in link.receive()] == [rda.KeepAlive]
        theirs.sendall(three[10:])
        assert [type(each) for each in link.receive()] == [rda.Stop]
        link.close()
    assert notebook.bytes == one + two + three + b"|"


def test_a_second_hub_behind_the_first_has_the_same(recorder: Recorder) -> None:
    with (
        hub(recorder.address, OUT) as server,
        hub(":".join(map(str, address(server))), OUT) as second,
        hub(":".join(map(str, address(second)))) as third,
        contextlib.ExitStack() as stack,
    ):
        until(second, lambda found: found["clients"] == 1)
        until(server, lambda found: found["clients"] == 1)
        recorder.start(3)
        clients = [stack.enter_context(Client()) for _ in range(3)]
        for client, each in zip(clients, (server, second, third), strict=True):
            client.connect(each.query)
        chance = random.Random(7)
        for k in range(300):
            recorder.block(
                chance.randint(1, 40),
                (rda.BlockMarker(chance.randint(-3, 50), 1, -1, "Stimulus", f"S{k:3}"),) * (k % 3),
            )
        recorder.stop()
        recorder.start(5)
        recorder.blocks(10)
        found = []
        for client in clients:
            client.start_streaming()
            assert client.wait(recorder.index - 1, recorder.index, timeout=PATIENCE) is not None
            split = recorder.index - 200
            np.testing.assert_array_equal(client.read(0, split), values(0, split, 3))
            np.testing.assert_array_equal(
                client.read(split, recorder.index), values(split, recorder.index, 5)
            )
            marks = client.markers(-100, recorder.index + 100)
            found.append([(mark.index, mark.points, mark.type, mark.description) for mark in marks])
            ends = [(segment.stop, segment.ended) for segment in client.segments]
            assert ends == [(split, "stop"), (None, None)]
            assert client.gaps(0, recorder.index) == []
        assert len(found[0]) == 300
        assert found[0] == found[1] == found[2]


# --- when the Recorder goes ------------------------------------------------------------------------------


def test_a_recorder_that_goes_ends_every_connection_behind_a_whole_message(recorder: Recorder) -> None:
    one = START16 + b"".join(large_blocks(0, 2))
    another = rda.encode(rda.Start(500.0, (2.0,), ("X",))) + framed(rda.STOP)
    with serving(recorder, 2) as (server, readers):
        recorder.raw(one + large_blocks(2, 1)[0][:100_000])
        for reader in readers:
            assert reader.read(len(one)) == one
        recorder.hang_up()
        assert [reader.rest() for reader in readers] == [b"", b""]
        with contextlib.closing(Reader(server)) as waits:  # there is no Recorder yet
            recorder.accept()  # it is back
            recorder.raw(another)
            assert waits.read(len(another)) == another  # nothing of the connection before
            assert "is lost" not in server.stderr


def test_what_is_not_rda_is_kept_from_everybody(recorder: Recorder) -> None:
    good = START16 + framed(rda.KEEP_ALIVE)
    with serving(recorder, 2) as (server, readers):
        recorder.raw(good + b"HTTP/1.1 400 Bad Request\r\n\r\n")
        assert [reader.rest() for reader in readers] == [good, good]
        server.wait_for("not RDA", "stderr")


def test_a_client_has_time_to_take_what_waits_for_it_when_the_recorder_goes(recorder: Recorder) -> None:
    sent = START16 + b"".join(large_blocks(0, 12))  # 6 MiB: more than the sockets hold
    with serving(recorder, 1) as (server, [other]), contextlib.closing(Reader(server, small=True)) as slow:
        until(server, lambda found: found["clients"] == 2)
        recorder.raw(sent)
        assert other.read(len(sent)) == sent
        recorder.hang_up()
        assert other.rest() == b""
        assert slow.rest() == sent


def test_the_end_of_the_hub_is_the_end_of_the_stream(recorder: Recorder) -> None:
    with serving(recorder, 2) as (server, readers):
        recorder.raw(START16)
        assert readers[0].read(len(START16)) == START16
        server.send(signal.SIGTERM)
        assert readers[0].rest() == b""
        assert server.finish() == 0  # with a client that has not closed its side
        assert readers[1].rest() == START16


# --- that they harm nobody -------------------------------------------------------------------------------


def process_of(server: Hub) -> int:
    """Process id of the hub's one child."""
    tasks = Path(f"/proc/{server.process.pid}/task")
    found = {int(pid) for each in tasks.iterdir() for pid in (each / "children").read_text().split()}
    (pid,) = found
    return pid


@contextlib.contextmanager
def witnessed(server: Hub, recorder: Recorder) -> Iterator[None]:
    """A reader of the hub's own gets every sample of what is sent here, and nothing else."""
    with Client(buffer_size=100_000) as client:
        client.connect(server.query)
        client.start_streaming(timeout=PATIENCE)
        yield
        stop = recorder.index
        assert client.wait(stop - 1, stop, timeout=PATIENCE) is not None
        for start in range(0, stop, 8192):
            rows = client.read(start, min(start + 8192, stop))
            np.testing.assert_array_equal(rows, values(start, start + len(rows), 16))
        assert client.gaps(0, stop) == []


def send_large(recorder: Recorder, n: int) -> bytes:
    """Send as many large blocks, and say what was sent."""
    first = recorder.index // 8192
    sent = b"".join(large_blocks(first, n))
    recorder.connection.sendall(sent)
    recorder.index += n * 8192
    return sent


def test_a_client_that_reads_nothing_is_disconnected_and_nobody_else_notices(recorder: Recorder) -> None:
    with serving(recorder, 3, "--history=3600s") as (server, readers):
        recorder.raw(START16)
        with contextlib.closing(Reader(server, small=True)) as stuck, witnessed(server, recorder):
            until(server, lambda found: found["clients"] == 4)
            sent = START16
            assert {reader.read(len(sent)) for reader in readers} == {sent}
            deadline = time.monotonic() + PATIENCE
            while "MiB behind" not in server.stderr:
                more = send_large(recorder, 4)
                sent += more
                assert [reader.read(len(more)) == more for reader in readers] == [True] * 3
                server._read(0)
                assert time.monotonic() < deadline, status(server)
            assert re.search(
                r"WARNING .*RDA client 127\S+ is disconnected: it is 16 MiB behind", server.stderr
            )
            found = status(server)
            assert (found["clients"], found["cut"], found["restarts"]) == (3, 1, 0)
            assert len(sent) < 8 * limits.RDA_OUT_CLIENT_BYTES
            with contextlib.suppress(ConnectionResetError):
                got = stuck.rest()  # what it had been given is whole up to there
                assert sent.startswith(got)


@LINUX
def test_a_process_that_is_killed_is_replaced_and_clients_come_back(recorder: Recorder) -> None:
    with serving(recorder, 2) as (server, readers):
        recorder.raw(START16)
        recorder.index = 0
        with witnessed(server, recorder):
            sent = START16 + send_large(recorder, 1)
            assert [reader.read(len(sent)) == sent for reader in readers] == [True] * 2
            os.kill(process_of(server), signal.SIGKILL)
            for reader in readers:
                with contextlib.suppress(ConnectionResetError):
                    assert reader.rest() == b""
            meanwhile = send_large(recorder, 2)
            assert meanwhile
            with contextlib.closing(Reader(server)) as back:  # the port is there all the time
                assert back.read(len(START16)) == START16
                now = until(server, lambda found: found["clients"] == 1)
                assert (now["restarts"], now["accepted"]) == (1, 3)
                more = send_large(recorder, 2)
                got = back.read(len(more))
                assert (meanwhile + more).endswith(got)
                assert got == more
        server.wait_for("the endpoint for RDA has ended", "stderr")


@LINUX
def test_a_process_that_stands_still_is_ended_and_the_hub_never_waits(recorder: Recorder) -> None:
    with serving(recorder, 1, "--history=3600s") as (server, [reader]):
        recorder.raw(START16)
        with witnessed(server, recorder):
            assert reader.read(len(START16)) == START16
            os.kill(process_of(server), signal.SIGSTOP)
            sent = START16 + send_large(recorder, 40)  # 20 MiB
            server.wait_for("the endpoint for RDA is 8 MiB behind", "stderr")
            with contextlib.suppress(ConnectionResetError):
                got = reader.rest()
                assert sent.startswith(START16 + got)
        with contextlib.closing(Reader(server)) as back:
            assert back.read(len(START16)) == START16
            more = send_large(recorder, 1)
            assert back.read(len(more)) == more


@LINUX
def test_it_ends_with_a_hub_that_is_killed(recorder: Recorder) -> None:
    server = Hub(recorder.address, OUT)
    try:
        with contextlib.closing(Reader(server)) as reader:
            until(server, lambda found: found["clients"] == 1)
            process = process_of(server)
            server.send(signal.SIGKILL)
            server.finish()
            assert reader.rest() == b""
            deadline = time.monotonic() + PATIENCE
            while Path(f"/proc/{process}/cmdline").exists() and Path(f"/proc/{process}/cmdline").read_bytes():
                assert time.monotonic() < deadline
                time.sleep(0.02)
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(address(server)).close()
    finally:
        server.close()
        for left in Path("/dev/shm").glob(f"rdahub-{server.name}*"):  # noqa: S108 - it could not
            left.unlink()


def test_more_connections_than_there_are_places_are_closed_at_once(recorder: Recorder) -> None:
    most = limits.RDA_OUT_CLIENTS
    with serving(recorder, 0) as (server, _), contextlib.ExitStack() as stack:
        readers = [stack.enter_context(contextlib.closing(Reader(server))) for _ in range(most + 20)]
        found = until(server, lambda found: found["accepted"] + found["refused"] == most + 20)
        assert (found["clients"], found["refused"]) == (most, 20)
        recorder.raw(START16)
        got = []
        for reader in readers:
            reader.socket.settimeout(PATIENCE)
            try:
                got.append(reader.read(len(START16)))
            except ConnectionResetError:
                got.append(b"")
        assert sorted(got) == [b""] * 20 + [START16] * most
        assert server.stderr.count("is turned away") <= limits.SELDOM_LINES
        for reader in readers:
            reader.close()
        until(server, lambda found: found["clients"] == 0)
        with contextlib.closing(Reader(server)) as again:
            assert again.read(len(START16)) == START16


def test_what_clients_say_is_not_heard_and_not_without_end(recorder: Recorder) -> None:
    with serving(recorder, 2) as (server, [talker, quiet]):
        talker.socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
        recorder.raw(START16)
        assert talker.read(len(START16)) == START16
        with contextlib.suppress(ConnectionError):
            for _ in range(3):
                talker.socket.sendall(bytes(limits.RDA_OUT_HEARD_BYTES))
        server.wait_for("is disconnected: it has sent", "stderr")
        assert quiet.read(len(START16)) == START16
        assert status(server)["clients"] == 1


# --- mistakes --------------------------------------------------------------------------------------------


def refused(flag: str, code: int) -> str:
    free = "tcp://127.0.0.1:0"
    command = Child(
        "serve", "--recorder=127.0.0.1:1", "--query", free, "--publish", free, "--name", unique_name(), flag
    )  # fmt: skip
    try:
        assert command.finish() == code, command.stderr
        assert command.stdout == ""
        assert command.stderr.count("\n") == 1, command.stderr
        return command.stderr
    finally:
        command.close()


def test_mistakes_are_one_line() -> None:
    assert "--rda-out: an address to listen on is HOST:PORT" in refused("--rda-out=51244", 2)
    assert "RDA has neither password nor encryption" in refused("--rda-out=0.0.0.0:0", 2)
    assert "--rda-out nowhere.invalid:0" in refused("--rda-out=nowhere.invalid:0", 2)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        said = refused(f"--rda-out={where}", 1)
    assert said == f"rdahub serve: --rda-out {where}: Address already in use\n"


def test_a_network_gets_it_only_when_that_is_meant(recorder: Recorder) -> None:
    with hub(recorder.address, "--rda-out=0.0.0.0:0", "--insecure") as server:
        assert address(server)[0] == "0.0.0.0"  # noqa: S104
        with contextlib.closing(Reader(server)) as reader:
            recorder.raw(START16)
            assert reader.read(len(START16)) == START16


def test_without_it_there_is_no_process_and_no_port(recorder: Recorder) -> None:
    with hub(recorder.address) as server:
        assert status(server) is None
        assert "rda=" not in server.stdout
