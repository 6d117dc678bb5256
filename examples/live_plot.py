"""Plot the newest seconds of a few channels. Needs matplotlib: pip install 'rdahub[plot]'.

The plot reads what is there and draws. It may draw as slowly as it likes: no sample is lost by it.
"""

import argparse
import contextlib
import sys
import time
from pathlib import Path

import numpy as np

from rdahub_client import Client

try:
    import matplotlib.pyplot as plt
except ImportError:
    sys.exit("the plot needs matplotlib: pip install 'rdahub[plot]'")


def newest(client: Client, seconds: float) -> tuple[np.ndarray, np.ndarray | None]:
    """Times in the segment, and samples, of at most so many newest seconds."""
    segment = client.segments[-1]
    stop = client.last_sample
    start = max(segment.start, stop - round(seconds * segment.sfreq))
    return (np.arange(start, stop) - segment.start) / segment.sfreq, client.get_data(start, stop)


def draw(client: Client, channels: list[int], seconds: float, end: float) -> int:
    """Draw about 20 times per second until `end` or until the window is closed; returns how often it did."""
    segment = client.segments[-1]
    figure, axes = plt.subplots(len(channels), sharex=True, squeeze=False)
    axes = axes[:, 0]
    lines = [axis.plot([], [])[0] for axis in axes]
    for axis, channel in zip(axes, channels, strict=True):
        axis.set_ylabel(f"{segment.ch_names[channel]}\n{segment.units[channel]}")
    axes[-1].set_xlabel("seconds in the segment")
    plt.ion()
    drawn = 0
    while time.monotonic() < end and plt.fignum_exists(figure.number):
        times, samples = newest(client, seconds)
        if samples is not None and len(samples) > 1:
            for axis, line, channel in zip(axes, lines, channels, strict=True):
                line.set_data(times, samples[:, channel].copy())  # a view holds until the next call only
                axis.set_xlim(times[0], times[-1])
                axis.relim()
                axis.autoscale_view(scalex=False)
            drawn += 1
        plt.pause(0.05)  # draws, and lets the window live
    return drawn


def main() -> None:
    """Connect and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--address", default="127.0.0.1", help="query address of the hub")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end after this long")
    parser.add_argument("--window", type=float, default=5.0, help="seconds of signal shown")
    parser.add_argument("--channels", type=int, nargs="+", default=[1, 2, 3], help="numbers of channels")
    parser.add_argument("--picture", type=Path, help="save what is shown at the end, as .png or .pdf")
    options = parser.parse_args()

    with Client() as client:
        client.connect(options.address)
        client.start_streaming()
        channels = [c for c in options.channels if c < client.segments[-1].n_channels] or [0]
        drawn = draw(client, channels, options.window, time.monotonic() + options.seconds)
        if options.picture:
            plt.savefig(options.picture)
        print(f"drew {drawn} times")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
