"""The names of rdaclient.py over a hub: change the import line and the address, and a script runs on.

Rule: translation only; every call ends in `Client`. What differs (docs/how-to/migrate-from-rdaclient.md):
samples are microvolts, indices count from the hub's start, `sleep` is accepted and not needed.
Source of the names: belevtsoff/rdaclient.py.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from rdahub_client import blocking
from rdahub_client.address import Address
from rdahub_client.records import Float32, Segment
from rdahub_client.verbs import Heard
from rdahub_client.wire import BlockMessage

__all__ = ["Client", "StartMessage"]

TIMELOG: Final = "streamer_timelog"
_TIMELOG_LENGTH: Final = 100_000  # as in rdaclient.py


@dataclass(frozen=True, slots=True)
class StartMessage:
    """A segment under the names of RDA's START message.

    Attributes
    ----------
    nChannels : int
    dSamplingInterval : float
        Microseconds between samples.
    dResolutions : ndarray of float64, shape (nChannels,)
    sChannelNames : bytes
        NUL-terminated names, one byte per character.
    """

    nChannels: int  # noqa: N815 - rdaclient.py's names
    dSamplingInterval: float  # noqa: N815
    dResolutions: npt.NDArray[np.float64]  # noqa: N815
    sChannelNames: bytes  # noqa: N815

    @classmethod
    def of(cls, segment: Segment) -> StartMessage:
        """Rename a segment."""
        names = "".join(f"{name}\0" for name in segment.ch_names)
        return cls(
            segment.n_channels,
            segment.sampling_interval_us,
            np.array(segment.resolutions, np.float64),
            names.encode("cp1252", errors="replace"),
        )


class Client:
    """A drop-in for ``rdaclient.Client``, reading from a hub instead of a Recorder.

    Parameters
    ----------
    buffer_size : int
        Samples kept.
    buffer_window : int
        Longest range promised as a view; here every range is one.
    """

    def __init__(self, buffer_size: int = 300_000, buffer_window: int = 1) -> None:
        self._client = _LoggingClient(buffer_size, buffer_window)
        self._segment: Segment | None = None
        self._instance = ""

    @property
    def start_msg(self) -> StartMessage | None:
        """Layout of the segment that `start_streaming` found; None before."""
        return None if self._segment is None else StartMessage.of(self._segment)

    @property
    def is_streaming(self) -> bool:
        """True from `start_streaming` until `stop_streaming` or the Recorder's stop."""
        if not self._client.is_streaming or self._segment is None:
            return False
        if self._client.instance != self._instance:
            return False  # the hub restarted: its samples count from 0 again
        newest = self._client.start_msg
        return newest is not None and (newest.stop is None or newest.number != self._segment.number)

    @property
    def buffer_size(self) -> int:
        """Capacity in samples."""
        return self._client.buffer_size

    @property
    def buffer_window(self) -> int:
        """Longest range promised as a view, in samples."""
        return self._client.buffer_window

    @property
    def data_dtype(self) -> str:
        """Type of the samples."""
        return self._client.data_dtype

    @property
    def last_sample(self) -> int:
        """Index after the newest sample."""
        return self._client.last_sample

    def connect(self, destaddr: Address) -> None:
        """Find the hub at ``(host, port)``; an empty host is this machine."""
        self._client.connect(destaddr)

    def start_streaming(self, timeout: float = 10) -> None:
        """Wait for a segment and follow it."""
        self._client.start_streaming(timeout)
        self._segment = self._client.start_msg
        self._instance = self._client.instance

    def stop_streaming(self, write_timelog: bool = False) -> None:
        """Stop; with `write_timelog`, save when blocks arrived (hub's wall clock, s) as an .npy file."""
        self._client.stop_streaming()
        if write_timelog:
            np.save(Path(TIMELOG), np.array(self._client.timelog))

    def disconnect(self) -> None:
        """Leave the hub. `get_data` still answers from the window."""
        self._client.disconnect()

    def get_data(self, sampleStart: int, sampleEnd: int) -> Float32 | None:  # noqa: N803
        """Samples of the range, or None if they are not to be had now."""
        return self._client.get_data(sampleStart, sampleEnd)

    def wait(
        self,
        sampleStart: int,  # noqa: N803
        sampleEnd: int,  # noqa: N803
        timeout: float = 1,
        sleep: float = 5e-4,  # noqa: ARG002 - nothing here sleeps
    ) -> Float32 | None:
        """Samples of the range once they are there; None after the time-out or if they are gone."""
        return self._client.wait(sampleStart, sampleEnd, timeout)

    def poll(self, nSamples: int, timeout: float = 10, sleep: float = 5e-4) -> Float32 | None:  # noqa: ARG002, N803
        """The newest samples after the next block; None after the time-out or if there are fewer."""
        return self._client.poll(nSamples, timeout)


class _LoggingClient(blocking.Client):
    """A client that remembers when the hub received each block."""

    def __init__(self, buffer_size: int, buffer_window: int) -> None:
        super().__init__(buffer_size, buffer_window)
        self.timelog: deque[float] = deque(maxlen=_TIMELOG_LENGTH)

    def _listen(self, deadline: float | None) -> Heard:
        message = super()._listen(deadline)
        if isinstance(message, BlockMessage):
            self.timelog.append(message.wall_ns * 1e-9)
        return message
