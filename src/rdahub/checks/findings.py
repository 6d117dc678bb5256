"""One finding of `rdahub doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

__all__ = ["NOTE", "OK", "WARNING", "WRONG", "Finding", "Level"]

Level: TypeAlias = Literal["ok", "note", "warning", "wrong"]
OK: Final = "ok"
NOTE: Final = "note"
"""Nothing is known to be wrong, but it was not there to be looked at."""
WARNING: Final = "warning"
WRONG: Final = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it is, and what to do if it is not ok."""

    level: Level
    about: str
    text: str
    todo: str = ""

    def __str__(self) -> str:
        return f"{self.level:<8} {self.about:<10} {self.text}" + (f". Do: {self.todo}" if self.todo else "")
