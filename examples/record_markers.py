"""Write every marker to a table (CSV): its index, its time in the segment, its text. Gaps and segments too.

Ends with exit code 1 if nothing at all came for --seconds.
"""

import argparse
import contextlib
import csv
import sys
import time
from pathlib import Path
from typing import Any

from rdahub_client import Block, Client, Gap, SegmentEnd, SegmentStart, StreamTimeout


def record(client: Client, table: Any, start: str, seconds: float) -> None:
    """Follow the hub's events and write a row for each that is no plain block."""
    end = time.monotonic() + seconds
    for event in client.stream(start, timeout=seconds):
        match event:
            case SegmentStart(segment):  # comes before its blocks
                table.writerow([segment.start, 0.0, "segment", f"{segment.n_channels} channels"])
            case Block(markers=markers):
                for marker in markers:
                    at = (marker.index - segment.start) / segment.sfreq
                    table.writerow([marker.index, f"{at:.4f}", marker.type, marker.description])
            case Gap(first, after, reason):
                table.writerow([first, "", "gap", f"{after - first} samples, {reason}"])
            case SegmentEnd(segment, reason):
                table.writerow([segment.stop, "", "end", reason])
        if time.monotonic() >= end:
            return


def main() -> None:
    """Connect and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--address", default="127.0.0.1", help="query address of the hub")
    parser.add_argument("--seconds", type=float, default=3600.0, help="end after this long")
    parser.add_argument("--start", default="oldest", choices=["oldest", "live"], help="where to begin")
    parser.add_argument("--output", type=Path, help="file to write, instead of printing")
    options = parser.parse_args()

    output = contextlib.nullcontext(sys.stdout) if options.output is None else options.output.open("w")
    with output as file, Client() as client:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["index", "seconds", "type", "description"])
        client.connect(options.address)
        client.start_streaming()
        try:
            record(client, table, options.start, options.seconds)
        except StreamTimeout:
            sys.exit("nothing came")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
