"""Members added to each line that is a JSON object: `fields` of a sink's section.

They go to the front of the object, so that the line itself is copied and never re-encoded. A line
that is not a JSON object passes unchanged.

`request_id` is the invocation that a log line belongs to. It is the id in the line, if a
`platform.start` has named that id before (`core.request_id` finds candidates, and some are other
ids). Otherwise, if invocations come one at a time, it is the one whose `platform.start` came last
on the stream ("Order and timing of events", Telemetry API). A line of no invocation gets no such
member.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from telemetryd.core.loose import decode_loosely
from telemetryd_proto.objects import AnyObject
from telemetryd_proto.request_ids import usable_id

Field: TypeAlias = Literal["function", "version", "instance", "request_id"]

_UUID: Final = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_MAX_CONNECTIONS: Final = 1024
_MAX_STARTED: Final = 1024
"""Invocations that are remembered: a line may come long after the next one began."""


class _Named(msgspec.Struct, gc=False):
    request_id: str = msgspec.field(default="", name="requestId")


_decode: Final = msgspec.json.Decoder(_Named).decode


class RequestTracker:
    """Follows each connection and says which invocation a line belongs to.

    `one_at_a_time` is False where invocations run concurrently (Managed Instances): there a line
    belongs to the invocation it names, or to none, and an id is believed for its form as well.
    """

    __slots__ = ("_current", "_ids_of_line", "_one_at_a_time", "_started")

    def __init__(self, *, one_at_a_time: bool) -> None:
        self._one_at_a_time = one_at_a_time
        self._current: dict[int, str] = {}
        self._started: dict[str, None] = {}
        self._ids_of_line: Callable[[bytes, AnyObject], Iterator[str]] | None = None

    def request_of(self, line: bytes, found: AnyObject, source: int) -> str:
        """Return the line's request id, empty when unknown. For every line, in stream order."""
        kind = found.type
        if kind.startswith("platform."):
            return self._request_of_event(kind, _request_in(found.record), source)
        ids_of_line = self._ids_of_line or self._load_ids()
        started, alike = self._started, ""
        for request_id in ids_of_line(line, found):
            if request_id in started:
                return request_id
            if (lower := request_id.lower()) in started:  # as Lambda writes it
                return lower
            if not (self._one_at_a_time or alike) and re.fullmatch(_UUID, request_id):
                alike = request_id
        return self._current.get(source, "") if self._one_at_a_time else alike

    def _load_ids(self) -> Callable[[bytes, AnyObject], Iterator[str]]:
        from telemetryd.core.record import ids_of_line  # noqa: PLC0415 - only where asked for

        self._ids_of_line = ids_of_line
        return ids_of_line

    def _request_of_event(self, kind: str, named: str, source: int) -> str:
        if kind == "platform.initStart":
            self._current.pop(source, None)  # a new environment: nothing runs in it yet
        elif kind == "platform.start":
            current, started = self._current, self._started
            if len(current) >= _MAX_CONNECTIONS and source not in current:
                current.pop(next(iter(current)))  # the oldest; most likely closed
            current[source] = named
            if named:
                if len(started) >= _MAX_STARTED and named not in started:
                    del started[next(iter(started))]
                started[named] = None
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
        """Use these values from now on."""
        members = [_member(name, values[name]) for name in self._names]
        self._constant = b"{" + b"".join(members)

    def add(self, line: bytes, request_id: str) -> bytes:
        """Return `line`, an object with members, with the fields in front of them."""
        start = line.index(b"{") + 1
        if self.wants_request and request_id:
            return self._constant + _member("request_id", request_id) + line[start:]
        return self._constant + line[start:]

    def add_to_any(self, line: bytes, request_id: str) -> bytes:
        """Return `line`, an object that may be empty, with the fields in front of its members."""
        added = self.add(line, request_id)
        rest = line[line.index(b"{") + 1 :]
        if rest.lstrip()[:1] != b"}":
            return added
        return added[: len(added) - len(rest)].removesuffix(b",") + rest


def _member(name: str, value: str) -> bytes:
    return b'"' + name.encode() + b'":' + msgspec.json.encode(value) + b","


def _request_in(record: msgspec.Raw) -> str:
    """Return the request id in the record of a platform event; empty for none, or one too long."""
    named = decode_loosely(_decode, bytes(record))
    return usable_id(named.request_id) if named is not None else ""
