"""The hub's one loop: Recorder socket, publish socket, query socket, local bells, timers, signals.

Rule: it moves bytes and time and decides nothing; the Recorder is drained first, always. One thread.
A block's path: `recorder` -> `broker.extend` (index, ring, frame) -> publish socket.
A question's path: query socket -> `questions` (decoded, in its turn) -> `about`, `answers` -> query socket.
"""

from __future__ import annotations

import logging
import random
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable

from rdahub import limits, rda
from rdahub.about import About
from rdahub.announce import announcer
from rdahub.archive.keeper import Keeper
from rdahub.broker import Broker
from rdahub.companion import Companion, close_all
from rdahub.config import ServeSettings, recorder_address
from rdahub.entrance import Entrance
from rdahub.exporter import exporter
from rdahub.rda_out import RdaOut
from rdahub.recorder import RecorderLink, RecorderLost
from rdahub.rings import History
from rdahub.seldom import Seldom
from rdahub.storage import Storage
from rdahub.upstream import DISCONNECTED, STALLED, Upstream
from rdahub_client.waiting import Waiting
from rdahub_client.wire import (
    End,
    Heartbeat,
    encode_end,
    encode_heartbeat,
)

__all__ = ["Hub"]

log = logging.getLogger(__name__)


class Hub:
    """One hub, from bind to goodbye.

    Parameters
    ----------
    settings : ServeSettings
    ready : callable
        ``ready(query, publish, name, rda)`` is called once the sockets are bound; `rda` is None without
        ``rda_out``.

    Raises
    ------
    BindError, SharedMemoryError
        An endpoint or the name is taken.
    """

    def __init__(self, settings: ServeSettings, ready: Callable[[str, str, str, str | None], None]) -> None:
        self.settings = settings
        self._ready = ready
        self._instance = uuid.uuid4().hex[:16]
        self._stopping = False
        self._behind = False
        self._told_state = DISCONNECTED
        self._next_beat = self._next_look = 0.0
        self._said = Seldom(log, limits.RECORDER_LINES)
        self._said_lost, self._said_note = Seldom(log), Seldom(log)
        self._storage = Storage(settings.name, settings.shm_dir)
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        self._link = RecorderLink(*recorder_address(settings.recorder), self._ring)
        self._upstream = Upstream(random.random)
        self._broker = Broker(
            self._instance, History(settings.history, settings.history_bytes), self._storage.make_ring
        )
        self._storage.release = self._broker.rings.release
        self._storage.meanwhile = self._link.soak
        self._about = About(settings, self._broker, self._upstream, self._storage)
        try:
            self._entrance = Entrance(settings, self._about.answer, self._about.refuse, self._broker.counters)
        except BaseException:
            self._storage.close()
            raise
        self._publisher = self._about.publisher = self._entrance.publisher
        self._entrance.questions.comes_first = self._link.has_arrived
        self.query_endpoint = self._entrance.questions.door.endpoint
        self.publish_endpoint = self._publisher.door.endpoint
        description = self._entrance.describe()
        self._storage.describe({"instance": self._instance, **description})
        self._companions: list[Companion] = []
        self._archive: Keeper | None = None
        try:
            if settings.metrics:
                self._companions.append(exporter(settings, description))
            if settings.announce:
                self._companions.append(
                    announcer(settings, self._instance, description, self.publish_endpoint)
                )
            if settings.rda_out:
                self._link.out = self._about.rda_out = RdaOut(settings)
                self._companions.append(self._link.out)
            if settings.archive:
                questions = self._entrance.questions
                self._archive = self._about.archive = Keeper(
                    settings, self._broker, time.time_ns(), description, questions.send, self._about.refuse
                )
                questions.hand_over = self._archive.take
                self._companions.append(self._archive)
        except BaseException:
            close_all(self._companions)
            self._entrance.close()
            self._storage.close()
            raise
        self._waiting = self._watch()

    # --- life ------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until SIGTERM, SIGINT or `stop`."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: self.stop())
        rda_out = None if self._link.out is None else self._link.out.address
        self._ready(self.query_endpoint, self.publish_endpoint, self.settings.name, rda_out)
        log.info(
            "hub %s, instance %s, Recorder %s", self.settings.name, self._instance, self.settings.recorder
        )
        try:
            while not self._stopping:
                now = time.monotonic()
                if now >= self._next_look:
                    self._look_after(now)
                self._turn(self._next_look - now)
        finally:
            self._close()

    def stop(self) -> None:
        """End the loop; safe from a signal handler or another thread."""
        self._stopping = True
        self._ring()

    def _ring(self) -> None:
        try:
            self._wake.send(b"\0")
        except OSError:
            return  # it is full, so the loop will wake all the same; or the hub has ended meanwhile

    def _watch(self) -> Waiting:
        in_use, others = self._entrance.sockets()
        waiting = Waiting(in_use if self._archive is None else [*in_use, self._archive.socket], others)
        for descriptor in (self._woken.fileno(), self._storage.bell_fd, self._link.descriptor):
            if descriptor is not None:
                waiting.add(descriptor)
        return waiting

    def _watch_anew(self) -> None:
        self._waiting = self._watch()

    def _turn(self, seconds: float) -> None:
        busy = self._behind or self._entrance.questions.waiting
        ready = self._waiting.wait(0 if busy else seconds)
        if self._behind or self._link.descriptor in ready:
            self._drain_recorder()
        self._entrance.serve(ready)
        if self._woken.fileno() in ready:
            self._woken.recv(4096)
            self._finish_attempt()
        if self._storage.bell_fd in ready:
            self._storage.greet()
        if self._archive is not None and self._archive.socket in ready:
            self._archive.serve()

    def _look_after(self, now: float) -> None:
        """Whatever goes by the clock, or by news of the Recorder."""
        state = self._about.state(now)
        if state != self._told_state or now >= self._next_beat:
            if state != self._told_state:
                self._said.tell(f"Recorder {self.settings.recorder}: {state}")
            self._told_state = state
            self._next_beat = now + limits.HEARTBEAT_SECONDS
            self._beat(state)
        if self._entrance.mind(now):
            self._watch_anew()
        if self._upstream.wants_connection(now):
            self._upstream.attempting()
            self._link.begin()
        # A peer may eat memory without waking anybody.
        self._next_look = min(now + limits.MEMORY_SECONDS, self._next_beat)
        if (deadline := self._upstream.next_deadline()) is not None:
            self._next_look = min(self._next_look, deadline)

    def _close(self) -> None:
        self._publisher.send(self._broker.end("lost"))
        self._publisher.send([encode_end(End(self._instance))])
        self._link.close()
        self._storage.ring_bells()
        self._answer_last_questions()
        self._finish_archive()
        close_all(self._companions)
        self._storage.close()
        self._entrance.close()
        self._wake.close()
        self._woken.close()
        log.info("hub %s has ended", self.settings.name)

    def _finish_archive(self) -> None:
        """Let it write what is left, and answer what it asks for that."""
        if self._archive is not None:
            self._archive.let_go()
            until = time.monotonic() + limits.ARCHIVE_GOODBYE_SECONDS
            while self._archive.is_running and time.monotonic() < until:
                self._entrance.serve(self._waiting.wait(0.01))

    def _answer_last_questions(self) -> None:
        """Readers on this machine were just told of the end; what led to it they ask for now."""
        until = time.monotonic() + limits.LAST_QUESTIONS_SECONDS
        while self._storage.local_readers and (left := until - time.monotonic()) > 0:
            self._entrance.serve(self._waiting.wait(left))

    # --- Recorder --------------------------------------------------------------------------------------

    def _finish_attempt(self) -> None:
        try:
            if not self._link.finish():
                return
        except RecorderLost as error:
            if self._upstream.lost(time.monotonic(), str(error)):
                log.warning("cannot reach the Recorder at %s: %s; trying on", self.settings.recorder, error)
            return
        self._upstream.connected()
        self._broker.set_units(())
        assert self._link.socket is not None  # noqa: S101 - finish() said so
        self._waiting.add(self._link.socket.fileno())
        self._next_look = 0.0
        self._said.tell(f"connected to the Recorder at {self.settings.recorder}")

    def _drain_recorder(self) -> None:
        try:
            self._behind = False
            until = time.monotonic() + limits.DRAIN_SECONDS
            for message in self._link.receive():
                if type(message) is rda.Data:
                    self._pass_on(message)
                else:
                    self._take(message)
                    self._storage.ring_bells()
                if time.monotonic() > until:
                    self._behind = True  # others get their turn; what is received waits in the decoder
                    break
        except RecorderLost as error:
            self._lose_recorder(str(error))
        except rda.TruncatedError as error:
            self._lose_recorder(f"it closed the connection inside a message ({error})")
        except rda.ProtocolError as error:
            self._broker.counters.protocol_errors += 1
            self._lose_recorder(f"what it sent is not RDA: {error}")
        except Exception:
            log.exception("an error of the hub's own")
            self._lose_recorder("the hub failed on what it sent")

    def _lose_recorder(self, why: str) -> None:
        if self._link.socket is not None:
            self._waiting.remove(self._link.socket.fileno())
            self._link.drop()
            self._behind = False
        self._next_look = 0.0
        self._broker.counters.reconnects += 1
        self._publisher.send(self._broker.end("lost"))
        self._storage.ring_bells()
        if self._upstream.lost(time.monotonic(), why):
            self._said_lost.warn(f"lost the Recorder at {self.settings.recorder}: {why}; connecting again")

    def _pass_on(self, block: rda.Data) -> None:
        """The way every block goes."""
        received_ns, wall_ns = time.monotonic_ns(), time.time_ns()
        if self._storage.local_readers:
            frames = self._broker.extend(block, received_ns, wall_ns)
            self._storage.ring_bells()
            self._publisher.send(frames)
            sent_ns = time.monotonic_ns()
        else:
            try:
                self._publisher.send(self._broker.announce(block, received_ns, wall_ns))
            finally:
                sent_ns = time.monotonic_ns()
                self._broker.keep()
        self._about.times.block(received_ns, sent_ns, self._broker.segment, self._broker.next_index, wall_ns)
        self._upstream.data(received_ns * 1e-9)
        if self._told_state == STALLED:
            self._next_look = 0.0

    def _take(self, message: rda.Message) -> None:
        self._next_look = 0.0  # a state may have changed
        match message:
            case rda.Start():
                self._publisher.send(self._broker.begin(message))
                self._note_older()
                self._upstream.acquiring(time.monotonic())
                self._said.tell(
                    f"segment of {message.n_channels} channels at {1e6 / message.interval_us:g} Hz, "
                    f"history {self._broker.history_seconds:.0f} s"
                )
            case rda.Stop():
                self._publisher.send(self._broker.end("stop"))
                self._upstream.stopped()
            case rda.NewState(state):
                self._upstream.recorder_state = state
            case rda.Info():
                self._about.recorder = message
                self._broker.set_units(message.units)
            case rda.Impedances():
                self._about.impedances = message
            case rda.Note():
                self._broker.counters.notes += 1
                self._said_note.warn(f"the Recorder's stream, byte {message.offset}: {message.text}")
            case _:  # keep-alives and what a later Recorder may add
                pass

    # --- timers ----------------------------------------------------------------------------------------

    def _beat(self, state: str) -> None:
        broker = self._broker
        now_ns = time.monotonic_ns()
        self._about.losses.note(broker.journal)  # before it forgets
        broker.prune(now_ns * 1e-9)
        self._about.times.arrivals.prune(broker.first_available)
        segment = broker.segment
        beat = Heartbeat(
            instance=self._instance,
            state=state,
            segment=None if segment is None else segment.number,
            first_available=broker.first_available,
            next_index=broker.next_index,
            seq=broker.journal.next_seq,
            sent_ns=now_ns,
            wall_ns=time.time_ns(),
        )
        self._publisher.send([encode_heartbeat(beat)])
        if broker.segment_frame is not None:
            self._publisher.send([broker.segment_frame])
        self._storage.beat(now_ns, state)
        self._note_older()
        self._storage.ring_bells()
        if self._entrance.beat():
            self._watch_anew()
        for companion in self._companions:
            companion.mind(now_ns * 1e-9)

    def _note_older(self) -> None:
        """Tell readers on this machine, who map the newest ring, of samples that are not in it."""
        broker, oldest = self._broker, self._broker.first_available
        elsewhere = broker.rings.has_older or oldest < broker.first_in_memory
        self._storage.note_older(oldest if elsewhere else None)
