"""What a histogram that only grows says of the newest while.

Rule: pure; of the looks kept, the newest less the oldest. Another instance of the hub begins anew.
Not here: who counts (`rdahub.measures`), when it is looked at (`feed`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from itertools import accumulate
from typing import Any, Final

__all__ = ["Recent"]

_LOOKS: Final = 6  # five seconds, at a look a second
_SHARE: Final = 0.95


class Recent:
    """One histogram of a hub's statistics: `bounds` in seconds, `counts` of each step."""

    def __init__(self) -> None:
        self._instance = ""
        self._looks: deque[list[int]] = deque(maxlen=_LOOKS)

    def look(self, instance: str, histogram: Mapping[str, Any] | None) -> float | None:
        """Bound in seconds that 95 of 100 lately were within; None without any, or if it is beyond all."""
        if histogram is None:
            return None
        if instance != self._instance:
            self._instance = instance
            self._looks.clear()
        self._looks.append(list(histogram["counts"]))
        oldest = self._looks[0] if len(self._looks) > 1 else [0] * len(self._looks[0])
        lately = [new - old for new, old in zip(self._looks[-1], oldest, strict=True)]
        total = sum(lately)
        for within, bound in zip(accumulate(lately), histogram["bounds"], strict=False):
            if total and within >= _SHARE * total:
                return float(bound)
        return None
