"""The messages of BrainVision RDA, as values.

Rule: a message holds what the bytes said, in raw units; nothing is scaled, interpreted or dropped here.
Not here: bytes (see `decode` and `encode`), sample indices, segments.

Format facts: docs/explanation/rda.md. All integers and floats on the wire are little-endian and unpadded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

GUID: Final = bytes.fromhex("8e45584396c9864caf4a98bbf6c91450")
HEADER_SIZE: Final = 24

START: Final = 1
DATA16: Final = 2
STOP: Final = 3
DATA32: Final = 4
NEW_STATE: Final = 5
IMPEDANCE_START: Final = 6
IMPEDANCE_DATA: Final = 7
IMPEDANCE_STOP: Final = 8
INFO: Final = 9
KEEP_ALIVE: Final = 10_000

Samples: TypeAlias = npt.NDArray[np.int16] | npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Start:
    """Layout of every block that follows (type 1).

    Attributes
    ----------
    interval_us : float
        Sampling interval in microseconds; the rate is ``1e6 / interval_us`` Hz and need not be an integer.
    resolutions : tuple of float
        Physical value of one raw unit, one per channel: ``physical = resolution * raw``.
    names : tuple of str
        Channel names; may be empty or repeated.
    """

    interval_us: float
    resolutions: tuple[float, ...]
    names: tuple[str, ...]

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return len(self.resolutions)


@dataclass(frozen=True, slots=True)
class BlockMarker:
    """A marker as a block carries it.

    Attributes
    ----------
    position : int
        Sample relative to the first of its block; negative or past the block's end is real.
    points : int
        Length in samples; 0 occurs.
    channel : int
        0-based channel, -1 for all.
    """

    position: int
    points: int
    channel: int
    type: str
    description: str


@dataclass(slots=True, eq=False)
class Data:
    """One block of samples (types 2 and 4). Not frozen: that costs each some µs.

    Attributes
    ----------
    counter : int
        The server's block counter, uint32.
    samples : ndarray, shape (n_points, n_channels), int16 or float32
        Raw units, whichever the type. Owned by the message, unless the decoder was told not to copy.
    markers : tuple of BlockMarker
    """

    counter: int
    samples: Samples
    markers: tuple[BlockMarker, ...] = ()


@dataclass(frozen=True, slots=True)
class Stop:
    """Acquisition ended (type 3)."""


@dataclass(frozen=True, slots=True)
class NewState:
    """The Recorder's state changed (type 5): 0 idle, 1 monitoring, 3 impedance check."""

    state: int


@dataclass(frozen=True, slots=True)
class ImpedanceStart:
    """Impedance measurement began (type 6)."""


@dataclass(frozen=True, slots=True)
class Electrode:
    """One measured electrode: position on the head map and kOhm, -1 when not connected."""

    name: str
    x: float
    y: float
    kohm: int


@dataclass(frozen=True, slots=True)
class Impedances:
    """Impedance values (type 7). The number of electrodes is not START's number of channels."""

    electrodes: tuple[Electrode, ...]


@dataclass(frozen=True, slots=True)
class ImpedanceStop:
    """Impedance measurement ended (type 8)."""


@dataclass(frozen=True, slots=True)
class Info:
    """What the Recorder says of its amplifier (type 9); units as text, e.g. ``µV``."""

    version: float
    interval_us: float
    resolutions: tuple[float, ...]
    names: tuple[str, ...]
    units: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """Nothing new, still here (type 10000)."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message of a type not known here, skipped by its size."""

    type: int
    size: int


@dataclass(frozen=True, slots=True)
class Note:
    """Something tolerated that must not stay hidden: where in the stream, a short name, a sentence.

    Names: ``leftover_bytes``, ``bad_resolution``, ``mixed_types``, ``data_after_stop``, ``bad_body``.
    """

    offset: int
    name: str
    text: str


Message: TypeAlias = (
    Start
    | Data
    | Stop
    | NewState
    | ImpedanceStart
    | Impedances
    | ImpedanceStop
    | Info
    | KeepAlive
    | Unknown
    | Note
)
