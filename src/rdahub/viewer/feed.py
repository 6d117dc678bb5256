"""The viewer's one reader of the hub: a thread that fills the store, and another that asks how the hub is.

Rule: whatever happens to the hub or the Recorder, both threads go on, and what is the matter is a state
like others. However many browsers look, the hub has one client. Not here: browsers (`server`), what is kept
(`store`).
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from typing import Any, Final

import numpy as np

from rdahub.commands.status import fetch
from rdahub.viewer.montage import place
from rdahub.viewer.quality import judge
from rdahub.viewer.recent import Recent
from rdahub.viewer.store import Store
from rdahub_client import (
    Block,
    Client,
    Gap,
    RdaHubError,
    SegmentEnd,
    SegmentStart,
    StartTimeout,
    StreamTimeout,
)
from rdahub_client.keys import KeyFile, client_keys

__all__ = ["Feed"]

log = logging.getLogger(__name__)

_ASK: Final = 1.0  # s between two questions to the hub; also the longest wait for an answer
_WAIT: Final = 0.25  # s to wait for an event before seeing whether the viewer ends
_AGAIN: Final = 0.5  # s between two attempts to find the hub
_PREFILL: Final = 60.0  # s of history taken in at first, so that a page has a picture at once
_JITTER_OVER: Final = 5.0  # s
_JUDGED_OVER: Final = 2.0  # s of samples that quality is judged on
_WINDOW: Final = 60_000  # samples the client itself keeps
UNREACHABLE: Final = "unreachable"


class Feed:
    """Follows a hub until closed.

    Parameters
    ----------
    address : str
        The hub's query address.
    timeout : float
        Seconds for the hub's first answer.
    curve_key, server_key : path or None
        As for `Client`.

    Attributes
    ----------
    lock : threading.Lock
        To be held while `store` is read.
    """

    def __init__(
        self,
        address: str,
        timeout: float,
        curve_key: KeyFile | None = None,
        server_key: KeyFile | None = None,
    ) -> None:
        self.address = address
        self.store = Store()
        self.lock = threading.Lock()
        self.looking = 0
        """Browsers that look; quality is judged only for somebody."""
        self._keys = client_keys(curve_key, server_key)
        self._files = curve_key, server_key
        self._timeout = timeout
        self._stopping = threading.Event()
        self._arrivals: deque[tuple[float, float]] = deque()  # when a block came, its last sample's time
        self._live_from = 0  # what is before was history when it came, and tells nothing of jitter
        self._recorder_jitter, self._hub_delay = Recent(), Recent()
        self._health: dict[str, Any] = {}
        self._threads = [
            threading.Thread(target=self._follow, name="rdahub-view-feed", daemon=True),
            threading.Thread(target=self._ask_on, name="rdahub-view-status", daemon=True),
        ]

    def start(self) -> None:
        """Find the hub and follow it; HubUnreachable or AuthError if none answers that lets us in."""
        self._health = self._describe(fetch(self.address, self._timeout, self._keys), 0.0)
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End both threads."""
        self._stopping.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(2.0)

    @property
    def health(self) -> dict[str, Any]:
        """How hub and Recorder are, as JSON for the page; a new object for each answer, never changed."""
        return self._health

    # --- samples ---------------------------------------------------------------------------------------

    def _follow(self) -> None:
        while not self._stopping.is_set():
            try:
                with Client(_WINDOW, curve_key=self._files[0], server_key=self._files[1]) as client:
                    client.connect(self.address, min(self._timeout, _ASK))
                    self._stream(client)
            except StartTimeout:
                continue  # there is a hub, but no segment yet
            except (RdaHubError, OSError, ValueError) as error:
                log.debug("the hub at %s: %s", self.address, error)
            except Exception:
                log.exception("an error of the viewer's own; it begins anew")
            self._stopping.wait(_AGAIN)

    def _stream(self, client: Client) -> None:
        client.start_streaming(_ASK)
        segment = client.start_msg
        back = 0 if segment is None else round(_PREFILL * segment.sfreq)
        self._live_from = client.last_sample
        index = max(0, client.first_available, self._live_from - back)
        events = client.stream(index, _WAIT)
        while not self._stopping.is_set():
            try:
                event = next(events)
            except StreamTimeout:
                continue
            except StopIteration:
                return
            with self.lock:
                match event:
                    case SegmentStart(segment):
                        index = max(segment.start, index)
                        self._arrivals.clear()
                    case Block() | Gap():
                        index = event.stop
                    case SegmentEnd():
                        pass
                self._take(client, event, index)
            if isinstance(event, SegmentEnd) and event.reason == "hub_restart":
                index = self._live_from = 0

    def _take(self, client: Client, event: Block | Gap | SegmentStart | SegmentEnd, index: int) -> None:
        match event:
            case Block(start, stop, samples, markers):
                self.store.extend(start, samples, markers)
                if self.store.segment is not None and stop > max(start, self._live_from):
                    self._arrivals.append((time.monotonic(), stop / self.store.segment.sfreq))
            case Gap():
                self.store.lose(event)
            case SegmentStart(segment):
                self.store.begin(client.instance, segment, index)
            case SegmentEnd(segment, reason):
                self.store.end(segment.stop if segment.stop is not None else index, reason)

    # --- health ----------------------------------------------------------------------------------------

    def _ask_on(self) -> None:
        while not self._stopping.wait(_ASK):
            began = time.monotonic()
            try:
                status = fetch(self.address, _ASK, self._keys)
            except (RdaHubError, OSError) as error:
                self._health = {**self._health, "state": UNREACHABLE, "why": str(error)}
            else:
                self._health = self._describe(status, time.monotonic() - began)

    def _describe(self, status: dict[str, Any], took: float) -> dict[str, Any]:
        impedances, instance = status["impedances"], status["instance"]
        timings = status.get("timings", {})  # an older hub has none
        jitter = self._recorder_jitter.look(instance, timings.get("recorder_jitter"))
        delay = self._hub_delay.look(instance, timings.get("publish_delay"))
        return {
            "state": status["state"],
            "why": status["recorder"]["error"],
            "name": status["name"],
            "instance": instance,
            "recorder": status["recorder"],
            "segment": None if status["segment"] is None else status["segment"]["number"],
            "clients": status["clients"],
            "readers": status.get("readers", []),
            "next_index": status["next_index"],
            "history": status["history_seconds"],
            "block_age": status["ages"]["block"],
            "counters": status["counters"],
            "losses": status.get("losses"),
            "history_pages": status.get("ranges", {}).get("pages"),
            "answer_ms": round(took * 1e3, 1),
            "jitter_ms": None if jitter is None else jitter * 1e3,
            "delay_ms": None if delay is None else delay * 1e3,
            "here_ms": self._jitter(),
            "quality": self._quality() if self.looking else [],
            "impedances": None
            if not impedances
            else [[name, kohm, place(name)] for name, kohm in impedances.items()],
        }

    def _jitter(self) -> float | None:
        """How much later than the promptest 95 of 100 blocks came at most, in ms; over the newest seconds."""
        with self.lock:
            oldest = time.monotonic() - _JITTER_OVER
            while self._arrivals and self._arrivals[0][0] < oldest:
                self._arrivals.popleft()
            late = np.array([came - due for came, due in self._arrivals])
        if len(late) < 5:
            return None
        return round(float(np.quantile(late, 0.95) - late.min()) * 1e3, 1)

    def _quality(self) -> list[list[Any]]:
        with self.lock:
            store, segment = self.store, self.store.segment
            if segment is None:
                return []
            rows = store.rows(
                max(store.first, store.stop - math.ceil(_JUDGED_OVER * segment.sfreq)), store.stop
            )
        return [
            [name, q.word, _short(q.rms), _short(q.line), q.mains]
            for name, q in zip(segment.ch_names, judge(rows, segment.sfreq, segment.resolutions), strict=True)
        ]


def _short(value: float) -> float | None:
    """A value as JSON can carry it, in four digits."""
    return float(f"{value:.4g}") if math.isfinite(value) else None
