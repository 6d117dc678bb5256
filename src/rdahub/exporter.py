"""The endpoint for Prometheus, run beside the hub: a process of its own that asks the hub like any client.

Rule: nothing foreign runs in the hub's process. Not even a thread: one that held Python's lock would stop the
loop. What is asked of the endpoint costs the hub one short answer a second at most, whoever asks however
often; if it dies the hub goes on, says so and starts it again. It ends with the hub, however that ends.
Not here: that process itself (`metrics_server`), the metrics (`metrics`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import math
import os
import queue
import subprocess
import sys
import threading
from typing import Any, Final

from rdahub import limits
from rdahub.config import ServeSettings, listen_address
from rdahub.endpoints import BindError, UnsafeEndpoint, is_local
from rdahub.seldom import Seldom
from rdahub_client.errors import RdaHubError

__all__ = ["Exporter"]

log = logging.getLogger(__name__)

_ANY: Final = {"tcp://0.0.0.0:": "tcp://127.0.0.1:", "tcp://[::]:": "tcp://[::1]:"}
"""How this machine reaches a hub that listens everywhere, also where that is no address to connect to."""


class Exporter:
    """The process, started and looked after.

    Parameters
    ----------
    settings : ServeSettings
        With ``metrics``.
    hub : dict
        Where the hub's query socket is, and the keys for it, as `Entrance.describe` says.

    Raises
    ------
    RdaHubError
        prometheus-client is not installed, or the process does not start.
    UnsafeEndpoint, BindError
        The address may not, or cannot, be listened on.
    """

    def __init__(self, settings: ServeSettings, hub: dict[str, Any]) -> None:
        text = settings.metrics or ""
        if not settings.insecure and not is_local(f"tcp://{text}"):
            raise UnsafeEndpoint(
                f"--metrics {text} is open to the network and unencrypted; "
                "listen on 127.0.0.1, or say --insecure if everyone on that network may read the hub's state"
            )
        if importlib.util.find_spec("prometheus_client") is None:
            raise RdaHubError("--metrics needs prometheus-client: pip install 'rdahub[metrics]'")
        self._host, self._port = listen_address(text)
        self._order: dict[str, Any] = dict(hub)
        for anywhere, here in _ANY.items():
            if hub["query"].startswith(anywhere):
                self._order["query"] = hub["query"].replace(anywhere, here, 1)
        self._again: float | None = None
        self._said = Seldom(log)
        self._process = self._start()
        answer = self._answer()
        if "error" in answer:
            self.close()
            raise BindError(f"--metrics {text}: {answer['error']}")
        self._port = int(answer["port"])
        shown = f"[{self._host}]" if ":" in self._host else self._host
        log.info("metrics for Prometheus at http://%s:%d/metrics", shown, self._port)

    def _start(self) -> subprocess.Popen[bytes]:
        """Start the process. Its standard input tells it all, and stays open as long as the hub lives."""
        process = subprocess.Popen(
            [sys.executable, "-m", "rdahub.metrics_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        order = json.dumps({**self._order, "host": self._host, "port": self._port}).encode()
        with contextlib.suppress(OSError):  # it is dead already: whoever waits for it will see
            os.write(_pipe(process.stdin), order + b"\n")
        return process

    def _answer(self) -> dict[str, Any]:
        """What the process says once it listens, or why it cannot."""
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101 - a pipe was asked for
        lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=lambda: lines.put(stdout.readline()), daemon=True).start()
        try:
            answer: dict[str, Any] = json.loads(lines.get(timeout=limits.EXPORTER_SECONDS))
        except (queue.Empty, ValueError):
            self.close()
            raise RdaHubError("the process for --metrics does not start") from None
        return answer

    def mind(self, now: float) -> None:
        """Look whether it still runs; start it again if not, some time later. Takes no time.

        Parameters
        ----------
        now : float
            Seconds on the monotonic clock.
        """
        if self._again is None:
            if self._process.poll() is None:
                return
            self._said.warn(
                f"the endpoint for metrics has ended (exit code {self._process.returncode}); "
                f"it is started again in {limits.EXPORTER_AGAIN_SECONDS:.0f} s"
            )
            self._again = now + limits.EXPORTER_AGAIN_SECONDS
        elif now >= self._again:
            self._again = math.inf
            threading.Thread(target=self._restart, name="rdahub-exporter", daemon=True).start()

    def _restart(self) -> None:
        """Off the loop: to start a process takes milliseconds. `mind` sees if it ends at once."""
        self._let_go()
        try:
            self._process = self._start()
        except OSError as error:
            self._said.warn(f"the endpoint for metrics cannot be started: {error}")
        self._again = None

    def close(self) -> None:
        """End it."""
        self._let_go()
        try:
            self._process.wait(limits.EXPORTER_GOODBYE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _let_go(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def _pipe(stream: Any) -> int:
    return int(stream.fileno())
