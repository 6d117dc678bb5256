"""Finding hubs: on this machine by their shared memory, in the network by mDNS (extra ``zeroconf``).

Rule: never guess. ``"auto"`` is the one hub there is; if there are several, whoever asks is told which. What
comes from the network is a hint by anybody who can speak there: only names that hubs have are taken, and who
it really is only keys can tell. Hubs of this machine are found without the extra.
Not here: announcing (`rdahub.announce`), connecting (`blocking`).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import queue
import re
import selectors
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from os import environ
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rdahub_client.address import Address, from_here, hub_wanted, query_endpoint
from rdahub_client.errors import HubUnreachable, SharedMemoryError
from rdahub_client.keys import ClientKeys
from rdahub_client.shared import Attachment, default_directory

if TYPE_CHECKING:
    from zeroconf import ServiceInfo, Zeroconf

__all__ = ["SERVICE", "FoundHub", "can_look_around", "find_address", "find_hubs", "fingerprint"]

SERVICE: Final = "_rdahub._tcp.local."
"""The type of service that hubs are announced as."""
INSTALL: Final = "to look in the network too: pip install 'rdahub[zeroconf]'"

_LOOK: Final = 1.5  # s; hubs answer within 0.2 s, and again after 1 s if that was lost
_CONNECT: Final = 0.5  # s for one of a hub's addresses to answer
_UNDER_WAY: Final = (0, errno.EINPROGRESS, errno.EWOULDBLOCK)
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_WORD: Final = re.compile(r"[A-Za-z0-9._+-]{0,64}")  # nothing that a terminal would obey


@dataclass(frozen=True, slots=True)
class FoundHub:
    """A hub that was found.

    Attributes
    ----------
    name : str
        Its ``--name``.
    address : str
        Query endpoint, as it is reached from here.
    host : str
        The machine it runs on.
    instance : str
    keys : bool
        Whether it wants keys.
    fingerprint : str
        Of its public key, as `fingerprint` makes it; empty without keys.
    version : str
        Of rdahub; empty for a hub of this machine.
    local : bool
        Whether it runs on this machine.
    state : str
        The Recorder's state, for a hub of this machine; empty elsewhere.
    """

    name: str
    address: str
    host: str
    instance: str
    keys: bool = False
    fingerprint: str = ""
    version: str = ""
    local: bool = False
    state: str = ""

    def __str__(self) -> str:
        return f"{self.name} at {self.address} (on {self.host}{', wants keys' if self.keys else ''})"


def fingerprint(public: bytes) -> str:
    """Tell public keys apart by 16 letters: enough to choose by, not to trust."""
    return hashlib.sha256(public).hexdigest()[:16]


def can_look_around() -> bool:
    """Whether hubs of other machines can be found: the extra ``zeroconf`` is installed."""
    try:
        import zeroconf  # noqa: F401, PLC0415 - an extra
    except ImportError:
        return False
    return True


def find_hubs(timeout: float = 2.0, shm_dir: Path | str | None = None) -> list[FoundHub]:
    """Look for hubs, on this machine and in the network.

    Parameters
    ----------
    timeout : float
        Seconds to listen to the network. Those on this machine are found at once.
    shm_dir : path, optional
        Where hubs of this machine have their shared memory; by default the variable RDAHUB_SHM_DIR says it,
        or it is where they have it by default.

    Returns
    -------
    hubs : list of FoundHub
        By name, those of this machine first. Without the extra ``zeroconf`` there are no others.
    """
    announced = list(_announced(timeout)) if can_look_around() else []
    local = list(_of_this_machine(Path(shm_dir or environ.get("RDAHUB_SHM_DIR") or default_directory())))
    known = {hub.instance for hub in local}
    others = [hub for hub in announced if hub.instance not in known]
    return sorted([*local, *others], key=lambda hub: (not hub.local, hub.name, hub.address))


def find_address(address: Address, timeout: float | None, keys: ClientKeys | None = None) -> str:
    """Endpoint of the hub that is meant.

    Parameters
    ----------
    address : str or tuple of (str, int)
        ``"auto"`` for the only hub there is, ``"auto:NAME"`` for the only one of this name, or an address.
    timeout : float or None
        Seconds until it counts as not there; half of it, 1.5 s at most, is always spent to see if there are
        others.
    keys : ClientKeys, optional
        The hub is then one that has this server key.

    Raises
    ------
    HubUnreachable
        There is none, or more than one.
    ValueError
        The address cannot be one.
    """
    name = hub_wanted(address)
    if name is None:
        return query_endpoint(address)
    if name and not _NAME.fullmatch(name):
        raise ValueError(f"{address!r}: the name of a hub is 1 to 64 letters, digits, '-' and '_'")
    began = time.monotonic()
    look = _LOOK if timeout is None else min(_LOOK, timeout / 2)
    while True:
        hubs = [
            hub
            for hub in find_hubs(look)
            if name in {"", hub.name} and (keys is None or hub.fingerprint == fingerprint(keys.server))
        ]
        if len(hubs) == 1:
            return hubs[0].address
        spent = time.monotonic() - began
        if hubs or not can_look_around() or (timeout is not None and spent + look > timeout):
            raise HubUnreachable(_why_not(name, keys, hubs, spent))


def _why_not(name: str, keys: ClientKeys | None, hubs: list[FoundHub], spent: float) -> str:
    what = f"hub named {name!r}" if name else "hub"
    if keys is not None:
        what += " with this server key"
    if hubs:
        listed = ", ".join(map(str, hubs))
        return f"there is more than one {what}: {listed}; say which, by its address or as auto:NAME"
    if not can_look_around():
        return f"no {what} on this machine; give its address, or {INSTALL}"
    return (
        f"no {what} on this machine, and none announced in the network within {spent:.1f} s; is it running, "
        "with --announce if on another machine? `rdahub list` shows all"
    )


# --- this machine ----------------------------------------------------------------------------------------


def _of_this_machine(directory: Path) -> Iterator[FoundHub]:
    for path in directory.glob("rdahub-*"):
        name = path.name.removeprefix("rdahub-")
        if not _NAME.fullmatch(name):
            continue  # a part of one
        try:
            hub = Attachment(name, directory)
        except (SharedMemoryError, OSError, ValueError):  # dead, just starting, or another user's
            continue
        hub.close()
        keys = hub.description.get("keys")
        yield FoundHub(
            name=name,
            address=from_here(hub.description["query"]),
            host=socket.gethostname(),
            instance=hub.instance,
            keys=bool(keys),
            fingerprint=fingerprint(keys[2].encode()) if keys else "",
            local=True,
            state=hub.state,
        )


# --- the network -----------------------------------------------------------------------------------------


def _announced(seconds: float) -> Iterator[FoundHub]:
    """Hubs that say they are there, within a time."""
    from zeroconf import (  # noqa: PLC0415 - an extra
        DNSQuestionType,
        InterfaceChoice,
        IPVersion,
        ServiceBrowser,
        ServiceStateChange,
        Zeroconf,
    )

    until = time.monotonic() + seconds
    news: queue.SimpleQueue[tuple[str, bool]] = queue.SimpleQueue()

    def note(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:  # noqa: ARG001
        news.put((name, state_change is not ServiceStateChange.Removed))

    there: dict[str, ServiceInfo | None] = {}
    try:
        with Zeroconf(InterfaceChoice.All, ip_version=IPVersion.V4Only) as network:
            # Asked for an answer to itself alone (QU), it might go to another program of this machine.
            browser = ServiceBrowser(network, SERVICE, [note], question_type=DNSQuestionType.QM)
            with contextlib.suppress(queue.Empty):
                while (left := until - time.monotonic()) > 0:
                    name, is_there = news.get(timeout=left)
                    milliseconds = max(200, round(1000 * (until - time.monotonic())))
                    there[name] = network.get_service_info(SERVICE, name, milliseconds) if is_there else None
            browser.cancel()
    except OSError:  # there is no network
        return
    for info in there.values():
        hub = None if info is None else _read(info)
        if hub is not None:
            yield hub


def _read(info: ServiceInfo) -> FoundHub | None:
    """What an announcement says; None if it is no hub's."""
    text = {key.decode("ascii", "replace"): value or b"" for key, value in info.properties.items()}
    said = {key: value.decode("ascii", "replace") for key, value in text.items()}
    words = [said.get(key, "") for key in ("name", "instance", "host", "version", "key")]
    name, instance, host, version, key = words
    addresses = info.parsed_scoped_addresses()
    if not (_NAME.fullmatch(name) and instance and all(map(_WORD.fullmatch, words))):
        return None
    if not addresses or not info.port:
        return None
    at = addresses[0] if len(addresses) == 1 else _first_to_answer(addresses, info.port)
    return FoundHub(name, query_endpoint((at, info.port)), host, instance, bool(key), key, version)


def _first_to_answer(addresses: list[str], port: int) -> str:
    """The one of a machine's addresses that leads there from here; the first if none does."""
    until = time.monotonic() + _CONNECT
    with contextlib.ExitStack() as stack:
        watch = stack.enter_context(selectors.DefaultSelector())
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with contextlib.suppress(OSError):
                attempt = stack.enter_context(socket.socket(family))
                attempt.setblocking(False)
                if attempt.connect_ex((address.partition("%")[0], port)) in _UNDER_WAY:
                    watch.register(attempt, selectors.EVENT_WRITE, address)
        while watch.get_map() and (left := until - time.monotonic()) > 0:
            for key, _ in watch.select(left):
                one: Any = key.fileobj
                if one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                    return str(key.data)
                watch.unregister(one)
    return addresses[0]
