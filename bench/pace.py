"""Sends lines on a schedule and times each from when it should have been sent until it is there.

The schedule does not wait for the receiver: a line that could not be sent in time counts from when
it was due (no coordinated omission). Sending and looking take turns in one thread, and one line of
each tick carries the time it was due, so no latency is known better than a tick.
"""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, NamedTuple, Self

import msgspec

from bench.scenario import Source
from bench.send import Traffic

TICK_SECONDS: Final = 0.001
SAMPLE_SECONDS: Final = 1.0
_MARK: Final = b'{"time":"2026-03-14T10:15:30.123Z","type":"function","record":"due '
_DIGITS: Final = 20
_PATIENCE_SECONDS: Final = 10.0
_READ_BYTES: Final = 1 << 22


class Paced(NamedTuple):
    """What became of the lines."""

    lines: int
    bytes: int
    arrived: int
    """Lines in the file when nothing more came."""
    seconds: float
    """From the first line until then."""
    latencies: list[float]
    """Seconds, of one line in each tick, in the order of their arrival."""
    samples: list[float]
    """What `sample` returned, once a second."""
    wrong: str | None
    """The first difference between the file and what was sent."""
    schedule: Schedule
    """What was sent."""


class Schedule:
    """What is sent in which tick, the same each time it is asked."""

    def __init__(self, source: Source) -> None:
        self.began = 0.0
        """By `time.perf_counter`; to be set when the first tick is due."""
        self.ticks = round(source.seconds / TICK_SECONDS)
        lines = max(round(source.rate * source.seconds), 1)
        blocks = Traffic(msgspec.structs.replace(source, lines=lines)).blocks
        self._filler = b"".join(blocks).splitlines(keepends=True)
        self._per_tick = source.rate * TICK_SECONDS

    def due(self, tick: int) -> float:
        """When, by `time.perf_counter`."""
        return self.began + tick * TICK_SECONDS

    def counts(self) -> Counter[bytes]:
        """How often each line is sent in all."""
        found: Counter[bytes] = Counter()
        for tick in range(self.ticks):
            found.update(self.lines(tick)[1].splitlines(keepends=True))
        return found

    def lines(self, tick: int) -> tuple[int, bytes]:
        """How many, and their bytes; the first one tells when it was due."""
        first, end = int(tick * self._per_tick), int((tick + 1) * self._per_tick)
        count = end - first
        if not count:
            return 0, b""
        at = first % max(len(self._filler) - count, 1)
        mark = _MARK + b"%020d" % int(self.due(tick) * 1e9) + b'"}\n'
        return count, mark + b"".join(self._filler[at : at + count - 1])


def latencies(arrived: Iterable[tuple[float, Iterable[bytes]]]) -> list[float]:
    """Seconds that the marked ones among lines took, given when each few of them arrived."""
    found = []
    for at, lines in arrived:
        for line in lines:
            if line.startswith(_MARK):
                due = int(line[len(_MARK) : len(_MARK) + _DIGITS]) / 1e9
                found.append(at - due)
    return found


def drive(
    port: int,
    output: Path | None,
    source: Source,
    sample: Callable[[], float] | None = None,
    ahead: bytes = b"",
) -> Paced:
    """Send `source.rate` lines a second for `source.seconds`, and read them back from `output`.

    Without one it is over when the last line is sent. `sample` is called once a second meanwhile;
    `ahead` is the line that was sent before.
    """
    sent = size = 0
    samples: list[float] = []
    schedule = Schedule(source)
    with (
        _Arrivals(output) as arrivals,
        socket.create_connection(("127.0.0.1", port)) as sock,
    ):
        # the kernel must not keep a tick's lines back until those of the last one are acknowledged
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = schedule.began = time.perf_counter()
        for tick in range(schedule.ticks):
            count, data = schedule.lines(tick)
            while (early := schedule.due(tick) - time.perf_counter()) > 0:
                arrivals.look()
                if early > TICK_SECONDS / 4:
                    time.sleep(TICK_SECONDS / 8)
            if count:
                sock.sendall(data)
                sent, size = sent + count, size + len(data)
            arrivals.look()
            if sample and time.perf_counter() - began > SAMPLE_SECONDS * (len(samples) + 1):
                samples.append(sample())
        end = time.perf_counter() + _PATIENCE_SECONDS
        while output and arrivals.lines < sent + bool(ahead) and time.perf_counter() < end:
            arrivals.look()
            time.sleep(TICK_SECONDS / 4)
        seconds = time.perf_counter() - began
    wrong = _difference(schedule, output, ahead) if output else None
    return Paced(sent, size, arrivals.lines, seconds, arrivals.latencies, samples, wrong, schedule)


def _difference(schedule: Schedule, output: Path, ahead: bytes) -> str | None:
    """The first tick whose lines are not where they should be in the file; or None."""
    if not output.exists():
        return "nothing arrived"
    with output.open("rb") as file:
        if (found := file.read(len(ahead))) != ahead:
            return f"the file begins with {found!r}, not {ahead!r}"
        for tick in range(schedule.ticks):
            _, data = schedule.lines(tick)
            if (found := file.read(len(data))) != data:
                return f"tick {tick} arrived as {found[:120]!r}, not {data[:120]!r}"
        if more := file.read(120):
            return f"more arrived than was sent: {more!r}"
    return None


class _Arrivals:
    """Reads a growing file, and notes when marked lines are there."""

    def __init__(self, path: Path | None) -> None:
        self.lines = 0
        self.latencies: list[float] = []
        self._path = path
        self._descriptor = -1
        self._rest = b""

    def look(self) -> None:
        """Read what is new."""
        if self._descriptor < 0:
            if self._path is None or not self._path.exists():
                return
            self._descriptor = os.open(self._path, os.O_RDONLY)
        data = os.read(self._descriptor, _READ_BYTES)
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
        self._rest = data[at:] if at >= 0 else data[1 - len(_MARK) :]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
