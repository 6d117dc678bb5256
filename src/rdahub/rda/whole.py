"""One connection's bytes as whole messages, unchanged, and what one who joins in the middle is told first.

Rule: pure; bytes leave as they came, cut between messages only. What a message says is looked at for one
purpose: to repeat the newest of those that describe the stream, as a Recorder does for a new connection.
Not here: decoding (`decode`), who gets the bytes (`rdahub.fanout`).
"""

from __future__ import annotations

import struct
from typing import Final

from rdahub.rda.decode import MAX_MESSAGE
from rdahub.rda.messages import (
    DATA16,
    DATA32,
    GUID,
    HEADER_SIZE,
    IMPEDANCE_START,
    IMPEDANCE_STOP,
    INFO,
    NEW_STATE,
    START,
    STOP,
)
from rdahub.rda.receive_buffer import ReceiveBuffer

__all__ = ["END", "WholeMessages"]

END: Final = bytes(HEADER_SIZE)
"""No message, for its GUID is not RDA's: between two programs of ours, the end of a connection."""

_HEADER: Final = struct.Struct("<16sII")  # GUID, nSize, nType
_BLOCKS: Final = frozenset({DATA16, DATA32})
_TEST: Final = 100_000  # without a name; PyCorder sends it first on every connection
_OPENING: Final = (_TEST, INFO, NEW_STATE, START, IMPEDANCE_START)  # in PyCorder's order
_ENDS: Final = {STOP: START, IMPEDANCE_STOP: IMPEDANCE_START}


class WholeMessages(ReceiveBuffer):
    """Put bytes in, take whole messages out.

    Attributes
    ----------
    foreign : bool
        What comes next is no RDA message, and nothing is given until `begin_anew`.
    astray : bool
        What was taken last is a block without a START before it or behind a STOP: nothing to one who joined
        meanwhile, who cannot know its layout.
    starts : int
        STARTs seen.
    """

    __slots__ = ("_said", "astray", "foreign", "starts")

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[int, bytes] = {}
        self.foreign = self.astray = False
        self.starts = 0

    @property
    def running(self) -> bool:
        """Whether a START holds."""
        return START in self._said

    def opening(self) -> bytes:
        """What a Recorder would tell one who connects now: the messages that hold, as they came."""
        return b"".join(self._said[kind] for kind in _OPENING if kind in self._said)

    def begin_anew(self) -> None:
        """Pass over an `END`: another connection's bytes follow."""
        self._head += HEADER_SIZE
        self._said.clear()
        self.foreign = False

    def take(self) -> memoryview | None:
        """All whole messages there are, as one piece, valid until more bytes are put in; None if none."""
        begin = at = self._head
        self.astray = False
        while self._tail - at >= HEADER_SIZE and not self.astray:
            guid, size, kind = _HEADER.unpack_from(self._buffer, at)
            if guid != GUID or not HEADER_SIZE <= size <= MAX_MESSAGE:
                self.foreign = True
                break
            if size > self._tail - at:
                break
            if kind not in _BLOCKS:
                self._note(kind, at, size)
            elif not self.running:
                if at > begin:
                    break  # it goes alone
                self.astray = True
            at += size
        self._head = at
        return memoryview(self._buffer)[begin:at] if at > begin else None

    def passes(self, received: memoryview) -> bool:
        """Whether bytes received are one block, whole, and may be passed on as they are: nearly always."""
        if self._head != self._tail or START not in self._said or len(received) < HEADER_SIZE:
            return False
        guid, size, kind = _HEADER.unpack_from(received)
        return size == len(received) and kind in _BLOCKS and guid == GUID

    def _note(self, kind: int, at: int, size: int) -> None:
        self._said.pop(_ENDS.get(kind, 0), None)
        if kind in _OPENING:
            self._said[kind] = bytes(memoryview(self._buffer)[at : at + size])
            self.starts += kind == START
