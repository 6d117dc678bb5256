"""``rdahub sim``: run a simulator until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import contextlib
import signal

from rdahub import simulator
from rdahub.config import CommonSettings, SettingError, SimSettings


def run(settings: SimSettings) -> int:
    """Simulate; one line on stdout tells where."""
    asyncio.run(_run(settings))
    return 0


async def _run(settings: SimSettings) -> None:
    task = asyncio.create_task(
        simulator.run(ready=_announce, **settings.model_dump(exclude=set(CommonSettings.model_fields)))
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C comes as KeyboardInterrupt
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return
    except ValueError as error:  # a combination or a file that cannot be simulated
        raise SettingError(str(error)) from None


def _announce(host: str, port: int) -> None:
    print(f"ready rda={host}:{port}", flush=True)
