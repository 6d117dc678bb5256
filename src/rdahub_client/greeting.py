"""How a listening ZeroMQ socket introduces itself: asked directly, for libzmq does not tell.

Rule: it reads the other side's greeting (ZMTP 3, https://rfc.zeromq.org/spec/23) and says too little of its
own to be refused for it. Only for naming a failure; not here: connecting for real (`query`).
"""

from __future__ import annotations

import socket
import time
from typing import Final

__all__ = ["mechanism"]

_OURS: Final = b"\xff\0\0\0\0\0\0\0\1\x7f" + b"\3"  # signature and major version; then it is the other's turn
_MECHANISM: Final = slice(12, 32)  # behind signature and version


def mechanism(endpoint: str, seconds: float) -> str | None:
    """Name of the security mechanism the socket at an endpoint wants; None if that could not be had.

    Parameters
    ----------
    endpoint : str
        ``tcp://host:port`` or ``ipc://path``.
    seconds : float
        For all of it.

    Returns
    -------
    name : {'NULL', 'CURVE', ...} or None
    """
    deadline = time.monotonic() + seconds
    try:
        with _connect(endpoint, seconds) as peer:
            peer.sendall(_OURS)
            greeting = b""
            while len(greeting) < _MECHANISM.stop:
                peer.settimeout(max(0.001, deadline - time.monotonic()))
                if not (data := peer.recv(64)):
                    return None
                greeting += data
    except OSError:
        return None
    return greeting[_MECHANISM].rstrip(b"\0").decode("ascii", "replace")


def _connect(endpoint: str, seconds: float) -> socket.socket:
    scheme, _, place = endpoint.partition("://")
    if scheme == "ipc":
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(seconds)
        peer.connect(place)
        return peer
    host, _, port = place.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=max(0.001, seconds))
