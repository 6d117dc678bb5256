"""Which traces are made of which channels, and where an electrode's name puts it on the head.

Rule: pure; names are the 10-20 and 10-10 system's, in any case; a name that is none has no place, and is
said to have none rather than given one. Places are for the eye: a circle of radius 1 is the head's rim seen
from above, nose up. Not here: positions that were measured (a hub does not pass them on).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

import numpy as np

from rdahub_client.records import Float32

__all__ = ["Kind", "Montage", "montage", "place"]

Kind = Literal["recorded", "average", "bipolar"]

# Rows from the nose to the neck, in steps of a tenth of the way around; 10-10 has two names for some.
_ROWS: Final = {
    "FP": 4, "AF": 3, "F": 2, "FC": 1, "FT": 1, "C": 0, "T": 0, "CP": -1, "TP": -1, "P": -2,
    "PO": -3, "O": -4, "I": -5, "N": 5,
}  # fmt: skip
_OLD: Final = {
    "T3": "T7",
    "T4": "T8",
    "T5": "P7",
    "T6": "P8",
    "M1": "TP9",
    "M2": "TP10",
    "A1": "T9",
    "A2": "T10",
}
_RIM: Final = 0.8  # where T7, T8, Fpz and Oz stand; 9 and 10 lie outside of it


def _parts(name: str) -> tuple[str, int] | None:
    """Letters and number of an electrode; 0 for the midline."""
    name = name.strip().upper()
    match = re.fullmatch(r"(FP|AF|FC|FT|CP|TP|PO|F|C|T|P|O|I|N)(Z|10|[1-9])", _OLD.get(name, name))
    return None if match is None else (match[1], 0 if match[2] == "Z" else int(match[2]))


def place(name: str) -> tuple[float, float] | None:
    """Where an electrode stands: x to the right ear, y to the nose; None if the name is of no known place."""
    parts = _parts(name)
    if parts is None:
        return None
    letters, number = parts
    row = _ROWS[letters]
    outward = (number + 1) // 2 / 4  # 0.25 for 1 and 2, 1 for 7 and 8, 1.25 for 9 and 10
    if letters in {"FP", "O", "I", "N"} and number:
        outward = 1.0  # these rows have one electrode on either side, on the rim
    angle = np.pi / 2 * row / 5
    x, y = outward * _RIM * np.cos(angle), row / 4 * _RIM  # Fpz and Oz are on the rim
    y += (_RIM * np.sin(angle) - y) * outward**2
    return float(-x if number % 2 else x), float(y)


@dataclass(frozen=True)
class Montage:
    """Traces as sums of channels.

    Attributes
    ----------
    names : tuple of str
    plus : tuple of int
        Channel that each trace shows.
    minus : tuple of int
        Channel taken off each trace; empty for none.
    average : bool
        Whether the mean of the traces is taken off.
    """

    names: tuple[str, ...]
    plus: tuple[int, ...]
    minus: tuple[int, ...] = ()
    average: bool = False

    def __call__(self, rows: Float32) -> Float32:
        """Traces of rows of all channels, shape (n, n_traces)."""
        traces: Float32 = rows[:, self.plus]
        if self.minus:
            traces = traces - rows[:, self.minus]
        if self.average and traces.shape[1]:
            known = np.isfinite(traces)
            count = np.maximum(known.sum(axis=1, dtype=np.float32), 1)
            traces = traces - (np.where(known, traces, 0).sum(axis=1, dtype=np.float32) / count)[:, None]
        return traces


def montage(kind: Kind, ch_names: Sequence[str], chosen: Sequence[int]) -> Montage:
    """The traces of the chosen channels.

    ``average`` takes off the mean of the chosen channels. ``bipolar`` is each electrode less the next one
    behind it on its line from front to back (Fp1-F3 only if no AF3 is chosen), channels without a place
    being passed over; where no line has two, each channel less the next.
    """
    if kind != "bipolar":
        names = tuple(ch_names[i] for i in chosen)
        return Montage(names, tuple(chosen), average=kind == "average")
    pairs = _chains(ch_names, chosen) or list(pairwise(chosen))
    names = tuple(f"{ch_names[a]}-{ch_names[b]}" for a, b in pairs)
    return Montage(names, tuple(a for a, _ in pairs), tuple(b for _, b in pairs))


def _chains(ch_names: Sequence[str], chosen: Sequence[int]) -> list[tuple[int, int]]:
    lines: dict[int, list[tuple[int, int]]] = {}
    for i in chosen:
        if (parts := _parts(ch_names[i])) is not None:
            letters, number = parts
            if letters in {"FP", "O"} and number:
                number += 2  # between the inner lines and the outer ones
            lines.setdefault(number, []).append((-_ROWS[letters], i))
    pairs = []
    for number in sorted(lines, key=lambda n: (-(n % 2), -n if n % 2 else n)):  # left to right
        line = [i for _, i in sorted(lines[number])]
        pairs += list(pairwise(line))
    return pairs
