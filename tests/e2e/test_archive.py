"""``serve --archive``: samples that memory holds no longer, and those of a hub that has gone, bit by bit.

The Recorder's sample i of channel c is i + c / 8 for ever, so every row says which one it is.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mne
import msgpack
import numpy as np
import pytest
import zmq
from proxy import poll

from on_a_loop import OnALoop
from processes import PATIENCE, Child, Hub, hub, leftovers, unique_name
from rdahub import rda
from rdahub_client import (
    Block,
    Client,
    Gap,
    LocalClient,
    NotYetAvailable,
    Overwritten,
    RequestRefused,
    SegmentChanged,
    SegmentEnd,
    SegmentStart,
)
from rdahub_client.wire import decode_reply
from scripted import ScriptedRecorder, values

CHANNELS = 16
LOT = 4_000  # samples sent at a time, a quarter MiB; the history holds twice as many
HISTORY = ("--history-bytes", "512KiB")

MAKE: dict[str, Callable[[Hub], Any]] = {
    "network": lambda _: Client(100),
    "local": lambda server: LocalClient(server.name),
    "asyncio": lambda _: OnALoop(100),
}


@pytest.fixture
def recorder() -> Iterator[ScriptedRecorder]:
    scripted = ScriptedRecorder()
    yield scripted
    scripted.close()


def status(query: str) -> dict[str, Any]:
    """The hub's own answer, without a process in between."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        socket = context.socket(zmq.REQ)
        socket.connect(query)
        socket.send(msgpack.packb({"op": "stats", "id": 1}))
        assert socket.poll(30_000)
        reply = socket.recv()
        found: dict[str, Any] = msgpack.unpackb(reply[8 : 8 + int.from_bytes(reply[4:8], "little")])
        return found
    finally:
        context.destroy(linger=0)


@contextlib.contextmanager
def reading(server: Hub, kind: str = "network") -> Iterator[Any]:
    with MAKE[kind](server) as client:
        if kind != "local":
            client.connect(server.query)
        client.start_streaming(30)
        yield client


