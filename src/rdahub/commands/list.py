"""``rdahub list``: the hubs of this machine and of the network, and how they are. Exit code 1: none."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, Final

import zmq

from rdahub.config import ListSettings
from rdahub_client.discovery import INSTALL, WORD, FoundHub, can_look_around, find_hubs
from rdahub_client.errors import RdaHubError
from rdahub_client.query import QuerySocket, end_context
from rdahub_client.wire import InfoRequest

_PATIENCE: Final = 1.0  # s for a hub to say how it is
_ROWS: Final = ("name", "address", "state", "version", "keys", "host")


def run(settings: ListSettings) -> int:
    """Print one line for each hub."""
    hubs = find_hubs(settings.timeout, settings.shm_dir)
    with ThreadPoolExecutor(32) as pool:
        rows = list(pool.map(_row, hubs))
    if settings.json:
        print(json.dumps(rows))
    elif rows:
        _print_table(rows)
    if not can_look_around():
        print(f"rdahub list: only this machine was looked at; {INSTALL}", file=sys.stderr)
    elif not rows:
        print(
            f"rdahub list: no hub on this machine, and none announced within {settings.timeout:g} s",
            file=sys.stderr,
        )
    return 0 if rows else 1


def _row(hub: FoundHub) -> dict[str, Any]:
    """What is known of a hub; one with keys tells a stranger nothing more."""
    row = asdict(hub)
    if hub.keys:
        return row
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    query = QuerySocket(context, hub.address, None)
    try:
        info = query.ask(InfoRequest(), None, _PATIENCE).info()
        said = {"state": info.state, "version": info.version}  # by whoever was announced
        row.update({key: text if WORD.fullmatch(text) else "?" for key, text in said.items()})
    except RdaHubError:
        row.update(state="no answer")
    finally:
        query.close()
        end_context(context)
    return row


def _print_table(rows: list[dict[str, Any]]) -> None:
    table = [_ROWS] + [
        tuple((row["fingerprint"] or "none") if name == "keys" else str(row[name] or "-") for name in _ROWS)
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
