"""When to connect to the Recorder, when to give it up, and what state it is in.

Rule: every call brings the time (seconds, monotonic); the shell does what `poll` says and reports back.
Not here: sockets, logging, what the bytes mean.

::

    disconnected --connect--> idle --START--> streaming --STOP--> idle
         ^                                     |   ^
         +------- EOF, error, protocol error --+   v  no data for max(2 s, 5 block periods)
                  (from any state)               stalled
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

__all__ = ["DISCONNECTED", "IDLE", "STALLED", "STREAMING", "Upstream"]

DISCONNECTED: Final = "disconnected"
IDLE: Final = "idle"
STREAMING: Final = "streaming"
STALLED: Final = "stalled"

FIRST_DELAY: Final = 0.5  # s between attempts at first ...
LAST_DELAY: Final = 5.0  # ... and at last, and the jitter: a Recorder that comes back is seen within this
JITTER: Final = 0.2  # so that several hubs do not knock in step
SETTLED_SECONDS: Final = 2.0  # s of data until the Recorder counts as well, and its next failure as news
STALL_SECONDS: Final = 2.0
STALL_BLOCKS: Final = 5


class Upstream:
    """State of the connection to the Recorder.

    Parameters
    ----------
    jitter : callable
        Gives a number from 0 to 1, for spreading attempts.
    """

    def __init__(self, jitter: Callable[[], float]) -> None:
        self._jitter = jitter
        self._connected = False
        self._acquiring = False
        self._attempting = False
        self._delay = FIRST_DELAY
        self._next_attempt = 0.0
        self._last_data = 0.0
        self._first_data: float | None = None
        self._told = ""
        self.recorder_state: int | None = None
        """The Recorder's own NEWSTATE code: 0 idle, 1 monitoring, 3 impedance check."""
        self.last_error = ""

    def wants_connection(self, now: float) -> bool:
        """Whether to try to connect now; then report `connected` or `failed`."""
        return not self._connected and not self._attempting and now >= self._next_attempt

    def next_deadline(self) -> float | None:
        """When `wants_connection` may next be true."""
        return None if self._connected or self._attempting else self._next_attempt

    def attempting(self) -> None:
        """An attempt is under way."""
        self._attempting = True

    def connected(self) -> None:
        """An attempt succeeded."""
        self._attempting = False
        self._connected = True
        self.last_error = ""

    def lost(self, now: float, why: str) -> bool:
        """The attempt failed or the connection is gone. Returns True if `why` is news worth a log line."""
        news = why != self._told
        self._told = why
        self._attempting = self._connected = self._acquiring = False
        self._first_data = None
        self.recorder_state = None
        self.last_error = why
        self._next_attempt = now + self._delay * (1 + JITTER * self._jitter())
        self._delay = min(2 * self._delay, LAST_DELAY)
        return news

    def acquiring(self, now: float) -> None:
        """START came."""
        self._acquiring = True
        self._last_data = now

    def stopped(self) -> None:
        """STOP came."""
        self._acquiring = False

    def data(self, now: float) -> None:
        """A block came. After some time of them the next reconnection may be quick again."""
        self._last_data = now
        if self._first_data is None:
            self._first_data = now
        elif now - self._first_data >= SETTLED_SECONDS:
            self._delay = FIRST_DELAY
            self._told = ""

    def state(self, now: float, block_seconds: float) -> str:
        """State as users see it.

        Parameters
        ----------
        block_seconds : float
            Length of one block; 0 while unknown.
        """
        if not self._connected:
            return DISCONNECTED
        if not self._acquiring:
            return IDLE
        patience = max(STALL_SECONDS, STALL_BLOCKS * block_seconds)
        return STALLED if now - self._last_data > patience else STREAMING
