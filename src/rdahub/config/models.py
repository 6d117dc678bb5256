"""Every setting of every command, once: its flag, RDAHUB_* variable and TOML key, type, default and meaning.

Rule: one pydantic model per command; the name of a field is the name everywhere.
docs/reference/settings.md is compared with these models by a test.
Not here: the models (`serving`, `reading`); where values come from, what a user is told of them (`load`).
"""

from __future__ import annotations

from typing import Final

from rdahub.config.fields import CommonSettings
from rdahub.config.reading import (
    BenchSettings,
    DoctorSettings,
    DumpSettings,
    ListSettings,
    LslSettings,
    RecordSettings,
    StatusSettings,
    ViewSettings,
    WatchSettings,
)
from rdahub.config.serving import DemoSettings, KeygenSettings, ServeSettings, SimSettings

__all__ = ["COMMANDS"]

COMMANDS: Final[dict[str, type[CommonSettings]]] = {
    "demo": DemoSettings,
    "serve": ServeSettings,
    "sim": SimSettings,
    "list": ListSettings,
    "status": StatusSettings,
    "watch": WatchSettings,
    "view": ViewSettings,
    "dump": DumpSettings,
    "record": RecordSettings,
    "lsl": LslSettings,
    "bench": BenchSettings,
    "doctor": DoctorSettings,
    "keygen": KeygenSettings,
}
