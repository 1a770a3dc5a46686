"""Metrics and spans that we write as OTLP are what the protobuf library writes."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from telemetryd_proto.otlp import metrics, spans

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
ATTRIBUTES = st.dictionaries(TEXT, TEXT, max_size=4)
TIMES = st.integers(0, (1 << 64) - 1)
PERIODS = st.builds(metrics.Period, TIMES, TIMES)
NUMBERS = st.floats(allow_nan=False)
COUNTS = st.integers(0, (1 << 63) - 1)
TEMPORALITY = st.sampled_from([metrics.DELTA, metrics.CUMULATIVE])
SUMS = st.builds(
    metrics.SumMetric, TEXT, TEXT, TEXT, TEMPORALITY,
    st.lists(st.builds(metrics.SumPoint, ATTRIBUTES, PERIODS, COUNTS), max_size=3),
)  # fmt: skip
TRACE_IDS = st.binary(min_size=16, max_size=16)
SPAN_IDS = st.binary(min_size=8, max_size=8)
SPANS = st.builds(
    spans.OtlpSpan, TRACE_IDS, SPAN_IDS, TEXT, TIMES, TIMES, st.one_of(st.just(b""), SPAN_IDS),
    st.integers(0, 5), ATTRIBUTES,
    st.lists(st.builds(spans.SpanLink, TRACE_IDS, SPAN_IDS), max_size=2).map(tuple),
    st.sampled_from([spans.UNSET, spans.ERROR]), TEXT, st.integers(0, 0x3FF),
)  # fmt: skip


@st.composite
def histograms(draw: st.DrawFn) -> metrics.HistogramMetric:
    """Histograms whose points have as many buckets as they should."""
    bounds = draw(st.lists(NUMBERS, max_size=4, unique=True).map(sorted))
    buckets = st.lists(COUNTS, min_size=len(bounds) + 1, max_size=len(bounds) + 1)
    point = st.builds(
        metrics.HistogramPoint, ATTRIBUTES, PERIODS, COUNTS, NUMBERS, buckets, NUMBERS, NUMBERS
    )
    points = draw(st.lists(point, max_size=3))
    return metrics.HistogramMetric(
        draw(TEXT), draw(TEXT), draw(TEXT), draw(TEMPORALITY), points, bounds
    )


def pairs(values: Any) -> list[KeyValue]:
    return [KeyValue(key=key, value=AnyValue(string_value=each)) for key, each in values.items()]


def metric_oracle(metric: metrics.OtlpMetric) -> Metric:
    """The metric as the library has it."""
    made = Metric(name=metric.name, unit=metric.unit, description=metric.description)
    if isinstance(metric, metrics.SumMetric):
        made.sum.aggregation_temporality = metric.temporality  # type: ignore[assignment]
        made.sum.is_monotonic = True
        for each in metric.points:
            made.sum.data_points.add(
                attributes=pairs(each.attributes), as_int=each.value,
                start_time_unix_nano=each.period.start, time_unix_nano=each.period.end,
            )  # fmt: skip
        return made
    made.histogram.aggregation_temporality = metric.temporality  # type: ignore[assignment]
    for point in metric.points:
        made.histogram.data_points.add(
            attributes=pairs(point.attributes), count=point.observations, sum=point.total,
            start_time_unix_nano=point.period.start, time_unix_nano=point.period.end,
            bucket_counts=point.buckets, explicit_bounds=metric.bounds,
            min=point.low, max=point.high,
        )  # fmt: skip
    return made


def span_oracle(span: spans.OtlpSpan) -> Span:
    """The span as the library has it."""
    made = Span(
        trace_id=span.trace_id, span_id=span.span_id, parent_span_id=span.parent_id,
        name=span.name, kind=span.kind, flags=span.flags,  # type: ignore[arg-type]
        start_time_unix_nano=span.start, end_time_unix_nano=span.end,
        attributes=pairs(span.attributes),
        links=[Span.Link(trace_id=each.trace_id, span_id=each.span_id) for each in span.links],
    )  # fmt: skip
    if span.status or span.message:
        made.status.code = span.status  # type: ignore[assignment]
        made.status.message = span.message
    return made


def read_json(made: dict[str, Any], kind: Message) -> Message:
    """What the library reads from our JSON. It expects base64 where OTLP has hexadecimal ids."""
    return json_format.Parse(json.dumps(made), kind)


@given(SUMS | histograms())
def test_a_metric_is_written_as_the_library_writes_it(metric: metrics.OtlpMetric) -> None:
    wanted = metric_oracle(metric)
    assert metrics.metric_message(metric) == wanted.SerializeToString(deterministic=True)
    assert read_json(metrics.json_metric(metric), Metric()) == wanted


@given(SPANS)
def test_a_span_is_written_as_the_library_writes_it(span: spans.OtlpSpan) -> None:
    wanted = span_oracle(span)
    assert spans.span_message(span) == wanted.SerializeToString(deterministic=True)
    made = spans.json_span(span)
    assert bytes.fromhex(made.pop("traceId")) == wanted.trace_id
    assert bytes.fromhex(made.pop("spanId")) == wanted.span_id
    assert bytes.fromhex(made.pop("parentSpanId", "")) == wanted.parent_span_id
    for link, expected in zip(made.pop("links", []), wanted.links, strict=True):
        assert bytes.fromhex(link["traceId"]) == expected.trace_id
        assert bytes.fromhex(link["spanId"]) == expected.span_id
    for field in ("trace_id", "span_id", "parent_span_id", "links"):
        wanted.ClearField(field)
    assert read_json(made, Span()) == wanted


@given(st.decimals(0, 86_400_000, allow_nan=False, places=6))
def test_milliseconds_become_nanoseconds_exactly(milliseconds: Decimal) -> None:
    assert spans.to_nanoseconds(float(milliseconds)) == milliseconds * 1_000_000


@given(st.lists(TEXT, min_size=1, max_size=3))
def test_ids_are_the_same_for_the_same_facts(facts: list[str]) -> None:
    trace, span = spans.derive_trace_id(*facts), spans.derive_span_id(*facts)
    assert (len(trace), len(span)) == (16, 8)
    assert any(trace)
    assert any(span)
    assert (trace, span) == (spans.derive_trace_id(*facts), spans.derive_span_id(*facts))
    assert spans.derive_span_id(*facts, "") != span


@pytest.mark.parametrize("milliseconds", [None, -0.001, float("nan"), float("inf"), 1e15])
def test_what_is_no_duration_is_none(milliseconds: float | None) -> None:
    assert spans.to_nanoseconds(milliseconds) is None
