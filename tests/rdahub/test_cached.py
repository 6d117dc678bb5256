"""`rdahub.archive.cached`: real files, passed as the process passes them, read where that takes no time."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rdahub.archive.cached import AT_ONCE, FILES, Cached, pass_span
from rdahub.archive.volume import Span
from rdahub_client.records import Float32
from rdahub_client.wire import PAGE_BYTES

pytest.importorskip("fcntl", reason="the archive is POSIX only")
CHANNELS = 8


@pytest.fixture
def files() -> Iterator[tuple[Cached, socket.socket]]:
    if not AT_ONCE:
        pytest.skip("this system has no read that takes no time")
    hub = Cached()
    with hub.connect() as theirs:
        yield hub, theirs
    hub.close()


def rows(start: int, stop: int) -> Float32:
    return np.arange(start * CHANNELS, stop * CHANNELS, dtype=np.float32).reshape(-1, CHANNELS)


def span(folder: Path, start: int, stop: int) -> Span:
    made = Span(start, stop, CHANNELS, folder / f"samples-{start:012d}-{CHANNELS}.f32")
    made.path.write_bytes(rows(start, stop).tobytes())
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """On a file system that can tell what is in memory."""
    probe = tmp_path / "probe"
    probe.write_bytes(b"x")
    with probe.open("rb") as file:
        try:
            os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
        except OSError as error:
            pytest.skip(f"the temporary folder's file system: {error.strerror}")
    return tmp_path


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def test_rows_are_read_where_they_lie_and_no_further(
    files: tuple[Cached, socket.socket], folder: Path
) -> None:
    hub, theirs = files
    assert hub.rows(0, 10) is None  # nothing was passed yet
    one, two = span(folder, 0, 1000), span(folder, 1000, 3000)
    assert pass_span(theirs, one)
    assert pass_span(theirs, two)
    hub.take_in()
    for start, stop, end in ((0, 10, 10), (990, 1010, 1000), (1000, 1001, 1001), (2990, 3000, 3000)):
        read = hub.rows(start, stop)
        assert read is not None
        np.testing.assert_array_equal(read, rows(start, end))
    assert hub.rows(2990, 3001) is None  # the file ends before
    with two.path.open("ab") as file:
        file.write(rows(3000, 60_000).tobytes())
    read = hub.rows(2990, 60_000)
    assert read is not None
    assert read.nbytes == PAGE_BYTES
    np.testing.assert_array_equal(read, rows(2990, 2990 + len(read)))


def test_what_is_not_in_memory_is_not_read_and_not_fetched(
    files: tuple[Cached, socket.socket], folder: Path
) -> None:
    hub, theirs = files
    one = span(folder, 0, 200_000)
    assert pass_span(theirs, one)
    hub.take_in()
    assert hub.rows(100_000, 100_100) is not None
    with one.path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        for _ in range(100):  # a read ahead would have brought it by then
            assert hub.rows(100_000, 100_100) is None
        file.seek(100_000 * CHANNELS * 4)
        assert (
            len(file.read(100 * CHANNELS * 4)) == 100 * CHANNELS * 4
        )  # as the process does when it is asked
    assert hub.rows(100_000, 100_100) is not None


def test_only_the_newest_files_are_kept_open_and_none_at_the_end(folder: Path) -> None:
    before = descriptors()
    hub = Cached()
    for attempt in range(2):  # the second process passes all of them anew
        with hub.connect() as theirs:
            for number in range(FILES + 6):
                assert pass_span(theirs, span(folder, 10 * number, 10 * number + 10)), attempt
                hub.take_in()
    assert hub.rows(50, 60) is None
    read = hub.rows(60, 70)
    assert read is not None
    np.testing.assert_array_equal(read, rows(60, 70))
    hub.close()
    assert descriptors() == before


def test_a_hub_that_does_not_look_is_not_waited_for(
    files: tuple[Cached, socket.socket], folder: Path
) -> None:
    hub, theirs = files
    one = span(folder, 0, 10)
    passed = 0
    while pass_span(theirs, one):
        passed += 1
        assert passed < 100_000
    hub.take_in()
    assert pass_span(theirs, one)
    assert hub.rows(0, 10) is not None
