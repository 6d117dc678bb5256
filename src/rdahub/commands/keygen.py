"""``rdahub keygen``: a CURVE key pair in pyzmq's certificate format."""

from __future__ import annotations

import os
from pathlib import Path

import zmq.auth

from rdahub.config import KeygenSettings, SettingError


def run(settings: KeygenSettings) -> int:
    """Write NAME.key and NAME.key_secret (mode 0600); existing keys are never overwritten."""
    folder: Path = settings.folder
    if not settings.name or Path(settings.name).name != settings.name:
        raise SettingError(f"--name {settings.name!r} must be a plain file name")
    folder.mkdir(parents=True, exist_ok=True)
    for suffix in ("key", "key_secret"):
        path = folder / f"{settings.name}.{suffix}"
        if path.exists():
            raise FileExistsError(0, "exists; a key is not overwritten, choose another --name", str(path))
    mask = os.umask(0o077)  # the secret is never readable by others, not even for a moment
    try:
        public, secret = zmq.auth.create_certificates(folder, settings.name)
    finally:
        os.umask(mask)
    Path(public).chmod(0o644)
    print(f"{public}\n{secret}")
    return 0
