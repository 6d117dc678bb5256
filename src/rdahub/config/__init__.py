"""Settings of every command: what they are (`models`), and how they are read and explained (`load`)."""

from rdahub.config.fields import CommonSettings, listen_address, recorder_address
from rdahub.config.load import SettingError, default_text, load, placeholder
from rdahub.config.models import COMMANDS
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

__all__ = [
    "COMMANDS",
    "BenchSettings",
    "CommonSettings",
    "DemoSettings",
    "DoctorSettings",
    "DumpSettings",
    "KeygenSettings",
    "ListSettings",
    "LslSettings",
    "RecordSettings",
    "ServeSettings",
    "SettingError",
    "SimSettings",
    "StatusSettings",
    "ViewSettings",
    "WatchSettings",
    "default_text",
    "listen_address",
    "load",
    "placeholder",
    "recorder_address",
]
