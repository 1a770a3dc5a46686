"""Which invocation a line belongs to, and the trace of that invocation."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from telemetryd_proto.otlp.trace_context import NO_TRACE, TraceContext, from_xray, span_id
from telemetryd_proto.request_ids import usable_id

_MAX_STARTED: Final = 1024
"""Invocations that are remembered: a line may come long after the next one began."""
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class Invocation(NamedTuple):
    """An invocation, as far as it is known."""

    request_id: str = ""
    trace: TraceContext = NO_TRACE


NO_INVOCATION: Final = Invocation()


class Invocations:
    """Remembers the invocations that began.

    `one_at_a_time` is False where invocations run concurrently (Managed Instances): there a line
    belongs to the invocation that it names, or to none. `trace_of` returns the trace of the record
    of a platform event.
    """

    def __init__(
        self, *, one_at_a_time: bool, trace_of: Callable[[object], TraceContext] | None = None
    ) -> None:
        self._one_at_a_time = one_at_a_time
        self.trace_of = trace_of or trace_around
        self.started: Final[dict[str, Invocation]] = {}
        """By request id."""

    def start(self, record: object) -> Invocation:
        """Remember the invocation that a `platform.start` with `record` begins.

        Returns the one that lines behind it belong to, unless they name another.
        """
        named = request_of(record)
        if not named:
            return NO_INVOCATION
        started = self.started
        if len(started) >= _MAX_STARTED and named not in started:
            del started[next(iter(started))]
        found = started[named] = Invocation(named, self.trace_of(record))
        return found if self._one_at_a_time else NO_INVOCATION

    def find(self, request_id: str, *, is_certain: bool = False) -> Invocation | None:
        """Return the invocation that a line names; None if what it names may be something else.

        `is_certain`: it stands where only a runtime writes one.
        """
        found = self.started.get(request_id)
        if found is None and (is_certain or not self._one_at_a_time):
            alike = _alike(request_id)
            return alike and self.started.get(request_id.lower(), alike)
        return found


def request_of(record: object) -> str:
    """Return the request id in the record of a platform event; empty for none."""
    named = record.get("requestId") if isinstance(record, dict) else None
    return usable_id(named) if isinstance(named, str) else ""


def header_of(record: object) -> str:
    """Return the trace header in the record of a platform event; empty for none."""
    tracing = record.get("tracing") if isinstance(record, dict) else None
    header = tracing.get("value") if isinstance(tracing, dict) else None
    return header if isinstance(header, str) else ""


def trace_around(record: object) -> TraceContext:
    """Return the trace in the record of a platform event.

    The span is the platform's own, if it says so, and else the one that called the function.
    """
    tracing = record.get("tracing") if isinstance(record, dict) else None
    return _read(tracing) if isinstance(tracing, dict) else NO_TRACE


def _read(tracing: Mapping[str, Any]) -> TraceContext:
    header, span = tracing.get("value"), tracing.get("spanId")
    if not isinstance(header, str) or "oot=" not in header:
        return NO_TRACE
    return _context(header, span if isinstance(span, str) else "")


@lru_cache(64)  # lines of an invocation whose beginning was not seen
def _alike(request_id: str) -> Invocation | None:
    """Return the invocation `request_id`, if that has the form of an id."""
    return Invocation(request_id) if _UUID.fullmatch(request_id) else None


@lru_cache(64)  # each event of an invocation has the same
def _context(header: str, span: str) -> TraceContext:
    found = from_xray(header)
    own = span_id(span) if found.trace_id else b""
    return found._replace(span_id=own) if own else found
