"""packaging/rdahub.service, as far as it can be tested without a running systemd."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rdahub import limits
from rdahub.config import COMMANDS
from rdahub_client.shared import default_directory

UNIT = Path(__file__).parents[2] / "packaging" / "rdahub.service"
HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "run-as-a-service.md"
ANALYZE = shutil.which("systemd-analyze")


def installed(folder: Path, text: str) -> Path:
    """The unit, with this environment's rdahub in place of the one to be installed."""
    rdahub = Path(sys.executable).with_name("rdahub")
    assert "/opt/rdahub/bin/rdahub" in text
    unit = folder / UNIT.name
    unit.write_text(text.replace("/opt/rdahub/bin/rdahub", str(rdahub)))
    return unit


def analyze(*arguments: str) -> str:
    assert ANALYZE is not None
    done = subprocess.run([ANALYZE, *arguments], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


@pytest.mark.skipif(ANALYZE is None, reason="there is no systemd-analyze here")
def test_systemd_understands_every_line(tmp_path: Path) -> None:
    unit = installed(tmp_path, UNIT.read_text())
    assert analyze("verify", "--man=no", str(unit)) == ""
    broken = installed(tmp_path, UNIT.read_text().replace("Restart=always", "Restart=allways"))
    assert "allways" in analyze("verify", "--man=no", str(broken))


@pytest.mark.skipif(ANALYZE is None, reason="there is no systemd-analyze here")
def test_the_unit_is_hardened_as_the_page_says(tmp_path: Path) -> None:
    told = analyze("security", "--offline=true", "--no-pager", str(installed(tmp_path, UNIT.read_text())))
    match = re.search(r"Overall exposure level.*: ([\d.]+)", told)
    assert match, told
    assert float(match[1]) <= 2.0
    assert re.search(r"exposure 1\.\d", HOW_TO.read_text(encoding="utf-8"))


def test_the_unit_goes_with_the_program() -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(UNIT.read_text())
    service = parser["Service"]
    _, command, *flags = service["ExecStart"].split()
    assert command in COMMANDS
    names = [flag.removeprefix("--").replace("-", "_") for flag in flags if flag.startswith("--")]
    assert set(names) <= set(COMMANDS[command].model_fields)
    assert int(service["LimitNOFILE"]) >= limits.DESCRIPTORS
    assert str(default_directory()) in service["ReadWritePaths"] or sys.platform != "linux"
    assert service["RestartPreventExitStatus"] == "2"
