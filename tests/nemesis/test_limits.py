"""Too little memory, hubs killed again and again, and local readers at the very edge of what is written.

Rule: the limit is real (a small tmpfs, a memory group, an address space, SIGKILL) and the hub is a real
process; whatever a reader is given is held against what the Recorder sent. Full history or short, shared or
not, killed or full: a sample is right, or it is not given.
Not here: what `test_shared`, `test_memory` and `test_ring` prove of the files and the ring by themselves.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import hashlib
import mmap
import os
import random
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pytest
from forked import open_fds
from proxy import poll
from test_stream_checklist import Told, stats

from processes import PATIENCE, Child, Hub, hub, leftovers, unique_name
from rdahub import rda
from rdahub_client import Client, LocalClient, SharedMemoryError
from rdahub_client.ring import NEXT, RESERVED, RingReader
from rdahub_client.shared import default_directory
from scripted import ScriptedRecorder, values

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux's shared memory, groups and /proc")

KILLS: Final = int(os.environ.get("NEMESIS_KILLS", "8"))
KILLS_IN_MID_WRITE: Final = 2 * KILLS
MIB: Final = 1 << 20
FREE: Final = "tcp://127.0.0.1:0"


@pytest.fixture
def recorder() -> Iterator[ScriptedRecorder]:
    scripted = ScriptedRecorder()
    yield scripted
    scripted.close()


@contextlib.contextmanager
def small_folder(size: int) -> Iterator[Path]:
    """A tmpfs of so many bytes, with a path short enough for sockets."""
    path = Path(tempfile.mkdtemp(prefix="rda"))
    options = f"size={size}"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], check=False, capture_output=True
    )
    try:
        if done.returncode:
            pytest.skip("needs the right to mount a small tmpfs (root)")
        try:
            yield path
        finally:
            subprocess.run(["umount", "-l", path], check=True)
    finally:
        path.rmdir()


def fill(folder: Path) -> Path:
    """Somebody else takes all that is left."""
    hog = folder / "hog"
    with hog.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return hog


def log_of(server: Hub) -> str:
    while server._selector.select(0) and server._read(0):
        pass
    return server.stderr


@contextlib.contextmanager
def joined(server: Hub) -> Iterator[Client]:
    with Client(buffer_size=64) as client:  # so that most comes from the hub's history
        client.connect(server.query, timeout=PATIENCE)
        client.start_streaming(timeout=PATIENCE)
        yield client


def history_is_exact(client: Client, first: int, stop: int, n_channels: int) -> None:
    poll(lambda: client.last_sample == stop, f"samples up to {stop}")
    for start in range(first, stop, 5000):
        end = min(start + 5000, stop)
        np.testing.assert_array_equal(client.read(start, end), values(start, end, n_channels))


# --- too little shared memory ---


def test_a_new_layout_has_the_memory_of_the_old_one_where_there_is_not_enough_for_both(
    recorder: ScriptedRecorder,
) -> None:
    with (
        small_folder(16 * MIB) as folder,
        hub(recorder.address, "--shm-dir", str(folder), "--history-bytes", "12MB") as server,
    ):
        recorder.start(n_channels=32)
        recorder.blocks(100)
        with joined(server) as client:
            poll(lambda: client.last_sample == 2000, "all of the first layout")
            recorder.start(n_channels=64)
            recorder.blocks(100)
            history_is_exact(client, 2000, 4000, 64)
            assert client.info().history_seconds > 0.95 * 12e6 / (64 * 4) / 1000
            assert "instead of" not in log_of(server)


@pytest.mark.parametrize(("size", "shared"), [(1, False), (2, False), (8, True)])
def test_with_little_shared_memory_the_history_is_shorter_or_private_and_exact(
    recorder: ScriptedRecorder, size: int, shared: bool
) -> None:
    wanted = 600_000
    with small_folder(size * MIB) as folder:
        with hub(recorder.address, "--shm-dir", str(folder)) as server:
            recorder.start(n_channels=64)  # 600 s are 154 MB
            recorder.blocks(1200)  # 6.1 MB: comes round in what 8 MiB can hold
            with joined(server) as client:
                poll(lambda: int(stats(server)["next_index"]) == 24_000, "the hub has all")
                first = int(stats(server)["first_available"])
                history_is_exact(client, first, 24_000, 64)
                log = log_of(server)
                needed, free = re.findall(r"(\d+) bytes needed, (\d+) free", log)[0]
                assert int(needed) >= wanted * 64 * 4
                assert 0 < int(free) < size * MIB
                seconds = client.info().history_seconds
                if shared:
                    held = re.search(r"history holds (\d+) samples instead of 600000", log)
                    assert held is not None, log
                    assert first == 24_000 - int(held[1]) > 0
                    assert seconds == int(held[1]) / 1000
                    with LocalClient(server.name, folder) as local:
                        local.start_streaming(timeout=PATIENCE)
                        np.testing.assert_array_equal(local.read(20_000, 24_000), values(20_000, 24_000, 64))
                else:
                    assert "history stays in the hub's own memory" in log
                    assert first == 0
                    assert seconds >= 600
                    with LocalClient(server.name, folder) as local:
                        with contextlib.suppress(SharedMemoryError):
                            local.start_streaming(timeout=PATIENCE)
                        with pytest.raises(SharedMemoryError, match=r"use Client|not streaming"):
                            local.read(0, 20)
        assert "Traceback" not in server.stderr
        assert list(folder.iterdir()) == []


def test_shared_memory_that_somebody_fills_up_costs_the_next_layout_its_sharing_and_nothing_else(
    recorder: ScriptedRecorder,
) -> None:
    with small_folder(8 * MIB) as folder, hub(recorder.address, "--shm-dir", str(folder)) as server:
        recorder.start(n_channels=2)  # 600 s are 4.8 MB
        recorder.blocks(50)
        with joined(server) as client, LocalClient(server.name, folder) as local:
            local.start_streaming(timeout=PATIENCE)
            poll(lambda: local.last_sample == 1000, "all is here")
            hog = fill(folder)
            recorder.blocks(50)  # what is reserved stays
            poll(lambda: local.last_sample == 2000, "it goes on")
            np.testing.assert_array_equal(local.read(0, 2000), values(0, 2000, 2))
            recorder.start(n_channels=3)
            recorder.blocks(50)
            history_is_exact(client, 2000, 3000, 3)
            assert "stays in the hub's own memory" in log_of(server)
            with pytest.raises(SharedMemoryError, match="use Client"):
                local.read(2000, 2020)
            hog.unlink()
            recorder.start(n_channels=2)  # there is room again
            recorder.blocks(50)
            history_is_exact(client, 3000, 4000, 2)
            with LocalClient(server.name, folder) as another:
                another.start_streaming(timeout=PATIENCE)
                np.testing.assert_array_equal(another.read(3000, 4000), values(3000, 4000, 2))


def test_a_local_reader_goes_on_once_there_is_shared_memory_again(recorder: ScriptedRecorder) -> None:
    with small_folder(8 * MIB) as folder, hub(recorder.address, "--shm-dir", str(folder)) as server:
        recorder.start(n_channels=2)
        recorder.blocks(10)
        with LocalClient(server.name, folder) as local:
            local.start_streaming(timeout=PATIENCE)
            poll(lambda: local.last_sample == 200, "all is here")
            hog = fill(folder)
            recorder.start(n_channels=3)
            recorder.blocks(10)
            poll(lambda: bool(stats(server)["next_index"] == 400), "the hub has all")
            with pytest.raises(SharedMemoryError, match="use Client"):
                local.read(200, 220)
            hog.unlink()
            recorder.start(n_channels=2)
            recorder.blocks(10)
            poll(lambda: bool(stats(server)["next_index"] == 600), "the hub has all")
            poll(lambda: local.last_sample == 600, "it is served again")
            np.testing.assert_array_equal(local.read(400, 600), values(400, 600, 2))


@pytest.mark.parametrize(
    ("what", "said"), [("full", "No space left"), ("read-only", "Read-only file system")]
)
def test_a_folder_that_takes_nothing_is_said_in_one_line_and_left_as_it_was(what: str, said: str) -> None:
    with small_folder(MIB) as folder:
        if what == "full":
            fill(folder)
        else:
            subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        before = set(folder.iterdir())
        child = Child(
            "serve", "--recorder", "127.0.0.1:1", "--query", FREE, "--publish", FREE, "--shm-dir", str(folder)
        )
        try:
            assert child.finish() in {1, 2}
            (line,) = child.stderr.splitlines()
        finally:
            child.close()
        assert said in line
        assert str(folder) in line
        assert "--shm-dir" in line
        assert set(folder.iterdir()) == before


# --- too little memory of any kind ---


@contextlib.contextmanager
def memory_group(size: int) -> Iterator[Path]:
    """A control group with so much memory, of version 1 or 2; move processes into its ``cgroup.procs``."""
    root = Path("/sys/fs/cgroup/memory")
    name, limit = "memory.limit_in_bytes", root
    if not (root / name).exists():
        root, name = Path("/sys/fs/cgroup"), "memory.max"
    limit = root / f"rdahub-test-{unique_name()}"
    try:
        limit.mkdir()
    except OSError:
        pytest.skip("needs the right to make a memory group (root)")
    try:
        if not (limit / name).exists():
            pytest.skip("this system's groups do not limit memory")
        (limit / name).write_text(str(size))
        yield limit
    finally:
        poll(lambda: not (limit / "cgroup.procs").read_text(), "all in the group have ended")
        limit.rmdir()


@pytest.mark.parametrize(
    "kind",
    [
        "network",
        "local",
    ],
)
def test_a_hub_killed_for_lack_of_memory_is_succeeded_and_its_readers_go_on(
    recorder: ScriptedRecorder, kind: str
) -> None:
    first = Hub(recorder.address)
    try:
        recorder.start()
        recorder.blocks(10)
        with joined(first) if kind == "network" else LocalClient(first.name) as reader:
            if isinstance(reader, LocalClient):
                reader.start_streaming(timeout=PATIENCE)
            told = Told(reader, "oldest")
            told.until(200)
            with memory_group(MIB) as group:
                (group / "cgroup.procs").write_text(str(first.process.pid))
                with contextlib.suppress(OSError):
                    recorder.start(n_channels=64)
                    for _ in range(10):
                        recorder.block(20_000)  # 5 MB, where there is 1
                assert first.finish() == -signal.SIGKILL
            recorder.hang_up()
            with hub(recorder.address, name=first.name, query=first.query, publish=first.publish):
                told.after_restart = recorder.index
                recorder.start()
                recorder.blocks(10)
                told.until_restart()
                told.until(200)
                assert told.gaps == []
                parts = {"control", "ring", "bell"} | ({"the reader's bell"} if kind == "local" else set())
                assert len(leftovers(first.name)) == len(parts)
        assert leftovers(first.name) == []
    finally:
        first.close()


def test_a_hub_in_a_container_with_little_memory_has_a_shorter_history_and_lives(
    recorder: ScriptedRecorder,
) -> None:
    server = Hub(recorder.address)
    try:
        with memory_group(96 * MIB) as group:
            try:
                (group / "cgroup.procs").write_text(str(server.process.pid))
                with contextlib.suppress(OSError):
                    recorder.start(n_channels=64)  # 600 s are 154 MB
                    recorder.blocks(10)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    assert server.process.wait(2) != -signal.SIGKILL, "killed for lack of memory"
                with joined(server) as client:
                    history_is_exact(client, 0, 200, 64)
                assert "instead of 600000" in log_of(server)
            finally:
                server.close()
    finally:
        server.close()


def test_with_little_address_space_the_history_is_shorter_and_exact(recorder: ScriptedRecorder) -> None:
    with hub(recorder.address, "--history", "6000s") as server:
        recorder.start()
        recorder.block()
        with joined(server) as client:
            poll(lambda: client.last_sample == 20, "it works")
            status = Path(f"/proc/{server.process.pid}/status").read_text()
            used = int(re.findall(r"VmSize:\s+(\d+) kB", status)[0]) << 10
            resource.prlimit(server.process.pid, resource.RLIMIT_AS, (used + 64 * MIB,) * 2)
            recorder.start(n_channels=32)  # 6000 s are 768 MB, mapped twice
            recorder.blocks(50)
            history_is_exact(client, 20, 1020, 32)
            seconds = client.info().history_seconds
        log = log_of(server)
        print(f"{seconds:.0f} s of history")
        assert 10 < seconds < 6000
        assert "bytes needed" in log
        assert "instead of 6000000" in log
        assert "Traceback" not in log


# --- killed again and again ---


def flocks() -> int:
    lines = Path("/proc/locks").read_text().splitlines()
    return sum("FLOCK" in line and f" {os.getpid()} " in line for line in lines)


def held() -> tuple[int, int, int]:
    """Descriptors, locks and threads of this process."""
    gc.collect()
    return open_fds(), flocks(), sum(1 for _ in Path("/proc/self/task").iterdir())


@pytest.mark.timeout(60 + 10 * KILLS)
def test_hubs_killed_and_started_again_are_followed_and_nothing_gathers(recorder: ScriptedRecorder) -> None:
    before = held()
    name, child = unique_name(), None
    instances: set[str] = set()
    endpoints: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        tolds: list[Told] = []
        readers: list[Client | LocalClient] = []
        meanwhile = held()
        began = time.monotonic()
        for life in range(KILLS + 1):
            if child is not None:
                child.close()  # SIGKILL
                recorder.hang_up()
            child = Hub(recorder.address, name=name, **endpoints)
            stack.callback(child.close)
            endpoints = {"query": child.query, "publish": child.publish}
            recorder.start()
            beginning = recorder.index
            recorder.blocks(5)
            if not readers:
                readers = [stack.enter_context(joined(child)), stack.enter_context(LocalClient(name))]
                readers[1].start_streaming(timeout=PATIENCE)
                tolds = [Told(reader, "oldest") for reader in readers]
            for told in tolds:
                if life:
                    told.after_restart = beginning
                    told.until_restart()
                told.until(100)
            instances.add(readers[0].instance)
            assert {reader.instance for reader in readers} <= instances
            assert len(leftovers(name)) == 4, "control, ring, the hub's bell and the reader's"
            if life == 1:
                meanwhile = held()
        print(f"{KILLS} kills in {time.monotonic() - began:.0f} s")
        assert len(instances) == KILLS + 1
        assert [told.gaps for told in tolds] == [[], []]
        now = held()
        assert now[1:] == meanwhile[1:]
        assert now[0] <= meanwhile[0] + 1 + 3 * (KILLS - 1), "two pipes and a selector of each hub, no more"
        assert child is not None
        assert child.stop() == 0
    del tolds, told, readers, child
    recorder.hang_up()
    assert leftovers(name) == []
    assert held() == before


# --- at the edge of what is written ---

ROWS: Final = 4000  # of a block: large, so that a hub is often in the middle of writing it
N_CHANNELS: Final = 64
PATTERN: Final = np.random.default_rng(7).standard_normal((7 * ROWS, N_CHANNELS)).astype(np.float32)
LONG_HISTORY: Final = "21s"  # of 1000 Hz: 21,000 rows, which neither blocks nor the pattern divide


def truth(start: int, stop: int) -> npt.NDArray[np.float32]:
    """What sample `start` and those after it are."""
    return PATTERN[np.arange(start, stop) % len(PATTERN)]


class Firehose:
    """A Recorder that sends blocks of the pattern as fast as a hub takes them, to each hub from the start."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        names = tuple(f"C{k}" for k in range(N_CHANNELS))
        self._start = rda.encode(rda.Start(1000.0, (1.0,) * N_CHANNELS, names))
        self._blocks = [
            bytearray(rda.encode(rda.Data(0, PATTERN[at : at + ROWS], ())))
            for at in range(0, len(PATTERN), ROWS)
        ]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return  # closed
            with connection, contextlib.suppress(OSError):
                connection.sendall(self._start)
                for counter in range(1, 2**31):
                    block = self._blocks[(counter - 1) % len(self._blocks)]
                    struct.pack_into("<I", block, 24, counter)
                    connection.sendall(block)

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(PATIENCE)