class Feed:
    """A Recorder that sends to a hub in lots that are on disk before the next one comes."""

    def __init__(self, recorder: ScriptedRecorder, server: Hub) -> None:
        self.recorder, self.server = recorder, server

    def archive(self) -> dict[str, Any]:
        found: dict[str, Any] = status(self.server.query)["archive"]
        return found

    def lots(self, n: int) -> None:
        for _ in range(n):
            for _ in range(LOT // 100):
                self.recorder.block(100)
            self.settle()

    def settle(self) -> None:
        poll(lambda: bool(self.archive()["stop"] == self.recorder.index), "all of it is on disk")


def stimulus(position: int, text: str) -> rda.BlockMarker:
    return rda.BlockMarker(position, 1, -1, "Stimulus", text)


def record(recorder: ScriptedRecorder, feed: Feed) -> None:
    """Two segments of different layouts with a gap and markers, four times what memory holds."""
    recorder.start(CHANNELS)
    feed.lots(1)
    recorder.block(100, (stimulus(7, "S  1"), stimulus(99, "S  2")))
    recorder.counter += 2
    recorder.index += 200  # two blocks are missing
    feed.lots(1)
    feed.lots(3)
    recorder.stop()
    recorder.start(3)
    feed.lots(1)
    recorder.block(100, (stimulus(0, "S  3"),))
    feed.settle()


MARK = LOT  # where the block with markers begins
HOLE = range(MARK + 100, MARK + 300)
TURN = 5 * LOT + 300  # where the second segment begins
STOP = 6 * LOT + 400


def expected(start: int, stop: int) -> Any:
    found = values(start, stop, CHANNELS if stop <= TURN else 3)
    found[max(HOLE.start - start, 0) : max(HOLE.stop - start, 0)] = np.nan
    return found


def check(source: Any) -> None:
    """Everything that `record` made, however it is asked for."""
    assert source.read(0, TURN).tobytes() == expected(0, TURN).tobytes(), "some pages, with a gap in them"
    assert source.read(TURN, STOP).tobytes() == expected(TURN, STOP).tobytes()
    assert source.get_data(MARK + 7, MARK + 8).tobytes() == expected(MARK + 7, MARK + 8).tobytes()
    assert source.get_data(TURN - 1, TURN + 1) is None
    first, second = source.segments
    assert (first.start, first.stop, first.ended, first.n_channels) == (0, TURN, "stop", CHANNELS)
    assert (second.start, second.n_channels) == (TURN, 3)
    assert [(m.index, m.description) for m in source.markers(0, STOP)] == [
        (MARK + 7, "S  1"), (MARK + 99, "S  2"), (STOP - 100, "S  3"),
    ]  # fmt: skip
    assert source.gaps(0, STOP) == [Gap(HOLE.start, HOLE.stop, "counter")]
    with pytest.raises(SegmentChanged):
        source.read(TURN - 1, TURN + 1)
    with pytest.raises(NotYetAvailable):
        source.read(STOP - 1, STOP + 1)


def check_stream(client: Any) -> None:
    """All events from the oldest sample on."""
    events, position, marked = client.stream("oldest", timeout=30), 0, []
    told: list[Any] = []
    while position < STOP:
        event = next(events)
        if isinstance(event, Block):
            assert event.start == position
            assert event.samples.tobytes() == expected(event.start, event.stop).tobytes()
            position = event.stop
            marked += [marker.index for marker in event.markers]
            continue
        if isinstance(event, Gap):
            assert event.start == position
            position = event.stop
        told.append(event)
    assert marked == [MARK + 7, MARK + 99, STOP - 100]
    assert [type(each) for each in told] == [SegmentStart, Gap, SegmentEnd, SegmentStart]


def test_what_memory_holds_no_longer_is_read_from_disk_to_the_last_bit(
    recorder: ScriptedRecorder, tmp_path: Path
) -> None:
    with hub(recorder.address, "--archive", str(tmp_path), *HISTORY) as server:
        feed = Feed(recorder, server)
        record(recorder, feed)
        found = status(server.query)
        assert found["first_available"] == 0
        assert found["archive"]["first"] == 0
        assert found["archive"]["holes"] == 0
        assert found["archive"]["bytes"] == 4 * (CHANNELS * TURN + 3 * (STOP - TURN))
        for kind in MAKE:
            with reading(server, kind) as client:
                poll(lambda: bool(client.first_available == 0), "the reader knows how far back it goes")
                check(client)
                check_stream(client)
        assert feed.archive()["answers"] > 3 * 3
        # Of the present instance too, as of an earlier one.
        with reading(server) as client:
            check(client.archive(client.instance))
    instance = next(tmp_path.iterdir())
    assert sorted(each.name for each in instance.iterdir()) == [
        "journal", "samples-000000000000-16.f32", f"samples-{TURN:012d}-3.f32",
    ]  # fmt: skip


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_an_earlier_instance_stays_readable_under_its_id(
    recorder: ScriptedRecorder, tmp_path: Path, how: signal.Signals
) -> None:
    first = Hub(recorder.address, "--archive", str(tmp_path), *HISTORY)
    try:
        record(recorder, Feed(recorder, first))
        if how is signal.SIGTERM:
            recorder.block(20)  # the hub's end is near, and this is not on disk yet
            poll(lambda: status(first.query)["next_index"] == STOP + 20, "the hub has it")
        first.send(how)
        first.process.wait(30)
        assert leftovers(first.name) == [] or how is signal.SIGKILL
    finally:
        first.close()
    recorder.hang_up()
    recorder.index = 0
    with hub(recorder.address, "--archive", str(tmp_path), *HISTORY, name=first.name) as second:
        recorder.start(2)
        recorder.block()
        with reading(second) as client, OnALoop(100) as other:
            new, old = client.instances()
            assert new.id == client.instance
            assert (old.name, old.recorder) == (first.name, recorder.address)
            assert old.first_available == 0
            past = client.archive(old)
            if how is signal.SIGTERM:
                assert old.next_index == STOP + 20, "a hub that ends well leaves nothing out"
                assert past.read(STOP, STOP + 20).tobytes() == values(STOP, STOP + 20, 3).tobytes()
            else:
                assert old.next_index == STOP
                check(past)
            assert past.segments[-1].ended == "lost"
            assert past.segments[-1].stop == old.next_index == past.last_sample
            other.connect(second.query)
            assert [each.id for each in other.instances()] == [new.id, old.id]
            again = other.archive(old.id)
            found = other._runner.run(again.read(0, TURN))
            assert found.tobytes() == expected(0, TURN).tobytes()
            assert client.read(0, 20).tobytes() == values(0, 20, 2).tobytes(), "and so is the present"
            for name in ("old.npz", "old.fif"):
                dump = Child(
                    "dump", second.query, "--instance", old.id, "--start", "0", "--stop", str(TURN),
                    "-o", str(tmp_path / name),
                )  # fmt: skip
                try:
                    assert dump.finish() == 0, dump.stderr
                finally:
                    dump.close()
            raw = mne.io.read_raw_fif(tmp_path / "old.fif", verbose="error")
            volts = expected(0, TURN).astype(np.float64) * 1e-6
            assert raw.get_data().T.tobytes() == volts.tobytes()
            with np.load(tmp_path / "old.npz") as saved:
                assert saved["samples"].tobytes() == expected(0, TURN).tobytes()
                assert saved["marker_index"].tolist() == [MARK + 7, MARK + 99]
                assert saved["gaps"].tolist() == [[HOLE.start, HOLE.stop]]
                assert str(saved["instance"]) == old.id
            with pytest.raises(NotYetAvailable) as beyond:
                past.read(old.next_index - 1, old.next_index + 1)
            assert (beyond.value.first_available, beyond.value.next_index) == (0, old.next_index)
            with pytest.raises(RequestRefused, match="no instance"):
                client.archive("../" + old.id)


def test_a_hub_whose_archive_dies_lives_on_and_says_so(recorder: ScriptedRecorder, tmp_path: Path) -> None:
    with hub(recorder.address, "--archive", str(tmp_path), *HISTORY) as server:
        feed = Feed(recorder, server)
        recorder.start(CHANNELS)
        feed.lots(4)
        (child,) = children_of(server)
        with reading(server) as client:
            assert client.read(0, 100).tobytes() == values(0, 100, CHANNELS).tobytes()
            os.kill(child, signal.SIGKILL)
            server.wait_for("the archive has ended", "stderr")
            assert not is_answered_by_the_process(client)
            recorder.block(100)
            n = recorder.index
            assert client.wait(n - 100, n, timeout=30).tobytes() == values(n - 100, n, CHANNELS).tobytes()
            poll(lambda: is_answered_by_the_process(client), "it is started again")
            feed.settle()
            assert feed.archive()["holes"] == 0, "it went on where it was stopped"
            for start in range(0, n, 4000):
                stop = min(start + 4000, n)
                assert client.read(start, stop).tobytes() == values(start, stop, CHANNELS).tobytes()


def test_a_disk_that_stands_still_is_told_to_who_asks_and_to_nobody_else(
    recorder: ScriptedRecorder, tmp_path: Path
) -> None:
    with hub(recorder.address, "--archive", str(tmp_path), *HISTORY) as server:
        feed = Feed(recorder, server)
        recorder.start(CHANNELS)
        feed.lots(4)
        (child,) = children_of(server)
        with reading(server) as client, reading(server) as other:
            assert client.read(0, 100).tobytes() == values(0, 100, CHANNELS).tobytes()
            os.kill(child, signal.SIGSTOP)  # a process that waits for its disk can do as little
            try:
                assert not is_answered_by_the_process(client)
                recorder.block()
                n = recorder.index
                assert other.wait(n - 20, n, timeout=30) is not None
            finally:
                os.kill(child, signal.SIGCONT)
            poll(lambda: is_answered_by_the_process(client), "it is answered again")
        assert "Traceback" not in server.stderr


def is_answered_by_the_process(client: Client) -> bool:
    """What is asked for by its instance the hub never reads by itself."""
    try:
        samples = client.archive(client.instance).read(0, 100)
    except RequestRefused as error:
        return "does not answer" not in str(error)
    assert samples.tobytes() == values(0, 100, CHANNELS).tobytes()
    return True


def reads_at_once(folder: Path) -> bool:
    """Whether this file system can tell what of a file is in memory."""
    path = folder / "probe"
    path.write_bytes(b"something")
    with path.open("rb") as file:
        try:
            return os.preadv(file.fileno(), [bytearray(9)], 0, os.RWF_NOWAIT) == 9
        except (AttributeError, OSError):
            return False
        finally:
            path.unlink()


def test_the_hub_reads_by_itself_what_it_need_not_wait_for_and_nothing_else(
    recorder: ScriptedRecorder, tmp_path: Path
) -> None:
    if not reads_at_once(tmp_path):
        pytest.skip("this file system cannot read without waiting")
    with hub(recorder.address, "--archive", str(tmp_path), *HISTORY) as server:
        feed = Feed(recorder, server)
        record(recorder, feed)
        (child,) = children_of(server)
        with reading(server) as client:
            (first, *_) = client.segments
            os.kill(child, signal.SIGSTOP)
            try:
                read = client.read(0, 4000)
                assert read.tobytes() == values(0, 4000, CHANNELS).tobytes()
                for path in tmp_path.glob("*/samples-*"):
                    with path.open("rb") as file:
                        os.fsync(file.fileno())
                        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                with pytest.raises(RequestRefused, match="does not answer"):
                    client.read(0, 4000)
            finally:
                os.kill(child, signal.SIGCONT)
            stop = first.stop
            assert stop is not None
            poll(lambda: client.get_data(0, 100) is not None, "it is answered again")
            (gap,) = client.gaps(0, stop)
            for begin, end in ((0, gap.start), (gap.stop, stop)):
                assert client.read(begin, end).tobytes() == values(begin, end, CHANNELS).tobytes()
            with pytest.raises(SegmentChanged):
                client.read(0, stop + 10)


def children_of(server: Hub) -> list[int]:
    pid = server.process.pid
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_what_came_faster_than_it_could_be_written_is_a_hole_with_a_name(
    recorder: ScriptedRecorder, tmp_path: Path
) -> None:
    with hub(recorder.address, "--archive", str(tmp_path), *HISTORY) as server:
        feed = Feed(recorder, server)
        recorder.start(CHANNELS)
        feed.lots(1)
        (child,) = children_of(server)
        os.kill(child, signal.SIGSTOP)
        for _ in range(5 * LOT // 100):
            recorder.block(100)
        n = recorder.index
        poll(lambda: status(server.query)["next_index"] == n, "the hub has it all")
        os.kill(child, signal.SIGCONT)
        feed.settle()
        server.wait_for("fell behind", "stderr")
        assert feed.archive()["holes"] == 1
        feed.lots(3)
        with reading(server) as client:
            first = client.first_available
            assert LOT < first < n, "what can be had in one piece begins behind the hole"
            with pytest.raises(Overwritten):
                client.read(0, 10)
            assert client.read(first, n).tobytes() == values(first, n, CHANNELS).tobytes()
            past = client.archive(client.instance)
            assert past.gaps(0, n) == [Gap(LOT, first, "not_archived")]
            assert past.read(0, LOT).tobytes() == values(0, LOT, CHANNELS).tobytes()
            with pytest.raises(Overwritten, match="not archived"):
                past.read(LOT - 1, LOT + 1)


def test_a_disk_with_too_little_room_ends_the_archive_and_not_the_hub(
    recorder: ScriptedRecorder, tmp_path: Path
) -> None:
    with hub(recorder.address, "--archive", str(tmp_path), "--archive-reserve", "8EiB") as server:
        recorder.start()
        server.wait_for("archive .* MiB are free where it lies", "stderr")
        recorder.blocks(5)
        with reading(server) as client:
            assert client.wait(0, 100, timeout=30).tobytes() == values(0, 100, 2).tobytes()
        assert "stay free" in status(server.query)["archive"]["trouble"]


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_a_folder_that_cannot_be_used_is_one_line(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("in the way")
    free = "tcp://127.0.0.1:0"
    server = Child(
        "serve", "--recorder", "127.0.0.1:1", "--query", free, "--publish", free, "--name", unique_name(),
        "--archive", str(tmp_path / where),
    )  # fmt: skip
    try:
        assert server.finish() == 1
        assert server.stderr.startswith(f"rdahub serve: --archive {tmp_path / where}")
        assert len(server.stderr.splitlines()) == 1
    finally:
        server.close()


def test_a_hub_without_an_archive_knows_only_itself(recorder: ScriptedRecorder) -> None:
    with hub(recorder.address) as server:
        recorder.start()
        recorder.block()
        with reading(server) as client:
            assert client.wait(0, 20, timeout=30) is not None
            (this,) = client.instances()
            assert (this.id, this.name, this.runs) == (client.instance, server.name, ((0, 20),))
            with pytest.raises(RequestRefused, match="--archive"):
                client.archive(client.instance)
        assert status(server.query)["archive"] is None


@pytest.mark.parametrize("op", ["range", "past_range"])
def test_who_asks_for_nothing_does_not_end_the_archive(
    recorder: ScriptedRecorder, tmp_path: Path, op: str
) -> None:
    with hub(recorder.address, "--archive", str(tmp_path), *HISTORY) as server:
        feed = Feed(recorder, server)
        recorder.start(CHANNELS)
        feed.lots(3)
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            with reading(server) as client:
                asking = context.socket(zmq.DEALER)
                asking.connect(server.query)
                asking.send(
                    msgpack.packb({"op": op, "id": 1, "instance": client.instance, "start": 5, "stop": 5})
                )
                assert asking.poll(30_000)
                page = decode_reply(asking.recv()).page()
            assert (page.start, page.stop, page.samples.shape) == (5, 5, (0, CHANNELS))
        finally:
            context.destroy(linger=0)


@pytest.fixture
def freezing(tmp_path: Path) -> Iterator[Path]:
    """A file system that `fsfreeze` has stand still: who writes to it cannot even be killed."""
    image, folder = tmp_path / "image", tmp_path / "disk"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(16 << 20)
    for command in (["mkfs.ext4", "-q", str(image)], ["mount", "-o", "loop", str(image), str(folder)]):
        if sys.platform != "linux" or shutil.which("fsfreeze") is None or shutil.which("mkfs.ext4") is None:
            pytest.skip("needs Linux with fsfreeze and mkfs.ext4")
        if subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip("needs the right to mount an image")
    try:
        yield folder
    finally:
        subprocess.run(["fsfreeze", "-u", folder], check=False, capture_output=True)
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_hub_ends_though_its_archive_waits_for_the_disk(recorder: ScriptedRecorder, freezing: Path) -> None:
    server = Hub(recorder.address, "--archive", str(freezing), "--archive-reserve", "1MiB", *HISTORY)
    try:
        feed = Feed(recorder, server)
        recorder.start(CHANNELS)
        feed.lots(1)
        subprocess.run(["fsfreeze", "-f", freezing], check=True)
        recorder.block(100)
        (child,) = children_of(server)
        poll(lambda: "\nState:\tD" in Path(f"/proc/{child}/status").read_text(), "it waits for the disk")
        server.send(signal.SIGTERM)
        assert server.process.wait(PATIENCE) == 0
        assert Path(f"/proc/{child}").exists(), "the disk still stands"
        assert leftovers(server.name) == []
    finally:
        subprocess.run(["fsfreeze", "-u", freezing], check=False)
        server.close()
    poll(lambda: not Path(f"/proc/{child}").exists(), "it has ended")


def test_who_asks_the_archive_without_end_keeps_nobody_else_waiting(
    recorder: ScriptedRecorder, tmp_path: Path
) -> None:
    with hub(recorder.address, "--archive", str(tmp_path), *HISTORY) as server:
        feed = Feed(recorder, server)
        recorder.start(CHANNELS)
        feed.lots(4)
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            greedy = context.socket(zmq.DEALER)
            greedy.linger = 0
            greedy.connect(server.query)
            with reading(server) as client:
                instance = client.instance
                for number in range(2000):
                    op = {"op": "past_range", "instance": instance, "start": 0, "stop": LOT}
                    greedy.send(msgpack.packb({**op, "id": number}))
                assert client.read(0, 3 * LOT).tobytes() == values(0, 3 * LOT, CHANNELS).tobytes()
                recorder.block()
                n = recorder.index
                assert client.wait(n - 20, n, timeout=30) is not None
                feed.settle()
        finally:
            context.destroy(linger=0)
