"""``rdahub watch``: a hub, live, in a terminal; elsewhere one line per second.

Rule: it looks and never disturbs, and it outlives the hub: a hub that is gone is a state like others.
Not here: what the hub counts (`rdahub.broker`), the samples' way here (`rdahub_client`).
"""

from __future__ import annotations

import importlib.util
import math
import sys
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from rdahub.commands.status import fetch
from rdahub.config import SettingError, WatchSettings
from rdahub_client import AuthError, Client, HubUnreachable, Marker, StartTimeout
from rdahub_client.keys import client_keys
from rdahub_client.records import Float32

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

LOST: Final = "hub lost"

_REFRESH: Final = 0.25  # s between two pictures
_ASK: Final = 1.0  # s between two questions to the hub, and to wait for an answer once it has given one
_RATE_OVER: Final = 5.0  # s that the rate is measured over
_MARKERS_OVER: Final = 60.0  # s of markers looked through for the latest
_WINDOW: Final = 60_000  # samples kept here: a second of any amplifier
_COLOURS: Final = {
    "streaming": "bold green",
    "stalled": "bold yellow",
    "idle": "bold cyan",
    "disconnected": "bold red",
    LOST: "bold white on red",
}
_BARS: Final = "▁▂▃▄▅▆▇█"
_SPARK: Final = 20  # characters of a signal, if the terminal is wide enough for them and for
_BESIDE: Final = 70  # ... numbers and events


def run(settings: WatchSettings) -> int:
    """Watch until Ctrl-C, SIGTERM or the end of `--seconds`. A hub that never answers is an error."""
    check_terminal()
    keys = settings.curve_key, settings.server_key
    watch(settings.hub, settings.timeout, settings.seconds, keys)
    return 0


def watch(
    address: str, timeout: float, seconds: float | None, keys: tuple[Path | None, Path | None] = (None, None)
) -> None:
    """Watch the hub at `address` for so many seconds, or until interrupted."""
    end = time.monotonic() + (seconds or math.inf)
    try:
        with _Hub(address, timeout, *keys) as hub:
            if sys.stdout.isatty():
                _draw(hub, end)
            else:
                _print(hub, end)
    except KeyboardInterrupt:
        return


def check_terminal() -> None:
    """See that rich is there if it will be needed."""
    if sys.stdout.isatty() and importlib.util.find_spec("rich") is None:
        raise SettingError("the live view needs rich: pip install 'rdahub[terminal]'")


def _print(hub: _Hub, end: float) -> None:
    while True:
        print(hub.line(), flush=True)
        if not _until_next(_ASK, end):
            return
        hub.look()


