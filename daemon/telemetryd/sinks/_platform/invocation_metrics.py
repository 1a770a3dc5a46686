"""Adds up what events measure to sums and histograms, named by OpenTelemetry's conventions.

Names, units and meanings are of "Semantic conventions for FaaS metrics"; what these lack begins
with `aws.lambda.`. Durations are added up in whole nanoseconds, so no sum has the noise of floats.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import msgspec

from telemetryd.sinks._platform.invocations import LOCAL
from telemetryd.sinks._platform.measured import Measured
from telemetryd_proto.otlp.metrics import (
    CUMULATIVE,
    DELTA,
    HistogramMetric,
    HistogramPoint,
    OtlpMetric,
    Period,
    SumMetric,
    SumPoint,
)

MAX_POINTS: Final = 128
"""Combinations of attributes that a metric has; all others are one more, the overflow."""
OVERFLOW: Final = "otel.metric.overflow"
"""The attribute of the overflow, by the specification of OpenTelemetry's SDK."""
SLACK: Final = 900 * 10**9
"""Nanoseconds before the process began in which what it measures may have begun."""

_SECOND: Final = 10**9
_MILLISECOND: Final = 10**6
_MIB: Final = 1024 * 1024
_MOST: Final = (1 << 63) - 1
_OTHER: Final = "_OTHER"
"""`error.type` of an error without a name, by the conventions."""

_Key: TypeAlias = tuple[tuple[str, Any], ...]


class Instrument(msgspec.Struct, frozen=True, gc=False):
    """One metric that may be sent."""

    source: str
    """The name in `Measured.values`."""
    name: str
    unit: str
    description: str
    bounds: tuple[float, ...] = ()
    """Upper bounds of a histogram's buckets, in `unit`. Empty: a sum."""
    factor: int = 1
    """So many parts has one of what is measured: durations in nanoseconds, memory in bytes."""
    parts: int = 1
    """So many parts has one `unit`."""


def _seconds(source: str, name: str, description: str) -> Instrument:
    return Instrument(source, name, "s", description, SECONDS, _MILLISECOND, _SECOND)


def _time(source: str, mode: str, description: str) -> Instrument:
    name = f"aws.lambda.system.cpu.{mode}"
    return Instrument(source, name, "ns", description, factor=_MILLISECOND)


COUNTS: Final = (8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0)
"""Bounds of threads and open files, of which Lambda permits 1,024 each."""
SECONDS: Final = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0,
)  # fmt: skip
"""Bounds of durations: as those of HTTP, and up to the longest time of a function."""
BYTES: Final = tuple(
    float(mib * _MIB)
    for mib in (64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 10240)
)
"""Bounds of memory: sizes that functions have."""

INSTRUMENTS: Final = (
    Instrument(
        "invocations", "faas.invocations", "{invocation}", "Invocations, whatever their outcome."
    ),
    Instrument(
        "errors", "faas.errors", "{error}", "Failed invocations and initialisations, by error.type."
    ),
    Instrument(
        "timeouts", "faas.timeouts", "{timeout}", "Invocations that ran into the time limit."
    ),
    Instrument(
        "cold_starts", "faas.coldstarts", "{coldstart}", "Invocations that waited for a new "
        "environment or for its restore.",
    ),
    _seconds("duration", "faas.invoke_duration", "Time of an invocation, extensions included."),
    _seconds("init_duration", "faas.init_duration", "Time of an initialisation."),
    Instrument(
        "max_memory_used", "faas.mem_usage", "By", "Most memory used so far, extensions included.",
        BYTES, _MIB,
    ),
    _seconds("billed_duration", "aws.lambda.billed_duration", "Billed time of an invocation."),
    _seconds("runtime_duration", "aws.lambda.runtime_duration", "Time of the runtime alone."),
    _seconds("restore_duration", "aws.lambda.restore_duration", "Time of a SnapStart restore."),
    Instrument(
        "init_errors", "aws.lambda.init_errors", "{error}", "Failed initialisations and restores."
    ),
    Instrument(
        "out_of_memory", "aws.lambda.out_of_memory", "{invocation}", "Invocations that failed for "
        "lack of memory.",
    ),
    Instrument(
        "telemetry_lines_dropped", "aws.lambda.telemetry_dropped", "{record}", "Telemetry that "
        "Lambda dropped before it was received.",
    ),
    _time("system_cpu_user_time", "user", "Processor time in user mode."),
    _time("system_cpu_system_time", "system", "Processor time in the kernel."),
    Instrument(
        "system_memory_used", "aws.lambda.system.memory.used", "By", "Memory in use at the end of "
        "an invocation.", BYTES, _MIB,
    ),
    Instrument(
        "system_network_in", "aws.lambda.system.network.in", "By", "Bytes received."
    ),
    Instrument(
        "system_network_out", "aws.lambda.system.network.out", "By", "Bytes sent."
    ),
    Instrument(
        "system_tmp_used", "aws.lambda.system.tmp.used", "By", "Bytes in use in /tmp.", BYTES
    ),
    Instrument(
        "system_descriptors", "aws.lambda.system.descriptors", "{file}", "Open files.", COUNTS
    ),
    Instrument("system_threads", "aws.lambda.system.threads", "{thread}", "Threads.", COUNTS),
)  # fmt: skip
"""The metrics, in the order in which they are sent."""

