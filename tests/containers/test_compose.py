"""compose.yaml for real: the demo, what its containers may do, and what they go through.

Only run by `make test-containers`, which provides an engine and the image (see `stage`).
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from composed import KILL_HUB, ROOT, Project, client, docker, free_ports, project, until
from viewer_rig import chromium

from rdahub_client import AuthError, Client
from rdahub_client.keys import client_keys

FAST = ["sim", "--host", "0.0.0.0", "--rate", "20000", "--block", "400"]  # noqa: S104 - in its container
"""A simulator that fills 2.56 MB of history in a second."""


def override(folder: Path, **services: object) -> Path:
    """A compose file that changes services; JSON is YAML."""
    path = folder / "override.json"
    path.write_text(json.dumps({"services": services}), encoding="utf-8")
    return path


def assert_exact(samples: np.ndarray | None) -> None:
    """The simulator's channel 0 counts."""
    assert samples is not None
    assert np.array_equal(np.diff(samples[:, 0]), np.ones(len(samples) - 1, np.float32))


@pytest.fixture(scope="module")
def demo() -> Iterator[Project]:
    """Simulator, hub and reader, as a user starts them."""
    with project("hub", "simulator", "reader", "viewer") as one:
        assert one.health() == "healthy"  # the reader was started after that
        one.await_state("streaming")
        one.await_reader()
        yield one


def test_the_files_name_one_recorder_and_listen_on_loopback_only() -> None:
    said = docker("compose", "config", "--format", "json", RECORDER="192.0.2.1:51234", HISTORY_MB="64")
    config = json.loads(said)
    assert list(config["services"]) == ["hub"]
    hub = config["services"]["hub"]
    assert hub["environment"]["RDAHUB_RECORDER"] == "192.0.2.1:51234"
    assert hub["environment"]["RDAHUB_HISTORY_BYTES"] == "64MB"
    assert hub["shm_size"] == str(64 << 20)
    assert {port["host_ip"] for port in hub["ports"]} == {"127.0.0.1"}


def test_a_client_on_the_host_gets_exact_samples(demo: Project) -> None:
    with client(demo) as reader:
        start = reader.last_sample
        assert_exact(reader.wait(start, start + 500, timeout=10))
    assert demo.health() == "healthy"
    published = docker("port", demo.container("hub"))
    assert set(re.findall(r"-> (\S+):\d+", published)) == {"127.0.0.1"}


def test_the_viewer_shows_its_page_to_who_has_the_token(demo: Project) -> None:
    demo.await_line("ready url=", "viewer")
    token = (ROOT / "docker/demo.token").read_text().strip()
    with urllib.request.urlopen(f"http://127.0.0.1:5580/?token={token}", timeout=10) as page:
        assert b"<html" in page.read()
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen("http://127.0.0.1:5580/", timeout=10)
    assert f"?token={token}" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_who_looks_sees_the_simulators_traces_move(demo: Project) -> None:
    demo.await_line("ready url=", "viewer")
    token = (ROOT / "docker/demo.token").read_text().strip()
    with chromium() as browser:
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:5580/?token={token}")
        until(lambda: page.locator("#state").text_content() == "streaming", "the page says so")
        drawn = "() => Number(document.body.dataset.next || 0)"
        until(lambda: page.evaluate(drawn) > 0, "traces are there")
        first = page.evaluate(drawn)
        until(lambda: page.evaluate(drawn) > first + 1000, "they move on by a second")


