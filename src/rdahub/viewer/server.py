"""The browsers' side: the page, its files, and a socket for each browser.

Rule: at most two messages are on their way to a browser; the next is made when it says that it has drawn
one. So a slow browser gets fewer frames, and nothing queues. What a browser may ask for is a `View`,
checked; anything else ends its socket. A message is the length of its JSON head (uint32), the head, and
float32 columns (little-endian). Not here: what is in a picture (`picture`), the hub (`feed`), who may look
(`access`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import struct
from collections.abc import AsyncIterator
from dataclasses import astuple
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from rdahub.viewer import spectrum
from rdahub.viewer.access import may_look, same_origin
from rdahub.viewer.feed import Feed
from rdahub.viewer.picture import Picture, View

__all__ = ["FRAMES", "MOST_BROWSERS", "MOST_MESSAGE", "application"]

log = logging.getLogger(__name__)

FRAMES: Final = 30
"""Frames a second, at most."""
MOST_BROWSERS: Final = 32
"""At a time; each costs some filtering."""
MOST_MESSAGE: Final = 1 << 20
"""Bytes from a browser: names of 4096 channels."""
_ON_THE_WAY: Final = 2
_HEALTH_EVERY: Final = 1.0  # s
_SPECTRUM_OVER: Final = 8.0  # s
_STATIC: Final = Path(__file__).parent / "static"
_HEADERS: Final = (
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'",
    ),
    (b"referrer-policy", b"no-referrer"),  # the address may hold the token
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-cache"),
)


class _Said(BaseModel):
    """What a browser sends: what it wants to see, or the number of a message it has drawn."""

    model_config = ConfigDict(extra="forbid")

    view: View | None = None
    drawn: int | None = None


def application(feed: Feed, token: str | None) -> ASGIApp:
    """The whole viewer as an ASGI application. The feed is started by who calls this, and closed here."""

    def lets_in(connection: HTTPConnection) -> bool:
        headers = connection.headers
        shown = connection.query_params.get("token")
        return may_look(token, shown, headers.get("authorization"), headers.get("host"))

    async def page(request: Request) -> Response:
        if not lets_in(request):
            return PlainTextResponse("rdahub view: add ?token=... to the address\n", 403)
        return FileResponse(_STATIC / "index.html")

    async def health(request: Request) -> Response:
        return JSONResponse(feed.health) if lets_in(request) else PlainTextResponse("token?\n", 403)

    async def socket(websocket: WebSocket) -> None:
        origin, host = websocket.headers.get("origin"), websocket.headers.get("host")
        if not lets_in(websocket) or not same_origin(origin, host):
            await websocket.close(1008)
        elif feed.looking >= MOST_BROWSERS:
            await websocket.close(1013)
        else:
            await _Browser(websocket, feed).serve()

    @contextlib.asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(feed.close)

    routes = [
        Route("/", page),
        Route("/health", health),
        WebSocketRoute("/socket", socket),
        Mount("/static", StaticFiles(directory=_STATIC)),
    ]
    return _with_headers(Starlette(routes=routes, lifespan=life))


def _with_headers(app: ASGIApp) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        await app(scope, receive, send_on if scope["type"] == "http" else send)

    return answer


class _Browser:
    """One browser, from its first word to its last."""

    def __init__(self, websocket: WebSocket, feed: Feed) -> None:
        self._websocket = websocket
        self._feed = feed
        self._view: View | None = None
        self._picture = Picture()
        self._sent = self._drawn = 0
        self._told_changes = self._told_epoch = -1
        self._next_health = 0.0
        self._said = asyncio.Event()

    async def serve(self) -> None:
        """Until it goes."""
        await self._websocket.accept()
        self._feed.looking += 1
        sending = asyncio.create_task(self._send_on())
        try:
            with contextlib.suppress(WebSocketDisconnect):
                await self._listen()
        except (ValidationError, KeyError):  # KeyError: Starlette's, of bytes where text is due
            with contextlib.suppress(RuntimeError):
                await self._websocket.close(1008)
        finally:
            self._feed.looking -= 1
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _listen(self) -> None:
        while True:
            said = _Said.model_validate_json(await self._websocket.receive_text())
            if said.view is not None:
                self._view = said.view
            if said.drawn is not None:
                self._drawn = min(max(self._drawn, said.drawn), self._sent)
            self._said.set()

    async def _send_on(self) -> None:
        now = asyncio.get_running_loop().time
        due = now()
        while True:
            due = max(due + 1 / FRAMES, now())
            await asyncio.sleep(due - now())
            while self._view is None or self._sent - self._drawn >= _ON_THE_WAY:
                self._said.clear()
                await self._said.wait()
            try:
                with_health = now() >= self._next_health
                message = await asyncio.to_thread(self._message, self._view, with_health)
                if message is None:
                    continue
                if with_health:
                    self._next_health = now() + _HEALTH_EVERY
                await self._websocket.send_bytes(message)
            except (WebSocketDisconnect, RuntimeError):
                return  # it has gone; the listener ends too
            except Exception:
                log.exception("a browser is let go")
                await self._websocket.close(1011)
                return

    def _message(self, view: View, with_health: bool) -> bytes | None:
        head: dict[str, Any] = {}
        values = b""
        feed, store = self._feed, self._feed.store
        signal = None
        with feed.lock:
            columns = self._picture.advance(store, view)
            segment = store.segment
            if columns is not None and segment is not None:
                head["columns"] = {
                    "anew": columns.anew, "width": columns.width, "first": columns.first,
                    "shown": columns.shown, "n": columns.values.shape[1],
                }  # fmt: skip
                values = columns.values.astype("<f4", copy=False).tobytes()
                if columns.anew:
                    head["columns"]["names"] = columns.names
            if segment is not None and store.epoch != self._told_epoch:
                head["layout"] = {
                    "instance": store.instance, "names": segment.ch_names, "units": segment.units,
                    "sfreq": segment.sfreq,
                }  # fmt: skip
            if (store.changes, store.epoch) != (self._told_changes, self._told_epoch) or (
                columns and columns.anew
            ):
                head["happenings"] = [astuple(each) for each in store.happenings(self._picture.left)]
                self._told_changes, self._told_epoch = store.changes, store.epoch
            if with_health and segment is not None and view.spectrum in segment.ch_names:
                start = max(store.first, store.stop - round(_SPECTRUM_OVER * segment.sfreq))
                signal = store.rows(start, store.stop)[:, segment.ch_names.index(view.spectrum)]
        if signal is not None and segment is not None:
            found = spectrum.amplitude(signal, segment.sfreq)
            if found is not None:
                density = [float(f"{value:.4g}") for value in found[1]]
                head["spectrum"] = {"channel": view.spectrum, "hz": found[0].tolist(), "density": density}
        if with_health:
            head["health"] = feed.health
        if not head:
            return None
        self._sent += 1
        head["number"] = self._sent
        text = json.dumps(head, allow_nan=False).encode()
        text += b" " * (-len(text) % 4)  # so that the columns lie where a Float32Array may begin
        return struct.pack("<I", len(text)) + text + values
