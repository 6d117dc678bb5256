"""An `AsyncClient` behind the face of a `Client`, so that the same tests hold both to the same words.

Rule: each call is awaited to its end on a loop of its own; nothing else runs there.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any, Self

from rdahub_client import Event
from rdahub_client.asyncio import AsyncClient

__all__ = ["OnALoop"]

LOOKS = {"start_msg", "segments", "last_sample", "first_available", "state", "instance"}
"""Properties that ask, where waiting is allowed."""


class OnALoop:
    """Attributes and methods of an `AsyncClient`, without ``await``."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        self._runner = asyncio.Runner()
        self.client = AsyncClient(*arguments, **more)

    def __getattr__(self, name: str) -> Any:
        if name in LOOKS and self.client.is_streaming:
            self._runner.run(self.client.refresh())
        found = getattr(self.client, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **more: Any) -> Any:
            result = found(*arguments, **more)
            if inspect.isawaitable(result):
                return self._runner.run(_awaited(result))
            return self._events(result) if isinstance(result, AsyncIterator) else result

        return call

    def _events(self, events: AsyncIterator[Event]) -> Iterator[Event]:
        return _Events(self._runner, events)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.disconnect()
        self._runner.close()


class _Events(Iterator[Event]):
    """Not a generator: that would end with the first time-out."""

    def __init__(self, runner: asyncio.Runner, events: AsyncIterator[Event]) -> None:
        self._runner = runner
        self._events = events

    def __next__(self) -> Event:
        try:
            event: Event = self._runner.run(_awaited(anext(self._events)))
        except StopAsyncIteration:
            raise StopIteration from None
        return event


async def _awaited(result: Any) -> Any:
    return await result
