"""A hub's live EEG and markers as two streams of the Lab Streaming Layer.

Rule: every sample once, bit for bit, each with a time of its own; a marker has exactly its sample's time.
Missing samples are rows of NaN, so that readers who straighten the times by counting samples (XDF importers
do) stay right; where more is missing than they would count over, the times jump instead. A text in the
markers stream says what happened.

Not here: which times (`Client.time_of`, `stamps`), finding the hub, the command line.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import re
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from rdahub_client.bridges.stamps import Float64, Stamps
from rdahub_client.errors import RdaHubError, RequestRefused
from rdahub_client.records import Block, Event, Float32, Gap, Marker, Segment, SegmentEnd, SegmentStart

__all__ = ["LslBridge", "kind_of", "load", "unit_word"]

log = logging.getLogger(__name__)

_COUNTED_OVER: Final = 2.0, 1000
"""Seconds or, if that is longer, samples that may be missing and still be rows of NaN. pyxdf and EEGLAB's
importer look for breaks longer than 1 s and 500 samples, and straighten the times of what lies between."""
_UNITS: Final = {"nV": "nanovolts", "µV": "microvolts", "mV": "millivolts", "V": "volts"}
_KINDS: Final = (("EOG", "EOG"), ("ECG", "ECG|EKG"), ("EMG", "EMG"), ("GSR", "GSR|EDA"), ("Resp", "RESP"))
_NOTE: Final = "rdahub: "

TimeOf: TypeAlias = Callable[[npt.NDArray[np.int64]], Float64]


def load() -> Any:
    """Load pylsl.

    Raises
    ------
    ImportError
        It, or the library it stands on, is not installed.
    """
    try:
        return importlib.import_module("pylsl")
    except (RuntimeError, OSError) as error:  # it found no liblsl
        raise ImportError(str(error).splitlines()[0]) from None


def lsl_clock_ahead(lsl: Any) -> float:
    """Seconds that LSL's clock is ahead of this program's monotonic clock.

    They are the same on Linux. Elsewhere the one may tick much coarser than the other; right after a tick it
    is least behind.
    """
    until = time.monotonic() + 2 * time.get_clock_info("monotonic").resolution
    ahead = [lsl.local_clock() - time.monotonic() for _ in range(10)]
    while time.monotonic() <= until:
        ahead.append(lsl.local_clock() - time.monotonic())
    return float(min(ahead))


def unit_word(unit: str) -> str:
    """A unit as LSL programs write it: ``microvolts`` for ``µV``."""
    return _UNITS.get(unit.replace("μ", "µ").replace("uV", "µV"), unit)


def kind_of(name: str, unit: str) -> str:
    """A channel's type by its name; what is not a voltage and has no such name is ``Misc``."""
    for kind, pattern in _KINDS:
        if re.search(pattern, name, re.IGNORECASE):
            return kind
    return "EEG" if unit_word(unit) in _UNITS.values() and not re.match("AUX", name, re.I) else "Misc"


def _layout(segment: Segment) -> tuple[Any, ...]:
    return segment.ch_names, segment.units, segment.sampling_interval_us


class _Outlets:
    """The two streams of one layout."""

    def __init__(self, lsl: Any, segment: Segment, name: str, source_id: str) -> None:
        info = lsl.StreamInfo(name, "EEG", segment.n_channels, segment.sfreq, lsl.cf_float32, source_id)
        channels = info.desc().append_child("channels")
        for label, unit in zip(segment.ch_names, segment.units, strict=True):
            channel = channels.append_child("channel")
            channel.append_child_value("label", label)
            channel.append_child_value("unit", unit_word(unit))
            channel.append_child_value("type", kind_of(label, unit))
        info.desc().append_child("acquisition").append_child_value("manufacturer", "Brain Products")
        texts = lsl.StreamInfo(
            f"{name} Markers", "Markers", 1, lsl.IRREGULAR_RATE, lsl.cf_string, f"{source_id} Markers"
        )
        self.samples = lsl.StreamOutlet(info)
        self.markers = lsl.StreamOutlet(texts)


