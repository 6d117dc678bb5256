"""What several settings are made of: durations, key files, addresses; and what every command takes.

Rule: a value is checked here once, and what is wrong with it is said in one line.
Not here: the commands' own settings (`serving`, `reading`).
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ByteSize,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    CliPositionalArg,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from rdahub_client.address import hub_wanted, query_endpoint
from rdahub_client.keys import ClientKeys, client_keys, read_public, read_secret

_DURATION: Final = re.compile(r"\s*([0-9.eE+-]+)\s*(ms|s|m|min|h|)\s*")
_UNITS: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
RECORDER_PORT: Final = 51244


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


def duration_or_size(text: str) -> tuple[float | None, int | None]:
    """``1h`` or a number as seconds, ``1GiB`` as bytes; the other is None."""
    with suppress(ValidationError):
        return TypeAdapter(Seconds).validate_python(text), None
    with suppress(ValidationError):
        if (size := TypeAdapter(ByteSize).validate_python(text)) > 0:
            return None, size
    raise ValueError(f"it is a duration like 1h or a size like 1GiB, not {text!r}")


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
        host, port = text, str(RECORDER_PORT)
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


class HubSettings(CommonSettings):
    """What every command takes that connects to a hub."""

    hub: CliPositionalArg[str] = Field(
        "127.0.0.1:5570", description="query address of the hub; auto or auto:NAME finds it"
    )
    timeout: Seconds = Field(3.0, description="how long to wait for an answer")
    curve_key: SecretFile | None = Field(
        None, description="this client's own .key_secret file, for a hub with keys"
    )
    server_key: PublicFile | None = Field(None, description="the hub's .key file; no other hub is talked to")

    @field_validator("hub")
    @classmethod
    def _check_hub(cls, value: str | None) -> str | None:
        if value is not None and hub_wanted(value) is None:
            query_endpoint(value)
        return value

    @model_validator(mode="after")
    def _check_keys(self) -> HubSettings:
        self.client_keys()
        return self

    def client_keys(self) -> ClientKeys | None:
        """Keys to connect with, if any are set."""
        return client_keys(self.curve_key, self.server_key)
