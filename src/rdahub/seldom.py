"""Log lines that somebody else's behaviour causes, and could cause a million times.

Rule: the first is logged at once, further ones of its kind at most every `limits.SELDOM_SECONDS`, with how
many were left out. Not here: counting for `status` (`broker.Counters`).
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
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._next = 0.0
        self._left_out = 0

    def warn(self, text: str) -> None:
        """Log a warning, unless there was one a moment ago."""
        now = time.monotonic()
        if now < self._next:
            self._left_out += 1
            return
        more = f" (and {self._left_out} more like it meanwhile)" if self._left_out else ""
        self._log.warning("%s%s", text, more)
        self._next = now + limits.SELDOM_SECONDS
        self._left_out = 0
