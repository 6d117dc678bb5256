"""Who is let in: the hub's CURVE keys, the folder of its clients' keys, and the answer to each handshake.

Rule: closed unless a key is on the list, and read-only where the list says so. A list that cannot be read is
an empty list, a check that fails is a refusal, and neither ends the checking. libzmq asks over inproc (ZAP,
https://rfc.zeromq.org/spec/27); the hub's one loop answers, so there is no thread that could die of an error
and shut out everybody.
Not here: what is behind the door, encryption itself (libzmq's CURVE).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

import zmq
from zmq.utils import z85

from rdahub import limits
from rdahub.seldom import Seldom
from rdahub_client.errors import KeyFileError
from rdahub_client.keys import KeyPair, read_public, read_secret

__all__ = ["AllowList", "Doorkeeper"]

log = logging.getLogger(__name__)

_DOMAIN: Final = b"rdahub"
"""ZAP domain of both sockets. Were it empty, a hub whose check is missing would let in anybody."""
_ENFORCE_DOMAIN: Final = 93
"""ZMQ_ZAP_ENFORCE_DOMAIN (libzmq >= 4.3): without an answer nobody comes in; pyzmq does not name it."""
READ_ONLY: Final = "read-only"
"""Folder in that of the clients' keys, of those that may only read."""
_ALLOWED: Final = b"200"
_REFUSED: Final = b"400"


class AllowList:
    """Public keys of the clients that may come in, as the ``.key`` files of a folder.

    Those in its folder ``read-only`` may not insert markers; a key in both may not either.

    Parameters
    ----------
    folder : Path
    always : dict of bytes to str
        Keys that are allowed besides, with their names.
    """

    def __init__(self, folder: Path, always: dict[bytes, str]) -> None:
        self.folder = folder
        self._always = always
        self._names = dict(always)
        self._seen: tuple[object, ...] | None = ()
        self._perhaps_inside: set[bytes] = set()
        self.refresh()

    def name(self, key: bytes) -> str | None:
        """Whose key this is (40 characters of Z85), None if nobody's."""
        return self._names.get(key)

    def may_write(self, key: bytes) -> bool:
        """Whether this key may insert markers, by what the list says now."""
        name = self._names.get(key)
        return name is not None and not name.startswith(f"{READ_ONLY}/")

    def __len__(self) -> int:
        return len(self._names) - len(self._always)

    def refresh(self) -> bool:
        """Read the folder again if it changed. True if somebody who may be inside is no longer on the list.

        A folder that cannot be read lets nobody new in; that is no reason to throw out those inside.
        """
        try:
            files = self._files()
        except OSError as error:
            if self._seen is not None:
                log.warning("nobody new is let in: --curve-clients %s: %s", self.folder, error.strerror)
            self._seen, self._names = None, dict(self._always)
            return False
        seen = tuple((str(path), *_fingerprint(path)) for path in files)
        if seen == self._seen:
            return False
        names = self._read(files)
        if self._perhaps_inside - set(names) - set(self._always):
            names = self._read(self._files())  # a file may have been moved to the other folder meanwhile
        self._seen, self._names = seen, {**names, **self._always}
        log.info("%d clients are let in, by the keys in %s", len(self), self.folder)
        gone = self._perhaps_inside - set(self._names)
        self._perhaps_inside = set(self._names) if gone else self._perhaps_inside | set(self._names)
        return bool(gone)

    def _files(self) -> list[Path]:
        """All key files, those of ``read-only`` last: of a key in both, that is what holds."""
        inner = self.folder / READ_ONLY
        return [*_keys_in(self.folder), *(_keys_in(inner) if inner.exists() else ())]

    def _read(self, files: list[Path]) -> dict[bytes, str]:
        names = {}
        for path in files:
            try:
                names[read_public(path)] = path.relative_to(self.folder).with_suffix("").as_posix()
            except KeyFileError as error:
                log.warning("a key that lets nobody in: %s", error)
        return names


def _keys_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix == ".key")


def _fingerprint(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:  # it went this very moment, or points nowhere
        return ()
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


class Doorkeeper:
    """The hub's keys and its answers to libzmq.

    Parameters
    ----------
    context : zmq.Context
        Of the sockets to guard; there is one doorkeeper in a context.
    secret : Path
        The hub's ``.key_secret`` file.
    clients : Path
        Folder of ``.key`` files.

    Attributes
    ----------
    socket : zmq.Socket
        Readable when there is something to `answer`.
    local : KeyPair
        A pair made for readers on this machine: whoever may read the hub's shared memory, may have it.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], secret: Path, clients: Path) -> None:
        self.pair = read_secret(secret)
        self.local = KeyPair.make()
        self._list = AllowList(clients, {self.local.public: "this machine"})
        self._seldom = Seldom(log)
        self._must_go = False
        self.socket = context.socket(zmq.ROUTER)
        self.socket.linger = 0
        self.socket.bind("inproc://zeromq.zap.01")
        if not len(self._list):
            log.warning("no client is let in yet: there is no .key file in %s", clients)

    def guard(self, socket: zmq.Socket[bytes]) -> None:
        """Have a socket let in only whom this doorkeeper knows. Before it is bound."""
        socket.curve_server = True
        socket.curve_publickey, socket.curve_secretkey = self.pair.public, self.pair.secret
        socket.zap_domain = _DOMAIN
        socket.set(_ENFORCE_DOMAIN, 1)

    def refresh(self) -> bool:
        """Take up changes of the folder. True if somebody inside must go."""
        must_go = self._list.refresh() or self._must_go
        self._must_go = False
        return must_go

    def answer(self) -> int:
        """Answer what libzmq asks, some of it; the rest waits for a turn. Returns how many were refused."""
        refused = 0
        for _ in range(limits.HANDSHAKES):
            try:
                question = self.socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                break
            try:
                code, user = self._decide(question)
            except Exception as error:  # noqa: BLE001 - whatever it is, this one stays out and the next is asked
                self._seldom.warn(f"an error of the hub's own, so this handshake is refused: {error!r}")
                code, user = b"500", b""
            refused += code != _ALLOWED
            # sender, empty, version, request id | status code, status text, user id, metadata
            answer = [*question[:2], b"1.0", *question[3:4], code, b"", user, b""]
            self.socket.send_multipart(answer, zmq.DONTWAIT)
        return refused

    def may_write(self, frame: zmq.Frame) -> bool:
        """Whether its sender may insert markers: libzmq says with each message by whose key it came."""
        try:
            return self._list.may_write(str(frame.get("User-Id")).encode())
        except zmq.ZMQError:
            return False

    def _decide(self, question: list[bytes]) -> tuple[bytes, bytes]:
        """Status code, and as the user's id the key: its role may change while its owner is inside."""
        _, _, version, _, domain, address, _, mechanism, *credentials = question
        if (version, domain, mechanism, len(credentials)) == (b"1.0", _DOMAIN, b"CURVE", 1):
            key = z85.encode(credentials[0])
            name = self._list.name(key)
            if name is None:  # perhaps it has just been added
                self._must_go |= self._list.refresh()
                name = self._list.name(key)
            if name is not None:
                log.debug("%s comes in from %s", name, address.decode(errors="replace"))
                return _ALLOWED, key
            who = f"key {key.decode()}"
        else:
            who = f"a peer with {mechanism.decode(errors='replace')} credentials"
        self._seldom.warn(
            f"refused {who} from {address.decode(errors='replace')}: not in {self._list.folder}"
        )
        return _REFUSED, b""

    def close(self) -> None:
        """Let nobody in any more."""
        self.socket.close()
