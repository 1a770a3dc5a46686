"""Log records, in protobuf and in JSON.

    LogRecord: time_unix_nano = 1, severity_number = 2, severity_text = 3, body = 5, attributes = 6,
        flags = 8, trace_id = 9, span_id = 10, observed_time_unix_nano = 11, event_name = 12

Most of a record is the same for many: its level, and the invocation that it belongs to. Both are
written once (`severity`, `origin`).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from telemetryd_proto.otlp import wire
from telemetryd_proto.otlp.trace_context import NO_TRACE, TraceContext
from telemetryd_proto.otlp.values import (
    JsonObject,
    Pairs,
    any_value,
    attributes,
    json_attributes,
    json_value,
)
from telemetryd_proto.otlp.wire import DELIMITED, FIXED32, FIXED64, VARINT, tag, varint

_TIME: Final = tag(1, FIXED64)
_NUMBER: Final = tag(2, VARINT)
_TEXT: Final = tag(3, DELIMITED)
_BODY: Final = tag(5, DELIMITED)
_ATTRIBUTE: Final = tag(6, DELIMITED)
_FLAGS: Final = tag(8, FIXED32)
_TRACE: Final = tag(9, DELIMITED)
_SPAN: Final = tag(10, DELIMITED)
_OBSERVED: Final = tag(11, FIXED64)
_NAME: Final = tag(12, DELIMITED)
_ITEM: Final = tag(2, DELIMITED)
_TO_STRING: Final = tag(1, DELIMITED)

_pack64: Final = wire.pack_fixed64
_pack_time: Final = struct.Struct("<BQ").pack
_SMALL: Final = wire.SMALL_VARINTS


class Origin(NamedTuple):
    """The common part of records of one invocation that were read together."""

    observed: int
    """Nanoseconds since the epoch when they were read."""
    trace: TraceContext = NO_TRACE
    attributes: Sequence[tuple[str, Any]] = ()


class ProtobufLogs:
    """Writes log records in protobuf, as items for `requests.ProtobufForm.body`."""

    @staticmethod
    def origin(origin: Origin) -> bytes:
        """Return what `record` takes as `origin`. The caller keeps it for the next record."""
        trace = origin.trace
        return b"".join(
            (
                attributes(_ATTRIBUTE, origin.attributes),
                _FLAGS + wire.pack_fixed32(trace.flags) if trace.flags else b"",
                wire.delimited(_TRACE, trace.trace_id) if trace.trace_id else b"",
                wire.delimited(_SPAN, trace.span_id) if trace.span_id else b"",
                wire.fixed64(_OBSERVED, origin.observed),
            )
        )

    @staticmethod
    def read_at(origin: bytes, observed: int) -> bytes:
        """Return `origin`, which has no time yet, with the time when its lines were read."""
        return origin + wire.fixed64(_OBSERVED, observed)

    @staticmethod
    def plain(origin: bytes, time: int, severity: tuple[int, str], body: str) -> bytes:
        """Return what `record` returns of a text that has a time, and nothing else."""
        # Each of many lines comes through here. To add bytes costs a third of joining them.
        value = body.encode("utf-8", "replace")
        size = len(value)
        message = (
            _pack_time(9, time)  # the byte of `_TIME`
            + (_severities.get(severity) or _severity(severity))
            + (_heads.get(size) or _head(size))
            + value
            + origin
        )
        size = len(message)
        return _ITEM + (_SMALL[size] if size < 1024 else varint(size)) + message  # noqa: PLR2004

    @staticmethod
    def record(
        origin: bytes,
        time: int,
        severity: tuple[int, str],
        body: Any,
        pairs: Pairs = (),
        event_name: str = "",
    ) -> bytes:
        """Return one record. `time`: nanoseconds since the epoch; 0: not known.

        `severity`: number and text. `pairs`: attributes besides those of the origin.
        """
        if type(body) is str:
            value = body.encode("utf-8", "replace")
            size = len(value)
            head = _heads.get(size) or _head(size)
        else:
            value = any_value(body)
            head = _BODY + varint(len(value))
        message = (_severities.get(severity) or _severity(severity)) + head + value
        if time > 0:
            message = _TIME + _pack64(time) + message
        if pairs:
            message += attributes(_ATTRIBUTE, pairs)
        message += origin
        if event_name:
            message += wire.text(_NAME, event_name)
        return _ITEM + varint(len(message)) + message


class JsonLogs:
    """Writes log records in JSON, as items for `requests.JsonForm.body`."""

    @staticmethod
    def origin(origin: Origin) -> JsonObject:
        """Return what `record` takes as `origin`. The caller keeps it for the next record."""
        trace = origin.trace
        found: JsonObject = {"attributes": json_attributes(origin.attributes)}
        if trace.flags:
            found["flags"] = trace.flags
        if trace.trace_id:
            found["traceId"] = trace.trace_id.hex()
        if trace.span_id:
            found["spanId"] = trace.span_id.hex()
        if origin.observed:
            found["observedTimeUnixNano"] = str(origin.observed)
        return found

    @staticmethod
    def read_at(origin: JsonObject, observed: int) -> JsonObject:
        """Return `origin`, which has no time yet, with the time when its lines were read."""
        return {**origin, "observedTimeUnixNano": str(observed)} if observed else origin

    @classmethod
    def plain(cls, origin: JsonObject, time: int, severity: tuple[int, str], body: str) -> bytes:
        """Return what `record` returns of a text that has a time, and nothing else."""
        return cls.record(origin, time, severity, body)

    @staticmethod
    def record(
        origin: JsonObject,
        time: int,
        severity: tuple[int, str],
        body: Any,
        pairs: Pairs = (),
        event_name: str = "",
    ) -> bytes:
        """Return one record, as that of `ProtobufLogs`."""
        found: JsonObject = {}
        if time > 0:
            found["timeUnixNano"] = str(time)
        if severity[0]:
            found["severityNumber"] = severity[0]
        if severity[1]:
            found["severityText"] = severity[1].encode("utf-8", "replace").decode()
        found["body"] = json_value(body)
        found |= origin
        found["attributes"] = [*json_attributes(pairs), *origin["attributes"]]
        if event_name:
            found["eventName"] = event_name.encode("utf-8", "replace").decode()
        return msgspec.json.encode(found) + b","


_MAX_KEPT: Final = 1024
_heads: dict[int, bytes] = {}
"""The bytes before a text of so many bytes that is a body."""
_severities: dict[tuple[int, str], bytes] = {}


def _head(size: int) -> bytes:
    inner = _TO_STRING + varint(size)
    head = _BODY + varint(len(inner) + size) + inner
    if size < _MAX_KEPT:
        _heads[size] = head
    return head


def _severity(severity: tuple[int, str]) -> bytes:
    number, text = severity
    if len(_severities) >= _MAX_KEPT:
        _severities.clear()
    found = wire.number(_NUMBER, number) + wire.text(_TEXT, text)
    _severities[severity] = found
    return found
