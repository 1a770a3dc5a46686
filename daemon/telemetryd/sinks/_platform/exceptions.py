"""Finds the exceptions of handlers in what runtimes log: one table of their error reports.

An on-demand function whose handler raises ends in `success`: its runtime caught the exception, and
only its log tells. Recognised is what the runtimes themselves write. What a handler logs looks
much the same, and is told apart by what its logger adds (`message`, `logger`, `location`), or by
what it lacks. Each row is what the runtime's own source writes:

* Python, awslambdaric `bootstrap.log_error`. Text: `[ERROR] KeyError: 'iban'`, a newline,
  `Traceback (most recent call last):`. JSON: `errorType`, `stackTrace` and no `message`. In
  container images (`StandardLogSink`) its lines end with carriage returns, and what the handler
  printed before without a newline stands in front of it
* Node.js, aws-lambda-ric `LogPatch`. Text: `<time>`, tab, `<request id>`, tab, `ERROR`, tab,
  `Invoke Error`, JSON. JSON: `message` is an object with `errorType` and `stackTrace`, the very
  record that `console.error(error)` of one lone Error makes
* Java, `UserFault.reportableError`, as text or as `message`: `<message>: <class>`, a newline, and
  the trace, which begins with the same class
* .NET, `LambdaBootstrap.WriteUnhandledExceptionToLog`: at level Error the exception's own text,
  `System.Exception: message`, a newline, `   at ...`; so does `Console.Error.WriteLine(exception)`
* Ruby, `LambdaLogger.log_error`: an object of `errorMessage`, `errorType` (`Function<NameError>`)
  and `stackTrace` alone
* Go, `lambda.reportFailure`: `2026/11/30 10:15:30`, and an object as of Ruby
* PHP, Bref's `LambdaRuntime`: `<request id>`, tab, `Invoke Error`, tab, JSON

Two of these are `ambiguous`: a handler that succeeds can write the very same. They count where
they are the invocation's last log line.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from telemetryd_proto.errors import DECODE_FAILURES
from telemetryd_proto.records import LogRecord
from telemetryd_proto.surrogates import without_lone_surrogates

HINTS: Final = (b"errorType", b"Traceback (most recent call last)", rb"\n\tat ", rb"\n   at ")
"""Every line of interest holds one of these: others need not be decoded. The longer such a text is,
the farther a search for it skips."""

_CERTAIN: Final = (
    # Python; what `logging` writes has a tab instead
    r"\[ERROR\] (?P<type>[A-Za-z_][\w.]*)(?:[:\r\n])(?=[\s\S]*Traceback \(most recent call last\))",
    # Node.js
    (
        r"[^\t]+\t(?P<id>[0-9A-Za-z-]+)\tERROR\t"
        r"(?:Invoke Error|Uncaught Exception|Unhandled (?:Promise )?Rejection)\s+"
        r'\{"errorType":"(?P<type>[^"]+)"'
    ),
    # Bref
    r'(?P<id>[0-9A-Za-z-]+)\tInvoke Error\t\{"errorType":"(?P<type>[^"]+)"',
    # Go
    r'\d{4}/\d\d/\d\d \d\d:\d\d:\d\d (?P<json>\{"errorMessage":)',
)
_UNFRAMED: Final = "\rTraceback (most recent call last):"
_UNFRAMED_TYPE: Final = r"\[ERROR\] (?P<type>[A-Za-z_][\w.]*)(?::|\Z)"
_LONGEST_MESSAGE: Final = 4096
_JAVA: Final = r": (?P<type>[A-Za-z_$][\w.$]*)\r?\n(?P=type)(?::|\r?\n)"
_DOTNET: Final = (
    r"(?:[^\t]+\t(?P<id>[0-9A-Za-z-]*)\tfail\t)?"
    r"(?P<type>[A-Z][\w.+`]*): [^\n]*\n(?:[^\n]*\n)?? {3}at "
)
_RUBY: Final = r"(?:Function|Runtime|Init)<([^>]+)>"
_HEAD: Final = 256
_JAVA_FIRST: Final = 4096
"""The longest first line of a Java report."""

_LEVELS: Final = frozenset({"ERROR", "FATAL", "CRITICAL", "Error", "Critical"})
_STAMPS: Final = frozenset(
    {"timestamp", "level", "log_level", "requestId", "AWSRequestId", "tenantId", "traceId"}
)
"""Members that runtimes, and handlers' loggers too, add to a report."""
_REPORT: Final = frozenset({"errorType", "errorMessage", "stackTrace", "cause"})
_json: Final = msgspec.json.Decoder()


