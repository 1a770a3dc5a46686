"""Resource, scope, and the request around log records, metrics or spans.

The three signals have requests of one shape, so what surrounds the items is written once for a
source, and an item once for all attempts:

    ExportLogsServiceRequest.resource_logs = 1
        ResourceLogs.resource = 1, .scope_logs = 2, .schema_url = 3
            ScopeLogs.scope = 1, .log_records = 2, .schema_url = 3
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec

from telemetryd_proto.otlp.values import attributes, json_attributes
from telemetryd_proto.otlp.wire import DELIMITED, delimited, tag, text, varint

Signal: TypeAlias = Literal["logs", "metrics", "traces"]

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.37.0"
"""The version of the semantic conventions that attributes are named by."""
PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"

_FIRST: Final = tag(1, DELIMITED)
_SECOND: Final = tag(2, DELIMITED)
_THIRD: Final = tag(3, DELIMITED)


class Names(NamedTuple):
    """The names of the parts of a request in JSON."""

    resource: str
    scope: str
    items: str


NAMES: Final[dict[Signal, Names]] = {
    "logs": Names("resourceLogs", "scopeLogs", "logRecords"),
    "metrics": Names("resourceMetrics", "scopeMetrics", "metrics"),
    "traces": Names("resourceSpans", "scopeSpans", "spans"),
}


class Source(NamedTuple):
    """Where items come from: the attributes of a resource, and a scope."""

    resource: Mapping[str, Any]
    scope: str
    scope_version: str = ""
    schema_url: str = SCHEMA_URL


class ProtobufForm:
    """The parts around the items of one source, in protobuf. All signals have the same."""

    content_type: Final = PROTOBUF

    def __init__(self, signal: Signal, source: Source) -> None:
        resource = attributes(_FIRST, source.resource.items())
        scope = text(_FIRST, source.scope) + text(_SECOND, source.scope_version)
        self._resource = delimited(_FIRST, resource)
        self._scope = delimited(_FIRST, scope)
        self._schema = text(_THIRD, source.schema_url)
        self.surplus: int = len(self.head(1 << 31)) + 2 * len(self._schema)
        """Most bytes that a body has more than its items."""

    def item(self, message: bytes) -> bytes:
        """Return a log record, a metric or a span, ready for `body`."""
        return delimited(_SECOND, message)

    def head(self, items_bytes: int) -> bytes:
        """Return what precedes items that have so many bytes together."""
        inner = len(self._scope) + items_bytes + len(self._schema)
        scope = _SECOND + varint(inner) + self._scope
        outer = len(self._resource) + len(scope) - len(self._scope) + inner + len(self._schema)
        return _FIRST + varint(outer) + self._resource + scope

    def body(self, items: Sequence[bytes]) -> list[bytes]:
        """Return the body of a request, in pieces. Several items may be one, joined."""
        return [self.head(sum(map(len, items))), *items, self._schema, self._schema]


class JsonForm:
    """The parts around the items of a signal from one source, in JSON."""

    content_type: Final = JSON

    def __init__(self, signal: Signal, source: Source) -> None:
        names = NAMES[signal]
        resource = {"attributes": json_attributes(source.resource.items())}
        scope = {"name": source.scope, "version": source.scope_version}
        encode = msgspec.json.encode
        self._head = b'{"%b":[{"resource":%b,"%b":[{"scope":%b,"%b":[' % (
            names.resource.encode(), encode(resource), names.scope.encode(), encode(scope),
            names.items.encode(),
        )  # fmt: skip
        url = encode(source.schema_url)
        self._tail = b'],"schemaUrl":%b}],"schemaUrl":%b}]}' % (url, url)
        self.surplus: int = len(self._head) + len(self._tail)
        """Most bytes that a body has more than its items."""

    def item(self, message: Mapping[str, Any]) -> bytes:
        """Return a log record, a metric or a span, ready for `body`: with a comma at its end."""
        return msgspec.json.encode(message) + b","

    def body(self, items: Sequence[bytes]) -> list[bytes]:
        """Return the body of a request, in pieces. Several items may be one, joined."""
        if not items:
            return [self._head, self._tail]
        return [self._head, *items[:-1], items[-1][:-1], self._tail]
