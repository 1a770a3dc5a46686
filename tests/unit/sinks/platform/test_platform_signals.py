"""Metrics and spans of whole blocks of lines, as a sink gets them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from helpers.emf_streams import STREAMS, block, done, event, report, start, stream
from telemetryd.clock import Clock
from telemetryd.sinks._platform.signals import PlatformSignals, Wanted
from telemetryd.testing import LogBook, context
from telemetryd_proto.otlp.metrics import DELTA, OtlpMetric, SumMetric
from telemetryd_proto.otlp.spans import ERROR

NOW = 1_773_483_400.0
TRACE = "5759e988bd862e3fe1be46a994272793"
HEADER = {"value": "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0"}
FAILED = event("function", "[ERROR] KeyError: 'iban'\nTraceback (most recent call last):\n  File")
ERROR_OBJECT = {"errorType": "Error", "errorMessage": "x", "stackTrace": ["a"]}
AMBIGUOUS = event("function", {"level": "ERROR", "message": ERROR_OBJECT})


def signals(wanted: Wanted | None = None, log: LogBook | None = None) -> PlatformSignals:
    made = context(log, clock=Clock(wall=lambda: NOW))
    return PlatformSignals(made, wanted or Wanted())


def totals(metrics: list[OtlpMetric]) -> dict[str, int]:
    """What each metric adds up to."""
    found = {}
    for each in metrics:
        if isinstance(each, SumMetric):
            found[each.name] = sum(point.value for point in each.points)
        else:
            found[each.name] = sum(point.observations for point in each.points)
    return found


def test_a_block_becomes_metrics_and_spans() -> None:
    made = signals()
    made.read(block([start("a"), event("function", "hello"), done("a"), report("a")]))
    [span] = made.take_spans()
    assert (span.name, span.attributes["faas.invocation_id"]) == ("orders", "a")
    assert span.end - span.start == 10_500_000
    found = totals(made.take_metrics())
    assert found["faas.invocations"] == found["faas.invoke_duration"] == 1
    assert "faas.errors" not in found
    assert made.take_spans() == []
    assert made.take_metrics() == []


def test_only_what_is_wanted_is_made() -> None:
    lines = block([start("a"), done("a"), report("a")])
    only = signals(Wanted(metrics=False))
    only.read(lines)
    assert (len(only.take_spans()), only.take_metrics()) == (1, [])
    only = signals(Wanted(traces=False, is_delta=True))
    only.read(lines)
    assert only.take_spans() == []
    assert {each.temporality for each in only.take_metrics()} == {DELTA}


@pytest.mark.parametrize(("keeps", "spans"), [(False, 0), (True, 1)])
def test_what_is_not_sampled_still_counts(keeps: bool, spans: int) -> None:
    made = signals(Wanted(keeps_unsampled=keeps))
    made.read(block([start("a", tracing=HEADER), done("a"), report("a")]))
    assert len(made.take_spans()) == spans
    assert totals(made.take_metrics())["faas.invocations"] == 1


def test_an_exception_in_the_log_is_an_error_of_the_span() -> None:
    made = signals()
    made.read(block([start("a"), FAILED, done("a"), report("a")]))
    [span] = made.take_spans()
    assert (span.status, span.message) == (ERROR, "KeyError")
    assert totals(made.take_metrics())["faas.errors"] == 1


def test_a_log_line_behind_an_ambiguous_exception_takes_it_back() -> None:
    certain, taken_back, late = signals(), signals(), signals()
    certain.read(block([start("a"), AMBIGUOUS, done("a")]))
    taken_back.read(block([start("a"), AMBIGUOUS, event("function", "hello"), done("a")]))
    late.read(block([start("a"), AMBIGUOUS, event("function", "hello")]))
    late.read(block([done("a")]))
    assert [each.take_spans()[0].status for each in (certain, taken_back, late)] == [ERROR, 0, 0]


def test_bad_lines_cost_themselves_alone() -> None:
    log = LogBook()
    made = signals(log=log)
    bad = [
        b'{"type":"platform.start","record":{}}\n',
        b'{"type":"platform.report","record":\n',
        b'"platform.start"\n',
        event("platform.new", {"a": 1}),
        event("other", 'errorType "platform.'),
        start("a", time="10000-01-01"),
        done("a", time="9999-12-31T23:59:59.000Z"),
    ]
    made.read(block(bad))
    [span] = made.take_spans()
    assert span.start == int(NOW) * 10**9, "a time that can't be is now"
    assert [facts["code"] for facts in log.facts("event_malformed")] == ["mismatch"]


def test_the_end_of_an_environment_is_seen() -> None:
    made = signals()
    made.read(block([start("a")]))
    made.end("timeout")
    [span] = made.take_spans()
    assert (span.message, span.end) == ("timeout", int(NOW) * 10**9)
    assert totals(made.take_metrics())["faas.timeouts"] == 1


def test_a_restored_process_begins_again() -> None:
    made = signals()
    made.read(block([start("a")]))
    made.on_restore("f" * 32)
    made.read(block([done("a"), start("b")]))
    assert totals(made.take_metrics())["faas.invocations"] == 1


@pytest.mark.parametrize("name", sorted(path.stem for path in STREAMS.glob("*.ndjson")))
def test_each_invocation_of_the_sample_streams_has_one_span(name: str) -> None:
    """However the stream is cut into blocks."""
    lines = stream(name)
    whole, cut = signals(), signals()
    whole.read(block(lines))
    for line in lines:
        cut.read(block([line]))
    spans = whole.take_spans()
    assert spans == cut.take_spans()
    events = [each for each in map(_decode, lines) if each]
    ended = {
        each["record"]["requestId"] for each in events
        if each["type"] in ("platform.runtimeDone", "platform.report")
    }  # fmt: skip
    invoked = [each for each in spans if each.name == "orders"]
    assert {each.attributes["faas.invocation_id"] for each in invoked} == ended
    assert len(invoked) == len(ended)


def _decode(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) and "type" in found else {}
