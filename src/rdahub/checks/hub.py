"""The hub, if one runs: what it says of itself, judged.

Rule: it asks one question, as `rdahub status` does.
"""

from __future__ import annotations

import contextlib
import socket
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rdahub.checks.findings import NOTE, OK, WARNING, WRONG, Finding
from rdahub.commands.status import fetch
from rdahub_client.address import query_endpoint
from rdahub_client.errors import AuthError, HubUnreachable
from rdahub_client.keys import ClientKeys
from rdahub_client.names import why_unknown

__all__ = ["judge", "look"]


def look(
    address: str, timeout: float, keys: ClientKeys | None, *, wanted: bool
) -> tuple[dict[str, Any] | None, list[Finding]]:
    """A hub's statistics, if it gives any, and what is to be said.

    Parameters
    ----------
    wanted : bool
        Whether the user named this hub; one that nobody named need not run.
    """
    if _is_silent(address, timeout):
        return None, [_absent(address, wanted=wanted)]
    try:
        status = fetch(address, timeout, keys)
    except AuthError as error:
        todo = "give this client's --curve-key and the hub's --server-key; see docs/how-to/encrypt.md"
        return None, [Finding(WARNING, "hub", f"{address}: {error}", todo)]
    except HubUnreachable:
        return None, [
            Finding(
                WRONG, "hub", f"something listens at {address}, but it is no hub or does not answer",
                "see what it is, or give the hub another --query",
            )
        ]  # fmt: skip
    return status, judge(status)


def _absent(address: str, *, wanted: bool) -> Finding:
    if wanted and (reason := why_unknown(query_endpoint(address))):
        return Finding(WRONG, "hub", f"no hub at {address}: {reason}", "check it, or give the IP address")
    if wanted:
        return Finding(
            WRONG, "hub", f"no hub at {address}", "start it (rdahub serve), or see address and firewall"
        )
    return Finding(NOTE, "hub", f"nothing listens at {address}, so no hub was looked at")


def _is_silent(address: str, timeout: float) -> bool:
    """Whether nobody listens there, as far as TCP can tell."""
    endpoint = query_endpoint(address)
    if not endpoint.startswith("tcp://"):
        return not Path(endpoint.removeprefix("ipc://")).exists()
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    with contextlib.suppress(OSError, UnicodeError):
        socket.create_connection((host.strip("[]"), int(port)), timeout).close()
        return False
    return True


def judge(status: dict[str, Any]) -> list[Finding]:
    """Say what is to be said of a hub's statistics."""
    counters, recorder, state = status["counters"], status["recorder"], status["state"]
    text = f"{status['name']!r} is up, {state}, {status['clients']} clients, Recorder {recorder['address']}"
    if state == "disconnected":
        why = recorder["error"] or "not tried yet"
        todo = f"rdahub doctor {recorder['address']}"
        findings = [Finding(WRONG, "hub", f"{text}: {why}", todo)]
    elif state == "stalled":
        todo = "see the network, and whether the Recorder's PC is busy"
        findings = [Finding(WARNING, "hub", f"{text}: it acquires, but no data come", todo)]
    elif state == "idle":
        findings = [Finding(WARNING, "hub", text, "start monitoring in the Recorder")]
    else:
        findings = [Finding(OK, "hub", text)]
    if status["version"] != version("rdahub"):
        todo = "use one version on both sides"
        text = f"it is rdahub {status['version']}, this is {version('rdahub')}"
        findings.append(Finding(WARNING, "hub", text, todo))
    if counters["gaps"]:
        text = f"{counters['missing_samples']} samples in {counters['gaps']} gaps since its start"
        todo = "the Recorder dropped blocks: see network and load of its PC, and its other RDA clients"
        findings.append(Finding(WARNING, "hub", text, todo))
    if counters["protocol_errors"]:
        text = f"{counters['protocol_errors']} times what came from the Recorder was not RDA"
        findings.append(Finding(WARNING, "hub", text, "see the hub's log: it names the byte"))
    return findings
