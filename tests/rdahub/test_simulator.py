"""The simulator: what its sources say, and what clients get over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from rdahub.brainvision import Recording, RecordingError
from rdahub.rda import (
    BlockMarker,
    Data,
    Decoder,
    Info,
    KeepAlive,
    Message,
    Samples,
    Start,
    Stop,
    encode,
)
from rdahub.simulator import Dump, Replay, Source, Synthetic, run, serve
from rdahub.simulator.server import _DumpPlayer, _RunPlayer

CAPTURES = Path(__file__).parents[1] / "data" / "rda"
CASES = sorted(CAPTURES.rglob("*.rda"))


class Client:
    """A reader of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._decoder = Decoder()
        self._waiting: list[Message] = []

    @classmethod
    async def connect(cls, port: int) -> Client:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def next(self) -> Message:
        while not self._waiting:
            received = await self.reader.read(2**16)
            if not received:
                raise EOFError
            self._decoder.feed(received)
            self._waiting = list(self._decoder)
        return self._waiting.pop(0)

    async def next_data(self) -> Data:
        while not isinstance(message := await self.next(), Data):
            pass
        return message

    async def until_stop(self) -> list[Message]:
        messages = [await self.next()]
        while not isinstance(messages[-1], Stop):
            messages.append(await self.next())
        return messages

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


@contextlib.asynccontextmanager
async def started(main: Callable[[Callable[[str, int], None]], Awaitable[None]]) -> AsyncIterator[int]:
    """Run a server beside the test; its port."""
    ready: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()
    task = asyncio.ensure_future(main(lambda host, port: ready.set_result((host, port))))
    task.add_done_callback(lambda _: ready.cancel())  # it failed: do not wait for ever
    try:
        host, port = await ready
        assert host == "127.0.0.1"
        yield port
    finally:
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()


@contextlib.asynccontextmanager
async def serving(
    source: Source | Dump, *, speed: float = 0.0, skip_after: float = 5.0, keep_alive: float = 1.0
) -> AsyncIterator[int]:
    def main(ready: Callable[[str, int], None]) -> Awaitable[None]:
        return serve(source, "127.0.0.1", 0, ready, speed=speed, skip_after=skip_after, keep_alive=keep_alive)

    async with started(main) as port:
        yield port


