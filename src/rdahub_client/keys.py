"""CURVE keys: files in pyzmq's certificate format -> keys on a socket.

Rule: a key file that is not what it should be is refused with the reason; a secret that others can read is no
secret and is refused too. Keys are never printed.
Not here: who is let in (`rdahub.doorkeeper`), what a refusal looks like on a socket (`query`).
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

import zmq
from zmq.utils import z85

from rdahub_client.errors import KeyFileError

__all__ = ["ClientKeys", "KeyFile", "KeyPair", "client_keys", "read_public", "read_secret"]

KeyFile: TypeAlias = str | os.PathLike[str]

_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A public key and its secret key, 40 characters of Z85 each."""

    public: bytes
    secret: bytes = field(repr=False)

    @classmethod
    def make(cls) -> KeyPair:
        """Make a new pair."""
        return cls(*zmq.curve_keypair())


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """What a client needs: its own pair, and the public key of the one hub it means to talk to."""

    own: KeyPair
    server: bytes

    def lock(self, socket: zmq.Socket[bytes]) -> None:
        """Have a socket talk to that hub only, and nobody listen in. Before it connects."""
        socket.curve_publickey, socket.curve_secretkey = self.own.public, self.own.secret
        socket.curve_serverkey = self.server


def client_keys(curve_key: KeyFile | None, server_key: KeyFile | None) -> ClientKeys | None:
    """Keys from the two files a client is given; None if it is given none.

    Parameters
    ----------
    curve_key : path or None
        The client's own ``NAME.key_secret``.
    server_key : path or None
        The hub's ``NAME.key``.

    Raises
    ------
    KeyFileError
        Only one is given, or a file is not what it should be.
    """
    if curve_key is None and server_key is None:
        return None
    if curve_key is None or server_key is None:
        raise KeyFileError(
            "an encrypted connection needs both: curve_key, this client's own .key_secret file, and "
            "server_key, the hub's .key file"
        )
    if _holds_secret(Path(server_key)):
        raise KeyFileError(
            f"{os.fspath(server_key)} holds a secret key; server_key is the hub's .key file, "
            "and its .key_secret file belongs on the hub's machine alone"
        )
    return ClientKeys(read_secret(curve_key), read_public(server_key))


def read_public(path: KeyFile) -> bytes:
    """Public key of a ``.key`` or ``.key_secret`` file, as 40 characters of Z85.

    Raises
    ------
    KeyFileError
    """
    return _read(Path(path))[0]


def read_secret(path: KeyFile) -> KeyPair:
    """Both keys of a ``.key_secret`` file, which nobody but its owner may be able to read.

    Raises
    ------
    KeyFileError
    """
    path = Path(path)
    public, secret = _read(path)
    if secret is None:
        raise KeyFileError(f"{path} holds no secret key; is it the .key file instead of the .key_secret?")
    if os.name == "posix" and (mode := path.stat().st_mode & 0o777) & 0o077:
        raise KeyFileError(f"{path} can be read by others (mode {mode:04o}); say: chmod 600 {path}")
    if zmq.curve_public(secret) != public:
        raise KeyFileError(f"{path}: the public key does not belong to the secret key; make a new pair")
    return KeyPair(public, secret)


def _holds_secret(path: Path) -> bool:
    return _read(path)[1] is not None


def _read(path: Path) -> tuple[bytes, bytes | None]:
    if path.exists() and not path.is_file():
        raise KeyFileError(f"{path} is no file")
    import zmq.auth  # noqa: PLC0415 - it loads logging and more, and few clients have keys

    try:
        public, secret = zmq.auth.load_certificate(path)
    except OSError as error:
        reason = error.strerror or "no such file"
        raise KeyFileError(f"{path}: {reason[0].lower()}{reason[1:]}") from None
    except (ValueError, IndexError):
        raise KeyFileError(f"{path} is no key file; `rdahub keygen` makes them") from None
    for key in (public, secret):
        if key is not None and not _is_key(key):
            raise KeyFileError(f"{path}: a key in it is damaged; `rdahub keygen` makes new ones")
    return public, secret


def _is_key(text: bytes) -> bool:
    try:
        return len(text) == 40 and len(z85.decode(text)) == _KEY_BYTES
    except (ValueError, KeyError, struct.error):
        return False
