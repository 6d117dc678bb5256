"""What channels and markers are called in MNE: types, units, event names and codes.

Rule: decided by names and units alone, as MNE's BrainVision reader decides where it does; what is not sure
stays EEG (a voltage) or misc (anything else). Pure, and needs no MNE.
Not here: MNE's objects (`mne_arrays`), a live stream (`mne`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from rdahub_client.records import Marker

__all__ = ["EventId", "Events", "channel_type", "marker_name", "unit_exponent"]

EventId: TypeAlias = Mapping[str, int] | Iterable[str] | str | None
"""Which markers are events, by `marker_name`, type or description; with the codes, or without."""

_EXPONENTS: Final = {"v": 0, "mv": -3, "µv": -6, "uv": -6, "nv": -9}
_WORDS: Final = {"volt": "v", "millivolt": "mv", "microvolt": "µv", "nanovolt": "nv"}
_SIEMENS: Final = {"µS", "\N{GREEK SMALL LETTER MU}S", "uS"}
_TYPES: Final = (
    ("eog", re.compile("EOG", re.I)),
    ("ecg", re.compile("E[CK]G", re.I)),
    ("emg", re.compile("EMG", re.I)),
)

# As mne.events_from_annotations codes the markers of a BrainVision file.
_OFFSETS: Final = {"Event/": 0, "Stimulus/S": 0, "Response/R": 1000, "Optic/O": 2000}
_FIXED: Final = {"New Segment/": 99999, "SyncStatus/Sync On": 99998}
_OTHERS: Final = 10001
_MOST: Final = 1 << 24
"""Largest code: up to here float32, of which a stim channel is, has every integer."""


def _voltage(unit: str) -> int | None:
    plain = unit.strip().replace("\N{GREEK SMALL LETTER MU}", "\N{MICRO SIGN}").lower()
    return _EXPONENTS.get(_WORDS.get(plain.removesuffix("s"), plain))


def unit_exponent(unit: str) -> int:
    """Power of ten from a unit to the one MNE has: volts, and siemens; 0 for all that is unknown.

    >>> unit_exponent("µV"), unit_exponent("mV"), unit_exponent("µS"), unit_exponent("°C")
    (-6, -3, -6, 0)
    """
    exponent = _voltage(unit)
    return exponent if exponent is not None else -6 * (unit.strip() in _SIEMENS)


def channel_type(name: str, unit: str) -> str:
    """MNE's type of a channel: eog, ecg, emg where the name says so; misc if it is no voltage; else eeg."""
    if _voltage(unit) is None:
        return "misc"
    return next((kind for kind, pattern in _TYPES if pattern.search(name)), "eeg")


def marker_name(marker: Marker) -> str:
    """What MNE's BrainVision reader calls it: ``Stimulus/S  1``."""
    return f"{marker.type}/{marker.description}"


def _plain(text: str) -> str:
    return " ".join(text.split())  # Recorders pad numbers with blanks; people miscount them


class Events:
    """Which markers are events, and their codes.

    Parameters
    ----------
    event_id : dict, iterable of str, str or None
        Names of the markers that are events: whole (``"Stimulus/S  1"``), a type (``"Stimulus"``) or a
        description (``"S  1"``), however many blanks. A dict also gives their codes; else they are those of
        `mne.events_from_annotations` for BrainVision files. None: all markers.

    Attributes
    ----------
    seen : dict of str to int
        The events met so far, by name, with their codes.
    """

    def __init__(self, event_id: EventId = None) -> None:
        if isinstance(event_id, str):
            event_id = [event_id]
        if not isinstance(event_id, Mapping | Iterable | None):
            raise TypeError(f"event_id is a name, several, or a dict of codes by name; not {event_id!r}")
        if isinstance(event_id, Mapping):
            for key, code in event_id.items():
                if not isinstance(code, int) or not 1 <= code <= _MOST:
                    raise ValueError(
                        f"event_id[{key!r}] is {code!r}; a code is an integer from 1 on, {_MOST} at most"
                    )
        self._codes = (
            {_plain(key): (key, code) for key, code in event_id.items()}
            if isinstance(event_id, Mapping)
            else None
        )
        self._wanted = None if event_id is None else {_plain(key) for key in event_id}
        self.seen: dict[str, int] = {}

    def code(self, marker: Marker) -> int | None:
        """Code of a marker; None if it is no event."""
        name = marker_name(marker)
        keys = (_plain(name), _plain(marker.type), _plain(marker.description))
        key = next((key for key in keys if self._wanted is None or key in self._wanted), None)
        if key is None:
            return None
        if self._codes is not None:
            name, code = self._codes[key]
        else:
            code = self.seen.get(name) or self._usual(name)
        self.seen[name] = code
        return code

    def _usual(self, name: str) -> int:
        kind, digits = name[:-3], name[-3:].strip()
        if kind in _OFFSETS and digits.isdecimal() and (code := int(digits) + _OFFSETS[kind]):
            return code  # but not 0: such a pulse would be none
        if name in _FIXED:
            return _FIXED[name]
        others = [code for code in self.seen.values() if _OTHERS <= code < min(_FIXED.values())]
        return max(others, default=_OTHERS - 1) + 1
