"""Samples as MNE-Python's objects.

Rule: MNE is loaded when it is asked for. Not here: how its objects are made (`bridges.mne_arrays`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rdahub_client.reader.around import MarkerVerbs
from rdahub_client.reader.shell import as_index

__all__ = ["MneVerbs"]


class MneVerbs(MarkerVerbs):
    """`to_raw`, `epochs`."""

    def to_raw(self, start: int, stop: int) -> Any:
        """Samples ``[start, stop)`` as MNE's Raw; needs the extra ``mne``.

        Parameters
        ----------
        start, stop : int
            As for `read`; sample k of the result is the hub's sample ``start + k``.

        Returns
        -------
        raw : mne.io.RawArray
            In volts (channels of other units: as they are, of type misc), with markers as annotations
            (``Stimulus/S  1``), gaps as NaN annotated ``BAD_ACQ_SKIP``, positions where names are those of a
            10-05 cap, and the hub's wall clock at `start` as ``meas_date``, if known.

        Raises
        ------
        NotYetAvailable, Overwritten, SegmentChanged, HubLost, HubRestarted, BadRange, NoSegment, NotStreaming
            As from `read`.
        ModuleNotFoundError
            MNE-Python is not installed.
        """
        from rdahub_client.bridges.mne_arrays import make_raw  # noqa: PLC0415 - an extra

        return make_raw(self, as_index(start), as_index(stop))

    def epochs(
        self,
        event_id: Mapping[str, int] | Iterable[str] | str | None = None,
        tmin: float = -0.2,
        tmax: float = 0.5,
        since: int | None = None,
        until: int | None = None,
    ) -> Any:
        """Windows around markers, also past ones, as MNE's Epochs; needs the extra ``mne``.

        Parameters
        ----------
        event_id : dict, iterable of str, str or None
            Which markers: ``"Stimulus/S  1"``, a type, or a description; a dict gives codes too. None: all.
        tmin, tmax : float
            Seconds before and after the marker's sample, both ends included, as in MNE.
        since, until : int or None
            Only markers on samples ``[since, until)``; None: from the oldest the hub holds, to the newest.

        Returns
        -------
        epochs : mne.EpochsArray
            In volts, not baseline-corrected; ``events[:, 0]`` are the hub's indices. Markers without a
            complete window are in its ``drop_log``: ``GAP``, ``SEGMENT_END``, ``OVERWRITTEN``, ``NOT_YET``,
            ``OTHER_LAYOUT``, ``SAME_SAMPLE`` (as another event, which is kept).

        Raises
        ------
        ValueError
            No such marker is there, or none has a complete window.
        HubLost, HubRestarted, NotStreaming
            As from `read`.
        ModuleNotFoundError
            MNE-Python is not installed.
        """
        from rdahub_client.bridges.mne_arrays import make_epochs  # noqa: PLC0415 - an extra

        return make_epochs(self, event_id, tmin, tmax, since, until)
