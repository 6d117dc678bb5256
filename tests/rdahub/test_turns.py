"""Turns: one question each, in order, and nobody holds more than is his; compared with a plain list."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rdahub.turns import Turns

PER_CLIENT, IN_ALL = 3, 7


def drained(turns: Turns[str]) -> list[str]:
    return [turns.next() for _ in range(len(turns))]


def test_one_client_is_answered_in_its_own_order() -> None:
    turns: Turns[str] = Turns(8, 100)
    assert all(turns.add(b"a", text) for text in "12345")
    assert drained(turns) == list("12345")


def test_who_asks_once_waits_for_one_answer_of_each_other_however_many_those_asked() -> None:
    turns: Turns[str] = Turns(8, 100)
    for number in range(8):
        turns.add(b"greedy", f"g{number}")
    for number in range(8):
        turns.add(b"hungry", f"h{number}")
    turns.add(b"modest", "m")
    assert drained(turns)[:3] == ["g0", "h0", "m"]


def test_who_was_just_answered_comes_last_also_against_one_that_came_later() -> None:
    turns: Turns[str] = Turns(8, 100)
    turns.add(b"a", "a0")
    turns.add(b"a", "a1")
    assert turns.next() == "a0"
    turns.add(b"b", "b0")
    assert drained(turns) == ["a1", "b0"]  # a1 was there first
    turns.add(b"a", "a0")
    turns.add(b"b", "b0")
    turns.add(b"a", "a1")
    assert drained(turns) == ["a0", "b0", "a1"]


def test_what_exceeds_a_clients_line_is_refused_and_the_others_are_not() -> None:
    turns: Turns[str] = Turns(2, 100)
    assert [turns.add(b"a", text) for text in "123"] == [True, True, False]
    assert turns.add(b"b", "b")
    assert drained(turns) == ["1", "b", "2"]
    assert turns.add(b"a", "4")


def test_what_exceeds_all_lines_together_is_refused() -> None:
    turns: Turns[str] = Turns(2, 3)
    assert [turns.add(bytes([client]), "q") for client in range(4)] == [True, True, True, False]
    turns.next()
    assert turns.add(b"late", "q")
    assert len(turns) == 3


def test_clear_forgets_all_and_leaves_room_for_all() -> None:
    turns: Turns[str] = Turns(1, 2)
    turns.add(b"a", "old")
    turns.add(b"b", "old")
    turns.clear()
    assert len(turns) == 0
    assert not turns
    assert turns.add(b"a", "new")
    assert turns.add(b"b", "new")
    assert drained(turns) == ["new", "new"]


@given(st.lists(st.integers(0, 5), max_size=200))
def test_nobody_is_kept_between_turns(clients: list[int]) -> None:
    """An answered client leaves nothing behind: identities are new with every connection."""
    turns: Turns[int] = Turns(1000, 1000)
    for number, client in enumerate(clients):
        assert turns.add(bytes([client]), number)
    assert sorted(turns.next() for _ in clients) == list(range(len(clients)))
    assert not turns._clients


class AgainstAList(RuleBasedStateMachine):
    """The same by a plain list: the next is the oldest question of whoever has waited longest for a turn."""

    def __init__(self) -> None:
        super().__init__()
        self.turns: Turns[int] = Turns(PER_CLIENT, IN_ALL)
        self.waiting: list[tuple[int, int]] = []  # client, question
        self.order: list[int] = []  # clients, by whose turn it is
        self.asked = 0

    @rule(client=st.integers(0, 4))
    def add(self, client: int) -> None:
        of_client = sum(who == client for who, _ in self.waiting)
        room = of_client < PER_CLIENT and len(self.waiting) < IN_ALL
        self.asked += 1
        assert self.turns.add(bytes([client]), self.asked) is room
        if room:
            self.waiting.append((client, self.asked))
            if client not in self.order:
                self.order.append(client)

    @precondition(lambda self: self.waiting)
    @rule()
    def next(self) -> None:
        client = self.order.pop(0)
        oldest = next(each for each in self.waiting if each[0] == client)
        self.waiting.remove(oldest)
        if any(who == client for who, _ in self.waiting):
            self.order.append(client)
        assert self.turns.next() == oldest[1]

    @rule(client=st.integers(0, 4))
    def drop(self, client: int) -> None:
        self.turns.drop(bytes([client]))
        self.waiting = [each for each in self.waiting if each[0] != client]
        self.order = [each for each in self.order if each != client]

    @rule()
    def clear(self) -> None:
        self.turns.clear()
        self.waiting, self.order = [], []

    @invariant()
    def counts(self) -> None:
        assert len(self.turns) == len(self.waiting)


TestAgainstAList = AgainstAList.TestCase
