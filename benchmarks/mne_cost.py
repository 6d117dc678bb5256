"""What a program costs that has a stream and looks at it: `StreamRDA` beside `StreamLSL`, in one run.

``python -m benchmarks.mne_cost [--channels 64] [--rate 1000] [--seconds 10]``: the same samples in blocks of
20 ms, from a simulator through a hub, and from an LSL outlet on this machine; a child process for each reads
the newest second 10 times a second (as a slow neurofeedback loop does), and tells its CPU time.
Rule: both at once, so that both have the machine as it is; CPU time of all threads, without the start.
Not here: latency (`benchmarks`).
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from benchmarks.children import Child

HERE = Path(__file__)
BLOCK = 0.02  # s


def outlet(channels: int, rate: float) -> None:
    """An LSL outlet that sends blocks for ever."""
    import numpy as np
    from mne_lsl.lsl import StreamInfo, StreamOutlet

    info = StreamInfo("mne_cost", "eeg", channels + 1, rate, "float32", "mne_cost")
    info.set_channel_types(["eeg"] * channels + ["stim"])
    info.set_channel_units(["microvolts"] * channels + ["none"])
    out = StreamOutlet(info)
    print("ready", flush=True)
    n = round(rate * BLOCK)
    block = np.random.default_rng(1).normal(0, 10, (n, channels + 1)).astype(np.float32)
    due = time.monotonic()
    while True:
        out.push_chunk(block)
        due += BLOCK
        time.sleep(max(0.0, due - time.monotonic()))


def reader(kind: str, address: str, seconds: float, delay: float) -> None:
    """A program as users write it; prints CPU seconds for each second, and samples it was told of."""
    from mne_lsl.stream import StreamLSL

    from rdahub_client.bridges.mne import StreamRDA

    stream = StreamLSL(5, name="mne_cost") if kind == "lsl" else StreamRDA(5, hub=address)
    stream.connect(acquisition_delay=delay or (0 if kind == "rda" else 0.001), timeout=20)
    print("ready", flush=True)
    time.sleep(1.0)
    stream.get_data(1, picks="eeg")
    began, cpu, rows = time.monotonic(), time.process_time(), 0
    while (now := time.monotonic()) < began + seconds:
        rows += stream.n_new_samples
        stream.get_data(1, picks="eeg")
        time.sleep(0.1)
    spent = (time.process_time() - cpu) / (now - began)
    print(f"spent {spent * 100:.2f} rows {rows / (now - began):.0f}", flush=True)
    stream.disconnect()


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="benchmarks.mne_cost", description=__doc__)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument(
        "--delay", type=float, default=0, help="acquisition_delay; 0: the least that each has"
    )
    parser.add_argument("--role", nargs=2, metavar=("ROLE", "ADDRESS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        role, address = options.role
        if role == "outlet":
            outlet(options.channels, options.rate)
        else:
            reader(role, address, options.seconds, options.delay)
        return
    own = [sys.executable, "-m", "benchmarks.mne_cost"]
    own += [f"--{name}={getattr(options, name)}" for name in ("channels", "rate", "seconds", "delay")]
    rda = [sys.executable, "-m", "rdahub"]
    lsl = {"LSLAPICFG": str(HERE.with_name("lsl_api.cfg"))}
    children: list[Child] = []

    def start(command: list[str], ready: str) -> Child:
        children.append(Child(command, ready, lsl))
        return children[-1]

    try:
        simulator = start(
            [*rda, "sim", "--port=0", f"--channels={options.channels}", f"--rate={options.rate}",
             f"--block={round(options.rate * BLOCK)}"],
            r"ready rda=(\S+)",
        )  # fmt: skip
        hub = start(
            [*rda, "serve", "--recorder", simulator.said(), "--query=tcp://127.0.0.1:0",
             "--publish=tcp://127.0.0.1:0", f"--name=mne-cost-{os.getpid()}"],
            r"ready query=(\S+)",
        )  # fmt: skip
        start([*own, "--role", "outlet", "-"], "ready")
        readers = {kind: start([*own, "--role", kind, hub.said()], "ready") for kind in ("rda", "lsl")}
        spent = {}
        for kind, name in (("rda", "StreamRDA"), ("lsl", "StreamLSL")):
            line = readers[kind].wait_for(r"spent (\S+) rows (\d+)", options.seconds + 30)
            spent[kind] = float(line[1])
            print(f"{name}: {spent[kind]:.1f} % of a core, {line[2]} samples/s")
        print(f"StreamRDA / StreamLSL: {spent['rda'] / spent['lsl']:.3f} "
              f"({options.channels} channels, {options.rate} Hz)")  # fmt: skip
    finally:
        for child in reversed(children):
            child.close()


if __name__ == "__main__":
    main()
