"""Trace, span and other facts in the members of a record that are not its message, level or time.

What is found is collected by role (`members`). Datadog writes ids as decimal numbers of 64 bits, or
a trace id as 32 hexadecimal digits (Datadog documentation, "Correlate OpenTelemetry Traces and
Logs").
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from telemetryd.core.log_level import LEVELS
from telemetryd.sinks.otlp.members import DATADOG, ECS, FLAGS, NUMBER, SPAN, STACK, TRACE
from telemetryd_proto.otlp.trace_context import (
    NO_TRACE,
    SAMPLED,
    SPAN_BYTES,
    TRACE_BYTES,
    TraceContext,
    span_id,
    trace_id,
)

Ids: TypeAlias = dict[int, Any]
"""The facts that were found, by role."""

_MAX_SEVERITY: Final = 24
_NUMBERS_OF_A_LEVEL: Final = 4
_MAX_DIGITS: Final = 20
_FLAGS: Final = {"01": SAMPLED, "1": SAMPLED, "true": SAMPLED, "True": SAMPLED,
                 "00": 0, "0": 0, "false": 0, "False": 0}  # fmt: skip


def take_text(role: int, key: str, value: str, ids: Ids) -> bool:
    """Take what a member with a text says. True if nothing else has to be kept of it."""
    if role == TRACE:
        return _keep(ids, TRACE, trace_id(value))
    if role == SPAN:
        return _keep(ids, SPAN, span_id(value))
    if role == FLAGS and value in _FLAGS:
        ids[FLAGS] = _FLAGS[value]
        return True
    if role == DATADOG:
        _take_datadog(ids, key.removeprefix("dd."), value)
    return False


def take_other(role: int, value: Any, ids: Ids, pairs: list[tuple[str, Any]]) -> bool:
    """Take what a member says that is no text. True if nothing else has to be kept of it.

    An attribute that stands for it is added to `pairs`.
    """
    if role == NUMBER and type(value) is int and 1 <= value <= _MAX_SEVERITY:
        ids[NUMBER] = (value, LEVELS[(value - 1) // _NUMBERS_OF_A_LEVEL])
        return True
    if role == FLAGS and type(value) in (int, bool):
        ids[FLAGS] = int(value) & SAMPLED
        return True
    if role == STACK and type(value) is list and all(type(each) is str for each in value):
        pairs.append(("exception.stacktrace", "\n".join(value)))
        return True
    if role == DATADOG and type(value) is dict:
        for name in ("trace_id", "span_id"):
            _take_datadog(ids, name, str(value.get(name)))
    elif role in ECS and type(value) is dict and type(found := value.get("id")) is str:
        return take_text(ECS[role], "", found, ids) and len(value) == 1
    return False


def trace_in(ids: Ids) -> TraceContext:
    """Return the trace that was found."""
    trace, span = ids.get(TRACE, b""), ids.get(SPAN, b"")
    return TraceContext(trace, span, ids.get(FLAGS, 0)) if trace or span else NO_TRACE


def join(own: TraceContext, around: TraceContext) -> TraceContext:
    """Return the trace of a line in an invocation. A span alone is of the invocation's trace."""
    if not own.trace_id:
        return TraceContext(around.trace_id, own.span_id, around.flags)
    if own.trace_id == around.trace_id:
        return TraceContext(own.trace_id, own.span_id or around.span_id, own.flags or around.flags)
    return own


def _keep(ids: Ids, role: int, found: bytes) -> bool:
    if not found or role in ids:
        return False
    ids[role] = found
    return True


def _take_datadog(ids: Ids, name: str, value: str) -> None:
    is_trace = name == "trace_id"
    length = TRACE_BYTES if is_trace else SPAN_BYTES
    if len(value) <= _MAX_DIGITS and value.isascii() and value.isdigit():
        number = int(value)
        found = number.to_bytes(length, "big") if 0 < number < 1 << 64 else b""
    else:
        found = trace_id(value) if is_trace else b""
    _keep(ids, TRACE if is_trace else SPAN, found)
