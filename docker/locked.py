"""Which lines of requirements.lock an image needs: those of the base and of some extras, or of the build.

``python locked.py requirements.lock pyproject.toml [--build] [--extra NAME ...]`` prints them, with hashes.

Rule: standard library only, for it runs before anything is installed. It chooses by the ``# via`` comments
that uv writes into the lock, and decides no version. pip checks the choice: with ``--require-hashes`` a
dependency that is missing here is an error, never an unlocked download.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from pathlib import Path
from typing import Any


def normal(requirement: str) -> str:
    """Return a project's name as the lock writes it, without version, extras and markers."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement.strip())
    if name is None:
        raise ValueError(f"no requirement: {requirement!r}")
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def entries(lock: str) -> list[tuple[str, str, set[str]]]:
    """Name, text and the names of those that want it, for each entry of a lock."""
    found = []
    for text in re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)[1:]:
        via = re.findall(r"^ +# (?:via +|  +)(\S+)", text, re.MULTILINE)
        found.append((normal(text), text, {normal(name) for name in via}))
    return found


def wanted(project: dict[str, Any], build: bool, extras: list[str]) -> set[str]:
    """Names that the project asks for by itself."""
    if build:
        return {normal(each) for each in project["build-system"]["requires"]}
    known = project["project"]["optional-dependencies"]
    if unknown := [name for name in extras if name not in known]:
        raise SystemExit(f"there is no extra {unknown[0]!r}; there are {', '.join(known)}")
    texts = [*project["project"]["dependencies"], *(each for name in extras for each in known[name])]
    own = normal(project["project"]["name"])  # `all` asks for the project's other extras
    nested = [re.findall(r"\[(.*?)\]", each)[0].split(",") for each in texts if normal(each) == own]
    names = {normal(each) for each in texts if normal(each) != own}
    for inner in nested:
        names |= wanted(project, build, [name.strip() for name in inner])
    return names


def closure(lock: str, roots: set[str]) -> str:
    """Those entries of a lock that the roots need, directly or not."""
    all_entries = entries(lock)
    names = {name for name, _, _ in all_entries}
    if missing := sorted(roots - names):
        raise SystemExit(f"not in the lock: {', '.join(missing)}; run `make lock`")
    needed: set[str] = set()
    more = set(roots)
    while more:
        needed |= more
        more = {name for name, _, via in all_entries if via & needed} - needed
    return "".join(text for name, text, _ in all_entries if name in needed)


def main() -> None:
    """Print the choice."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("lock", type=Path)
    parser.add_argument("project", type=Path)
    parser.add_argument("--build", action="store_true", help="what builds the wheel")
    parser.add_argument("--extra", action="append", default=[], help="an extra; may be repeated")
    options = parser.parse_args()
    project = tomllib.loads(options.project.read_text(encoding="utf-8"))
    roots = wanted(project, options.build, options.extra)
    sys.stdout.write(closure(options.lock.read_text(encoding="utf-8"), roots))


if __name__ == "__main__":
    main()
