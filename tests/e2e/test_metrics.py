"""`rdahub serve --metrics`: what Prometheus gets from a real hub, and that asking harms nobody."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from processes import PATIENCE, Child, Hub, hub, simulator, unique_name
from rdahub_client import Client, LocalClient

CASES = Path(__file__).parents[1] / "data" / "rda" / "cases"
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
DASHBOARD = Path(__file__).parents[2] / "docs" / "grafana" / "rdahub.json"
ANY_PORT = ("--metrics", "127.0.0.1:0")

Values = dict[str, float]


def address(server: Hub) -> str:
    return server.wait_for(r"metrics for Prometheus at (http://\S+/metrics)", "stderr")[1]


def scrape(url: str) -> Values:
    """What Prometheus would store: sample with labels -> value."""
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:  # noqa: S310 - http
        text = answer.read().decode()
    return {
        sample.name + json.dumps(sample.labels, sort_keys=True): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def until(url: str, enough: Callable[[Values], bool]) -> Values:
    """Ask until it is so; an answer is fresh after a second."""
    deadline = time.monotonic() + PATIENCE
    while True:
        values = scrape(url)
        if enough(values):
            return values
        assert time.monotonic() < deadline, values
        time.sleep(0.2)


def of(values: Values, name: str, **labels: str) -> float:
    return values[f"rdahub_{name}{json.dumps(labels, sort_keys=True)}"]


def test_the_numbers_are_the_hubs_own() -> None:
    with simulator("--dump", str(CASES / "ok_gap.rda")) as sim, hub(sim.rda, *ANY_PORT) as server:
        url = address(server)
        with Client() as client:
            client.connect(server.query)
            client.start_streaming()
            assert client.wait(0, 50, timeout=30) is not None
            values = until(url, lambda values: of(values, "segment_ends_total", reason="stop") == 1)
            status = json.loads(output("status", server.query, "--json"))
        assert of(values, "up") == 1
        for name in ("blocks", "samples", "markers", "segments", "reconnects", "cut_peers"):
            assert of(values, f"{name}_total") == status["counters"][name], name
        assert of(values, "gaps_total", reason="counter") == status["counters"]["gaps"] == 1
        missing = of(values, "missing_samples_total", reason="counter")
        assert missing == status["counters"]["missing_samples"] == 20
        assert of(values, "next_index") == status["next_index"] == of(values, "samples_total") + missing
        assert of(values, "state", state="idle") == 1
        assert sum(of(values, "state", state=each) for each in ("streaming", "stalled", "disconnected")) == 0
        assert of(values, "channels") == status["segment"]["n_channels"]
        assert of(values, "publish_delay_seconds_count") == status["counters"]["blocks"]
        # The first block of a segment has none before it.
        assert of(values, "recorder_jitter_seconds_count") == status["counters"]["blocks"] - 1
        assert of(values, "published_bytes_total") > of(values, "samples_total") * of(values, "channels") * 4
        assert status["losses"] == {
            "gaps": {"counter": 1}, "missing_samples": {"counter": 20}, "segment_ends": {"stop": 1},
        }  # fmt: skip


def output(*arguments: str) -> str:
    command = Child(*arguments)
    try:
        command.finish()
        return command.stdout
    finally:
        command.close()


def test_clients_and_their_repairs_are_counted() -> None:
    with simulator("--channels=4") as sim, hub(sim.rda, *ANY_PORT) as server:
        url = address(server)
        with Client(buffer_size=1000) as client, LocalClient(server.name) as local:
            client.connect(server.query)
            client.start_streaming()
            local.start_streaming()
            assert client.wait(2500, 2600, timeout=30) is not None
            assert local.poll(1, timeout=30) is not None
            before = scrape(url)
            rows = client.get_data(0, 100)  # beyond its window: from the hub's history
            assert rows is not None
            np.testing.assert_array_equal(rows[:, 0], np.arange(100))
            values = until(
                url, lambda values: of(values, "range_pages_total") > of(before, "range_pages_total")
            )
            values = until(url, lambda values: of(values, "clients", way="local") == 1)
            assert of(values, "clients", way="network") == 1
        grown = {name: values[name] - before[name] for name in values if name in before}
        assert of(grown, "range_pages_total") == 1
        assert of(grown, "range_bytes_total") == 100 * 4 * 4
        assert of(grown, "range_age_seconds_count") == 1
        assert of(grown, "range_age_seconds_sum") > 2.4
        until(url, lambda values: of(values, "clients", way="network") == 0)


def test_histograms_add_up() -> None:
    with simulator() as sim, hub(sim.rda, *ANY_PORT) as server:
        values = until(address(server), lambda values: of(values, "blocks_total") > 20)
    for name in ("publish_delay_seconds", "recorder_jitter_seconds"):
        steps = [
            (float(json.loads(key.partition("bucket")[2])["le"]), value)
            for key, value in values.items()
            if key.startswith(f"rdahub_{name}_bucket")
        ]
        bounds, counts = zip(*sorted(steps), strict=True)
        assert bounds[-1] == float("inf")
        assert list(counts) == sorted(counts)
        assert counts[-1] == of(values, f"{name}_count") > 0
        assert 0 < of(values, f"{name}_sum") < 30 * of(values, f"{name}_count")


def test_with_keys_the_endpoint_still_knows_its_hub(tmp_path: Path) -> None:
    assert "hub.key" in output("keygen", str(tmp_path), "--name=hub")
    (tmp_path / "clients").mkdir()
    keys = ("--curve-key", str(tmp_path / "hub.key_secret"), "--curve-clients", str(tmp_path / "clients"))
    with simulator() as sim, hub(sim.rda, *ANY_PORT, *keys, query="tcp://0.0.0.0:0") as server:
        values = until(address(server), lambda values: of(values, "blocks_total") > 0)
        assert of(values, "refused_peers_total") == 0


# --- what is said ----------------------------------------------------------------------------------------


def exported() -> dict[str, tuple[str, set[str]]]:
    """Every metric there can be: name without suffix -> type, labels."""
    with simulator() as sim, hub(sim.rda, *ANY_PORT) as server, LocalClient(server.name) as reader:
        url = address(server)
        reader.start_streaming(timeout=PATIENCE)
        assert reader.poll(1, timeout=PATIENCE) is not None
        until(url, lambda values: any("reader_behind" in name for name in values))
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:  # noqa: S310
            families = list(text_string_to_metric_families(answer.read().decode()))
    return {
        family.name: (family.type, {label for sample in family.samples for label in sample.labels} - {"le"})
        for family in families
    }


def outside(name: str, kind: str) -> set[str]:
    """Names that queries use."""
    if kind == "histogram":
        return {f"{name}_{suffix}" for suffix in ("bucket", "count", "sum")}
    return {f"{name}_total" if kind == "counter" else name}


def test_page_and_dashboard_name_what_there_is() -> None:
    there = exported()
    page = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(rdahub_\w+)`(?: by ([\w`, ]+))? \| (\w+) \|", page, re.MULTILINE)
    written = {name.removesuffix("_total"): (kind, set(re.findall(r"\w+", by))) for name, by, kind in rows}
    assert written == there

    names = {each: labels for name, (kind, labels) in there.items() for each in outside(name, kind)}
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(queries) > 20
    legends = [target["legendFormat"] for panel in dashboard["panels"] for target in panel["targets"]]
    for query, legend in zip(queries, legends, strict=True):
        used = re.findall(r"\brdahub_\w+", query)
        assert used, query
        assert set(used) <= set(names), query
        assert query.count("(") == query.count(")")
        known = {"instance", "le"} | {label for each in used for label in names[each]}
        assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= known, legend
        asked = {label for inner in re.findall(r"\{(.*?)\}", query) for label in re.findall(r"(\w+)=", inner)}
        assert asked <= known, query
        for name in used:  # a rate of a gauge, or a counter as it stands, means nothing
            counts = name.endswith(("_total", "_bucket"))
            assert counts == (f"rate({name}" in query or f"increase({name}" in query), query
    (hubs,) = [each["definition"] for each in dashboard["templating"]["list"] if each["type"] == "query"]
    assert hubs == "label_values(rdahub_up, instance)"
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


# --- that it harms nobody --------------------------------------------------------------------------------


def exporter_of(server: Hub) -> int:
    """Process id of the endpoint."""
    pid = server.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    threads = [Path(f"/proc/{pid}/task/{each}/children") for each in os.listdir(f"/proc/{pid}/task")]  # noqa: PTH208
    found = {int(child) for path in threads if path.exists() for child in path.read_text().split()}
    assert len(found) == 1, children
    return found.pop()


@contextlib.contextmanager
def counting(*flags: str) -> Iterator[tuple[Hub, str]]:
    with simulator("--channels=4", "--block=10") as sim, hub(sim.rda, *ANY_PORT, *flags) as server:
        server.wait_for("segment of", "stderr")
        yield server, address(server)


def check_whole(server: Hub, samples: int) -> None:
    """A reader gets every sample from now on, in time."""
    with Client() as client:
        client.connect(server.query)
        client.start_streaming()
        start = client.last_sample
        rows = client.wait(start, start + samples, timeout=PATIENCE)
        assert rows is not None
        np.testing.assert_array_equal(rows[:, 0], np.arange(start, start + samples) % 2**24)
        assert client.gaps(start, start + samples) == []


@pytest.mark.skipif(sys.platform != "linux", reason="children are found in /proc")
def test_an_endpoint_that_is_stopped_stops_nothing() -> None:
    with counting() as (server, _):
        endpoint = exporter_of(server)
        os.kill(endpoint, signal.SIGSTOP)
        check_whole(server, 1500)
    with pytest.raises(ProcessLookupError):  # it has not outlived its hub
        os.kill(endpoint, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="children are found in /proc")
def test_an_endpoint_that_dies_is_started_again_at_its_address() -> None:
    with counting() as (server, url):
        os.kill(exporter_of(server), signal.SIGKILL)
        server.wait_for("the endpoint for metrics has ended", "stderr")
        check_whole(server, 500)
        assert of(until_answered(url), "up") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="children are found in /proc")
def test_it_ends_with_a_hub_that_is_killed() -> None:
    with simulator() as sim:
        server = Hub(sim.rda, *ANY_PORT)
        try:
            address(server)
            endpoint = exporter_of(server)
            server.send(signal.SIGKILL)
            server.finish()
        finally:
            server.close()
    deadline = time.monotonic() + PATIENCE
    while Path(f"/proc/{endpoint}/cmdline").exists() and Path(f"/proc/{endpoint}/cmdline").read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_however_often_it_is_asked_the_hub_is_asked_once_a_second() -> None:
    with counting() as (server, url):
        before, began = scrape(url), time.monotonic()
        for _ in range(300):
            after = scrape(url)
        grown = of(after, "requests_total") - of(before, "requests_total")
        assert grown <= time.monotonic() - began + 2
        assert grown < 150  # however slow this machine is
        check_whole(server, 500)


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_silent_peers_of_the_endpoint_are_bounded_and_cut() -> None:
    with counting() as (server, url), contextlib.ExitStack() as stack:
        host, port = re.fullmatch(r"http://(.+):(\d+)/metrics", url).groups()  # type: ignore[union-attr]
        endpoint = exporter_of(server)
        for _ in range(60):  # they say half a line, and stay
            peer = stack.enter_context(socket.create_connection((host, int(port)), PATIENCE))
            with contextlib.suppress(OSError):  # cut already: there were enough
                peer.sendall(b"GET /metr")
        check_whole(server, 500)
        assert len(list(Path(f"/proc/{endpoint}/task").iterdir())) < 30
        assert of(until_answered(url), "up") == 1


def until_answered(url: str) -> Values:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return scrape(url)
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGSTOP")
def test_a_hub_that_does_not_answer_is_down_and_says_nothing_old() -> None:
    with counting() as (server, url):
        assert of(until(url, lambda values: of(values, "blocks_total") > 0), "up") == 1
        server.send(signal.SIGSTOP)
        try:
            values = until(url, lambda values: of(values, "up") == 0)
            assert list(values) == ["rdahub_up{}"]
        finally:
            server.send(signal.SIGCONT)
        until(url, lambda values: of(values, "up") == 1)


# --- mistakes --------------------------------------------------------------------------------------------


def refused(*flags: str, code: int, path: str = "") -> str:
    name = unique_name()
    serve = ("serve", "--recorder=127.0.0.1:1", "--query=tcp://127.0.0.1:0", "--name", name)
    command = Child(*serve, *flags, PYTHONPATH=path)
    try:
        assert command.finish() == code, command.stderr
        assert command.stdout == ""
        assert command.stderr.count("\n") == 1, command.stderr
        return command.stderr
    finally:
        command.close()


def test_mistakes_are_one_line() -> None:
    assert "--metrics: " in refused("--metrics=9570", code=2)
    assert "--metrics: " in refused("--metrics=127.0.0.1:99999", code=2)
    said = refused("--metrics=0.0.0.0:0", code=2)
    assert "--metrics" in said
    assert "--insecure" in said
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = refused(f"--metrics=127.0.0.1:{taken.getsockname()[1]}", code=1)
    assert "--metrics" in said
    assert "in use" in said


def test_without_the_extra_one_line_says_what_to_install(tmp_path: Path) -> None:
    hide = "import sys; sys.modules['prometheus_client'] = None\n"
    (tmp_path / "sitecustomize.py").write_text(hide)
    said = refused(*ANY_PORT, code=2, path=str(tmp_path))
    assert "pip install 'rdahub[metrics]'" in said
    with simulator() as sim:  # and nobody else misses it
        server = Child("serve", "--recorder", sim.rda, "--query=tcp://127.0.0.1:0", "--name", unique_name(),
                       PYTHONPATH=str(tmp_path))  # fmt: skip
        try:
            server.wait_for("segment of", "stderr")
            assert server.stop() == 0
        finally:
            server.close()
