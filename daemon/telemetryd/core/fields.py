"""Members added to each event: `fields` of a sink's section.

They go to the front of the line's object, so that the line itself is copied and never re-encoded.
`request_id` is the invocation a log line belongs to: the one a structured record names, else, where
invocations come one at a time, the one whose `platform.start` came last on the stream
("Order and timing of events", Telemetry API). A line that belongs to none gets no such member.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from telemetryd_proto.envelope import Envelope

Field: TypeAlias = Literal["function", "version", "instance", "request_id"]

_MAX_CONNECTIONS: Final = 1024


class _Named(msgspec.Struct, gc=False):
    request_id: str | None = msgspec.field(default=None, name="requestId")
    aws_request_id: str | None = msgspec.field(default=None, name="AWSRequestId")


_decode: Final = msgspec.json.Decoder(_Named).decode


class RequestTracker:
    """Follows each connection and says which invocation a line belongs to.

    `one_at_a_time` is False where invocations run concurrently (Managed Instances).
    """

    __slots__ = ("_current", "_one_at_a_time")

    def __init__(self, *, one_at_a_time: bool) -> None:
        self._one_at_a_time = one_at_a_time
        self._current: dict[int, str] = {}

    def request_of(self, envelope: Envelope, source: int) -> str:
        """The line's request id, empty when unknown. Call it for every line, in stream order."""
        named = _request_named(envelope)
        if envelope.type == "platform.initStart":
            self._current.pop(source, None)  # a new environment: nothing runs in it yet
        elif envelope.type == "platform.start":
            if len(self._current) >= _MAX_CONNECTIONS and source not in self._current:
                self._current.pop(next(iter(self._current)))  # the oldest; most likely closed
            self._current[source] = named
        if named or not self._one_at_a_time:
            return named
        return self._current.get(source, "")


class FieldAdder:
    """Adds the fields one sink asks for."""

    __slots__ = ("_constant", "_names", "wants_request")

    def __init__(self, fields: Sequence[Field], values: Mapping[str, str]) -> None:
        self._names = [name for name in fields if name != "request_id"]
        self.wants_request = "request_id" in fields
        self.renew(values)

    def renew(self, values: Mapping[str, str]) -> None:
        """From now on these are the values."""
        members = [_member(name, values[name]) for name in self._names]
        self._constant = b"{" + b"".join(members)

    def add(self, line: bytes, request_id: str) -> bytes:
        """`line`, an event, with the members in front."""
        start = line.index(b"{") + 1
        if self.wants_request and request_id:
            return self._constant + _member("request_id", request_id) + line[start:]
        return self._constant + line[start:]


def _member(name: str, value: str) -> bytes:
    return b'"' + name.encode() + b'":' + msgspec.json.encode(value) + b","


def _request_named(envelope: Envelope) -> str:
    try:
        record = _decode(envelope.record)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""  # text, or something else that names none
    return record.request_id or record.aws_request_id or ""
