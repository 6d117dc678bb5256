"""``rdahub serve``: run a hub until SIGTERM or SIGINT."""

from __future__ import annotations

from rdahub.config import ServeSettings
from rdahub.service import Hub


def run(settings: ServeSettings) -> int:
    """Serve; one line on stdout tells that clients can come."""
    Hub(settings, _announce).run()
    return 0


def _announce(query: str, publish: str, name: str, rda: str | None) -> None:
    more = "" if rda is None else f" rda={rda}"
    print(f"ready query={query} publish={publish} name={name}{more}", flush=True)
