"""``rdahub record``: a hub's EEG to BrainVision files, as it comes.

Rule: what is told is written before the next is asked for, and a signal that ends this command waits until
it is. A recording that ended, however it did, is gone on with at its next sample.
Not here: which sample goes where (`rdahub.recording`).
"""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from time import monotonic, sleep
from types import FrameType
from typing import Any, Final

from rdahub.config import RecordSettings
from rdahub.recording import folder as folders
from rdahub.recording.fileset import FileSet
from rdahub.recording.sequence import Sequence
from rdahub_client import (
    Block,
    Client,
    Gap,
    Marker,
    RdaHubError,
    RequestRefused,
    Segment,
    SegmentEnd,
    SegmentStart,
    StreamTimeout,
)
from rdahub_client.records import Event
from rdahub_client.wire import Info

_WINDOW: Final = 100_000
"""Samples the client keeps; what it has not written by then comes from the hub's history."""
_TICK: Final = 1.0
"""Seconds between two moments when all is safe on disk."""
_PROGRESS: Final = 60.0
"""Seconds between two lines that say how far it is."""
_LEAST_ROOM: Final = 60.0
"""Seconds that must fit on the disk to begin."""
_LITTLE_ROOM: Final = 600.0
"""Seconds of room left that are worth a warning."""
_PATIENCE: Final = 60.0
"""Seconds that the hub's archive may not answer before this ends."""
_EVER: Final = 2**62

_log = logging.getLogger("rdahub.record")


def run(settings: RecordSettings) -> int:
    """Record until told to end, or for so long. 0: all that came is on disk."""
    with (
        _Ending() as ending,
        Client(_WINDOW, curve_key=settings.curve_key, server_key=settings.server_key) as client,
    ):
        client.connect(settings.hub, settings.timeout)
        info = client.info(settings.timeout)
        settings.output.mkdir(parents=True, exist_ok=True)
        recorder = _Recorder(settings, client, info.name)
        with suppress(KeyboardInterrupt):
            if info.segment is None:
                _log.info("waiting for the Recorder to start")
            client.start_streaming(None)
            recorder.record(recorder.begin(info), ending)
        ending.ignore()
        recorder.end()
    return 0


class _Ending:
    """Ctrl-C and SIGTERM, held back while something is written."""

    def __init__(self) -> None:
        self._held = False
        self._wanted = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> _Ending:
        for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
            if signal.getsignal(number) is signal.default_int_handler:  # or else it is not to end this
                self._before[number] = signal.signal(number, self._end)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _end(self, *_: int | FrameType | None) -> None:
        again, self._wanted = self._wanted, True
        if not (again or self._held):  # a second one must not break off what the first has begun
            raise KeyboardInterrupt

    def ignore(self) -> None:
        """It has been heard."""
        self._held = True

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let nothing come between."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._wanted:
            raise KeyboardInterrupt


