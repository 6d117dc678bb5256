"""``rdahub status``: a hub's state, for people (text), programs (JSON) and health checks (exit code)."""

from __future__ import annotations

import json
import math
from typing import Any

import zmq

from rdahub.config import StatusSettings
from rdahub_client.address import query_endpoint
from rdahub_client.errors import AuthError, HubLost
from rdahub_client.keys import ClientKeys
from rdahub_client.query import QuerySocket, end_context
from rdahub_client.reader import unreachable
from rdahub_client.wire import StatsRequest


def run(settings: StatusSettings) -> int:
    """Print the state. 0: streaming, 1: up but no data; unreachable is an error with exit code 2."""
    status = fetch(settings.hub, settings.timeout, settings.client_keys())
    print(json.dumps(_without_nan(status), allow_nan=False) if settings.json else describe(status))
    return 0 if status["state"] == "streaming" else 1


def _without_nan(value: Any) -> Any:
    """JSON has no NaN and no infinity: what is no number becomes null."""
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def fetch(hub: str, timeout: float, keys: ClientKeys | None = None) -> dict[str, Any]:
    """A hub's answer to ``stats``."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    query = QuerySocket(context, query_endpoint(hub), keys)
    try:
        header = query.ask(StatsRequest(), None, timeout).header
    except AuthError:
        raise
    except HubLost as error:
        raise unreachable(error, query.endpoint) from error
    finally:
        query.close()
        end_context(context)
    return {key: value for key, value in header.items() if key not in {"id", "ok"}}


def describe(status: dict[str, Any]) -> str:
    """The state as lines for people."""
    segment = status["segment"]
    recorder = status["recorder"]
    lines = [
        f"hub       {status['name']}, instance {status['instance']}, up {status['ages']['hub']:.0f} s",
        f"state     {status['state']}",
        f"recorder  {recorder['address']}" + (f": {recorder['error']}" if recorder["error"] else ""),
    ]
    if segment is not None:
        end = "open" if segment["stop"] is None else f"ended at {segment['stop']} ({segment['ended']})"
        lines.append(
            f"segment   {segment['number']} from sample {segment['start']}, {end}; "
            f"{segment['n_channels']} channels, {segment['sfreq']:g} Hz"
        )
    held = status["next_index"] - status["first_available"]
    lines += [
        f"history   samples [{status['first_available']}, {status['next_index']}), {held} held, "
        f"room for {status['history_seconds']:.0f} s",
        f"gaps      {len(status['gaps'])} in history",
        f"clients   {status['clients']}",
        "counters  " + ", ".join(f"{name} {value}" for name, value in status["counters"].items() if value),
    ]
    if status["impedances"]:
        shown = ", ".join(f"{name} {kohm}" for name, kohm in status["impedances"].items())
        lines.append(f"impedances in kOhm  {shown}")
    return "\n".join(lines)
