"""One MNE-LSL program on two sources of the same samples: `StreamLSL` on an outlet, `StreamRDA` on a hub.

``mne_twin.py lsl|rda OUT.npz``. The program's text is one; only its constructor's line is put in.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

PROGRAM = """
import time
import numpy as np
from mne_lsl.stream import EpochsStream, StreamLSL
from rdahub_client.bridges.mne import StreamRDA

stream = {constructor}
stream.connect(timeout=30)
stream.rename_channels({{"Oz": "O1"}})
stream.set_channel_types({{"VEOG": "eog"}})
stream.pick(["Fz", "Cz", "O1", "STI"])
stream.set_montage("easycap-M1")
stream.set_eeg_reference("average")
stream.filter(1, 40, picks="eeg")
stream.notch_filter(50, picks="eeg")
seen = []
stream.add_callback(lambda data, timestamps, info: (seen.append(data[:, -1].copy()), (data, timestamps))[1])
epochs = EpochsStream(stream, 3, {{"a": 1, "b": 2}}, "STI", tmin=-0.05, tmax=0.1, baseline=None)
epochs.connect(acquisition_delay=0.01)


def until(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


feed(0, 100)
until(lambda: stream.n_new_samples == 100)
feed(100, 1500)
until(lambda: stream.n_new_samples == 1500)
until(lambda: epochs.n_new_epochs == 3)
n_new = stream.n_new_samples
data, timestamps = stream.get_data(winsize=1.5)
eeg, _ = stream.get_data(winsize=0.5, picks="eeg")
result = dict(
    data=data, eeg=eeg, n_new=n_new, left=stream.n_new_samples, seen=np.concatenate(seen),
    rising=np.diff(timestamps).min() > 0, epochs=epochs.get_data(3), events=epochs.events,
    names=stream.ch_names, types=stream.get_channel_types(),
    units=[str(unit) for unit in stream.get_channel_units()],
    sfreq=stream.info["sfreq"], dtype=str(stream.dtype), connected=stream.connected,
)
epochs.disconnect()
stream.disconnect()
result["after"] = stream.connected
"""

NAMES = ("Fz", "Cz", "Oz", "VEOG")
EVENTS = {300: 1, 620: 2, 900: 3, 1250: 1}


def signal() -> npt.NDArray[np.float32]:
    """Samples; the first 100 all alike, so that filters begin alike however they are cut."""
    samples = np.random.default_rng(1).normal(0, 50, (1500, 4)).astype(np.float32)
    samples[:100] = [10, 20, 30, 40]
    return samples


@contextlib.contextmanager
def lsl() -> Iterator[tuple[str, Callable[[int, int], None]]]:
    from mne_lsl.lsl import StreamInfo, StreamOutlet, local_clock

    info = StreamInfo("twin", "eeg", 5, 1000, "float32", "twin-of-rda")
    info.set_channel_names([*NAMES, "STI"])
    info.set_channel_types(["eeg"] * 4 + ["stim"])
    info.set_channel_units(["microvolts"] * 4 + ["none"])
    outlet = StreamOutlet(info)
    samples = np.column_stack((signal(), np.zeros(1500, np.float32)))
    for index, code in EVENTS.items():
        samples[index, 4] = code
    times = local_clock() + np.arange(1500) / 1000

    def feed(start: int, stop: int) -> None:
        for i in range(start, stop, 20):
            outlet.push_chunk(np.ascontiguousarray(samples[i : i + 20]), times[i : i + 20])

    yield 'StreamLSL(2, name="twin")', feed


@contextlib.contextmanager
def rda() -> Iterator[tuple[str, Callable[[int, int], None]]]:
    from processes import hub
    from rdahub import rda as wire
    from scripted import ScriptedRecorder

    recorder = ScriptedRecorder()
    samples = signal()

    def feed(start: int, stop: int) -> None:
        for i in range(start, stop, 20):
            markers = tuple(
                wire.BlockMarker(index - i, 1, -1, "Stimulus", f"S{code:3}")
                for index, code in EVENTS.items()
                if i <= index < i + 20
            )
            recorder.send(wire.Data(i // 20 + 1, samples[i : i + 20], markers))

    with contextlib.closing(recorder), hub(recorder.address) as server:
        recorder.send(wire.Start(1000.0, (1.0,) * 4, NAMES))
        yield f'StreamRDA(2, hub="{server.query}")', feed


if __name__ == "__main__":
    with {"lsl": lsl, "rda": rda}[sys.argv[1]]() as (constructor, feed):
        names: dict[str, Any] = {"feed": feed}
        exec(PROGRAM.format(constructor=constructor), names)  # noqa: S102
        np.savez(sys.argv[2], **names["result"])
    print("done", flush=True)
