"""Clocks that are set by a day, between processes and within one: spool, rotation and retention.

The daemon runs under libfaketime, which sets the wall clock as an administrator or NTP would.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.system

DAY = 86_400
LINE = b'{"type":"function","record":"x"}\n'
LIBRARIES = (
    *Path("/usr/lib").glob("*/faketime/libfaketime.so.1"),
    *Path("/usr/lib").glob("faketime/libfaketime.so.1"),
)


@pytest.fixture(scope="module")
def library() -> Path:
    if not LIBRARIES:
        pytest.fail("missing: libfaketime (Debian: apt-get install faketime)", pytrace=False)
    return LIBRARIES[0]


class Running:
    """`telemetryd listen`, with a clock that can be set."""

    def __init__(self, process: subprocess.Popen[bytes], setting: Path) -> None:
        self.process = process
        self._setting = setting
        self._read: list[dict[str, Any]] = []
        self.port = self.until("listening")["port"]

    def until(self, event: str) -> dict[str, Any]:
        """The next record of `event` in its log."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            record: dict[str, Any] = json.loads(line)
            self._read.append(record)
            if record["event"] == event:
                return record
        raise AssertionError(self._read)

    def send(self, lines: int) -> None:
        """Send so many, and wait until they are read."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall(LINE * lines)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b""

    def step(self, seconds: int) -> None:
        """Set the clock, relative to the true time."""
        fresh = self._setting.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}\n")
        fresh.replace(self._setting)

    def stop(self) -> dict[str, Any]:
        """The sink's page of the ledger."""
        self.process.send_signal(signal.SIGTERM)
        ledger = self.until("ledger")
        assert ledger["balanced"]
        assert self.process.wait(60) == 0
        page: dict[str, Any] = ledger["sinks"]["a"]
        return page


@contextmanager
def listening(library: Path, directory: Path, seconds: int, **sink: object) -> Iterator[Running]:
    setting = directory / "clock"
    setting.write_text(f"{seconds:+d}\n")
    variables = {f"TELEMETRYD_SINKS__A__{key}": str(value) for key, value in sink.items()}
    environ = {
        "PATH": os.environ["PATH"], "LD_PRELOAD": str(library), "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_TIMESTAMP_FILE": str(setting), "FAKETIME_NO_CACHE": "1",
        "TELEMETRYD_TELEMETRY__PORT": "0", "TELEMETRYD_METRICS__LISTEN": "",
        "TELEMETRYD_SINKS__A__TYPE": "file", **variables,
    }  # fmt: skip
    command = [sys.executable, "-m", "telemetryd", "listen"]
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE) as process:
        try:
            yield Running(process, setting)
        finally:
            process.kill()


@pytest.mark.parametrize(("before", "within"), [(-DAY, DAY), (DAY, -DAY), (0, DAY), (0, -DAY)])
def test_no_step_of_the_clock_expires_spooled_lines(
    library: Path, tmp_path: Path, before: int, within: int
) -> None:
    (tmp_path / "blocked").write_bytes(b"")
    spool = {"SPOOL__PATH": tmp_path / "spool", "RETRY_MAX_ELAPSED_MS": 100}
    nowhere = tmp_path / "blocked" / "out"
    with listening(library, tmp_path, before, PATH=nowhere, **spool) as running:
        running.send(500)
        running.until("write_failed")
        running.step(within)
        running.send(500)
        page = running.stop()
    assert page["spooled"]["lines"] == 1000
    with listening(library, tmp_path, 0, PATH=tmp_path / "out", **spool) as running:
        running.step(-within)
        page = running.stop()
    assert page["dropped"] == {}
    assert page["delivered"]["lines"] == 1000
    assert (tmp_path / "out").read_bytes() == LINE * 1000


@pytest.mark.parametrize("step", [-DAY, DAY])
def test_no_step_of_the_clock_rotates_a_file_or_deletes_the_newest(
    library: Path, tmp_path: Path, step: int
) -> None:
    out = tmp_path / "out"
    keys = {"PATH": out, "ROTATE_SECONDS": 3600, "ROTATE_BYTES": 100_000, "KEEP": 2}
    for clock in (step, 0, -step, 0):
        with listening(library, tmp_path, clock, **keys) as running:
            running.send(1)
            running.step(step)
            running.send(1)
            assert running.stop()["delivered"]["lines"] == 2
    assert out.read_bytes() == LINE * 8
    for number, clock in enumerate((step, 0, -step, 0)):
        with listening(library, tmp_path, clock, **keys) as running:
            running.send(2900 + number)
            running.stop()
    rotated = sorted(path for path in tmp_path.glob("out.*Z"))
    counts = [path.read_bytes().count(b"\n") for path in [*rotated, out]]
    assert len(rotated) == 2
    assert sum(counts) == 2901 + 2902 + 2903
