"""Whether the Recorder's PC is there, and which of its RDA ports answer.

Rule: a refusal, silence, a missing route and a missing name are four different things, and each has its own
advice. A connection that was made is given on, not made again.
Not here: what comes over it (`recorder`).
"""

from __future__ import annotations

import errno
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from rdahub.checks.findings import OK, WRONG, Finding

__all__ = ["RDA_PORTS", "Reached", "reach"]

RDA_PORTS: Final = {51244: "float32", 51234: "int16"}

_NO_ROUTE: Final = {
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.EHOSTDOWN,
    errno.ENETDOWN,
    errno.EADDRNOTAVAIL,
}
_ENABLE: Final = (
    "enable Remote Data Access in the Recorder's configuration and keep the Recorder running; "
    "see that the address is the Recorder's PC"
)


@dataclass(frozen=True, slots=True)
class Reached:
    """What was found, and the connection to the port asked for if there is one."""

    findings: list[Finding]
    connection: socket.socket | None


def reach(host: str, port: int, timeout: float) -> Reached:
    """Look for a Recorder.

    Parameters
    ----------
    host, port : str, int
        As `serve --recorder` would use.
    timeout : float
        Seconds for each port; they are tried at the same time.
    """
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "that is no host name"
        todo = "see the spelling, or give the PC's IP address (ipconfig shows it on the Recorder's PC)"
        return Reached([Finding(WRONG, "address", f"{host}: {reason}", todo)], None)
    there = str(addresses[0][4][0])
    findings = [] if there == host else [Finding(OK, "address", f"{host} is {there}")]
    ports = [port, *(each for each in RDA_PORTS if each != port)]
    with ThreadPoolExecutor(len(ports)) as threads:
        tried = dict(zip(ports, threads.map(lambda each: _try(host, each, timeout), ports), strict=True))
    mine = tried.pop(port)
    others = [each for each, result in tried.items() if isinstance(result, socket.socket)]
    for result in tried.values():
        if isinstance(result, socket.socket):
            result.close()
    if isinstance(mine, socket.socket):
        also = f"; so does {', '.join(map(_named, others))}" if others else ""
        return Reached([*findings, Finding(OK, "port", f"{_named(port)} answers{also}")], mine)
    return Reached([*findings, _explain(host, port, mine, others, timeout)], None)


def _try(host: str, port: int, timeout: float) -> socket.socket | OSError:
    try:
        return socket.create_connection((host, port), timeout)
    except OSError as error:
        return error


def _named(port: int) -> str:
    return f"{port} ({RDA_PORTS[port]})" if port in RDA_PORTS else str(port)


def _explain(host: str, port: int, error: OSError, others: list[int], timeout: float) -> Finding:
    if others:
        return Finding(
            WRONG, "port", f"{_named(port)} does not answer ({_reason(error)}), but {_named(others[0])} does",
            f"use --recorder {host}:{others[0]}",
        )  # fmt: skip
    if isinstance(error, ConnectionRefusedError):
        return Finding(WRONG, "port", f"{host} is there and refuses port {_named(port)}: RDA is off", _ENABLE)
    if isinstance(error, TimeoutError):
        return Finding(
            WRONG, "port", f"{host} says nothing on port {_named(port)} for {timeout:g} s: a firewall, "
            "a wrong address, or a PC that is off",
            f"allow incoming TCP {port} in the firewall of the Recorder's PC; see that `ping {host}` answers",
        )  # fmt: skip
    if error.errno in _NO_ROUTE:
        return Finding(
            WRONG, "network", f"there is no way to {host}: {_reason(error)}",
            "see cable, network and address; both PCs must be in one network",
        )  # fmt: skip
    return Finding(WRONG, "port", f"{host} port {_named(port)}: {_reason(error)}", _ENABLE)


def _reason(error: OSError) -> str:
    return "time-out" if isinstance(error, TimeoutError) else error.strerror or str(error)
