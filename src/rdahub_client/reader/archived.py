"""What the hub's archive holds of other instances.

Rule: as in `shell`. Not here: how it is asked for (`past`).
"""

from __future__ import annotations

from typing import Any

from rdahub_client.errors import RdaHubError
from rdahub_client.journal import Journal
from rdahub_client.past import Past, list_instances, recall
from rdahub_client.reader.shell import Shell, as_index, deadline_of
from rdahub_client.records import Float32, Instance

__all__ = ["Archive", "ArchiveVerbs"]


class ArchiveVerbs(Shell):
    """`instances`, `archive`."""

    def instances(self, timeout: float | None = 5) -> list[Instance]:
        """Instances of which there are samples, newest first: the hub's own, and those in its archive.

        `start_streaming` is not needed.
        """
        return self._run(list_instances(deadline_of(timeout)))

    def archive(self, instance: str | Instance) -> Archive:
        """What an instance in the hub's archive (``serve --archive``) recorded; usually an earlier one.

        Parameters
        ----------
        instance : str or Instance
            Its id, or itself, as `instances` tells it.

        Raises
        ------
        RequestRefused
            There is no such instance, or the hub keeps no archive.
        """
        return Archive(self, *self._run(recall(instance)))


class Archive(Past):
    """What `Reader.archive` returns: one instance, to be read while its client is connected."""

    def __init__(self, reader: Shell, about: Instance, journal: Journal) -> None:
        super().__init__(about, journal)
        self._reader = reader

    @property
    def address(self) -> str:
        """The hub, as text."""
        return self._reader.address

    def read(self, start: int, stop: int) -> Float32:
        """Samples ``[start, stop)`` of one segment, float32 of shape (stop - start, n_channels), read-only.

        Raises
        ------
        Overwritten
            They were not archived; `gaps` tells where.
        NotYetAvailable
            The range ends after the newest sample there is.
        SegmentChanged, BadRange
            The range touches two segments; such a range cannot exist.
        HubLost
            The hub does not answer.
        RequestRefused
            The archive cannot be read.
        """
        verb = self.find(as_index(start), as_index(stop))
        return self._reader._run(verb)  # noqa: SLF001 - one thing in two classes

    def to_raw(self, start: int, stop: int) -> Any:
        """Samples ``[start, stop)`` as MNE's Raw, as `Client.to_raw`, but without ``meas_date``."""
        from rdahub_client.bridges.mne_arrays import make_raw  # noqa: PLC0415 - an extra

        return make_raw(self, as_index(start), as_index(stop))

    def get_data(self, start: int, stop: int) -> Float32 | None:
        """As `read`, but None where it would raise."""
        try:
            return self.read(start, stop)
        except RdaHubError:
            return None