@pytest.fixture
def firehose() -> Iterator[Firehose]:
    hose = Firehose()
    yield hose
    hose.close()


def test_what_a_local_reader_is_given_at_the_edge_is_whole(firehose: Firehose) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    given = refused = overtaken = 0
    server = Hub(firehose.address, "--history", LONG_HISTORY)
    try:
        with LocalClient(server.name) as client:
            client.start_streaming(timeout=PATIENCE)
            poll(lambda: client.first_available > 0, "the ring has come round")
            ring = client._ring
            assert ring is not None
            began, until = ring.next_index, time.monotonic() + 4.0
            while time.monotonic() < until:
                start = ring.first_available + rng.choice((0, 1, rng.randrange(ROWS), rng.randrange(21_000)))
                stop = start + rng.randrange(1, 500)
                data = client.get_data(start, stop)
                if data is None:
                    refused += 1
                    continue
                exact = np.array_equal(data, truth(start, stop))
                if data.flags.owndata or ring.holds(start, stop):
                    given += 1
                    assert exact, f"a torn or shifted answer to [{start}, {stop})"
                else:
                    overtaken += 1  # a view is valid until the ring comes round; it has
            written = ring.next_index - began
    finally:
        server.close()
    print(f"{given} given, {refused} refused, {overtaken} overtaken; {written} rows written meanwhile")
    assert given > 500
    assert written > 100_000


