"""Settings of one command, read; and all that a user is told about settings.

Rule: a flag goes before a variable, a variable before the file named by --config; whatever is wrong is one
line that names the setting.
Not here: the settings themselves (see `models`).
"""

from __future__ import annotations

import os
import tomllib
from argparse import Action, RawDescriptionHelpFormatter
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import ByteSize, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import CliSettingsSource, SettingsError

from rdahub.config.fields import CommonSettings
from rdahub.config.models import COMMANDS

Settings = TypeVar("Settings", bound=CommonSettings)


class SettingError(Exception):
    """A setting that cannot be used; one line that names it."""


def load(model: type[Settings], arguments: list[str], program: str) -> Settings:
    """Settings of one command from flags, environment and file.

    Raises
    ------
    SettingError
        One line naming the setting and what is wrong with it.
    SystemExit
        After ``--help``.
    """
    model.file_values = _read_file(_config_path(arguments), model)
    try:
        flags: CliSettingsSource[Any] = CliSettingsSource(
            model, cli_prog_name=program, formatter_class=partial(_Help, model)
        )
        flags.root_parser.epilog = _EPILOG
        flags.root_parser.allow_abbrev = False  # `_config_path` knows no abbreviations
        # pydantic-settings takes this in its own __init__, which a subclass's signature does not show.
        return model(_cli_settings_source=flags(args=arguments))  # type: ignore[call-arg]
    except SettingsError as error:
        raise SettingError(str(error).removeprefix("error parsing CLI: ")) from None
    except ValidationError as error:
        raise SettingError("; ".join(_explain(part) for part in error.errors(include_url=False))) from None


_EPILOG: Final = """\
Every flag is also a variable and a key of the TOML file: --some-flag is RDAHUB_SOME_FLAG and some_flag.
A flag goes before a variable, a variable before the file. A duration looks like 500ms, 10s, 10min or 1.5h."""

_PLACEHOLDERS: Final = {
    "config": "FILE",
    "recorder": "HOST[:PORT]",
    "query": "ENDPOINT",
    "metrics": "HOST:PORT",
    "rda_out": "HOST:PORT",
    "archive": "FOLDER",
    "instance": "ID",
    "archive_reserve": "SIZE",
    "publish": "ENDPOINT",
    "history": "DURATION",
    "seconds": "DURATION",
    "timeout": "DURATION",
    "duration": "DURATION",
    "last": "DURATION",
    "history_bytes": "SIZE",
    "name": "NAME",
    "source_id": "ID",
    "shm_dir": "FOLDER",
    "host": "ADDRESS",
    "vhdr": "FILE",
    "dump": "FILE",
    "output": "FILE",
    "hub": "HUB",
    "folder": "FOLDER",
    "curve_key": "FILE",
    "curve_clients": "FOLDER",
    "server_key": "FILE",
    "listen": "HOST:PORT",
    "token_file": "FILE",
}


def placeholder(name: str, field: FieldInfo) -> str:
    """What stands for a setting's value in a usage line; empty for a switch."""
    if field.annotation is bool:
        return ""
    if field.examples:
        return str(field.examples[0])
    if field.annotation in {int, float, int | None} and name not in _PLACEHOLDERS:
        return "N"
    choices = getattr(field.annotation, "__args__", ())
    return _PLACEHOLDERS.get(name) or "{" + ",".join(map(str, choices)) + "}"


def default_text(name: str, field: FieldInfo) -> str:
    """A setting's default as a user would write it; empty where there is none."""
    default = field.default
    if field.is_required():
        return "required"
    if field.default_factory is not None or default is None or default is False:
        return ""
    if isinstance(default, ByteSize):
        return default.human_readable().replace(".0", "")
    if placeholder(name, field) == "DURATION":
        return f"{default:g}s"
    return f"{default:g}" if isinstance(default, float) else str(default)


class _Help(RawDescriptionHelpFormatter):
    """Help in a user's words instead of Python's types, what all commands share last."""

    def __init__(self, model: type[CommonSettings], prog: str, **options: Any) -> None:
        super().__init__(prog, **options)
        self._fields = {name.replace("_", "-"): (name, field) for name, field in model.model_fields.items()}

    def add_usage(self, usage: str | None, actions: Iterable[Action], *rest: Any, **more: Any) -> None:
        super().add_usage(usage, self._in_words(actions), *rest, **more)

    def add_arguments(self, actions: Iterable[Action]) -> None:
        super().add_arguments(self._in_words(actions))

    def _in_words(self, actions: Iterable[Action]) -> list[Action]:
        actions = list(actions)
        for action in actions:
            option = next((text for text in action.option_strings if text.startswith("--")), action.dest)
            key = option.lstrip("-").replace("_", "-")
            if key in self._fields:
                name, field = self._fields[key]
                action.metavar = placeholder(name, field) or None
                default = default_text(name, field)
                action.help = (field.description or "").replace("%", "%%") + (default and f" [{default}]")
        common = CommonSettings.model_fields
        return sorted(actions, key=lambda action: action.dest.replace("-", "_") in common)


def _explain(error: Any) -> str:
    name = str(error["loc"][0]).replace("_", "-") if error["loc"] else ""
    text = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "missing":
        return f"--{name} is required"
    if not name:
        return text
    return f"--{name}: {text} (it is {error['input']!r})"


def _config_path(arguments: list[str]) -> Path | None:
    for i, argument in enumerate(arguments):
        if argument == "--config" and i + 1 < len(arguments):
            return Path(arguments[i + 1])
        if argument.startswith("--config="):
            return Path(argument.removeprefix("--config="))
    text = os.environ.get("RDAHUB_CONFIG")
    return Path(text) if text else None


def _read_file(path: Path | None, model: type[CommonSettings]) -> dict[str, Any]:
    """Values for one command; the file may hold those of all, but nothing else."""
    if path is None:
        return {}
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingError(f"--config {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"--config {path}: {error}") from None
    known = {name for each in COMMANDS.values() for name in each.model_fields} - {"config"}
    for key in values:
        if key not in known:
            raise SettingError(f"--config {path}: there is no setting {key!r}")
    return {key: value for key, value in values.items() if key in model.model_fields}
