"""Makes the pictures of docs/how-to/look-in-a-browser.md: ``python tests/viewer/screenshots.py``.

Needs Chromium and Playwright, as the tests do. Not a test; it is run when the page has changed.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from viewer_rig import Look, Rig, chromium

from rdahub import rda
from rdahub_client.records import Float32

IMAGES = Path(__file__).parents[2] / "docs" / "images"
RATE = 500
BLOCK = 20
# fmt: off
NAMES = ("Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "FC5", "FC1", "FC2", "FC6", "T7", "C3", "Cz", "C4", "T8",
         "CP5", "CP1", "CP2", "CP6", "P7", "P3", "Pz", "P4", "P8", "POz", "O1", "Oz", "O2",
         "TP9", "TP10", "EOG")
# fmt: on
PICTURES = (
    ("viewer.png", 1280, 800, "light"),
    ("viewer-dark.png", 1280, 800, "dark"),
    ("viewer-phone.png", 390, 844, "light"),
)


def eeg(n: int) -> Float32:
    """Something like an EEG at rest, in raw units: slow noise, alpha at the back, blinks in front."""
    random = np.random.default_rng(7)
    shape = 1 / np.maximum(np.fft.rfftfreq(n, 1 / RATE), 0.5)
    white = np.fft.rfft(random.standard_normal((n, len(NAMES) + 1)), axis=0)
    pink = np.fft.irfft(white * shape[:, None], n, axis=0)
    rows = pink[:, :-1] + 1.5 * pink[:, -1:]
    rows *= 90 / rows.std()
    time_ = np.arange(n) / RATE
    waxing = 1 + np.sin(2 * np.pi * 0.23 * time_)
    blink = sum(np.exp(-0.5 * ((time_ - at) / 0.08) ** 2) for at in np.arange(1.3, time_[-1], 3.7))
    for c, name in enumerate(NAMES):
        if name.startswith(("P", "O")):
            rows[:, c] += 130 * waxing * np.sin(2 * np.pi * 10.2 * time_ + c / 9)
        if name.startswith(("Fp", "EOG")):
            rows[:, c] += 1100 * blink
        if name == "T8":
            rows[:, c] += 400 * np.sin(2 * np.pi * 50 * time_)
        if name == "P7":
            rows[:, c] = 0
    return rows.astype(np.float32)


def play(rig: Rig, rows: Float32, start: int, stop: int, *, live: bool) -> None:
    """Send samples [start, stop); live: at the pace of an amplifier."""
    due = time.monotonic()
    for at in range(start, stop, BLOCK):
        markers: tuple[rda.BlockMarker, ...] = ()
        if at % 600 == 0:
            markers = (rda.BlockMarker(7, 1, -1, "Stimulus", f"S{at // 600 % 4 + 1:3d}"),)
        rig.recorder.counter += 1
        rig.recorder.send(rda.Data(rig.recorder.counter, rows[at : at + BLOCK], markers))
        rig.recorder.index = at + BLOCK
        if live:
            due += BLOCK / RATE
            time.sleep(max(0.0, due - time.monotonic()))


def main() -> None:
    """Make them all."""
    IMAGES.mkdir(exist_ok=True)
    rows = eeg(60 * RATE)
    for name, width, height, scheme in PICTURES:
        rig = Rig()
        with chromium() as browser:
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
            look = Look(page)
            rig.start(NAMES, RATE)
            kohms = [4, 6, 3, 12, 5, 5, 9, 7, 31, 4, 5, 8, 6, 3, 5, 14]
            electrodes = [
                rda.Electrode(each, 0, 0, kohms[i % 16]) for i, each in enumerate((*NAMES[:-1], "GND"))
            ]
            electrodes[NAMES.index("P7")] = rda.Electrode("P7", 0, 0, -1)
            rig.recorder.send(rda.Impedances(tuple(electrodes)))
            play(rig, rows, 0, 4000, live=False)
            rig.skip(12)
            look.open(rig.url)
            page.select_option("[name=gain]", "100")
            play(rig, rows, 4000 + 12 * BLOCK, 4000 + 12 * BLOCK + 8 * RATE, live=True)
            look.drawn_to(rig.recorder.index)
            page.screenshot(path=IMAGES / name, full_page=scheme == "light")
            print(IMAGES / name)
        rig.close()


if __name__ == "__main__":
    main()