class FoundException(msgspec.Struct, frozen=True, gc=False):
    """An exception that ended an invocation."""

    error_type: str
    request_id: str | None
    """The invocation, where the line names it."""
    ambiguous: bool = False
    """True if a handler that succeeds can write such a line itself."""


def exception_in(record: LogRecord) -> FoundException | None:
    """Return the handler's exception that a `function` event reports; None for any other line."""
    body = record.body
    if isinstance(body, str):
        text = body.strip()
        if text[:1] != "{":
            return _in_text(text)
        body = _decode(text)
    return _in_object(body, record.request_id) if isinstance(body, dict) else None


def _in_text(text: str) -> FoundException | None:
    for pattern in _CERTAIN:
        if found := re.match(pattern, text):
            parts = found.groupdict()
            if parts.get("json"):
                return _bare_report(_decode(text[found.start("json") :]), r"(.+)")
            return FoundException(parts["type"], parts.get("id"))
    return _in_unframed(text) or _in_trace(text, is_dotnet="\tfail\t" in text[:_HEAD])


def _in_unframed(text: str) -> FoundException | None:
    """Return the exception that Python's runtime reports behind something else on its line."""
    end = text.rfind(_UNFRAMED)
    before = text[max(0, end - _LONGEST_MESSAGE) : end] if end >= 0 else ""
    found = re.match(_UNFRAMED_TYPE, before[before.rfind("[ERROR] ") :])
    return FoundException(found["type"], None) if found else None


def _in_trace(
    text: str, *, is_dotnet: bool, request_id: str | None = None
) -> FoundException | None:
    """Return the exception of a text that Java's or .NET's runtime writes."""
    if is_dotnet and (found := re.match(_DOTNET, text)):
        return FoundException(found["type"], request_id or found["id"], ambiguous=True)
    if found := re.search(_JAVA, text[:_JAVA_FIRST]):
        return FoundException(found["type"], request_id)
    return None


def _in_object(body: dict[str, Any], request_id: str | None) -> FoundException | None:
    level = body.get("level") or body.get("log_level")
    rest = body.keys() - _STAMPS
    if level not in _LEVELS:
        return _bare_report(body, _RUBY)
    if rest == {"message"}:
        return _in_message(body["message"], level, request_id)
    kind = body.get("errorType")
    if "stackTrace" in rest and rest <= _REPORT and isinstance(kind, str) and kind:
        return FoundException(kind, request_id)
    return None


def _in_message(message: Any, level: str, request_id: str | None) -> FoundException | None:
    if isinstance(message, str):
        return _in_trace(message, is_dotnet=level == "Error", request_id=request_id)
    if not isinstance(message, dict) or not message.keys() >= {"errorMessage", "stackTrace"}:
        return None
    kind = message.get("errorType")
    if not isinstance(kind, str) or not kind:
        return None
    return FoundException(kind, request_id, ambiguous=True)


def _bare_report(body: Any, kinds: str) -> FoundException | None:
    """Return the exception of a report with nothing beside it, if its type is of these kinds."""
    if not isinstance(body, dict) or not {"errorMessage", "errorType"} <= body.keys() <= _REPORT:
        return None
    kind = body["errorType"]
    found = re.fullmatch(kinds, kind) if isinstance(kind, str) else None
    return FoundException(found[1], None) if found else None


def _decode(text: str) -> Any:
    try:
        return _json.decode(without_lone_surrogates(text.encode()))
    except (*DECODE_FAILURES, UnicodeEncodeError):
        return None
