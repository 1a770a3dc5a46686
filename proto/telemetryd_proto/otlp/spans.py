"""Spans as messages, in protobuf and in JSON.

Source: opentelemetry-proto, `trace.proto`: trace_id = 1, span_id = 2, parent_span_id = 4, name = 5,
kind = 6, start_time_unix_nano = 7, end_time_unix_nano = 8, attributes = 9, links = 13, status = 15
(message = 2, code = 3), flags = 16.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from telemetryd_proto.otlp.trace_context import SAMPLED, SPAN_BYTES, TRACE_BYTES
from telemetryd_proto.otlp.values import attributes, json_attributes
from telemetryd_proto.otlp.wire import (
    DELIMITED,
    FIXED32,
    FIXED64,
    VARINT,
    delimited,
    fixed64,
    number,
    pack_fixed32,
    tag,
    text,
)

INTERNAL: Final = 1
"""The kind of a span that no request began."""
SERVER: Final = 2
"""The kind of a span that answers a request, such as an invocation."""
UNSET: Final = 0
"""The status of a span without an error."""
ERROR: Final = 2

HAS_IS_REMOTE: Final = 0x100
"""The bit of `flags` that says that `IS_REMOTE` is known."""
IS_REMOTE: Final = 0x200
"""The bit of `flags` that says that the parent is another process's span."""

_TRACE_ID: Final = tag(1, DELIMITED)
_SPAN_ID: Final = tag(2, DELIMITED)
_PARENT: Final = tag(4, DELIMITED)
_NAME: Final = tag(5, DELIMITED)
_KIND: Final = tag(6, VARINT)
_START: Final = tag(7, FIXED64)
_END: Final = tag(8, FIXED64)
_ATTRIBUTES: Final = tag(9, DELIMITED)
_LINKS: Final = tag(13, DELIMITED)
_STATUS: Final = tag(15, DELIMITED)
_FLAGS: Final = tag(16, FIXED32)
_MESSAGE: Final = tag(2, DELIMITED)
_CODE: Final = tag(3, VARINT)

_NANOSECONDS: Final = 1_000_000
_LONGEST_MS: Final = 86_400_000.0 * 30
"""Durations beyond this are none: milliseconds with six digits are exact as a float up to here."""


class SpanLink(NamedTuple):
    """Another span that a span has to do with."""

    trace_id: bytes
    span_id: bytes


class OtlpSpan(NamedTuple):
    """One span."""

    trace_id: bytes
    """16 bytes."""
    span_id: bytes
    """8 bytes."""
    name: str
    start: int
    """Nanoseconds since the Unix epoch."""
    end: int
    """As `start`, and not before it."""
    parent_id: bytes = b""
    """8 bytes; empty for the first span of a trace."""
    kind: int = INTERNAL
    attributes: Mapping[str, Any] = {}
    links: tuple[SpanLink, ...] = ()
    status: int = UNSET
    message: str = ""
    """The reason of an error."""
    flags: int = SAMPLED | HAS_IS_REMOTE


def span_message(span: OtlpSpan) -> bytes:
    """Return a span in protobuf, its fields in the order of their numbers."""
    links = [
        delimited(_LINKS, delimited(_TRACE_ID, each.trace_id) + delimited(_SPAN_ID, each.span_id))
        for each in span.links
    ]
    status = text(_MESSAGE, span.message) + number(_CODE, span.status)
    return b"".join(
        (
            delimited(_TRACE_ID, span.trace_id),
            delimited(_SPAN_ID, span.span_id),
            delimited(_PARENT, span.parent_id) if span.parent_id else b"",
            text(_NAME, span.name),
            number(_KIND, span.kind),
            fixed64(_START, span.start),
            fixed64(_END, span.end),
            attributes(_ATTRIBUTES, span.attributes.items()),
            *links,
            delimited(_STATUS, status) if status else b"",
            _FLAGS + pack_fixed32(span.flags) if span.flags else b"",
        )
    )


def json_span(span: OtlpSpan) -> dict[str, Any]:
    """Return a span in the form for JSON, in which ids are hexadecimal."""
    made: dict[str, Any] = {
        "traceId": span.trace_id.hex(),
        "spanId": span.span_id.hex(),
        "name": span.name,
        "kind": span.kind,
        "startTimeUnixNano": str(span.start),
        "endTimeUnixNano": str(span.end),
        "flags": span.flags,
    }
    if span.parent_id:
        made["parentSpanId"] = span.parent_id.hex()
    if span.attributes:
        made["attributes"] = json_attributes(span.attributes.items())
    if span.links:
        made["links"] = [
            {"traceId": each.trace_id.hex(), "spanId": each.span_id.hex()} for each in span.links
        ]
    if span.status or span.message:
        made["status"] = {"code": span.status, "message": span.message}
    return made


def derive_trace_id(*facts: str) -> bytes:
    """Return a trace id that is the same for the same facts."""
    return _derive(facts, TRACE_BYTES)


def derive_span_id(*facts: str) -> bytes:
    """Return a span id that is the same for the same facts: a span that is sent twice is one."""
    return _derive(facts, SPAN_BYTES)


def to_nanoseconds(milliseconds: float | None) -> int | None:
    """Return a duration exactly, if it has six fraction digits or fewer; None if it is none."""
    if milliseconds is None or not 0 <= milliseconds <= _LONGEST_MS:  # NaN is neither
        return None
    return round(milliseconds * _NANOSECONDS)


def _derive(facts: tuple[str, ...], length: int) -> bytes:
    """Return bytes that are as good as random, and not all zero, which is no id."""
    made = hashlib.sha256("\0".join(facts).encode("utf-8", "replace")).digest()[:length]
    return made if any(made) else made[:-1] + b"\1"
