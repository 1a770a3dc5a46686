"""The log: JSON lines on a real descriptor, levels, rate limit, and descriptors that misbehave."""

# ruff: noqa: D102 - the names say it
from __future__ import annotations

import fcntl
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetryd.log import QUIET_SECONDS, Log, LoggingBridge, utc_timestamp


class Pipe:
    """A pipe whose written end is a log's descriptor."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        os.set_blocking(self.read_end, False)

    def read(self) -> bytes:
        chunks = []
        while True:
            try:
                chunk = os.read(self.read_end, 1 << 20)
            except BlockingIOError:
                break
            if not chunk:
                break
            chunks.append(chunk)
        return b"".join(chunks)

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.read().splitlines()]

    def close(self) -> None:
        for fd in (self.read_end, self.write_end):
            os.close(fd)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


class Clock:
    """Seconds, moved by hand."""

    def __init__(self, now: float = 1.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_a_line_has_time_level_event_logger_and_facts(pipe: Pipe) -> None:
    Log(fd=pipe.write_end)("info", "listening", port=4243, sinks=["a"])
    (record,) = pipe.records()
    assert record.pop("ts").endswith("Z")
    assert record == {
        "level": "info", "event": "listening", "logger": "telemetryd", "port": 4243, "sinks": ["a"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("level", "events"),
    [
        ("debug", ["d", "i", "w", "e"]),
        ("info", ["i", "w", "e"]),
        ("warning", ["w", "e"]),
        ("error", ["e"]),
    ],
)
def test_levels_below_are_silent_but_a_statement_never_is(
    pipe: Pipe, level: str, events: list[str]
) -> None:
    log = Log(level, fd=pipe.write_end)
    for name in ("debug", "info", "warning", "error"):
        log(name, name[0])
    log.statement("ledger", {"balanced": True})
    assert [record["event"] for record in pipe.records()] == [*events, "ledger"]


def test_equal_warnings_are_limited_by_event_and_sink_and_the_rest_counted(pipe: Pipe) -> None:
    clock = Clock()
    log = Log(fd=pipe.write_end, monotonic=clock)
    for _ in range(5):
        log("warning", "lines_dropped", sink="a")
        log("warning", "lines_dropped", sink="b")
        log("info", "told", sink="a")
    clock.now += QUIET_SECONDS
    log("warning", "lines_dropped", sink="a")
    facts = [(r["event"], r["sink"], r.get("suppressed")) for r in pipe.records()]
    assert facts == [
        ("lines_dropped", "a", None),
        ("lines_dropped", "b", None),
        *[("told", "a", None)] * 5,
        ("lines_dropped", "a", 4),
    ]


@given(st.floats(0, 1e7))
def test_the_first_warning_is_never_suppressed_whatever_the_clock(now: float) -> None:
    pipe = Pipe()
    try:
        log = Log(fd=pipe.write_end, monotonic=Clock(now))
        log("error", "write_failed", sink="a")
        assert len(pipe.records()) == 1
    finally:
        pipe.close()


def test_endless_kinds_of_warnings_are_not_remembered_endlessly(pipe: Pipe) -> None:
    fcntl.fcntl(pipe.write_end, fcntl.F_SETPIPE_SZ, 1 << 20)
    log = Log(fd=pipe.write_end, monotonic=Clock())
    for number in range(2000):
        log("warning", f"event_{number}")
    assert len(log._recent) <= 256
    assert len(pipe.records()) == 2000


@pytest.mark.parametrize(
    "value", [b"\xff", {1, 2}, object(), 2**70, float("nan"), ValueError("x"), {("a", 1): "b"}]
)
def test_any_fact_can_be_written(pipe: Pipe, value: object) -> None:
    Log(fd=pipe.write_end)("info", "told", value=value)
    assert pipe.records()[0]["event"] == "told"


def test_a_path_that_is_not_utf_8_can_be_written(pipe: Pipe) -> None:
    Log(fd=pipe.write_end)("error", "write_failed", path=os.fsdecode(b"/tmp/\xff"), sink="a")
    (record,) = pipe.records()
    assert (record["event"], record["logger"]) == ("write_failed", "telemetryd")
    assert record["path"] == "/tmp/\\udcff"  # noqa: S108 - a text


def test_a_log_whose_reader_went_away_is_silent() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    log = Log(fd=write_end)
    try:
        log("error", "one")
        log.statement("ledger", {})
        assert log._fd != write_end
    finally:
        os.close(log._fd)
        os.close(write_end)


def test_a_full_pipe_that_does_not_block_costs_lines_but_neither_the_log_nor_the_ledger(
    pipe: Pipe,
) -> None:
    os.set_blocking(pipe.write_end, False)
    log = Log("debug", fd=pipe.write_end, monotonic=Clock())
    for number in range(100):
        log("info", "told", number=number, text="x" * 6000)  # more than a pipe takes in one piece
    early = pipe.read()
    assert not early.endswith(b"\n")
    log("info", "afterwards")
    log.statement("ledger", {"balanced": True})
    whole = early[: early.rfind(b"\n")].splitlines()
    assert [json.loads(line)["number"] for line in whole] == list(range(len(whole)))
    late = pipe.read()
    assert late.startswith(b"\n")
    assert [json.loads(line)["event"] for line in late[1:].splitlines()] == ["afterwards", "ledger"]


def test_the_ledger_waits_for_a_reader_that_is_slow(pipe: Pipe) -> None:
    os.set_blocking(pipe.write_end, False)
    log = Log(fd=pipe.write_end)
    size = 400_000  # several pipes full
    got = bytearray()

    def read() -> None:
        os.set_blocking(pipe.read_end, True)
        while not got.endswith(b"}\n"):
            got.extend(os.read(pipe.read_end, 65536))

    reader = threading.Thread(target=read)
    reader.start()
    log.statement("ledger", {"big": "z" * size})
    reader.join()
    assert len(json.loads(got)["big"]) == size


def test_utc_timestamp() -> None:
    assert utc_timestamp(1773483330.1239) == "2026-03-14T10:15:30.123Z"
    assert utc_timestamp(0) == "1970-01-01T00:00:00.000Z"


def test_libraries_logs_take_the_same_way(pipe: Pipe) -> None:
    clock = Clock()
    handler = LoggingBridge(Log(fd=pipe.write_end, monotonic=clock))
    logger = logging.getLogger("some.library")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        logger.info("not this")
        try:
            int("cause")
        except ValueError:
            logger.exception("it %s", "failed")
        clock.now += QUIET_SECONDS
        logger.warning("%d is no number", "x")
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
    first, second = pipe.records()
    assert (first["level"], first["event"], first["library"]) == (
        "error", "library_message", "some.library",
    )  # fmt: skip
    assert first["message"] == "it failed"
    assert first["error"].startswith("ValueError(")
    assert second["message"] == "%d is no number"


def test_standard_error_is_the_default() -> None:
    code = "from telemetryd.log import Log; Log()('error', 'told')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert (json.loads(done.stderr)["event"], done.stdout) == ("told", b"")