def _draw(hub: _Hub, end: float) -> None:
    from rich.live import Live  # noqa: PLC0415 - an extra

    with Live(screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live:
        while True:
            hub.listen()
            live.update(_picture(hub, live.console.width, live.console.height), refresh=True)
            if not _until_next(_REFRESH, end):
                return
            if time.monotonic() >= hub.asked + _ASK:
                hub.look()


def _until_next(seconds: float, end: float) -> bool:
    """Pass the time; False at the end."""
    time.sleep(max(0.0, min(seconds, end - time.monotonic())))
    return time.monotonic() < end


class _Hub:
    """What is known of the hub: its statistics, and for a picture its samples and markers too."""

    def __init__(self, address: str, timeout: float, curve_key: Path | None, server_key: Path | None) -> None:
        self.address = address
        self._keys = client_keys(curve_key, server_key)
        self.status = fetch(address, timeout, self._keys)
        self.asked = time.monotonic()
        self.lost_since: float | None = None
        self.samples: Float32 | None = None
        self.markers: list[Marker] = []
        self._timeout = min(timeout, _ASK)
        self._client = Client(_WINDOW, curve_key=curve_key, server_key=server_key)
        self._progress: deque[tuple[float, int]] = deque()
        self._note(self.asked)

    def __enter__(self) -> _Hub:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()

    @property
    def state(self) -> str:
        """The hub's state, or that it is lost."""
        return str(self.status["state"]) if self.lost_since is None else LOST

    @property
    def rate(self) -> float | None:
        """Samples per second, measured; None until there are two looks to compare."""
        if len(self._progress) < 2 or self.lost_since is not None:
            return None
        (began, first), (now, last) = self._progress[0], self._progress[-1]
        return (last - first) / (now - began) if now > began else None

    def look(self) -> None:
        """Ask the hub for its statistics."""
        before = self.status["instance"]
        try:
            self.status = fetch(self.address, self._timeout, self._keys)
        except (HubUnreachable, AuthError):
            self.lost_since = self.lost_since or self.asked
            self._progress.clear()
        else:
            if self.status["instance"] != before:
                self._progress.clear()
                self._client.disconnect()  # `listen` begins anew
                self.markers = []
            self.lost_since = None
        self.asked = time.monotonic()
        if self.lost_since is None:
            self._note(self.asked)

    def _note(self, now: float) -> None:
        """Remember when the newest block came, so that the rate is exact in spite of blocks."""
        age = self.status["ages"]["block"] if self.status["state"] == "streaming" else None
        self._progress.append((now - (age or 0.0), self.status["next_index"]))
        while self._progress[0][0] < now - _RATE_OVER:
            self._progress.popleft()

    def listen(self) -> None:
        """Take the last second of samples, and the markers. A lost hub is not asked: it would keep us."""
        self.samples = None
        if self.lost_since is not None or self.status["segment"] is None:
            return
        client = self._client
        try:
            if not client.is_streaming:
                client.connect(self.address, self._timeout)
                client.start_streaming(self._timeout)
            stop, segment = client.last_sample, client.start_msg
            if segment is not None:
                back = max(segment.start, stop - max(1, round(segment.sfreq)))
                self.samples = client.get_data(back, stop)
                self.markers = client.markers(max(0, stop - round(_MARKERS_OVER * segment.sfreq)), stop)
        except (HubUnreachable, AuthError, StartTimeout):
            return  # the next look will say what is wrong

    def line(self) -> str:
        """The state as one line for logs and pipes."""
        counters = self.status["counters"]
        rate = "-" if self.rate is None else f"{self.rate:.1f}"
        return (
            f"state={self.state.replace(' ', '-')} next_index={self.status['next_index']} "
            f"rate={rate} markers={counters['markers']} gaps={counters['gaps']} "
            f"clients={self.status['clients']}"
        )


# --- the picture ---------------------------------------------------------------------------------------


def _picture(hub: _Hub, width: int, height: int) -> RenderableType:
    from rich.console import Group  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    head = _head(hub)
    rows = max(2, height - head.row_count - 4)  # two blank lines, the names of columns, the last line
    body = Table.grid(padding=(0, 3), expand=False)
    body.add_row(_channels(hub, rows, spark=max(0, min(_SPARK, width - _BESIDE))), _events(hub, rows))
    last = Table.grid(expand=True)
    last.add_column(no_wrap=True, style="dim")
    last.add_row(f'Ctrl-C ends   in Python: client.connect("{hub.address}")')
    return Group(head, "", body, "", last)


def _head(hub: _Hub) -> Table:
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    status, segment, recorder = hub.status, hub.status["segment"], hub.status["recorder"]
    ages = status["ages"]
    state = Text(f" {hub.state} ", _COLOURS.get(hub.state, "bold"))
    if hub.lost_since is not None:
        state.append(f" for {time.monotonic() - hub.lost_since:.0f} s", "not bold red")
    head = Table.grid(padding=(0, 2), expand=True)
    head.add_column(style="dim", no_wrap=True)
    head.add_column(no_wrap=True, ratio=1)
    head.add_row("hub", Text.assemble((status["name"], "bold"), f", instance {status['instance']}  ", state))
    trouble = f": {recorder['error']}" if recorder["error"] else ""
    head.add_row("Recorder", Text(f"{recorder['address']}{trouble}", "red" if trouble else ""))
    if segment is None:
        head.add_row("segment", "none yet: the Recorder has not started")
    else:
        rate = "measuring" if hub.rate is None else f"{hub.rate:.1f} Hz measured"
        end = "" if segment["stop"] is None else f", ended at {segment['stop']} ({segment['ended']})"
        head.add_row("segment", f"{segment['number']}, from sample {segment['start']}{end}")
        head.add_row("rate", f"{segment['sfreq']:g} Hz nominal, {rate}; {segment['n_channels']} channels")
    first, stop = status["first_available"], status["next_index"]
    held = (
        f", {(stop - first) / segment['sfreq']:.0f} of {status['history_seconds']:.0f} s" if segment else ""
    )
    head.add_row("history", f"samples [{first}, {stop}){held}")
    block = "none yet" if ages["block"] is None else f"{ages['block']:.2f} s ago"
    head.add_row("last block", f"{block}; {status['clients']} clients; hub up {ages['hub']:.0f} s")
    counted = ", ".join(f"{name} {value}" for name, value in status["counters"].items() if value)
    head.add_row("counters", counted or "all 0")
    return head


def _channels(hub: _Hub, rows: int, *, spark: int) -> Table:
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    segment, samples = hub.status["segment"], hub.samples
    table = Table(box=None, padding=(0, 1), header_style="dim", pad_edge=False)
    table.add_column("channel", no_wrap=True, min_width=10)
    table.add_column("last", justify="right", no_wrap=True, min_width=9)
    table.add_column("p-p 1 s", justify="right", no_wrap=True, min_width=9)
    table.add_column("unit", no_wrap=True, min_width=4)
    if spark:
        table.add_column("1 s", no_wrap=True, min_width=spark, style="cyan")
    if segment is None:
        return table
    n = segment["n_channels"]
    shown = n if n <= rows else rows - 1
    for i in range(shown):
        cells = [segment["ch_names"][i], "", "", segment["units"][i], ""]
        if samples is not None and samples.shape[1] == n and len(samples):
            signal = samples[:, i]
            span = float(np.fmax.reduce(signal) - np.fmin.reduce(signal))
            cells[1], cells[2], cells[4] = number(float(signal[-1])), number(span), sparkline(signal, spark)
        table.add_row(*map(Text, cells if spark else cells[:4]))
    if shown < n:
        table.add_row(Text(f"+ {n - shown} more", "dim"))
    return table


def _events(hub: _Hub, rows: int) -> Table:
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, padding=(0, 1), header_style="dim", pad_edge=False)
    table.add_column("sample", justify="right", no_wrap=True)
    table.add_column("latest markers, gaps", no_wrap=True)
    found: list[tuple[int, Text]] = [
        (marker.index, Text(f"{marker.type} {marker.description}".strip())) for marker in hub.markers
    ]
    found += [
        (gap["start"], Text(f"gap of {gap['stop'] - gap['start']} ({gap['reason']})", "red"))
        for gap in hub.status["gaps"]
    ]
    for index, text in sorted(found, key=lambda pair: pair[0], reverse=True)[:rows]:
        table.add_row(str(index), text)
    return table


def number(value: float) -> str:
    """A value in nine characters at most, whatever its size."""
    if math.isnan(value):
        return "NaN"
    return f"{value:.2f}" if abs(value) < 1e5 else f"{value:.0f}" if abs(value) < 1e8 else f"{value:.2e}"


def sparkline(signal: npt.NDArray[np.floating[Any]], width: int) -> str:
    """Means of `width` stretches of a signal as bars, from its least mean to its greatest; NaN is blank."""
    if width < 1:
        return ""
    means = [float(part.mean()) for part in np.array_split(signal, min(width, len(signal)))]
    finite = [mean for mean in means if np.isfinite(mean)]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((mean - low) * scale)] if np.isfinite(mean) else " " for mean in means)
