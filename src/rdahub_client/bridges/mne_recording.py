"""A recording beside a stream: ``rdahub record``, started and ended by the program that streams.

Rule: a process of its own, which has every sample from the index named on, whatever becomes of the stream; a
recording that does not begin is an error at once, and one that went wrong is one at its end.
Not here: writing files (the command does).
"""

from __future__ import annotations

import subprocess
import sys
import threading
import weakref
from pathlib import Path

from rdahub_client.keys import KeyFile

__all__ = ["Recording"]


class Recording:
    """``rdahub record`` into a folder, from sample `start` on.

    Raises
    ------
    RuntimeError
        It did not begin within `timeout` seconds; why stands on stderr.
    """

    def __init__(
        self, hub: str, folder: Path, start: int, keys: tuple[KeyFile | None, KeyFile | None], timeout: float
    ) -> None:
        command = [sys.executable, "-m", "rdahub", "record", hub, "-o", str(folder), "--start", str(start)]
        for flag, key in zip(("--curve-key", "--server-key"), keys, strict=True):
            command += [] if key is None else [flag, str(key)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - this project's
        weakref.finalize(self, self._process.terminate)  # with the program at the latest
        begun = threading.Event()
        threading.Thread(target=self._listen, args=(begun,), daemon=True).start()
        if not begun.wait(timeout) or self._process.poll() is not None:
            self._process.kill()
            self._process.wait()
            raise RuntimeError(
                f"rdahub record did not begin within {timeout:g} s: "
                "no sample came, or what it wrote above tells why"
            )

    def _listen(self, begun: threading.Event) -> None:
        with self._process.stdout or sys.stdin as lines:
            for line in lines:
                if line.startswith("ready"):
                    begun.set()
        begun.set()  # or ended

    def end(self) -> None:
        """Have it write what has come, and end.

        Raises
        ------
        RuntimeError
            It had ended before, or could not end well: the recording is not whole.
        """
        ended = self._process.poll() is not None
        self._process.terminate()
        if self._process.wait() != 0 or ended:
            raise RuntimeError(
                f"rdahub record ended with code {self._process.returncode}: the recording is not whole"
            )
