"""A recorder in a few lines: every sample to a plain float32 file, one file for each segment.

Read it back with ``np.fromfile(FILE, "<f4").reshape(-1, n_channels)``; what the columns are is in the .json
beside it. For BrainVision files, with markers and all that belongs to them, use `rdahub record`.
"""

import argparse
import contextlib
import json
import time
from pathlib import Path
from typing import BinaryIO

import numpy as np

from rdahub_client import Block, Client, Gap, Segment, SegmentStart, StreamTimeout


def begin(folder: Path, segment: Segment, first: int) -> BinaryIO:
    """Open a file for the samples of a segment from `first` on."""
    path = folder / f"segment-{segment.number}-from-{first}.f32"
    about = {
        "n_channels": segment.n_channels, "sfreq": segment.sfreq, "ch_names": list(segment.ch_names),
        "units": list(segment.units), "first_index": first,
    }  # fmt: skip
    path.with_suffix(".json").write_text(json.dumps(about, indent=1))
    print(f"recording to {path}", flush=True)
    return path.open("wb")


def record(client: Client, folder: Path, start: str, seconds: float) -> int:
    """Follow the hub; returns the number of rows written."""
    end, rows = time.monotonic() + seconds, 0
    with contextlib.ExitStack() as files, contextlib.suppress(StreamTimeout):
        file: BinaryIO | None = None
        for event in client.stream(start, timeout=seconds):
            match event:
                case SegmentStart(segment):
                    file = None  # opened with its first sample
                    continue
                case Block(first, samples=samples):
                    pass
                case Gap(first, after, reason):  # rows that are missing stay visible, as NaN
                    print(f"a gap of {after - first} samples at {first}: {reason}", flush=True)
                    samples = np.full((after - first, segment.n_channels), np.nan, np.float32)
                case _:
                    continue
            if file is None:
                file = files.enter_context(begin(folder, segment, first))
            file.write(samples.tobytes())
            file.flush()  # a crash loses no block
            rows += len(samples)
            if time.monotonic() >= end:
                break
    return rows


def main() -> None:
    """Connect and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--address", default="127.0.0.1", help="query address of the hub")
    parser.add_argument("--seconds", type=float, default=3600.0, help="end after this long")
    parser.add_argument("--start", default="live", choices=["oldest", "live"], help="where to begin")
    parser.add_argument("--output", type=Path, default=Path(), help="folder for the files")
    options = parser.parse_args()

    with Client() as client:
        client.connect(options.address)
        client.start_streaming()
        print(f"{record(client, options.output, options.start, options.seconds)} rows recorded")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
