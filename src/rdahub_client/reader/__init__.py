"""The verbs as a user calls them, on whatever carries them: `Client`, `LocalClient`.

Rule: one module for each theme; `shell` drives them.
Not here: deciding anything (`timeline`, `verbs`, ...), sockets (`blocking`), shared memory (`local`).
"""

from rdahub_client.reader.archived import Archive, ArchiveVerbs
from rdahub_client.reader.for_mne import MneVerbs
from rdahub_client.reader.shell import (
    EVER,
    PROBE_TIMEOUT,
    REQUEST_TIMEOUT,
    SILENCE,
    as_index,
    clocks_now,
    deadline_of,
    number_of_samples,
    patience_for,
    soon,
    unreachable,
)

__all__ = [
    "EVER",
    "PROBE_TIMEOUT",
    "REQUEST_TIMEOUT",
    "SILENCE",
    "Archive",
    "Reader",
    "as_index",
    "clocks_now",
    "deadline_of",
    "number_of_samples",
    "patience_for",
    "soon",
    "unreachable",
]


class Reader(MneVerbs, ArchiveVerbs):
    """Common part of `Client` and `LocalClient`."""
