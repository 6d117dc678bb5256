"""``rdahub demo``: simulator, hub and live view in one command, to see it work without an amplifier.

Rule: simulator and hub are processes of their own, as in earnest (see `children`).
"""

from __future__ import annotations

from typing import Final

from rdahub.commands import watch
from rdahub.commands.children import READY, Child, children
from rdahub.config import DemoSettings

_BLOCKS_PER_SECOND: Final = 50


def run(settings: DemoSettings) -> int:
    """Start both, watch, end both."""
    watch.check_terminal()
    with children() as started:
        block = max(1, round(settings.rate / _BLOCKS_PER_SECOND))
        simulator = Child("sim", port=0, channels=settings.channels, rate=settings.rate, block=block)
        started.append(simulator)
        recorder = simulator.ready()["rda"]
        publish = f"{settings.query.rpartition(':')[0]}:0"
        hub = Child("serve", recorder=recorder, query=settings.query, publish=publish, name=settings.name)
        started.append(hub)
        address = hub.ready()["query"].removeprefix("tcp://")
        print(f'read from it in Python: client.connect("{address}")', flush=True)
        watch.watch(address, READY, settings.seconds)
    return 0
