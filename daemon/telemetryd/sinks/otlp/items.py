"""The items of an OTLP sink: lines, or what was made of them besides."""

from __future__ import annotations

from typing import Final

from telemetryd.sinks.base import Item

SETTINGS_CHANGED: Final = "settings_changed"
"""The reason for metrics and spans that waited on disk, and can't be sent any more: the sink has
other signals or another protocol."""


class LogItem(Item, frozen=True, gc=False):
    """A few lines: `payload` is the lines themselves. What was known of them when they came."""

    observed: int = 0
    """Nanoseconds since the epoch when they were read."""
    request_id: str = ""
    """Of the invocation that is running where they begin; empty if none is known."""
    trace_id: bytes = b""
    span_id: bytes = b""
    flags: int = 0
    is_gone: bool = False
    """True if these are lines that the server rejected without saying which: there is no text."""
    signal: str = "logs"
    """The signal that is sent: `logs` are the lines themselves, of other signals it is `message`.
    Empty: nothing is sent of the lines."""
    message: bytes = b""
    """Metrics or spans in the form of a request."""
    number: int = 0
    """The number of data points or spans in `message`."""
    is_json: bool = False
    """The form of `message`: it may have waited on disk while the configuration changed."""
