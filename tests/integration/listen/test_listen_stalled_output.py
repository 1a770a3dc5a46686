"""Standard error or output that takes nothing stops neither reading, nor delivery, nor the end."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.daemon import (
    EXIT_SECONDS,
    PATIENCE_SECONDS,
    Daemon,
    Settings,
    assert_balanced,
    file_sink,
    leaf_of,
    sink,
)
from helpers.lines import event, events
from helpers.measured import MEASURED
from helpers.ports import reserved

TOO_LONG = b"y" * 3000 + b"\n"


class Stalled:
    """What no one reads, full to the brim, for a process to write its log to."""

    def __init__(self, ours: int, theirs: int) -> None:
        self.ours, self.theirs = ours, theirs

    def fill(self) -> None:
        """Write until there is no room."""
        os.set_blocking(self.theirs, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(self.theirs, b"z" * 500)
        os.set_blocking(self.theirs, True)

    def records(self) -> list[dict[str, Any]]:
        """All that comes until every writer is gone."""
        os.close(self.theirs)
        got = b""
        with contextlib.suppress(OSError):  # EIO: what a terminal says at its end
            while data := os.read(self.ours, 65536):
                got += data
        lines = (line[line.find(b"{") :] for line in got.splitlines())
        return [json.loads(line) for line in lines if line.startswith(b"{") and line[-1:] == b"}"]


@contextlib.contextmanager
def stalled(kind: str) -> Iterator[Stalled]:
    if kind == "pipe":
        ours, theirs = os.pipe()
    elif kind == "socket":
        ours, theirs = (end.detach() for end in socket.socketpair())
    else:
        ours, theirs = pty.openpty()
        termios.tcflow(theirs, termios.TCOOFF)
    channel = Stalled(ours, theirs)
    if kind != "terminal":
        channel.fill()
    try:
        yield channel
    finally:
        os.close(ours)


@contextlib.contextmanager
def listening(tmp_path: Path, stderr: int, **settings: object) -> Iterator[tuple[Any, int]]:
    """A daemon with this standard error, once it takes connections; and its port."""
    with reserved() as port:
        keys = {"TELEMETRY__PORT": port, "METRICS__LISTEN": "", **settings}
        process = subprocess.Popen(
            [sys.executable, "-m", "telemetryd", "listen"],
            env=MEASURED | {f"TELEMETRYD_{key}": str(value) for key, value in keys.items()},
            cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr,
        )  # fmt: skip
        try:
            while True:
                assert process.poll() is None
                with contextlib.suppress(ConnectionRefusedError):
                    send(port, b"")
                    break
            yield process, port
        finally:
            process.kill()
            process.wait()


def send(port: int, data: bytes) -> None:
    """Returns when all of it has been read."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""


@pytest.mark.parametrize("kind", ["pipe", "socket", "terminal"])
def test_a_log_that_is_not_read_holds_nothing_up(tmp_path: Path, kind: str) -> None:
    archive = tmp_path / "archive"
    settings = {"TELEMETRY__MAX_LINE_BYTES": 1024, "LOG__LEVEL": "debug", **file_sink(archive)}
    with (
        stalled(kind) as channel,
        listening(tmp_path, channel.theirs, **settings) as (process, port),
    ):
        for turn in range(50):
            send(port, event(turn) + TOO_LONG)
        process.send_signal(signal.SIGTERM)
        assert process.wait(EXIT_SECONDS) == 0
    assert archive.read_bytes() == events(50)


def test_when_it_is_read_again_the_log_goes_on_and_tells_what_was_skipped(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    settings = {"TELEMETRY__MAX_LINE_BYTES": 1024, "LOG__LEVEL": "debug", **file_sink(archive)}
    with (
        stalled("pipe") as channel,
        listening(tmp_path, channel.theirs, **settings) as (process, port),
    ):
        for turn in range(400):  # three lines each, more than is kept for later
            send(port, event(turn) + TOO_LONG)
        process.send_signal(signal.SIGTERM)
        records = channel.records()
        assert process.wait(EXIT_SECONDS) == 0
    assert archive.read_bytes() == events(400)
    assert sum(r["lines"] for r in records if r["event"] == "log_lines_skipped") > 0
    assert records[-1]["event"] == "ledger"
    assert_balanced(records[-1])


def test_without_a_sink_a_terminal_gets_the_lines_and_anything_else_none(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with Daemon(tmp_path, stdout_fd=theirs) as daemon:
        os.close(theirs)
        daemon.send(events(3))
        outcome = daemon.stop()
    printed = b""
    with contextlib.suppress(OSError):  # EIO: what a terminal says at its end
        while data := os.read(ours, 65536):
            printed += data
    os.close(ours)
    assert printed.replace(b"\r\n", b"\n") == events(3)
    assert outcome.sink("default")["delivered"] == leaf_of(events(3))
    with Daemon(tmp_path) as daemon:
        daemon.send(events(3))
        outcome = daemon.stop()
    assert outcome.stdout == b""


def test_standard_output_that_is_not_read_costs_its_own_lines(tmp_path: Path) -> None:
    """Not the lines of other sinks, and they are lost by name."""
    archive, data = tmp_path / "archive", events(3000)
    out: Settings = sink("out", type="stdout", overflow="drop_oldest")
    end: Settings = {"FLUSH__SHUTDOWN_MS": 1500}
    with Daemon(tmp_path, stdout_pipe=True, **end, **out, **file_sink(archive)) as daemon:
        for _ in range(3):
            daemon.send(data)
        daemon.wait_for_file(archive, 3 * len(data))
        outcome = daemon.stop()
    assert outcome.sink()["delivered"] == leaf_of(3 * data)
    (reason,) = outcome.sink("out")["dropped"]
    assert reason in ("shutdown", "timeout")
