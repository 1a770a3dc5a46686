"""Metrics as messages, in protobuf and in JSON: sums and histograms.

Source: opentelemetry-proto, `metrics.proto`: Metric.name = 1, description = 2, unit = 3, sum = 7,
histogram = 9; Sum.data_points = 1, aggregation_temporality = 2, is_monotonic = 3;
NumberDataPoint.start_time_unix_nano = 2, time_unix_nano = 3, as_int = 6, attributes = 7;
HistogramDataPoint.start_time_unix_nano = 2, time_unix_nano = 3, count = 4, sum = 5,
bucket_counts = 6, explicit_bounds = 7, attributes = 9, min = 11, max = 12.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from telemetryd_proto.otlp.values import attributes, json_attributes, json_double
from telemetryd_proto.otlp.wire import (
    DELIMITED,
    FIXED64,
    VARINT,
    delimited,
    fixed64,
    number,
    pack_double,
    pack_fixed64,
    pack_sfixed64,
    tag,
    text,
)

DELTA: Final = 1
"""The temporality of points that say what was added since the last ones."""
CUMULATIVE: Final = 2
"""The temporality of points that say what was added since the process began."""

_NAME: Final = tag(1, DELIMITED)
_DESCRIPTION: Final = tag(2, DELIMITED)
_UNIT: Final = tag(3, DELIMITED)
_SUM: Final = tag(7, DELIMITED)
_HISTOGRAM: Final = tag(9, DELIMITED)
_POINTS: Final = tag(1, DELIMITED)
_TEMPORALITY: Final = tag(2, VARINT)
_MONOTONIC: Final = b"\x18\x01"

_START: Final = tag(2, FIXED64)
_TIME: Final = tag(3, FIXED64)
_AS_INT: Final = tag(6, FIXED64)
_NUMBER_ATTRIBUTES: Final = tag(7, DELIMITED)
_COUNT: Final = tag(4, FIXED64)
_TOTAL: Final = tag(5, FIXED64)
_BUCKETS: Final = tag(6, DELIMITED)
_BOUNDS: Final = tag(7, DELIMITED)
_HISTOGRAM_ATTRIBUTES: Final = tag(9, DELIMITED)
_MIN: Final = tag(11, FIXED64)
_MAX: Final = tag(12, FIXED64)


class Period(NamedTuple):
    """The time that a point is about, in nanoseconds since the Unix epoch."""

    start: int
    end: int


class SumPoint(NamedTuple):
    """A number that only grows."""

    attributes: Mapping[str, Any]
    period: Period
    value: int


class HistogramPoint(NamedTuple):
    """The distribution of a measurement."""

    attributes: Mapping[str, Any]
    period: Period
    observations: int
    total: float
    buckets: Sequence[int]
    """How many there are up to each bound, and, last, how many above."""
    low: float
    high: float


class SumMetric(NamedTuple):
    """A metric that counts."""

    name: str
    unit: str
    description: str
    temporality: int
    points: Sequence[SumPoint]


class HistogramMetric(NamedTuple):
    """A metric that measures."""

    name: str
    unit: str
    description: str
    temporality: int
    points: Sequence[HistogramPoint]
    bounds: Sequence[float]
    """The upper bounds of all buckets but the last, ascending."""


OtlpMetric: TypeAlias = SumMetric | HistogramMetric


def metric_message(metric: OtlpMetric) -> bytes:
    """Return a metric in protobuf, its fields in the order of their numbers."""
    head = text(_NAME, metric.name) + text(_DESCRIPTION, metric.description)
    head += text(_UNIT, metric.unit)
    temporality = number(_TEMPORALITY, metric.temporality)
    if isinstance(metric, SumMetric):
        points = b"".join([delimited(_POINTS, _sum_point(each)) for each in metric.points])
        return head + delimited(_SUM, points + temporality + _MONOTONIC)
    bounds = b"".join(map(pack_double, metric.bounds))
    bounds = delimited(_BOUNDS, bounds) if bounds else b""
    points = b"".join(
        [delimited(_POINTS, _histogram_point(each, bounds)) for each in metric.points]
    )
    return head + delimited(_HISTOGRAM, points + temporality)


def json_metric(metric: OtlpMetric) -> dict[str, Any]:
    """Return a metric in the form for JSON."""
    made: dict[str, Any] = {
        "name": metric.name,
        "description": metric.description,
        "unit": metric.unit,
    }
    if isinstance(metric, SumMetric):
        made["sum"] = {
            "dataPoints": [
                _json_point(each.attributes, each.period) | {"asInt": str(each.value)}
                for each in metric.points
            ],
            "aggregationTemporality": metric.temporality,
            "isMonotonic": True,
        }
    else:
        bounds = [json_double(bound) for bound in metric.bounds]
        made["histogram"] = {
            "dataPoints": [_json_histogram_point(each, bounds) for each in metric.points],
            "aggregationTemporality": metric.temporality,
        }
    return made


def _sum_point(point: SumPoint) -> bytes:
    return (
        fixed64(_START, point.period.start)
        + fixed64(_TIME, point.period.end)
        + _AS_INT
        + pack_sfixed64(point.value)
        + attributes(_NUMBER_ATTRIBUTES, point.attributes.items())
    )


def _histogram_point(point: HistogramPoint, bounds: bytes) -> bytes:
    return b"".join(
        (
            fixed64(_START, point.period.start),
            fixed64(_TIME, point.period.end),
            fixed64(_COUNT, point.observations),
            _TOTAL + pack_double(point.total),
            delimited(_BUCKETS, b"".join(map(pack_fixed64, point.buckets))),
            bounds,
            attributes(_HISTOGRAM_ATTRIBUTES, point.attributes.items()),
            _MIN + pack_double(point.low),
            _MAX + pack_double(point.high),
        )
    )


def _json_point(values: Mapping[str, Any], period: Period) -> dict[str, Any]:
    made: dict[str, Any] = {
        "startTimeUnixNano": str(period.start),
        "timeUnixNano": str(period.end),
    }
    if values:
        made["attributes"] = json_attributes(values.items())
    return made


def _json_histogram_point(point: HistogramPoint, bounds: list[float | str]) -> dict[str, Any]:
    return _json_point(point.attributes, point.period) | {
        "count": str(point.observations),
        "sum": json_double(point.total),
        "bucketCounts": [str(each) for each in point.buckets],
        "explicitBounds": bounds,
        "min": json_double(point.low),
        "max": json_double(point.high),
    }
