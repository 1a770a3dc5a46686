"""A strict loopback OTLP/HTTP server for logs, metrics and traces, each at its own path."""

from __future__ import annotations

import gzip
import json
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from helpers.collector_server import Hang, Raw, Request, Reset, Say, Step
from helpers.otlp_server import PROTOBUF, OtlpServer, plain

METRICS = "/v1/metrics"
TRACES = "/v1/traces"
_KINDS: dict[str, type[Message]] = {
    METRICS: ExportMetricsServiceRequest,
    TRACES: ExportTraceServiceRequest,
}


class SignalServer(OtlpServer):
    """An `OtlpServer` that takes metrics and spans besides. `steps` are its answers by path."""

    def __init__(self, **keys: Any) -> None:
        super().__init__(**keys)
        self.steps: dict[str, list[Step]] = {METRICS: [], TRACES: []}
        """Answers to the next requests; behind them it accepts."""
        self.seen: list[str] = []
        """The paths of all requests for metrics and spans."""
        self.headers: dict[str, dict[str, str]] = {}
        """Those of the last request, by path."""
        self.spans: list[Span] = []
        self.metrics: list[Metric] = []

    def answer(self, request: Request) -> Say | Raw | Hang | Reset:
        """Answer as a server of OTLP does."""
        path = request.line.split(" ")[1]
        if path not in _KINDS:
            return super().answer(request)
        self.seen.append(path)
        self.headers[path] = request.headers
        made = self._parse(request, _KINDS[path])
        step = self.steps[path].pop(0) if self.steps[path] else None
        if step is not None and not (isinstance(step, Say) and step.accept):
            return step
        if isinstance(made, ExportTraceServiceRequest):
            scopes = [scope for group in made.resource_spans for scope in group.scope_spans]
            self.spans += [span for scope in scopes for span in scope.spans]
        elif isinstance(made, ExportMetricsServiceRequest):
            groups = [scope for group in made.resource_metrics for scope in group.scope_metrics]
            self.metrics += [metric for scope in groups for metric in scope.metrics]
        return step or Say(200, {"Content-Type": request.headers["content-type"]})

    def _parse(self, request: Request, kind: type[Message]) -> Message:
        body = request.body
        if request.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        wanted = "application/json" if self.as_json else PROTOBUF
        if request.headers["content-type"] != wanted:
            self.violations.append(f"the type is {request.headers['content-type']}")
        if self.as_json:
            return json_format.Parse(_with_base64(body), kind())
        made = kind.FromString(body)
        if made.SerializeToString() != body:
            self.violations.append("it is not what the library writes")
        return made

    def totals(self) -> dict[str, int]:
        """The last value of each sum, and the last count of each histogram."""
        found = {}
        for metric in self.metrics:
            if metric.HasField("sum"):
                found[metric.name] = sum(each.as_int for each in metric.sum.data_points)
            else:
                found[metric.name] = sum(each.count for each in metric.histogram.data_points)
        return found


def facts_of(span: Span) -> dict[str, Any]:
    """The attributes of a span."""
    return {each.key: plain(each.value) for each in span.attributes}


def rejected(path: str, number: int) -> bytes:
    """The body of an answer with a partial success."""
    if path == TRACES:
        traces = ExportTraceServiceResponse()
        traces.partial_success.rejected_spans = number
        return bytes(traces.SerializeToString())
    metrics = ExportMetricsServiceResponse()
    metrics.partial_success.rejected_data_points = number
    return bytes(metrics.SerializeToString())


def _with_base64(body: bytes) -> str:
    """OTLP's JSON as the library reads JSON: ids are hexadecimal in the one only."""
    from base64 import b64encode

    def convert(value: Any) -> Any:
        if isinstance(value, list):
            return [convert(each) for each in value]
        if not isinstance(value, dict):
            return value
        return {
            key: b64encode(bytes.fromhex(each)).decode()
            if key in ("traceId", "spanId", "parentSpanId")
            else convert(each)
            for key, each in value.items()
        }

    return json.dumps(convert(json.loads(body)))
