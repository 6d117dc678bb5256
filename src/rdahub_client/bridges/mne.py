"""`StreamRDA`: a hub's live EEG as an MNE-LSL stream, without LSL.

Rule: whatever MNE-LSL makes of a `StreamLSL` it makes of this, on the same rows; every sample stands there
once, in order, a hole is rows of NaN, and a marker is a pulse on its very sample. Rows are taken from
`Client.stream`, which names what is missing; waiting costs nothing.
Not here: rows and times (`mne_rows`), names (`mne_names`), recorded data (`mne_arrays`).

The attributes with an underscore are MNE-LSL's own, which its base class asks a subclass to supply.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from math import ceil
from pathlib import Path
from typing import Final, Self

import numpy as np

try:
    from mne_lsl.lsl import local_clock
    from mne_lsl.stream.base import BaseStream
    from mne_lsl.utils.logs import logger, warn
    from scipy.signal import sosfilt
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        f"StreamRDA needs {missing.name}: pip install 'rdahub[mne]'", name=missing.name
    ) from None

from rdahub_client.address import Address
from rdahub_client.blocking import Client
from rdahub_client.bridges.mne_arrays import make_info, same_layout
from rdahub_client.bridges.mne_names import EventId, Events
from rdahub_client.bridges.mne_recording import Recording
from rdahub_client.bridges.mne_rows import Array, Rows, SampleClock, Stim
from rdahub_client.errors import RdaHubError, SegmentChanged, StreamTimeout
from rdahub_client.keys import KeyFile
from rdahub_client.records import Block, Event, Float32, Gap, Marker, Segment, SegmentEnd, SegmentStart

__all__ = ["StreamRDA"]

TICK: Final = 0.1
"""Seconds the acquisition waits for a block before it looks whether it shall end."""
MOST_EVENTS: Final = 100
"""Events taken at one go, so that data which come faster than they are used do not hold up the rest."""
CUSTOM_REFERENCE: Final = 1
"""``info["custom_ref_applied"]`` after `set_eeg_reference`."""


class StreamRDA(BaseStream):  # type: ignore[misc] # MNE-LSL has no types
    """A hub's live EEG as an MNE-LSL stream: `mne_lsl.stream.StreamLSL`, from an rdahub.

    Parameters
    ----------
    bufsize : float
        Seconds of newest samples kept for `get_data`.
    hub : str or tuple of (str, int)
        Address of the hub, as for `rdahub_client.Client.connect`.
    name : str, optional
        The hub's name: another hub at this address is an error.
    stim_channel : str or None
        Name of the channel, behind the Recorder's, on which markers are pulses of one sample. None: no such
        channel.
    event_id : dict, iterable of str, str or None
        Which markers these are, with their codes: ``{"Stimulus/S  1": 1}``. None: all, coded as
        `mne.events_from_annotations` codes those of a BrainVision file (``Stimulus/S  1`` 1,
        ``Response/R  1`` 1001, ``New Segment/`` 99999, others from 10001 on); `event_codes` tells those met.
    curve_key, server_key : path, optional
        As for `rdahub_client.Client`.

    Notes
    -----
    Data are float32 in the Recorder's unit, as LSL outlets of amplifiers send them: µV, which
    `get_channel_units` tells (-6). Multiply by 1e-6 for volts, or use `Client.to_raw`.

    Missing samples are rows of NaN (0 on the stim channel) in their place; filters begin anew behind them. A
    new segment of the same layout begins with one row of NaN, so that no epoch joins two segments unseen; one
    of another layout ends the stream: it logs an error, and `connected` is False. While the hub or its
    Recorder is away nothing comes, and it goes on when they are back, as a `StreamLSL` does.

    Examples
    --------
    >>> stream = StreamRDA(5, "127.0.0.1").connect(acquisition_delay=0)  # doctest: +SKIP
    >>> data, times = stream.get_data(winsize=1, picks="eeg")  # doctest: +SKIP
    """

    def __init__(
        self,
        bufsize: float = 5,
        hub: Address = "127.0.0.1:5570",
        *,
        name: str | None = None,
        stim_channel: str | None = "STI",
        event_id: EventId = None,
        curve_key: KeyFile | None = None,
        server_key: KeyFile | None = None,
    ) -> None:
        super().__init__(bufsize)
        self._hub = hub
        self._wanted = self._name = name
        self._stim_channel = stim_channel
        self._events = Events(event_id)
        self._curve_key, self._server_key = curve_key, server_key
        self._state = "streaming"
        self._client: Client | None = None
        self._recording: Recording | None = None
        self._reset_variables()

    def __repr__(self) -> str:
        return f"<StreamRDA: {'ON' if self._info is not None else 'OFF'} | {self._name or ''} ({self._hub})>"

    def __hash__(self) -> int:
        return hash((self._name, str(self._hub)))

    # --- beginning and ending ------------------------------------------------------------------------

    def connect(
        self,
        acquisition_delay: float | None = 0.001,
        *,
        processing_flags: str | Sequence[str] | None = None,  # noqa: ARG002 - for StreamLSL's programs
        timeout: float | None = 10,
    ) -> Self:
        """Find the hub and follow it from its newest sample on.

        Parameters
        ----------
        acquisition_delay : float or None
            Least time between two acquisitions in s; 0 takes each block as it comes. Waiting costs nothing
            either way. None: only `acquire` takes what has come.
        processing_flags : str, list of str or None
            Ignored: times are even, and in this machine's LSL clock, anyway.
        timeout : float or None
            Seconds until a hub that is not there, or that has no segment, is an error; None waits for ever.

        Raises
        ------
        HubUnreachable, StartTimeout, AuthError
            As from `rdahub_client.Client`.
        ValueError
            Another hub than `name` is there.
        """
        if self.connected:
            warn("The stream is already connected. Skipping.")
            return self
        client = Client(curve_key=self._curve_key, server_key=self._server_key)
        try:
            client.connect(self._hub, timeout)
            found = client.info(timeout).name
            if self._wanted not in {None, found}:
                raise ValueError(f"the hub at {client.address} is {found!r}, not {self._wanted!r}")
            client.start_streaming(timeout)
            # MNE-LSL has no delay of 0; here it is the one of least work.
            super().connect(0.001 if acquisition_delay == 0 else acquisition_delay)
            self._begin(client)
        except BaseException:
            client.disconnect()
            self._reset_variables()
            raise
        self._acquisition_delay = acquisition_delay
        self._name = found
        if self._executor is not None:
            self._executor.submit(self._acquire)
        return self

    def _begin(self, client: Client) -> None:
        """Make what the base class works on, empty."""
        segment = client.start_msg
        assert segment is not None  # noqa: S101 - start_streaming returned
        info = make_info(segment, self._stim_channel)
        n = ceil(self._bufsize * segment.sfreq)
        self._buffer = np.zeros((n, len(info.ch_names)), np.float32)
        self._timestamps = np.zeros(n)
        self._picks_inlet = np.arange(len(info.ch_names))
        self._rows, self._times = Rows(self._buffer), Rows(self._timestamps)
        self._instance = client.instance
        self._count_anew()
        self._segment = segment
        self._clock: SampleClock | None = None
        self._position = client.last_sample
        self._due = 0.0
        self._client, self._following = client, client.stream("live", TICK)
        self._info = info

    def _count_anew(self) -> None:
        """Forget indices, and events by index: those of another instance are other samples."""
        n = len(self._timestamps)
        with self._lock:
            self._indices = Rows(np.full(n, -1))
        self._stim = Stim(n)

    def disconnect(self) -> Self:
        """Let go of the hub, and end the acquisition, and the recording if there is one."""
        if self.connected:
            super().disconnect()
            self._reset_variables()
        if self._recording is not None:
            self.stop_record()
        return self

    def _reset_variables(self) -> None:
        super()._reset_variables()
        if self._client is not None:
            self._client.disconnect()
        self._client = None

    # --- recording -----------------------------------------------------------------------------------

    def start_record(self, fname: Path | str, *, overwrite: bool = False, timeout: float = 10) -> Self:
        """Have ``rdahub record`` write all that comes from now on to BrainVision files, as the hub has it.

        Parameters
        ----------
        fname : path
            A folder: one set of files for each segment.
        overwrite : bool
            Not possible: a folder that is not empty is an error in any case.
        timeout : float
            Seconds until a recording that has not begun is an error.
        """
        self._check_connected("start_record()")
        folder = Path(fname)
        if self._recording is not None:
            raise RuntimeError("a recording is in progress; stop_record() ends it")
        if overwrite or (folder.exists() and any(folder.iterdir())):
            raise FileExistsError(f"{folder} is not empty, or overwrite=True: give a new folder")
        keys = (self._curve_key, self._server_key)
        assert self._client is not None  # noqa: S101 - connected
        self._recording = Recording(self._client.address, folder, self._position, keys, timeout)
        return self

    def stop_record(self) -> Self:
        """End the recording; all that came is on disk then, or it is a RuntimeError."""
        if self._recording is None:
            raise RuntimeError("no recording is in progress; start_record() begins one")
        recording, self._recording = self._recording, None
        recording.end()
        return self

    # --- acquisition ---------------------------------------------------------------------------------

    def acquire(self) -> None:
        """Take what has come, in a stream connected with ``acquisition_delay=None``."""
        super().acquire()
        self._acquire()

    def _acquire(self) -> None:
        client = self._client
        if client is None:
            return
        try:
            self._take(client, wait=self._executor is not None)
        except Exception as error:
            if isinstance(error, RdaHubError):
                logger.error("%s: disconnected: %s", self, error)
            else:  # a callback's, most likely
                logger.exception(error)
            self._reset_variables()
            if os.getenv("MNE_LSL_RAISE_STREAM_ERRORS", "false").lower() == "true":
                raise
        else:
            self._submit_acquisition_job()

    def _submit_acquisition_job(self) -> None:
        executor, delay = self._executor, self._acquisition_delay
        if executor is None or delay is None:
            return
        if (left := self._due - time.monotonic()) > 0:
            time.sleep(left)
        self._due = time.monotonic() + delay
        with suppress(RuntimeError):  # it was shut down
            executor.submit(self._acquire)

    def _take(self, client: Client, *, wait: bool) -> None:
        """Take what comes next if told to wait for it; and all that is here, unless it is waited for each."""
        try:
            if wait:
                self._meet(client, next(self._following))
            if not wait or self._acquisition_delay:
                for _ in range(MOST_EVENTS):
                    if client.last_sample == self._position:
                        break
                    self._meet(client, next(self._following))
        except StreamTimeout:
            self._tell(client.state)
        else:
            if self._state != "streaming":
                self._tell(client.state)

    def _tell(self, state: str) -> None:
        if state != self._state:
            self._state = state
            tell = logger.info if state == "streaming" else logger.warning
            tell("%s: the hub's state is %r", self, state)

    def _meet(self, client: Client, event: Event) -> None:
        match event:
            case Block(start, stop, samples, markers):
                self._mark(markers)
                self._push(start, stop, samples)
            case Gap(start, stop, reason):
                logger.warning("%s: samples [%d, %d) are missing (%s)", self, start, stop, reason)
                self._push(max(start, stop - self._timestamps.size), stop, None)
            case SegmentStart(segment):
                self._enter(segment, client.instance)
            case SegmentEnd(segment, reason):
                logger.info("%s: segment %d ended (%s)", self, segment.number, reason)

    def _enter(self, segment: Segment, instance: str) -> None:
        """Begin a segment, behind a row that keeps it apart from the one before."""
        before = self._segment
        if not same_layout(segment, before):
            raise SegmentChanged(
                f"segment {segment.number} has another layout ({segment.n_channels} channels at "
                f"{segment.sfreq:g} Hz after {before.n_channels} at {before.sfreq:g} Hz): connect again"
            )
        interval = segment.sampling_interval_us * 1e-6
        after = 0.0
        if self._clock is not None:
            after = self._timestamps[-1] + interval
            self._append(self._missing(1), np.array([after]), np.array([-1]), whole=False)
        self._clock = SampleClock(interval, after)
        if instance != self._instance:
            self._instance = instance
            self._count_anew()
        self._segment = segment
        self._position = max(segment.start, self._position if segment == before else 0)

    def _push(self, start: int, stop: int, samples: Float32 | None) -> None:
        """Add rows of the segment; None for missing ones."""
        self._position = stop
        if start == stop or self._clock is None:
            return
        data = self._missing(stop - start)
        if samples is not None:
            data[:, : samples.shape[1]] = samples
        if self._stim_channel is not None:
            data[:, -1] = self._stim.codes(start, stop)
        times = self._clock.times(start, stop, local_clock())
        self._append(data, times, np.arange(start, stop), whole=samples is not None)

    def _missing(self, n: int) -> Float32:
        """Rows that say nothing."""
        rows = np.full((n, self._segment.n_channels + (self._stim_channel is not None)), np.nan, np.float32)
        if self._stim_channel is not None:
            rows[:, -1] = 0.0
        return rows

    def _append(self, data: Array, times: Array, indices: Array, *, whole: bool) -> None:
        """Do with rows what `StreamLSL` does, and keep them; filters begin anew behind those not `whole`."""
        data = data[:, self._picks_inlet]
        if self._added_channels:
            data = np.hstack((data, np.zeros((len(data), len(self._added_channels)), data.dtype)))
        if self._info["custom_ref_applied"] == CUSTOM_REFERENCE:
            data[:, self._ref_from] -= data[:, self._ref_channels].mean(axis=1, keepdims=True)
        for each in self._filters:
            picks = each["picks"]
            if not whole:
                each["zi"] = None
                continue
            if each["zi"] is None:
                each["zi"] = each["zi_unit"] * data[:, picks].mean(axis=0)
            data[:, picks], each["zi"] = sosfilt(each["sos"], data[:, picks], zi=each["zi"], axis=0)
        for callback in self._callbacks:
            data, times = callback(data, times, self._info)
        if len(indices) != len(times):
            indices = np.full(len(times), -1)
        with self._lock:
            if self._buffer is not self._rows.newest:  # the base class made another
                self._rows = Rows(self._buffer)
            self._buffer = self._rows.append(data)
            self._timestamps = self._times.append(times)
            self._indices.append(indices)
            self._n_new_samples += len(times)

    # --- markers -------------------------------------------------------------------------------------

    def _mark(self, markers: tuple[Marker, ...]) -> None:
        if self._stim_channel is None:
            return
        for marker in markers:
            if (code := self._events.code(marker)) is None:
                continue
            if (complaint := self._stim.place(marker.index, code)) is not None:
                logger.warning("%s: %s", self, complaint)
            if marker.index < self._position:
                self._mark_late(marker.index)

    def _mark_late(self, index: int) -> None:
        """Put a marker that came after its sample where that stands."""
        column = np.flatnonzero(self._picks_inlet == self._segment.n_channels)  # none if it is not picked
        with self._lock:
            rows = np.flatnonzero(self._indices.newest == index)
            self._buffer[rows, column] = self._stim.codes(index, index + 1)
        if not rows.size and self._indices.newest[0] >= 0:
            logger.warning("%s: a marker on sample %d came after that was gone", self, index)

    @property
    def event_codes(self) -> dict[str, int]:
        """The events met so far, ``{"Stimulus/S  1": 1}``, with their codes on the stim channel."""
        return dict(self._events.seen)

    def index_at(self, timestamps: Array) -> Array:
        """The hub's indices of rows that `get_data` gave.

        Parameters
        ----------
        timestamps : ndarray of float64, shape (n,)
            As from `get_data`.

        Returns
        -------
        indices : ndarray of int64, shape (n,)
            -1 for those that are no samples, are not kept any more, or are of an instance that is gone.
        """
        self._check_connected("index_at()")
        with self._lock:
            times, indices = self._timestamps, self._indices.newest
        at = np.searchsorted(times, timestamps).clip(0, len(times) - 1)
        return np.where(times[at] == timestamps, indices[at], -1)

    # --- as StreamLSL has them -----------------------------------------------------------------------

    @property
    def name(self) -> str | None:
        """The hub's name."""
        return self._name

    @property
    def stype(self) -> str:
        """What it is a stream of."""
        return "eeg"

    @property
    def source_id(self) -> str | None:
        """The hub's instance; with an index it names one sample for ever."""
        return None if self._client is None else f"rdahub:{self._client.instance}"
