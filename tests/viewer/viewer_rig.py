"""A Recorder that does as it is told, a hub and a viewer, as processes; and a browser, if there is one."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pytest

from processes import PATIENCE, Child, Hub
from rdahub import rda
from rdahub_client.records import Float32
from scripted import ScriptedRecorder

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
Found = TypeVar("Found")


def until(look: Callable[[], Found], wanted: Callable[[Found], bool]) -> Found:
    """Look again and again until it is as wanted."""
    deadline = time.monotonic() + PATIENCE
    while not wanted(found := look()):
        assert time.monotonic() < deadline, f"still {found!r}"
        time.sleep(0.02)  # between two looks; what is waited for is the condition
    return found


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium under Playwright, which downloads none of its own."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="Playwright is not installed (pip install playwright)"
    )
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"] if root else [], timeout=PATIENCE * 1000
        )
        try:
            yield browser
        finally:
            browser.close()


class Rig:
    """Recorder, hub and viewer. Each trace is a sinusoid of 20 µV, channel by channel faster."""

    def __init__(self, *flags: str) -> None:
        self.stack = contextlib.ExitStack()
        try:
            self.recorder = ScriptedRecorder()
            self.stack.callback(self.recorder.close)
            self.hub = self._child(Hub(self.recorder.address))
            self.viewer = self.view(*flags)
            self.url = self.viewer.wait_for(r"ready url=(\S+)")[1]
        except BaseException:
            self.stack.close()
            raise

    def _child(self, child: Any) -> Any:
        self.stack.callback(child.close)
        return child

    def view(self, *flags: str) -> Child:
        child: Child = self._child(Child("view", self.hub.query, "--listen", "127.0.0.1:0", *flags))
        return child

    def start(self, names: tuple[str, ...] = ("Fp1", "Cz", "Oz", "EOG"), rate: float = 500.0) -> None:
        """A segment begins."""
        n = len(names)
        self.recorder.n_channels, self.recorder.counter = n, 0
        self.recorder.send(rda.Start(1e6 / rate, (0.1,) * n, names))

    def samples(self, start: int, stop: int) -> Float32:
        """What channel c is at samples [start, stop), in raw units of 0.1 µV."""
        hz = 3 + np.arange(self.recorder.n_channels)
        turns = np.arange(start, stop)[:, None] / 500 * hz
        return (200 * np.sin(2 * np.pi * turns)).astype(np.float32)

    def send(self, n: int, *markers: rda.BlockMarker, spike: int | None = None) -> None:
        """Blocks of 20 samples; the markers go with the first, a spike stands on one sample of channel 1."""
        for _ in range(n):
            recorder = self.recorder
            rows = self.samples(recorder.index, recorder.index + 20)
            if spike is not None and recorder.index <= spike < recorder.index + 20:
                rows[spike - recorder.index, 1] = 2000
            recorder.counter += 1
            recorder.send(rda.Data(recorder.counter, rows, markers))
            recorder.index += 20
            markers = ()

    def skip(self, n: int) -> None:
        """Blocks that the Recorder drops."""
        self.recorder.counter += n
        self.recorder.index += 20 * n

    def kill_hub(self) -> None:
        """The hub dies; whoever connected to it finds out."""
        self.hub.process.kill()
        self.hub.process.wait()
        self.recorder.hang_up()

    def revive_hub(self) -> None:
        """Another hub at the same address."""
        self.recorder.index = 0
        self.hub = self._child(Hub(self.recorder.address, name=self.hub.name, query=self.hub.query))

    def close(self) -> None:
        """End all; the viewer must end well and have said nothing worse than what became of its hub."""
        try:
            assert self.viewer.stop() == 0, self.viewer.stderr
            assert "Traceback" not in self.viewer.stderr, self.viewer.stderr
        finally:
            self.stack.close()


class Look:
    """A page, as a person would look at it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)

    def open(self, url: str) -> None:
        self.page.goto(url)

    def state(self) -> str:
        return str(self.page.get_attribute("#state", "data-is"))

    def is_state(self, wanted: str) -> None:
        until(self.state, lambda found: found == wanted)

    def drawn_to(self, index: int) -> None:
        """The newest whole column drawn is that of this index; a column is a few samples."""
        look = "[Number(document.body.dataset.next), rdahub.traces.width, rdahub.traces.painted]"
        until(
            lambda: self.page.evaluate(look),
            lambda found: found[0] == index - index % found[1] and found[2] == found[0] // found[1],
        )

    def names(self) -> list[str]:
        return list(self.page.evaluate("rdahub.traces.names"))

    def events(self) -> list[tuple[str, int, str]]:
        script = """[...document.querySelectorAll("#events li")]
            .map(e => [e.dataset.kind, +e.dataset.index, e.textContent])"""
        return [(kind, index, text) for kind, index, text in self.page.evaluate(script)]

    def ink(self, trace: int) -> list[int]:
        """Painted pixels of each column of pixels in a trace's row."""
        script = """trace => {
            const sheet = rdahub.traces.sheet, rows = rdahub.traces.names.length;
            const top = Math.round(trace * sheet.height / rows), height = Math.floor(sheet.height / rows);
            const data = sheet.getContext("2d").getImageData(0, top, sheet.width, height).data;
            const found = new Array(sheet.width).fill(0);
            for (let i = 3; i < data.length; i += 4) if (data[i] > 60) found[((i - 3) / 4) % sheet.width]++;
            return found;
        }"""
        return list(self.page.evaluate(script, trace))

    def pixel(self, index: int) -> int:
        """Pixel of the sheet where a sample stands."""
        script = """index => {
            const t = rdahub.traces;
            return Math.round((index - t.left()) / (t.right() - t.left()) * t.sheet.width);
        }"""
        return int(self.page.evaluate(script, index))

    def colour(self, index: int, below: float = 0.5) -> list[int]:
        """Colour of the chart at a sample, so far down from its top."""
        script = """([index, below]) => {
            const u = rdahub.traces.plot, {left, top, height} = u.bbox;
            const x = Math.round(rdahub.traces.within(u, index));
            return [...u.ctx.getImageData(x, Math.round(top + below * height), 1, 1).data];
        }"""
        return list(self.page.evaluate(script, [index, below]))
