"""Files in shared memory: who owns them, who cleans up, and that a reader can neither harm nor be harmed.

A hub that dies is a forked child killed by SIGKILL.
"""

from __future__ import annotations

import fcntl
import gc
import mmap
import os
import select
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from forked import forked, open_fds

from rdahub_client import shared
from rdahub_client.errors import SharedMemoryError
from rdahub_client.memory import MIRRORS, round_capacity
from rdahub_client.records import Float32
from rdahub_client.shared import Attachment, Owner, default_directory

pytestmark = pytest.mark.skipif(not (MIRRORS and Path("/proc").is_dir()), reason="needs /proc (Linux)")

DESCRIPTION = {"instance": "abc", "query": "tcp://127.0.0.1:5570"}
PAGE = mmap.ALLOCATIONGRANULARITY
C = 64  # channels: 16 rows fill a page
BAD_NAMES = ["", "a/b", "../x", "a.b", "a b", "é", "x" * 65, "a\n"]


@pytest.fixture
def shm() -> Iterator[Path]:
    """A short-named directory in shared memory: a socket's path is limited to 107 bytes."""
    path = Path(tempfile.mkdtemp(dir=default_directory()))
    yield path
    gc.collect()
    shutil.rmtree(path)


def names(shm: Path) -> set[str]:
    return {path.name for path in shm.iterdir()}


def filled(n: int, value: float = 0) -> Float32:
    return np.full((n, C), value, np.float32)


def hub(shm: Path, name: str = "hub", rings: int = 1, value: float = 1) -> Owner:
    """An owner with a ring of `value`, described."""
    owner = Owner(name, shm)
    owner.describe(DESCRIPTION)
    for _ in range(rings):
        owner.create_ring(C, 16, 0).extend(filled(16, value))
    return owner


def dying_hub(shm: Path, name: str = "hub", value: float = 1) -> Callable[[Callable[[], None]], None]:
    """What a child that will be killed does: be a hub, and write for ever."""

    def run(ready: Callable[[], None]) -> None:
        owner = Owner(name, shm)
        owner.describe(DESCRIPTION)
        ring = owner.create_ring(C, 16, 0)
        ring.extend(filled(16, value))
        ready()
        while True:
            ring.extend(filled(3, value))

    return run


def read_newest(attachment: Attachment) -> Float32:
    """All that the newest ring holds."""
    ring = attachment.ring(attachment.generation)
    assert ring is not None
    while (view := ring.view(ring.first_available, ring.next_index)) is None:
        continue  # the writer came by
    return view


def flocks() -> int:
    """File locks held by this process."""
    lines = Path("/proc/locks").read_text().splitlines()
    return sum("FLOCK" in line and f" {os.getpid()} " in line for line in lines)


# --- ownership ------------------------------------------------------------------------------------------


def test_shared_memory_is_in_dev_shm_or_else_in_the_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_directory() == Path("/dev/shm")  # noqa: S108
    monkeypatch.setattr(Path, "is_dir", lambda self: False)
    assert default_directory() == Path(tempfile.gettempdir())


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_could_leave_the_directory_is_refused(shm: Path, name: str) -> None:
    with pytest.raises(SharedMemoryError, match="is no name for a hub"):
        Owner(name, shm)
    with pytest.raises(SharedMemoryError, match="is no name for a hub"):
        Attachment(name, shm)
    assert names(shm) == set()


def test_a_second_hub_of_the_same_name_fails_and_the_first_is_unharmed(shm: Path) -> None:
    first = hub(shm, value=7)
    before = names(shm)
    with pytest.raises(SharedMemoryError, match=r"another hub named 'hub' is running here.*--name"):
        Owner("hub", shm)
    assert names(shm) == before
    attachment = Attachment("hub", shm)
    np.testing.assert_array_equal(read_newest(attachment), filled(16, 7))
    attachment.close()
    first.close()


def test_a_clean_close_leaves_nothing(shm: Path) -> None:
    fds, locks = open_fds(), flocks()
    owner = hub(shm, rings=3)
    assert len(names(shm)) == 3, "control, bell and the newest of the rings"
    assert flocks() == locks + 1
    owner.close()
    assert names(shm) == set()
    del owner
    gc.collect()
    assert (open_fds(), flocks()) == (fds, locks)


