"""The process that serves a hub's metrics to Prometheus over HTTP; `exporter` starts it.

Rule: bounded whoever asks: so many connections at a time, so long each, one question a second to the hub,
which goes first in everything. It ends when its standard input does.
Not here: the metrics (`metrics`).
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections.abc import Callable
from socketserver import ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import zmq
from prometheus_client import CollectorRegistry, make_wsgi_app

from rdahub.companion import take_order
from rdahub.metrics import HubCollector, Stats
from rdahub_client.errors import RdaHubError
from rdahub_client.keys import ClientKeys, KeyPair
from rdahub_client.query import QuerySocket
from rdahub_client.wire import StatsRequest

__all__ = ["main"]

_PATIENCE: Final = 2.0  # s for the hub to answer; Prometheus waits 10
_CONNECTIONS: Final = 16  # at a time; a Prometheus makes one
_REQUEST: Final = 5.0  # s for a peer to say or take something


class _Server(ThreadingMixIn, WSGIServer):
    """HTTP with a bounded number of connections; more are closed at once."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, host: str, port: int) -> None:
        self._places = threading.BoundedSemaphore(_CONNECTIONS)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Quiet)

    def server_bind(self) -> None:
        """Bind without asking a name server who we are, as `http.server` would."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(os.name != "nt"))
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve it on a thread, if there is a place."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve it, and free the place."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that leaves in the middle is no news."""


class _Quiet(WSGIRequestHandler):
    timeout = _REQUEST

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base class names it
        """Say nothing: the hub's log is for the hub."""


def _asker(order: dict[str, Any]) -> Callable[[], Stats | None]:
    """Ask the hub described in an order over one connection, kept."""
    keys = None
    if order.get("keys"):
        public, secret, server = (key.encode() for key in order["keys"])
        keys = ClientKeys(KeyPair(public, secret), server)
    query = QuerySocket(zmq.Context(), order["query"], keys)

    def ask() -> Stats | None:
        try:
            reply = query.ask(StatsRequest(), None, _PATIENCE)
        except RdaHubError:
            return None
        return reply.header if reply.refusal is None else None

    return ask


def main() -> None:
    """Serve metrics until standard input ends; its first line says where, and of which hub."""
    order = take_order()
    try:
        server = _Server(order["host"], order["port"])
    except OSError as error:
        print(json.dumps({"error": error.strerror or str(error)}), flush=True)  # noqa: T201 - `exporter` reads it
        return
    registry = CollectorRegistry(auto_describe=False)
    registry.register(HubCollector(_asker(order)))
    server.set_app(make_wsgi_app(registry, disable_compression=True))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"port": server.server_port}), flush=True)  # noqa: T201
    sys.stdin.read()
    os._exit(0)  # whatever its threads do


if __name__ == "__main__":
    main()
