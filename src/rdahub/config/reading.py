"""Settings of what reads a hub, or looks after one.

Rule: as in `models`. Not here: what serves (`serving`).
"""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path

from pydantic import ByteSize, Field, field_validator, model_validator
from pydantic_settings import CliPositionalArg

from rdahub.config.fields import (
    CommonSettings,
    HubSettings,
    Seconds,
    duration_or_size,
    listen_address,
    recorder_address,
)
from rdahub.viewer.access import needs_token, read_token
from rdahub_client.shared import default_directory

with warnings.catch_warnings():
    # It hides BaseModel.json, long deprecated. An alias would make the variable JSON, not RDAHUB_JSON.
    warnings.filterwarnings("ignore", message='Field name "json"')

    class StatusSettings(HubSettings):
        """Show a hub's state. Exit code 0: streaming, 1: up but no data, 2: unreachable."""

        json: bool = Field(False, description="print one JSON object")  # type: ignore[assignment]

    class BenchSettings(HubSettings):
        """Measure how fast a hub is on these machines, and where the time goes."""

        hub: CliPositionalArg[str | None] = Field(  # type: ignore[assignment]
            None, description="query address of a running hub; without it simulator and hub are started here"
        )
        channels: int = Field(32, description="channels of the simulator, without HUB", ge=1)
        rate: float = Field(
            1000.0, description="samples per second of the simulator, without HUB", gt=0, allow_inf_nan=False
        )
        block: int = Field(20, description="samples per block of the simulator, without HUB", ge=1)
        seconds: Seconds = Field(10.0, description="how long live blocks are timed, with each kind of client")
        local: bool = Field(
            True, description="time LocalClient too, if the hub is on this machine; --no-local does not"
        )
        shm_dir: Path = Field(
            default_factory=default_directory,
            description="folder of the hub's shared memory, for LocalClient",
        )
        json: bool = Field(False, description="print one JSON object")  # type: ignore[assignment]

        @model_validator(mode="after")
        def _check_simulator(self) -> BenchSettings:
            for name in ("channels", "rate", "block"):
                # A value equal to its default cannot be told from one not given, and does no harm.
                if self.hub is not None and getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"--{name} has no meaning with a running hub, whose Recorder decides")
            return self

    class ListSettings(CommonSettings):
        """List the hubs of this machine and of the network. Exit code 1: there are none."""

        timeout: Seconds = Field(2.0, description="how long to listen to the network")
        shm_dir: Path = Field(
            default_factory=default_directory,
            description="folder of the shared memory of this machine's hubs",
        )
        json: bool = Field(False, description="print a JSON list")  # type: ignore[assignment]


class WatchSettings(HubSettings):
    """Show a hub live in the terminal; Ctrl-C ends it."""

    seconds: Seconds | None = Field(None, description="end after this long; endless if not given")


class ViewSettings(HubSettings):
    """Show a hub live in a browser; Ctrl-C ends it."""

    listen: str = Field("127.0.0.1:5580", description="HOST:PORT of the page; port 0 takes a free one")
    token_file: Path | None = Field(
        None, description="file with a word that browsers must show, as ?token=; needed beyond loopback"
    )

    @field_validator("listen")
    @classmethod
    def _check_listen(cls, value: str) -> str:
        listen_address(value)
        return value

    @field_validator("token_file")
    @classmethod
    def _check_token_file(cls, value: Path | None) -> Path | None:
        if value is not None:
            read_token(value)
        return value

    @model_validator(mode="after")
    def _check_token(self) -> ViewSettings:
        if self.token_file is None and needs_token(listen_address(self.listen)[0]):
            raise ValueError(
                f"--listen {self.listen} can be reached from the network; "
                "say with --token-file what a browser must show"
            )
        return self


