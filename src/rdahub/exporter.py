"""The endpoint for Prometheus, run beside the hub: a process of its own that asks the hub like any client.

Rule: what is asked of the endpoint costs the hub one short answer a second at most, whoever asks however
often. Not here: how the process is looked after (`companion`), the process itself (`metrics_server`), the
metrics (`metrics`).
"""

from __future__ import annotations

import logging
from typing import Any

from rdahub.companion import Companion
from rdahub.config import ServeSettings, listen_address
from rdahub.endpoints import BindError, UnsafeEndpoint, is_local
from rdahub_client.address import from_here

__all__ = ["exporter"]

log = logging.getLogger(__name__)


def exporter(settings: ServeSettings, hub: dict[str, Any]) -> Companion:
    """Start the process.

    Parameters
    ----------
    settings : ServeSettings
        With ``metrics``.
    hub : dict
        Where the hub's query socket is, and the keys for it, as `Entrance.describe` says.

    Raises
    ------
    RdaHubError
        The process does not start.
    UnsafeEndpoint, BindError
        The address may not, or cannot, be listened on.
    """
    text = settings.metrics or ""
    if not settings.insecure and not is_local(f"tcp://{text}"):
        raise UnsafeEndpoint(
            f"--metrics {text} is open to the network and unencrypted; "
            "listen on 127.0.0.1, or say --insecure if everyone on that network may read the hub's state"
        )
    host, port = listen_address(text)
    order = {**hub, "query": from_here(hub["query"]), "host": host, "port": port}
    process = Companion("rdahub.metrics_server", "the endpoint for metrics", order)
    if "error" in process.answer:
        process.close()
        raise BindError(f"--metrics {text}: {process.answer['error']}")
    order["port"] = int(process.answer["port"])  # also when it is started again
    shown = f"[{host}]" if ":" in host else host
    log.info("metrics for Prometheus at http://%s:%d/metrics", shown, order["port"])
    return process
