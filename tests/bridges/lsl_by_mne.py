"""mne-lsl's StreamLSL at a stream: what it makes of the layout, and 200 rows with their times; JSON.

python lsl_by_mne.py NAME
"""

from __future__ import annotations

import json
import sys
import time

from mne_lsl.stream import StreamLSL

WANTED = 200


def main() -> None:
    stream = StreamLSL(10, name=sys.argv[1]).connect(acquisition_delay=0.01, timeout=30)
    deadline = time.monotonic() + 30
    while stream.n_new_samples < WANTED and time.monotonic() < deadline:
        time.sleep(0.01)
    rows, times = stream.get_data(WANTED / stream.info["sfreq"])
    print(
        json.dumps(
            {
                "names": stream.ch_names,
                "types": stream.get_channel_types(),
                "units": [int(ch["unit_mul"]) for ch in stream.info["chs"]],
                "sfreq": stream.info["sfreq"],
                "rows": rows.T.tolist(),
                "times": times.tolist(),
            }
        )
    )
    stream.disconnect()


if __name__ == "__main__":
    main()
