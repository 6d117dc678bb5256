"""Average the EEG after target and after other stimuli, as in a P300 experiment. Needs numpy only.

It may be started in the middle of the experiment, or after it: stimuli in the hub's history count too.
For MNE's Epochs of the same, see `client.epochs`.
"""

import argparse
import contextlib

import numpy as np

from rdahub_client import Client, StreamTimeout

TMIN, TMAX = -0.1, 0.6  # seconds around the stimulus; the baseline is what lies before it


def collect(client: Client, kinds: list[str], wanted: int, patience: float) -> dict[str, list[np.ndarray]]:
    """Epochs of each kind, baseline-corrected, shape (samples, channels); ends when there are enough."""
    epochs: dict[str, list[np.ndarray]] = {kind: [] for kind in kinds}
    left_out = 0
    with contextlib.suppress(StreamTimeout):  # the experiment is over
        for epoch in client.windows(TMIN, TMAX, description=kinds, start="oldest", timeout=patience):
            if epoch.samples is None or epoch.gaps:  # cut off by the end of a segment, or with a hole
                left_out += 1
                continue
            before = epoch.marker.index - epoch.start
            baseline = epoch.samples[:before].mean(axis=0)
            epochs[epoch.marker.description].append(epoch.samples - baseline)
            if min(map(len, epochs.values())) >= wanted:
                break
    counts = ", ".join(f"{len(found)} of {kind!r}" for kind, found in epochs.items())
    print(f"epochs: {counts}; {left_out} left out", flush=True)
    return epochs


def main() -> None:
    """Collect, average, tell the difference."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--address", default="127.0.0.1", help="query address of the hub")
    parser.add_argument("--target", default="S  1", help="description of the markers of target stimuli")
    parser.add_argument("--standard", default="S  2", help="description of those of other stimuli")
    parser.add_argument("--epochs", type=int, default=30, help="end when there are so many of each")
    parser.add_argument("--seconds", type=float, default=60.0, help="or when no stimulus comes for so long")
    options = parser.parse_args()

    with Client() as client:
        client.connect(options.address)
        client.start_streaming()
        segment = client.segments[-1]
        epochs = collect(client, [options.target, options.standard], options.epochs, options.seconds)

    if not all(epochs.values()):
        raise SystemExit("not enough epochs for an average")
    target, standard = (np.mean(found, axis=0) for found in epochs.values())
    difference = target - standard
    times = TMIN + np.arange(len(difference)) / segment.sfreq
    sample, channel = np.unravel_index(np.abs(difference[times > 0]).argmax(), difference[times > 0].shape)
    name, unit = segment.ch_names[channel], segment.units[channel]
    print(f"{name}, {unit}:  time  target  standard")
    for k in range(0, len(times), round(0.05 * segment.sfreq)):  # every 50 ms
        print(f"  {times[k]:6.3f} s  {target[k, channel]:8.2f}  {standard[k, channel]:8.2f}")
    peak, at = difference[times > 0][sample, channel], times[times > 0][sample]
    print(f"largest difference: {peak:.2f} {unit} at {name}, {at:.3f} s after the stimulus")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
