"""docs/reference/status.md lists every key of `rdahub status --json`, with its type, and no other."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from processes import Child
from processes import hub as running_hub
from rdahub_client import Client

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "status.md"
CASES = Path(__file__).parents[1] / "data" / "rda" / "cases"
TYPES: dict[str, Callable[[Any], bool]] = {
    "str": lambda value: isinstance(value, str),
    "int": lambda value: type(value) is int,
    "float": lambda value: type(value) in {int, float},
    "null": lambda value: value is None,
    "object": lambda value: isinstance(value, dict),
    "histogram": lambda value: (
        set(value) == {"bounds", "counts", "sum"}
        and len(value["counts"]) == len(value["bounds"]) + 1
        and value["bounds"] == sorted(value["bounds"])
    ),
}
WHOLE = {"impedances", "losses.gaps", "losses.missing_samples", "losses.segment_ends"}  # keys are anything


def documented() -> dict[str, list[str]]:
    rows = re.findall(r"^\| `([\w.\[\]]+)` \| ([\w ]+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {key: types.split(" or ") for key, types in rows}


def leaves(value: Any, key: str, known: dict[str, list[str]]) -> Iterator[tuple[str, Any]]:
    """Every key with its value, objects that are listed themselves among them."""
    if isinstance(value, list):
        for each in value:
            yield from leaves(each, f"{key}[]", known)
        return
    inner = isinstance(value, dict) and key not in WHOLE and "histogram" not in known.get(key, ())
    if not inner or key in known:
        yield key, value
    if inner:
        for name, each in value.items():
            yield from leaves(each, f"{key}.{name}" if key else name, known)


@pytest.fixture(scope="module")
def statuses(
    start_simulator: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    """What hubs say: one without Recorder, one after a run with a gap."""
    found = []
    sim = start_simulator("--dump", str(CASES / "ok_gap.rda"))
    for recorder in ("127.0.0.1:1", sim.rda):
        more = ["--rda-out=127.0.0.1:0", f"--archive={tmp_path_factory.mktemp('archive')}"]
        with running_hub(recorder, *(more if recorder == sim.rda else [])) as server:
            if recorder == sim.rda:
                with Client() as client:
                    client.connect(server.query)
                    client.start_streaming()
                    assert client.wait(0, 50, timeout=30) is not None
                    assert client.read(0, 40).shape[0] == 40
                    client._tell_at = 0.0
                    client.wait(10**6, 10**6 + 1, timeout=0.1)
            command = Child("status", server.query, "--json")
            try:
                command.finish()
                found.append(json.loads(command.stdout))
            finally:
                command.close()
    return found


def test_every_key_is_documented_with_its_type(statuses: list[dict[str, Any]]) -> None:
    known = documented()
    for status in statuses:
        for key, value in leaves(status, "", known):
            assert key in known, f"{key} is not on the page"
            assert any(TYPES[name](value) for name in known[key]), f"{key} is {value!r}, not {known[key]}"


def test_every_documented_key_is_there(statuses: list[dict[str, Any]]) -> None:
    known = documented()
    there = {key for status in statuses for key, _ in leaves(status, "", known)}
    there |= {key for key in known if key.endswith("[]") and any(each.startswith(key) for each in there)}
    assert set(known) - there == set()
    assert len(known) > 50