async def stay_silent(client: Client) -> None:
    """Neither a byte nor an end, for as long as an end would need to come through."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.reader.read(1), 0.05)


def blocks(source: Source) -> list[Data]:
    assert source.n_blocks is not None
    found = [source.block(k) for k in range(source.n_blocks)]
    assert source.block(source.n_blocks) is None
    return [data for data in found if data is not None]


def joined(messages: list[Message] | list[Data]) -> Samples:
    return np.concatenate([m.samples for m in messages if isinstance(m, Data)])


def absolute(found: list[Data]) -> list[tuple[int, str, str]]:
    """Markers by sample of the run."""
    markers, begin = [], 0
    for data in found:
        markers += [(begin + m.position, m.type, m.description) for m in data.markers]
        begin += len(data.samples)
    return markers


def a_recording(n_samples: int = 50, dtype: type[np.int16 | np.float32] = np.int16) -> Recording:
    count = np.arange(3 * n_samples).reshape(n_samples, 3)
    raw: Samples = count.astype(np.int16) if dtype is np.int16 else count.astype(np.float32)
    markers = (
        BlockMarker(0, 1, -1, "New Segment", ""),
        BlockMarker(19, 1, -1, "Stimulus", "S  1"),
        BlockMarker(20, 5, 2, "Stimulus", "S  2"),
        BlockMarker(20, 0, -1, "Comment", "tea, µ"),
        BlockMarker(n_samples - 1, 1, 0, "Response", "R  1"),
    )
    return Recording(2000.0, (0.1, 0.5, 1.0), ("Fp1", "auxµ", ""), ("µV", "°C", "V"), raw, markers)


# Sources


def test_synthetic_says_its_layout() -> None:
    info, start = Synthetic(34, 500.0).preamble()
    assert isinstance(start, Start)
    assert isinstance(info, Info)
    assert start.interval_us == info.interval_us == 2000.0
    assert start.resolutions == info.resolutions == (1.0,) + (0.1,) * 33
    assert start.names == info.names
    assert start.names[:3] == ("Fp1", "Fp2", "F3")
    assert start.names[31:] == ("FCz", "Ch33", "Ch34")
    assert len(set(start.names)) == 34
    assert info.units == ("µV",) * 34


@pytest.mark.parametrize("int16", [False, True])
def test_synthetic_is_a_function_of_the_index(int16: bool) -> None:
    whole = joined(blocks(Synthetic(8, 1000.0, 20, int16=int16, seconds=2)))
    other_blocks = joined(blocks(Synthetic(8, 1000.0, 7, int16=int16, seconds=2)))
    assert whole.dtype == (np.int16 if int16 else np.float32)
    assert whole.shape == (2000, 8)
    np.testing.assert_array_equal(whole, other_blocks)
    np.testing.assert_array_equal(whole[:, 0], np.arange(2000))
    np.testing.assert_array_equal(whole, joined(blocks(Synthetic(8, 1000.0, int16=not int16, seconds=2))))
    other_seed = joined(blocks(Synthetic(8, 1000.0, int16=int16, seconds=2, seed=1)))
    assert (whole[:, 1:] != other_seed[:, 1:]).mean() > 0.9


@pytest.mark.parametrize(("int16", "modulus"), [(False, 2**24), (True, 2**15)])
@pytest.mark.parametrize("turns", [1, 2**20])
def test_channel_0_wraps_where_it_says(int16: bool, modulus: int, turns: int) -> None:
    wrap = modulus * turns
    samples = Synthetic(3, int16=int16).samples(wrap - 2, wrap + 2)
    assert samples[:, 0].tolist() == [modulus - 2, modulus - 1, 0, 1]


def test_synthetic_looks_like_eeg() -> None:
    samples = Synthetic(5, 1000.0).samples(10**12, 10**12 + 4000)[:, 1:]
    microvolts = samples * 0.1
    assert (np.abs(microvolts.mean(axis=0)) < 1).all()
    assert ((microvolts.std(axis=0) > 5) & (microvolts.std(axis=0) < 30)).all()
    spectrum = np.abs(np.fft.rfft(microvolts, axis=0))
    assert (spectrum.argmax(axis=0) / 4).tolist() == [10.0, 10.25, 10.5, 10.75]  # Hz


@pytest.mark.parametrize("rate", [1000.0, 333.3, 256.0])
@pytest.mark.parametrize("block", [1, 20, 4096])
def test_synthetic_has_a_marker_every_second(rate: float, block: int) -> None:
    source = Synthetic(1, rate, block, seconds=6.5)
    expected = [(0, "New Segment", "")] + [
        (round(second * rate), "Stimulus", f"S  {turn}") for second, turn in enumerate([1, 2, 3, 4, 1, 2], 1)
    ]
    assert absolute(blocks(source)) == expected


def test_counter_begins_at_1_and_wraps() -> None:
    for source in (Synthetic(1), Replay(a_recording(), loop=True)):
        counters = []
        for k in (0, 1, 2**32 - 2, 2**32 - 1):
            data = source.block(k)
            assert data is not None
            counters.append(data.counter)
        assert counters == [1, 2, 2**32 - 1, 0]


def test_the_last_block_may_be_shorter() -> None:
    source = Synthetic(2, 1000.0, 20, seconds=0.05)
    assert [len(data.samples) for data in blocks(source)] == [20, 20, 10]
    assert source.block_seconds == 0.02
    assert Synthetic(2).n_blocks is None


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"channels": 0}, "channels is 0"),
        ({"channels": 5000}, "channels is 5000"),
        ({"rate": 0.0}, "rate is 0.0"),
        ({"rate": float("nan")}, "rate is nan"),
        ({"block": 0}, "block is 0"),
        ({"block": 10**7}, "at most"),
        ({"seconds": 0.0}, "seconds is 0.0"),
        ({"seconds": float("inf")}, "seconds is inf"),
        ({"seed": -1}, "seed is -1"),
        ({"speed": -1.0}, "speed is -1.0"),
        ({"speed": float("nan")}, "speed is nan"),
    ],
)
def test_values_out_of_range(wrong: dict[str, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        asyncio.run(run(ready=lambda *_: None, port=0, **wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize("int16", [False, True])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_replay_gives_the_raw_units(int16: bool, dtype: type[np.int16 | np.float32]) -> None:
    recording = a_recording(dtype=dtype)
    source = Replay(recording, 20, int16=int16)
    found = blocks(source)
    assert [len(data.samples) for data in found] == [20, 20, 10]
    assert joined(found).dtype == (np.int16 if int16 else np.float32)
    np.testing.assert_array_equal(joined(found), recording.raw)
    assert [m.position for data in found for m in data.markers] == [0, 19, 0, 0, 9]
    assert found[1].markers[0] == BlockMarker(0, 5, 2, "Stimulus", "S  2")
    assert source.block_seconds == pytest.approx(0.04)
    assert source.preamble() == [
        Info(2.0, 2000.0, recording.resolutions, recording.names, recording.units),
        Start(2000.0, recording.resolutions, recording.names),
    ]


@pytest.mark.parametrize("block", [1, 20, 50, 120])
def test_a_loop_has_no_seam(block: int) -> None:
    recording = a_recording()
    source = Replay(recording, block, loop=True)
    assert source.n_blocks is None
    found = [data for data in map(source.block, range(1 + 170 // block)) if data is not None]
    assert {len(data.samples) for data in found} == {block}
    raw = joined(found)
    np.testing.assert_array_equal(raw, np.tile(recording.raw, (6, 1))[: len(raw)])
    expected = [
        (50 * turn + m.position, m.type, m.description) for turn in range(6) for m in recording.markers
    ]
    assert absolute(found) == [marker for marker in expected if marker[0] < len(raw)]


def test_markers_outside_the_recording_go_with_the_nearest_block() -> None:
    plain = a_recording()
    markers = (BlockMarker(70, 1, -1, "late", ""), BlockMarker(-1, 1, -1, "early", ""))
    recording = Recording(2000.0, plain.resolutions, plain.names, plain.units, plain.raw, markers)
    found = blocks(Replay(recording, 20))
    assert [data.markers for data in found] == [
        (BlockMarker(-1, 1, -1, "early", ""),),
        (),
        (BlockMarker(30, 1, -1, "late", ""),),
    ]


@pytest.mark.parametrize("value", [0.5, 32768.0, -32769.0, np.nan, np.inf])
def test_a_float_recording_that_is_no_int16(value: float) -> None:
    recording = a_recording(dtype=np.float32)
    recording.raw[37, 1] = value
    with pytest.raises(RecordingError, match=r"auxµ is .* at sample 37"):
        Replay(recording, int16=True)
    assert joined(blocks(Replay(recording)))[37, 1] == pytest.approx(value, nan_ok=True)


# Server


@pytest.mark.parametrize("int16", [False, True])
def test_speed_0_sends_all_of_it_to_everyone(int16: bool) -> None:
    source = Synthetic(16, 1000.0, int16=int16, seconds=10)

    async def main() -> None:
        async with serving(source) as port:
            clients = [await Client.connect(port) for _ in range(3)]
            for client in clients[::-1]:  # one after the other: each at its own pace
                messages = await client.until_stop()
                assert messages[:2] == source.preamble()
                counters = [m.counter for m in messages if isinstance(m, Data)]
                assert counters == list(range(1, 501))
                samples = joined(messages)
                assert samples.dtype == (np.int16 if int16 else np.float32)
                np.testing.assert_array_equal(samples, joined(blocks(source)))
                await client.close()

    asyncio.run(main())


def test_a_replayed_recording_arrives_whole() -> None:
    recording = a_recording(7900)

    async def main() -> None:
        async with serving(Replay(recording)) as port:
            client = await Client.connect(port)
            messages = await client.until_stop()
            found = [m for m in messages if isinstance(m, Data)]
            np.testing.assert_array_equal(joined(found), recording.raw)
            assert absolute(found) == [(m.position, m.type, m.description) for m in recording.markers]
            await client.close()

    asyncio.run(main())


def test_no_block_comes_before_it_is_due() -> None:
    async def main() -> None:
        async with serving(Synthetic(2, 1000.0, 20, seconds=0.6), speed=2) as port:
            before = time.monotonic()
            client = await Client.connect(port)
            for k in range(30):
                assert (await client.next_data()).counter == k + 1
                assert time.monotonic() - before >= (k + 1) * 0.01 - 0.001
            await client.close()

    asyncio.run(main())


def test_a_late_joiner_comes_in_mid_run() -> None:
    async def main() -> None:
        async with serving(Synthetic(2, 1000.0, 20), speed=4) as port:
            first = await Client.connect(port)
            while (await first.next_data()).counter < 6:
                pass
            late = await Client.connect(port)
            assert isinstance(await late.next(), Info)
            assert isinstance(await late.next(), Start)
            begin = (await late.next_data()).counter
            assert begin >= 7
            for step in range(1, 10):
                data = await late.next_data()
                assert data.counter == begin + step
                assert data.samples[0, 0] == (data.counter - 1) * 20
            counters = [(await first.next_data()).counter for _ in range(10)]
            assert counters == list(range(7, 17))
            await first.close()
            await late.close()

    asyncio.run(main())


def deaf_socket(port: int) -> socket.socket:
    """Connected, with little room to receive, and nobody reading."""
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.connect(("127.0.0.1", port))
    return deaf


def test_a_client_that_never_reads_disturbs_nobody() -> None:
    async def main() -> None:
        # 0.4 MB per block: 60 of them are beyond what the kernel keeps for the deaf one.
        async with serving(Synthetic(200, 25000.0, 500), speed=1) as port:
            client = await Client.connect(port)
            with deaf_socket(port):
                for k in range(60):
                    data = await client.next_data()
                    assert data.counter == k + 1
                    assert data.samples[0, 0] == k * 500
            await client.close()

    asyncio.run(main())


def test_a_slow_client_skips_to_the_current_block(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with serving(Synthetic(200, 25000.0, 500), speed=1, skip_after=0.1) as port:
            observer = await Client.connect(port)
            deaf = deaf_socket(port)
            # The observer's blocks are the clock: 60 do not fit into the deaf one's buffers.
            while (seen := (await observer.next_data()).counter) < 60:
                pass
            deaf.setblocking(False)
            slow = Client(*await asyncio.open_connection(sock=deaf))
            before = (await slow.next_data()).counter
            while (after := await slow.next_data()).counter == before + 1:
                before = after.counter
            assert before < seen
            assert after.counter > before + 1
            assert after.samples[0, 0] == (after.counter - 1) * 500
            await slow.close()
            await observer.close()

    with caplog.at_level(logging.WARNING, "rdahub.simulator"):
        asyncio.run(main())
    assert "blocks skipped" in caplog.text


class Greedy(asyncio.StreamWriter):
    """Takes all it is given at once, as a reader faster than the server would."""

    def __init__(self) -> None:
        self.writes = 0

    def __del__(self) -> None:
        """Nothing to close."""

    def write(self, data: object) -> None:
        self.writes += 1
        if self.writes > 1000:
            raise RuntimeError("nobody else had a turn")

    async def drain(self) -> None:
        """Never full."""


@pytest.mark.parametrize(
    "player", [_RunPlayer(Synthetic(2), 0, 5, 1), _DumpPlayer(Dump(bytes(2**16) * 2000), 0)]
)
def test_a_greedy_client_leaves_others_their_turn(player: _RunPlayer | _DumpPlayer) -> None:
    async def main() -> None:
        greedy = Greedy()
        sending = asyncio.create_task(player.send(greedy, 0))
        for _ in range(100):
            await asyncio.sleep(0)
        assert 0 < greedy.writes < 200
        assert not sending.done()
        sending.cancel()
        await asyncio.wait({sending})

    asyncio.run(main())


def test_a_recorder_stays_up_after_stop() -> None:
    async def main() -> None:
        async with serving(Synthetic(2, seconds=0.1), speed=10, keep_alive=0.01) as port:
            first = await Client.connect(port)
            assert joined(await first.until_stop())[:, 0].tolist() == list(range(100))
            assert [await first.next() for _ in range(3)] == [KeepAlive()] * 3
            late = await Client.connect(port)  # the run is over, and someone is still there
            assert isinstance(await late.next(), Info)
            assert [await late.next() for _ in range(2)] == [KeepAlive()] * 2
            await first.close()
            await late.close()
            again = await Client.connect(port)
            assert joined(await again.until_stop())[:, 0].tolist() == list(range(100))
            await again.close()

    asyncio.run(main())


@pytest.mark.parametrize("reset", [False, True])
def test_whoever_comes_when_all_are_gone_gets_a_run_from_its_beginning(reset: bool) -> None:
    async def main() -> None:
        async with serving(Synthetic(2), speed=10) as port:
            for _ in range(10):
                client = await Client.connect(port)
                for k in range(3):
                    data = await client.next_data()
                    assert data.counter == k + 1
                    assert data.samples[0, 0] == 20 * k
                if reset:
                    linger = struct.pack("ii", 1, 0)
                    client.writer.get_extra_info("socket").setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, linger
                    )
                await client.close()

    asyncio.run(main())


def test_what_a_client_says_is_dropped() -> None:
    async def main() -> None:
        async with serving(Synthetic(2, seconds=1)) as port:
            client = await Client.connect(port)
            client.writer.write(b"GET / HTTP/1.1\r\n\r\n" * 100)
            assert len(joined(await client.until_stop())) == 1000
            await client.close()

    asyncio.run(main())


def test_a_source_that_fails_drops_the_client_and_not_the_server(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Synthetic):
        def block(self, k: int) -> Data | None:
            if k == 2:
                raise RuntimeError("out of paper")
            return super().block(k)

    async def main() -> None:
        async with serving(Broken(2)) as port:
            for _ in range(2):
                client = await Client.connect(port)
                assert [(await client.next_data()).counter for _ in range(2)] == [1, 2]
                with pytest.raises(EOFError):
                    await client.next()
                await client.close()

    asyncio.run(main())
    assert "out of paper" in caplog.text


@pytest.mark.parametrize("speed", [0.0, 1.0])
def test_cancelling_closes_everything(speed: float) -> None:
    async def main() -> None:
        async with serving(Synthetic(200, 25000.0, 500), speed=speed) as port:
            client = await Client.connect(port)
            await client.next_data()
            deaf = deaf_socket(port)
        with pytest.raises((EOFError, ConnectionError)):
            await client.until_stop()  # which never comes
        client.writer.close()
        deaf.close()
        with pytest.raises(ConnectionRefusedError):
            await Client.connect(port)

    asyncio.run(main())


@pytest.mark.parametrize("steps", range(8))
def test_a_client_accepted_in_the_last_moment_is_closed_too(steps: int) -> None:
    async def main() -> None:
        async with serving(Synthetic(2), speed=1) as port:
            late = socket.create_connection(("127.0.0.1", port))
            for _ in range(steps):  # each lets the server come one step further with it
                await asyncio.sleep(0)
        late.setblocking(False)
        with late, contextlib.suppress(ConnectionError):
            while await asyncio.get_running_loop().sock_recv(late, 4096):
                pass

    asyncio.run(main())


def test_a_port_taken_is_for_the_caller() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="address"):
        asyncio.run(run(ready=lambda *_: None, port=taken.getsockname()[1]))


# Captures


@pytest.mark.parametrize("speed", [0.0, 1e6])
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_capture_arrives_byte_for_byte(path: Path, speed: float) -> None:
    content = path.read_bytes()

    async def main() -> None:
        async with serving(Dump(content), speed=speed) as port:
            client = await Client.connect(port)
            assert await client.reader.readexactly(len(content)) == content
            if path.stem == "eof_mid_body":
                assert await client.reader.read() == b""
            else:
                await stay_silent(client)
            await client.close()

    asyncio.run(main())


def test_there_are_captures() -> None:
    assert len(CASES) > 20


START = encode(Start(1000.0, (1.0,), ("Fp1",)))
TEN = encode(Data(1, np.zeros((10, 1), np.float32)))
THIRTY = encode(Data(2, np.zeros((30, 1), np.int16)))
STOP = encode(Stop())
SLOWER = encode(Start(2000.0, (1.0,), ("Fp1",)))


def test_a_capture_goes_at_its_own_pace() -> None:
    capture = Dump(START + TEN + THIRTY + STOP + SLOWER + TEN + STOP)
    first, second = len(START), len(START + TEN)
    third = len(START + TEN + THIRTY + STOP + SLOWER)
    assert [end for _, end in capture.parts] == [first, second, third, len(capture.content)]
    assert [seconds for seconds, _ in capture.parts] == pytest.approx([0, 0.01, 0.04, 0.06])

    async def main() -> None:
        async with serving(capture, speed=0.5) as port:
            before = time.monotonic()
            client = await Client.connect(port)
            for seconds, end, begin in ((0.0, first, 0), (0.02, second, first), (0.08, third, second)):
                assert await client.reader.readexactly(end - begin) == capture.content[begin:end]
                assert time.monotonic() - before >= seconds - 0.001
            assert await client.reader.readexactly(len(TEN + STOP)) == TEN + STOP
            assert time.monotonic() - before >= 0.119
            await client.close()

    asyncio.run(main())


def test_where_the_bytes_are_no_longer_rda_the_rest_goes_at_once() -> None:
    rest = b"\0" * 24 + TEN * 5
    capture = Dump(START + TEN + rest)
    assert capture.parts == [(0.0, len(START)), (pytest.approx(0.01), len(START + TEN + rest))]
    assert not capture.ends_inside


def test_a_capture_cut_anywhere_ends_inside_unless_on_a_boundary() -> None:
    whole = START + TEN + STOP
    boundaries = {len(START), len(START + TEN), len(whole)}
    for end in range(1, len(whole) + 1):
        capture = Dump(whole[:end])
        assert capture.ends_inside == (end not in boundaries)
        assert capture.parts[-1][1] == end


@pytest.mark.parametrize("cut", [False, True])
def test_a_large_capture_goes_out_whole_before_the_end(cut: bool) -> None:
    block = encode(Data(1, np.zeros((5000, 1), np.float32)))
    content = (START + block * 200)[: -7 if cut else None]

    async def main() -> None:
        async with serving(Dump(content)) as port:
            client = await Client.connect(port)
            assert await client.reader.readexactly(len(content)) == content
            if cut:
                assert await client.reader.read() == b""
            else:
                await stay_silent(client)
            await client.close()

    asyncio.run(main())


# run


def test_run_simulates_a_signal() -> None:
    async def main() -> None:
        async with started(
            lambda ready: run(ready=ready, port=0, channels=3, rate=500, block=5, seconds=1, speed=0, seed=4)
        ) as port:
            client = await Client.connect(port)
            expected = joined(blocks(Synthetic(3, 500, 5, seconds=1, seed=4)))
            np.testing.assert_array_equal(joined(await client.until_stop()), expected)
            await client.close()

    asyncio.run(main())


def test_run_replays_a_recording_in_a_loop(tmp_path: Path) -> None:
    vhdr = tmp_path / "small.vhdr"
    vhdr.write_text(
        "BrainVision Data Exchange Header File Version 1.0\n[Common Infos]\nDataFile=small.eeg\n"
        "NumberOfChannels=1\nSamplingInterval=1000\n[Binary Infos]\nBinaryFormat=INT_16\n"
        "[Channel Infos]\nCh1=Fp1,,0.5\n"
    )
    vhdr.with_suffix(".eeg").write_bytes(np.arange(7, dtype="<i2").tobytes())

    async def main() -> None:
        async with started(
            lambda ready: run(ready=ready, port=0, vhdr=vhdr, loop=True, block=5, int16=True, speed=0)
        ) as port:
            client = await Client.connect(port)
            found = [await client.next_data() for _ in range(3)]
            assert joined(found)[:, 0].tolist() == [*range(7), *range(7), 0]
            assert found[0].samples.dtype == np.int16
            await client.close()

    asyncio.run(main())


def test_run_replays_a_capture(tmp_path: Path) -> None:
    path = tmp_path / "stream.rda"
    path.write_bytes(START + TEN + STOP)

    async def main() -> None:
        async with started(lambda ready: run(ready=ready, port=0, dump=path)) as port:
            client = await Client.connect(port)
            assert await client.reader.readexactly(path.stat().st_size) == path.read_bytes()
            await client.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"vhdr": "a.vhdr", "dump": "a.rda"}, "--vhdr and --dump exclude each other"),
        ({"loop": True}, "--loop needs a recording"),
        ({"dump": "a.rda", "loop": True}, "--loop needs a recording"),
        ({"dump": "a.rda", "int16": True}, "--int16 has no meaning with --dump"),
        ({"dump": "a.rda", "block": 5}, "--block has no meaning with --dump"),
        ({"dump": "a.rda", "seed": 5}, "--seed has no meaning with --dump"),
        ({"vhdr": "a.vhdr", "channels": 5}, "--channels has no meaning with --vhdr"),
        ({"vhdr": "a.vhdr", "rate": 5.0}, "--rate has no meaning with --vhdr"),
        ({"vhdr": "a.vhdr", "seconds": 5.0}, "--seconds has no meaning with --vhdr"),
        ({"vhdr": "gone.vhdr"}, "gone.vhdr: cannot read"),
        ({"dump": "gone.rda"}, "gone.rda: cannot read"),
        ({"dump": "empty.rda"}, "empty.rda: the captured stream is empty"),
        ({"dump": "text.rda"}, "text.rda: it is no captured stream"),
        ({"dump": "short.rda"}, "short.rda: it is no captured stream"),
    ],
)
def test_settings_that_do_not_go_together(
    settings: dict[str, object], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.rda").touch()
    (tmp_path / "text.rda").write_text("Brain Vision Data Exchange Header File")
    (tmp_path / "short.rda").write_bytes(START[:15])
    with pytest.raises(ValueError, match=says):
        asyncio.run(run(ready=lambda *_: None, port=0, **settings))  # type: ignore[arg-type]
