"""Sends lines on a schedule and times each from when it should have been sent until it is there.

The schedule does not wait for the receiver: a line that could not be sent in time counts from when
it was due (no coordinated omission). Sending and looking take turns in one thread. One line of each
tick, the first of the function's, carries in place of its `time` when it was due, so no latency is
known better than a tick. Nothing else of a line is changed, nor any line's length.
"""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple, Self

import msgspec

from bench.load.scenario import Source
from bench.load.send import Traffic

TICK_SECONDS: Final = 0.001
SAMPLE_SECONDS: Final = 1.0
_LEAD: Final = b'{"time":"'
_MARK: Final = b'{"time":"2027-'
"""The beginning of a marked line: no generated line has that year."""
_YEAR: Final = datetime(2027, 1, 1, tzinfo=UTC)
_FUNCTION: Final = b'"type":"function"'
_STAMP: Final = len("2027-01-01T00:00:00.000Z")
_PATIENCE_SECONDS: Final = 10.0
_READ_BYTES: Final = 1 << 22


class Paced(NamedTuple):
    """The outcome for the lines."""

    lines: int
    bytes: int
    arrived: int
    """Lines in the file when nothing more came."""
    seconds: float
    """From the first line until then."""
    latencies: list[float]
    """Seconds, of one line in each tick, in the order of their arrival."""
    samples: list[float]
    """Results of `sample`, once a second."""
    wrong: str | None
    """The first difference between the file and what was sent."""
    schedule: Schedule
    """The schedule that was sent."""


class Schedule:
    """The lines of each tick. It always gives the same lines."""

    def __init__(self, source: Source) -> None:
        self.began = 0.0
        """By `time.perf_counter`; to be set when the first tick is due."""
        self.ticks = round(source.seconds / TICK_SECONDS)
        lines = max(round(source.rate * source.seconds), 1)
        blocks = Traffic(msgspec.structs.replace(source, lines=lines)).blocks
        self._filler = b"".join(blocks).splitlines(keepends=True)
        self._per_tick = source.rate * TICK_SECONDS

    def due(self, tick: int) -> float:
        """Return the time when the tick is due, by `time.perf_counter`."""
        return self.began + tick * TICK_SECONDS

    def counts(self) -> Counter[bytes]:
        """Return how often each line is sent in total."""
        found: Counter[bytes] = Counter()
        for tick in range(self.ticks):
            found.update(self.lines(tick)[1].splitlines(keepends=True))
        return found

    def lines(self, tick: int) -> tuple[int, bytes]:
        """Return the lines' number and bytes. The function's first line has its due time."""
        first, end = int(tick * self._per_tick), int((tick + 1) * self._per_tick)
        at = first % len(self._filler)
        lines = self._filler[at : at + end - first]
        while missing := end - first - len(lines):
            lines += self._filler[:missing]
        for index, line in enumerate(lines):
            if _FUNCTION in line and line.startswith(_LEAD):
                lines[index] = _LEAD + _stamp(tick) + line[len(_LEAD) + _STAMP :]
                break
        return len(lines), b"".join(lines)

    def latencies(self, arrived: Iterable[tuple[float, Iterable[bytes]]]) -> list[float]:
        """Seconds that the marked ones among lines took, given when each few of them arrived."""
        return [
            at - self.due(_tick(line))
            for at, lines in arrived
            for line in lines
            if line.startswith(_MARK)
        ]


def _stamp(tick: int) -> bytes:
    """The time that marks a line of `tick`: so many ticks into a year that is not over."""
    at = _YEAR + timedelta(seconds=tick * TICK_SECONDS)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()


def _tick(line: bytes) -> int:
    """The tick that a marked line tells."""
    stamp = line[len(_LEAD) : len(_LEAD) + _STAMP].decode()
    return round((datetime.fromisoformat(stamp) - _YEAR).total_seconds() / TICK_SECONDS)


def drive(
    port: int,
    output: Path | None,
    source: Source,
    sample: Callable[[], float] | None = None,
    ahead: bytes = b"",
) -> Paced:
    """Send `source.rate` lines a second for `source.seconds`, and read them back from `output`.

    Without one it is over when the last line is sent. `sample` is called once a second;
    `ahead` is the line that was sent before.
    """
    sent = size = 0
    samples: list[float] = []
    schedule = Schedule(source)
    with (
        _Arrivals(output, schedule) as arrivals,
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

    def __init__(self, path: Path | None, schedule: Schedule) -> None:
        self.lines = 0
        self._schedule = schedule
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
        while at >= 0 and at + len(_LEAD) + _STAMP <= len(data):
            line = data[at : at + len(_LEAD) + _STAMP]
            self.latencies += self._schedule.latencies([(now, [line])])
            at = data.find(_MARK, at + 1)
        self._rest = data[at:] if at >= 0 else data[1 - len(_MARK) :]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
