"""The log: JSON lines on a real descriptor, levels, rate limit, and descriptors that misbehave."""

# ruff: noqa: D102 - the names say it
from __future__ import annotations

import fcntl
import json
import logging
import os
import select
import socket
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetryd.clock import Clock
from telemetryd.log import (
    ALLOWED,
    LEVELS,
    QUIET_SECONDS,
    EventLog,
    Level,
    Log,
    flush,
    utc_timestamp,
)
from telemetryd.logging_bridge import LoggingBridge


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

    def read_until(
        self, done: Callable[[bytes], bool], begin: Callable[[], object] = lambda: None
    ) -> bytes:
        """What comes until `done` says so, while `begin` runs in a thread."""
        thread = threading.Thread(target=begin)
        thread.start()
        got = b""
        while not done(got):
            select.select([self.read_end], [], [])
            got += self.read()
        thread.join()
        return got

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


class HandClock(Clock):
    """Monotonic seconds, moved by hand."""

    def __init__(self, now: float = 1.0) -> None:
        super().__init__(monotonic=lambda: self.now)
        self.now = now


def test_a_line_has_time_level_event_logger_and_facts(pipe: Pipe) -> None:
    Log(fd=pipe.write_end)("info", "listening", port=4243, sinks=["a"])
    (record,) = pipe.records()
    assert record.pop("ts").endswith("Z")
    assert record == {
        "level": "info", "event": "listening", "logger": "telemetryd", "port": 4243, "sinks": ["a"],
    }  # fmt: skip


def test_each_level_has_a_method_and_a_name(pipe: Pipe) -> None:
    log = Log("debug", fd=pipe.write_end)
    log.debug("d", level="a fact")
    log.info("i")
    log.warning("w")
    log.error("e")
    log("error", "c", event="a fact")
    assert [(record["level"], record["event"]) for record in pipe.records()] == [
        ("a fact", "d"), ("info", "i"), ("warning", "w"), ("error", "e"), ("error", "a fact"),
    ]  # fmt: skip


def test_a_log_of_no_kind_keeps_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    EventLog[str]().error("told")
    assert capfd.readouterr() == ("", "")


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
    pipe: Pipe, level: Level, events: list[str]
) -> None:
    log = Log(level, fd=pipe.write_end)
    for name in LEVELS:
        log(name, name[0])
    log.statement("ledger", {"balanced": True})
    assert [record["event"] for record in pipe.records()] == [*events, "ledger"]


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_equal_lines_of_any_level_are_limited(pipe: Pipe, level: Level) -> None:
    clock = HandClock()
    log = Log("debug", fd=pipe.write_end, clock=clock)
    got = []
    for _ in range(ALLOWED[level] + 7):
        log(level, "told")
        got += pipe.records()
    assert len(got) == ALLOWED[level]
    clock.now += QUIET_SECONDS
    log(level, "told")
    (late,) = pipe.records()
    assert late["suppressed"] == 7


def test_equal_warnings_are_limited_by_event_and_sink_and_the_rest_counted(pipe: Pipe) -> None:
    clock = HandClock()
    log = Log(fd=pipe.write_end, clock=clock)
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


def test_each_hook_that_is_off_has_a_line(pipe: Pipe) -> None:
    log = Log(fd=pipe.write_end, clock=HandClock())
    for name in ("one", "two", "one"):
        log("error", "hook_off", hook=name, reason="not_started")
    assert [r["hook"] for r in pipe.records()] == ["one", "two"]


@given(st.floats(0, 1e7))
def test_the_first_warning_is_never_suppressed_whatever_the_clock(now: float) -> None:
    pipe = Pipe()
    try:
        log = Log(fd=pipe.write_end, clock=HandClock(now))
        log("error", "write_failed", sink="a")
        assert len(pipe.records()) == 1
    finally:
        pipe.close()


def test_endless_kinds_of_warnings_are_not_remembered_endlessly(pipe: Pipe) -> None:
    fcntl.fcntl(pipe.write_end, fcntl.F_SETPIPE_SZ, 1 << 20)
    log = Log(fd=pipe.write_end, clock=HandClock())
    for number in range(2000):
        log("warning", f"event_{number}")
    assert len(log._recent) <= 257
    assert len(pipe.records()) == 257, "beyond those remembered, all share what one kind may"


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
    log("error", "one")
    log.statement("ledger", {})
    assert log.skipped_lines == 2
    os.close(write_end)


