"""The process that announces a hub by mDNS and DNS-SD; `announce` starts it.

Rule: it answers whoever asks on the interfaces the hub listens on, follows them as networks come and go, and
says goodbye when its standard input ends. mDNS itself is IPv4 here, whatever the hub's address.
Not here: what is announced (`announce`).
"""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import sys
import threading
from typing import Any, Final

import ifaddr
from zeroconf import IPVersion, ServiceInfo, Zeroconf

from rdahub.companion import take_order
from rdahub_client.discovery import SERVICE

__all__ = ["main", "places"]

_LOOK_AGAIN: Final = 5.0  # s; for a network that comes after the hub, as at boot


def places(endpoint: str, ours: list[str]) -> tuple[list[str], list[str]]:
    """Interfaces to speak on, and addresses to name.

    Parameters
    ----------
    endpoint : str
        Where the hub listens, ``tcp://address:port``.
    ours : list of str
        All addresses of this machine.
    """
    address = ipaddress.ip_address(endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]"))
    known = [ipaddress.ip_address(text.partition("%")[0]) for text in ours]
    outside = [
        each for each in known if not each.is_loopback and not (each.version == 6 and each.is_link_local)
    ]
    if address.is_loopback or not outside:
        return ["127.0.0.1"], [str(address) if address.is_loopback else "127.0.0.1"]
    of_v4 = [str(each) for each in outside if each.version == 4]
    if not address.is_unspecified:
        return ([str(address)] if address.version == 4 else of_v4), [str(address)]
    return of_v4, [str(each) for each in outside if address.version == 6 or each.version == 4]


def _addresses() -> list[str]:
    ips = [ip.ip for adapter in ifaddr.get_adapters() for ip in adapter.ips]
    return sorted({ip if isinstance(ip, str) else ip[0] for ip in ips})


def _speak(order: dict[str, Any], interfaces: list[str], addresses: list[str]) -> Zeroconf:
    properties = order["properties"]
    instance = properties["instance"]
    network = Zeroconf(interfaces, ip_version=IPVersion.V4Only)
    network.register_service(
        ServiceInfo(
            SERVICE,
            f"{properties['name'][:40]} {instance}.{SERVICE}",
            port=int(order["query"].rpartition(":")[2]),
            parsed_addresses=addresses,
            properties=properties,
            server=f"rdahub-{instance}.local.",  # the machine's own name is its own responder's
        ),
        cooperating_responders=True,  # nobody else has this instance: no need to ask first
    )
    return network


def _await_end(ended: threading.Event) -> None:
    sys.stdin.read()
    ended.set()


def main() -> None:
    """Announce until standard input ends; the first line says that it has begun."""
    order = take_order()
    logging.getLogger("zeroconf").setLevel(logging.CRITICAL)  # networks come and go
    ended = threading.Event()
    threading.Thread(target=_await_end, args=(ended,), daemon=True).start()
    print(json.dumps({}), flush=True)  # noqa: T201 - `companion` reads it
    while not ended.is_set():
        now = places(order["query"], _addresses())
        try:
            network = _speak(order, *now)
        except OSError:  # the interface is not there, or no more
            ended.wait(_LOOK_AGAIN)
            continue
        while not ended.wait(_LOOK_AGAIN) and places(order["query"], _addresses()) == now:
            pass
        network.close()  # with a goodbye
    os._exit(0)  # whatever its threads do


if __name__ == "__main__":
    main()