class LslBridge:
    """Pushes what a stream of events tells.

    Parameters
    ----------
    lsl : module
        What `load` gave.
    time_of : callable
        ``time_of(indices)`` gives when samples were taken, in s of `time.monotonic`.
    name : str
        Name of the stream of samples; that of the markers is the same and `` Markers``.
    source_id : str
        By which readers find the streams again when this program was restarted. What stands here is followed
        by a few letters that differ with the layout, so that nobody goes on with other channels unawares.
    opened : callable
        Called with the names of both streams when they are there, again after each change of the layout.
    """

    def __init__(
        self, lsl: Any, time_of: TimeOf, name: str, source_id: str, opened: Callable[[str, str], None]
    ) -> None:
        self._lsl = lsl
        self._time_of = time_of
        self._name = name
        self._source_id = source_id
        self._opened = opened
        self._ahead = 0.0
        self._outlets: _Outlets | None = None
        self._segment: Segment | None = None
        self._stop: int | None = None  # of the segment before
        self._layout: tuple[Any, ...] = ()
        self._stamps = Stamps(1.0)
        self._fresh = False  # no row of this segment yet
        self._pending: list[tuple[int, str]] = []  # texts whose samples have no time yet

    def follow(self, events: Iterable[Event]) -> None:
        """Push until the events end."""
        try:
            for event in events:
                self.take(event)
        finally:
            self._outlets = None  # pylsl closes what nobody holds

    def take(self, event: Event) -> None:
        """Push what one event tells."""
        match event:
            case SegmentStart(segment):
                self._begin(segment)
            case Block(start, _, samples, markers):
                self._extend(start, samples, markers)
            case Gap():
                self._leave_out(event)
            case SegmentEnd(segment, reason):
                self._end(segment, reason)

    # --- segments ------------------------------------------------------------------------------------

    def _begin(self, segment: Segment) -> None:
        joined = self._outlets is None
        self._segment = segment
        self._fresh = True
        self._ahead = lsl_clock_ahead(self._lsl)
        if segment.start != self._stop:  # another instance of the hub, which counts anew
            self._push_texts(ended=True)
            self._stamps.forget()
        if _layout(segment) != self._layout:
            self._outlets = None  # first, so that nobody finds both
            self._layout = _layout(segment)
            self._stamps = Stamps(segment.sfreq)
            digest = hashlib.sha256(repr(self._layout).encode()).hexdigest()[:8]
            self._outlets = _Outlets(self._lsl, segment, self._name, f"{self._source_id} {digest}")
            self._opened(self._name, f"{self._name} Markers")
        if not joined:
            self._pending.append((segment.start, f"{_NOTE}segment {segment.number} begins"))

    def _end(self, segment: Segment, reason: str) -> None:
        self._push_texts(ended=True)
        self._push_text(f"{_NOTE}segment {segment.number} ended ({reason})", self._stamps.last)
        self._segment, self._stop = None, segment.stop

    # --- rows ----------------------------------------------------------------------------------------

    def _extend(self, start: int, samples: Float32, markers: tuple[Marker, ...]) -> None:
        if len(samples):
            self._push(start, samples)
        self._pending += [(marker.index, marker.description or marker.type) for marker in markers]
        self._push_texts()

    def _leave_out(self, gap: Gap) -> None:
        """Make up for rows that are missing."""
        n = gap.stop - gap.start
        self._pending.append((gap.start, f"{_NOTE}gap of {n} samples ({gap.reason})"))
        if self._segment is None or gap.reason == "hub_restart":
            return  # what comes next tells how long it was
        if n <= self._most(self._segment):
            self._push(gap.start, np.full((n, self._segment.n_channels), np.nan, np.float32))
            self._push_texts()
        else:
            self._stamps.jump(float(self._times(gap.stop, gap.stop + 1)[0]))

    def _push(self, start: int, samples: Float32) -> None:
        times = self._times(start, start + len(samples))
        if self._fresh:
            self._fresh = False
            self._reach(float(times[0]))
        self._push_rows(samples, self._stamps.give(start, times))

    def _reach(self, first: float) -> None:
        """Cover the time between two segments."""
        n, segment = round(self._stamps.missing(first)), self._segment
        if segment is None or n <= 0:
            return
        if n > self._most(segment):
            self._stamps.jump(first)
            return
        times = first - np.arange(n, 0, -1) / segment.sfreq
        nothing = np.full((n, segment.n_channels), np.nan, np.float32)
        self._push_rows(nothing, self._stamps.give(None, times))

    @staticmethod
    def _most(segment: Segment) -> float:
        """Rows of NaN at most."""
        seconds, samples = _COUNTED_OVER
        return max(seconds * segment.sfreq, samples)

    def _times(self, start: int, stop: int) -> Float64:
        try:
            return self._time_of(np.arange(start, stop, dtype=np.int64)) + self._ahead
        except RequestRefused:  # it does not know of times
            raise
        except RdaHubError as error:  # it is gone just now, and the samples are here
            log.debug("times of samples [%d, %d): %s", start, stop, error)
            return self._stamps.next(stop - start, self._lsl.local_clock())

    # --- out -----------------------------------------------------------------------------------------

    def _push_rows(self, samples: Float32, times: Float64) -> None:
        if self._outlets is not None:
            self._outlets.samples.push_chunk(samples, times.tolist())

    def _push_texts(self, *, ended: bool = False) -> None:
        """Push the texts whose samples have a time, and at a segment's end the others too."""
        waiting = []
        for index, text in self._pending:
            when = self._stamps.at(index, ended=ended)
            if when is None and not ended:
                waiting.append((index, text))
            else:
                self._push_text(text, when)
        self._pending = waiting

    def _push_text(self, text: str, when: float | None) -> None:
        if self._outlets is not None:
            self._outlets.markers.push_sample([text], when or 0.0)  # 0 is now
