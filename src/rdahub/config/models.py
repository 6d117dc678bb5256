"""Every setting of every command, once: its flag, RDAHUB_* variable and TOML key, type, default and meaning.

Rule: one pydantic model per command; the name of a field is the name everywhere.
docs/reference/settings.md is compared with these models by a test.
Not here: where values come from, what a user is told of them (see `load`).
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    CliPositionalArg,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from rdahub.endpoints import beside
from rdahub.viewer.access import needs_token, read_token
from rdahub_client.address import query_endpoint
from rdahub_client.keys import ClientKeys, client_keys, read_public, read_secret
from rdahub_client.shared import default_directory

_DURATION: Final = re.compile(r"\s*([0-9.eE+-]+)\s*(ms|s|m|min|h|)\s*")
_UNITS: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_RECORDER_PORT: Final = 51244


def _seconds(value: object) -> object:
    """Read ``600``, ``600s``, ``10min`` or ``1.5h``."""
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value)
    try:
        if match is None:
            raise ValueError
        return float(match[1]) * _UNITS[match[2]]
    except ValueError:
        raise ValueError(f"a duration looks like 600s, 10min or 1.5h, not {value!r}") from None


Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0, allow_inf_nan=False)]


def _holds_secret(path: Path) -> Path:
    read_secret(path)
    return path


def _holds_public(path: Path) -> Path:
    read_public(path)
    return path


SecretFile = Annotated[Path, AfterValidator(_holds_secret)]
PublicFile = Annotated[Path, AfterValidator(_holds_public)]


def recorder_address(text: str) -> tuple[str, int]:
    """Host and port of ``HOST[:PORT]``; the port is 51244 where none is given."""
    host, separator, port = text.rpartition(":")
    if not separator or text.endswith("]") or (":" in host and not host.startswith("[")):
        host, port = text, str(_RECORDER_PORT)
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"a Recorder's address is HOST or HOST:PORT, not {text!r}")
    return host.strip("[]"), int(port)


def listen_address(text: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT`` to listen on; port 0 takes a free one."""
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]/]+):(\d{1,5})", text)
    if match is None or int(match[2]) > 65535:
        raise ValueError(f"an address to listen on is HOST:PORT, not {text!r}")
    return match[1].strip("[]"), int(match[2])


