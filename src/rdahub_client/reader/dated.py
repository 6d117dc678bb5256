"""Samples by time.

Rule: as in `shell`. Not here: how times are learnt (`times`, `clock`).
"""

from __future__ import annotations

from typing import overload

import numpy as np
import numpy.typing as npt

from rdahub_client.clock import Float64, SampleClock
from rdahub_client.reader.samples import SampleVerbs
from rdahub_client.reader.shell import as_index, soon
from rdahub_client.records import Float32
from rdahub_client.times import Clock, Indices, Seconds

__all__ = ["TimeVerbs"]


class TimeVerbs(SampleVerbs):
    """`time_of`, `index_at`, `at`, `sample_clock`."""

    @overload
    def time_of(self, index: int, clock: Clock = "monotonic") -> float: ...
    @overload
    def time_of(self, index: npt.NDArray[np.int64], clock: Clock = "monotonic") -> Float64: ...
    def time_of(self, index: Indices, clock: Clock = "monotonic") -> Seconds:
        """When samples were taken, or will be; without the jitter they arrived with.

        Parameters
        ----------
        index : int or ndarray of int
            Absolute sample indices; those of the open segment may lie ahead.
        clock : {'monotonic', 'wall', 'hub'}
            Of this program: `time.monotonic`, which never jumps, or `time.time`, as it is set now. Or
            the wall clock of the hub's machine, the same for all its readers.

        Returns
        -------
        time : float or ndarray of float64, same shape
            Seconds. Later than the truth by the least delay of amplifier, Recorder and network, which
            nobody can see from here; `sample_clock` tells how exact it is otherwise.

        Raises
        ------
        BadRange, NotYetAvailable, Overwritten, NoSegment
            There is no such sample, its segment has not begun or has no block yet, or is forgotten.
        HubLost, HubRestarted, NotStreaming
            As for `read`. A lost hub is no error while its clock is known from before.
        RequestRefused
            The hub is too old to tell times.
        """
        self._require_instance()
        return self._run(self._times.time_of(index, clock, soon()))

    @overload
    def index_at(self, time: float, clock: Clock = "monotonic") -> int: ...
    @overload
    def index_at(self, time: Float64, clock: Clock = "monotonic") -> npt.NDArray[np.int64]: ...
    def index_at(self, time: Seconds, clock: Clock = "monotonic") -> Indices:
        """The sample taken nearest to a time: the inverse of `time_of`.

        Parameters
        ----------
        time : float or ndarray of float
            Seconds of the clock.
        clock : {'monotonic', 'wall', 'hub'}
            As for `time_of`.

        Returns
        -------
        index : int or ndarray of int64, same shape
            In the open segment it may lie ahead, and in any may be older than the history: `read` tells.

        Raises
        ------
        NoSegment
            No samples were taken then: before, between or after the segments known.
        HubLost, HubRestarted, NotStreaming, RequestRefused
            As for `time_of`.
        """
        self._require_instance()
        return self._run(self._times.index_at(time, clock, soon()))

    def at(self, start: float, stop: float, clock: Clock = "monotonic") -> Float32:
        """Samples taken from `start` up to, not including, `stop`: `read` by time.

        Parameters
        ----------
        start, stop : float
            Seconds of the clock; each stands for the sample nearest to it.
        clock : {'monotonic', 'wall', 'hub'}
            As for `time_of`.

        Returns
        -------
        samples : ndarray of float32, shape (n, n_channels)
            As `read`. ``index_at(start)`` is the index of the first.

        Raises
        ------
        NotYetAvailable, Overwritten, SegmentChanged, NoSegment, HubLost, HubRestarted, BadRange, NotStreaming
            As for `read` and `index_at`.
        """
        self._require_instance()
        return self.read(*self._run(self._times.span(start, stop, clock, soon())))

    def sample_clock(self, index: int | None = None) -> SampleClock:
        """How exactly times are known: measured rate, error, and the offset of the hub's clock.

        Parameters
        ----------
        index : int, optional
            A sample of the segment in question; the newest segment by default.

        Raises
        ------
        NotYetAvailable, Overwritten, NoSegment, HubLost, HubRestarted, NotStreaming, RequestRefused
            As for `time_of`.
        """
        self._require_instance()
        return self._run(self._times.sample_clock(None if index is None else as_index(index), soon()))
