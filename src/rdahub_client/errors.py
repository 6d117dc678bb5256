"""What can go wrong, by name.

Rule: every error says what was asked, what there is, and which hub said so; programs read the attributes,
people read the sentence. Not here: deciding when something is wrong.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AuthError",
    "BadRange",
    "HubLost",
    "HubRestarted",
    "HubUnreachable",
    "KeyFileError",
    "NoSegment",
    "NotStreaming",
    "NotYetAvailable",
    "Overwritten",
    "RdaHubError",
    "ReadOnly",
    "RequestRefused",
    "SegmentChanged",
    "SharedMemoryError",
    "StartTimeout",
    "StreamTimeout",
    "Unanswered",
    "WireError",
]


class RdaHubError(Exception):
    """Base of everything rdahub raises on purpose.

    Parameters
    ----------
    message : str
        One sentence: what was wrong, where, what to do.
    requested : tuple of int, optional
        The range asked for, ``(start, stop)``.
    first_available, next_index : int, optional
        What the hub holds: from the first, up to (not including) the second.
    hub : str
        Address of the hub concerned.
    """

    def __init__(
        self,
        message: str,
        *,
        requested: tuple[int, int] | None = None,
        first_available: int | None = None,
        next_index: int | None = None,
        hub: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.requested = requested
        self.first_available = first_available
        self.next_index = next_index
        self.hub = hub

    def __str__(self) -> str:
        parts = [self.message]
        if self.requested is not None:
            parts.append("asked for samples [{}, {})".format(*self.requested))
        if self.first_available is not None and self.next_index is not None:
            parts.append(f"available are [{self.first_available}, {self.next_index})")
        if self.hub:
            parts.append(f"hub {self.hub}")
        return "; ".join(parts)


class HubUnreachable(RdaHubError, ConnectionError):
    """No hub answered at this address in time."""


class HubLost(RdaHubError, ConnectionError):
    """The hub stopped answering or said goodbye."""


class AuthError(HubLost, PermissionError):
    """The hub and this client do not accept each other's keys, or only one of them has any.

    Keys may be put right while a program runs, so to a client that is streaming this is one way of having
    lost its hub: it goes on trying.
    """


class Unanswered(HubLost):
    """No answer yet when the caller's own time-out passed; the hub may still be there."""


class HubRestarted(HubLost):
    """The hub came back as a new instance: its indices count from 0 again. `read` says it once."""


class NotStreaming(RdaHubError):
    """The call needs `start_streaming` first."""


class StartTimeout(RdaHubError, TimeoutError):
    """No segment became known in time: the Recorder is not acquiring."""


class StreamTimeout(RdaHubError, TimeoutError):
    """A stream had no event for as long as its caller would wait."""


class BadRange(RdaHubError, ValueError):
    """A range that cannot exist: negative, or its stop before its start."""


class NotYetAvailable(RdaHubError, LookupError):
    """The range ends after the newest sample; it may come."""


class Overwritten(RdaHubError, LookupError):
    """The range begins before the oldest sample still held; it will not come back."""


class SegmentChanged(RdaHubError, LookupError):
    """The range touches more than one segment; read each part on its own."""


class NoSegment(RdaHubError, LookupError):
    """The hub has not seen the Recorder acquire yet."""


class RequestRefused(RdaHubError):
    """The hub refused a request for a reason of its own; `code` names it."""

    def __init__(self, message: str, *, code: str, hub: str = "") -> None:
        super().__init__(message, hub=hub)
        self.code = code


class ReadOnly(RequestRefused, PermissionError):
    """The hub lets this client's key read, but not insert markers."""


class SharedMemoryError(RdaHubError):
    """The hub's ring cannot be created, or cannot be attached here."""


class KeyFileError(RdaHubError, ValueError):
    """A CURVE key file that is missing, damaged, of the wrong kind, or readable by others."""


class WireError(RdaHubError):
    """Bytes that are not a message of this version of the wire."""

    hint: ClassVar[str] = "is the other side an rdahub of the same version?"
