"""Log lines that somebody else's behaviour causes, and could cause a million times.

Rule: of a kind, a few are logged at once, the rest of a minute's are counted and the next line says how many
were left out. Not here: counting for `status` (`broker.Counters`).
"""

from __future__ import annotations

import logging
import time

from rdahub import limits

__all__ = ["Seldom"]


class Seldom:
    """One kind of line.

    Parameters
    ----------
    log : logging.Logger
    lines : int
        How many are logged in a minute.
    """

    def __init__(self, log: logging.Logger, lines: int = limits.SELDOM_LINES) -> None:
        self._log = log
        self._most = lines
        self._minute_ends = 0.0
        self._lines = 0
        self._left_out = 0

    def warn(self, text: str) -> None:
        """Log a warning, unless there were enough of them."""
        self._write(logging.WARNING, text)

    def tell(self, text: str) -> None:
        """Log what is no reason to worry, unless there was enough of it."""
        self._write(logging.INFO, text)

    def _write(self, level: int, text: str) -> None:
        now = time.monotonic()
        if now >= self._minute_ends:
            self._minute_ends = now + limits.SELDOM_SECONDS
            self._lines = 0
        self._lines += 1
        if self._lines > self._most:
            self._left_out += 1
            return
        more = f" (and {self._left_out} more like it before)" if self._left_out else ""
        self._left_out = 0
        self._log.log(level, "%s%s", text, more)