@pytest.mark.timeout(60 + 10 * KILLS)
def test_a_hub_killed_in_the_middle_of_writing_never_leaves_a_wrong_sample(firehose: Firehose) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    name, torn, rows = unique_name(), 0, 0
    for life in range(KILLS_IN_MID_WRITE):
        server = Hub(firehose.address, "--history", LONG_HISTORY, name=name)
        try:
            with LocalClient(name) as client:
                client.start_streaming(timeout=PATIENCE)
                poll(lambda: client.first_available > 0, "the ring has come round")
                ring = client._ring
                assert ring is not None
                if life % 2:
                    time.sleep(rng.uniform(0, 0.003))  # any moment
                else:
                    until = time.monotonic() + 1.0
                    while not writing(ring) and time.monotonic() < until:
                        pass  # this moment
                server.send(signal.SIGKILL)
                server.process.wait()
                first, stop = ring.first_available, ring.next_index
                torn += writing(ring)
                for start in range(first, stop, 777):
                    end = min(start + 777, stop)
                    data = ring.view(start, end)
                    assert data is not None
                    np.testing.assert_array_equal(data, truth(start, end))
                rows += stop - first
                newest = client.get_data(client.last_sample - 777, client.last_sample)
                assert newest is not None
                np.testing.assert_array_equal(newest, truth(stop - 777, stop))
                assert not ring.holds(first - 1, stop), "a row that was being overwritten"
        finally:
            server.close()
    print(f"{torn} of {KILLS_IN_MID_WRITE} in the middle of a block; {rows} rows read from the dead")
    with hub(firehose.address):  # of any name: it cleans up after the dead
        assert leftovers(name) == []


