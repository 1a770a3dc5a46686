"""Turns the measurements of one batch into as few EMF documents as the format's limits allow.

Measurements share a document only if their dimension values are equal and they fall into the same
period (a minute, or a second with high resolution): CloudWatch gives all values of a document one
time stamp, so nothing is moved to a period it does not belong to.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from telemetryd.sinks._emf_catalogue import METRIC_NAMES, METRICS, MetricInfo
from telemetryd_proto.emf import MAX_VALUES, Document, Metric, Resolution, encode
from telemetryd_proto.framing import Block

MAX_ERROR_TYPES: Final = 20
"""Different reasons a document names; more are counted all the same."""
_SUM_DIGITS: Final = 12
"""Decimal places of a sum: cuts off the noise of adding floats, far below a price."""
_SUMS: Final = frozenset(info.name for info in METRICS if info.kind == "sum")
_LEVELS: Final = frozenset(info.name for info in METRICS if info.kind == "level")
_MARK: Final = "telemetryd"


class Measured(msgspec.Struct, gc=False):
    """What one event says in numbers."""

    function: str
    version: str
    values: list[tuple[str, float]]
    """Metric names and what was measured."""
    request_id: str | None = None
    error_type: str | None = None
    facts: Mapping[str, Any] | None = None
    """What telemetryd tells of itself."""


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """What all documents of a sink have in common."""

    namespace: str
    dimensions: Sequence[Sequence[str]]
    properties: Mapping[str, str]
    resolution: Resolution
    metrics: frozenset[str]
    """Names of the metrics to emit."""


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where a line came from: connection, offset in its stream, monotonic time of arrival."""

    source: int
    offset: int
    received_at: float


class Finished(msgspec.Struct, frozen=True, gc=False):
    """A document, and the lines that went into it."""

    payload: bytes
    timestamp: int
    """Milliseconds since the Unix epoch."""
    lines: tuple[bytes, ...]
    place: Place


class Documents:
    """The documents of one batch."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._period = layout.resolution * 1000
        self._wanted = layout.metrics if layout.metrics != METRIC_NAMES else None
        self._open: dict[tuple[str, str, int], _Draft] = {}
        self._drafts: list[_Draft] = []

    def add(
        self, measured: Measured, timestamp: int, line: bytes, block: Block, offset: int
    ) -> bool:
        """Put in what `line` said at `timestamp` (ms); False if it adds to no wanted metric.

        The line begins at `offset` of the stream `block` is of. An empty one is what no line said.
        """
        values, wanted = measured.values, self._wanted
        if wanted is not None:
            values = [pair for pair in values if pair[0] in wanted]
        if not values:
            return False
        key = (measured.function, measured.version, timestamp // self._period)
        draft = self._open.get(key)
        if draft is None or not draft.has_room(values):
            place = Place(block.source, offset, block.received_at)
            draft = self._open[key] = _Draft(measured, timestamp, place)
            self._drafts.append(draft)
        draft.add(measured, values, line)
        return True

    def finish(self) -> list[Finished]:
        """The documents, in the order in which they were begun."""
        return [draft.finish(self._layout) for draft in self._drafts]


class _Draft:
    """A document in the making."""

    __slots__ = ("_errors", "_facts", "_function", "_lines", "_place", "_requests", "_room",
                 "_timestamp", "_values", "_version")  # fmt: skip

    def __init__(self, first: Measured, timestamp: int, place: Place) -> None:
        self._function = first.function
        self._version = first.version
        self._facts = first.facts
        self._timestamp = timestamp
        self._place = place
        self._values = defaultdict[str, list[float]](list)
        self._room = MAX_VALUES
        self._requests: set[str | None] = set()
        self._errors: dict[str, None] = {}
        self._lines: list[bytes] = []

    def has_room(self, values: Sequence[tuple[str, float]]) -> bool:
        """Whether none of the metrics is full.

        One measurement adds at most one value to a metric that keeps them, so it is enough to look
        again after as many as the fullest had room for.
        """
        if self._room:
            return True
        held = self._values
        self._room = MAX_VALUES - max(
            (len(held[name]) for name in held if name not in _SUMS), default=0
        )
        return self._room > 0 or not any(
            len(held.get(name, ())) >= MAX_VALUES for name, _ in values if name not in _SUMS
        )

    def add(self, measured: Measured, values: Sequence[tuple[str, float]], line: bytes) -> None:
        held = self._values
        for name, value in values:
            if name not in _LEVELS or value not in held[name]:
                held[name].append(value)
        if self._room:
            self._room -= 1
        self._requests.add(measured.request_id)
        if measured.error_type and len(self._errors) < MAX_ERROR_TYPES:
            self._errors[measured.error_type] = None
        if line:
            self._lines.append(line)

    def finish(self, layout: Layout) -> Finished:
        members: dict[str, Any] = {
            "logger": _MARK,
            "function_name": self._function,
            "function_version": self._version,
            **layout.properties,
        }
        requests = self._requests - {None}
        if len(requests) == 1:
            members["request_id"] = str(*requests)
        if self._facts is not None:
            members["telemetryd"] = self._facts
        if self._errors:
            errors = tuple(self._errors)
            members["error_type"] = errors[0] if len(errors) == 1 else errors
        payload = encode(
            Document(
                timestamp=self._timestamp,
                namespace=layout.namespace,
                dimensions=layout.dimensions,
                metrics=[self._metric(info) for info in METRICS if info.name in self._values],
                members=members,
                resolution=layout.resolution,
            )
        )
        return Finished(payload + b"\n", self._timestamp, tuple(self._lines), self._place)

    def _metric(self, info: MetricInfo) -> Metric:
        values = self._values[info.name]
        if info.kind == "sum":
            values = [round(sum(values), _SUM_DIGITS)]
        return Metric(info.name, info.unit, values)
