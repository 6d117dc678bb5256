"""What the page says of a signal: its quality, its spectrum, which trace is what, and who may look."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from rdahub.viewer import spectrum
from rdahub.viewer.access import may_look, needs_token, read_token, same_origin
from rdahub.viewer.montage import montage, place
from rdahub.viewer.quality import judge
from rdahub.viewer.recent import Recent

SFREQ = 500.0
TIME = np.arange(1000) / SFREQ
NOISE = np.random.default_rng(2).standard_normal(1000) * 10
TOKEN = "a-word-that-is-long-enough"  # noqa: S105


def word(signal: npt.NDArray[np.float64], resolution: float = 0.1) -> str:
    return judge(signal.astype(np.float32)[:, None], SFREQ, [resolution])[0].word


def test_quality_is_told_in_one_word() -> None:
    assert word(NOISE) == "good"
    assert word(NOISE + 40_000) == "good"  # an offset is no fault
    assert word(np.zeros(1000)) == "flat"
    assert word(np.round(TIME % 0.1) * 0.1) == "flat"  # one step of the converter
    assert word(np.full(1000, 3276.7)) == "railed"
    assert word(np.clip(NOISE * 30, -200, 200)) == "railed"
    assert word(NOISE + 40 * np.sin(2 * np.pi * 50 * TIME)) == "line"
    assert word(NOISE + 40 * np.sin(2 * np.pi * 60 * TIME)) == "line"
    assert word(NOISE + 40 * np.sin(2 * np.pi * 10 * TIME)) == "good"
    assert word(np.full(1000, np.nan)) == "none"
    assert word(NOISE[:100]) == "none"


def test_line_noise_is_measured_in_the_channels_unit() -> None:
    found = judge((40 * np.sin(2 * np.pi * 60 * TIME)).astype(np.float32)[:, None], SFREQ, [0.1])[0]
    assert found.mains == 60
    assert found.line == pytest.approx(40 / 2**0.5, rel=0.02)
    assert found.rms == pytest.approx(40 / 2**0.5, rel=0.02)


def test_missing_samples_do_not_spoil_the_judgement() -> None:
    signal = NOISE.copy()
    signal[100:150] = np.nan
    assert word(signal) == "good"


def test_a_spectrum_has_its_line_where_the_sinusoid_is_and_the_power_of_noise() -> None:
    time = np.arange(4000) / SFREQ
    noise = np.random.default_rng(3).standard_normal(4000) * 10
    found = spectrum.amplitude(noise + 30 * np.sin(2 * np.pi * 17 * time), SFREQ)
    assert found is not None
    hz, density = found
    assert hz[np.argmax(density)] == 17
    quiet = density[(hz > 60) & (hz < 190)]
    assert np.sqrt(np.mean(quiet**2)) == pytest.approx(10 / np.sqrt(SFREQ / 2), rel=0.1)


def test_a_spectrum_leaves_out_what_has_holes_and_is_none_without_a_whole_window() -> None:
    signal = np.random.default_rng(4).standard_normal(4000)
    signal[1500] = np.nan
    assert spectrum.amplitude(signal, SFREQ) is not None
    assert spectrum.amplitude(signal[1000:2000], SFREQ) is None
    assert spectrum.amplitude(signal[:10], SFREQ) is None


def test_a_growing_histogram_tells_of_the_newest_looks_only() -> None:
    recent = Recent()
    bounds = [0.001, 0.01, 0.1]
    assert recent.look("one", {"bounds": bounds, "counts": [0, 0, 0, 0]}) is None
    assert recent.look("one", {"bounds": bounds, "counts": [95, 5, 0, 0]}) == 0.001
    assert recent.look("one", {"bounds": bounds, "counts": [95, 15, 0, 0]}) == 0.01
    for _ in range(6):
        last = recent.look("one", {"bounds": bounds, "counts": [95, 15, 0, 7]})
    assert last is None  # nothing came lately
    assert recent.look("one", {"bounds": bounds, "counts": [95, 15, 1, 7]}) == 0.1
    assert recent.look("one", {"bounds": bounds, "counts": [95, 15, 1, 70]}) is None  # beyond all bounds
    assert recent.look("two", {"bounds": bounds, "counts": [3, 0, 0, 0]}) == 0.001
    assert recent.look("two", None) is None


NAMES = ("Fp1", "Fp2", "F3", "F4", "C3", "C4", "O1", "Cz", "Pz", "EOG")


def test_montages_are_sums_of_channels() -> None:
    rows = np.arange(20, dtype=np.float32).reshape(2, 10) ** 2
    as_recorded = montage("recorded", NAMES, (7, 0))
    assert as_recorded.names == ("Cz", "Fp1")
    np.testing.assert_array_equal(as_recorded(rows), rows[:, [7, 0]])
    average = montage("average", NAMES, (0, 1, 2))(rows)
    np.testing.assert_allclose(average, rows[:, :3] - rows[:, :3].mean(axis=1, keepdims=True))
    chain = montage("bipolar", NAMES, range(10))
    assert chain.names == ("Fp1-F3", "F3-C3", "C3-O1", "Cz-Pz", "Fp2-F4", "F4-C4")
    np.testing.assert_array_equal(chain(rows)[:, 0], rows[:, 0] - rows[:, 2])
    assert montage("bipolar", ("a", "b", "c"), range(3)).names == ("a-b", "b-c")
    assert montage("bipolar", ("a",), (0,))(rows[:, :1]).shape == (2, 0)


def test_a_missing_channel_does_not_make_the_average_missing() -> None:
    rows = np.array([[1, 3, np.nan]], np.float32)
    np.testing.assert_array_equal(montage("average", "abc", (0, 1, 2))(rows), [[-1, 1, np.nan]])


def test_electrodes_stand_where_their_names_say() -> None:
    assert place("Cz") == (0, 0)
    left, right = place("c3"), place("C4")
    assert left is not None
    assert right is not None
    assert (left[0], left[1]) == (-right[0], right[1])
    assert left[0] < 0
    nose, neck = place("Fpz"), place("Oz")
    assert nose is not None
    assert neck is not None
    assert nose[1] > 0.5
    assert neck[1] < -0.5
    assert place("T3") == place("T7")
    assert place("Ch33") is None
    assert place("GND") is None


def test_places_of_the_whole_10_10_system_lie_apart_on_the_head() -> None:
    rows = ("AF", "F", "FC", "C", "CP", "P", "PO")
    names = [f"{row}{n}" for row in rows for n in ("z", *range(1, 7))] + [
        "T7",
        "T8",
        "Fp1",
        "Fp2",
        "O1",
        "O2",
    ]
    places = [place(name) for name in names]
    assert None not in places
    spots = np.array([each for each in places if each is not None])
    apart = np.hypot(*(spots[:, None] - spots[None]).transpose(2, 0, 1)) + np.eye(len(spots))
    assert apart.min() > 0.05, names[int(apart.min(axis=1).argmin())]
    assert np.hypot(*spots.T).max() <= 1


# --- who may look ----------------------------------------------------------------------------------------


def test_only_loopback_needs_no_token() -> None:
    assert [needs_token(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost")] == [False] * 4
    assert [needs_token(host) for host in ("0.0.0.0", "::", "192.0.2.7", "lab.example")] == [True] * 4  # noqa: S104


def test_the_token_must_be_shown_exactly() -> None:
    assert may_look(TOKEN, TOKEN, None, "lab.example")
    assert may_look(TOKEN, None, f"Bearer {TOKEN}", "lab.example")
    for wrong in (None, "", "x", TOKEN[:-1], f"{TOKEN}x", "ß"):
        assert not may_look(TOKEN, wrong, None, "127.0.0.1")
    assert not may_look(TOKEN, None, "Bearer x", "127.0.0.1")
    assert not may_look(TOKEN, "x", f"Bearer {TOKEN}", "127.0.0.1")


def test_without_a_token_only_this_machines_names_are_answered() -> None:
    for host in ("127.0.0.1:5580", "localhost:5580", "[::1]:5580", "127.0.0.1"):
        assert may_look(None, None, None, host)
    for other in ("evil.example", "evil.example:5580", "127.0.0.1.evil.example", "", None, "[::1", "0.0.0.0"):  # noqa: S104
        assert not may_look(None, None, None, other)


def test_a_foreign_page_may_not_open_the_socket() -> None:
    assert same_origin(None, "127.0.0.1:5580")
    assert same_origin("http://127.0.0.1:5580", "127.0.0.1:5580")
    assert same_origin("https://lab.example", "lab.example")
    for origin in (
        "http://evil.example",
        "null",
        "http://127.0.0.1:9999",
        "http://127.0.0.1:5580.evil.example",
    ):
        assert not same_origin(origin, "127.0.0.1:5580")


def test_a_token_file_holds_one_long_word(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    assert read_token(path) == TOKEN
    for wrong in ("", "short\n", "two words-that-are-long-enough\n"):
        path.write_text(wrong)
        with pytest.raises(ValueError, match="one word of at least 16"):
            read_token(path)
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        read_token(tmp_path / "absent")
