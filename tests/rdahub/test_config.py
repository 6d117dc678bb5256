"""Settings: what may be written, which source goes before which, and what is said about mistakes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic.fields import FieldInfo

from rdahub.config import (
    COMMANDS,
    CommonSettings,
    DumpSettings,
    ServeSettings,
    SettingError,
    SimSettings,
    StatusSettings,
    default_text,
    load,
    placeholder,
    recorder_address,
)

SETTINGS = [
    pytest.param(name, field, id=f"{command}-{name}")
    for command, model in COMMANDS.items()
    for name, field in model.model_fields.items()
]


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("RDAHUB_")]:
        monkeypatch.delenv(name)


def serve(*arguments: str) -> ServeSettings:
    return load(ServeSettings, ["--recorder", "amp", *arguments], "rdahub serve")


def refusal(command: str, *arguments: str) -> str:
    with pytest.raises(SettingError) as caught:
        load(COMMANDS[command], list(arguments), f"rdahub {command}")
    text = str(caught.value)
    assert "\n" not in text
    return text


# --- values ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("600", 600.0),
        ("600s", 600.0),
        ("500ms", 0.5),
        ("10min", 600.0),
        ("10m", 600.0),
        ("1.5h", 5400.0),
        (" 2 s ", 2.0),
        ("1e3s", 1000.0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert serve("--history", text).history == seconds


@pytest.mark.parametrize("text", ["", "s", "10 weeks", "1.2.3s", "-5s", "0", "nan", "inf", "1e999s", "e"])
def test_what_is_no_duration(text: str) -> None:
    assert refusal("serve", "--recorder", "amp", f"--history={text}").startswith("--history: ")


@pytest.mark.parametrize(
    ("text", "size"), [("1GiB", 2**30), ("500MB", 500_000_000), ("4096", 4096), ("1.5KiB", 1536)]
)
def test_sizes(text: str, size: int) -> None:
    assert serve("--history-bytes", text).history_bytes == size


@pytest.mark.parametrize("text", ["", "many", "1x", "0", "-1"])
def test_what_is_no_size(text: str) -> None:
    assert refusal("serve", "--recorder", "amp", f"--history-bytes={text}").startswith("--history-bytes: ")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("amp", ("amp", 51244)),
        ("amp:51234", ("amp", 51234)),
        ("10.0.0.7:1", ("10.0.0.7", 1)),
        ("[::1]:51234", ("::1", 51234)),
        ("[::1]", ("::1", 51244)),
        ("::1", ("::1", 51244)),
    ],
)
def test_recorder_addresses(text: str, address: tuple[str, int]) -> None:
    assert recorder_address(text) == address


@pytest.mark.parametrize("text", ["", ":51244", "amp:", "amp:0", "amp:65536", "amp:x"])
def test_what_is_no_recorder(text: str) -> None:
    assert refusal("serve", f"--recorder={text}").startswith("--recorder: ")


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        ("serve", ["--recorder=amp", "--name=a b"], "--name: "),
        ("serve", ["--recorder=amp", "--name="], "--name: "),
        ("serve", ["--recorder=amp", "--query=127.0.0.1:5570"], "--query: "),
        ("serve", ["--recorder=amp", "--publish=udp://127.0.0.1:1"], "--publish: "),
        ("sim", ["--channels=0"], "--channels: "),
        ("sim", ["--rate=0"], "--rate: "),
        ("sim", ["--rate=nan"], "--rate: "),
        ("sim", ["--speed=-1"], "--speed: "),
        ("sim", ["--port=65536"], "--port: "),
        ("sim", ["--port=x"], "--port: "),
        ("status", ["udp://x"], "--hub: "),
        ("status", ["x:99999"], "--hub: "),
        ("dump", ["-o=x.npy"], "--start and --stop, or --last"),
        ("dump", ["-o=x.npy", "--start=1"], "--start and --stop, or --last"),
        ("dump", ["-o=x.npy", "--stop=1", "--last=1s"], "--start and --stop, or --last"),
        ("dump", ["-o=x.npy", "--start=1", "--stop=2", "--last=1s"], "--start and --stop, or --last"),
        ("dump", ["-o=x.npy", "--start=5", "--stop=5"], "--stop 5"),
        ("dump", ["-o=x.npy", "--start=-5", "--stop=5"], "--start: "),
        ("dump", ["-o=x.txt", "--last=1s"], "--output x.txt"),
        ("dump", ["-o=x", "--last=1s"], "--output x"),
        ("demo", ["--log-level=loud"], "log-level"),
    ],
)
def test_a_wrong_value_is_named(command: str, arguments: list[str], said: str) -> None:
    assert said in refusal(command, *arguments)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("serve", "--recorder is required"),
        ("dump", "--output is required"),
        ("keygen", "required: FOLDER"),
    ],
)
def test_a_missing_setting_is_named(command: str, said: str) -> None:
    assert said in refusal(command)


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_flag_is_named(command: str) -> None:
    assert "--nonsense" in refusal(command, *(["keys"] if command == "keygen" else []), "--nonsense")


def test_a_flag_is_not_abbreviated() -> None:
    """--conf would pass for --config, but its file would not be read."""
    assert "--conf" in refusal("serve", "--recorder=amp", "--conf=x.toml")


# --- sources ---------------------------------------------------------------------------------------------


def write(folder: Path, text: str) -> str:
    path = folder / "hub.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_flag_goes_before_a_variable_before_the_file_before_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert serve().history == 600
    file = write(tmp_path, 'history = "10s"')
    assert serve("--config", file).history == 10
    monkeypatch.setenv("RDAHUB_HISTORY", "20s")
    assert serve("--config", file).history == 20
    assert serve(f"--config={file}", "--history", "30s").history == 30


def test_the_file_can_be_named_by_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RDAHUB_CONFIG", write(tmp_path, 'recorder = "amp:1"'))
    assert load(ServeSettings, [], "rdahub serve").recorder == "amp:1"
    other = tmp_path / "other.toml"
    other.write_text('recorder = "amp:2"')
    assert load(ServeSettings, ["--config", str(other)], "rdahub serve").recorder == "amp:2"


def test_a_required_setting_may_come_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RDAHUB_OUTPUT", "x.npz")
    monkeypatch.setenv("RDAHUB_HUB", "amp:7")
    settings = load(DumpSettings, ["--config", write(tmp_path, 'last = "2s"')], "rdahub dump")
    assert (str(settings.output), settings.hub, settings.last) == ("x.npz", "amp:7", 2)


def test_the_file_has_values_of_its_own_types(tmp_path: Path) -> None:
    file = write(tmp_path, 'recorder = "amp"\nhistory = 5\nhistory_bytes = 4096\ninsecure = true')
    settings = load(ServeSettings, ["--config", file], "rdahub serve")
    assert (settings.history, settings.history_bytes, settings.insecure) == (5, 4096, True)


def test_one_file_serves_several_commands_and_none_remembers_it(tmp_path: Path) -> None:
    file = write(tmp_path, 'recorder = "amp"\nchannels = 3')
    assert load(SimSettings, ["--config", file], "rdahub sim").channels == 3
    assert load(SimSettings, [], "rdahub sim").channels == 32


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("histroy = 5", "histroy"),
        ("config = 'x'", "config"),
        ("history = ", "hub.toml"),
        ("history = 'x'", "--history: "),
        ("history = -1", "--history: "),
        ("[serve]\nhistory = 5", "serve"),
    ],
)
def test_a_wrong_file_is_explained(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal("serve", "--recorder=amp", "--config", write(tmp_path, text))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert "absent.toml" in refusal("serve", "--config", str(tmp_path / "absent.toml"))
    (tmp_path / "latin.toml").write_bytes(b'name = "\xb5"')
    assert "latin.toml" in refusal("serve", "--config", str(tmp_path / "latin.toml"))


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RDAHUB_HISTORY", "soon")
    assert "--history: " in refusal("serve", "--recorder=amp")


@pytest.mark.parametrize("source", ["flag", "variable", "file"])
def test_switches_come_from_every_source(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JSON", "1")  # somebody else's
    assert load(StatusSettings, [], "rdahub status").json is False
    arguments = []
    if source == "flag":
        arguments = ["--json"]
    elif source == "variable":
        monkeypatch.setenv("RDAHUB_JSON", "true")
    else:
        arguments = ["--config", write(tmp_path, "json = true")]
    assert load(StatusSettings, arguments, "rdahub status").json is True


# --- what is told about settings ---------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "field"), SETTINGS)
def test_every_setting_is_described(name: str, field: FieldInfo) -> None:
    assert field.description
    assert field.description[0] != " "
    assert (placeholder(name, field) == "") == (field.annotation is bool)
    assert placeholder(name, field) != "{}"
    assert "None" not in default_text(name, field)


@pytest.mark.parametrize("model", COMMANDS.values(), ids=COMMANDS)
def test_every_command_is_described_in_one_line(model: type[CommonSettings]) -> None:
    assert (model.__doc__ or "").splitlines()[0].endswith(".")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("history", "600s"),
        ("history_bytes", "1GiB"),
        ("recorder", "required"),
        ("publish", ""),
        ("name", "rdahub"),
    ],
)
def test_defaults_are_shown_as_they_are_written(name: str, text: str) -> None:
    assert default_text(name, ServeSettings.model_fields[name]) == text


def test_a_shown_default_can_be_written() -> None:
    shown: dict[str, Any] = {
        name: text
        for name, field in ServeSettings.model_fields.items()
        if (text := default_text(name, field)) not in {"", "required"}
    }
    flags = [f"--{name.replace('_', '-')}={text}" for name, text in shown.items()]
    assert serve(*flags) == serve()
