"""``rdahub dump``: a range of samples, with its markers and gaps, to a file.

Rule: all of the range or nothing. It is read page by page into a folder beside the target and moved there
when it is whole, so that neither memory nor a half-written file is ever a surprise.
"""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from rdahub.config import DumpSettings, SettingError
from rdahub.recording import export, text
from rdahub_client import Client, Gap, HubRestarted, Marker, RdaHubError, Segment, SegmentChanged
from rdahub_client.reader import Archive
from rdahub_client.records import Float32

_PAGE_BYTES: Final = 4 << 20
"""Read at once: four pages of the wire, far from the time-out of a request on any network."""
_WINDOW: Final = 10_000
"""Samples that the client keeps; history comes from the hub, live blocks are of no interest."""
_QUIET: Final = 1.0
"""Seconds; who waits longer is told how far it is."""


def run(settings: DumpSettings) -> int:
    """Save the range. 0: it is there; 1: interrupted; anything else is an error that says why."""
    output = settings.output
    write = _WRITERS[output.suffix]
    if write is _write_vhdr:  # no need to read anything if it is missing
        _pybv()
    if output.suffix in export.NEEDS:
        export.require(output.suffix)
    try:
        with Client(
            buffer_size=_WINDOW, curve_key=settings.curve_key, server_key=settings.server_key
        ) as client:
            client.connect(settings.hub, settings.timeout)
            if settings.instance is None:
                client.start_streaming(settings.timeout)
            source = client if settings.instance is None else client.archive(settings.instance)
            chosen = _choose(source, settings)
            with _folder_beside(output, overwrite=settings.overwrite) as folder:
                write(folder / output.name, chosen)
    except KeyboardInterrupt:
        print("rdahub dump: interrupted; nothing is saved", file=sys.stderr)
        return 1
    print(
        f"saved {output}: {len(chosen)} samples of {chosen.segment.n_channels} channels, "
        f"{len(chosen.markers)} markers, {len(chosen.gaps)} gaps"
    )
    return 0


