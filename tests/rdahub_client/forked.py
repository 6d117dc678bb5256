"""A child process that dies by SIGKILL, for tests of what is left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")


@contextlib.contextmanager
def forked(function: Callable[[Callable[[], None]], None]) -> Iterator[int]:
    """Run ``function(ready)`` in a child; goes on once it called `ready`, and kills it at the end."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        # Python >= 3.12 warns of threads (numpy's); the child calls nothing that needs them.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if not pid:
        try:
            os.close(read)
            function(lambda: os.close(write))
        finally:
            os._exit(1)  # no fixture of the parent may be torn down here
    try:
        os.close(write)
        os.read(read, 1)
        yield pid
    finally:
        os.close(read)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def open_fds() -> int:
    """Number of this process's open files."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
