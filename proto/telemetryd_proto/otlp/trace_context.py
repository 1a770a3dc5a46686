"""Trace and span ids: from X-Ray's header, from W3C's, and from the texts that loggers write.

X-Ray's `Root=1-5759e988-bd862e3fe1be46a994272793` is a trace id of 16 bytes when its parts are put
together: the first 4 are its time (X-Ray Developer Guide, "Tracing header"; OpenTelemetry's X-Ray
propagator does the same).
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

TRACE_BYTES: Final = 16
SPAN_BYTES: Final = 8
SAMPLED: Final = 1
"""The bit of `flags` that W3C Trace Context defines."""

_ROOT: Final = re.compile(r"1-([0-9a-fA-F]{8})-([0-9a-fA-F]{24})")
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_MAX_HEADER: Final = 1024


class TraceContext(NamedTuple):
    """The span that something happened in. Empty bytes where an id is not known."""

    trace_id: bytes = b""
    """16 bytes."""
    span_id: bytes = b""
    """8 bytes."""
    flags: int = 0
    """`SAMPLED` or 0."""


NO_TRACE: Final = TraceContext()


def trace_id(text: str) -> bytes:
    """Return the 16 bytes of a trace id: 32 hexadecimal digits, or X-Ray's `1-...-...`.

    Empty if `text` is neither, or zero, which is no id.
    """
    root = _ROOT.fullmatch(text)
    return _id("".join(root.groups()) if root else text, TRACE_BYTES)


def span_id(text: str) -> bytes:
    """Return the 8 bytes of a span id of 16 hexadecimal digits; empty if `text` is none."""
    return _id(text, SPAN_BYTES)


def from_xray(header: str) -> TraceContext:
    """Return the context of a header `Root=...;Parent=...;Sampled=1`; parts may be missing."""
    if len(header) > _MAX_HEADER:
        return NO_TRACE
    parts = {}
    for part in header.split(";"):
        name, _, value = part.strip().partition("=")
        parts[name.lower()] = value
    trace = trace_id(parts.get("root", ""))
    if not trace:
        return NO_TRACE
    flags = SAMPLED if parts.get("sampled") == "1" else 0
    return TraceContext(trace, span_id(parts.get("parent", "")), flags)


def from_traceparent(header: str) -> TraceContext:
    """Return the context of W3C's `traceparent` header; `NO_TRACE` if it is not valid."""
    found = _TRACEPARENT.fullmatch(header)
    if found is None or header.startswith("ff"):
        return NO_TRACE
    trace, span = trace_id(found[1]), span_id(found[2])
    return TraceContext(trace, span, int(found[3], 16) & SAMPLED) if trace and span else NO_TRACE


def _id(digits: str, length: int) -> bytes:
    if len(digits) != 2 * length or not digits.isalnum():
        return b""
    try:
        number = bytes.fromhex(digits)
    except ValueError:
        return b""
    return number if any(number) else b""
