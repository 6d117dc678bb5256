"""Who may look: the token, and which pages may open the socket.

Rule: on loopback without a token the reader's own browser is let in, and nothing a foreign page makes it
send: the name asked for must be this machine's (else a name that was made to point here would do), and the
page must be ours. Any other listen address needs a token. It is compared in constant time. Pure.
"""

from __future__ import annotations

import hmac
import ipaddress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

__all__ = ["may_look", "needs_token", "read_token", "same_origin"]

_SHORTEST: Final = 16


def needs_token(host: str) -> bool:
    """Whether other machines could reach it."""
    return not _is_here(host)


def read_token(path: Path) -> str:
    """The token in a file: its first line, of at least 16 characters.

    Raises
    ------
    ValueError
        There is none, or it is too short to keep anybody out.
    """
    try:
        lines = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(lines) != 1 or len(lines[0]) < _SHORTEST:
        raise ValueError(f"{path} must hold one word of at least {_SHORTEST} characters: the token")
    return lines[0]


def may_look(token: str | None, shown: str | None, header: str | None, asked_host: str | None) -> bool:
    """Whether a request is let in.

    Parameters
    ----------
    token : str or None
        What must be shown; None on loopback.
    shown : str or None
        ``?token=`` of the request.
    header : str or None
        Its Authorization header, ``Bearer TOKEN``.
    asked_host : str or None
        Its Host header.
    """
    if token is None:
        return _is_here(_host(f"//{asked_host or ''}"))
    given = shown if shown is not None else (header or "").removeprefix("Bearer ")
    return hmac.compare_digest(given.encode(), token.encode())


def same_origin(origin: str | None, asked_host: str | None) -> bool:
    """Whether a socket is opened by our page, or by a program that is no browser (it sends no Origin)."""
    return origin is None or urlsplit(origin).netloc == asked_host


def _host(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
