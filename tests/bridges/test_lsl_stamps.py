"""Times given to samples: rising, near the estimate, the same when asked again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdahub_client.bridges.stamps import Float64, Stamps


def even(start: int, stop: int, interval: float, off: float = 0.0) -> Float64:
    return off + np.arange(start, stop, dtype=np.float64) * interval


estimates = st.lists(
    st.tuples(st.integers(1, 40), st.floats(-0.05, 0.05)), min_size=1, max_size=60
)  # rows of a block, and how far its estimate is off, s


@given(estimates)
def test_times_rise_evenly_however_the_estimate_moves(blocks: list[tuple[int, float]]) -> None:
    stamps, index, given_times = Stamps(1000.0), 0, []
    for n, off in blocks:
        given_times.append(stamps.give(index, even(index, index + n, 1e-3, 1e5 + off)))
        index += n
    times = np.concatenate(given_times)
    steps = np.diff(times)
    assert (steps > 0.00097).all()
    assert (steps < 0.00103).all()
    assert [stamps.at(i) for i in range(index)] == times.tolist()
    assert stamps.last == times[-1]


def test_what_was_wrong_is_made_good_slowly_and_then_exactly() -> None:
    stamps = Stamps(1000.0)
    stamps.give(0, even(0, 20, 1e-3, 0.020))  # the first block came 20 ms late
    for start in range(20, 2020, 20):
        times = stamps.give(start, even(start, start + 20, 1e-3))
    np.testing.assert_allclose(times, even(2000, 2020, 1e-3), atol=1e-9)


def test_a_jump_goes_forward_only() -> None:
    stamps = Stamps(100.0)
    stamps.jump(5.0)  # before the first row: it may have any time
    stamps.give(0, np.array([10.0, 10.01]))
    stamps.jump(20.0)
    assert stamps.give(1000, np.array([20.0]))[0] == pytest.approx(20.0)
    stamps.jump(3.0)
    assert stamps.give(1001, np.array([3.0]))[0] > 20.0


def test_samples_without_a_time_of_their_own_have_one_by_the_rate() -> None:
    stamps = Stamps(100.0)
    assert stamps.at(5) is None
    stamps.give(10, even(10, 20, 0.01))
    assert stamps.at(4) == pytest.approx(0.04)  # before all
    assert stamps.at(20) is None  # to come
    assert stamps.at(22, ended=True) == pytest.approx(0.22)  # never to come
    stamps.jump(0.5)
    stamps.give(50, even(50, 52, 0.01))
    assert stamps.at(30) == pytest.approx(0.30)  # missing
    assert stamps.at(51) == pytest.approx(0.51)


def test_what_is_older_than_a_minute_is_let_go_and_counting_anew_forgets_all() -> None:
    stamps = Stamps(10.0)
    for start in range(0, 3000, 10):
        stamps.give(start, even(start, start + 10, 0.1))
    assert len(stamps._kept) < 70
    assert stamps.at(5) == pytest.approx(0.5)
    last = stamps.last
    assert last is not None
    stamps.forget()
    assert stamps.at(5) is None
    assert stamps.next(2, 0.0) == pytest.approx([last + 0.1, last + 0.2])


def test_rows_missing_are_counted_by_the_rate() -> None:
    stamps = Stamps(1000.0)
    assert stamps.missing(7.0) == 0.0
    stamps.give(0, np.array([1.0]))
    assert stamps.missing(1.001) == pytest.approx(0.0)
    assert stamps.missing(1.5) == pytest.approx(499.0)
    assert Stamps(1000.0).next(3, 9.0) == pytest.approx([8.998, 8.999, 9.0])
