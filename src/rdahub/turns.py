"""Whose question is answered next: one each in turn, however many somebody has sent.

Rule: a client may have a few questions waiting, all together may have some more; what exceeds that is for the
caller to refuse. Not here: sockets, answers.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, TypeVar

__all__ = ["Turns"]

Question = TypeVar("Question")


class Turns(Generic[Question]):
    """Questions waiting, by client.

    Parameters
    ----------
    per_client, in_all : int
        How many may wait.
    """

    def __init__(self, per_client: int, in_all: int) -> None:
        self._per_client = per_client
        self._in_all = in_all
        self._clients: OrderedDict[bytes, deque[Question]] = OrderedDict()
        self._waiting = 0

    def __len__(self) -> int:
        return self._waiting

    def add(self, client: bytes, question: Question) -> bool:
        """Have a question wait; False if too many do already."""
        waiting = self._clients.get(client)
        if self._waiting >= self._in_all or (waiting is not None and len(waiting) >= self._per_client):
            return False
        if waiting is None:
            waiting = self._clients[client] = deque()
        waiting.append(question)
        self._waiting += 1
        return True

    def next(self) -> Question:
        """Take the question whose turn it is; its client comes last from now on."""
        client, waiting = self._clients.popitem(last=False)
        question = waiting.popleft()
        self._waiting -= 1
        if waiting:
            self._clients[client] = waiting
        return question

    def drop(self, client: bytes) -> None:
        """Forget a client's questions."""
        self._waiting -= len(self._clients.pop(client, ()))

    def clear(self) -> None:
        """Forget all."""
        self._clients.clear()
        self._waiting = 0
