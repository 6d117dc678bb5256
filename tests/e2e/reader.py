"""A reader in a process of its own: reads a whole recording the way it is told and saves what it got.

``reader.py KIND ADDRESS N_SAMPLES OUTPUT.npz``; prints a line when it streams, and another when it is done.
"""

from __future__ import annotations

import sys

import numpy as np

from rdahub_client import Block, Client, Gap, LocalClient
from rdahub_client.compat import Client as OldClient


def by_stream(client: Client | LocalClient, n: int) -> tuple[np.ndarray, list[int]]:
    """Everything from sample 0 on, as events."""
    parts, markers = [], []
    for event in client.stream(0, timeout=30):
        if isinstance(event, Gap):
            raise SystemExit(f"a gap: {event}")
        if isinstance(event, Block):
            parts.append(event.samples.copy())
            markers += [marker.index for marker in event.markers]
            if event.stop >= n:
                break
    return np.concatenate(parts), markers


def by_wait(client: Client, n: int) -> tuple[np.ndarray, list[int]]:
    """Range after range, each waited for, of an odd length; the window is smaller than the recording."""
    parts = []
    for start in range(0, n, 333):
        stop = min(start + 333, n)
        data = client.wait(start, stop, timeout=30)
        if data is None:
            raise SystemExit(f"nothing for [{start}, {stop})")
        parts.append(data.copy())
    return np.concatenate(parts), [marker.index for marker in client.markers(0, n)]


def by_old_names(client: OldClient, n: int) -> tuple[np.ndarray, list[int]]:
    """As an rdaclient.py script would: wait for the end, then take all."""
    while client.last_sample < n:
        if client.poll(1, timeout=30) is None:
            break
    whole = client.get_data(0, n)
    if whole is None:
        raise SystemExit("nothing")
    return whole, []


def main(kind: str, address: str, n_samples: str, output: str) -> None:
    n = int(n_samples)
    if kind == "compat":
        old = OldClient(buffer_size=20_000, buffer_window=100)
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        old.connect((host, int(port)))
        old.start_streaming(timeout=30)
        print("streaming", flush=True)
        samples, markers = by_old_names(old, n)
        old.stop_streaming()
        old.disconnect()
    elif kind == "local":
        with LocalClient(address) as local:
            local.start_streaming(timeout=30)
            print("streaming", flush=True)
            samples, markers = by_stream(local, n)
    else:
        with Client(buffer_size=1000) as client:
            client.connect(address)
            client.start_streaming(timeout=30)
            print("streaming", flush=True)
            samples, markers = (by_stream if kind == "stream" else by_wait)(client, n)
    np.savez(output, samples=samples, markers=np.array(markers))
    print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
