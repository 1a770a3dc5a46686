"""Log records, in protobuf and in JSON.

    LogRecord: time_unix_nano = 1, severity_number = 2, severity_text = 3, body = 5, attributes = 6,
        flags = 8, trace_id = 9, span_id = 10, observed_time_unix_nano = 11, event_name = 12

Most of a record is the same for many: its level, and the invocation that it belongs to. Both are
written once (`severity`, `origin`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

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
    writer_of,
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


class Origin(NamedTuple):
    """The common part of records of one invocation that were read together."""

    observed: int
    """Nanoseconds since the epoch when they were read."""
    trace: TraceContext = NO_TRACE
    attributes: Sequence[tuple[str, Any]] = ()


class _Heads(dict[int, tuple[bytes, bytes]]):
    """The bytes of a record before its time, and from there to its text, by the text's size.

    They are made where they are first needed, and those of short texts are kept.
    """

    def __init__(self, severity: bytes, others: int) -> None:
        """`others`: the bytes of the time and of the origin."""
        super().__init__()
        self._severity = severity
        self._others = others

    def __missing__(self, size: int) -> tuple[bytes, bytes]:
        behind = self._severity + (_heads.get(size) or _head(size))
        found = _ITEM + varint(self._others + len(behind) + size) + _TIME, behind
        if size < _MAX_KEPT:
            self[size] = found
        return found


Frame: TypeAlias = tuple[_Heads, bytes]
"""The surroundings of texts of one level that were read together, in one invocation."""
JsonFrame: TypeAlias = tuple[JsonObject, tuple[int, str]]


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
    def frame(origin: bytes, severity: tuple[int, str]) -> Frame:
        """Return what `plain` takes as `frame`. The caller keeps it for the next record."""
        # 9: the tag of a time, and 9 bytes of time with it
        level, inner = _severities.get(severity) or _severity(severity), len(origin) + 9
        key = (level, inner)
        heads = _framed.get(key)
        if heads is None:
            if len(_framed) >= _MAX_FRAMED:
                _framed.clear()
            heads = _framed[key] = _Heads(level, inner)
        return heads, origin

    @staticmethod
    def plain(frame: Frame, time: int, body: str) -> bytes:
        """Return what `record` returns of a text that has a time, and nothing else."""
        # Each of many lines comes through here.
        heads, origin = frame
        value = body.encode("utf-8", "replace")
        before, behind = heads[len(value)]
        return b"".join((before, _pack64(time), behind, value, origin))

    @staticmethod
    def writes(names: Sequence[str]) -> Callable[[Iterable[Any]], list[bytes]]:
        """Return what takes the values of `names`, and returns what `with_written` takes."""
        return writer_of(_ATTRIBUTE, names)

    @staticmethod
    def with_written(
        origin: bytes, time: int, severity: tuple[int, str], body: str, written: list[bytes]
    ) -> bytes:
        """Return what `record` returns of a text with attributes that are written already."""
        value = body.encode("utf-8", "replace")
        size = len(value)
        message = b"".join(
            (
                _TIME + _pack64(time) if time > 0 else b"",
                _severities.get(severity) or _severity(severity),
                _heads.get(size) or _head(size),
                value,
                *written,
                origin,
            )
        )
        return _ITEM + varint(len(message)) + message

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
        message = b"".join(
            (
                _TIME + _pack64(time) if time > 0 else b"",
                _severities.get(severity) or _severity(severity),
                head,
                value,
                attributes(_ATTRIBUTE, pairs) if pairs else b"",
                origin,
                (_names.get(event_name) or _name(event_name)) if event_name else b"",
            )
        )
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

    @staticmethod
    def frame(origin: JsonObject, severity: tuple[int, str]) -> JsonFrame:
        """Return what `plain` takes as `frame`. The caller keeps it for the next record."""
        return origin, severity

    @classmethod
    def plain(cls, frame: JsonFrame, time: int, body: str) -> bytes:
        """Return what `record` returns of a text that has a time, and nothing else."""
        origin, severity = frame
        return cls.record(origin, time, severity, body)

    @staticmethod
    def writes(names: Sequence[str]) -> Callable[[Iterable[Any]], list[tuple[str, Any]]]:
        """Return what takes the values of `names`, and returns what `with_written` takes."""
        return lambda values: list(zip(names, values, strict=True))

    @classmethod
    def with_written(
        cls,
        origin: JsonObject,
        time: int,
        severity: tuple[int, str],
        body: str,
        written: list[tuple[str, Any]],
    ) -> bytes:
        """Return what `record` returns of a text with attributes that are read already."""
        return cls.record(origin, time, severity, body, written)

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
_MAX_FRAMED: Final = 16
_framed: dict[tuple[bytes, int], _Heads] = {}
"""By severity, and bytes of time and origin: those of most origins have the same number."""
_heads: dict[int, bytes] = {}
"""The bytes before a text of so many bytes that is a body."""
_severities: dict[tuple[int, str], bytes] = {}
_names: dict[str, bytes] = {}
"""Names of events."""


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


def _name(name: str) -> bytes:
    if len(_names) >= _MAX_KEPT:
        _names.clear()
    found = _names[name] = wire.text(_NAME, name)
    return found
