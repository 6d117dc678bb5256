"""What the documents say runs: every Python block, every link, every flag, every name of the API."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import rdahub_client
from rdahub.config import COMMANDS

ROOT = Path(__file__).parents[2]
PYTHON_DOCUMENTS = [ROOT / "README.md", ROOT / "docs/tutorial.md", *sorted(ROOT.glob("docs/how-to/*.md"))]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])

NOT_EXECUTED = {
    ("tutorial.md", "needs matplotlib and a window; examples/live_plot.py is the same and is run"),
    ("many-machines.md", "the address is an example of a network"),
    ("migrate-from-rdaclient.md", "the old import does not exist here"),
    ("record.md", "needs a recording; tests/e2e/test_record.py does the same"),
    ("encrypt.md", "needs keys and a hub that has them; tests/e2e/test_curve.py does the same"),
}


class Block(NamedTuple):
    """A Python block of a document."""

    line: int
    code: str
    reason: str | None  # why it is not executed


def blocks(path: Path) -> Iterator[Block]:
    text = path.read_text(encoding="utf-8")
    pattern = r"(?:<!-- not executed: ([^>]+?) -->\n)?```python\n(.*?)```"
    for match in re.finditer(pattern, text, re.DOTALL):
        yield Block(text.count("\n", 0, match.start(2)) + 1, match[2], match[1])


def substitute(code: str, hub: Any, gap_hub: Any) -> str:
    """The same code, with the addresses of the hubs that run here."""
    address = hub.query.removeprefix("tcp://")
    host, port = address.rsplit(":", 1)
    here = {'("127.0.0.1", 5570)': f'("{host}", {port})'}
    here |= dict.fromkeys(('"127.0.0.1:5570"', '"127.0.0.1"'), f'"{address}"')
    code = re.sub("|".join(map(re.escape, here)), lambda match: here[match[0]], code)
    code = code.replace('LocalClient("rdahub")', f'LocalClient("{hub.name}")')
    code = code.replace('"auto:lab-1"', f'"auto:{hub.name}"')
    if gap_hub is not None:
        code = code.replace('"127.0.0.1:5590"', f'"{gap_hub.query}"')
    assert not re.search(r"127\.0\.0\.1:55[78]0", code)
    return code


@pytest.mark.parametrize("path", PYTHON_DOCUMENTS, ids=lambda path: path.stem)
def test_python_runs(
    path: Path,
    hub: Any,
    start_simulator: Callable[..., Any],
    start_hub: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "document"}
    gap_hub = None
    try:
        for block in blocks(path):
            if block.reason is not None:
                continue
            code = "\n" * (block.line - 1) + substitute(block.code, hub, gap_hub)
            exec(compile(code, str(path), "exec"), names)  # noqa: S102
            if gap_hub is None and (tmp_path / "gap.rda").exists():  # what the tutorial's shell does next
                gap_hub = start_hub(start_simulator("--dump", str(tmp_path / "gap.rda")).rda)
    finally:
        for value in names.values():
            if hasattr(value, "disconnect") and not isinstance(value, type):
                value.disconnect()
    if path.stem == "tutorial":
        printed = capsys.readouterr().out
        assert "[ 5.  5.  5.  5.  5. nan nan nan nan nan]" in printed
        assert "[Gap(start=100, stop=140, reason='counter')]" in printed
        assert re.search(r"Stimulus +S  \d", printed)
        assert "(700, 4)" in printed


def test_blocks_not_executed_are_known() -> None:
    found = {(path.name, block.reason) for path in PYTHON_DOCUMENTS for block in blocks(path) if block.reason}
    for name, reason in sorted(found):
        print(f"{name}: {reason}")
    assert found == NOT_EXECUTED


def test_python_stands_only_where_it_is_executed() -> None:
    others = set(DOCUMENTS) - set(PYTHON_DOCUMENTS)
    assert [path.name for path in others if list(blocks(path))] == []


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_resolve(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    broken = []
    for target, _, anchor in re.findall(r"\]\(([^)#\s]*)(#([^)\s]*))?\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        there = (path.parent / target).resolve() if target else path
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(f"{target}#{anchor}" if anchor else target)
    assert broken == []


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")]
    assert [page for page in pages if page != "index.md" and f"]({page})" not in index] == []


def test_commands_and_flags_exist() -> None:
    seen = 0
    for path in DOCUMENTS:
        for shell in re.findall(r"```sh\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
            for line in re.findall(r"^rdahub (.*)$", shell, re.MULTILINE):
                command, *rest = line.split("#")[0].split()
                fields = COMMANDS[command].model_fields
                flags = [word[2:].split("=")[0] for word in rest if word.startswith("--")]
                assert [flag for flag in flags if flag.replace("-", "_") not in fields] == [], line
                seen += 1
    assert seen > 8


def public(owner: type) -> list[str]:
    return [name for name, _ in inspect.getmembers(owner) if not name.startswith("_")]


def test_the_api_is_complete() -> None:
    text = (ROOT / "docs/reference/api.md").read_text(encoding="utf-8")
    missing = [name for name in rdahub_client.__all__ if f"`{name}" not in text]
    for owner in (rdahub_client.Client, rdahub_client.LocalClient, rdahub_client.Segment):
        missing += [f"{owner.__name__}.{name}" for name in public(owner) if f"`{name}" not in text]
    assert missing == []


def test_signatures_are_as_documented() -> None:
    text = (ROOT / "docs/reference/api.md").read_text(encoding="utf-8").split("## LocalClient")[0]
    checked = 0
    for name, arguments in re.findall(r"^\| `(\w+)\((.*?)\)`", text, re.MULTILINE):
        parameters = list(inspect.signature(getattr(rdahub_client.Client, name)).parameters.values())[1:]
        written = [
            p.name if p.default is p.empty else f'{p.name}="{p.default}"' if isinstance(p.default, str)
            else f"{p.name}={p.default}"
            for p in parameters
        ]  # fmt: skip
        assert arguments == ", ".join(written), name
        checked += 1
    assert checked >= 11
