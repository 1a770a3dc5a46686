"""A real OpenTelemetry Collector reads what we write as OTLP, and reads the same in both forms."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from helpers.emf_streams import STREAMS, block, stream
from helpers.otel_collector import BUILD_LIMIT, Collector, Received, attributes, build, running
from telemetryd.clock import Clock
from telemetryd.sinks._platform.signals import PlatformSignals, Wanted
from telemetryd.testing import context
from telemetryd_proto.otlp.answers import NOTHING, refusal
from telemetryd_proto.otlp.metrics import (
    HistogramMetric,
    OtlpMetric,
    SumMetric,
    json_metric,
    metric_message,
)
from telemetryd_proto.otlp.requests import JSON, JsonForm, ProtobufForm, Source
from telemetryd_proto.otlp.spans import OtlpSpan, json_span, span_message

pytestmark = [pytest.mark.peers, pytest.mark.timeout(BUILD_LIMIT + 120)]

NOW = 1_773_483_400.0
SOURCE = Source({"service.name": "orders", "faas.max_memory": 134217728}, "telemetryd", "1.0")
Form = Literal["protobuf", "json"]


@pytest.fixture(scope="module")
def program() -> Path:
    """The Collector, built."""
    return build()


@pytest.fixture
def collector(program: Path, tmp_path: Path) -> Iterator[Collector]:
    """A Collector that has received nothing."""
    with running(program, tmp_path / "collected") as made:
        yield made


def post(url: str, content_type: str, body: list[bytes]) -> None:
    """Send a request, which must be accepted as a whole."""
    request = urllib.request.Request(url, b"".join(body), {"Content-Type": content_type})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200
        said = answer.read()
    assert refusal(said, is_json=content_type == JSON) == NOTHING


def send_spans(url: str, form: Form, spans: list[OtlpSpan]) -> None:
    if form == "json":
        made = JsonForm("traces", SOURCE)
        items = [made.item(json_span(each)) for each in spans]
        return post(f"{url}/v1/traces", made.content_type, made.body(items))
    binary = ProtobufForm("traces", SOURCE)
    items = [binary.item(span_message(each)) for each in spans]
    return post(f"{url}/v1/traces", binary.content_type, binary.body(items))


def send_metrics(url: str, form: Form, metrics: list[OtlpMetric]) -> None:
    if form == "json":
        made = JsonForm("metrics", SOURCE)
        items = [made.item(json_metric(each)) for each in metrics]
        return post(f"{url}/v1/metrics", made.content_type, made.body(items))
    binary = ProtobufForm("metrics", SOURCE)
    items = [binary.item(metric_message(each)) for each in metrics]
    return post(f"{url}/v1/metrics", binary.content_type, binary.body(items))


def read_span(span: OtlpSpan) -> dict[str, Any]:
    """The parts of a span as they should be read back."""
    return {
        "trace": span.trace_id.hex(), "id": span.span_id.hex(), "parent": span.parent_id.hex(),
        "name": span.name, "kind": span.kind, "start": span.start, "end": span.end,
        "attributes": dict(span.attributes), "status": span.status, "message": span.message,
        "flags": span.flags, "links": [each.span_id.hex() for each in span.links],
    }  # fmt: skip


def arrived_span(item: dict[str, Any]) -> dict[str, Any]:
    """The parts of a span that the Collector has written."""
    status = item.get("status", {})
    return {
        "trace": item["traceId"], "id": item["spanId"], "parent": item.get("parentSpanId", ""),
        "name": item["name"], "kind": item["kind"], "start": int(item["startTimeUnixNano"]),
        "end": int(item["endTimeUnixNano"]), "attributes": attributes(item),
        "status": status.get("code", 0), "message": status.get("message", ""),
        "flags": item["flags"], "links": [each["spanId"] for each in item.get("links", [])],
    }  # fmt: skip


def read_points(metric: OtlpMetric) -> list[tuple[Any, ...]]:
    """The points of a metric as they should be read back."""
    if isinstance(metric, SumMetric):
        return [(*each.period, dict(each.attributes), each.value) for each in metric.points]
    assert isinstance(metric, HistogramMetric)
    return [
        (*each.period, dict(each.attributes), each.observations, each.total, list(each.buckets),
         list(metric.bounds), each.low, each.high)
        for each in metric.points
    ]  # fmt: skip


def arrived_points(item: dict[str, Any]) -> list[tuple[Any, ...]]:
    """The points of a metric that the Collector has written."""
    points: list[tuple[Any, ...]] = []
    for each in (item["sum"] if "sum" in item else item["histogram"])["dataPoints"]:
        head = (int(each["startTimeUnixNano"]), int(each["timeUnixNano"]), attributes(each))
        if "sum" in item:
            points.append((*head, int(each["asInt"])))
            continue
        points.append(
            (*head, int(each["count"]), each["sum"], [int(count) for count in each["bucketCounts"]],
             [float(bound) for bound in each["explicitBounds"]], each["min"], each["max"])
        )  # fmt: skip
    return points


def assert_from_source(arrived: list[Received]) -> None:
    assert {json.dumps(each.resource, sort_keys=True) for each in arrived} == {
        json.dumps(SOURCE.resource, sort_keys=True)
    }
    assert {each.scope for each in arrived} == {SOURCE.scope}


@pytest.mark.parametrize("form", ["protobuf", "json"])
def test_spans_and_metrics_of_the_sample_streams_arrive_as_they_were(
    collector: Collector, form: Form
) -> None:
    spans: list[OtlpSpan] = []
    metrics: list[OtlpMetric] = []
    for path in sorted(STREAMS.glob("*.ndjson")):
        signals = PlatformSignals(context(clock=Clock(wall=lambda: NOW)), Wanted())
        signals.read(block(stream(path.stem)))
        spans += signals.take_spans()
        metrics += signals.take_metrics()
    assert len(spans) > 20
    assert len(metrics) > 20
    send_spans(collector.url, form, spans)
    send_metrics(collector.url, form, metrics)
    arrived = collector.spans()
    assert [arrived_span(each.item) for each in arrived] == [read_span(each) for each in spans]
    assert_from_source(arrived)
    points = collector.metrics()
    assert [(each.item["name"], each.item["unit"]) for each in points] == [
        (each.name, each.unit) for each in metrics
    ]
    assert [arrived_points(each.item) for each in points] == [read_points(each) for each in metrics]
    assert_from_source(points)
