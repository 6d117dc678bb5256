"""``rdahub lsl``: a hub's EEG and markers for programs of the Lab Streaming Layer.

Rule: once it has found a hub it goes on, whatever happens to hub and Recorder, until Ctrl-C or SIGTERM.
Not here: the streams themselves (`rdahub_client.bridges.lsl`).
"""

from __future__ import annotations

import logging
import socket

from rdahub.config import LslSettings, SettingError
from rdahub.endpoints import is_local
from rdahub_client import Client
from rdahub_client.bridges.lsl import LslBridge, load

log = logging.getLogger(__name__)


def run(settings: LslSettings) -> int:
    """Push until Ctrl-C or SIGTERM; one line on stdout tells the names of the streams."""
    try:
        lsl = load()
    except ImportError as error:
        raise SettingError(f"LSL needs pylsl ({error}): pip install 'rdahub[lsl]'") from None
    with Client(curve_key=settings.curve_key, server_key=settings.server_key) as client:
        client.connect(settings.hub, settings.timeout)
        hub = client.info(settings.timeout)
        if hub.segment is None or hub.segment.stop is not None:
            log.info("the Recorder is not acquiring; the streams appear when it starts")
        client.start_streaming(None)
        source_id = settings.source_id or f"rdahub {hub.name} {_place(client.address)}"
        LslBridge(lsl, client.time_of, settings.name, source_id, _Ready().tell).follow(client.stream("live"))
    return 0


class _Ready:
    """Says once on stdout that the streams are there, later in the log."""

    def __init__(self) -> None:
        self._said = False

    def tell(self, samples: str, markers: str) -> None:
        if self._said:
            log.info("the layout changed: %s and %s are new streams", samples, markers)
        else:
            print(f'ready name="{samples}" markers="{markers}"', flush=True)
        self._said = True


def _place(endpoint: str) -> str:
    """A hub's address as it is known beyond this machine."""
    if not is_local(endpoint):
        return endpoint.removeprefix("tcp://")
    return f"{socket.gethostname()}:{endpoint.rpartition(':')[2]}"
