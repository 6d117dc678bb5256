"""The hub's announcement in the network: what it says, and the process that says it.

Rule: an announcement holds what a client needs to choose a hub, and no secret. It goes where the hub listens
and nowhere else: a hub on loopback is announced on loopback.
Not here: how the process is looked after (`companion`), mDNS (`mdns`), finding (`rdahub_client.discovery`).
"""

from __future__ import annotations

import re
import socket
from importlib.metadata import version
from typing import Any

from rdahub.companion import Companion
from rdahub.config import ServeSettings
from rdahub_client.discovery import fingerprint

__all__ = ["announcer"]


def announcer(settings: ServeSettings, instance: str, hub: dict[str, Any], publish: str) -> Companion:
    """Start the process.

    Parameters
    ----------
    settings : ServeSettings
    instance : str
    hub : dict
        As `Entrance.describe` says.
    publish : str
        The publish endpoint.

    Raises
    ------
    RdaHubError
        The process does not start.
    """
    keys = hub.get("keys")
    properties = {
        "txtvers": "1",
        "name": settings.name,
        "instance": instance,
        "version": version("rdahub"),
        "host": re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:64],
        "publish": publish.rpartition(":")[2] if publish.startswith("tcp://") else "",
        "key": fingerprint(keys[2].encode()) if keys else "",
    }
    order = {"query": hub["query"], "properties": properties}
    return Companion("rdahub.mdns", "the announcement in the network", order)
