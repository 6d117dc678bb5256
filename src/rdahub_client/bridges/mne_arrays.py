"""`Client.to_raw` and `Client.epochs`: what a hub holds as MNE objects.

Rule: volts, exactly ``float64(sample) * 1e-6`` where the Recorder sends µV; markers are annotations on their
very sample; what is missing is said in the object (NaN and an annotation, a drop reason), never left out.
Not here: names and units (`mne_names`), a live stream (`mne`), asking the hub (`reader`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

try:
    import mne
    from mne._fiff.constants import _ch_unit_mul_named
except ModuleNotFoundError as missing:
    if missing.name != "mne":
        raise
    raise ModuleNotFoundError("this needs MNE-Python: pip install 'rdahub[mne]'", name="mne") from None

from rdahub_client.bridges.mne_names import EventId, Events, channel_type, marker_name, unit_exponent
from rdahub_client.errors import (
    BadRange,
    HubRestarted,
    NotYetAvailable,
    Overwritten,
    RdaHubError,
    SegmentChanged,
)
from rdahub_client.past import Past
from rdahub_client.records import Float32, Segment

if TYPE_CHECKING:
    from rdahub_client.reader.archived import Archive
    from rdahub_client.reader.around import MarkerVerbs

__all__ = ["make_epochs", "make_info", "make_raw", "same_layout"]

MISSING: Final = "BAD_ACQ_SKIP"
"""Annotation of a gap: what `mne.io.Raw.filter` skips by default, and epochs avoid, as all that is BAD."""
_MONTAGES: Final = ("colin27_1005", "standard_1005")
"""The same positions, by their name since MNE 1.13, and before."""
_FACTORS: Final = {-3: 1e-3, -6: 1e-6, -9: 1e-9}
_REASONS: Final = {
    Overwritten: "OVERWRITTEN",
    SegmentChanged: "SEGMENT_END",
    BadRange: "SEGMENT_END",  # before the first sample of all
    NotYetAvailable: "NOT_YET",
}


def make_info(segment: Segment, stim_channel: str | None = None) -> Any:
    """MNE's description of a segment, for data in the Recorder's units.

    Parameters
    ----------
    stim_channel : str, optional
        A channel behind the others, for events.

    Returns
    -------
    info : mne.Info
        ``unit_mul`` of each channel says what makes volts of its data (-6: µV).
    """
    names = list(segment.ch_names)
    kinds = [channel_type(*each) for each in zip(names, segment.units, strict=True)]
    if stim_channel is not None:
        if stim_channel in names:
            raise ValueError(
                f"the Recorder has a channel {stim_channel!r} of its own; give another stim_channel"
            )
        names.append(stim_channel)
        kinds.append("stim")
    info = mne.create_info(names, segment.sfreq, kinds, verbose="error")
    with info._unlock():  # noqa: SLF001 - as mne_lsl does; MNE has no other way
        for channel, unit in zip(info["chs"], segment.units, strict=False):
            channel["unit_mul"] = _ch_unit_mul_named[unit_exponent(unit)]
    return info


def same_layout(one: Segment, other: Segment) -> bool:
    """Whether rows of two segments are of the same channels, units and rate."""
    return (one.ch_names, one.units, one.sampling_interval_us) == (
        other.ch_names,
        other.units,
        other.sampling_interval_us,
    )


def _info_in_volts(segment: Segment) -> Any:
    """The same for data in volts, with electrode positions where the names are those of a 10-05 cap."""
    info = make_info(segment)
    with info._unlock():  # noqa: SLF001
        for channel in info["chs"]:
            channel["unit_mul"] = _ch_unit_mul_named[0]
    name = next(name for name in _MONTAGES if name in mne.channels.get_builtin_montages())
    montage = mne.channels.make_standard_montage(name)
    known = {name.lower() for name in montage.ch_names}
    eeg = [name for name in info.ch_names if channel_type(name, "V") == "eeg" and name.lower() in known]
    if eeg:
        info.set_montage(montage, match_case=False, on_missing="ignore", verbose="error")
    return info


def _columns(samples: Float32) -> npt.NDArray[np.float64]:
    """A copy of samples, which are valid until the next call only; shape (n_channels, n_samples)."""
    return np.ascontiguousarray(samples.T, np.float64)


def _volts(data: npt.NDArray[np.float64], segment: Segment) -> npt.NDArray[np.float64]:
    """The same data, volts now where they are voltages."""
    for channel, unit in enumerate(segment.units):
        if exponent := unit_exponent(unit):
            data[channel] *= _FACTORS[exponent]
    return data


def make_raw(reader: MarkerVerbs | Archive, start: int, stop: int) -> Any:
    """Samples ``[start, stop)`` of one segment as `mne.io.RawArray`; see `Client.to_raw`."""
    data = _columns(reader.read(start, stop))  # first: it tells of a hub that has restarted
    instance = reader.instance
    segment = _segment_at(reader.segments, start)
    if segment is None:
        raise SegmentChanged("the segment is not known any more", requested=(start, stop), hub=reader.address)
    info = _info_in_volts(segment)
    info["description"] = f"rdahub instance {instance}, samples [{start}, {stop})"
    data = _volts(data, segment)
    raw = mne.io.RawArray(data, info, copy="auto", verbose="error")
    if (time := _wall_time(reader, start)) is not None:
        raw.set_meas_date(time)
    notes = [*_markers(reader, start, stop, info.ch_names), *_gaps(reader, start, stop)]
    _check_instance(reader, instance)
    onsets, durations, names, channels = zip(*sorted(notes), strict=True) if notes else ((), (), (), ())
    rate = segment.sfreq
    raw.set_annotations(
        mne.Annotations(
            np.array(onsets, float) / rate, np.array(durations, float) / rate, names, None, channels
        )
    )
    return raw


def _check_instance(reader: MarkerVerbs | Archive, instance: str) -> None:
    """Make sure that samples, markers and gaps asked for one after the other were those of one instance."""
    if reader.instance != instance:
        raise HubRestarted(
            f"the hub restarted meanwhile: instance {instance} is gone, and indices count from 0 again",
            hub=reader.address,
        )


def _markers(
    reader: MarkerVerbs | Archive, start: int, stop: int, names: list[str]
) -> Iterator[tuple[int, int, str, tuple[str, ...]]]:
    """With MNE's names of channels: repeated ones are numbered."""
    for marker in reader.markers(start, stop):
        channels = (names[marker.channel],) if 0 <= marker.channel < len(names) else ()
        # MNE takes what lies behind the data off in any case, with a warning.
        yield marker.index - start, min(marker.points, stop - marker.index), marker_name(marker), channels


