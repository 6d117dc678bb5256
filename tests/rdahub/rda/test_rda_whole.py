"""Bytes of a connection as whole messages: unchanged however they were cut, and told anew to who joins."""

from __future__ import annotations

import random
import struct
import time
from pathlib import Path

import pytest

from rdahub import rda
from rdahub.rda.whole import END, WholeMessages

DATA = Path(__file__).parents[2] / "data" / "rda"
PYCORDER = (DATA / "pycorder_all_types_3ch_then_5ch.rda").read_bytes()
SOUND = [DATA / "golden.rda", DATA / "pycorder_all_types_3ch_then_5ch.rda", *DATA.glob("cases/[os]*.rda")]


def framed(kind: int, body: bytes = b"") -> bytes:
    return rda.GUID + struct.pack("<II", 24 + len(body), kind) + body


def cut(stream: bytes) -> list[bytes]:
    """The messages, found another way."""
    messages, at = [], 0
    while at < len(stream):
        (size,) = struct.unpack_from("<I", stream, at + 16)
        messages.append(stream[at : at + size])
        at += size
    return messages


def kinds(stream: bytes) -> list[int]:
    return [struct.unpack_from("<I", message, 20)[0] for message in cut(stream)]


def decoded(stream: bytes) -> list[rda.Message]:
    decoder = rda.Decoder()
    decoder.feed(stream)
    messages = list(decoder)
    decoder.eof()
    return messages


def pieces(whole: WholeMessages) -> list[bytes]:
    return list(iter(lambda: bytes(whole.take() or b""), b""))


@pytest.mark.parametrize("path", SOUND, ids=lambda path: path.stem)
def test_bytes_leave_as_they_came_and_between_messages_only(path: Path) -> None:
    stream = path.read_bytes()
    seed = time.time_ns()
    print(f"seed {seed}")
    chance = random.Random(seed)
    ends = {sum(map(len, cut(stream)[:n])) for n in range(len(cut(stream)) + 1)}
    for largest in (1, 30, 5000):
        whole, given, at = WholeMessages(), b"", 0
        while at < len(stream):
            n = chance.randint(1, largest)
            whole.feed(stream[at : at + n])
            at += n
            given += b"".join(pieces(whole))
            assert len(given) in ends
            assert len(given) == max(end for end in ends if end <= at)
        assert given == stream


def test_who_joins_anywhere_can_decode_all_that_follows() -> None:
    messages = cut(PYCORDER)
    assert set(kinds(PYCORDER)) == {100_000, 9, 5, 10_000, 6, 7, 8, 1, 4, 3}
    joined = 0
    for n in range(len(messages) + 1):
        whole = WholeMessages()
        whole.feed(b"".join(messages[:n]))
        pieces(whole)
        before, rest = messages[:n], b"".join(messages[n:])
        for message in cut(whole.opening()):
            (kind,) = kinds(message)
            assert (
                message == [each for each in before if kinds(each) == [kind]][-1]
            )  # the newest, to the byte
        both = decoded(whole.opening() + rest)
        alone = decoded(PYCORDER)
        blocks = [each for each in both if isinstance(each, rda.Data)]
        expected = [each for each in alone if isinstance(each, rda.Data)][-len(blocks) or len(alone) :]
        assert sum(kind == 4 for kind in kinds(rest)) == len(blocks)
        assert [each.samples.tobytes() for each in blocks] == [each.samples.tobytes() for each in expected]
        joined += whole.running
        assert (1 in kinds(whole.opening())) == whole.running
    assert 0 < joined < len(messages)  # in runs and between them


def test_an_opening_is_what_pycorder_greets_with() -> None:
    messages = cut(PYCORDER)
    whole = WholeMessages()
    for message in messages:
        whole.feed(message)
        whole.take()
        if kinds(message) == [4]:
            break
    assert kinds(whole.opening()) == [100_000, 9, 5, 1]  # PROTOCOL: TEST, INFO, NEWSTATE, START
    whole.feed(framed(rda.STOP))
    whole.take()
    assert kinds(whole.opening()) == [100_000, 9, 5]
    whole.feed(framed(rda.IMPEDANCE_START))
    whole.take()
    assert kinds(whole.opening()) == [100_000, 9, 5, 6]
    whole.feed(framed(rda.IMPEDANCE_STOP))
    whole.take()
    assert kinds(whole.opening()) == [100_000, 9, 5]


def test_what_is_no_message_is_not_given_until_another_connection_begins() -> None:
    first, second = framed(rda.KEEP_ALIVE), framed(77, b"new")
    for foreign in (END, b"GET / HTTP/1.1\r\nHost: localhost\r\n", rda.GUID + struct.pack("<II", 23, 1)):
        whole = WholeMessages()
        whole.feed(first + foreign + second)
        assert pieces(whole) == [first]
        assert whole.foreign
    whole = WholeMessages()
    whole.feed(PYCORDER[: len(b"".join(cut(PYCORDER)[:2]))] + END + second)
    pieces(whole)
    assert whole.opening() != b""
    whole.begin_anew()
    assert whole.opening() == b""
    assert pieces(whole) == [second]
    assert not whole.foreign


def test_a_block_behind_a_stop_goes_alone() -> None:
    start = rda.encode(rda.Start(1000.0, (1.0,), ("A",)))
    block = framed(rda.DATA32, struct.pack("<IIIf", 1, 1, 0, 0.5))
    whole = WholeMessages()
    whole.feed(start + block + framed(rda.STOP) + block + block + start + block)
    given = []
    while (piece := whole.take()) is not None:
        given.append((bytes(piece), whole.astray))
    assert given == [
        (start + block + framed(rda.STOP), False), (block, True), (block, True), (start + block, False),
    ]  # fmt: skip
    assert whole.starts == 2


def test_only_a_whole_block_behind_whole_messages_passes_as_it_is() -> None:
    start = rda.encode(rda.Start(1000.0, (1.0,), ("A",)))
    stop = framed(rda.STOP)
    block = framed(rda.DATA32, struct.pack("<IIIf", 1, 1, 0, 0.5))
    for before, received, passes in (
        (start, block, True),
        (start + block, framed(rda.DATA16, struct.pack("<IIIh", 1, 1, 0, 5)), True),
        (b"", block, False),
        (start + stop, block, False),
        (start + block[:30], block, False),
        (start, block + block, False),
        (start, block[:-1], False),
        (start, block[:10], False),
        (start, END + block, False),
        (start, stop, False),
    ):
        whole = WholeMessages()
        whole.feed(before)
        pieces(whole)
        assert whole.passes(memoryview(received)) == passes, (before, received)
