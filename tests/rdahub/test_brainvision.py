"""Reading recordings: those pybv writes, odd ones by hand, and every way to be wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pybv
import pytest

from rdahub.brainvision import Recording, RecordingError, read
from rdahub.rda import BlockMarker

REAL = Path(__file__).parents[3] / "shared" / "eeg" / "test.vhdr"

HEADER = r"""Brain Vision Data Exchange Header File Version 1.0
; a comment

[Common Infos]
Codepage=UTF-8
DataFile=odd.eeg
MarkerFile=odd.vmrk
DataFormat=BINARY
DataOrientation=MULTIPLEXED
NumberOfChannels=2
SamplingInterval=2000

[Binary Infos]
BinaryFormat=INT_16

[Channel Infos]
Ch1=Fp1,,0.5,µV
Ch2=left\1right,,,

[Comment]
[Channel Infos]
Ch1=not,a,channel
Codepage=Klingon
"""

MARKERS = r"""Brain Vision Data Exchange Marker File, Version 1.0

[Common Infos]
Codepage=UTF-8
DataFile=odd.eeg

[Marker Infos]
; Mk9=a,comment,1,1,0
Mk1=New Segment,,1,1,0,20131113161403794232
Mk2=Comment,one\1 two µ,3,0,2
Mk3=Stimulus,S  1,2,,
"""

RAW = np.array([[1, -2], [300, 32767], [-32768, 6]], "<i2")


def write(
    folder: Path,
    header: str | bytes = HEADER,
    markers: str | bytes | None = MARKERS,
    data: bytes = RAW.tobytes(),
) -> Path:
    """Write a small recording; text as UTF-8."""
    path = folder / "odd.vhdr"
    path.write_bytes(header if isinstance(header, bytes) else header.encode())
    if markers is not None:
        path.with_suffix(".vmrk").write_bytes(markers if isinstance(markers, bytes) else markers.encode())
    path.with_suffix(".eeg").write_bytes(data)
    return path


@pytest.mark.parametrize("fmt", ["binary_int16", "binary_float32"])
def test_reads_what_pybv_wrote(tmp_path: Path, fmt: str) -> None:
    rng = np.random.default_rng(1)
    raw = rng.integers(-3000, 3000, size=(500, 3)).astype(np.int16)
    resolution = np.array([0.1, 0.5, 1.0])
    pybv.write_brainvision(
        data=(raw * resolution * 1e-6).T,
        sfreq=250,
        ch_names=["Fp1", "a,b", "Cz"],
        fname_base="rec",
        folder_out=tmp_path,
        resolution=resolution,
        fmt=fmt,
        events=[{"onset": 10, "duration": 2, "description": 7, "type": "Stimulus", "channels": "all"}],
    )
    recording = read(str(tmp_path / "rec.vhdr"))
    assert recording.interval_us == 4000.0
    assert recording.resolutions == (0.1, 0.5, 1.0)
    assert recording.names == ("Fp1", "a,b", "Cz")
    assert recording.units == ("µV",) * 3
    assert recording.raw.dtype == (np.int16 if fmt == "binary_int16" else np.float32)
    assert (recording.n_samples, recording.n_channels) == recording.raw.shape == (500, 3)
    assert recording.raw.flags.c_contiguous
    # pybv scales by floats, so an int16 may be one off where it truncates; float32 is near.
    np.testing.assert_allclose(recording.raw, raw, atol=1.0 if fmt == "binary_int16" else 1e-3)
    assert recording.markers == (BlockMarker(10, 2, -1, "Stimulus", "S  7"),)


def test_reads_the_odd_recording(tmp_path: Path) -> None:
    recording = read(write(tmp_path))
    assert recording.interval_us == 2000.0
    assert recording.resolutions == (0.5, 1.0)
    assert recording.names == ("Fp1", "left,right")
    assert recording.units == ("µV", "µV")
    assert recording.raw.tolist() == RAW.tolist()
    assert recording.markers == (
        BlockMarker(0, 1, -1, "New Segment", ""),
        BlockMarker(2, 0, 1, "Comment", "one, two µ"),
        BlockMarker(1, 1, -1, "Stimulus", "S  1"),
    )


def same(a: Recording, b: Recording) -> bool:
    facts = ("interval_us", "resolutions", "names", "units", "markers")
    return all(getattr(a, f) == getattr(b, f) for f in facts) and np.array_equal(a.raw, b.raw)


@pytest.mark.parametrize(
    ("header", "data"),
    [
        pytest.param(HEADER.replace("MULTIPLEXED", "VECTORIZED"), RAW.T.tobytes(), id="vectorized"),
        pytest.param(
            HEADER.replace("INT_16", "INT_16\nUseBigEndianOrder=YES"), RAW.astype(">i2").tobytes(), id="big"
        ),
        pytest.param(HEADER.replace("\n", "\r\n"), RAW.tobytes(), id="crlf"),
        pytest.param("\ufeff" + HEADER, RAW.tobytes(), id="byte order mark"),
        pytest.param(
            HEADER.replace("Brain Vision", "BrainVision").replace("1.0", "2.0"), RAW.tobytes(), id="version 2"
        ),
        pytest.param(
            HEADER.lower().replace("ch1=fp1", "Ch1=Fp1").replace("µv", "µV"), RAW.tobytes(), id="case"
        ),
        pytest.param(HEADER.replace("=odd.eeg", "=$b.eeg"), RAW.tobytes(), id="own name"),
        pytest.param(HEADER.replace("UTF-8", "ANSI").encode("cp1252"), RAW.tobytes(), id="cp1252"),
        pytest.param(
            HEADER.replace("Codepage=UTF-8\n", "").encode("cp1252"), RAW.tobytes(), id="cp1252, silent"
        ),
        pytest.param(HEADER.replace("Codepage=UTF-8\n", ""), RAW.tobytes(), id="UTF-8, silent"),
        pytest.param(HEADER.encode() + b"\xff\x81\0", RAW.tobytes(), id="any bytes in the comment"),
    ],
)
def test_the_same_recording_in_other_clothes(tmp_path: Path, header: str | bytes, data: bytes) -> None:
    expected = read(write(tmp_path))
    (tmp_path / "other").mkdir()
    found = read(write(tmp_path / "other", header, data=data))
    assert same(found, expected)
    assert found.raw.flags.c_contiguous
    assert found.raw.dtype == np.int16


def test_float32_keeps_every_bit(tmp_path: Path) -> None:
    values = np.array([[np.nan, 1e-30], [np.inf, -0.0]], "<f4")
    recording = read(write(tmp_path, HEADER.replace("INT_16", "IEEE_FLOAT_32"), data=values.tobytes()))
    assert recording.raw.tobytes() == values.tobytes()


@pytest.mark.parametrize("line", ["", "MarkerFile=\n"])
def test_markers_are_optional(tmp_path: Path, line: str) -> None:
    assert read(write(tmp_path, HEADER.replace("MarkerFile=odd.vmrk\n", line), None)).markers == ()


def test_units_are_kept(tmp_path: Path) -> None:
    recording = read(write(tmp_path, HEADER.replace("0.5,µV", "0.5,°C,more").replace("right,,,", "right")))
    assert recording.units == ("°C", "µV")
    assert recording.resolutions == (0.5, 1.0)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("Brain Vision", "Brian", "line 1: this is not a BrainVision header file"),
        ("Header File", "Marker File", "this is not a BrainVision header file"),
        ("Version 1.0", "Version 3.0", "version 3.0 is not known"),
        ("UTF-8", "UTF-16", "Codepage=UTF-16 is not known"),
        ("=BINARY", "=ASCII", "DataFormat=ASCII cannot be read"),
        ("=BINARY", "=BINARY\nDataType=FREQUENCYDOMAIN", "DataType=FREQUENCYDOMAIN cannot be read"),
        ("=MULTIPLEXED", "=DIAGONAL", "DataOrientation=DIAGONAL cannot be read"),
        ("INT_16", "INT_32", "line 14: BinaryFormat=INT_32 cannot be read"),
        ("BinaryFormat=INT_16", "", "BinaryFormat is missing"),
        ("NumberOfChannels=2\n", "", "NumberOfChannels is missing"),
        ("NumberOfChannels=2", "NumberOfChannels=two", "line 10: NumberOfChannels is 'two'"),
        ("NumberOfChannels=2", "NumberOfChannels=0", "NumberOfChannels is '0'"),
        ("NumberOfChannels=2", "NumberOfChannels=3", "Ch3 is missing"),
        ("NumberOfChannels=2", "NumberOfChannels=2\nnumberofchannels=2", "given a second time"),
        ("SamplingInterval=2000", "SamplingInterval=0", "SamplingInterval is '0'"),
        ("SamplingInterval=2000", "SamplingInterval=nan", "SamplingInterval is 'nan'"),
        ("SamplingInterval=2000\n", "", "SamplingInterval is missing"),
        ("0.5", "half", "line 17: the resolution of Ch1 is 'half'"),
        ("0.5", "0,5", "the resolution of Ch1 is '0'"),
        ("0.5", "-1", "the resolution of Ch1 is '-1'"),
        ("DataFile=odd.eeg\n", "", "DataFile is missing"),
        ("=odd.eeg", "=", "no usable file name"),
        ("=odd.eeg", "=gone.eeg", "line 6: there is no file .*gone.eeg; put it there"),
        ("=odd.eeg", "=.", "there is no file"),
        ("=odd.eeg", "=" + "x" * 5000, "there is no file"),
        ("=odd.vmrk", "=gone.vmrk", "line 7: there is no file .*gone.vmrk; put it there"),
        ("=odd.vmrk", "=odd.eeg", "odd.eeg, line 1: this is not a BrainVision marker file"),
        ("Fp1", "F\0", "line 17: a NUL in the text"),
    ],
)
def test_a_wrong_header_is_one_clear_sentence(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in HEADER
    with pytest.raises(RecordingError, match=says) as caught:
        read(write(tmp_path, HEADER.replace(old, new, 1)))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("Marker File", "Header File", "not a BrainVision marker file"),
        (",3,0,2", ",three,0,2", "line 10: the marker's position is 'three'"),
        (",3,0,2", ",,0,2", "the marker's position is ''"),
        (",3,0,2", "", "the marker's position is ''"),
        (",3,0,2", ",-3,0,2", "the marker's position is '-3'"),
        (",3,0,2", ",9999999999,0,2", "the marker's position is '9999999999'"),
        (",3,0,2", ",3,-1,2", "the marker's length is '-1'"),
        (",3,0,2", ",3,1,x", "the marker's channel is 'x'"),
    ],
)
def test_a_wrong_marker_is_one_clear_sentence(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in MARKERS
    with pytest.raises(RecordingError, match=says) as caught:
        read(write(tmp_path, markers=MARKERS.replace(old, new, 1)))
    assert "odd.vmrk" in str(caught.value)


def test_text_of_another_encoding_is_named_by_line(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"odd\.vhdr, line 17: the text is not utf-8"):
        read(write(tmp_path, HEADER.encode("cp1252")))
    with pytest.raises(RecordingError, match=r"odd\.vmrk, line 10: the text is not cp1252"):
        read(write(tmp_path, markers=MARKERS.replace("UTF-8", "ANSI").encode().replace(b"two", b"\x81")))


@pytest.mark.parametrize(("data", "says"), [(b"", "empty"), (b"12345", "5 bytes are not a whole number")])
def test_data_that_cannot_be_whole(tmp_path: Path, data: bytes, says: str) -> None:
    with pytest.raises(RecordingError, match=says):
        read(write(tmp_path, data=data))


@pytest.mark.parametrize("name", ["gone.vhdr", ".", "a\0b.vhdr", "x" * 5000])
def test_a_header_that_cannot_be_opened(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecordingError, match="cannot read the header file"):
        read(tmp_path / name)


def test_the_real_recording() -> None:
    if not REAL.exists():
        pytest.skip(f"{REAL} is not on this machine; the other tests make their own recordings")
    recording = read(REAL)
    assert recording.raw.shape == (7900, 32)
    assert recording.raw.dtype == np.int16
    assert recording.resolutions == (0.5,) * 32
    assert recording.units[1:3] == ("µV", "µV")
    assert recording.units[26:] == ("BS", "µS", "ARU", "uS", "S", "C")
    assert len(recording.markers) == 14
    assert recording.markers[1] == BlockMarker(486, 0, -1, "Stimulus", "S253")