def _gaps(
    reader: MarkerVerbs | Archive, start: int, stop: int
) -> Iterator[tuple[int, int, str, tuple[str, ...]]]:
    for gap in reader.gaps(start, stop):
        first, last = max(gap.start, start), min(gap.stop, stop)
        yield first - start, last - first, MISSING, ()


def _wall_time(reader: MarkerVerbs | Archive, index: int) -> datetime | None:
    """When a sample was taken, by the hub's wall clock, if that is known."""
    if isinstance(reader, Past):  # of an earlier instance it is not
        return None
    try:
        return datetime.fromtimestamp(float(reader.time_of(index, clock="hub")), UTC)
    except RdaHubError:
        return None


# --- epochs --------------------------------------------------------------------------------------------


def make_epochs(
    reader: MarkerVerbs, event_id: EventId, tmin: float, tmax: float, since: int | None, until: int | None
) -> Any:
    """Windows around markers as `mne.EpochsArray`; see `Client.epochs`."""
    if not tmin <= tmax:
        raise ValueError(f"epochs want tmin <= tmax, not {tmin} and {tmax}")
    events = Events(event_id)
    instance = reader.instance
    since = reader.first_available if since is None else since
    until = reader.last_sample if until is None else until
    markers = reader.markers(since, until)
    coded = [(marker, code) for marker in markers if (code := events.code(marker)) is not None]
    if not coded:
        there = ", ".join(sorted({repr(marker_name(marker)) for marker in markers})) or "none at all"
        raise ValueError(
            f"no marker on samples [{since}, {until}) is in event_id {event_id!r}; there are {there}"
        )
    segments = reader.segments
    layout = _segment_at(segments, coded[-1][0].index) or segments[-1]
    first = round(tmin * layout.sfreq)
    n = round(tmax * layout.sfreq) - first + 1
    windows: list[Any] = []
    kept: list[int] = []
    dropped: list[tuple[str, ...]] = []
    for number, (marker, _) in enumerate(coded):
        window = _window(reader, segments, layout, marker.index, first, n)
        if kept and coded[kept[-1]][0].index == marker.index:
            window = "SAME_SAMPLE"  # MNE has one epoch for a sample
        if isinstance(window, str):
            dropped.append((window,))
            continue
        dropped.append(())
        kept.append(number)
        windows.append(window)
    _check_instance(reader, instance)
    if not kept:
        reasons = ", ".join(f"{name} {count}x" for (name,), count in Counter(dropped).items())
        raise ValueError(f"none of {len(coded)} markers has a complete window: {reasons}")
    table = np.array([(coded[number][0].index, 0, coded[number][1]) for number in kept])
    codes = set(table[:, 2])
    return mne.EpochsArray(
        np.array(windows), _info_in_volts(layout), table, first / layout.sfreq,
        {name: code for name, code in events.seen.items() if code in codes},
        selection=np.array(kept), drop_log=tuple(dropped), verbose="error",
    )  # fmt: skip


def _segment_at(segments: list[Segment], index: int) -> Segment | None:
    for segment in reversed(segments):
        if segment.start <= index and (segment.stop is None or index < segment.stop):
            return segment
    return None


def _window(
    reader: MarkerVerbs, segments: list[Segment], layout: Segment, index: int, first: int, n: int
) -> npt.NDArray[np.float64] | str:
    """The window around a sample in volts, or the reason why there is none."""
    start = index + first
    segment = _segment_at(segments, index)
    if segment is not None and not same_layout(segment, layout):
        return "OTHER_LAYOUT"
    if segment is not None and (start < segment.start or (segment.stop or start + n) < start + n):
        return "SEGMENT_END"
    try:
        samples = reader.read(start, start + n)
    except (Overwritten, SegmentChanged, NotYetAvailable, BadRange) as error:
        return _REASONS[type(error)]
    window = _volts(_columns(samples), layout)
    return "GAP" if reader.gaps(start, start + n) else window
