"""The highest rate at which p99 stays below a bound and nothing is dropped; latency by load."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from bench import daemon
from bench.measure import on_core
from bench.pace import drive
from bench.scenario import Scenario, filled
from bench.stats import highest_rate, percentile

LOADS: Final = (0.1, 0.25, 0.5, 0.75, 0.9)
_LEAST: Final = 1_000
_MOST: Final = 4_000_000


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One rate, held for a while."""

    rate: int
    arrived: bool
    """Whether every line was there in the end."""
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


def at(scenario: Scenario, rate: int, seconds: float) -> Point:
    """Hold `rate` for so long, with a daemon of its own."""
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        output = scratch / "out.ndjson"
        config = filled(scenario.daemon, {"output": str(output), "scratch": str(scratch)})
        running = stack.enter_context(daemon.running(config, scratch, on_core(0)))
        paced = drive(
            running.port, output, rate=rate, seconds=seconds, line_bytes=scenario.line_bytes
        )
        ledger = running.stop()
    dropped = any(page["dropped"] for page in ledger["sinks"].values())
    millis = [1000 * latency for latency in paced.latencies] or [float("inf")]
    return Point(
        rate=rate,
        arrived=paced.arrived == paced.sent and not dropped,
        p50_ms=percentile(millis, 0.5),
        p95_ms=percentile(millis, 0.95),
        p99_ms=percentile(millis, 0.99),
        max_ms=max(millis),
    )


def search(scenario: Scenario, bound_ms: float, seconds: float) -> int:
    """The highest rate with p99 below `bound_ms` and every line delivered, in lines a second."""

    def holds(rate: int) -> bool:
        point = at(scenario, rate, seconds)
        return point.arrived and point.p99_ms < bound_ms

    return highest_rate(holds, 50_000, _MOST, 4)


def curve(scenario: Scenario, highest: int, seconds: float) -> list[Point]:
    """Latency at parts of the highest rate."""
    return [at(scenario, max(int(highest * load), _LEAST), seconds) for load in LOADS]
