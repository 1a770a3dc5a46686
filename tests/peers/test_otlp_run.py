"""A run on the local Lambda, read back from a real OpenTelemetry Collector.

telemetryd is the extension. Beside the `otlp` sink a `file` sink keeps the lines as they came. All
that is expected of the Collector is reckoned from that file, by other means than telemetryd's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from helpers.lifecycle import Stage, TimesOut, play, settings, statuses
from helpers.otel_collector import BUILD_LIMIT, Collector, attributes, build, running, value_of

pytestmark = [pytest.mark.peers, pytest.mark.timeout(BUILD_LIMIT + 120)]

EVENTS = (
    {"print": 200}, {"log": "json", "print": 3}, {"raise": "no stock"}, TimesOut({"sleep": 60}),
    {"print": 1}, {"exit": 3}, {"print": 2},
)  # fmt: skip
STATUSES = ["success", "success", "success", "timeout", "success", "error", "success"]
PROCESSES = 3
"""The environment is reset by the timeout and by the exit."""
ERROR = 2
MS = Decimal(10**6)


@pytest.fixture(scope="module")
def program() -> Path:
    """The Collector, built."""
    return build()


@pytest.fixture
def collector(program: Path, tmp_path: Path) -> Iterator[Collector]:
    """A Collector that has received nothing."""
    with running(program, tmp_path / "collected") as made:
        yield made


def otlp(collector: Collector, signals: str, **more: object) -> dict[str, str]:
    """Settings of the sink."""
    keys = {"TYPE": "otlp", "ENDPOINT": collector.url, "SIGNALS": signals} | more
    return settings(**{f"SINKS__OTLP__{key.upper()}": value for key, value in keys.items()})


def nanoseconds(text: str) -> int:
    """A time of the platform, which has milliseconds."""
    at = datetime.fromisoformat(text)
    return int(at.timestamp()) * 10**9 + at.microsecond * 1000


def duration(milliseconds: float) -> int:
    return int(Decimal(str(milliseconds)) * MS)


def run(stage: Stage, collector: Collector, signals: str, **more: object) -> list[dict[str, Any]]:
    """Run the function; the events that arrived, each of which the books say was delivered."""
    config = stage.config(otlp(collector, signals, **more))
    results, env = play(config, *EVENTS)
    assert statuses(results) == STATUSES
    assert len(stage.ledgers()) == PROCESSES
    assert sum(account.dropped + account.lost for account in env.stats) == 0
    assert stage.told("sinks.otlp.delivered") == stage.told("received") == len(stage.lines())
    return stage.arrived()


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json"])
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_every_line_metric_and_span_of_a_run_arrives(
    collector: Collector, tmp_path: Path, protocol: str, compression: str
) -> None:
    stage = Stage(tmp_path)
    keys = {"protocol": protocol, "compression": compression}
    events = run(stage, collector, "logs,metrics,traces", **keys)
    check_logs(collector, events)
    check_spans(collector, events)
    check_metrics(collector, events)
    names = {each.resource["faas.name"] for each in collector.logs() + collector.spans()}
    assert names == {each.resource["service.name"] for each in collector.metrics()}
    assert len(names) == 1


def test_without_logs_the_lines_still_count(collector: Collector, tmp_path: Path) -> None:
    events = run(Stage(tmp_path), collector, "metrics,traces")
    check_spans(collector, events)
    check_metrics(collector, events)
    assert collector.logs() == []


def test_deltas_add_up(collector: Collector, tmp_path: Path) -> None:
    events = run(Stage(tmp_path), collector, "metrics", temporality="delta")
    assert collector.logs() == []
    assert collector.spans() == []
    total = Counter[str]()
    for each in collector.metrics():
        for point in points_of(each.item):
            total[each.item["name"]] += int(point.get("asInt", point.get("count", 0)))
    starts = [event for event in events if event["type"] == "platform.start"]
    reports = [event for event in events if event["type"] == "platform.report"]
    assert total["faas.invocations"] == len(starts)
    assert total["faas.invoke_duration"] == len(reports)


# -- what is expected ----------------------------------------------------------------------------


def check_logs(collector: Collector, events: list[dict[str, Any]]) -> None:
    """Each line is one record, in order, with its time, its text and its invocation."""
    records = [each.item for each in collector.logs()]
    assert len(records) == len(events)
    for event, record in zip(events, records, strict=True):
        kind, body = event["type"], value_of(record["body"])
        if kind.startswith("platform."):
            assert (record["eventName"], body) == (kind, event["record"])
            request = event["record"].get("requestId")
            assert attributes(record).get("faas.invocation_id") == request
        else:
            assert isinstance(event["record"], str)
            assert body
            assert event["record"].removesuffix("\n").endswith(body)
        if kind.startswith("platform.") or body == event["record"].removesuffix("\n"):
            assert int(record["timeUnixNano"]) == nanoseconds(event["time"])
    spans = {
        attributes(each.item)["faas.invocation_id"]: each.item
        for each in collector.spans()
        if each.item["kind"] == 2
    }
    named = [
        (attributes(record)["faas.invocation_id"], record)
        for record in records
        if "faas.invocation_id" in attributes(record)
    ]
    assert len(named) > len(events) // 2
    for request, record in named:
        if request in spans:
            span = spans[request]
            assert (record["traceId"], record["spanId"]) == (span["traceId"], span["spanId"])


def check_spans(collector: Collector, events: list[dict[str, Any]]) -> None:
    """Each invocation is one span, with its phases; so is each initialisation."""
    spans = [each.item for each in collector.spans()]
    by_id = {span["spanId"]: span for span in spans}
    assert len(by_id) == len(spans), "no span came twice"
    starts = {event["record"]["requestId"]: event for event in events if is_a(event, "start")}
    ends = {event["record"]["requestId"]: event for event in events if is_a(event, "report")}
    ends |= {e["record"]["requestId"]: e for e in events if is_a(e, "runtimeDone")}
    invoked = {attributes(span)["faas.invocation_id"]: span for span in spans if span["kind"] == 2}
    assert invoked.keys() == ends.keys()
    for request, span in invoked.items():
        check_invocation(span, starts[request], ends[request])
    phases = [
        (event["record"]["requestId"], each)
        for event in events if is_a(event, "runtimeDone") or is_a(event, "report")
        for each in event["record"].get("spans", [])
    ]  # fmt: skip
    children = Counter(
        (span["parentSpanId"], span["name"], int(span["startTimeUnixNano"]),
         int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"]))
        for span in spans if span.get("parentSpanId") in {s["spanId"] for s in invoked.values()}
    )  # fmt: skip
    assert children == Counter({
        (invoked[request]["spanId"], each["name"], nanoseconds(each["start"]),
         duration(each["durationMs"]))
        for request, each in phases
    })  # fmt: skip
    inits = [span for span in spans if span["name"] == "init"]
    begun = [event for event in events if is_a(event, "initStart")]
    took = [
        event["record"]["metrics"]["durationMs"] for event in events if is_a(event, "initReport")
    ]
    assert sorted(
        (int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])) for span in inits
    ) == sorted(
        (nanoseconds(event["time"]), nanoseconds(event["time"]) + duration(each))
        for event, each in zip(begun, took, strict=True)
    )  # fmt: skip


def check_invocation(span: dict[str, Any], start: dict[str, Any], end: dict[str, Any]) -> None:
    header = start["record"]["tracing"]["value"]
    parts = dict(part.split("=", 1) for part in header.split(";"))
    assert span["traceId"] == parts["Root"][2:].replace("-", "")
    assert span["parentSpanId"] == parts["Parent"]
    at = nanoseconds(start["time"])
    assert int(span["startTimeUnixNano"]) == at
    metrics = end["record"].get("metrics")
    if metrics is not None:
        assert int(span["endTimeUnixNano"]) == at + duration(metrics["durationMs"])
    if end["record"]["status"] != "success":
        reason = end["record"].get("errorType") or end["record"]["status"]
        assert span["status"] == {"code": ERROR, "message": reason}
        assert attributes(span)["error.type"] == reason


def check_metrics(collector: Collector, events: list[dict[str, Any]]) -> None:
    """The last points of each process add up to what the events say."""
    last: dict[tuple[str, str, str], dict[str, Any]] = {}
    for each in collector.metrics():
        for point in points_of(each.item):
            key = (each.item["name"], point["startTimeUnixNano"], str(attributes(point)))
            known = last.get(key)
            assert known is None or int(known["timeUnixNano"]) < int(point["timeUnixNano"])
            last[key] = point
    total = Counter[str]()
    sums = dict.fromkeys(("faas.invoke_duration", "aws.lambda.billed_duration"), 0.0)
    for (name, _, _), point in last.items():
        total[name] += int(point.get("asInt", point.get("count", 0)))
        if name in sums:
            sums[name] += point["sum"]
    starts = [event for event in events if is_a(event, "start")]
    reports = [event["record"] for event in events if is_a(event, "report")]
    inits = [event for event in events if is_a(event, "initReport")]
    failed = {
        event["record"]["requestId"] for event in events
        if (is_a(event, "runtimeDone") or is_a(event, "report"))
        and event["record"]["status"] != "success"
    }  # fmt: skip
    assert total["faas.invocations"] == len(starts)
    assert total["faas.coldstarts"] == PROCESSES
    assert total["faas.timeouts"] == 1
    assert total["faas.errors"] == len(failed) + 1, "one is known only by its log"
    assert total["faas.init_duration"] == len(inits)
    assert total["faas.invoke_duration"] == total["faas.mem_usage"] == len(reports)
    for name, member in (
        ("faas.invoke_duration", "durationMs"), ("aws.lambda.billed_duration", "billedDurationMs"),
    ):  # fmt: skip
        exact = sum(Decimal(str(each["metrics"][member])) for each in reports) / 1000
        assert sums[name] == pytest.approx(float(exact), rel=1e-12)


def points_of(metric: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (metric["sum"] if "sum" in metric else metric["histogram"])[
        "dataPoints"
    ]
    return found


def is_a(event: dict[str, Any], kind: str) -> bool:
    return bool(event["type"] == f"platform.{kind}")


@pytest.mark.parametrize(
    "mode",
    [
        {"mode": "snap-start"},
        {"mode": "managed-instances", "concurrency": 2},
        {"tracing": False},
    ],
    ids=lambda mode: str(next(iter(mode.values()))),
)
def test_other_environments_arrive_too(
    collector: Collector, tmp_path: Path, mode: dict[str, Any]
) -> None:
    stage = Stage(tmp_path)
    config = stage.config(otlp(collector, "logs,metrics,traces"), **mode)
    results, _ = play(config, {"print": 3}, {"print": 1})
    assert statuses(results) == ["success", "success"]
    stage.ledgers()
    events = stage.arrived()
    assert len(collector.logs()) == len(events) > 10
    requests = {event["record"]["requestId"] for event in events if is_a(event, "report")}
    spans = [each.item for each in collector.spans()]
    invoked = [span for span in spans if span["kind"] == 2]
    assert {attributes(span)["faas.invocation_id"] for span in invoked} == requests
    assert len(invoked) == len(requests) == 2
    names = {span["name"] for span in spans}
    if mode.get("mode") == "snap-start":
        assert {"restore", "restore runtime"} <= names
        assert "init" not in names
    else:
        assert "init" in names
    logged = [
        each.item for each in collector.logs() if "faas.invocation_id" in attributes(each.item)
    ]
    places = {(span["traceId"], span["spanId"]) for span in invoked}
    assert {(record["traceId"], record["spanId"]) for record in logged} == places
    last = {each.item["name"]: points_of(each.item) for each in collector.metrics()}
    assert [int(point["asInt"]) for point in last["faas.invocations"]] == [2]
