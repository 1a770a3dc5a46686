"""Sends lines on a schedule and times each from when it should have been sent until it is there.

The schedule does not wait for the receiver: a line that could not be sent in time counts from when
it was due (no coordinated omission). Sending and looking take turns in one thread, a millisecond
each, so no latency is known better than that.
"""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Final, NamedTuple

from bench.lines import block_of_lines

TICK_SECONDS: Final = 0.001
_MARK: Final = b'{"time":"2026-03-14T10:15:30.123Z","type":"function","record":"due '
_DIGITS: Final = 20
_PATIENCE_SECONDS: Final = 10.0


class Paced(NamedTuple):
    """What became of the lines."""

    sent: int
    arrived: int
    latencies: list[float]
    """Seconds, of one line in each tick."""


def drive(port: int, output: Path, *, rate: int, seconds: float, line_bytes: int) -> Paced:
    """Send `rate` lines a second for so long, and read them back from `output`."""
    filler = block_of_lines(line_bytes).splitlines(keepends=True)
    per_tick = rate * TICK_SECONDS
    ticks = round(seconds / TICK_SECONDS)
    sent = 0
    arrivals = _Arrivals(output)
    with socket.create_connection(("127.0.0.1", port)) as sock:
        began = time.perf_counter()
        for tick in range(ticks):
            due = began + tick * TICK_SECONDS
            count = int((tick + 1) * per_tick) - int(tick * per_tick)
            if count:
                first = _MARK + b"%020d" % int(due * 1e9) + b'"}\n'
                at = sent % max(len(filler) - count, 1)
                while (early := due - time.perf_counter()) > 0:
                    arrivals.look()
                    if early > TICK_SECONDS / 4:
                        time.sleep(TICK_SECONDS / 8)
                sock.sendall(first + b"".join(filler[at : at + count - 1]))
                sent += count
            arrivals.look()
        end = time.perf_counter() + _PATIENCE_SECONDS
        while arrivals.lines < sent and time.perf_counter() < end:
            arrivals.look()
            time.sleep(TICK_SECONDS / 4)
    return Paced(sent, arrivals.lines, arrivals.latencies)


class _Arrivals:
    """Reads a growing file, and notes when marked lines are there."""

    def __init__(self, path: Path) -> None:
        self.lines = 0
        self.latencies: list[float] = []
        self._path = path
        self._file = None
        self._rest = b""

    def look(self) -> None:
        """Read what is new."""
        if self._file is None:
            if not self._path.exists():
                return
            self._file = self._path.open("rb", buffering=0)
        data = self._file.read(1 << 22)
        if not data:
            return
        now = time.perf_counter()
        self.lines += data.count(b"\n")
        data = self._rest + data
        at = data.find(_MARK)
        while at >= 0 and at + len(_MARK) + _DIGITS <= len(data):
            start = at + len(_MARK)
            self.latencies.append(now - int(data[start : start + _DIGITS]) / 1e9)
            at = data.find(_MARK, start)
        keep = len(_MARK) + _DIGITS - 1
        self._rest = data[at:] if at >= 0 else data[-keep:]
        if at < 0 and _MARK in self._rest:
            self._rest = b""
