"""The events of the environment: platform events, their form per schema, log records.

Field lists: the Developer Guide's "Lambda Telemetry API Event schema reference". The schema
versions have different members. So a record is built once with all of them, and members are removed
for older schemas.
"""

from __future__ import annotations

import codecs
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from telemetryd.local.clock import iso_now
from telemetryd.local.json_text import is_object

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMAS: Final = ("2022-07-01", "2022-12-13", "2025-01-29")
FIRST_SCHEMA, _, CURRENT_SCHEMA = SCHEMAS
LOGS_SCHEMAS: Final = ("2020-08-15", "2021-03-18")
"""Of the Logs API ("Using the Lambda Logs API")."""

Kind = Literal["function", "extension"]
Status = Literal["success", "error", "failure", "timeout"]

_SINCE_SECOND = {
    "platform.initStart": (
        "functionName",
        "functionVersion",
        "instanceId",
        "instanceMaxMemory",
        "tracing",
    ),
    "platform.initRuntimeDone": ("tracing",),
    "platform.initReport": ("status", "errorType", "tracing"),
    "platform.extension": ("errorType",),
    "platform.restoreStart": (
        "functionName",
        "functionVersion",
        "instanceId",
        "instanceMaxMemory",
        "tracing",
    ),
    "platform.restoreReport": ("status", "errorType", "tracing"),
}
_SINCE_CURRENT = {
    "platform.start": ("functionArn", "tenantId"),
    "platform.runtimeDone": ("tenantId",),
    "platform.report": ("tenantId",),
}

_LOGS_EVENTS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "platform.start": ("platform.start", ("requestId", "version")),
    "platform.report": ("platform.report", ("requestId", "metrics", "tracing")),
    "platform.extension": ("platform.extension", ("name", "state", "events")),
    "platform.telemetrySubscription": ("platform.logsSubscription", ("name", "state", "types")),
    "platform.logsDropped": (
        "platform.logsDropped",
        ("reason", "droppedRecords", "droppedBytes"),
    ),
}
"""Events that the Logs API has as well: their type there, and their members."""

_encode = msgspec.json.Encoder().encode
_ONE_EACH = "telemetryd-local-one-each"


def _replace_each(error: UnicodeError) -> tuple[str, int]:
    """Replace every byte of what cannot be decoded."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\ufffd" * (error.end - error.start), error.end


codecs.register_error(_ONE_EACH, _replace_each)


@dataclass(frozen=True, slots=True)
class PlatformEvent:
    """One platform event, complete (as of the current schema)."""

    time: str
    type: str
    record: dict[str, Any]

    def encode_all(self, schema: str) -> list[bytes]:
        """Return the event as JSON texts of `schema`, also one of the Logs API.

        That has fewer events, and `platform.end` and `platform.fault` besides.
        """
        if schema in LOGS_SCHEMAS:
            return [
                _encode({"time": self.time, "type": event_type, "record": record})
                for event_type, record in self._of_logs_api(with_done=schema != LOGS_SCHEMAS[0])
            ]
        return [self.encode(schema)]

    def _of_logs_api(self, *, with_done: bool) -> Iterator[tuple[str, object]]:
        record = self.record
        if self.type == "platform.runtimeDone":
            request, status = record["requestId"], record["status"]
            failed = status in ("error", "failure")
            if with_done:
                yield self.type, {"requestId": request, "status": "failure" if failed else status}
            if failed:
                error = record.get("errorType", "Runtime.Unknown")
                yield "platform.fault", f"RequestId: {request} Error: {error}\n{error}\n"
            yield "platform.end", {"requestId": request}
        elif self.type in _LOGS_EVENTS:
            event_type, members = _LOGS_EVENTS[self.type]
            yield event_type, {key: record[key] for key in members if key in record}

    def encode(self, schema: str) -> bytes:
        """Return the event as JSON text of `schema`, without a newline."""
        record = self.record
        hidden: tuple[str, ...] = ()
        if schema == FIRST_SCHEMA:
            hidden += _SINCE_SECOND.get(self.type, ())
        if schema != CURRENT_SCHEMA:
            hidden += _SINCE_CURRENT.get(self.type, ())
        if hidden:
            record = {key: value for key, value in record.items() if key not in hidden}
        return _encode({"time": self.time, "type": self.type, "record": record})


@dataclass(frozen=True, slots=True)
class LogLines:
    """Whole lines read from one process at one time, before any encoding."""

    time: str
    kind: Kind
    text: str

    @classmethod
    def read(cls, kind: Kind, block: bytes) -> LogLines:
        """Return lines of this moment. Each byte that is not UTF-8 becomes U+FFFD, as in Go."""
        return cls(iso_now(), kind, block.decode("utf-8", _ONE_EACH))

    def encode(self, *, objects: bool, keep_newline: bool) -> list[bytes]:
        """Return one JSON event per line.

        With `objects` a line which is a JSON object becomes the record as it is (JSON log format,
        schema 2022-12-13 and later); everything else is a string.
        """
        lines = self.text.split("\n")
        unfinished = lines.pop()
        prefix = f'{{"time":"{self.time}","type":"{self.kind}","record":'.encode()
        end = b'\\n"}' if keep_newline else b'"}'
        if objects:
            events = [_record(prefix, line, end) for line in lines]
        else:
            events = [prefix + _encode(line)[:-1] + end for line in lines]
        if unfinished:
            events.append(
                _record(prefix, unfinished, b'"}')
                if objects
                else prefix + _encode(unfinished) + b"}"
            )
        return events


def _record(prefix: bytes, line: str, end: bytes) -> bytes:
    if is_object(line):
        return prefix + line.encode() + b"}"
    return prefix + _encode(line)[:-1] + end


def platform_event(event_type: str, record: dict[str, Any]) -> PlatformEvent:
    """Return a platform event of this moment; members of `record` that are None are left out."""
    kept = {key: value for key, value in record.items() if value is not None}
    return PlatformEvent(iso_now(), event_type, kept)


@dataclass(slots=True)
class LineCounts:
    """Counts of the lines that the processes printed. A test compares them with what arrived."""

    _counts: Counter[tuple[Kind, str, str, str | None]] = field(default_factory=Counter)

    def add(self, kind: Kind, name: str, stream: str, request_id: str | None, count: int) -> None:
        """Count `count` lines of one process's stream, printed during `request_id`."""
        self._counts[kind, name, stream, request_id] += count

    def total(
        self, kind: Kind | None = None, *, name: str | None = None, stream: str | None = None
    ) -> int:
        """Return lines printed, of all processes or of those named."""
        return sum(
            count
            for (its_kind, its_name, its_stream, _), count in self._counts.items()
            if kind in (None, its_kind)
            and name in (None, its_name)
            and stream in (None, its_stream)
        )

    def of_request(self, request_id: str | None, kind: Kind = "function") -> int:
        """Return lines read while `request_id` was running; None: outside of any invocation."""
        return sum(
            count
            for (its_kind, _, _, its_request), count in self._counts.items()
            if its_kind == kind and its_request == request_id
        )


@dataclass(frozen=True, slots=True)
class ProcessExit:
    """The end of a process of the environment."""

    role: Literal["extension", "runtime"]
    name: str
    generation: int
    returncode: int
    """The exit status, or minus the signal's number."""
    at_deadline: bool
    """Killed because it had not ended by itself in time."""
