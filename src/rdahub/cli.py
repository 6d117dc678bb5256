"""The command line: which command, its settings, its exit code.

Rule: a user's mistake is one line on stderr, never a traceback. Exit codes: 0 done; 1 it could not be done;
2 a wrong setting, or no hub at the address that lets this client in. Logs go to stderr.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
import sys
import threading
from importlib.metadata import version

from rdahub.brainvision import RecordingError
from rdahub.config import COMMANDS, CommonSettings, SettingError, load
from rdahub.config.fields import HubSettings
from rdahub.endpoints import BindError, UnsafeEndpoint
from rdahub.logs import Logs, json_line
from rdahub_client.address import hub_wanted
from rdahub_client.discovery import find_address
from rdahub_client.errors import AuthError, HubUnreachable, RdaHubError

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    command = arguments[0] if arguments else "--help"
    if command in {"--version", "-V"}:
        print(f"rdahub {version('rdahub')}")
        return 0
    if command in {"--help", "-h"}:
        print(_usage())
        return 0
    if command not in COMMANDS:
        return _fail(f"rdahub: there is no command {command!r}; there are {', '.join(COMMANDS)}", 2)
    program = f"rdahub {command}"
    form = "text"
    try:
        settings = load(COMMANDS[command], arguments[1:], program)
        _tidy_up_when_told_to_end()
        form = settings.log_format
        with contextlib.closing(Logs(settings.log_level, form)):
            _find_hub(settings)
            exit_code = importlib.import_module(f"rdahub.commands.{command}").run(settings)
    except (SettingError, UnsafeEndpoint, HubUnreachable, AuthError, RecordingError) as error:
        return _fail(f"{program}: {error}", 2, form)
    except (RdaHubError, BindError, ValueError) as error:
        return _fail(f"{program}: {error}", 1, form)
    except BrokenPipeError:  # `rdahub watch | head`: nobody reads on, and Python must not complain at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        return _fail(f"{program}: {name}{error.strerror or error}", 1, form)
    except KeyboardInterrupt:
        return 0
    return int(exit_code)


def _tidy_up_when_told_to_end() -> None:
    """Make SIGTERM and a closed terminal end a command as Ctrl-C does, unless they are ignored (nohup)."""
    if threading.current_thread() is not threading.main_thread():
        return
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)


def _find_hub(settings: CommonSettings) -> None:
    """Put the address in the place of ``auto``, for every command that takes one."""
    if isinstance(settings, HubSettings) and hub_wanted(settings.hub) is not None:
        settings.hub = find_address(settings.hub, settings.timeout, settings.client_keys())


def _usage() -> str:
    lines = ["usage: rdahub COMMAND [options]; rdahub COMMAND --help tells more", ""]
    for name, model in COMMANDS.items():
        lines.append(f"  {name:<8}{(model.__doc__ or '').splitlines()[0]}")
    return "\n".join(lines)


def _fail(text: str, code: int, form: str = "text") -> int:
    print(json_line(logging.ERROR, "rdahub.cli", text) if form == "json" else text, file=sys.stderr)
    return code
