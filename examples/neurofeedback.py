"""Neurofeedback: a bar that follows the alpha rhythm of one channel, ten times per second, and its latency.

The latency is from the moment the newest sample was taken to the moment its feedback is out. Not in it: the
shortest time that amplifier, Recorder and network need, which cannot be seen from here. Most of it is waiting
for the Recorder's block to fill; `rdahub bench` tells the parts.
"""

import argparse
import contextlib
import time

import numpy as np

from rdahub_client import Client

WINDOW = 1.0  # seconds of signal behind each value
HOP = 0.1  # seconds between values
FREQUENCY = 10.0  # Hz; a window of 1 s sees about 8 to 12 Hz
BASELINE = 20  # values that the feedback is measured against


def alpha_weights(sfreq: float) -> np.ndarray:
    """Numbers that, multiplied with a window of samples and summed, give amplitude and phase of the alpha."""
    n = round(WINDOW * sfreq)
    taper = np.hanning(n)
    wave = np.exp(-2j * np.pi * FREQUENCY * np.arange(n) / sfreq)
    return np.asarray(2 * taper / taper.sum() * wave)


def main() -> None:
    """Wait for the next samples, compute, show; for ever."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--address", default="127.0.0.1", help="query address of the hub")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end after this long")
    parser.add_argument("--channel", type=int, default=1, help="number of the channel")
    options = parser.parse_args()
    end = time.monotonic() + options.seconds
    amplitudes, latencies = [], []

    with Client() as client:
        client.connect(options.address)
        client.start_streaming()
        sfreq = client.segments[-1].sfreq
        weights, hop = alpha_weights(sfreq), round(HOP * sfreq)
        stop = client.last_sample + len(weights)
        while time.monotonic() < end:
            samples = client.wait(stop - len(weights), stop, timeout=5)  # exactly these, once they are there
            if samples is None:
                print("nothing came, or the recording was restarted", flush=True)
                break
            signal = samples[:, options.channel]
            amplitude = abs(weights @ (signal - signal.mean()))  # µV; NaN in a gap
            amplitudes.append(amplitude)
            bar = "#" * min(40, round(10 * np.nan_to_num(amplitude / np.nanmean(amplitudes[:BASELINE]))))
            print(f"{stop:>10}  alpha {amplitude:6.2f} µV  {bar:<40}", end="", flush=True)
            latencies.append(time.monotonic() - client.time_of(stop - 1))
            print(f"  latency {latencies[-1] * 1000:6.1f} ms", flush=True)
            # One value after the other; if this program was too slow, go on with the newest samples.
            stop = max(stop + hop, client.last_sample - hop)

    if latencies:
        median, worst = np.median(latencies) * 1000, max(latencies) * 1000
        print(f"latency of {len(latencies)} values: median {median:.1f} ms, longest {worst:.1f} ms")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
