"""Turns the measurements of one batch into as few EMF documents as the format's limits allow.

Measurements share a document only if they have equal dimension values and the same period (a
minute, or a second with high resolution). CloudWatch gives all values of a document one time stamp,
so no value moves to another period.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from telemetryd.sinks._platform.measured import Measured
from telemetryd.sinks.emf.catalogue import METRIC_NAMES, METRICS, MetricInfo
from telemetryd_proto.emf import MAX_VALUES, Document, Metric, Resolution, encode
from telemetryd_proto.framing import Block

MAX_ERROR_TYPES: Final = 20
"""Different reasons a document names; more are counted all the same."""
_SUM_DIGITS: Final = 12
"""Decimal places of a sum: cuts off the noise of adding floats, far below a price."""
_SUMS: Final = frozenset(info.name for info in METRICS if info.kind == "sum")
_LEVELS: Final = frozenset(info.name for info in METRICS if info.kind == "level")
_MARK: Final = "telemetryd"


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """The common parts of all documents of a sink."""

    namespace: str
    dimensions: Sequence[Sequence[str]]
    properties: Mapping[str, str]
    resolution: Resolution
    metrics: frozenset[str]
    """Names of the metrics to emit."""


class Place(msgspec.Struct, frozen=True, gc=False):
    """The origin of a line: connection, offset in its stream, monotonic time of arrival."""

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
        self, measured: Measured, timestamp: int, line: bytes, block: Block, start: int
    ) -> bool:
        """Put in what `line` said at `timestamp` (ms); False if it adds to no wanted metric.

        The line starts at `start` of the data of `block`. An empty one is what no line said.
        """
        values, wanted = measured.values, self._wanted
        if wanted is not None:
            values = [pair for pair in values if pair[0] in wanted]
        if not values:
            return False
        key = (measured.function, measured.version, timestamp // self._period)
        draft = self._open.get(key)
        if draft is None or not (draft.room or draft.has_room(values)):
            place = Place(block.source, block.offset + start, block.received_at)
            draft = self._open[key] = _Draft(measured, timestamp, place)
            self._drafts.append(draft)
        if draft.room:
            draft.room -= 1
        held = draft.values
        for name, value in values:
            held[name].append(value)
        draft.requests.add(measured.request_id)
        if measured.error_type:
            draft.add_error(measured.error_type)
        if line:
            draft.lines.append(line)
        return True

    def finish(self) -> list[Finished]:
        """Return the documents, in the order in which they were begun."""
        return [draft.finish(self._layout) for draft in self._drafts]


class _Draft:
    """An unfinished document."""

    __slots__ = ("_errors", "_facts", "_function", "_place", "_timestamp", "_version", "lines",
                 "requests", "room", "values")  # fmt: skip

    def __init__(self, first: Measured, timestamp: int, place: Place) -> None:
        self._function = first.function
        self._version = first.version
        self._facts = first.facts
        self._timestamp = timestamp
        self._place = place
        self._errors: dict[str, None] = {}
        self.values = defaultdict[str, list[float]](list)
        """All that was measured, by metric: added up, or rid of what is there twice, later."""
        self.room = MAX_VALUES
        """So many measurements are sure to have room; 0: `has_room` must look."""
        self.requests: set[str | None] = set()
        self.lines: list[bytes] = []

    def has_room(self, values: Sequence[tuple[str, float]]) -> bool:
        """True if none of the metrics of `values` is full.

        One measurement adds at most one value to a metric that keeps them, so it is enough to look
        again after as many as the fullest has room for.
        """
        held = self.values
        for name in _LEVELS & held.keys():
            held[name] = _distinct(held[name])
        kept = held.keys() - _SUMS
        self.room = MAX_VALUES - max((len(held[name]) for name in kept), default=0)
        return self.room > 0 or not any(
            name in kept and len(held[name]) >= MAX_VALUES for name, _ in values
        )

    def add_error(self, error_type: str) -> None:
        """Name a reason for failures, if there is room for it."""
        if len(self._errors) < MAX_ERROR_TYPES:
            self._errors[error_type] = None

    def finish(self, layout: Layout) -> Finished:
        members: dict[str, Any] = {
            "logger": _MARK,
            "function_name": self._function,
            "function_version": self._version,
            **layout.properties,
        }
        requests = self.requests - {None}
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
                metrics=[self._metric(info) for info in METRICS if info.name in self.values],
                members=members,
                resolution=layout.resolution,
            )
        )
        return Finished(payload + b"\n", self._timestamp, tuple(self.lines), self._place)

    def _metric(self, info: MetricInfo) -> Metric:
        values = self.values[info.name]
        if info.kind == "sum":
            values = [round(sum(values), _SUM_DIGITS)]
        elif info.kind == "level":
            values = _distinct(values)
        return Metric(info.name, info.unit, values)


def _distinct(values: Iterable[float]) -> list[float]:
    return list(dict.fromkeys(values))