# --- what to save --------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Range:
    """Samples ``[start, stop)`` of one segment; `markers` and `gaps` fill up as its pages are read."""

    client: Client | Archive
    segment: Segment
    start: int
    stop: int
    instance: str
    markers: list[Marker] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)

    def __len__(self) -> int:
        return self.stop - self.start

    def pages(self) -> Iterator[Float32]:
        """All samples, in order. A page is valid until the next is asked for."""
        rows = max(1, _PAGE_BYTES // (4 * self.segment.n_channels))
        with _progress(len(self)) as progress:
            for start in range(self.start, self.stop, rows):
                stop = min(start + rows, self.stop)
                yield _read(self.client, start, stop, (self.start, self.stop))
                self.markers += self.client.markers(start, stop)
                self.gaps += [gap for gap in self.client.gaps(start, stop) if gap not in self.gaps]
                self.recognise()
                progress(stop - self.start)

    def recognise(self) -> None:
        """See that all of it was of one instance: after a restart, other samples have these indices."""
        if self.client.instance != self.instance:
            raise HubRestarted(
                f"the hub restarted meanwhile: instance {self.instance} is gone",
                requested=(self.start, self.stop),
                hub=self.client.address,
            )


def _choose(client: Client | Archive, settings: DumpSettings) -> _Range:
    """The range asked for, as far as it can be known beforehand that it is there."""
    instance = client.instance
    start, stop = settings.start, settings.stop
    if settings.last is not None:
        start, stop = _newest(client, settings.last)
    assert start is not None  # noqa: S101 - the settings have both, or `last`
    assert stop is not None  # noqa: S101
    if (segment := _holder(client, start, stop)) is None:
        _read(client, start, stop, (start, stop))  # says why not, unless the last sample came meanwhile
        segment = _holder(client, start, stop)
    if segment is None:
        raise SegmentChanged("the range is in no one segment", requested=(start, stop), hub=client.address)
    return _Range(client, segment, start, stop, instance)


def _holder(client: Client | Archive, start: int, stop: int) -> Segment | None:
    """The segment that holds all of the range by now."""
    for segment in client.segments:
        if segment.start <= start and stop <= (client.last_sample if segment.stop is None else segment.stop):
            return segment
    return None


def _newest(client: Client | Archive, seconds: float) -> tuple[int, int]:
    segment = client.start_msg
    if segment is None:  # of a hub that ended before its Recorder began
        raise RdaHubError("there is no segment", hub=client.address)
    stop = client.last_sample if segment.stop is None else segment.stop
    start = stop - max(1, round(seconds * segment.sfreq))
    oldest = max(segment.start, client.first_available)
    if start < oldest:
        held = max(0, stop - oldest)
        raise RdaHubError(
            f"--last {seconds:g}s: only {held / segment.sfreq:g} s of the newest segment are held",
            first_available=oldest,
            next_index=stop,
            hub=client.address,
        )
    return start, stop


def _read(client: Client | Archive, start: int, stop: int, asked: tuple[int, int]) -> Float32:
    try:
        return client.read(start, stop)
    except RdaHubError as error:
        error.requested = asked
        raise


# --- files ---------------------------------------------------------------------------------------------


@contextmanager
def _folder_beside(output: Path, *, overwrite: bool) -> Iterator[Path]:
    """A folder whose files take their place beside `output` at the end, a header after what it names."""
    try:
        if output.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as name:
            yield Path(name)
            paths = sorted(Path(name).iterdir(), key=lambda path: path.suffix == ".vhdr")
            for path in paths:  # the settings looked too, but not at the parts of a long .fif
                if not overwrite and (output.parent / path.name).exists():
                    raise FileExistsError(errno.EEXIST, f"{path.name} is there by now; say --overwrite")
            for path in paths:
                path.replace(output.parent / path.name)
    except OSError as error:
        if isinstance(error, RdaHubError):  # some are OSErrors too
            raise
        raise OSError(error.errno, f"cannot write it: {error.strerror or error}", str(output)) from error


def _stream_npy(file: IO[bytes], chosen: _Range) -> None:
    """One array in NumPy's format, page by page."""
    shape = (len(chosen), chosen.segment.n_channels)
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    for page in chosen.pages():
        file.write(np.ascontiguousarray(page, "<f4").data)


def _write_npy(path: Path, chosen: _Range) -> None:
    with path.open("wb") as file:
        _stream_npy(file, chosen)


def _write_npz(path: Path, chosen: _Range) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("samples.npy", "w", force_zip64=True) as member:
            _stream_npy(member, chosen)
        for name, array in _columns(chosen).items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _columns(chosen: _Range) -> dict[str, npt.NDArray[Any]]:
    """What a .npz holds besides samples."""
    segment, markers, gaps = chosen.segment, chosen.markers, chosen.gaps
    return {
        "start": np.array(chosen.start, np.int64),
        "stop": np.array(chosen.stop, np.int64),
        "instance": np.array(chosen.instance),
        "sfreq": np.array(segment.sfreq),
        "ch_names": np.array(segment.ch_names, str),
        "units": np.array(segment.units, str),
        "resolutions": np.array(segment.resolutions, np.float64),
        "marker_index": np.array([marker.index for marker in markers], np.int64),
        "marker_points": np.array([marker.points for marker in markers], np.int64),
        "marker_channel": np.array([marker.channel for marker in markers], np.int64),
        "marker_type": np.array([marker.type for marker in markers], str),
        "marker_description": np.array([marker.description for marker in markers], str),
        "gaps": np.array([(gap.start, gap.stop) for gap in gaps], np.int64).reshape(-1, 2),
        "gap_reasons": np.array([gap.reason for gap in gaps], str),
    }


def _pybv() -> Any:
    try:
        import pybv  # noqa: PLC0415 - an extra
    except ImportError:
        raise SettingError(".vhdr files need pybv: pip install 'rdahub[brainvision]'") from None
    return pybv


def _write_vhdr(path: Path, chosen: _Range) -> None:
    """BrainVision, float32 in the segment's units.

    pybv writes the header, from one sample of zeros: it would want all samples in memory, as float64, and
    knows no markers but numbered ones and comments.
    """
    segment = chosen.segment
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is no µV was the Recorder's choice
            _pybv().write_brainvision(
                data=np.zeros((segment.n_channels, 1)),
                sfreq=segment.sfreq,
                ch_names=list(segment.ch_names),
                fname_base=path.stem,
                folder_out=path.parent,
                resolution=1.0,
                unit=list(segment.units),
                fmt="binary_float32",
            )
    except ValueError as error:  # two channels of one name, for instance
        raise RdaHubError(f"--output {path.name}: {error}; save it as .npz") from error
    with path.with_suffix(".eeg").open("wb") as file:
        for page in chosen.pages():
            file.write(np.ascontiguousarray(page, "<f4").data)
    entries = text.marker_file(path.stem, _marker_entries(chosen))
    path.with_suffix(".vmrk").write_text(entries, encoding="utf-8")


def _marker_entries(chosen: _Range) -> Iterator[str]:
    """Markers and gaps in order of position."""
    start, stop = chosen.start, chosen.stop
    gaps = [
        text.bad_interval(Gap(max(gap.start, start), min(gap.stop, stop), gap.reason)) for gap in chosen.gaps
    ]
    for marker in sorted([*chosen.markers, *gaps], key=lambda marker: marker.index):
        yield text.entry(marker, start)


def _write_by_mne(path: Path, chosen: _Range) -> None:
    write = export.write_fif if path.suffix == ".fif" else export.write_edf
    if said := write(path, chosen.client, chosen.start, chosen.stop):
        print(f"rdahub dump: {said}", file=sys.stderr)
    chosen.markers += chosen.client.markers(chosen.start, chosen.stop)
    chosen.gaps += chosen.client.gaps(chosen.start, chosen.stop)
    chosen.recognise()


_WRITERS: Final[dict[str, Callable[[Path, _Range], None]]] = {
    ".npy": _write_npy,
    ".npz": _write_npz,
    ".vhdr": _write_vhdr,
    ".fif": _write_by_mne,
    ".edf": _write_by_mne,
}


# --- progress ------------------------------------------------------------------------------------------


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A callable that is told how many samples are done: a bar in a terminal, else a line now and then."""
    try:
        from rich.console import Console  # noqa: PLC0415 - an extra
        from rich.progress import Progress  # noqa: PLC0415
    except ImportError:
        yield _progress_lines(total)
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _progress_lines(total)
        return
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("dump", total=total)
        yield lambda done: progress.update(task, completed=done)


def _progress_lines(total: int) -> Callable[[int], None]:
    began = monotonic()
    told = 0

    def tell(done: int) -> None:
        nonlocal told
        tenth = 10 * done // total
        if tenth > told and done < total and monotonic() - began > _QUIET:
            told = tenth
            print(f"{10 * tenth} %", file=sys.stderr, flush=True)

    return tell
