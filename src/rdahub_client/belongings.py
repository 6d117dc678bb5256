"""What a client has open, closed with the client at the latest.

Rule: a client may be dropped without `disconnect`, as by a notebook's cell that is run again, and nothing
hangs. libzmq ends a context only when its sockets are closed, and where Python's collector finds both at once
it may come to the context first, which knows them no more. So they are held here, out of its reach until they
are closed. Nothing here may refer to the client, or it would never be dropped.
"""

from __future__ import annotations

import weakref
from typing import Protocol

__all__ = ["Belongings"]


class Closing(Protocol):
    """Whatever can be closed, also twice."""

    def close(self) -> None: ...


class Belongings:
    """The open things of one client, by name.

    Parameters
    ----------
    owner : object
        The client.
    """

    def __init__(self, owner: object) -> None:
        self._things: dict[str, Closing] = {}
        weakref.finalize(owner, self.close).atexit = False  # then the system closes them

    def keep(self, name: str, thing: Closing) -> None:
        """Take this in the place of what had the name before."""
        self._things[name] = thing

    def close(self, name: str | None = None) -> None:
        """Close what has this name, or everything."""
        for each in [*self._things] if name is None else [name]:
            thing = self._things.pop(each, None)
            if thing is not None:
                thing.close()
