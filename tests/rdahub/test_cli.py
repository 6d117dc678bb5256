"""The command line: which command runs, and what becomes of its errors."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Iterator

import pytest

from rdahub.brainvision import RecordingError
from rdahub.cli import main
from rdahub.commands import status
from rdahub.config import COMMANDS, SettingError, serving
from rdahub.endpoints import BindError
from rdahub.recording import export
from rdahub_client import HubLost, HubUnreachable, Overwritten

SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


@pytest.fixture(autouse=True)
def _as_found(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("RDAHUB_")]:
        monkeypatch.delenv(name)
    before = [(number, signal.getsignal(number)) for number in SIGNALS]
    yield
    for number, handler in before:
        signal.signal(number, handler)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    for command in COMMANDS:
        assert any(line.split()[:1] == [command] for line in lines)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("rdahub 0.")


def test_an_unknown_command_is_named_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sreve"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "'sreve'" in err
    assert "serve" in err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_module(command: str) -> None:
    assert callable(importlib.import_module(f"rdahub.commands.{command}").run)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    words = " ".join(out.split())
    for name, field in COMMANDS[command].model_fields.items():
        positional = any("Positional" in str(each) for each in field.metadata)
        assert positional or f"--{name.replace('_', '-')}" in words
        assert field.description is not None
        assert " ".join(field.description.split()) in words
    for leaked in ("None", "Path", "ByteSize", "default factory", "default:", " float", " int]", " str]"):
        assert leaked not in out
    assert "RDAHUB_SOME_FLAG" in out
    assert max(map(len, out.splitlines())) <= 110


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingError("--x is wrong"), 2),
        (HubUnreachable("no hub"), 2),
        (RecordingError("not a recording"), 2),
        (Overwritten("gone"), 1),
        (HubLost("gone"), 1),
        (BindError("taken"), 1),
        (ValueError("odd"), 1),
        (OSError(28, "No space left on device", "x.npy"), 1),
        (OSError("just words"), 1),
        (KeyboardInterrupt(), 0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_an_error_is_one_line_and_an_exit_code(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(_: object) -> int:
        raise error

    monkeypatch.setattr(status, "run", run)
    assert main(["status"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    if isinstance(error, KeyboardInterrupt):
        assert err == ""
    else:
        assert err.count("\n") == 1
        assert err.startswith("rdahub status: ")
    if isinstance(error, OSError) and error.filename:
        assert "x.npy: No space left on device" in err


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "run", lambda _: COMMANDS["nothing"])
    with pytest.raises(KeyError):
        main(["status"])


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_to_end_is_as_ctrl_c(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    signal.signal(number, signal.SIG_DFL)
    monkeypatch.setattr(status, "run", lambda _: signal.raise_signal(number))
    assert main(["status"]) == 0


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_an_ignored_signal_stays_ignored(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_: object) -> int:
        signal.raise_signal(number)
        return 7

    signal.signal(number, signal.SIG_IGN)
    monkeypatch.setattr(status, "run", run)
    assert main(["status"]) == 7


@pytest.mark.parametrize("arguments", [["watch"], ["demo"]], ids=["watch", "demo"])
def test_a_live_view_without_rich_says_what_to_install(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "pip install 'rdahub[terminal]'" in err


NO_HUB = "127.0.0.1:1"  # what is missing is found before a hub is


@pytest.mark.parametrize(
    ("missing", "arguments", "extra"),
    [
        ("pybv", ["dump", NO_HUB, "--last=1s", "-o=absent/x.vhdr"], "brainvision"),
        ("mne", ["dump", NO_HUB, "--last=1s", "-o=absent/x.fif"], "mne"),
        ("edfio", ["dump", NO_HUB, "--last=1s", "-o=absent/x.edf"], "edf"),
        ("starlette", ["view", NO_HUB], "view"),
        ("pylsl", ["lsl", NO_HUB], "lsl"),
        ("zeroconf", ["serve", "--recorder=x", "--announce"], "zeroconf"),
        ("prometheus_client", ["serve", "--recorder=x", "--metrics=127.0.0.1:0"], "metrics"),
    ],
)
def test_what_is_not_installed_is_one_line_and_exit_code_2(
    missing: str,
    arguments: list[str],
    extra: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    find_spec = importlib.util.find_spec
    without = lambda name, package=None: None if name == missing else find_spec(name, package)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", without)
    for module in (export, serving):  # they have it by name
        monkeypatch.setattr(module, "find_spec", without)
    monkeypatch.setitem(sys.modules, missing, None)
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"pip install 'rdahub[{extra}]'" in err
