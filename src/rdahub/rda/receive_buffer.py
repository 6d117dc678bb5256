"""The bytes of one connection between being received and being decoded.

Rule: memory follows the bytes really received; it is replaced, never resized, for a reader may hold a view.
Not here: what the bytes mean; who knows that reads between head and tail, and moves head.

Memory, one bytearray that bytes enter at ``tail`` and leave at ``head``::

    0            head                    tail             len(buffer)
    | consumed   | received, not decoded | room to read into |
    ^ stream offset ``origin``
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    Bytes: TypeAlias = bytes | bytearray | memoryview

_ROOM: Final = 64 * 2**10  # bytes of a fresh buffer: several blocks of a usual layout
_KEEP: Final = 4 * 2**20  # an emptied buffer above this is given back: no usual block needs it again


class ReceiveBuffer:
    """Take bytes in as they come; the base of who takes them out."""

    __slots__ = ("_buffer", "_closed", "_head", "_origin", "_tail")

    def __init__(self) -> None:
        self._buffer = bytearray(_ROOM)
        self._origin = 0  # stream offset of buffer[0]
        self._head = 0
        self._tail = 0
        self._closed = False

    @property
    def offset(self) -> int:
        """Stream offset in bytes of the first byte not yet decoded."""
        return self._origin + self._head

    def get_buffer(self, sizehint: int = -1) -> memoryview:  # noqa: ARG002  asyncio's signature
        """Memory to receive into: writable, never empty, valid until the next call.

        Parameters
        ----------
        sizehint : int
            Ignored; a hint is not bytes received.
        """
        buffer, held = self._buffer, self._tail - self._head
        if not held:
            if len(buffer) > _KEEP:
                self._move(bytearray(_ROOM))
            else:
                self._origin += self._head
                self._head = self._tail = 0
        elif (len(buffer) - self._tail) * 4 < len(buffer):
            # A quarter left. A full buffer is replaced, never resized: a reader may still hold the old view.
            self._move(buffer if held * 2 <= len(buffer) else bytearray(2 * len(buffer)))
        return memoryview(self._buffer)[self._tail :]

    def buffer_updated(self, nbytes: int) -> None:
        """Take `nbytes` bytes as received, written to the start of the last `get_buffer`.

        Raises
        ------
        ValueError
            If `nbytes` is negative or more than there was room for.
        """
        if self._closed:
            return
        room = len(self._buffer) - self._tail
        if not 0 <= nbytes <= room:
            raise ValueError(f"{nbytes} bytes cannot have been received into a buffer of {room}")
        self._tail += nbytes

    def feed(self, data: Bytes) -> None:
        """Take all of `data` as received."""
        rest = memoryview(data).cast("B")
        while rest:
            room = self.get_buffer(len(rest))
            n = min(len(room), len(rest))
            room[:n] = rest[:n]
            self.buffer_updated(n)
            rest = rest[n:]

    def _move(self, target: bytearray) -> None:
        """Put the bytes held at the start of `target`, which may be the buffer itself."""
        held = self._tail - self._head
        # Through memoryviews: no temporary copy, and overlap is allowed.
        memoryview(target)[:held] = memoryview(self._buffer)[self._head : self._tail]
        self._buffer = target
        self._origin += self._head
        self._head, self._tail = 0, held

    def _close(self) -> None:
        """Forget the bytes held, and drop what enters from here on."""
        self._closed = True
        self._origin += self._head
        self._head = self._tail = 0
        self._buffer = bytearray(_ROOM)
