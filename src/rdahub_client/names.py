"""Whether a host's name leads anywhere, asked of the system when nobody answered there.

Rule: only for naming a failure, and never for long: libzmq looks names up by itself and tells nobody.
Not here: what may be written for an address (`address`).
"""

from __future__ import annotations

import socket
import threading
from typing import Final

__all__ = ["why_unknown"]

_PATIENCE: Final = 0.5  # s; it is spent after the caller's time-out


def why_unknown(endpoint: str) -> str:
    """Why nothing has the name in ``tcp://host:port``; empty if something has, or it is not said in time."""
    if not endpoint.startswith("tcp://"):
        return ""
    host = endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]")
    reasons: list[str] = []

    def look() -> None:
        try:
            socket.getaddrinfo(host, None)
        except OSError as error:
            reasons.append(f"the name {host} is not known ({error.strerror})")
        except UnicodeError:
            reasons.append(f"{host} is no host name")

    aside = threading.Thread(target=look, name="rdahub-name", daemon=True)
    aside.start()
    aside.join(_PATIENCE)
    return next(iter(reasons), "")
