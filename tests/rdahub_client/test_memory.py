"""Memory that appears twice: the mirror, and that nothing outlives its last view."""

from __future__ import annotations

import gc
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from forked import open_fds
from hypothesis import given
from hypothesis import strategies as st

from rdahub_client import memory
from rdahub_client.memory import map_rows, private_ring, round_capacity

PAGE = mmap.ALLOCATIONGRANULARITY
pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs memfd and /proc (Linux)")


def mapped(name: str) -> int:
    """How often a file of this name is mapped into this process."""
    gc.collect()
    return Path("/proc/self/maps").read_text().count(f"/memfd:{name} ")


def pages(field: int) -> int:
    """Bytes of address space (0) or memory (1) of this process."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[field]) * mmap.PAGESIZE


@pytest.fixture
def file() -> Iterator[int]:
    """A file of 4 pages."""
    fd = os.memfd_create("rdahub-test")
    os.ftruncate(fd, 4 * PAGE)
    yield fd
    os.close(fd)


@given(st.integers(0, 100_000), st.integers(1, 1024))
def test_a_rounded_capacity_is_the_least_that_fills_whole_pages(rows: int, n_channels: int) -> None:
    capacity = max(rows, 1)
    while capacity * n_channels * 4 % PAGE:
        capacity += 1
    assert round_capacity(rows, n_channels) == capacity


def test_each_row_appears_a_second_time_one_capacity_later(file: int) -> None:
    capacity = round_capacity(1, 3)
    os.ftruncate(file, capacity * 12)
    rows = map_rows(file, 0, capacity, 3, writable=True)
    assert rows.shape == (2 * capacity, 3)
    for i in (0, 1, capacity - 1):
        rows[i] = i + 1
        np.testing.assert_array_equal(rows[i + capacity], [i + 1] * 3)
        rows[i + capacity] = -i - 1
        np.testing.assert_array_equal(rows[i], [-i - 1] * 3)
    rows[capacity - 1 : capacity + 1] = 7
    np.testing.assert_array_equal(rows[[0, capacity - 1]], 7)


def test_rows_begin_at_the_offset_given(file: int) -> None:
    rows = map_rows(file, 2 * PAGE, PAGE // 4, 1, writable=True)
    rows[0] = 5
    assert os.pread(file, 4, 2 * PAGE) == np.float32(5).tobytes()
    assert os.pread(file, 4, 0) == bytes(4)


def test_a_read_only_mapping_cannot_be_written(file: int) -> None:
    rows = map_rows(file, 0, PAGE // 4, 1, writable=False)
    with pytest.raises(ValueError, match="read-only"):
        rows[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        rows.flags.writeable = True


def test_a_private_ring_holds_at_least_what_was_asked_for_and_is_mirrored() -> None:
    before = mapped("rdahub-window")  # what tests before this one left to the garbage collector
    ring = private_ring(1000, 3, start=5)
    assert ring.capacity == round_capacity(1000, 3)
    ring.extend(np.arange(3 * ring.capacity + 9, dtype=np.float32).reshape(-1, 3))
    assert ring.first_available == 8
    assert ring.view(8, 8 + ring.capacity)[-1, 0] == 3 * ring.capacity + 6
    assert mapped("rdahub-window") == before + 2


def test_a_private_ring_needs_no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MIRRORS", False)
    ring = private_ring(10, 1, start=0)
    ring.extend(np.arange(15, dtype=np.float32).reshape(-1, 1))
    assert ring.view(5, 15)[:, 0].tolist() == list(range(5, 15))


def test_a_private_ring_takes_memory_only_as_it_is_written() -> None:
    before = pages(1)
    ring = private_ring(2**20, 64, start=0)  # 256 MiB
    ring.extend(np.zeros((1000, 64), np.float32))
    assert pages(1) - before < 32 << 20


def test_a_view_outlives_its_ring_and_then_all_is_unmapped() -> None:
    before = mapped("rdahub-window")
    ring = private_ring(1, 1024, start=0)
    ring.extend(np.full((1, 1024), 3, np.float32))
    view = ring.view(0, 1)[:, 5]
    del ring
    assert mapped("rdahub-window") == before + 2
    assert view.tolist() == [3]
    del view
    assert mapped("rdahub-window") == before


def test_rings_leave_no_descriptor_and_no_address_space() -> None:
    before = mapped("rdahub-window")
    fds, space = open_fds(), pages(0)
    for _ in range(200):
        private_ring(2**16, 64, start=0)  # 2 x 16 MiB each
    assert mapped("rdahub-window") == before
    assert open_fds() == fds
    assert pages(0) - space < 32 << 20


def test_a_file_that_cannot_be_mapped_is_an_oserror_and_leaves_nothing_reserved() -> None:
    fd = os.open("/dev/null", os.O_RDWR)
    try:
        space = pages(0)
        for _ in range(8):
            with pytest.raises(OSError, match="device"):
                map_rows(fd, 0, 2**20, 64, writable=True)  # 2 x 256 MiB each
        assert pages(0) - space < 256 << 20
    finally:
        os.close(fd)


def test_an_address_space_that_is_full_is_an_oserror(file: int) -> None:
    with pytest.raises(OSError, match="memory"):
        map_rows(file, 0, 2**44, 1024, writable=False)
