"""Metrics and traces of the OTLP sink: what is sent, what each answer means, and what it counts."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from helpers.collector_server import Say, no_proxies
from helpers.emf_streams import block, done, event, report, start
from helpers.otlp_server import attributes
from helpers.otlp_signals import METRICS, TRACES, SignalServer, facts_of, rejected
from telemetryd.errors import PermanentSinkError, SinkError, TransientSinkError
from telemetryd.sinks.base import Batch, Failure, Item, SinkContext, WriteResult
from telemetryd.sinks.otlp import derived
from telemetryd.sinks.otlp.config import OtlpConfig
from telemetryd.sinks.otlp.items import SETTINGS_CHANGED, LogItem
from telemetryd.sinks.otlp.sink import OtlpSink
from telemetryd.testing import LogBook, Rig, context
from telemetryd.testing.rig import dead_letter_at
from telemetryd_proto.framing import Block
from telemetryd_proto.otlp.spans import derive_span_id, derive_trace_id

ALL = ("logs", "metrics", "traces")
FAR = 1e9
TRACE = "5759e988bd862e3fe1be46a994272793"
HEADER = {"value": f"Root=1-{TRACE[:8]}-{TRACE[8:]};Parent=53995c3f42cd8ad8;Sampled=1"}
LINES = [
    start("a", tracing=HEADER), event("function", "hello"),
    done("a", spans=[{"name": "responseLatency", "start": "2026-03-14T10:15:30.000Z",
                      "durationMs": 2}]),
    report("a"),
]  # fmt: skip


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[SignalServer]:
    no_proxies(monkeypatch)
    for name in list(os.environ):
        if name.startswith(("OTEL_", "AWS_")):
            monkeypatch.delenv(name)
    with SignalServer() as server:
        yield server
        assert server.violations == []


def config_of(server: SignalServer, **keys: Any) -> OtlpConfig:
    given = {"type": "otlp", "endpoint": server.base, "linger_ms": 0, "signals": ALL, **keys}
    made = msgspec.convert(given, OtlpConfig)
    assert list(made.problems()) == []
    return made


class Counts(Counter[tuple[str, str]]):
    """What the sink counts besides lines."""

    def add(self, kind: str, outcome: str, number: int) -> None:
        """Count."""
        self[kind, outcome] += number


def surroundings(log: LogBook | None = None, counts: Counts | None = None) -> SinkContext:
    made = context(log)
    return msgspec.structs.replace(made, count_derived=counts.add) if counts is not None else made


def deliver(
    server: SignalServer,
    blocks: list[Block],
    counts: Counts | None = None,
    letters: Path | None = None,
    **keys: Any,
) -> Rig:
    """Send blocks through a worker, until all are settled."""
    config = config_of(server, **keys)
    letter = None if letters is None else dead_letter_at(letters)
    log = LogBook()
    rig = Rig(OtlpSink(config, surroundings(log, counts)), config, log=log, dead_letter=letter)

    async def scenario() -> None:
        rig.worker.start()
        rig.offer(blocks)
        await rig.flush()
        await rig.stop()

    asyncio.run(scenario())
    if letter is not None:
        letter.close()
    rig.check_end()
    assert rig.sink_bugs == []
    return rig


def write(server: SignalServer, items: list[Item], **keys: Any) -> WriteResult:
    """The outcome of one write."""

    async def scenario() -> WriteResult:
        sink = OtlpSink(config_of(server, **keys), surroundings())
        try:
            return await sink.write(Batch("b", tuple(items)), attempt=1, deadline=FAR)
        finally:
            await sink.close()

    return asyncio.run(scenario())


def pack(server: SignalServer, lines: list[bytes], **keys: Any) -> list[Item]:
    return list(OtlpSink(config_of(server, **keys), surroundings()).pack([block(lines)]))


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json"])
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_lines_are_logs_and_platform_events_are_metrics_and_spans_too(
    server: SignalServer, protocol: str, compression: str
) -> None:
    server.as_json = protocol == "http/json"
    counts = Counts()
    rig = deliver(server, [block(LINES)], counts, protocol=protocol, compression=compression)
    assert rig.lines() == {"delivered": 4}
    assert len(server.records) == 4
    assert [span.name for span in server.spans] == ["orders", "responseLatency"]
    assert server.totals()["faas.invocations"] == 1
    assert server.spans[0].trace_id.hex() == TRACE
    assert counts["spans", "made"] == counts["spans", "delivered"] == 2
    assert counts["metrics", "made"] == counts["metrics", "delivered"] == len(server.metrics)


def test_signals_that_go_to_one_server_share_a_connection(server: SignalServer) -> None:
    deliver(server, [block(LINES)])
    assert server.seen == [METRICS, TRACES]
    assert server.connections == 1
    with SignalServer() as other:
        url = f"{other.base}{TRACES}"
        deliver(server, [block(LINES)], traces_endpoint=url)
        assert (other.seen, other.connections, server.connections) == ([TRACES], 1, 2)


def test_logs_alone_are_the_default(server: SignalServer) -> None:
    deliver(server, [block(LINES)], signals=OtlpConfig(type="otlp").signals)
    assert (len(server.records), server.seen) == (4, [])


def test_what_is_logged_belongs_to_the_span_of_its_invocation(server: SignalServer) -> None:
    without = [start("b"), event("function", "hello"), done("b")]
    unsampled = {"value": HEADER["value"].replace("Sampled=1", "Sampled=0")}
    refused = [start("c", tracing=unsampled), event("function", "hello"), done("c")]
    deliver(server, [block([*LINES, *without, *refused])])
    found = {
        attributes(record)["faas.invocation_id"]: (record.trace_id, record.span_id)
        for record in server.records
    }
    spans = {
        facts_of(span)["faas.invocation_id"]: (span.trace_id, span.span_id)
        for span in server.spans if span.kind == 2
    }  # fmt: skip
    assert {name: found[name] for name in "ab"} == spans
    assert spans["b"] == (derive_trace_id("b"), derive_span_id("invoke", "b"))
    assert found["c"][1].hex() == "53995c3f42cd8ad8", "its caller's, as it has no span"


def test_unsampled_invocations_have_spans_if_that_is_wanted(server: SignalServer) -> None:
    unsampled = {"value": HEADER["value"].replace("Sampled=1", "Sampled=0")}
    deliver(server, [block([start("c", tracing=unsampled), done("c")])], sampler="always")
    assert [span.kind for span in server.spans] == [2]
    assert server.records[0].span_id == server.spans[0].span_id


@pytest.mark.parametrize("signals", [("metrics",), ("traces",), ("metrics", "traces")])
def test_without_logs_lines_are_delivered_with_what_was_made_of_them(
    server: SignalServer, signals: tuple[str, ...]
) -> None:
    other = block([event("function", "nothing of interest")], source=2)
    rig = deliver(server, [block(LINES), other], signals=signals)
    assert rig.lines() == {"delivered": 5}
    assert server.exports == []
    assert bool(server.spans) == ("traces" in signals)
    assert bool(server.metrics) == ("metrics" in signals)


def test_without_logs_lines_are_lost_with_what_was_made_of_them(
    server: SignalServer, tmp_path: Path
) -> None:
    server.steps[TRACES] = [Say(404)]
    counts = Counts()
    letters = tmp_path / "letters"
    rig = deliver(server, [block(LINES)], counts, letters, signals=("traces",))
    assert rig.lines() == {"dead_lettered": 4}
    assert letters.read_bytes().count(b"requestId") == 3
    assert counts == {("spans", "made"): 2, ("spans", "refused"): 2}


def test_a_signal_that_is_refused_costs_the_others_nothing(server: SignalServer) -> None:
    server.steps[TRACES] = [Say(404)]
    counts = Counts()
    rig = deliver(server, [block(LINES)], counts)
    assert rig.lines() == {"delivered": 4}
    assert (len(server.records), server.spans) == (4, [])
    assert counts["spans", "refused"] == 2
    assert counts["metrics", "delivered"] == counts["metrics", "made"] > 0


def test_a_signal_that_fails_for_a_while_is_sent_again_and_the_others_are_not(
    server: SignalServer,
) -> None:
    server.steps[TRACES] = [Say(503), Say(503)]
    counts = Counts()
    rig = deliver(server, [block(LINES)], counts)
    assert rig.lines() == {"delivered": 4}
    assert len(server.records) == 4
    assert server.seen.count(TRACES) == 3
    assert server.seen.count(METRICS) == 1
    assert len(server.spans) == 2
    assert ("spans", "refused") not in counts


def test_while_logs_fail_nothing_else_is_sent(server: SignalServer) -> None:
    server.script = [Say(503)]
    with pytest.raises(TransientSinkError):
        write(server, pack(server, LINES))
    assert server.seen == []


@pytest.mark.parametrize(("status", "kind"), [(503, TransientSinkError), (401, PermanentSinkError)])
def test_where_all_that_is_left_fails_the_attempt_does(
    server: SignalServer, status: int, kind: type[SinkError]
) -> None:
    items = [item for item in pack(server, LINES) if not item.lines]
    server.steps = {METRICS: [Say(status)], TRACES: [Say(status)]}
    with pytest.raises(kind):
        write(server, items)


def test_signals_that_fail_in_different_ways_have_each_its_own_fate(server: SignalServer) -> None:
    items = [item for item in pack(server, LINES) if not item.lines]
    server.steps = {METRICS: [Say(404)], TRACES: [Say(503)]}
    failures = write(server, items).failures
    found = {str(getattr(items[each.index], "signal", "")): each.retryable for each in failures}
    assert found == {"metrics": False, "traces": True}


def test_lines_that_are_refused_are_not_sent_again_for_a_signal_that_fails(
    server: SignalServer,
) -> None:
    server.script = [Say(400)]
    server.steps = {METRICS: [Say(503)], TRACES: [Say(503)]}
    failures = write(server, pack(server, LINES[:1])).failures
    assert [each.retryable for each in failures] == [False, True]


@pytest.mark.parametrize("path", [METRICS, TRACES])
def test_what_a_server_rejects_in_part_is_counted_and_not_sent_again(
    server: SignalServer, path: str
) -> None:
    server.steps[path] = [
        Say(200, {"Content-Type": "application/x-protobuf"}, rejected(path, 1), accept=True)
    ]
    counts = Counts()
    rig = deliver(server, [block(LINES)], counts)
    kind = "spans" if path == TRACES else "metrics"
    assert rig.lines() == {"delivered": 4}
    assert server.seen.count(path) == 1
    assert counts[kind, "refused"] == 1
    assert counts[kind, "delivered"] == counts[kind, "made"] - 1
    [facts] = rig.log.facts("records_refused")
    assert (facts["records"], facts["codes"]) == (1, "partial")


@pytest.mark.parametrize(("status", "code"), [(404, "not_found"), (400, "invalid_request")])
@pytest.mark.parametrize("path", [METRICS, TRACES])
def test_a_signal_that_a_server_refuses_is_named_in_the_log(
    server: SignalServer, path: str, status: int, code: str
) -> None:
    """The lines are delivered, as logs: nothing else would tell."""
    server.steps[path] = [Say(status)]
    counts = Counts()
    rig = deliver(server, [block(LINES)], counts)
    kind = "spans" if path == TRACES else "metrics"
    assert rig.lines() == {"delivered": 4}
    [facts] = rig.log.facts("records_refused")
    assert (facts["records"], facts["codes"]) == (counts[kind, "made"], code)
    assert facts["detail"].endswith(f"answered {status} to {kind}")


def test_a_request_that_is_too_large_is_halved(
    server: SignalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(derived, "MESSAGE_BYTES", 1)
    server.steps[TRACES] = [Say(413), Say(413)]
    items = [item for item in pack(server, LINES) if not item.lines]
    spans = [item for item in items if isinstance(item, LogItem) and item.signal == "traces"]
    assert len(spans) == 2
    result = write(server, list(spans))
    assert result.failures == (Failure(0, "too_large", retryable=False),)
    assert [span.name for span in server.spans] == ["responseLatency"]


def test_a_request_holds_no_more_than_the_limits(
    server: SignalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(derived, "MESSAGE_BYTES", 2000)
    monkeypatch.setitem(derived.MOST, "traces", 30)
    lines = [line for number in range(100) for line in (start(f"{number}"), done(f"{number}"))]
    deliver(server, [block(lines)], signals=("traces",))
    assert len(server.spans) == 100
    assert len({span.span_id for span in server.spans}) == 100
    assert server.seen.count(TRACES) >= 4


def test_bodies_stay_within_max_body_bytes(
    server: SignalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(derived, "MESSAGE_BYTES", 8000)
    lines = [line for number in range(300) for line in (start(f"{number}"), done(f"{number}"))]
    items = pack(server, lines, signals=("traces",))
    assert sum(item.lines for item in items) == 600
    result = write(server, items, signals=("traces",), max_body_bytes=16 * 1024)
    assert result.failures == ()
    assert len(server.spans) == 300
    assert server.seen.count(TRACES) > 1


def test_what_waited_on_disk_while_the_settings_changed_is_lost_with_a_reason(
    server: SignalServer,
) -> None:
    items = [item for item in pack(server, LINES) if not item.lines]
    both = tuple(Failure(index, SETTINGS_CHANGED, retryable=False) for index in (0, 1))
    assert write(server, items, signals=("logs",)).failures == both
    assert write(server, items, signals=("metrics",)).failures == both[:1]
    assert set(write(server, items, protocol="http/json").failures) == set(both)
    assert server.seen == [METRICS]


def test_the_end_of_the_environment_sends_what_no_line_says(server: SignalServer) -> None:
    sink = OtlpSink(config_of(server), surroundings())
    list(sink.pack([block([start("a")])]))
    items = sink.own_items("timeout")
    assert [(item.lines, item.size) for item in items] == [(0, 0)] * 2
    assert write(server, list(items)).failures == ()
    assert [span.status.message for span in server.spans] == ["timeout"]
    assert server.totals()["faas.timeouts"] == 1
    assert OtlpSink(config_of(server, signals=("logs",)), surroundings()).own_items("x") == []


def test_a_restored_process_counts_from_the_beginning(server: SignalServer) -> None:
    sink = OtlpSink(config_of(server, signals=("metrics",)), surroundings())
    list(sink.pack([block([start("a")])]))
    sink.on_restore("f" * 32)
    write(server, list(sink.pack([block([start("b")])])), signals=("metrics",))
    assert server.totals()["faas.invocations"] == 1


def test_a_probe_tries_each_signal(server: SignalServer) -> None:
    async def probe() -> str:
        sink = OtlpSink(config_of(server), surroundings())
        try:
            return await sink.probe()
        finally:
            await sink.close()

    server.steps[METRICS] = [Say(400)]
    found = asyncio.run(probe())
    assert "the server takes a request without logs" in found
    assert "400" in found
    assert "without metrics: it is reachable" in found
    assert "the server takes a request without traces" in found
    server.steps[TRACES] = [Say(401)]
    with pytest.raises(PermanentSinkError):
        asyncio.run(probe())


@pytest.mark.parametrize(
    ("keys", "environment", "temporality"),
    [
        ({}, "", 2), ({}, "delta", 1), ({}, "LowMemory", 1), ({}, "cumulative", 2),
        ({"temporality": "cumulative"}, "delta", 2), ({"temporality": "delta"}, "", 1),
    ],
)  # fmt: skip
def test_temporality_is_the_settings_or_the_environments(
    server: SignalServer,
    monkeypatch: pytest.MonkeyPatch,
    keys: dict[str, Any],
    environment: str,
    temporality: int,
) -> None:
    variable = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"
    monkeypatch.setenv(variable, environment)
    deliver(server, [block(LINES)], signals=("metrics",), **keys)
    found = {
        metric.sum.aggregation_temporality for metric in server.metrics if metric.sum.data_points
    }
    assert found == {temporality}


def problems(**keys: Any) -> list[str]:
    made = msgspec.convert({"type": "otlp", "endpoint": "https://host", **keys}, OtlpConfig)
    return list(made.problems())


@pytest.mark.usefixtures("server")
def test_settings_of_signals_that_are_not_sent_are_faults() -> None:
    assert problems(signals=["logs", "logs"]) == ["signals: names a signal twice"]
    for key, value, signal in (
        ("logs_endpoint", "https://a", "logs"), ("metrics_endpoint", "https://a", "metrics"),
        ("temporality", "delta", "metrics"), ("traces_endpoint", "https://a", "traces"),
        ("sampler", "always", "traces"),
    ):  # fmt: skip
        others = [each for each in ALL if each != signal]
        assert problems(signals=others, **{key: value}) == [f'{key}: needs "{signal}" in signals']
        assert problems(signals=[signal], **{key: value}) == []
    with pytest.raises(msgspec.ValidationError):
        problems(signals=[])


@pytest.mark.usefixtures("server")
def test_each_signal_has_its_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    assert problems(signals=ALL, traces_endpoint="nonsense") != []
    assert problems(endpoint="", signals=["traces"]) != []
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://host/traces")
    assert problems(endpoint="", signals=["traces"]) == []
    assert len(problems(endpoint="", signals=["traces", "metrics"])) == 1
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "sometimes")
    (problem,) = problems(signals=["metrics"])
    assert "TEMPORALITY_PREFERENCE must be cumulative or delta" in problem
    assert problems(signals=["metrics"], temporality="delta") == []


@pytest.mark.usefixtures("server")
def test_each_signal_has_its_own_permission_in_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    keys = {"type": "otlp", "auth": "sigv4", "signals": ALL}
    made = msgspec.convert({**keys, "log_group": "a", "log_stream": "b"}, OtlpConfig)
    assert list(made.problems()) == []
    needs = list(made.aws_needs())
    assert [need.actions for need in needs] == [
        ("logs:PutLogEvents",), ("cloudwatch:PutMetricData",), ("xray:PutTraceSegments",),
    ]  # fmt: skip
    assert [need.vpc_endpoint for need in needs] == ["logs", "monitoring", "xray"]
    assert [need.resource for need in needs[1:]] == ["*", "*"]
    without = msgspec.convert({**keys, "signals": ["traces"], "log_group": "a"}, OtlpConfig)
    assert list(without.problems()) == ['log_group: needs "logs" in signals']


def test_each_signal_is_signed_for_its_own_service(
    server: SignalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "token",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    rig = deliver(server, [block(LINES)], auth="sigv4", log_group="a", log_stream="b")
    assert rig.lines() == {"delivered": 4}
    scopes = {path: server.headers[path]["authorization"] for path in (METRICS, TRACES)}
    assert "/eu-central-1/monitoring/aws4_request" in scopes[METRICS]
    assert "/eu-central-1/xray/aws4_request" in scopes[TRACES]
    for path in (METRICS, TRACES):
        assert "x-aws-log-group" not in server.headers[path]
    assert "/eu-central-1/logs/aws4_request" in server.requests[0].headers["authorization"]