class _Recorder:
    """One hub's events into one folder."""

    def __init__(self, settings: RecordSettings, client: Client, hub_name: str) -> None:
        self._settings = settings
        self._client = client
        self._folder = settings.output
        self._name = settings.name or hub_name
        self._sequence = Sequence(
            self._folder,
            self._name,
            limit=lambda segment: settings.limit(segment.sfreq, segment.n_channels),
            instant_of=self._instant_of,
            opened=self._announce,
            most=lambda segment: settings.most(segment.sfreq),
        )
        self._seen = (0, datetime.fromtimestamp(0, UTC))
        self._state = ""
        self._warned = False
        self._ready = False
        self._told: tuple[int, list[Marker]] = 0, []  # index after the last rows, and the markers since
        self._refused_since: float | None = None

    def begin(self, info: Info) -> Iterator[Event]:
        """All events from where to begin."""
        while True:
            instance = self._client.instance
            start = self._beginning(info, instance)
            stream = self._client.stream(start, timeout=_TICK)
            if self._client.instance == instance:
                break  # or else the hub restarted meanwhile, and its indices are others
        _log.info("recording from %s on", f"index {start}" if isinstance(start, int) else start)
        self._told = start if isinstance(start, int) else 0, []
        return stream

    def _beginning(self, info: Info, instance: str) -> str | int:
        """Where that is, for `Client.stream`."""
        if self._settings.resume and (found := folders.find(self._folder, self._name, instance)):
            stop = found[-1].stop
            told = [marker for marker in self._client.markers(0, _EVER) if marker.block < stop]
            self._sequence.resume(instance, found, told)
            _log.info("going on at index %d, after %s", stop, found[-1].path)
            return stop
        if self._settings.start != "live":
            return "oldest" if self._settings.start == "oldest" else int(self._settings.start)
        # What came while the Recorder was waited for is not to be missed.
        return info.next_index if instance == info.instance else 0

    def record(self, stream: Iterator[Event], ending: _Ending) -> None:
        """Write as much as is wanted, or until a KeyboardInterrupt or an error that says how far it got."""
        now = monotonic()
        sync_at, say_at = now + _TICK, now + _PROGRESS
        while not self._sequence.full:
            try:
                event = next(stream)
                self._refused_since = None
            except StreamTimeout:
                event = None
                self._look_at_hub()
            except RequestRefused as error:
                event = None
                self._bear_with(error)
            instance = self._client.instance  # of this event; what follows may hear of another
            if isinstance(event, SegmentStart):
                self._require_room(event.segment)
                self._look_at_clock(event.segment)
            with ending.held(), self._failures():
                if event is not None:
                    self._sequence.take(event, instance)
                    self._note(event)
                if (now := monotonic()) >= sync_at:
                    self._sequence.sync()
                    if self._sequence.segment is not None:
                        self._look_at_disk(self._sequence.segment)
                        self._look_at_clock(self._sequence.segment)
                    sync_at = now + _TICK
            if now >= say_at:
                say_at = now + _PROGRESS
                _log.info("%s", self._so_far())

    def end(self) -> None:
        """Finish the files and say what is in them."""
        so_far = self._so_far()
        with self._failures():
            self._sequence.end(late=self._late())
        print(f"rdahub record: {so_far}\n", end="", file=sys.stderr)  # at once: log lines come beside it

    def _note(self, event: Event) -> None:
        match event:
            case Block(_, stop, samples, markers):
                self._told = stop, [*markers] if len(samples) else [*self._told[1], *markers]
            case Gap(stop=stop):
                self._told = stop, []
            case SegmentEnd(reason="hub_restart"):
                self._told = 0, []

    def _late(self) -> list[Marker]:
        """Markers inserted since the last segment ended, which a stream tells when the next begins."""
        if self._sequence.segment is not None:
            return []
        stop, told = self._told
        known = self._client.markers(0, _EVER)
        return [marker for marker in known if marker.injected and marker.block >= stop and marker not in told]

    # --- what users are told -------------------------------------------------------------------------

    def _announce(self, files: FileSet) -> None:
        segment = self._sequence.segment
        assert segment is not None  # noqa: S101 - a set belongs to one
        _log.info("%s: segment %d from index %d on", files.path, segment.number, files.stop)
        if not self._ready:  # once: what is printed may wait for a reader, what is logged does not
            self._ready = True
            print(f"ready file={files.path} segment={segment.number} start={files.start}", flush=True)

    def _so_far(self) -> str:
        totals, files = self._sequence.totals, self._sequence.files
        reached = self._sequence.reached if files is None else (files.stop, files.path)
        where = "" if reached is None else ", up to index {} in {}".format(*reached)
        missing = f" and {totals.missing} missing" * bool(totals.missing)
        return (
            f"saved {totals.samples} samples{missing}, {totals.markers} markers, "
            f"{totals.sets} file set{'s' * (totals.sets != 1)}{where}"
        )

    def _look_at_hub(self) -> None:
        """Say once when nothing comes, and why."""
        state = self._client.state
        if state != self._state:
            self._state = state
            if state != "streaming":
                _log.warning("nothing comes: %s", state)

    def _bear_with(self, error: RequestRefused) -> None:
        """The hub's archive may stand still for a moment, or be started again: ask on."""
        now = monotonic()
        if self._refused_since is None:
            self._refused_since = now
            _log.warning("%s; asking again", error.message)
        if error.code != "NOT_READABLE" or now > self._refused_since + _PATIENCE:
            raise error
        sleep(_TICK)  # nothing tells when it is over

    # --- the disk ------------------------------------------------------------------------------------

    def _seconds_of_room(self, segment: Segment) -> float:
        return folders.room(self._folder) / (4 * segment.n_channels * segment.sfreq)

    def _require_room(self, segment: Segment) -> None:
        seconds = self._seconds_of_room(segment)
        if seconds < _LEAST_ROOM:
            raise RdaHubError(
                f"{self._folder}: there is room for only {seconds:.1f} s of this EEG; "
                "make room or choose another folder"
            )

    def _look_at_disk(self, segment: Segment) -> None:
        seconds = self._seconds_of_room(segment)
        if seconds > 2 * _LITTLE_ROOM:
            self._warned = False
        elif seconds < _LITTLE_ROOM and not self._warned:
            self._warned = True
            _log.warning("%s: the disk is nearly full: %.0f s more fit", self._folder, seconds)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """A disk that takes no more: what is saved, and how to go on."""
        try:
            yield
        except OSError as error:
            if isinstance(error, RdaHubError):
                raise
            so_far = self._so_far()
            self._sequence.close()
            raise RdaHubError(
                f"{self._folder}: cannot write ({error.strerror or error}); {so_far}; make room and run the "
                "same command again: it goes on there, with what the hub's history still has"
            ) from error

    def _instant_of(self, index: int) -> datetime:
        """When a sample was taken, by this machine's clock."""
        segment = self._sequence.segment
        assert segment is not None  # noqa: S101 - a set belongs to one
        newest, then = self._seen
        return then - timedelta(seconds=(newest - index) / segment.sfreq)

    def _look_at_clock(self, segment: Segment) -> None:
        """Note when a segment's newest sample came. Not amid a block: its samples would not survive it."""
        self._seen = (self._client.last_sample, datetime.now(UTC))  # noqa: TID251 - a date for people
        stops = (each.stop for each in self._client.segments if each.number == segment.number)
        if (stop := next(stops, None)) is not None and stop > segment.start:  # it is of the past
            with suppress(RdaHubError):  # the hub knows no more
                then = float(self._client.time_of(stop - 1, "wall"))
                self._seen = (stop - 1, datetime.fromtimestamp(then, UTC))
