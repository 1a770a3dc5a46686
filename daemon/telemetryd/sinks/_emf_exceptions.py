"""Finds the exceptions of handlers in what runtimes log.

An on-demand function whose handler raises ends in `success`: its runtime caught the exception, and
only its log tells. Recognised is what the runtimes themselves write, never what a handler logs:

* the Python runtime, text: `[ERROR] KeyError: 'iban'`, newline, `Traceback (most recent call last)`
* the Node.js runtime, text: `<time>`, tab, `<request id>`, tab, `ERROR`, tab, `Invoke Error`, JSON
* JSON log format: an object with `errorType` and `stackTrace` at level ERROR or FATAL
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from telemetryd_proto.records import LogRecord

HINTS: Final = (b"errorType", b"Traceback (most recent call last)")
"""Every line of interest holds one of these: others need not be decoded. The longer such a text is,
the farther a search for it skips."""

_PYTHON: Final = r"\[ERROR\] ([A-Za-z_][\w.]*)[:\r\n]"  # what `logging` writes has a tab instead
_TRACEBACK: Final = HINTS[1].decode()
_NODE: Final = (
    r"[^\t]+\t([0-9A-Za-z-]+)\tERROR\t(?:Invoke Error|Uncaught Exception)\s+"
    r'\{"errorType":"([^"]+)"'
)
_LEVELS: Final = frozenset({"ERROR", "FATAL", "CRITICAL"})


class FoundException(msgspec.Struct, frozen=True, gc=False):
    """An exception that ended an invocation."""

    error_type: str
    request_id: str | None
    """The invocation, where the line names it."""


def exception_in(record: LogRecord) -> FoundException | None:
    """The handler's exception which a `function` event tells of; None for any other line."""
    body = record.body
    if isinstance(body, str):
        if (match := re.match(_PYTHON, body)) and _TRACEBACK in body:
            return FoundException(match[1], None)
        if match := re.match(_NODE, body):
            return FoundException(match[2], match[1])
        return None
    if not isinstance(body, dict):
        return None
    kind, level = body.get("errorType"), body.get("level") or body.get("log_level")
    if not (isinstance(kind, str) and kind and "stackTrace" in body and level in _LEVELS):
        return None
    return FoundException(kind, record.request_id)