@pytest.mark.parametrize("blocking", [True, False])
def test_a_full_pipe_costs_lines_but_neither_the_log_nor_the_ledger(
    pipe: Pipe, blocking: bool
) -> None:
    """The flag on the descriptor is its owner's, and is left alone."""
    os.set_blocking(pipe.write_end, blocking)
    log = Log("debug", fd=pipe.write_end, clock=HandClock())
    for number in range(100):
        log("debug", "told", number=number, text="x" * 6000)  # more than a pipe takes in one piece
    assert os.get_blocking(pipe.write_end) is blocking
    skipped = log.skipped_lines
    assert skipped > 0
    got = pipe.read_until(
        lambda data: b'"ledger"' in data and data.endswith(b"\n"),
        begin=lambda: log.statement("ledger", {}),
    )
    records = [json.loads(line) for line in got.splitlines()]
    assert [r.get("number") for r in records[:-2]] == list(range(100 - skipped))
    assert (records[-2]["event"], records[-2]["lines"]) == ("log_lines_skipped", skipped)
    assert records[-1]["event"] == "ledger"


def test_a_ledger_that_finds_no_reader_is_not_waited_for_for_ever(pipe: Pipe) -> None:
    log = Log(fd=pipe.write_end)
    log("info", "told", text="x" * 200_000)
    log.statement("ledger", {})
    flush()  # nor at the end of the process, once more
    assert pipe.read_until(lambda data: data.count(b"\n") == 2).count(b'"ledger"') == 1


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
def test_a_socket_that_is_not_read_costs_lines_alone(kind: socket.SocketKind) -> None:
    """As of systemd's journal, or a container engine."""
    here, there = socket.socketpair(socket.AF_UNIX, kind)
    with here, there:
        log = Log("debug", fd=there.fileno(), clock=HandClock())
        for number in range(900):
            log("debug", "told", number=number, text="x" * 2000)
        assert log.skipped_lines > 0
        assert json.loads(here.recv(1 << 20).splitlines()[0])["number"] == 0


def test_a_stopped_terminal_costs_lines_alone() -> None:
    """As Ctrl-S stops it."""
    ours, theirs = os.openpty()
    try:
        termios.tcflow(theirs, termios.TCOOFF)
        log = Log("debug", fd=theirs, clock=HandClock())
        for number in range(900):
            log("debug", "told", number=number, text="x" * 500)
        assert log.skipped_lines > 0
        termios.tcflow(theirs, termios.TCOON)
        assert json.loads(os.read(ours, 4096).splitlines()[0])["number"] == 0
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_file_gets_every_line_in_order_and_a_full_one_costs_its_own(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        log = Log("debug", fd=file.fileno(), clock=HandClock())
        for number in range(50):
            log("debug", "told", number=number)
        log.statement("ledger", {})
    lines = (tmp_path / "log").read_bytes().splitlines()
    assert [json.loads(line).get("number") for line in lines] == [*range(50), None]
    with Path("/dev/full").open("wb") as full:
        log = Log(fd=full.fileno())
        log("info", "told")
        log.statement("ledger", {})
        assert log.skipped_lines >= 2


def test_a_line_waits_for_a_thread_that_can_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start
    with (tmp_path / "log").open("wb") as file:
        log = Log(fd=file.fileno())

        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)
        log("info", "told", number=1)
        monkeypatch.setattr(threading.Thread, "start", start)
        log.statement("ledger", {"number": 2})  # waits until everything is written
    lines = (tmp_path / "log").read_text().splitlines()
    assert [json.loads(line)["number"] for line in lines] == [1, 2]


def test_what_was_logged_is_written_before_the_process_ends() -> None:
    """Standard error being a file, which a thread writes to."""
    code = (
        "import sys; from telemetryd import __main__ as m, log; l = log.Log();"
        "[l('warning', f'e{n}') for n in range(200)]; m._end(7)"
    )
    with tempfile.TemporaryFile() as file:
        assert (
            subprocess.run([sys.executable, "-c", code], stderr=file, check=False).returncode == 7
        )
        file.seek(0)
        assert len(file.readlines()) == 200


def test_secrets_are_blacked_out(pipe: Pipe) -> None:
    log = Log(fd=pipe.write_end)
    log(
        "error", "write_failed", sink="a", code="http",
        detail='401 of https://me:hunter2@host/in?sig=hunter2 for "Bearer hunter2hunter2"',
        problems=["token=hunter2"],
    )  # fmt: skip
    (record,) = pipe.records()
    assert "hunter2" not in str(record)
    assert record["detail"] == '401 of https://***@host/in?sig=*** for "Bearer ***"'


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
    clock = HandClock()
    handler = LoggingBridge(Log(fd=pipe.write_end, clock=clock))
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
