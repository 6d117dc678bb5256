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
    from concurrent.futures import Future

    from zeroconf import ServiceInfo, Zeroconf

__all__ = ["SERVICE", "WORD", "FoundHub", "can_look_around", "find_address", "find_hubs", "fingerprint"]

SERVICE: Final = "_rdahub._tcp.local."
"""The type of service that hubs are announced as."""
WORD: Final = re.compile(r"[A-Za-z0-9._+-]{0,64}")
"""What strangers may say: nothing that a terminal would obey."""
INSTALL: Final = "to look in the network too: pip install 'rdahub[zeroconf]'"

_LOOK: Final = 1.5  # s; hubs answer within 0.2 s, and again after 1 s if that was lost
_CONNECT: Final = 0.5  # s for one of a hub's addresses to answer
_ASK: Final = 0.2  # s at least to ask about what was heard of last
_MOST: Final = 256  # announcements looked into; where there are more, somebody floods the network
_UNDER_WAY: Final = (0, errno.EINPROGRESS, errno.EWOULDBLOCK)
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ENDPOINT: Final = re.compile(r"tcp://[A-Za-z0-9.:%\[\]_-]+|ipc://[^\x00-\x1f\x7f-\x9f]+")


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
            if not path.is_file():
                continue  # to open a pipe could take for ever
            hub = _of_file(name, directory)
        except (SharedMemoryError, OSError):  # dead, just starting, or another user's
            continue
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
            continue  # no hub wrote this: the folder may be everybody's
        yield hub


def _of_file(name: str, directory: Path) -> FoundHub:
    with contextlib.closing(Attachment(name, directory)) as hub:
        keys = hub.description.get("keys")
        address = query_endpoint(from_here(hub.description["query"]))
        if not _ENDPOINT.fullmatch(address):
            raise ValueError(f"{address!r} is no endpoint")
        return FoundHub(
            name=name,
            address=address,
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
    import asyncio  # noqa: PLC0415 - 20 ms, for who looks around only
    from concurrent.futures import ThreadPoolExecutor, wait  # noqa: PLC0415

    from zeroconf import (  # noqa: PLC0415 - an extra
        DNSQuestionType,
        InterfaceChoice,
        IPVersion,
        ServiceBrowser,
        ServiceInfo,
        ServiceStateChange,
        Zeroconf,
    )

    until = time.monotonic() + seconds
    asked: dict[str, Future[ServiceInfo | None]] = {}

    async def ask(zeroconf: Zeroconf, name: str) -> ServiceInfo | None:
        info = ServiceInfo(SERVICE, name)
        milliseconds = 1000 * max(_ASK, until - time.monotonic())
        return info if await info.async_request(zeroconf, milliseconds, DNSQuestionType.QM) else None

    def note(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:  # noqa: ARG001
        """Ask about all at the same time: one that does not answer must not hide the others."""
        asked.pop(name, None)
        if state_change is not ServiceStateChange.Removed and len(asked) < _MOST and zeroconf.loop:
            asked[name] = asyncio.run_coroutine_threadsafe(ask(zeroconf, name), zeroconf.loop)

    try:
        with Zeroconf(InterfaceChoice.All, ip_version=IPVersion.V4Only) as network:
            # Asked for an answer to itself alone (QU), it might go to another program of this machine.
            browser = ServiceBrowser(network, SERVICE, [note], question_type=DNSQuestionType.QM)
            time.sleep(max(0.0, until - time.monotonic()))  # all of it: there may be another one
            browser.cancel()  # notes nothing more from here on
            answers = wait(asked.values(), 2 * _ASK).done
    except OSError:  # there is no network
        return
    there = [each.result() for each in answers if each.exception() is None]  # or else it was no name
    with ThreadPoolExecutor(32) as pool:  # addresses are tried
        yield from filter(None, pool.map(_read, filter(None, there)))


def _read(info: ServiceInfo) -> FoundHub | None:
    """What an announcement says; None if it is no hub's."""
    text = {key.decode("ascii", "replace"): value or b"" for key, value in info.properties.items()}
    said = {key: value.decode("ascii", "replace") for key, value in text.items()}
    words = [said.get(key, "") for key in ("name", "instance", "host", "version", "key")]
    name, instance, host, version, key = words
    addresses = info.parsed_scoped_addresses()
    if not (_NAME.fullmatch(name) and instance and all(map(WORD.fullmatch, words))):
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
