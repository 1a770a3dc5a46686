"""Spans of events: one for each initialisation, restore and invocation, whatever is lost."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetryd.sinks._platform import invocation_spans
from telemetryd.sinks._platform.invocation_spans import InvocationSpans
from telemetryd.sinks._platform.invocations import IDLE_MS, LOCAL, MAX_ENVIRONMENTS
from telemetryd_proto.envelope import Envelope
from telemetryd_proto.events import Record, decode_record
from telemetryd_proto.otlp.spans import (
    ERROR,
    HAS_IS_REMOTE,
    INTERNAL,
    IS_REMOTE,
    SERVER,
    UNSET,
    OtlpSpan,
    SpanLink,
    span_message,
)

ID = "8286a188-ba32-4475-8077-530cd35c09a9"
OTHER = "11111111-ba32-4475-8077-530cd35c09a9"
TRACE = bytes.fromhex("5759e988bd862e3fe1be46a994272793")
PARENT = bytes.fromhex("53995c3f42cd8ad8")
ARN = "arn:aws:lambda:eu-central-1:123456789012:function:orders"
BASE = 1_700_000_000 * 10**9
MS = 10**6


def header(sampled: str = ";Sampled=1") -> dict[str, str]:
    value = f"Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8{sampled}"
    return {"type": "X-Amzn-Trace-Id", "value": value, "spanId": "0efbd19962d95b05"}


def record(kind: str, **members: Any) -> Record:
    """A record as it is decoded from a line."""
    raw = msgspec.Raw(json.dumps(members).encode())
    return decode_record(Envelope(type=f"platform.{kind}", record=raw), lenient=True)


def phase(name: str, start_ms: int, duration_ms: float | None) -> dict[str, Any]:
    """A span of an event; 2023-11-14T22:13:20 is `BASE`."""
    start = f"2023-11-14T22:13:20.{start_ms:03}Z"
    return {"name": name, "start": start, "durationMs": duration_ms}


def spans(function: str = "orders", **keys: bool) -> InvocationSpans:
    return InvocationSpans(function, "0" * 32, **keys)


def feed(tracker: InvocationSpans, *events: tuple[int, Record], source: int = 1) -> list[OtlpSpan]:
    """The spans of events, each with its milliseconds after `BASE`."""
    made = []
    for at, each in events:
        made += tracker.add(each, BASE + at * MS, source)
    return made


def start(request_id: str = ID, **members: Any) -> Record:
    return record("start", requestId=request_id, **members)


def done(request_id: str = ID, status: str = "success", **members: Any) -> Record:
    return record("runtimeDone", requestId=request_id, status=status, **members)


def report(request_id: str = ID, status: str = "success", **members: Any) -> Record:
    return record("report", requestId=request_id, status=status, **members)


COLD = (
    (0, record("initStart", initializationType="on-demand", phase="init", tracing=header())),
    (300, record("initRuntimeDone", phase="init", status="success")),
    (
        400,
        record(
            "initReport", initializationType="on-demand", phase="init", status="success",
            metrics={"durationMs": 390.25},
        ),
    ),
)  # fmt: skip


def test_an_invocation_and_its_phases_are_spans_of_the_trace_in_its_header() -> None:
    made = feed(
        spans(),
        (500, start(tracing=header(), functionArn=ARN)),
        (
            520,
            done(
                metrics={"durationMs": 19.123456},
                spans=[phase("responseLatency", 501, 12.5), phase("runtimeOverhead", 514, 1e-6)],
            ),
        ),
        (530, report(metrics={"durationMs": 29.5}, spans=[phase("extensionOverhead", 520, 10)])),
    )  # fmt: skip
    root, latency, overhead, extension = made
    assert root.trace_id == TRACE
    assert root.parent_id == PARENT
    assert (root.name, root.kind, root.status) == ("orders", SERVER, UNSET)
    assert (root.start, root.end) == (BASE + 500 * MS, BASE + 500 * MS + 19_123_456)
    assert root.flags == 1 | HAS_IS_REMOTE | IS_REMOTE
    assert root.attributes == {"faas.invocation_id": ID, "aws.lambda.invoked_arn": ARN}
    assert [each.name for each in made[1:]] == [
        "responseLatency", "runtimeOverhead", "extensionOverhead",
    ]  # fmt: skip
    for each in made[1:]:
        assert (each.trace_id, each.parent_id, each.kind) == (TRACE, root.span_id, INTERNAL)
    assert (latency.start, latency.end) == (BASE + 501 * MS, BASE + 513 * MS + 500_000)
    assert overhead.end - overhead.start == 1
    assert (extension.start, extension.end) == (BASE + 520 * MS, BASE + 530 * MS)
    assert len({each.span_id for each in made}) == len(made)


def test_a_cold_start_is_linked_to_the_initialisation_it_waited_for() -> None:
    tracker = spans()
    init, runtime = feed(tracker, *COLD)
    assert (init.name, init.trace_id, init.parent_id) == ("init", TRACE, PARENT)
    assert (init.start, init.end) == (BASE, BASE + 390 * MS + 250_000)
    assert (runtime.name, runtime.parent_id) == ("init runtime", init.span_id)
    assert (runtime.start, runtime.end) == (BASE, BASE + 300 * MS)
    assert init.attributes["aws.lambda.initialization_type"] == "on-demand"
    [cold] = feed(tracker, (500, start(tracing=header())), (520, done()), (521, report()))
    assert cold.attributes["faas.coldstart"] is True
    assert cold.links == (SpanLink(init.trace_id, init.span_id),)
    [warm] = feed(tracker, (600, start(OTHER)), (620, done(OTHER)))
    assert warm.attributes["faas.coldstart"] is False
    assert warm.links == ()


def test_an_environment_made_ahead_of_need_is_no_cold_start() -> None:
    late = 400 + IDLE_MS + 1
    tracker = spans()
    *_, span = feed(tracker, *COLD, (late, start()), (late + 5, done()))
    assert span.attributes["faas.coldstart"] is False
    provisioned = record("initStart", initializationType="provisioned-concurrency")
    span = feed(spans(), (0, provisioned), (5, start()), (6, done()))[-1]
    assert (span.attributes["faas.coldstart"], span.links) == (False, ())


def test_without_a_header_the_ids_come_from_the_request_and_are_the_same_elsewhere() -> None:
    events = ((0, start()), (5, done(spans=[phase("responseLatency", 1, 2)])))
    first, again = feed(spans(), *events), feed(spans(), *events)
    assert first == again
    assert len({each.trace_id for each in first}) == 1
    other = feed(spans(), (0, start(OTHER)), (5, done(OTHER)))[0]
    assert other.trace_id != first[0].trace_id
    assert other.span_id != first[0].span_id
    assert first[0].parent_id == b""
    assert not first[0].flags & IS_REMOTE


def test_what_its_caller_did_not_sample_has_no_spans_unless_wanted() -> None:
    events = (
        (0, start(tracing=header(";Sampled=0"))),
        (5, done(spans=[phase("responseLatency", 1, 2)])),
        (6, report(spans=[phase("extensionOverhead", 5, 1)])),
    )
    tracker = spans()
    assert feed(tracker, *events) == []
    assert tracker.unsampled == 1
    assert len(feed(spans(keeps_unsampled=True), *events)) == 3
    undecided = feed(spans(), (0, start(tracing=header(""))), (5, done()))
    assert [each.trace_id for each in undecided] == [TRACE]
    unsampled = record("initStart", phase="init", tracing=header(";Sampled=0"))
    assert feed(spans(), (0, unsampled), *COLD[1:]) == []


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"status": "error", "errorType": "Runtime.ExitError"}, "Runtime.ExitError"),
        ({"status": "timeout"}, "timeout"),
        ({"status": "failure", "errorType": ""}, "failure"),
        ({"status": "error", "errorType": "x" * 5000}, "x" * 256),
    ],
)
def test_a_failure_has_an_error_and_its_type(members: dict[str, str], reason: str) -> None:
    [span] = feed(spans(), (0, start()), (9, done(**members)))
    assert (span.status, span.message) == (ERROR, reason)
    assert span.attributes["error.type"] == reason


def test_a_failure_that_only_the_log_tells_is_an_error() -> None:
    tracker = spans()
    feed(tracker, (0, start()))
    tracker.fail(ID, "KeyError")
    tracker.fail(ID, "Later")
    tracker.fail(OTHER, "Unknown")
    [span] = feed(tracker, (9, done()))
    assert (span.status, span.message) == (ERROR, "KeyError")
    tracker = spans()
    feed(tracker, (0, start()))
    tracker.fail(ID, None)
    assert feed(tracker, (9, done()))[0].message == "error"


def test_invocations_at_the_same_time_are_kept_apart_and_made_of_their_reports() -> None:
    """Managed Instances send no `runtimeDone`."""
    made = feed(
        spans(),
        (0, start(tracing=header())), (1, start(OTHER)),
        (11, report(OTHER, metrics={"durationMs": 8})), (12, report(metrics={"durationMs": 11.5})),
    )  # fmt: skip
    assert [each.attributes["faas.invocation_id"] for each in made] == [OTHER, ID]
    assert [each.start - BASE for each in made] == [1 * MS, 0]
    assert [each.end - BASE for each in made] == [9 * MS, 11_500_000]
    assert made[1].trace_id == TRACE


def test_a_lost_start_is_reckoned_from_the_end() -> None:
    [span] = feed(spans(), (50, done(metrics={"durationMs": 20}, tracing=header())))
    assert (span.start, span.end) == (BASE + 30 * MS, BASE + 50 * MS)
    assert span.trace_id == TRACE
    [point] = feed(spans(), (50, done(metrics={"durationMs": -1})))
    assert point.start == point.end == BASE + 50 * MS


def test_a_lost_duration_is_reckoned_from_the_times() -> None:
    [span] = feed(spans(), (30, start()), (50, done(spans=[phase("responseLatency", 31, None)])))
    assert (span.start, span.end) == (BASE + 30 * MS, BASE + 50 * MS)
    [backwards] = feed(spans(), (30, start()), (20, done()))
    assert backwards.start == backwards.end


def test_disorder_makes_no_span_twice() -> None:
    tracker = spans()
    made = feed(
        tracker,
        (20, done(spans=[phase("responseLatency", 1, 2)])), (0, start()), (20, done()),
        (30, report()), (30, report()), (0, start()), (20, done()),
    )  # fmt: skip
    assert [each.name for each in made] == ["orders", "responseLatency"]
    assert len(feed(tracker, *COLD, COLD[-1])) == 2


def test_a_header_that_comes_late_still_counts() -> None:
    made = feed(spans(), (0, start()), (9, done(tracing=header())))
    assert made[0].trace_id == TRACE


def test_a_header_without_a_trace_is_none() -> None:
    for value in ("Sampled=0", "Root=nonsense;Sampled=0", "x" * 5000, None):
        [span] = feed(spans(), (0, start(tracing={"value": value})), (9, done()))
        assert span.trace_id != TRACE


def test_a_restore_is_a_span_and_the_snapshots_initialisation_is_not() -> None:
    made = feed(
        spans(),
        (0, record("restoreStart", tracing=header())),
        (1, record("initStart", initializationType="snap-start", phase="init")),
        (80, record("restoreRuntimeDone", status="success", spans=[phase("hook", 3, 4)])),
        (90, record("initReport", initializationType="snap-start", metrics={"durationMs": 9})),
        (90, record("restoreReport", status="success", metrics={"durationMs": 88})),
        (95, start(tracing=header())),
        (99, done()),
    )
    assert [each.name for each in made] == ["restore", "restore runtime", "hook", "orders"]
    assert made[0].end == BASE + 88 * MS
    assert made[3].links == (SpanLink(TRACE, made[0].span_id),)
    assert made[3].attributes["faas.coldstart"] is True


def test_an_initialisation_repeated_in_an_invocation_is_part_of_it() -> None:
    tracker = spans()
    failed = record("initReport", phase="init", status="error", errorType="Init", metrics={})
    [init, invoke_init, root] = feed(
        tracker,
        (0, record("initStart", phase="init")),
        (9, failed),
        (10, start()),
        (11, record("initStart", phase="invoke")),
        (20, record("initReport", phase="invoke", status="success", metrics={"durationMs": 8})),
        (30, done()),
    )
    assert (init.status, init.message, init.end) == (ERROR, "Init", BASE + 9 * MS)
    assert (invoke_init.trace_id, invoke_init.parent_id) == (root.trace_id, root.span_id)
    assert invoke_init.status == UNSET
    assert not invoke_init.flags & IS_REMOTE


def test_a_report_without_its_start_makes_a_span_if_it_has_a_duration() -> None:
    lost = record("initReport", phase="init", metrics={"durationMs": 40}, tracing=header())
    [span] = feed(spans(), (50, lost))
    assert (span.start, span.end, span.trace_id) == (BASE + 10 * MS, BASE + 50 * MS, TRACE)
    assert feed(spans(), (50, record("restoreReport", status="error"))) == []


def test_a_lost_report_is_made_up_for_by_the_next_beginning_and_at_the_end() -> None:
    tracker = spans()
    begun = record("initStart", phase="init")
    runtime_done = record("initRuntimeDone", phase="init", status="error", errorType="Crash")
    first = feed(tracker, (0, begun), (5, runtime_done), (10, begun), (10, begun))
    assert [(each.name, each.message) for each in first] == [
        ("init", "Crash"),
        ("init runtime", ""),
    ]
    assert tracker.end("spindown", BASE + 20 * MS) == []
    feed(tracker, (30, begun), (35, runtime_done))
    assert tracker.end("spindown", BASE)[0].end == BASE + 35 * MS


def test_the_invocation_that_ends_its_environment_is_a_span() -> None:
    for reason, message in (("TIMEOUT", "timeout"), ("failure", "failure")):
        tracker = spans()
        feed(tracker, (0, start()))
        [span] = tracker.end(reason, BASE + 99 * MS)
        assert (span.status, span.message, span.end) == (ERROR, message, BASE + 99 * MS)
        assert tracker.end(reason, BASE) == []
        # the next process may get its report: that is the same span
        [again] = feed(spans(), (99, report(status=message)))
        assert (again.trace_id, again.span_id) == (span.trace_id, span.span_id)
    tracker = spans()
    feed(tracker, (0, start()))
    assert tracker.end("spindown", BASE) == []


def test_outside_lambda_a_span_has_its_function() -> None:
    tracker = spans(LOCAL)
    arn = f"{ARN}:live"
    [span] = feed(tracker, (0, start(functionArn=arn, version="7")), (5, done()))
    assert (span.name, span.attributes["faas.name"]) == ("orders", "orders")
    assert span.attributes["faas.version"] == "7"
    named = record("initStart", functionName="bills", functionVersion="$LATEST")
    [span] = feed(tracker, (0, named), (1, start(OTHER)), (5, done(OTHER)), source=2)
    assert (span.name, span.attributes["faas.version"]) == ("bills", "$LATEST")
    for source in range(MAX_ENVIRONMENTS + 5):
        feed(tracker, (0, named), source=source)


def test_what_is_remembered_is_bounded() -> None:
    tracker = spans()
    for number in range(invocation_spans.MAX_OPEN + 3):
        feed(tracker, (0, start(f"id-{number}")))
    assert tracker.forgotten == 3
    for number in range(invocation_spans.MAX_CLOSED + 5):
        feed(tracker, (0, done(f"id-{number}")), (1, report(f"id-{number}")))
    for number in range(20):
        feed(tracker, (number, record("initStart", phase=f"phase {number}")))
    many = [phase(f"phase {number}", 1, 1) for number in range(100)]
    made = feed(tracker, (0, done(OTHER, spans=[*many, phase("x" * 500, 1, 1)])))
    assert len(made) == 1 + invocation_spans.MAX_PHASES


def test_what_is_no_time_is_no_phase() -> None:
    odd = [
        {"name": "a", "durationMs": 1}, {"name": "b", "start": "yesterday", "durationMs": 1},
        {"name": "c", "start": "9999-12-31T23:59:59.000Z", "durationMs": 1},
        {"name": "d", "start": "1969-12-31T23:59:59.000Z", "durationMs": 1},
        {"start": "2023-11-14T22:13:20.000Z", "durationMs": 1},
    ]  # fmt: skip
    assert len(feed(spans(), (0, done(spans=odd)))) == 1


def test_ids_that_cannot_be_used_and_other_events_make_no_spans() -> None:
    assert feed(spans(), (0, start("")), (1, done("")), (2, report("x" * 500))) == []
    assert feed(spans(), (0, record("logsDropped", droppedRecords=5))) == []


EVENTS = st.one_of(
    st.builds(start, st.sampled_from([ID, OTHER])),
    st.builds(start, st.just(ID), tracing=st.builds(header)),
    st.builds(
        done, st.sampled_from([ID, OTHER]), st.sampled_from(["success", "error"]),
        metrics=st.fixed_dictionaries({"durationMs": st.floats(0, 1000) | st.none()}),
        spans=st.lists(st.builds(phase, st.sampled_from("ab"), st.integers(0, 9), st.floats(0, 9))),
    ),
    st.builds(report, st.sampled_from([ID, OTHER])),
    st.builds(record, st.sampled_from(["initStart", "initRuntimeDone", "initReport", "restoreStart",
                                       "restoreReport"]),
              phase=st.sampled_from(["init", "invoke"]),
              metrics=st.just({"durationMs": 5.0})),
)  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, 1000), EVENTS), max_size=20))
def test_any_events_in_any_order_make_sound_spans(events: list[tuple[int, Record]]) -> None:
    """No invocation has two, nothing ends before it begins, and all of it is the same again."""
    made, tracker = feed(spans(), *events), spans()
    assert made == feed(tracker, *events)
    made += tracker.end("timeout", BASE)
    invoked = [each.attributes["faas.invocation_id"] for each in made if each.name == "orders"]
    assert len(invoked) == len(set(invoked))
    for each in made:
        assert each.start <= each.end
        assert (len(each.trace_id), len(each.span_id)) == (16, 8)
        assert each.span_id != each.parent_id
        span_message(each)
