"""Where the hub listens: checking endpoints and binding them.

Rule: loopback unless told otherwise; nothing is opened to a network in the clear without `--insecure`.
"""

from __future__ import annotations

import ipaddress

import zmq

__all__ = ["BindError", "UnsafeEndpoint", "beside", "bind", "is_local"]


class BindError(Exception):
    """An endpoint that cannot be listened on; the text says why and what to do."""


class UnsafeEndpoint(BindError):
    """An endpoint open to a network without encryption, and nobody said that this is meant."""


def bind(socket: zmq.Socket[bytes], endpoint: str, insecure: bool, setting: str) -> str:
    """Bind, and return the endpoint with its real port.

    Parameters
    ----------
    endpoint : str
        ``tcp://host:port``, where port 0 or ``*`` takes a free one, or ``ipc://path``.
    insecure : bool
        Whether addresses other than loopback are allowed without encryption.
    setting : str
        Name of the setting, for the message.
    """
    if endpoint.endswith(":0"):
        endpoint = f"{endpoint[:-1]}*"
    if not insecure and not is_local(endpoint):
        raise UnsafeEndpoint(
            f"--{setting} {endpoint} is open to the network and unencrypted; "
            "bind 127.0.0.1, or give --curve-key and --curve-clients, "
            "or say --insecure if everyone on that network may read the EEG"
        )
    socket.set(zmq.IPV6, 1 if "[" in endpoint else 0)
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        hint = "; is another hub running?" if error.errno == zmq.EADDRINUSE else ""
        raise BindError(f"--{setting} {endpoint}: {error.strerror or error}{hint}") from None
    return str(socket.get_string(zmq.LAST_ENDPOINT))


def beside(query: str) -> str:
    """Publish endpoint that goes with a query endpoint: the next port, free if that one is free to choose."""
    if query.startswith("ipc://"):
        return f"{query}.publish"
    host, _, port = query.rpartition(":")
    return f"{host}:{'*' if port in {'0', '*'} else int(port) + 1}"


def is_local(endpoint: str) -> bool:
    """Whether only programs on this machine can reach an endpoint."""
    if not endpoint.startswith("tcp://"):
        return endpoint.startswith("ipc://")
    host = endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
