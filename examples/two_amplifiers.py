"""Two amplifiers side by side: the same second of both, sample by sample. Two hubs, one for each Recorder.

Every hub counts its own samples, and no two amplifiers run equally fast. What they share is time: each client
learns when its samples were taken, on the clock of this program, and how fast they really come. What cannot
be seen from here is the least time each amplifier and Recorder needs; a common trigger shows its difference.
"""

import argparse
import contextlib
import time
from pathlib import Path

import numpy as np

from rdahub_client import Client


def same_second(clients: list[Client], begin: float) -> list[tuple[int, np.ndarray]]:
    """First index and samples of each, from `begin` on the clock `time.monotonic`, on the grid of the first.

    Between the samples of the others, the nearest is taken: half a sample off at most.
    """
    sfreq = clients[0].segments[-1].sfreq
    times = begin + np.arange(round(sfreq)) / sfreq
    parts = []
    for client in clients:
        indices = np.asarray(client.index_at(times))
        first, last = int(indices[0]), int(indices[-1])
        samples = client.wait(first, last + 1, timeout=5)
        if samples is None:
            raise SystemExit(f"{client.address} has no samples [{first}, {last + 1})")
        parts.append((first, samples[indices - first]))
    return parts


def main() -> None:
    """Read second by second from both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--address", default="127.0.0.1:5570", help="query address of the first hub")
    parser.add_argument("--other", default="127.0.0.1:5590", help="query address of the second hub")
    parser.add_argument("--seconds", type=int, default=10, help="how many seconds to read")
    parser.add_argument("--output", type=Path, help="save what was read, as .npz")
    options = parser.parse_args()

    read: list[list[np.ndarray]] = []
    with Client() as first, Client() as second:
        clients = [first, second]
        for client, address in zip(clients, (options.address, options.other), strict=True):
            client.connect(address)
            client.start_streaming()
            client.poll(1)  # something is there to tell the time by
        begin = time.monotonic()
        for _ in range(options.seconds):
            parts = same_second(clients, begin)
            read.append([samples for _, samples in parts])
            where = " = ".join(f"sample {index} of hub {k + 1}" for k, (index, _) in enumerate(parts))
            rms = ", ".join(f"{np.nanstd(samples[:, -1]):.1f} µV" for _, samples in parts)
            print(f"{where}; last channel {rms}", flush=True)
            begin += 1.0

    if options.output:
        first_rows, second_rows = (np.concatenate(rows) for rows in zip(*read, strict=True))
        np.savez(options.output, first=first_rows, second=second_rows)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
