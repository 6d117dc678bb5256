"""A script as one wrote it for rdaclient.py: band powers in a sliding window, until Ctrl-C.

Two lines differ: the import and the address.
"""

import argparse
import signal
import sys
import time

import numpy as np

import rdahub_client.compat as rc  # was: import rdaclient as rc

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("channel", nargs="?", type=int, help="channel", default=1)
parser.add_argument("--address", default="127.0.0.1:5570")
parser.add_argument("--seconds", type=float, default=float("inf"), help="end after this long")
args = parser.parse_args()

address = (args.address.split(":")[0], int(args.address.split(":")[1]))  # was: ('', 51244)
window = 500  # samples
delta, alpha, beta = [0.1, 4], [8.0, 12], [12.0, 30]  # Hz

client = rc.Client(buffer_size=300000, buffer_window=window)
client.connect(address)
client.start_streaming()

sample_interval = client.start_msg.dSamplingInterval / 1e6  # type: ignore[union-attr]  # seconds


def leave(signum: int | None, _: object) -> None:
    """Stop on Ctrl-C, and in good order after --seconds."""
    if signum:
        print("Caught Ctrl+C, stopping...")
    client.stop_streaming()
    client.disconnect()
    sys.exit(0)


signal.signal(signal.SIGINT, leave)

end = time.time() + args.seconds
while client.is_streaming and time.time() < end:
    sig = client.poll(window)  # wait for new data
    if sig is None:
        continue
    sig = sig[:, args.channel]
    freq = np.fft.fftfreq(len(sig), sample_interval)
    spec = np.abs(np.fft.fft(sig)) ** 2
    powers = [np.sqrt(np.sum(spec[(freq > low) & (freq <= high)])) for low, high in (delta, alpha, beta)]
    print(client.last_sample, "delta {:.0f}, alpha {:.0f}, beta {:.0f}".format(*powers), flush=True)

leave(None, None)
