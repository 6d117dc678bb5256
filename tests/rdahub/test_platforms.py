"""Every module loads where there is nothing of POSIX but what Python itself needs, as on Windows."""

from __future__ import annotations

import subprocess
import sys

import rdahub_client

OF_THE_PROCESS = {f"rdahub.archive.{module}" for module in ("archivist", "shelf", "source", "volume")}
"""Of the archive, whose process is started on POSIX only."""

CODE = f"""
import asyncio, importlib, logging.handlers, pkgutil, subprocess, sys, tempfile, types

sys.modules.update(dict.fromkeys(("fcntl", "pwd", "grp", "termios")))

# What says that this is POSIX is loaded first, and changed to say that it is not.
bare = sys.modules["rdahub_client"] = types.ModuleType("rdahub_client")
bare.__path__ = [sys.argv[1]]
memory = importlib.import_module("rdahub_client.memory")
memory.MIRRORS = False
for name in [name for name in sys.modules if name.startswith("rdahub_client") and name != memory.__name__]:
    del sys.modules[name]

for package in ("rdahub_client", "rdahub"):
    for each in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if each.name not in {OF_THE_PROCESS} and not each.name.endswith("__main__"):
            importlib.import_module(each.name)
"""


def test_every_module_loads_without_posix() -> None:
    (folder,) = rdahub_client.__path__
    ran = subprocess.run([sys.executable, "-c", CODE, folder], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