def writing(ring: RingReader) -> bool:
    """Whether the hub is in the middle of a block, or died there."""
    return bool(ring._marks[RESERVED] > ring._marks[NEXT])


# --- what a local reader may and may not do ---


def test_a_local_reader_cannot_write_even_if_it_wants_to(recorder: ScriptedRecorder) -> None:
    with hub(recorder.address, "--history", "10s") as server, LocalClient(server.name) as client:
        recorder.start()
        recorder.blocks(200)
        client.start_streaming(timeout=PATIENCE)
        poll(lambda: client.last_sample == 4000, "all is here")
        view = client.get_data(2000, 4000)
        assert view is not None
        assert not view.flags.owndata, "a copy would show nothing"
        with pytest.raises(ValueError, match=r"WRITEABLE|writeable"):
            view.flags.writeable = True
        address = view.__array_interface__["data"][0]
        libc = ctypes.CDLL(None, use_errno=True)
        page = address - address % mmap.PAGESIZE
        protection = mmap.PROT_READ | mmap.PROT_WRITE
        assert libc.mprotect(ctypes.c_void_p(page), mmap.PAGESIZE, protection) == -1
        assert ctypes.get_errno() == errno.EACCES, "the ring was opened for writing"
        maps = [line for line in Path("/proc/self/maps").read_text().splitlines() if server.name in line]
        assert maps
        assert {line.split()[1] for line in maps} == {"r--s"}


