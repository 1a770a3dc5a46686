"""Metrics and spans of the lines of a sink: what its blocks say of invocations.

A sink gives each block once, and takes what came of them. Only lines that hold a mark are decoded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from telemetryd.sinks._platform.exceptions import HINTS
from telemetryd.sinks._platform.invocation_metrics import InvocationMetrics
from telemetryd.sinks._platform.invocation_spans import LATEST, InvocationSpans
from telemetryd.sinks._platform.invocations import Invocations
from telemetryd.sinks._platform.lines import (
    PLATFORM,
    decode_event,
    has_function_line,
    lines_with,
)
from telemetryd.sinks._platform.measured import Measured
from telemetryd_proto.envelope import Envelope
from telemetryd_proto.errors import MalformedRecord
from telemetryd_proto.events import LogRecord, Record, decode_record
from telemetryd_proto.framing import Block
from telemetryd_proto.otlp.metrics import OtlpMetric
from telemetryd_proto.otlp.spans import OtlpSpan
from telemetryd_proto.timestamps import parse_nanoseconds

if TYPE_CHECKING:
    from telemetryd.sinks.base import SinkContext

_MARKS: Final = (PLATFORM, *HINTS)
_MILLISECOND: Final = 10**6


class Wanted(NamedTuple):
    """The signals to make, and how."""

    metrics: bool = True
    traces: bool = True
    is_delta: bool = False
    """Metrics say what was added since the last ones, not since the process began."""
    keeps_unsampled: bool = False
    """Invocations that their caller did not sample have spans too."""


class PlatformSignals:
    """Follows the lines of a process's life."""

    def __init__(self, context: SinkContext, wanted: Wanted) -> None:
        self._context = context
        self._wanted = wanted
        self._wall: Callable[[], float] = context.clock.wall
        self._made: list[OtlpSpan] = []
        self._begin(context.instance)

    def _begin(self, instance: str) -> None:
        context, wanted = self._context, self._wanted
        self._invocations = Invocations(context.function, context.version, system=context.system)
        self._metrics: InvocationMetrics | None = None
        self._spans: InvocationSpans | None = None
        if wanted.metrics:
            self._metrics = InvocationMetrics(
                context.function, self.now(), is_delta=wanted.is_delta
            )
        if wanted.traces:
            self._spans = InvocationSpans(
                context.function, instance, keeps_unsampled=wanted.keeps_unsampled
            )

    def on_restore(self, instance: str) -> None:
        """Begin again, because the process continues from a snapshot that others may share."""
        self._begin(instance)

    def now(self) -> int:
        """Return nanoseconds since the Unix epoch."""
        return round(self._wall() * 1000) * _MILLISECOND

    def read(self, block: Block) -> None:
        """Look at the lines of a block."""
        data, source, seen = block.data, block.source, 0
        for start, line in lines_with(_MARKS, data):
            self._look_for_log(block, seen, start)
            seen = start + len(line)
            try:
                self._read_line(line, source)
            except MalformedRecord as error:
                self._context.log.warning(
                    "event_malformed", sink=self._context.name, code=error.code
                )
        self._look_for_log(block, seen, len(data))

    def take_spans(self) -> list[OtlpSpan]:
        """Return the spans that are complete, each once."""
        made, self._made = self._made, []
        return made

    def take_metrics(self) -> list[OtlpMetric]:
        """Return the metrics; none if nothing was added since the last time."""
        return self._metrics.collect(self.now()) if self._metrics is not None else []

    def end(self, reason: str) -> None:
        """Note that the environment ends for `reason` (Shutdown): some of it no line will say."""
        now = self.now()
        self._measure(self._invocations.on_environment_end(reason), now)
        if self._spans is not None:
            self._made += self._spans.end(reason, now)

    def _read_line(self, line: bytes, source: int) -> None:
        event = decode_event(line)
        if event is None:
            return
        at = self._time(event.time)
        if not isinstance(event, Envelope):
            measured = self._invocations.measure_decoded(event, at // _MILLISECOND, source)
            self._measure(measured, at)
            self._add_spans(event.record, at, source)
            return
        if event.type == "function":
            self._read_log(event, at, source)
            return
        if not event.type.startswith("platform."):
            return
        self._measure(self._invocations.measure(event, at // _MILLISECOND, source), at)
        if self._spans is not None:
            self._add_spans(decode_record(event, lenient=True), at, source)

    def _read_log(self, event: Envelope, at: int, source: int) -> None:
        self._invocations.clear_suspect(source)
        record = decode_record(event, lenient=True)
        if isinstance(record, LogRecord):
            self._measure(self._invocations.exception(record, source), at)

    def _look_for_log(self, block: Block, start: int, end: int) -> None:
        """Clear the suspect if there is a log line of the function between two places."""
        if not self._invocations.has_suspect(block.source):
            return
        if has_function_line(block.data, start, end):
            self._invocations.clear_suspect(block.source)

    def _measure(self, measured: Measured | None, at: int) -> None:
        if measured is None:
            return
        if self._metrics is not None:
            self._metrics.add(measured, at)
        has_failed = any(name == "errors" for name, _ in measured.values)
        if has_failed and self._spans is not None and measured.request_id:
            self._spans.fail(measured.request_id, measured.error_type)

    def _add_spans(self, record: Record, at: int, source: int) -> None:
        if self._spans is not None:
            self._made += self._spans.add(record, at, source)

    def _time(self, text: str) -> int:
        """Return the time of an event in nanoseconds: now if it has none that can be."""
        try:
            at = parse_nanoseconds(text)
        except MalformedRecord:
            return self.now()
        return at if 0 <= at <= LATEST else self.now()
