"""Log lines to stderr, by a thread of their own.

Rule: logging never waits. A terminal that is paused, or a pipe that nobody reads, would otherwise stop the
hub at the next line; instead lines are dropped and counted.
As text for people, or one JSON object per line for programs that collect logs.
Not here: what is logged, and how often (`seldom`).
"""

from __future__ import annotations

import json
import logging
import os
import queue
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, TextIO

from rdahub import limits

__all__ = ["Logs", "json_line"]

_FORMAT: Final = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        return json.dumps(line, ensure_ascii=False)


def json_line(level: int, logger: str, message: str) -> str:
    """One line as ``--log-format json`` writes it."""
    return _Json().format(logging.LogRecord(logger, level, "", 0, "%s", (message,), None))


class Logs(logging.Handler):
    """Everything logged in this process, until closed.

    Parameters
    ----------
    level : str
        Least level that is written.
    form : str
        ``text`` or ``json``.
    """

    def __init__(self, level: str, form: str = "text") -> None:
        super().__init__(level.upper())
        self._as_json = form == "json"
        self.setFormatter(_Json() if self._as_json else logging.Formatter(_FORMAT))
        self._lines: queue.Queue[str | None] = queue.Queue(limits.LOG_LINES)
        self._dropped = 0
        self._stream = sys.stderr
        self._writer = threading.Thread(target=self._write_all, name="rdahub-logs", daemon=True)
        self._writer.start()
        logging.getLogger().addHandler(self)
        logging.getLogger().setLevel(self.level)

    def emit(self, record: logging.LogRecord) -> None:
        """Have a line written, or drop it."""
        try:
            line = self.format(record)
            if self._dropped:
                notice = f"({self._dropped} lines were dropped: nobody read them)"
                notice = json_line(logging.WARNING, __name__, notice) if self._as_json else notice
                line = f"{notice}\n{line}"
            self._lines.put_nowait(f"{line}\n")
            self._dropped = 0
        except queue.Full:
            self._dropped += 1
        except Exception:  # noqa: BLE001 - as every handler: a wrong log call must not end the program
            self.handleError(record)

    def _write_all(self) -> None:
        write = _writer(self._stream)
        while (line := self._lines.get()) is not None:
            try:
                write(line)
            except (OSError, ValueError):
                return  # nobody will ever read it

    def close(self) -> None:
        """Write what waits, if somebody reads it, and no more."""
        logging.getLogger().removeHandler(self)
        try:
            self._lines.put_nowait(None)
        except queue.Full:
            return
        self._writer.join(limits.LOG_GOODBYE_SECONDS)
        super().close()


def _writer(stream: TextIO) -> Callable[[str], object]:
    """Write to the descriptor itself: a thread in a Python file's write would stop the interpreter's end."""
    try:
        fd = stream.fileno()
    except (OSError, ValueError):
        return stream.write

    def write(line: str) -> None:
        rest = line.encode(errors="backslashreplace")
        while rest:
            rest = rest[os.write(fd, rest) :]

    return write
