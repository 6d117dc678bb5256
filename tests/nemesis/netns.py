"""Networks of their own for tests: namespaces, cables between them, and links with bad weather.

Rule: a namespace has no name and no file; it lives as long as a descriptor, a thread or a child is in it, so
nothing is left even by a run that is killed. Whoever is started or opens a socket inside ``with
namespace.entered():`` stays in there: children (`processes.Hub`), servers, a `Client` (its libzmq thread is
born at `connect`), a `LocalClient` (at `start_streaming`). Addresses are of 198.18.0.0/15, which is for tests
of networks and nothing else. A rough link is a TUN device at each end and a thread between them, for kernels
without netem.
Linux, root and iproute2; `needs_namespaces` skips elsewhere. Not here: faults of TCP's own making (`proxy`).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import ipaddress
import itertools
import os
import random
import select
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pytest

CLONE_NEWNET: Final = 0x40000000
TUNSETIFF: Final = 0x400454CA
IFF_TUN_NO_PI: Final = 0x1001
OVERTAKEN: Final = 0.005, 0.03  # s that a datagram is held back so that later ones pass it
_POOL: Final = ipaddress.ip_network("198.18.0.0/15")
_numbers = itertools.count()


def _libc(function: str, *arguments: int) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), function)(*arguments):  # os.setns is of Python 3.12
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")


def _here() -> int:
    """The namespace this thread is in."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


class Namespace:
    """A network of its own, with nothing but loopback."""

    def __init__(self) -> None:
        before = _here()
        try:
            _libc("unshare", CLONE_NEWNET)
            try:
                self.fd = _here()
            finally:
                _libc("setns", before, CLONE_NEWNET)
        finally:
            os.close(before)
        self.ip("link", "set", "lo", "up")

    @property
    def path(self) -> str:
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """This thread, and what it opens or starts, is in there."""
        before = _here()
        try:
            _libc("setns", self.fd, CLONE_NEWNET)
            yield
        finally:
            _libc("setns", before, CLONE_NEWNET)
            os.close(before)

    def ip(self, *arguments: str) -> None:
        with self.entered():
            done = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True)
        if done.returncode:
            raise OSError(f"ip {' '.join(arguments)}: {done.stderr}")

    def close(self) -> None:
        os.close(self.fd)


class Link:
    """What joins two namespaces; a subclass makes a device called `device` at each end."""

    def __init__(self, left: Namespace, right: Namespace) -> None:
        number = next(_numbers)
        self.device = f"rda{number}"
        self.ends = left, right
        self.left, self.right = (str(_POOL[4 * number + k]) for k in (1, 2))
        self._open()
        for namespace, address in ((left, self.left), (right, self.right)):
            namespace.ip("addr", "add", f"{address}/30", "dev", self.device)
            namespace.ip("link", "set", self.device, "up")

    def _open(self) -> None:
        raise NotImplementedError

    def down(self) -> None:
        """Pull the plug of the right end."""
        self.ends[1].ip("link", "set", self.device, "down")

    def up(self) -> None:
        self.ends[1].ip("link", "set", self.device, "up")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.ends[0].ip("link", "del", self.device)


class Cable(Link):
    """A veth pair: fast and faultless until its plug is pulled."""

    def _open(self) -> None:
        left, right = self.ends
        left.ip("link", "add", self.device, "type", "veth", "peer", "name", self.device, "netns", right.path)


@dataclass
class Weather:
    """What befalls datagrams of one direction; every field may be changed at any time.

    Attributes
    ----------
    latency, jitter : float
        Seconds on the way, and up to how many more; by themselves they keep the order.
    loss, duplicate, reorder : float
        Probabilities.
    partitioned : bool
        Everything vanishes in silence.
    """

    latency: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    partitioned: bool = False
    passed: int = 0
    lost: int = 0
    duplicated: int = 0
    held_back: int = 0
    _last: float = 0.0

    def arrivals(self, now: float, rng: random.Random) -> list[float]:
        """When a datagram that set out now arrives, how often ever that is."""
        if self.partitioned or rng.random() < self.loss:
            self.lost += 1
            return []
        self.passed += 1
        arrival = self._last = max(self._last, now + self.latency + rng.uniform(0, self.jitter))
        if rng.random() < self.reorder:
            self.held_back += 1
            arrival += rng.uniform(*OVERTAKEN)
        if rng.random() < self.duplicate:
            self.duplicated += 1
            return [arrival, arrival + rng.uniform(0, 0.005)]
        return [arrival]


class RoughLink(Link):
    """Two TUN devices, and a thread that carries datagrams between them through two weathers."""

    def __init__(self, left: Namespace, right: Namespace, seed: int) -> None:
        self.there, self.back = Weather(), Weather()
        self._rng = random.Random(seed)
        self._tuns: list[int] = []
        super().__init__(left, right)
        self._closing = False
        self._thread = threading.Thread(target=self._carry, name="rough link", daemon=True)
        self._thread.start()

    def set(self, **weather: float) -> None:
        """Change the weather of both directions."""
        for direction in (self.there, self.back):
            for name, value in weather.items():
                assert hasattr(direction, name), name
                setattr(direction, name, value)

    def _open(self) -> None:
        for namespace in self.ends:
            with namespace.entered():
                self._tuns.append(os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
                fcntl.ioctl(
                    self._tuns[-1], TUNSETIFF, struct.pack("16sH22x", self.device.encode(), IFF_TUN_NO_PI)
                )

    def _carry(self) -> None:
        under_way: list[tuple[float, int, int, bytes]] = []
        order = itertools.count()
        left, right = self._tuns
        routes = {left: (right, self.there), right: (left, self.back)}
        while not self._closing:
            wait = under_way[0][0] - time.monotonic() if under_way else 0.05
            for tun in select.select(self._tuns, [], [], min(max(wait, 0.0), 0.05))[0]:
                other, weather = routes[tun]
                with contextlib.suppress(BlockingIOError):
                    for _ in range(64):
                        datagram, now = os.read(tun, 65536), time.monotonic()
                        for arrival in weather.arrivals(now, self._rng):
                            heapq.heappush(under_way, (arrival, next(order), other, datagram))
            now = time.monotonic()
            while under_way and under_way[0][0] <= now:
                with contextlib.suppress(OSError):  # its plug is pulled
                    os.write(under_way[0][2], under_way[0][3])
                heapq.heappop(under_way)

    def close(self) -> None:
        self._closing = True
        self._thread.join()
        for tun in self._tuns:
            os.close(tun)


class Network:
    """Namespaces and links that end with it.

    Parameters
    ----------
    seed : int
        Of the weather of its rough links.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seeds = random.Random(seed)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def namespace(self) -> Namespace:
        made = Namespace()
        self._stack.callback(made.close)
        return made

    def cable(self, left: Namespace, right: Namespace) -> Cable:
        made = Cable(left, right)
        self._stack.callback(made.close)
        return made

    def rough(self, left: Namespace, right: Namespace) -> RoughLink:
        made = RoughLink(left, right, self._seeds.randrange(2**32))
        self._stack.callback(made.close)
        return made


def _why_not() -> str:
    """Why namespaces cannot be had; empty if they can."""
    if sys.platform != "linux" or not shutil.which("ip"):
        return "network namespaces need Linux with iproute2"
    try:
        with Network() as network:
            network.rough(network.namespace(), network.namespace())
    except OSError as error:
        return f"network namespaces need root and /dev/net/tun ({error})"
    return ""


_reason: Final = _why_not()
needs_namespaces = pytest.mark.skipif(bool(_reason), reason=_reason or "they can be had")
