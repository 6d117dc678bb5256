"""Plot the newest seconds of a few channels. Without matplotlib, print their amplitudes instead.

The plot reads what is there and draws; it may draw as slowly as it likes, no sample is lost by it.
"""

import argparse
import contextlib
import time

import numpy as np

from rdahub_client import Client

try:
    import matplotlib.pyplot as plt
except ImportError:
    plt = None


def newest(client: Client, seconds: float) -> tuple[int, np.ndarray | None]:
    """Index of the first sample, and the samples of at most so many newest seconds of the segment."""
    segment = client.segments[-1]
    stop = client.last_sample
    start = max(segment.start, stop - round(seconds * segment.sfreq))
    return start, client.get_data(start, stop)


def draw(client: Client, channels: list[int], seconds: float, end: float) -> None:
    """Draw about 20 times per second until `end` or until the window is closed."""
    segment = client.segments[-1]
    figure, axes = plt.subplots(len(channels), sharex=True, squeeze=False)
    axes = axes[:, 0]
    lines = [axis.plot([], [])[0] for axis in axes]
    for axis, channel in zip(axes, channels, strict=True):
        axis.set_ylabel(f"{segment.ch_names[channel]}\n{segment.units[channel]}")
    axes[-1].set_xlabel("seconds in the segment")
    plt.ion()
    figure.show()
    while time.monotonic() < end and plt.fignum_exists(figure.number):
        segment = client.segments[-1]
        start, samples = newest(client, seconds)
        if samples is not None and len(samples):
            t = [(start - segment.start + i) / segment.sfreq for i in range(len(samples))]
            for axis, line, channel in zip(axes, lines, channels, strict=True):
                line.set_data(t, samples[:, channel].copy())  # a view holds until the next call only
                axis.relim()
                axis.autoscale_view()
        figure.canvas.draw_idle()
        plt.pause(0.05)  # lets the window live


def tell(client: Client, channels: list[int], seconds: float, end: float) -> None:
    """Print the amplitude of each channel once per second."""
    print("matplotlib is not installed; printing peak-to-peak amplitudes instead", flush=True)
    while time.monotonic() < end:
        if client.poll(1, timeout=5) is None:
            print("no signal", flush=True)
            continue
        start, samples = newest(client, seconds)
        if samples is not None and len(samples):
            spans = samples.max(axis=0) - samples.min(axis=0)  # first: a view holds until the next call
            names = [client.segments[-1].ch_names[channel] for channel in channels]
            values = (f"{n} {spans[c]:.0f} µV" for n, c in zip(names, channels, strict=True))
            print(f"{start:>10}  {'  '.join(values)}", flush=True)
        time.sleep(min(1.0, max(0.0, end - time.monotonic())))


def main() -> None:
    """Connect, then draw or tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--address", default="127.0.0.1", help="query address of the hub")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end after this long")
    parser.add_argument("--window", type=float, default=5.0, help="seconds of signal shown")
    parser.add_argument("--channels", type=int, nargs="+", default=[1, 2, 3], help="numbers of channels")
    options = parser.parse_args()
    end = time.monotonic() + options.seconds

    with Client() as client:
        client.connect(options.address)
        client.start_streaming()
        channels = [c for c in options.channels if c < client.segments[-1].n_channels] or [0]
        (tell if plt is None else draw)(client, channels, options.window, end)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