class DumpSettings(HubSettings):
    """Save a range of samples to a .npy, .npz, .vhdr, .fif or .edf file."""

    start: int | None = Field(None, description="index of the first sample", ge=0)
    stop: int | None = Field(None, description="index after the last sample", ge=0)
    last: Seconds | None = Field(None, description="the newest samples of this length, e.g. 10s")
    instance: str | None = Field(
        None, description="id of an earlier instance, from a hub with --archive; the present one by default"
    )
    output: Path = Field(description="file to write: .npy, .npz, .vhdr, .fif or .edf")
    overwrite: bool = Field(False, description="replace what has this name already")

    @model_validator(mode="after")
    def _check_range(self) -> DumpSettings:
        by_index = self.start is not None and self.stop is not None
        if by_index == (self.last is not None) or (self.start is None) != (self.stop is None):
            raise ValueError("say either --start and --stop, or --last")
        if self.start is not None and self.stop is not None and self.stop <= self.start:
            raise ValueError(f"--stop {self.stop} must lie after --start {self.start}")
        if self.output.suffix not in {".npy", ".npz", ".vhdr", ".fif", ".edf"}:
            raise ValueError(f"--output {self.output}: the name must end in .npy, .npz, .vhdr, .fif or .edf")
        return self

    @model_validator(mode="after")
    def _check_output(self) -> DumpSettings:
        suffixes = (".vhdr", ".eeg", ".vmrk") if self.output.suffix == ".vhdr" else (self.output.suffix,)
        for path in map(self.output.with_suffix, suffixes):
            if not self.overwrite and os.path.lexists(path) and not path.is_dir():
                raise ValueError(f"--output: {path} is there already; take another name, or --overwrite")
        return self


class LslSettings(HubSettings):
    """Give a hub's EEG and markers to programs of the Lab Streaming Layer; Ctrl-C ends it."""

    name: str = Field(
        "BrainVision RDA",
        description="name of the stream; that of the markers has ' Markers' behind it",
        min_length=1,
    )
    source_id: str | None = Field(
        None,
        description="how readers know the stream again, before a few letters that tell the layout; "
        "by default the hub's name and address",
    )


class RecordSettings(HubSettings):
    """Write a hub's EEG to BrainVision files as it comes; Ctrl-C ends it."""

    output: Path = Field(description="folder to write to", examples=["FOLDER"])
    start: str = Field(
        "live", description="first sample, if there is nothing to resume", examples=["{live,oldest,INDEX}"]
    )
    resume: bool = Field(
        True, description="go on where this hub's newest recording in the folder ends; or --no-resume"
    )
    rotate: str | None = Field(
        None, description="begin new files after so much, e.g. 1h or 1GiB", examples=["{DURATION,SIZE}"]
    )
    duration: Seconds | None = Field(
        None,
        description="end when so much EEG is written, missing samples included; endless if not given",
    )
    name: str | None = Field(None, description="what the files' names begin with; by default the hub's name")

    @field_validator("output")
    @classmethod
    def _check_output(cls, value: Path) -> Path:
        if value.exists() and not value.is_dir():
            raise ValueError("it is not a folder")
        return value

    @field_validator("start")
    @classmethod
    def _check_start(cls, value: str) -> str:
        if value not in {"live", "oldest"} and not (value.isascii() and value.isdigit()):
            raise ValueError("a recording starts live, oldest or at an index from 0 on")
        return value

    @field_validator("rotate")
    @classmethod
    def _check_rotate(cls, value: str | None) -> str | None:
        if value is not None:
            duration_or_size(value)
        return value

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[\w-][\w.-]{0,63}", value):
            raise ValueError("a name is 1 to 64 letters, digits, '-', '_' and '.'")
        return value

    def most(self, sfreq: float) -> int | None:
        """Samples to record, at least 1; None without an end."""
        return None if self.duration is None else max(1, round(self.duration * sfreq))

    def limit(self, sfreq: float, n_channels: int) -> int | None:
        """Samples in one set of files, at least 1; None without a limit."""
        if self.rotate is None:
            return None
        seconds, size = duration_or_size(self.rotate)
        return max(1, round(seconds * sfreq) if seconds is not None else (size or 0) // (4 * n_channels))


class DoctorSettings(HubSettings):
    """Look whether Recorder, network, memory, clock and hub are as they should be, and say what to do."""

    recorder: CliPositionalArg[str | None] = Field(
        None, description="HOST[:PORT] of the Recorder; without it only this machine and a hub are looked at"
    )
    hub: str = Field("127.0.0.1:5570", description="query address of the hub, if one should be running")
    seconds: Seconds = Field(5.0, description="how long the Recorder's blocks are looked at")
    history: Seconds = Field(600.0, description="the hub's --history, to see whether memory is enough")
    history_bytes: ByteSize = Field(ByteSize(1 << 30), description="the hub's --history-bytes", gt=0)
    shm_dir: Path = Field(
        default_factory=default_directory,
        description="folder of the shared memory; by default /dev/shm or else the temporary folder",
    )

    @field_validator("recorder")
    @classmethod
    def _check_recorder(cls, value: str | None) -> str | None:
        if value is not None:
            recorder_address(value)
        return value
