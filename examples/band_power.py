"""Print the alpha power (8 to 12 Hz) of every second of signal. Needs numpy only.

Seconds follow each other without overlap or hole, because they are asked for by index.
"""

import argparse
import contextlib
import time

import numpy as np

from rdahub_client import Client


def alpha_power(samples: np.ndarray, sfreq: float) -> np.ndarray:
    """Mean power from 8 to 12 Hz of each channel, in µV²."""
    window = np.hanning(len(samples))[:, np.newaxis]
    spectrum = np.fft.rfft((samples - samples.mean(axis=0)) * window, axis=0)
    power: np.ndarray = 2 * np.abs(spectrum) ** 2 / np.sum(window**2) / len(samples)
    frequency = np.fft.rfftfreq(len(samples), 1 / sfreq)
    band = (frequency >= 8) & (frequency <= 12)
    return np.asarray(power[band].sum(axis=0))


def main() -> None:
    """Read, compute, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--address", default="127.0.0.1", help="query address of the hub")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end after this long")
    options = parser.parse_args()
    end = time.monotonic() + options.seconds

    with Client() as client:
        client.connect(options.address)
        client.start_streaming()
        segment = client.segments[-1]
        start = client.last_sample
        while time.monotonic() < end:
            stop = start + round(segment.sfreq)
            samples = client.wait(start, stop, timeout=5)
            if samples is None:  # a new segment, or nothing came: look again
                segment = client.segments[-1]
                start = max(segment.start, client.last_sample)
                print(f"nothing came; going on at sample {start}", flush=True)
                continue
            if np.isnan(samples).any():
                print(f"{start:>10}  has a gap", flush=True)
            else:
                strongest = alpha_power(samples, segment.sfreq)
                best = int(strongest.argmax())
                print(
                    f"{start:>10}  alpha {strongest.mean():8.1f} µV², most at {segment.ch_names[best]}",
                    flush=True,
                )
            start = stop


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