def test_a_name_is_free_again_after_a_close(shm: Path) -> None:
    hub(shm).close()
    hub(shm, value=2).close()
    assert names(shm) == set()


def test_only_the_hubs_user_may_open_its_files(shm: Path) -> None:
    before = os.umask(0)
    try:
        owner = hub(shm)
    finally:
        os.umask(before)
    files = [path for path in shm.iterdir() if path.is_file()]
    assert len(files) == 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    owner.close()


def test_a_hub_that_fails_to_start_holds_on_to_nothing(shm: Path) -> None:
    deep = shm / ("d" * (100 - len(str(shm))))  # so long that the bell, a socket, cannot be bound
    deep.mkdir()
    fds, locks = open_fds(), flocks()
    for _ in range(2):  # the second would find the name taken if the first still held it
        with pytest.raises(SharedMemoryError, match="path too long; choose another folder with --shm-dir"):
            Owner("hub", deep)
    gc.collect()
    assert (open_fds(), flocks()) == (fds, locks)


def test_a_directory_that_is_not_there_is_named(shm: Path) -> None:
    with pytest.raises(SharedMemoryError, match=r"cannot keep the ring in .*/none: No such file"):
        Owner("hub", shm / "none")


def test_a_symbolic_link_is_not_followed(shm: Path) -> None:
    victim = shm / "victim"
    victim.touch()
    (shm / "rdahub-hub").symlink_to(victim)
    with pytest.raises(SharedMemoryError, match="symbolic links"):
        Owner("hub", shm)
    with pytest.raises(SharedMemoryError):
        Attachment("hub", shm)
    assert victim.read_bytes() == b""
    assert (shm / "rdahub-hub").is_symlink()


# --- leftovers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("successor", ["hub", "another"])
def test_what_a_killed_hub_left_is_reclaimed_by_the_next_of_any_name(shm: Path, successor: str) -> None:
    with forked(dying_hub(shm)):
        assert len(names(shm)) == 3
    assert len(names(shm)) == 3, "nobody cleaned up yet"
    owner = Owner(successor, shm)
    assert names(shm) == {f"rdahub-{successor}", f"rdahub-{successor}.bell"}
    owner.close()
    assert names(shm) == set()


def test_a_live_hubs_files_are_never_touched(shm: Path) -> None:
    with forked(dying_hub(shm, "a")), forked(dying_hub(shm, "a-b")):
        before = names(shm)
        reader = Attachment("a", shm)
        hub(shm, "c").close()
        reader.close()
        assert names(shm) == before
    hub(shm, "c").close()
    assert names(shm) == set()


def test_files_that_only_look_like_a_hubs_are_left_alone(shm: Path) -> None:
    alive = hub(shm, "alive")
    before = names(shm)
    odd = {"rdahub-*", "rdahub-[a-z]*", "rdahub-alive~", "rdahub-", "other", "rdahub-no.ring-1"}
    for name in odd:
        (shm / name).touch()
    hub(shm, "b").close()
    assert names(shm) == before | odd
    alive.close()