class CommonSettings(BaseSettings):
    """What every command takes."""

    model_config = SettingsConfigDict(
        env_prefix="RDAHUB_",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_exit_on_error=False,
        cli_avoid_json=True,
        cli_hide_none_type=True,
        cli_shortcuts={"output": "o"},
        extra="forbid",
        protected_namespaces=(),
    )
    file_values: ClassVar[dict[str, Any]] = {}

    config: Path | None = Field(None, description="TOML file with settings; keys are flags with '_' for '-'")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level logged")
    log_format: Literal["text", "json"] = Field(
        "text", description="lines for people, or one JSON object per line"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - given by pydantic-settings
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then environment, then the TOML file."""
        return init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=cls.file_values)


class ServeSettings(CommonSettings):
    """Run a hub: one connection to the Recorder, history, any number of readers."""

    recorder: str = Field(description="HOST[:PORT] of the Recorder; port 51244 if none is given")
    query: str = Field("tcp://127.0.0.1:5570", description="endpoint of the query socket; may end in :0")
    publish: str | None = Field(
        None, description="endpoint of the publish socket; by default the port after the query socket's"
    )
    history: Seconds = Field(600.0, description="how long samples are kept, e.g. 600s or 10min")
    history_bytes: ByteSize = Field(ByteSize(1 << 30), description="most memory for samples, e.g. 1GiB", gt=0)
    name: str = Field("rdahub", description="name of the hub on this machine, for LocalClient")
    shm_dir: Path = Field(
        default_factory=default_directory,
        description="folder of the shared memory; by default /dev/shm or else the temporary folder",
    )
    curve_key: SecretFile | None = Field(
        None, description="the hub's own .key_secret file: encrypt, and let in only known clients"
    )
    curve_clients: Path | None = Field(
        None, description="folder of the .key files of clients that are let in; may change at any time"
    )
    insecure: bool = Field(False, description="allow addresses other than loopback without encryption")
    metrics: str | None = Field(
        None, description="HOST:PORT of an endpoint for Prometheus; none by default, port 0 takes a free one"
    )

    @field_validator("metrics")
    @classmethod
    def _check_metrics(cls, value: str | None) -> str | None:
        if value is not None:
            listen_address(value)
        return value

    @field_validator("recorder")
    @classmethod
    def _check_recorder(cls, value: str) -> str:
        recorder_address(value)
        return value

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value):
            raise ValueError("a name is 1 to 64 letters, digits, '-' and '_'")
        return value

    @field_validator("query", "publish")
    @classmethod
    def _check_endpoint(cls, value: str | None) -> str | None:
        match = re.fullmatch(r"ipc://.+|tcp://.+:(\d{1,5}|\*)", value or "")
        if value is None or (match and int((match[1] or "0").replace("*", "0")) < 65536):
            return value
        raise ValueError(f"an endpoint is tcp://HOST:PORT or ipc://PATH, not {value!r}")

    @field_validator("curve_clients")
    @classmethod
    def _check_clients(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_dir():
            raise ValueError("there is no such folder")
        return value

    @model_validator(mode="after")
    def _check_both(self) -> ServeSettings:
        if (self.curve_key is None) != (self.curve_clients is None):
            raise ValueError(
                "--curve-key and --curve-clients go together: the hub's secret key, and whom to let in"
            )
        return self

    def publish_endpoint(self) -> str:
        """The publish endpoint, derived from the query endpoint if not set."""
        return self.publish or beside(self.query)


class SimSettings(CommonSettings):
    """Run a simulator: an RDA server without an amplifier."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(_RECORDER_PORT, description="port to listen on; 0 takes a free one", ge=0, lt=65536)
    int16: bool = Field(False, description="send int16 samples, as the Recorder's port 51234 does")
    channels: int = Field(32, description="number of channels of the synthetic signal", ge=1)
    rate: float = Field(
        1000.0, description="samples per second of the synthetic signal", gt=0, allow_inf_nan=False
    )
    block: int = Field(20, description="samples per block", ge=1)
    speed: float = Field(
        1.0, description="times real time; 0 is as fast as clients read", ge=0, allow_inf_nan=False
    )
    seconds: Seconds | None = Field(None, description="length of the synthetic signal; endless if not given")
    seed: int = Field(0, description="seed of the synthetic noise", ge=0)
    vhdr: Path | None = Field(None, description="BrainVision recording to replay")
    loop: bool = Field(False, description="start the recording over at its end")
    dump: Path | None = Field(None, description="captured RDA byte stream to replay")


class _HubSettings(CommonSettings):
    hub: CliPositionalArg[str] = Field("127.0.0.1:5570", description="query address of the hub")
    timeout: Seconds = Field(3.0, description="how long to wait for an answer")
    curve_key: SecretFile | None = Field(
        None, description="this client's own .key_secret file, for a hub with keys"
    )
    server_key: PublicFile | None = Field(None, description="the hub's .key file; no other hub is talked to")

    @field_validator("hub")
    @classmethod
    def _check_hub(cls, value: str | None) -> str | None:
        if value is not None:
            query_endpoint(value)
        return value

    @model_validator(mode="after")
    def _check_keys(self) -> _HubSettings:
        self.client_keys()
        return self

    def client_keys(self) -> ClientKeys | None:
        """Keys to connect with, if any are set."""
        return client_keys(self.curve_key, self.server_key)


with warnings.catch_warnings():
    # It hides BaseModel.json, long deprecated. An alias would make the variable JSON, not RDAHUB_JSON.
    warnings.filterwarnings("ignore", message='Field name "json"')

    class StatusSettings(_HubSettings):
        """Show a hub's state. Exit code 0: streaming, 1: up but no data, 2: unreachable."""

        json: bool = Field(False, description="print one JSON object")  # type: ignore[assignment]

    class BenchSettings(_HubSettings):
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


class WatchSettings(_HubSettings):
    """Show a hub live in the terminal; Ctrl-C ends it."""

    seconds: Seconds | None = Field(None, description="end after this long; endless if not given")


class ViewSettings(_HubSettings):
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


class DumpSettings(_HubSettings):
    """Save a range of samples to a .npy, .npz or .vhdr file."""

    start: int | None = Field(None, description="index of the first sample", ge=0)
    stop: int | None = Field(None, description="index after the last sample", ge=0)
    last: Seconds | None = Field(None, description="the newest samples of this length, e.g. 10s")
    output: Path = Field(description="file to write: .npy, .npz or .vhdr")

    @model_validator(mode="after")
    def _check_range(self) -> DumpSettings:
        by_index = self.start is not None and self.stop is not None
        if by_index == (self.last is not None) or (self.start is None) != (self.stop is None):
            raise ValueError("say either --start and --stop, or --last")
        if self.start is not None and self.stop is not None and self.stop <= self.start:
            raise ValueError(f"--stop {self.stop} must lie after --start {self.start}")
        if self.output.suffix not in {".npy", ".npz", ".vhdr"}:
            raise ValueError(f"--output {self.output}: the name must end in .npy, .npz or .vhdr")
        return self


class DoctorSettings(_HubSettings):
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


class KeygenSettings(CommonSettings):
    """Make a CURVE key pair: NAME.key to hand out, NAME.key_secret to keep."""

    folder: CliPositionalArg[Path] = Field(description="folder for the two files")
    name: str = Field("rdahub", description="name of the key files")


class DemoSettings(CommonSettings):
    """Simulator, hub and live view in one command; Ctrl-C ends all."""

    seconds: Seconds | None = Field(None, description="end after this long; endless if not given")
    channels: int = Field(32, description="number of simulated channels", ge=1)
    rate: float = Field(1000.0, description="samples per second", gt=0, allow_inf_nan=False)
    query: str = Field("tcp://127.0.0.1:5570", description="endpoint of the query socket; may end in :0")
    name: str = Field("rdahub", description="name of the hub on this machine")


COMMANDS: Final[dict[str, type[CommonSettings]]] = {
    "demo": DemoSettings,
    "serve": ServeSettings,
    "sim": SimSettings,
    "status": StatusSettings,
    "watch": WatchSettings,
    "view": ViewSettings,
    "dump": DumpSettings,
    "bench": BenchSettings,
    "doctor": DoctorSettings,
    "keygen": KeygenSettings,
}
