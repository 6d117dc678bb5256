"""Log lines: written aside, dropped rather than waited for, and few of what could be endless."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from rdahub import limits
from rdahub.cli import main
from rdahub.logs import Logs
from rdahub.seldom import Seldom

log = logging.getLogger("rdahub.test")


@pytest.fixture(autouse=True)
def _level_as_before() -> Iterator[None]:
    root = logging.getLogger()
    before = root.level
    yield
    root.setLevel(before)


def test_lines_are_written_in_order_before_close_returns(capfd: pytest.CaptureFixture[str]) -> None:
    logs = Logs("info")
    log.debug("not this")
    for i in range(100):
        log.info("line %d", i)
    logs.close()
    lines = capfd.readouterr().err.splitlines()
    assert [line.rpartition(" ")[2] for line in lines] == [str(i) for i in range(100)]
    assert all("INFO" in line and "rdahub.test: line" in line for line in lines)


def test_a_pipe_that_nobody_reads_stops_nobody_and_the_lost_lines_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read, write = os.pipe()
    with os.fdopen(write, "w") as pipe, os.fdopen(read, "rb") as other_end:
        monkeypatch.setattr(sys, "stderr", pipe)
        logs = Logs("info")
        sent = 5 * limits.LOG_LINES
        for i in range(sent):
            log.info("%d %s", i, "x" * 200)
        # Nobody has read a byte until now. From here on there is room again.
        got = b""
        while b" last\n" not in got:
            log.info("last")
            got += other_end.read1(1 << 20)
        dropped = sum(int(line.split()[0][1:]) for line in got.splitlines() if b"were dropped" in line)
        written = got.count(b"xxx\n")
        logs.close()
    assert dropped > 0
    assert written + dropped >= sent


def test_closing_does_not_wait_for_a_pipe_that_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    with os.fdopen(write, "w") as pipe:
        monkeypatch.setattr(sys, "stderr", pipe)
        logs = Logs("info")
        for _ in range(500):
            log.info("x" * 1000)
        logs.close()  # the test's own time-out is what would tell
        os.close(read)


def test_a_stream_that_is_no_file_is_written_to(capsys: pytest.CaptureFixture[str]) -> None:
    logs = Logs("warning")
    log.warning("as seen by a notebook")
    logs.close()
    assert "as seen by a notebook" in capsys.readouterr().err


# --- as JSON ---------------------------------------------------------------------------------------------


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_every_line_is_one_json_object_with_the_same_keys(capfd: pytest.CaptureFixture[str]) -> None:
    logs = Logs("info", "json")
    log.debug("not this")
    log.info("Recorder %s: %d µV", "a\nb", 7)
    log.warning('with "quotes"')
    logs.close()
    first, second = objects(capfd.readouterr().err)
    assert first["message"] == "Recorder a\nb: 7 µV"
    assert second["message"] == 'with "quotes"'
    assert (first["level"], second["level"]) == ("info", "warning")
    assert set(first) == set(second) == {"time", "level", "logger", "message"}
    assert first["logger"] == "rdahub.test"
    time = datetime.fromisoformat(first["time"])
    assert time.utcoffset() == timedelta(0)
    assert time <= datetime.fromisoformat(second["time"])


def test_an_exception_stays_on_its_line(capfd: pytest.CaptureFixture[str]) -> None:
    logs = Logs("info", "json")
    try:
        raise KeyError("deep")
    except KeyError:
        log.exception("an error of the hub's own")
    log.info("next")
    logs.close()
    error, after = objects(capfd.readouterr().err)
    assert error["level"] == "error"
    assert error["message"] == "an error of the hub's own"
    assert error["exception"].startswith("Traceback")
    assert "KeyError: 'deep'" in error["exception"]
    assert after["message"] == "next"


def test_lost_lines_are_counted_in_json_too(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    with os.fdopen(write, "w") as pipe, os.fdopen(read, "rb") as other_end:
        monkeypatch.setattr(sys, "stderr", pipe)
        logs = Logs("info", "json")
        sent = 5 * limits.LOG_LINES
        for i in range(sent):
            log.info("%d %s", i, "x" * 200)
        got = b""
        while b'"last"' not in got:
            log.info("last")
            got += other_end.read1(1 << 20)
        written = got[: got.rfind(b"\n")].decode()
        logs.close()
    lines = [line["message"] for line in objects(written)]
    dropped = sum(int(line.split()[0][1:]) for line in lines if "were dropped" in line)
    assert dropped > 0
    assert sum("xxx" in line for line in lines) + dropped >= sent


def test_the_last_word_of_a_command_is_json_too(capfd: pytest.CaptureFixture[str]) -> None:
    command = ["status", "127.0.0.1:1", "--timeout=50ms"]
    assert main([*command, "--log-format=json"]) == 2
    (line,) = objects(capfd.readouterr().err)
    assert line["level"] == "error"
    assert "no hub answers" in line["message"]
    assert main(command) == 2
    assert capfd.readouterr().err.startswith("rdahub status: no hub answers")


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


def test_of_a_kind_of_line_few_are_logged_and_the_rest_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    monkeypatch.setattr("rdahub.seldom.time", clock)
    seldom = Seldom(log, lines=2)
    with caplog.at_level("INFO"):
        for i in range(10):
            seldom.warn(f"peer {i}")
        clock.now += limits.SELDOM_SECONDS
        seldom.tell("peer 10")
        seldom.tell("peer 11")
    assert caplog.messages == ["peer 0", "peer 1", "peer 10 (and 8 more like it before)", "peer 11"]
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2 + ["INFO"] * 2
