"""What users may write for a hub's address -> ZeroMQ endpoints.

Rule: one address is enough; the publish socket is found by asking. Not here: connecting.
"""

from __future__ import annotations

from typing import Final, TypeAlias

__all__ = [
    "DEFAULT_HOST",
    "DEFAULT_QUERY_PORT",
    "Address",
    "from_here",
    "hub_wanted",
    "publish_endpoint",
    "query_endpoint",
]

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_QUERY_PORT: Final = 5570

Address: TypeAlias = str | tuple[str, int]
"""``"host"``, ``"host:port"``, ``("host", port)``, ``"tcp://host:port"`` or ``"ipc://path"``; and ``"auto"``
or ``"auto:NAME"`` for a hub to be found (`discovery`)."""

_EVERYWHERE: Final = {"tcp://0.0.0.0:": "tcp://127.0.0.1:", "tcp://[::]:": "tcp://[::1]:"}


def hub_wanted(address: Address) -> str | None:
    """Name of the hub that ``"auto:NAME"`` asks to find, empty for ``"auto"``; None if it is an address."""
    if not isinstance(address, str) or address.partition(":")[0] != "auto":
        return None
    return address.partition(":")[2]


def from_here(endpoint: str) -> str:
    """How this machine reaches what listens everywhere, also where that is no address to connect to."""
    for anywhere, here in _EVERYWHERE.items():
        if endpoint.startswith(anywhere):
            return endpoint.replace(anywhere, here, 1)
    return endpoint


def query_endpoint(address: Address) -> str:
    """Endpoint of a hub's query socket.

    Parameters
    ----------
    address : str or tuple of (str, int)
        See `Address`. An empty host is this machine; a missing port is 5570.

    Raises
    ------
    ValueError
        Nothing that names a hub.
    """
    if isinstance(address, tuple):
        if len(address) != 2:
            raise ValueError(f"an address is (host, port), not {address!r}")
        host, port = address
        return _tcp(str(host), port, address)
    if not isinstance(address, str):  # one error for all that cannot be an address
        raise ValueError(f"an address is 'host', 'host:port', (host, port) or an endpoint, not {address!r}")  # noqa: TRY004
    if address.startswith("ipc://") and len(address) > 6:
        return address
    scheme, separator, rest = address.rpartition("://")
    if separator and scheme != "tcp":
        raise ValueError(f"{address!r}: only tcp:// and ipc:// lead to a hub")
    host, separator, port_text = rest.rpartition(":")
    if not separator or rest.endswith("]") or (":" in host and not host.endswith("]")):
        return _tcp(rest, DEFAULT_QUERY_PORT, address)
    return _tcp(host, port_text, address)


def publish_endpoint(query: str, port: int | None, publish: str) -> str:
    """Endpoint of the publish socket, on the host the query socket was reached at."""
    if port is None or not query.startswith("tcp://"):
        return publish
    return f"{query.rpartition(':')[0]}:{port}"


def _tcp(host: str, port: int | str, address: Address) -> str:
    try:
        number = int(port)
    except (TypeError, ValueError):
        number = -1
    if not 0 < number < 65536:
        raise ValueError(f"{address!r}: a port is a number from 1 to 65535, not {port!r}")
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return f"tcp://{host or DEFAULT_HOST}:{number}"