def test_the_hub_may_do_nothing_but_its_work(demo: Project) -> None:
    status = dict(
        line.split(":\t", 1)
        for line in demo.execute("cat", "/proc/self/status").splitlines()
        if ":\t" in line
    )
    assert status["Uid"].split() == ["10001"] * 4
    assert int(status["CapBnd"], 16) == int(status["CapEff"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    for path in ("/venv/x", "/etc/x", "/x", "/usr/x"):
        said = demo.execute("sh", "-c", f"touch {path} 2>&1 || true")
        assert re.search("Read-only|denied", said), path
    assert "Read-only" in demo.execute("sh", "-c", "touch /var/tmp/x 2>&1 || true")
    for service in ("hub", "simulator", "reader", "viewer"):
        found = demo.inspect(service)["HostConfig"]
        assert all(found[name] for name in ("Init", "ReadonlyRootfs", "Memory")), service
        assert found["RestartPolicy"]["Name"] == "unless-stopped", service
        assert found["CapDrop"] == ["ALL"], service


def test_the_image_holds_no_tools_and_no_sources(demo: Project) -> None:
    assert demo.execute("sh", "-c", "ls -A /src /build /venv/bin/pip* 2>/dev/null || true") == ""
    assert not list(filter(None, demo.execute("find", "/venv", "-name", "*.key_secret").splitlines()))
    layers = docker("history", "--human=false", "--format", "{{.Size}}", "rdahub:0.1.0").split()
    own = sum(map(int, layers[:-1]))  # the last is the stand-in base, where there is one
    print(f"the image adds {own / 1e6:.0f} MB to its base")
    assert own < 250e6


def test_recordings_are_made_beside_the_hub_and_outlive_all_containers(demo: Project) -> None:
    demo.compose("run", "--rm", "--no-TTY", "tools", "dump", "--last", "1s", "-o", "last.npz")
    before = demo.container("hub")
    demo.compose("down", "--timeout", "5")
    demo.compose("up", "--detach", "--wait", "--no-build", "hub", "simulator", "reader", "viewer")
    assert demo.container("hub") != before
    file = demo.compose_bytes("run", "--rm", "--no-TTY", "--entrypoint", "cat", "tools", "last.npz")
    with np.load(io.BytesIO(file)) as recording:
        assert recording["samples"].shape == (1000, 32)
        assert_exact(recording["samples"])
    demo.await_state("streaming")
    demo.await_reader()


def test_a_killed_hub_is_started_again_and_the_reader_goes_on(demo: Project) -> None:
    before, count = demo.status()["instance"], demo.inspect("hub")["RestartCount"]
    others = {name: demo.inspect(name)["State"]["StartedAt"] for name in ("reader", "viewer")}
    demo.execute("python3", "-c", KILL_HUB, check=False)  # it may die with the container
    until(lambda: demo.inspect("hub")["RestartCount"] == count + 1, "a restart", demo)
    until(lambda: demo.health() == "healthy", "a healthy hub", demo)
    assert demo.await_state("streaming")["instance"] != before
    demo.await_reader()
    assert {name: demo.inspect(name)["State"]["StartedAt"] for name in others} == others
    with client(demo) as outside:
        start = outside.last_sample
        assert_exact(outside.wait(start, start + 100, timeout=10))


def test_a_paused_hub_loses_nothing(demo: Project) -> None:
    with client(demo) as outside:
        instance, start = outside.instance, outside.last_sample
        demo.compose("pause", "hub")
        until(lambda: outside.state == "unreachable", "a client that notices")
        held = outside.last_sample
        demo.compose("unpause", "hub")
        until(lambda: outside.last_sample > held + 1000, "samples again", demo)
        assert outside.instance == instance
        assert_exact(outside.read(start, held + 1000))
    demo.await_reader()


def test_a_hub_cut_off_the_network_comes_back(demo: Project) -> None:
    before = demo.status()
    network, hub = f"{demo.name}_default", demo.container("hub")
    docker("network", "disconnect", network, hub)
    lost = demo.await_state("stalled", "disconnected", inside=True)
    assert lost["instance"] == before["instance"]
    docker("network", "connect", "--alias", "hub", network, hub)
    after = demo.await_state("streaming")
    assert after["instance"] == before["instance"]
    assert after["next_index"] >= lost["next_index"]
    demo.await_reader()
    with client(demo) as outside:
        start = outside.last_sample
        assert_exact(outside.wait(start, start + 100, timeout=10))


# --- memory --------------------------------------------------------------------------------------------


def assert_survives(one: Project) -> None:
    """The history has come round, all of it can be read, and the hub is the first one still."""
    until(lambda: one.status().get("first_available", 0) > 0, "a history that has come round", one)
    with client(one) as outside:
        info = outside.info()
        assert info.first_available > 0
        middle = (info.first_available + info.next_index) // 2
        assert_exact(outside.read(middle, middle + 5000))
    until(lambda: one.health() == "healthy", "a healthy hub", one)
    found = one.inspect("hub")
    assert (found["RestartCount"], found["State"]["OOMKilled"]) == (0, False)
    assert "Traceback" not in one.logs()


def test_the_history_fits_its_shared_memory_to_the_last_byte(tmp_path: Path) -> None:
    files = (override(tmp_path, simulator={"command": FAST}),)
    with project("hub", "simulator", files=files, **free_ports(), HISTORY_MB="16") as one:
        held = one.await_state("streaming")
        assert held["history_seconds"] == pytest.approx(16e6 / (20_000 * 32 * 4), rel=0.01)
        assert_survives(one)
        assert "instead of" not in one.logs()


def test_too_little_shared_memory_makes_the_history_shorter(tmp_path: Path) -> None:
    """A program that takes no care dies of SIGBUS (exit code 135) when it writes to more than there is."""
    files = (override(tmp_path, simulator={"command": FAST}, hub={"shm_size": "8m"}),)
    with project("hub", "simulator", files=files, **free_ports(), HISTORY="20s") as one:
        one.await_line(
            r"WARNING .*no room for 400\d\d\d samples of 32 channels in /dev/shm: \d+ bytes needed"
        )
        one.await_line(r"WARNING .*the history holds \d+ samples instead of 400000")
        assert 1 < one.await_state("streaming")["history_seconds"] < 5
        assert_survives(one)


def test_a_memory_limit_makes_the_history_shorter(tmp_path: Path) -> None:
    files = (override(tmp_path, simulator={"command": FAST}),)
    with project("hub", "simulator", files=files, **free_ports(), MEMORY="112m") as one:
        one.await_line(r"WARNING .*the history holds \d+ samples instead of \d+: .*the memory limit of this")
        assert 1 < one.await_state("streaming")["history_seconds"] < 60
        assert_survives(one)


# --- keys ----------------------------------------------------------------------------------------------


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A folder as docker/keys.yaml wants it, and a client's own key in it; all owned by who runs this."""
    folder = tmp_path / "keys"
    for name in ("hub", "anna"):
        subprocess.run([sys.executable, "-m", "rdahub", "keygen", str(folder), "--name", name], check=True)
    (folder / "clients").mkdir()
    for name in ("hub", "anna"):
        (folder / "clients" / f"{name}.key").write_bytes((folder / f"{name}.key").read_bytes())
    for path in (folder, folder / "clients", *tmp_path.parents[:2], tmp_path):
        path.chmod(0o755)  # pytest's folders are for their user alone
    return folder


def test_a_secret_of_another_owner_is_a_clear_error_and_of_the_right_one_encrypts(keys: Path) -> None:
    files = (ROOT / "docker/keys.yaml",)
    with project("hub", "simulator", files=files, **free_ports(), KEYS=str(keys)) as one:
        one.await_line(r"^rdahub serve: --curve-key: /run/secrets/hub_key: permission denied")
        assert one.inspect("hub")["State"]["ExitCode"] in {0, 2}  # 0: it is being started again just now
        assert "Traceback" not in one.logs()
        mount = f"{keys}:/keys"
        docker(
            "run", "--rm", "--user", "0", "--volume", mount, "--entrypoint", "chown", "rdahub:0.1.0",
            "10001", "/keys/hub.key_secret",
        )  # fmt: skip
        one.compose(
            "up", "--detach", "--wait", "--wait-timeout", "60", "--no-build", "--force-recreate", "hub"
        )
        one.keys = client_keys(keys / "anna.key_secret", keys / "hub.key")
        one.await_state("streaming")
        assert "streaming" in one.compose("run", "--rm", "--no-TTY", "tools")
        with client(one, curve_key=keys / "anna.key_secret", server_key=keys / "hub.key") as inside:
            start = inside.last_sample
            assert_exact(inside.wait(start, start + 100, timeout=10))
        with Client() as stranger, pytest.raises(AuthError):
            stranger.connect(one.address, timeout=10)
