"""``rdahub view``: a hub in a browser.

Rule: loopback unless told otherwise, and nothing without a token beyond. What it needs more than rdahub
itself is loaded here, so that its absence is one line. Not here: the page and its server (`rdahub.viewer`).
"""

from __future__ import annotations

import importlib.util
import logging
import socket
from typing import Final

from rdahub.config import SettingError, ViewSettings, listen_address
from rdahub.endpoints import BindError
from rdahub.viewer.access import read_token

_NEEDED: Final = ("starlette", "uvicorn", "websockets")
_GOODBYE: Final = 1  # s that browsers are given when it ends


def run(settings: ViewSettings) -> int:
    """Serve the page until Ctrl-C or SIGTERM; one line on stdout tells its address."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise SettingError(f"the viewer needs {', '.join(missing)}: pip install 'rdahub[view]'")
    import uvicorn  # noqa: PLC0415 - an extra

    from rdahub.viewer.feed import Feed  # noqa: PLC0415
    from rdahub.viewer.server import MOST_MESSAGE, application  # noqa: PLC0415

    token = None if settings.token_file is None else read_token(settings.token_file)
    listener = _listen(settings.listen)
    with listener:
        feed = Feed(settings.hub, settings.timeout, settings.curve_key, settings.server_key)
        feed.start()
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        config = uvicorn.Config(
            application(feed, token),
            log_config=None,
            access_log=False,  # an address may hold the token
            lifespan="on",
            server_header=False,
            ws="websockets-sansio",
            ws_max_size=MOST_MESSAGE,
            ws_per_message_deflate=False,  # noise does not pack
            timeout_graceful_shutdown=_GOODBYE,
        )
        print(f"ready url={_address(listener)}", flush=True)
        try:
            uvicorn.Server(config).run(sockets=[listener])
        finally:
            feed.close()
    return 0


def _listen(address: str) -> socket.socket:
    host, port = listen_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise BindError(f"--listen {address}: {error.strerror or error}") from None


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
