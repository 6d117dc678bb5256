"""Pictures of a run: distributions of delay, and what it costs against consumers, rate and channels.

    python -m benchmarks.plots FOLDER      # with results.json in it; needs matplotlib

Rule: one colour per lane in every picture; medians over rounds, the band is from the least to the greatest.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, Final

COLOURS: Final = {
    "zmq": "#444444", "tcp": "#999999", "rdahub": "#0060a8", "rdahub-sub": "#80c8ff",
    "rdahub-poll": "#58a6d8",
    "local": "#00885a", "local-poll": "#7cc8a4", "lsl": "#d1602a", "mne-lsl": "#e8a87c", "redis": "#a83279",
    "rdaclient": "#c8a400",
}  # fmt: skip
Entries = list[dict[str, Any]]


def distributions(plt: Any, entries: Entries, folder: Path) -> None:
    """Share of blocks that have arrived against delay, one picture per number of consumers."""
    groups: dict[tuple[str, int], Entries] = defaultdict(list)
    for entry in entries:
        groups[f"{entry['workload']}-{entry['shape']['rate'] / 1000:g}kHz", entry["consumers"]].append(entry)
    for (workload, consumers), group in groups.items():
        if workload.startswith("w8"):
            continue
        figure, axes = plt.subplots(figsize=(7, 4.5))
        for lane, of_lane in by_lane(group).items():
            curves = [entry["quantiles"] for entry in of_lane]
            middle = [median(values) for values in zip(*curves, strict=True)]
            shares = [k / (len(middle) - 1) for k in range(len(middle))]
            axes.plot(middle, shares, color=COLOURS.get(lane), label=lane)
        axes.set(
            xscale="log", xlabel="Recorder's send to consumer's return (µs)", ylabel="share of blocks",
            title=f"{workload}, {consumers} consumers",
        )  # fmt: skip
        finish(plt, figure, axes, folder / f"delay-{workload}-{consumers}.png")


def costs(plt: Any, entries: Entries, folder: Path) -> None:
    """Delay and CPU against the number of consumers (W1), the rate, and the number of channels (W8)."""
    first = [entry for entry in entries if entry["workload"] == "w1"]
    fours = [entry for entry in entries if entry["consumers"] == 4 and entry["workload"] != "w8"]
    wider = [entry for entry in entries if entry["workload"] == "w8"]
    pictures: list[tuple[str, Entries, Callable[[dict[str, Any]], float], str]] = [
        ("consumers", first, lambda entry: float(entry["consumers"]), "consumers"),
        ("rate", fours, megabytes, "input (MB/s), 4 consumers"),
        (
            "channels",
            wider,
            lambda entry: float(entry["shape"]["channels"]),
            "channels at 1 kHz, 4 consumers",
        ),
    ]
    measures = (("p50", "median delay (µs)", 1), ("relay_cpu", "hub CPU (% of a core)", 100))
    for what, chosen, place, label in pictures:
        if len({place(entry) for entry in chosen}) < 2:
            continue
        for name, title, scale in measures:
            figure, axes = plt.subplots(figsize=(7, 4.5))
            for lane, of_lane in by_lane(chosen).items():
                points: dict[float, list[float]] = defaultdict(list)
                for entry in of_lane:
                    points[place(entry)].append(entry[name] * scale)
                xs = sorted(points)
                axes.plot(xs, [median(points[x]) for x in xs], "o-", color=COLOURS.get(lane), label=lane)
                axes.fill_between(
                    xs, [min(points[x]) for x in xs], [max(points[x]) for x in xs],
                    color=COLOURS.get(lane), alpha=0.12, linewidth=0,
                )  # fmt: skip
            axes.set(xscale="log", yscale="log", xlabel=label, ylabel=title)
            finish(plt, figure, axes, folder / f"{name.replace('_', '-')}-against-{what}.png")


def megabytes(entry: dict[str, Any]) -> float:
    """Input per second."""
    return float(entry["shape"]["rate"] * entry["shape"]["channels"] * 4 / 1e6)


def by_lane(entries: Entries) -> dict[str, Entries]:
    """Grouped, in the order of the colours."""
    groups = {lane: [entry for entry in entries if entry["lane"] == lane] for lane in COLOURS}
    return {lane: group for lane, group in groups.items() if group}


def finish(plt: Any, figure: Any, axes: Any, path: Path) -> None:
    """Legend, grid, file."""
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> int:
    """Draw what a folder's results have."""
    folder = Path(sys.argv[1])
    try:
        importlib.import_module("matplotlib").use("Agg")
        plt = importlib.import_module("matplotlib.pyplot")
    except ImportError:
        return 1
    results = json.loads((folder / "results.json").read_text())
    entries = [entry for entry in results["results"] if entry.get("kind") == "live"]
    distributions(plt, entries, folder)
    costs(plt, entries, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