def test_a_name_reborn_between_open_and_lock_is_not_reclaimed(
    shm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hubs clean up after a dead one; the slower finds the lock free on a file that is gone."""
    with forked(dying_hub(shm)):
        pass
    real = shared._try_lock
    reborn: list[Owner] = []

    def slow(fd: int, *, shared: bool = False) -> bool:
        if not reborn:
            monkeypatch.undo()
            reborn.append(hub(shm, value=9))
        return real(fd, shared=shared)

    monkeypatch.setattr(shared, "_try_lock", slow)
    other = Owner("other", shm)
    attachment = Attachment("hub", shm)
    np.testing.assert_array_equal(read_newest(attachment), filled(16, 9))
    attachment.close()
    other.close()
    reborn[0].close()


def test_a_name_reborn_while_it_is_waited_for_is_not_taken(
    shm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with forked(dying_hub(shm)):
        pass
    real = shared._try_lock
    reborn: list[Owner] = []
    monkeypatch.setattr(Owner, "_reclaim_dead", lambda self, directory: None)

    def slow(fd: int, *, shared: bool = False) -> bool:
        if not reborn:
            monkeypatch.undo()
            reborn.append(hub(shm, value=9))
        return real(fd, shared=shared)

    monkeypatch.setattr(shared, "_try_lock", slow)
    with pytest.raises(SharedMemoryError, match="another hub"):
        Owner("hub", shm)
    attachment = Attachment("hub", shm)
    np.testing.assert_array_equal(read_newest(attachment), filled(16, 9))
    attachment.close()
    reborn[0].close()


def test_a_hub_waits_for_one_that_only_looks_for_leftovers(
    shm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = shm / "rdahub-hub"
    control.touch()
    looking = os.open(control, os.O_RDWR)
    fcntl.flock(looking, fcntl.LOCK_EX)

    def done(seconds: float) -> None:
        monkeypatch.undo()
        control.unlink()
        os.close(looking)

    monkeypatch.setattr("rdahub_client.shared.time.sleep", done)
    hub(shm).close()
    assert names(shm) == set()


def test_a_hundred_kills_and_restarts_leave_no_file_lock_or_descriptor(shm: Path) -> None:
    fds, locks = open_fds(), flocks()
    for cycle in range(100):
        with forked(dying_hub(shm, value=cycle)):
            attachment = Attachment("hub", shm)
            assert (read_newest(attachment) == cycle).all()
            attachment.close()
    Owner("another", shm).close()
    assert names(shm) == set()
    del attachment
    gc.collect()
    assert (open_fds(), flocks()) == (fds, locks)


# --- memory ---------------------------------------------------------------------------------------------


def test_a_rings_memory_is_reserved_before_it_is_used(shm: Path) -> None:
    owner = hub(shm, rings=0)
    owner.create_ring(C, 10_000, 0)
    (path,) = shm.glob("rdahub-hub.ring-*")
    size = PAGE + round_capacity(10_000, C) * C * 4
    assert path.stat().st_size == size
    assert path.stat().st_blocks * 512 >= size
    owner.close()


SMALL = """
import sys
from pathlib import Path
import numpy as np
from rdahub_client.errors import SharedMemoryError
from rdahub_client.shared import Attachment, Owner
shm = Path(sys.argv[1])
owner = Owner("hub", shm)
owner.describe({})
before = set(shm.iterdir())
try:
    owner.create_ring(64, 1_000_000, 0)
except SharedMemoryError as error:
    print(error)
assert set(shm.iterdir()) == before, "the ring that failed left a file"
ring = owner.create_ring(64, 3_000, 0)
ring.extend(np.ones((ring.capacity, 64), np.float32))  # every page: SIGBUS here if it were not there
print(Attachment("hub", shm).ring(owner._generation).view(0, ring.capacity).sum() == ring.capacity * 64)
"""


def test_too_little_memory_is_an_error_that_names_the_bytes_and_never_sigbus(shm: Path) -> None:
    script = 'mount -t tmpfs -o size=1m tmpfs "$1" && exec "$2" -c "$3" "$1"'
    may = subprocess.run(
        ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", shm], check=False, capture_output=True
    )
    if may.returncode:
        pytest.skip("needs the right to mount a small tmpfs (root)")
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", shm, sys.executable, SMALL],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    needed = PAGE + round_capacity(1_000_000, 64) * 256
    message, touched = done.stdout.splitlines()
    assert f"no room for {round_capacity(1_000_000, 64)} samples of 64 channels in {shm}" in message
    assert f"{needed} bytes needed, " in message
    assert "No space left" in message
    assert touched == "True"


def test_without_posix_fallocate_the_free_space_is_asked_first(
    shm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "posix_fallocate")
    owner = hub(shm)
    with pytest.raises(SharedMemoryError, match=f"{PAGE + 2**50 * 256} bytes needed"):
        owner.create_ring(C, 2**50, 0)
    owner.close()


# --- readers --------------------------------------------------------------------------------------------


def test_a_reader_of_a_hub_that_is_not_there_is_told_so(shm: Path) -> None:
    with pytest.raises(SharedMemoryError, match="no hub named 'hub' on this machine"):
        Attachment("hub", shm)


def test_a_reader_of_a_dead_hub_is_told_so_and_leaves_it_lie(shm: Path) -> None:
    with forked(dying_hub(shm)):
        pass
    before = names(shm)
    with pytest.raises(SharedMemoryError, match="'hub' is dead"):
        Attachment("hub", shm)
    assert names(shm) == before


def test_a_reader_of_a_dead_hub_that_is_reclaimed_meanwhile_is_told_so(
    shm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with forked(dying_hub(shm)):
        pass
    real = shared._try_lock

    def slow(fd: int, *, shared: bool = False) -> bool:
        monkeypatch.undo()
        hub(shm, "another").close()
        return real(fd, shared=shared)

    monkeypatch.setattr(shared, "_try_lock", slow)
    with pytest.raises(SharedMemoryError, match="'hub' is dead"):
        Attachment("hub", shm)


def test_a_reader_does_not_keep_a_dead_hubs_name_locked(shm: Path) -> None:
    with forked(dying_hub(shm)):
        attachment = Attachment("hub", shm)
    with pytest.raises(SharedMemoryError, match="dead"):
        Attachment("hub", shm)
    hub(shm).close()
    attachment.close()


def test_a_reader_of_a_hub_that_is_only_just_starting_is_told_so(shm: Path) -> None:
    control = os.open(shm / "rdahub-hub", os.O_CREAT | os.O_RDWR)
    fcntl.flock(control, fcntl.LOCK_EX)
    with pytest.raises(SharedMemoryError, match="only just starting"):
        Attachment("hub", shm)
    os.close(control)


def test_a_reader_of_a_hub_not_described_yet_or_of_another_version_is_told_so(shm: Path) -> None:
    owner = Owner("hub", shm)
    with pytest.raises(SharedMemoryError, match="not ready, or of another version"):
        Attachment("hub", shm)
    owner.describe(DESCRIPTION)
    owner._map[7] = 99
    with pytest.raises(SharedMemoryError, match="not ready, or of another version"):
        Attachment("hub", shm)
    owner.close()


def test_what_is_no_hubs_file_is_said_and_not_waited_for(shm: Path) -> None:
    os.mkfifo(shm / "rdahub-pipe")
    with pytest.raises(SharedMemoryError):
        Attachment("pipe", shm)
    owner = hub(shm)
    owner.describe("no")  # type: ignore[arg-type]
    with pytest.raises(SharedMemoryError, match="not a hub's"):
        Attachment("hub", shm)
    owner.close()


def test_a_reader_whose_bell_cannot_be_hung_is_told_so(shm: Path) -> None:
    deep = shm / ("d" * (80 - len(str(shm))))  # long enough for the hub's bell, too long for a reader's
    deep.mkdir()
    owner = hub(deep)
    fds = open_fds()
    attachment = Attachment("hub", deep)  # to look is not to listen
    with pytest.raises(SharedMemoryError, match="path too long"):
        attachment.hello()
    attachment.close()
    del attachment
    gc.collect()
    assert open_fds() == fds
    owner.close()


def test_a_reader_learns_what_the_hub_says_of_itself(shm: Path) -> None:
    owner = hub(shm, rings=0)
    attachment = Attachment("hub", shm)
    assert attachment.description == DESCRIPTION
    assert attachment.generation == 0
    assert attachment.beat_ns == 0
    owner.beat(2**53 + 1, "stalled")
    assert (attachment.beat_ns, attachment.state) == (2**53 + 1, "stalled")
    before = attachment.is_open
    owner.close()
    assert (before, attachment.is_open) == (True, False)
    attachment.close()


def test_a_readers_mapping_cannot_be_written(shm: Path) -> None:
    owner = hub(shm)
    attachment = Attachment("hub", shm)
    ring = attachment.ring(attachment.generation)
    assert ring is not None
    for array in (ring._rows, read_newest(attachment)):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    for memory in (attachment._control, ring._marks, attachment._numbers):
        with pytest.raises(TypeError):
            memory[0] = 1
    attachment.close()
    owner.close()


def test_a_reader_sees_rows_as_they_are_written(shm: Path) -> None:
    owner = hub(shm, rings=0)
    ring = owner.create_ring(C, 16, 2**32)
    attachment = Attachment("hub", shm)
    reader = attachment.ring(attachment.generation)
    assert reader is not None
    assert (reader.capacity, reader.n_channels, reader.next_index) == (16, C, 2**32)
    for i in range(40):
        ring.note_seq(i)
        ring.extend(filled(1, i))
        assert (reader.next_index, reader.seq) == (2**32 + i + 1, i)
        view = reader.view(2**32 + i, 2**32 + i + 1)
        assert view is not None
        assert (view == i).all()
    attachment.close()
    owner.close()


def test_a_new_ring_is_a_new_generation_and_the_old_one_stays_readable(shm: Path) -> None:
    owner = hub(shm, value=1)
    attachment = Attachment("hub", shm)
    first, old = attachment.generation, read_newest(attachment)
    owner.create_ring(2 * C, 32, 16)
    assert attachment.generation != first
    reader = attachment.ring(attachment.generation)
    assert reader is not None
    assert (reader.n_channels, reader.next_index) == (2 * C, 16)
    assert attachment.ring(first) is None, "its name is gone"
    assert (old == 1).all()
    attachment.close()
    owner.close()


@pytest.mark.parametrize("end", ["closed", "killed"])
def test_a_reader_keeps_what_it_mapped_over_the_hubs_end_and_return(shm: Path, end: str) -> None:
    if end == "killed":
        with forked(dying_hub(shm, value=1)):
            attachment = Attachment("hub", shm)
            old = read_newest(attachment)
    else:
        owner = hub(shm, value=1)
        attachment = Attachment("hub", shm)
        old = read_newest(attachment)
        owner.close()
    successor = hub(shm, value=2)
    assert (old == 1).all()  # SIGBUS here if anybody had shrunk the file
    assert attachment.is_open is (end == "killed")
    attachment.close()
    fresh = Attachment("hub", shm)
    assert (read_newest(fresh) == 2).all()
    fresh.close()
    successor.close()
    assert names(shm) == set()


def test_a_reader_of_a_dead_hub_is_never_given_its_successors_ring(shm: Path) -> None:
    with forked(dying_hub(shm)):
        attachment = Attachment("hub", shm)
    successor = hub(shm)
    assert attachment.ring(attachment.generation) is None
    attachment.close()
    successor.close()


def test_a_ring_that_is_damaged_is_not_mapped(shm: Path) -> None:
    owner = hub(shm)
    attachment = Attachment("hub", shm)
    (path,) = shm.glob("rdahub-hub.ring-*")
    whole = path.read_bytes()
    for content in (b"X" + whole[1:], whole[:-1], whole[:8] + b"\xff" * 4 + whole[12:]):
        path.unlink()
        path.write_bytes(content)
        with pytest.raises(SharedMemoryError, match="damaged or of another version"):
            attachment.ring(attachment.generation)
    attachment.close()
    owner.close()


# --- the bell -------------------------------------------------------------------------------------------


def test_a_hello_reaches_the_hub_and_its_answer_the_reader(shm: Path) -> None:
    owner = hub(shm)
    attachment = Attachment("hub", shm)
    attachment.hello()
    word, sender = owner.bell.recvfrom(16)
    assert word == b"hello"
    assert Path(sender).name.startswith("rdahub-hub.bell-")
    assert select.select([attachment.bell], [], [], 0)[0] == []
    owner.bell.sendto(b"new", sender)
    assert select.select([attachment.bell], [], [], 5)[0] == [attachment.bell]
    assert attachment.bell.recv(16) == b"new"
    attachment.close()
    assert not Path(sender).exists()
    owner.close()


def test_a_hello_to_a_hub_that_is_busy_or_gone_is_dropped(shm: Path) -> None:
    owner = hub(shm)
    attachment = Attachment("hub", shm)
    for _ in range(2000):  # far more than its queue holds
        attachment.hello()
    owner.close()
    attachment.hello()
    attachment.close()
    assert names(shm) == set()


def test_a_bell_never_blocks(shm: Path) -> None:
    owner = hub(shm)
    attachment = Attachment("hub", shm)
    for bell in (owner.bell, attachment.bell):
        with pytest.raises(BlockingIOError):
            bell.recv(16)
    attachment.close()
    owner.close()


def test_two_readers_have_two_bells(shm: Path) -> None:
    owner = hub(shm)
    readers = [Attachment("hub", shm) for _ in range(2)]
    assert len({reader.bell.getsockname() for reader in readers}) == 2
    for reader in readers:
        reader.close()
    owner.close()
    assert names(shm) == set()
