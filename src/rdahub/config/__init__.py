"""Settings of every command: what they are (`models`), and how they are read and explained (`load`)."""

from rdahub.config.load import SettingError, default_text, load, placeholder
from rdahub.config.models import (
    COMMANDS,
    CommonSettings,
    DemoSettings,
    DumpSettings,
    KeygenSettings,
    ServeSettings,
    SimSettings,
    StatusSettings,
    WatchSettings,
    recorder_address,
)

__all__ = [
    "COMMANDS",
    "CommonSettings",
    "DemoSettings",
    "DumpSettings",
    "KeygenSettings",
    "ServeSettings",
    "SettingError",
    "SimSettings",
    "StatusSettings",
    "WatchSettings",
    "default_text",
    "load",
    "placeholder",
    "recorder_address",
]
