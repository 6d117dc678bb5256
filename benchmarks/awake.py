"""Keep the cores awake: one process per core that spins at idle priority.

Rule: it runs only where nothing else wants to (SCHED_IDLE), so it takes time from no one; but a core that
sleeps needs 50 to 100 µs more to answer, which would be most of what is measured.
Not here: pinning, frequency governors.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

_SPIN = (
    "import os; os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\nwhile os.getppid() == {}: pass"
)


@contextlib.contextmanager
def cores_awake(wanted: bool) -> Iterator[None]:
    """Spin on every core for as long as the context lasts."""
    count = len(os.sched_getaffinity(0)) if wanted else 0
    spinners = [subprocess.Popen([sys.executable, "-c", _SPIN.format(os.getpid())]) for _ in range(count)]
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()
