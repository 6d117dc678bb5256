"""A Recorder that sends what the test tells it to, over a real socket."""

from __future__ import annotations

import socket

import numpy as np
import numpy.typing as npt

from rdahub import rda

PATIENCE = 30.0


class ScriptedRecorder:
    """An RDA server with one client; sample i of channel c is ``i + c / 8``, counted from 0 for ever."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.settimeout(PATIENCE)
        self.address = f"127.0.0.1:{self.server.getsockname()[1]}"
        self.index = 0
        self.counter = 0
        self.n_channels = 0
        self._connection: socket.socket | None = None

    @property
    def connection(self) -> socket.socket:
        if self._connection is None:
            self._connection, _ = self.server.accept()
        return self._connection

    def send(self, message: rda.Message) -> None:
        self.connection.sendall(rda.encode(message))

    def start(self, n_channels: int = 2, rate: float = 1000.0) -> None:
        self.n_channels = n_channels
        self.counter = 0
        names = tuple(f"C{i}" for i in range(n_channels))
        self.send(rda.Start(1e6 / rate, (1.0,) * n_channels, names))

    def block(self, n: int = 20, markers: tuple[rda.BlockMarker, ...] = ()) -> None:
        self.counter += 1
        self.send(rda.Data(self.counter, values(self.index, self.index + n, self.n_channels), markers))
        self.index += n

    def blocks(self, count: int) -> None:
        for _ in range(count):
            self.block()

    def stop(self) -> None:
        self.send(rda.Stop())

    def hang_up(self) -> None:
        self.connection.close()
        self._connection = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self.server.close()


def values(start: int, stop: int, n_channels: int) -> npt.NDArray[np.float32]:
    index = np.arange(start, stop, dtype=np.float32)[:, None]
    return np.ascontiguousarray(index + np.arange(n_channels, dtype=np.float32) / 8)
