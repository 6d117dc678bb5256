"""What users may write for a hub's address."""

from __future__ import annotations

from typing import Any

import pytest

from rdahub_client.address import publish_endpoint, query_endpoint


@pytest.mark.parametrize(
    ("address", "endpoint"),
    [
        ("localhost", "tcp://localhost:5570"),
        ("127.0.0.1", "tcp://127.0.0.1:5570"),
        ("lab-pc.example.org:6000", "tcp://lab-pc.example.org:6000"),
        ("", "tcp://127.0.0.1:5570"),
        (":6000", "tcp://127.0.0.1:6000"),
        ("tcp://", "tcp://127.0.0.1:5570"),
        ("tcp://10.0.0.1", "tcp://10.0.0.1:5570"),
        ("tcp://10.0.0.1:1", "tcp://10.0.0.1:1"),
        ("tcp://10.0.0.1:65535", "tcp://10.0.0.1:65535"),
        ("::1", "tcp://[::1]:5570"),
        ("[::1]", "tcp://[::1]:5570"),
        ("[::1]:6000", "tcp://[::1]:6000"),
        ("fe80::1%eth0", "tcp://[fe80::1%eth0]:5570"),
        ("tcp://[fe80::1%eth0]:6000", "tcp://[fe80::1%eth0]:6000"),
        ("tcp://[2001:db8::7]", "tcp://[2001:db8::7]:5570"),
        (("127.0.0.1", 5570), "tcp://127.0.0.1:5570"),
        (("", 6000), "tcp://127.0.0.1:6000"),
        (("::1", 6000), "tcp://[::1]:6000"),
        (("[::1]", 6000), "tcp://[::1]:6000"),
        (("host", "6000"), "tcp://host:6000"),
        ("ipc:///run/rdahub/query", "ipc:///run/rdahub/query"),
        ("ipc://@abstract", "ipc://@abstract"),
    ],
)
def test_an_address_leads_to_this_endpoint(address: Any, endpoint: str) -> None:
    assert query_endpoint(address) == endpoint


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("host:0", "a port is a number from 1 to 65535"),
        ("host:65536", "a port is a number from 1 to 65535"),
        ("host:-1", "a port is a number"),
        ("host:http", "a port is a number"),
        ("host:", "a port is a number"),
        ("tcp://host:*", "a port is a number"),
        ("[::1]:x", "a port is a number"),
        (("host", 0), "a port is a number"),
        (("host", "x"), "a port is a number"),
        (("host", None), "a port is a number"),
        (("host",), r"an address is \(host, port\)"),
        (("host", 1, 2), r"an address is \(host, port\)"),
        ((), r"an address is \(host, port\)"),
        ("ipc://", "only tcp:// and ipc://"),
        ("inproc://query", "only tcp:// and ipc://"),
        ("udp://host:5570", "only tcp:// and ipc://"),
        ("http://host", "only tcp:// and ipc://"),
        ("://host", "only tcp:// and ipc://"),
        (None, "an address is"),
        (5570, "an address is"),
        (b"host", "an address is"),
        (["host", 5570], "an address is"),
    ],
)
def test_what_names_no_hub_is_a_valueerror_that_says_why(address: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        query_endpoint(address)


@pytest.mark.parametrize(
    ("query", "port", "endpoint"),
    [
        ("tcp://127.0.0.1:5570", 5571, "tcp://127.0.0.1:5571"),
        ("tcp://lab-pc:15570", 49152, "tcp://lab-pc:49152"),
        ("tcp://[fe80::1%eth0]:5570", 5571, "tcp://[fe80::1%eth0]:5571"),
        ("ipc:///run/query", None, "ipc:///run/publish"),
        ("ipc:///run/query", 5571, "ipc:///run/publish"),
        ("tcp://127.0.0.1:5570", None, "ipc:///run/publish"),
    ],
)
def test_the_publish_socket_is_on_the_host_the_query_socket_was_reached_at(
    query: str, port: int | None, endpoint: str
) -> None:
    assert publish_endpoint(query, port, "ipc:///run/publish") == endpoint
