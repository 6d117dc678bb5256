"""From samples to columns: nothing lost, nothing twice, whatever the pieces."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdahub.viewer.decimate import columns, samples_per_column
from rdahub.viewer.filters import Cascade, sections
from rdahub.viewer.picture import Columns, Picture, View
from rdahub.viewer.store import SECONDS, Store
from rdahub_client import Gap, Marker, Segment
from rdahub_client.records import Float32


def segment(n_channels: int = 2, sfreq: float = 100.0, number: int = 0, start: int = 0) -> Segment:
    names = tuple(f"C{i}" for i in range(n_channels))
    return Segment(number, start, None, 1e6 / sfreq, (1.0,) * n_channels, names, ("µV",) * n_channels)


def noise(n: int, n_channels: int = 2) -> Float32:
    return np.random.default_rng(1).standard_normal((n, n_channels)).astype(np.float32)


def started(n_channels: int = 2, sfreq: float = 100.0) -> Store:
    store = Store()
    store.begin("one", segment(n_channels, sfreq), 0)
    return store


# --- decimation ------------------------------------------------------------------------------------------


def test_a_column_keeps_the_least_and_the_greatest_value_of_its_samples() -> None:
    rows = np.zeros((30, 2), np.float32)
    rows[4, 0], rows[13, 1] = 7, -9  # spikes of one sample
    found = columns(rows, 10)
    assert found.shape == (2, 3, 2)
    assert found[0].tolist() == [[0, 7], [0, 0], [0, 0]]
    assert found[1].tolist() == [[0, 0], [-9, 0], [0, 0]]


def test_a_column_is_missing_only_where_all_its_samples_are() -> None:
    rows = np.ones((20, 1), np.float32)
    rows[:10] = np.nan
    rows[10:19] = np.nan
    found = columns(rows, 10)[0]
    assert np.isnan(found[0]).all()
    assert found[1].tolist() == [1, 1]


def test_the_picture_never_has_more_columns_than_pixels() -> None:
    for sfreq, seconds, pixels in ((1000, 10, 800), (250, 2, 800), (5000, 60, 390), (1.5, 0.5, 50)):
        assert sfreq * seconds / samples_per_column(sfreq, seconds, pixels) <= pixels


# --- the store -------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 9000), min_size=1, max_size=20), st.data())
def test_the_store_gives_back_what_it_was_given_with_holes_as_nan(
    sizes: list[int], data: st.DataObject
) -> None:
    store = started()
    told = np.empty((0, 1), np.float32)
    for size in sizes:
        start = len(told)
        if data.draw(st.booleans()):
            store.lose(Gap(start, start + size, "counter"))
            told = np.concatenate([told, np.full((size, 1), np.nan, np.float32)])
        else:
            rows = np.arange(start, start + size, dtype=np.float32)[:, None]
            store.extend(start, np.repeat(rows, 2, axis=1))
            told = np.concatenate([told, rows])
    assert store.stop == len(told)
    assert store.stop - store.first == min(len(told), round(SECONDS * 100))
    np.testing.assert_array_equal(store.rows(store.first, store.stop)[:, 1], told[store.first :, 0])


def test_a_new_segment_of_the_same_layout_goes_on_and_another_layout_or_hub_begins_anew() -> None:
    store = started()
    store.extend(0, noise(50))
    store.end(50, "stop")
    store.begin("one", segment(number=1, start=50), 50)
    assert (store.epoch, store.first, store.stop) == (1, 0, 50)
    assert [(each.kind, each.start) for each in store.happenings(0)] == [
        ("start", 0),
        ("end", 50),
        ("start", 50),
    ]
    store.begin("one", segment(3, number=2, start=50), 50)
    assert (store.epoch, store.first, store.stop) == (2, 50, 50)
    store.begin("two", segment(3), 0)
    assert (store.epoch, store.first, store.stop) == (3, 0, 0)


def test_a_marker_is_kept_on_its_sample_with_its_channel() -> None:
    store = started()
    store.extend(0, noise(50), (Marker(7, 3, 1, "Stimulus", "S  1"),))
    last = store.happenings(0)[-1]
    assert (last.kind, last.start, last.stop, last.text, last.channel) == (
        "marker",
        7,
        10,
        "Stimulus S  1",
        1,
    )


# --- the picture -----------------------------------------------------------------------------------------


def drawn(found: list[Columns | None]) -> tuple[int, Float32]:
    """First column and all values of what a browser was sent."""
    sent = [each for each in found if each is not None]
    assert sent[0].anew
    assert not any(each.anew for each in sent[1:])
    for one, two in pairwise(sent):
        assert two.first == one.first + one.values.shape[1]  # none lost, none twice
    return sent[0].first, np.concatenate([each.values for each in sent], axis=1)


VIEWS = (
    View(seconds=5, pixels=50),
    View(seconds=5, pixels=50, montage="bipolar", high_pass=1, low_pass=30),
    View(seconds=5, pixels=50, montage="average", high_pass=0.5, notch=50),
)


@pytest.mark.parametrize("view", VIEWS, ids=("plain", "bipolar", "average"))
@given(sizes=st.lists(st.integers(1, 99), min_size=1, max_size=12))
def test_what_is_drawn_does_not_depend_on_the_pieces(view: View, sizes: list[int]) -> None:
    rows = noise(sum(sizes), 3) + 1000
    piecewise, whole = started(3, 200.0), started(3, 200.0)
    picture, at, found = Picture(), 0, []
    found.append(picture.advance(piecewise, view))
    for size in sizes:
        piecewise.extend(at, rows[at : at + size])
        at += size
        found.append(picture.advance(piecewise, view))
    whole.extend(0, rows)
    first, values = drawn(found)
    once = Picture().advance(whole, view)
    assert once is not None
    n = once.values.shape[1]
    assert (first, first + values.shape[1]) == (0, once.first + n)
    np.testing.assert_allclose(values[:, values.shape[1] - n :], once.values, atol=2e-3)


def test_a_large_picture_comes_in_several_calls_and_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    store, view = started(3, 200.0), VIEWS[1]
    store.extend(0, noise(4000, 3))
    whole = Picture().advance(store, view)
    assert whole is not None
    assert whole.first + whole.values.shape[1] == 4000 // whole.width
    monkeypatch.setattr("rdahub.viewer.picture._AT_ONCE", 3 * 70)
    picture = Picture()
    found = [picture.advance(store, view) for _ in range(4000 // 70 + 1)]
    first, values = drawn(found)
    assert first == whole.first
    np.testing.assert_allclose(values, whole.values, atol=1e-3)
    assert picture.advance(store, view) is None


def test_a_browser_that_comes_back_late_gets_the_newest_picture_and_no_more() -> None:
    store, picture, view = started(), Picture(), View(seconds=5, pixels=50)
    picture.advance(store, view)
    for start in range(0, 60_000, 1000):
        store.extend(start, noise(1000))
    found = picture.advance(store, view)
    assert found is not None
    assert found.anew
    assert found.values.shape[1] <= found.shown <= 50
    assert (found.first + found.values.shape[1]) * found.width == 60_000


def test_a_frame_of_64_channels_at_1_khz_is_small_enough_for_a_phone() -> None:
    store, picture, view = started(64, 1000.0), Picture(), View(seconds=10, pixels=400)
    picture.advance(store, view)
    sent = 0
    for start in range(0, 10_000, 20):
        store.extend(start, noise(20, 64))
        found = picture.advance(store, view)
        sent += 0 if found is None else found.values.nbytes
    assert 0 < sent / 10 < 64 * 1000 * 4 / 10  # a tenth of the samples themselves


def test_a_gap_is_no_line_and_the_filter_begins_anew_behind_it() -> None:
    store, view = started(1), View(seconds=5, pixels=500, high_pass=1)
    store.extend(0, np.full((200, 1), 10, np.float32))
    store.lose(Gap(200, 240, "counter"))
    store.extend(240, np.full((200, 1), 5000, np.float32))
    found = Picture().advance(store, view)
    assert found is not None
    low = found.values[0, :, 0]
    assert np.isnan(low[200 - found.first : 240 - found.first]).all()
    np.testing.assert_allclose(low[240 - found.first :], 0, atol=1e-3)  # no wave from 10 to 5000
    np.testing.assert_allclose(low[: 200 - found.first], 0, atol=1e-3)


def test_chosen_channels_that_the_workspace_has_not_are_passed_over() -> None:
    store = started(3)
    store.extend(0, noise(20, 3))
    some = Picture().advance(store, View(channels=["C2", "gone"]))
    none = Picture().advance(store, View(channels=["gone"]))
    assert some is not None
    assert none is not None
    assert (some.names, none.names) == (("C2",), ("C0", "C1", "C2"))


# --- filters ---------------------------------------------------------------------------------------------


def gain(filter_: Cascade, hz: float, sfreq: float) -> float:
    """What a filter leaves of a sinusoid, once settled."""
    wave = np.sin(2 * np.pi * hz * np.arange(int(20 * sfreq)) / sfreq).astype(np.float32)[:, None]
    out = filter_(wave)[int(10 * sfreq) :]
    return float(np.sqrt(2 * np.mean(out.astype(np.float64) ** 2)))


@pytest.mark.parametrize("sfreq", [250.0, 1000.0, 5000.0])
def test_filters_pass_and_stop_what_they_say(sfreq: float) -> None:
    def high() -> Cascade:
        return Cascade(sections(sfreq, 1.0, None, None))

    def low() -> Cascade:
        return Cascade(sections(sfreq, None, 30.0, None))

    def notch() -> Cascade:
        return Cascade(sections(sfreq, None, None, 50.0))

    assert gain(high(), 1.0, sfreq) == pytest.approx(0.5**0.5, abs=0.01)
    assert gain(high(), 10.0, sfreq) == pytest.approx(1, abs=0.01)
    assert gain(high(), 0.1, sfreq) < 0.02
    assert gain(low(), 30.0, sfreq) == pytest.approx(0.5**0.5, abs=0.01)
    assert gain(low(), 3.0, sfreq) == pytest.approx(1, abs=0.01)
    assert gain(low(), 110.0, sfreq) < 0.1
    assert gain(notch(), 50.0, sfreq) < 0.01
    assert gain(notch(), 100.0, sfreq) < 0.01
    assert gain(notch(), 40.0, sfreq) == pytest.approx(1, abs=0.05)


def test_a_filter_has_no_transient_on_an_offset_and_one_bad_value_does_no_lasting_harm() -> None:
    rows = np.full((1000, 2), 12_000, np.float32)
    rows[300, 0], rows[301, 0] = np.nan, np.inf
    out = Cascade(sections(500.0, 0.1, 40.0, 60.0))(rows)
    assert np.isnan(out[300:302, 0]).all()
    out[300:302, 0] = 0
    np.testing.assert_allclose(out, 0, atol=1e-2)


def test_a_corner_that_the_rate_has_no_room_for_is_left_out() -> None:
    assert sections(100.0, None, 70.0, 60.0) == []
    assert len(sections(110.0, 1.0, None, 50.0)) == 2