def test_a_second_hub_of_a_name_does_not_touch_the_first_ones_memory(recorder: ScriptedRecorder) -> None:
    with hub(recorder.address) as server, LocalClient(server.name) as client:
        recorder.start()
        recorder.blocks(50)
        client.start_streaming(timeout=PATIENCE)
        poll(lambda: client.last_sample == 1000, "all is here")
        (path,) = default_directory().glob(f"rdahub-{server.name}.ring-*")
        before = leftovers(server.name), hashlib.sha256(path.read_bytes()).digest(), path.stat().st_ino
        flags = ("--query", FREE, "--publish", FREE, "--name", server.name)
        child = Child("serve", "--recorder", "127.0.0.1:1", *flags)
        try:
            assert child.finish() == 1
            (line,) = child.stderr.splitlines()
        finally:
            child.close()
        assert server.name in line
        assert "--name" in line
        after = leftovers(server.name), hashlib.sha256(path.read_bytes()).digest(), path.stat().st_ino
        assert after == before
        recorder.block()
        poll(lambda: client.last_sample == 1020, "it goes on")
        np.testing.assert_array_equal(client.read(0, 1020), values(0, 1020, 2))


READER = """
import sys
import numpy as np
from rdahub_client import LocalClient, RdaHubError

with LocalClient(sys.argv[1]) as client:
    client.start_streaming(timeout=30)
    while client.last_sample < 4000:
        pass
    print("reading", flush=True)
    rows = (np.arange(4000)[:, None] + np.arange(2) / 8).astype(np.float32)
    while True:
        try:
            data = client.read(0, 4000)
        except RdaHubError as error:
            sys.exit(str(error))
        if not np.array_equal(data, rows):
            print("WRONG", flush=True)
"""