_BY_SOURCE: Final = {each.source: each for each in INSTRUMENTS}


class _Distribution:
    """The numbers behind one point of a histogram."""

    __slots__ = ("buckets", "high", "low", "observations", "total")

    def __init__(self, first: int, buckets: int) -> None:
        self.observations = self.total = 0
        self.low = self.high = first
        self.buckets = [0] * buckets

    def add(self, value: int, bucket: int) -> None:
        self.observations += 1
        self.total += value
        self.low, self.high = min(self.low, value), max(self.high, value)
        self.buckets[bucket] += 1


class InvocationMetrics:
    """The sums and histograms of a process, since it began or since they were last collected."""

    def __init__(self, function: str, began_at: int, *, is_delta: bool = False) -> None:
        """`began_at`: when the process began, in nanoseconds since the Unix epoch."""
        self._many = function == LOCAL
        self._is_delta = is_delta
        self._start = self._began_at = began_at
        self._end = 0
        """The time of the last points; 0: there are none yet."""
        self._sums: dict[str, dict[_Key, int]] = {}
        self._distributions: dict[str, dict[_Key, _Distribution]] = {}
        self._has_news = False

    def add(self, measured: Measured, at: int) -> None:
        """Add what an event, made at `at` (ns), measured."""
        common = self._attributes(measured)
        for source, value in measured.values:
            instrument = _BY_SOURCE.get(source)
            if instrument is None:
                continue
            self._has_news = True
            key = common
            if source == "errors":
                key = (*common, ("error.type", _error_type(measured)))
            parts = round(value * instrument.factor)
            if instrument.bounds:
                self._observe(instrument, key, parts)
            else:
                sums = self._sums.setdefault(instrument.name, {})
                key = _bound(sums, key)
                sums[key] = min(sums.get(key, 0) + parts, _MOST)
        if not self._end and self._began_at - SLACK <= at < self._start:
            self._start = at

    def collect(self, now: int) -> list[OtlpMetric]:
        """Return the metrics at `now` (ns); none if nothing was added since the last time."""
        if not self._has_news:
            return []
        self._has_news = False
        self._end = max(now, self._start + 1, self._end + 1)
        period = Period(self._start, self._end)
        made = [metric for each in INSTRUMENTS if (metric := self._metric(each, period))]
        if self._is_delta:
            self._start = self._end
            self._sums.clear()
            self._distributions.clear()
        return made

    def _observe(self, instrument: Instrument, key: _Key, parts: int) -> None:
        known = self._distributions.setdefault(instrument.name, {})
        key = _bound(known, key)
        distribution = known.get(key)
        if distribution is None:
            distribution = known[key] = _Distribution(parts, len(instrument.bounds) + 1)
        # a bucket has its upper bound, not its lower one
        distribution.add(parts, bisect_left(instrument.bounds, parts / instrument.parts))

    def _metric(self, instrument: Instrument, period: Period) -> OtlpMetric | None:
        temporality = DELTA if self._is_delta else CUMULATIVE
        name, unit, about = instrument.name, instrument.unit, instrument.description
        if sums := self._sums.get(name):
            points = [SumPoint(dict(key), period, value) for key, value in sums.items()]
            return SumMetric(name, unit, about, temporality, points)
        if known := self._distributions.get(name):
            distributions = [
                _point(dict(key), period, each, instrument.parts) for key, each in known.items()
            ]
            bounds = instrument.bounds
            return HistogramMetric(name, unit, about, temporality, distributions, bounds)
        return None

    def _attributes(self, measured: Measured) -> _Key:
        """Return the attributes that the resource lacks: outside Lambda many functions may send."""
        if not self._many:
            return ()
        return (("faas.name", measured.function), ("faas.version", measured.version))


def _point(
    attributes: Mapping[str, Any], period: Period, each: _Distribution, parts: int
) -> HistogramPoint:
    return HistogramPoint(
        attributes, period, each.observations, each.total / parts, tuple(each.buckets),
        each.low / parts, each.high / parts,
    )  # fmt: skip


def _bound(known: Mapping[_Key, Any], key: _Key) -> _Key:
    """Return the attributes, or those of the overflow if there is no room for them."""
    return key if key in known or len(known) < MAX_POINTS else ((OVERFLOW, True),)


def _error_type(measured: Measured) -> str:
    if measured.error_type:
        return measured.error_type
    return "timeout" if any(name == "timeouts" for name, _ in measured.values) else _OTHER
