"""The containers' stage: build the image, run compose.yaml for real with faults, leave nothing behind.

``python tests/containers/stage.py [pytest arguments]``. Where an engine runs already (a developer's Docker)
it is used as it is. Else, as root on Debian, an engine of the stage's own is started, and an image made of
the machine's own distribution stands in for the official base. Where neither can be had it fails; only where
the user is not root and no engine runs is it skipped, in words.

Rule: the own engine lives in namespaces of its own (mounts, processes, and for the tests the network), which
end with the stage however it ends; nothing of the machine's network is changed. State that is worth keeping
(tools, stand-in base, image layers) is under build/containers.
Not here: what must hold (the tests beside this file).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
HERE: Final = Path(__file__).parent
STATE: Final = ROOT / "build" / "containers"
TOOLS: Final = STATE / "venv"
BASE_TAR: Final = STATE / "base.tar"
BASE: Final = "local/python-standin:bookworm"
CA_BUNDLE: Final = "etc/ssl/certs/ca-certificates.crt"
CGROUP: Final = "rdahub-containers"
PACKAGES: Final = {
    "dockerd": "docker.io",
    "docker-init": "tini",
    "iptables": "iptables",
    "mmdebstrap": "mmdebstrap",
    "ip": "iproute2",
}
"""Programs, and the packages that have them."""
NAMESPACES: Final = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
ENGINE_PATIENCE: Final = 60.0  # s
_CLASSIC_BUILDER: Final = {"DOCKER_BUILDKIT": "0", "COMPOSE_BAKE": "false"}


def say(text: str) -> None:
    print(f"containers: {text}", flush=True)


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    say(f"{what}: {time.monotonic() - start:.1f} s")


def main(arguments: list[str]) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # `timeout` ends it: tidy up on the way out
    if arguments[:1] == ["--inside"]:
        return inside(arguments[1], arguments[2:])
    if engine_answers():
        say("using the engine that runs here")
        install_tools()
        lint()
        with settings(Path(tempfile.gettempdir()) / f"rdahub-{os.getpid()}", own=False) as environment:
            return build_and_test(environment, arguments)
    if os.geteuid() != 0:
        say("SKIPPED: no engine runs here, and only root can start one")
        return 0
    return with_own_engine(arguments)


def with_own_engine(arguments: list[str]) -> int:
    before = traces()
    run = Path(tempfile.mkdtemp(prefix="rdahub-"))  # short: a socket's path has 107 bytes
    try:
        with timed("prepared"):
            prepare()
        lint()
        with settings(run, own=True) as environment:
            for task, namespaces in (("build", NAMESPACES), ("test", (*NAMESPACES, "--net"))):
                inner = [sys.executable, str(Path(__file__).resolve()), "--inside", task, *arguments]
                with timed(task):
                    code = subprocess.run([*namespaces, *inner], env=environment, check=False).returncode
                if code:
                    return code
    finally:
        remove_groups()
        shutil.rmtree(run, ignore_errors=True)
    if left := sorted(traces() - before):
        say(f"left behind: {left}")
        return 1
    return 0


def build_and_test(environment: dict[str, str], arguments: Sequence[str]) -> int:
    """Do both with an engine that was there before."""
    with timed("build"):
        code = subprocess.run(["docker", "compose", "build", "hub"], cwd=ROOT, env=environment, check=False)
    if code.returncode:
        return code.returncode
    with timed("test"):
        return run_tests(environment, arguments)


def run_tests(environment: dict[str, str], arguments: Sequence[str]) -> int:
    command = [sys.executable, "-m", "pytest", "-p", "no:randomly", "--durations=5", str(HERE), *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


# --- what is needed ------------------------------------------------------------------------------------


def prepare() -> None:
    """Have tools, engine and stand-in base."""
    STATE.mkdir(parents=True, exist_ok=True)
    if missing := [package for program, package in PACKAGES.items() if not shutil.which(program)]:
        run_quietly("apt-get", "update", "-qq")
        run_quietly("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing)
    with ThreadPoolExecutor() as side:
        tools = side.submit(install_tools)
        if not BASE_TAR.exists():
            make_base()
        tools.result()


def install_tools() -> None:
    """Compose, hadolint and check-jsonschema, at the versions and hashes of requirements.txt."""
    wanted = (HERE / "requirements.txt").read_text(encoding="utf-8")
    stamp = TOOLS / ".installed"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    shutil.rmtree(TOOLS, ignore_errors=True)
    run_quietly(sys.executable, "-m", "venv", str(TOOLS))
    requirements = ("--require-hashes", "-r", str(HERE / "requirements.txt"))
    run_quietly(str(TOOLS / "bin/python"), "-m", "pip", "install", "--quiet", *requirements)
    stamp.write_text(wanted, encoding="utf-8")


def make_base() -> None:
    """Make a small Debian with Python, from the machine's own package sources; none of them stays in it."""
    sources = next(
        path
        for name in ("sources.list.d/debian.sources", "sources.list.d/ubuntu.sources", "sources.list")
        if (path := Path("/etc/apt") / name).exists()
    )
    release = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line
    )
    unfinished = BASE_TAR.with_suffix(".new.tar")
    run_quietly(
        "mmdebstrap", "--quiet", "--variant=essential", "--include=passwd,libstdc++6,python3,python3-venv",
        "--dpkgopt=force-unsafe-io",
        *(f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale")),
        f"--customize-hook=mkdir -p $1/{Path(CA_BUNDLE).parent}",
        f"--customize-hook=cp /{CA_BUNDLE} $1/{CA_BUNDLE}",
        "--customize-hook=rm -rf $1/etc/apt/sources.list $1/etc/apt/sources.list.d $1/var/lib/apt/lists",
        release["VERSION_CODENAME"], str(unfinished), str(sources),
    )  # fmt: skip
    unfinished.replace(BASE_TAR)


def run_quietly(*command: str, cwd: Path | None = None) -> None:
    """Run a command whose output matters only if it fails."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=cwd,
        check=False,
    )
    if done.returncode:
        say(done.stdout.decode(errors="replace"))
        raise SystemExit(f"containers: {command[0]} failed with exit code {done.returncode}")


def lint() -> None:
    """Look at the files without running them."""
    binaries = TOOLS / "bin"
    run_quietly(str(binaries / "hadolint"), "docker/Dockerfile", cwd=ROOT)
    schema = ("--builtin-schema", "vendor.compose-spec")
    run_quietly(str(binaries / "check-jsonschema"), *schema, "compose.yaml", "docker/keys.yaml", cwd=ROOT)
    compose = (str(binaries / "docker-compose"), "--profile", "*", "-f", "compose.yaml")
    run_quietly(*compose, "config", "-q", cwd=ROOT)
    run_quietly(*compose, "-f", "docker/keys.yaml", "config", "-q", cwd=ROOT)
    say("hadolint, check-jsonschema and compose config find nothing")


# --- engines -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def settings(run: Path, own: bool) -> Iterator[dict[str, str]]:
    """Environment of docker and compose: a configuration of its own, with compose as plugin."""
    plugins = run / "cfg" / "cli-plugins"
    plugins.mkdir(parents=True)
    (plugins / "docker-compose").symlink_to(TOOLS / "bin/docker-compose")
    ours = {"DOCKER_CONFIG": str(run / "cfg"), "COMPOSE_PROJECT_NAME": "rdahub-test"}
    ours["HEALTH_INTERVAL"] = "3s"
    if own:
        ours |= {"DOCKER_HOST": f"unix://{run}/d.sock", "BASE": BASE, **_CLASSIC_BUILDER}
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("RDAHUB_", "COMPOSE_"))
    }
    try:
        yield clean | ours
    finally:
        shutil.rmtree(run, ignore_errors=True)


def engine_answers() -> bool:
    """Whether an engine runs already that this user may use."""
    if not shutil.which("docker"):
        return False
    return subprocess.run(["docker", "version"], capture_output=True, check=False).returncode == 0


def inside(task: str, arguments: list[str]) -> int:
    """Be the first process of the namespaces: an engine, and what is done with it."""
    run = Path(os.environ["DOCKER_HOST"].removeprefix("unix://")).parent
    networks: tuple[str, ...] = ("--bip=198.18.0.1/24", "--default-address-pool=base=198.18.128.0/17,size=24")
    work: Callable[[], int] = lambda: run_tests(dict(os.environ), arguments)  # noqa: E731
    if task == "build":  # in the machine's network, and changing nothing in it
        off = ("bridge=none", "iptables=false", "ip6tables=false", "ip-forward=false", "ip-masq=false")
        networks, work = tuple(f"--{each}" for each in off), build
    else:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with engine(run, *networks):
        return work()


@contextlib.contextmanager
def engine(run: Path, *options: str) -> Iterator[None]:
    log = STATE / "dockerd.log"
    command = [
        "dockerd", f"--data-root={STATE / 'data'}", f"--exec-root={run / 'exec'}", f"--host=unix://{run}/d.sock",
        f"--pidfile={run / 'd.pid'}", f"--cgroup-parent=/{CGROUP}", "--log-level=warn", *options,
    ]  # fmt: skip
    with log.open("w", encoding="utf-8") as output:
        daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + ENGINE_PATIENCE
        while not engine_answers():
            if daemon.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"containers: the engine does not start:\n{log.read_text(encoding='utf-8')}")
            time.sleep(0.1)  # between two questions
        yield
    finally:
        daemon.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            daemon.wait(30)


def build() -> int:
    """Build the image as compose does, on the stand-in base."""
    if subprocess.run(["docker", "image", "inspect", BASE], capture_output=True, check=False).returncode:
        path = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
        changes = ("--change", f"ENV PATH={path}", "--change", f"ENV PIP_CERT=/{CA_BUNDLE}")
        run_quietly("docker", "import", *changes, str(BASE_TAR), BASE)
    override = STATE / "host-network.yaml"
    override.write_text("services: { hub: { build: { network: host } } }\n", encoding="utf-8")
    files = ("-f", str(ROOT / "compose.yaml"), "-f", str(override))
    run_quietly("docker", "compose", "--project-directory", str(ROOT), *files, "build", "hub", cwd=ROOT)
    run_quietly("docker", "image", "prune", "--force", "--filter", "until=24h")  # of earlier builds
    return 0


# --- nothing left --------------------------------------------------------------------------------------


def traces() -> set[str]:
    """What an engine leaves in a machine when it is run plainly."""
    found = {f"mount {line.split()[1]}" for line in Path("/proc/self/mounts").read_text().splitlines()}
    found = {each for each in found if str(STATE) in each or "/rdahub-" in each or "docker" in each}
    links = {path.name for path in Path("/sys/class/net").iterdir()}
    found |= {f"link {name}" for name in links if name.startswith(("docker", "br-"))}
    found.add(f"ip_forward {Path('/proc/sys/net/ipv4/ip_forward').read_text().strip()}")
    if shutil.which("iptables-save"):
        rules = subprocess.run(["iptables-save"], capture_output=True, text=True, check=False).stdout
        found |= {f"rule {line}" for line in rules.splitlines() if "DOCKER" in line or "FORWARD DROP" in line}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(STATE / "data").encode() in (line := path.read_bytes()):
                found.add(f"process {path.parent.name} {line.decode(errors='replace')}")
    return found | {f"group {path}" for path in groups()}


def groups() -> list[Path]:
    """Control groups of the containers, the innermost first."""
    tops = [*Path("/sys/fs/cgroup").glob(CGROUP), *Path("/sys/fs/cgroup").glob(f"*/{CGROUP}")]
    return [each for top in tops for each in (*sorted(top.rglob("*/"), reverse=True), top) if each.is_dir()]


def remove_groups() -> None:
    """The kernel keeps empty control groups until somebody removes them."""
    deadline = time.monotonic() + 10
    while groups() and time.monotonic() < deadline:
        for path in groups():
            with contextlib.suppress(OSError):  # its last process is still on its way out
                path.rmdir()
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