def test_who_truncates_a_ring_under_its_readers_ends_them_and_shows_them_nothing(
    recorder: ScriptedRecorder,
) -> None:
    """Only the hub's own user can; nothing helps against that, but no reader must believe what it sees."""
    server = Hub(recorder.address)
    reader = None
    try:
        recorder.start()
        recorder.blocks(200)
        reader = Child(server.name, program=("-c", READER))
        reader.wait_for("reading")
        (path,) = default_directory().glob(f"rdahub-{server.name}.ring-*")
        os.truncate(path, mmap.PAGESIZE)
        assert reader.finish() == -signal.SIGBUS
        assert "WRONG" not in reader.stdout
        recorder.block()
        assert server.finish() == -signal.SIGBUS, "the hub writes there"
        recorder.hang_up()
        recorder.index = 0
        with hub(recorder.address, name=server.name), LocalClient(server.name) as client:
            recorder.start()
            recorder.blocks(5)
            client.start_streaming(timeout=PATIENCE)
            poll(lambda: client.last_sample == 100, "the next hub serves")
            np.testing.assert_array_equal(client.read(0, 100), values(0, 100, 2))
        assert leftovers(server.name) == []
    finally:
        server.close()
        if reader is not None:
            reader.close()


OLD_RING = "a hub that was asked, not attached to, is joined with the ring of the one before it as the window"


def test_a_local_reader_that_learns_of_a_new_hub_by_asking_is_not_shown_the_old_ones_ring(
    recorder: ScriptedRecorder,
) -> None:
    first = Hub(recorder.address)
    try:
        recorder.start()
        recorder.blocks(10)
        with LocalClient(first.name) as client:
            client.start_streaming(timeout=PATIENCE)
            told = Told(client, "oldest")
            told.until(200)
            # Something the reader will ask about, and by then there is another to answer.
            recorder.block(markers=(rda.BlockMarker(0, 1, -1, "Stimulus", "S  1"),))
            poll(lambda: bool(stats(first)["next_index"] == 220), "the hub has it")
            first.close()  # SIGKILL
            recorder.hang_up()
            with hub(recorder.address, name=first.name, query=first.query, publish=first.publish) as second:
                beginning = recorder.index
                recorder.start()
                recorder.blocks(10)  # fewer: the old ring has them all, with other values
                poll(lambda: bool(stats(second)["next_index"] == 200), "the next has samples too")
                told.after_restart = beginning
                told.until_restart()
                told.until(200)
                np.testing.assert_array_equal(client.read(0, 20), values(beginning, beginning + 20, 2))
    finally:
        first.close()
