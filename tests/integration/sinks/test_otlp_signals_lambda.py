"""Metrics and spans of the OTLP sink in a local Lambda: what its processes send adds up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from helpers.collector_server import Say
from helpers.lifecycle import Stage, TimesOut, play, settings, statuses
from helpers.otlp_server import attributes
from helpers.otlp_signals import METRICS, TRACES, SignalServer, facts_of
from telemetryd.sinks.otlp.items import LogItem

ERROR = 2
SERVER = 2


@pytest.fixture
def server() -> Iterator[SignalServer]:
    with SignalServer() as server:
        yield server
        assert server.violations == []


def otlp(server: SignalServer, **keys: object) -> dict[str, str]:
    """Settings of the sink."""
    given = {"type": "otlp", "endpoint": server.base, "signals": "logs,metrics,traces", **keys}
    return settings(**{f"SINKS__OTLP__{key}": value for key, value in given.items()})


@pytest.mark.parametrize("report", ["during", "next", "lost"])
def test_a_timeout_and_a_crash_count_once_over_all_processes(
    server: SignalServer, tmp_path: Path, report: str
) -> None:
    """One process may send a span that the next one sends too: it has the same id."""
    stage = Stage(tmp_path)
    config = stage.config(otlp(server, temporality="delta"), report_after_reset=report)
    once, late = {"print": 1}, TimesOut({"sleep": 60})
    results, _ = play(config, once, late, {"raise": "no stock"}, {"exit": 7}, once)
    assert statuses(results) == ["success", "timeout", "success", "error", "success"]
    total = Counter[str]()
    for metric in server.metrics:
        for point in metric.sum.data_points:
            total[metric.name] += point.as_int
    assert total["faas.invocations"] == 5
    assert total["faas.errors"] == 3
    assert total["faas.timeouts"] == 1
    assert total["faas.coldstarts"] == 3
    invoked = [span for span in server.spans if span.kind == SERVER]
    by_request = {facts_of(span)["faas.invocation_id"]: span for span in invoked}
    assert by_request.keys() == {result.request_id for result in results}
    assert len({span.span_id for span in invoked}) == 5
    failed = [by_request[result.request_id].status.code == ERROR for result in results]
    assert failed == [False, True, True, True, False]
    for ledger in stage.ledgers():
        assert ledger["sinks"]["otlp"]["delivered"] == ledger["framed"]


def test_a_server_without_traces_costs_no_line_and_no_metric(
    server: SignalServer, tmp_path: Path
) -> None:
    server.steps[TRACES] = [Say(404)] * 100
    stage = Stage(tmp_path)
    results, env = play(stage.config(otlp(server)), {"print": 5}, {"print": 5})
    assert statuses(results) == ["success"] * 2
    stage.assert_nothing_lost(env)
    assert stage.told("sinks.otlp.delivered") == len(server.records) == len(stage.lines())
    assert server.totals()["faas.invocations"] == 2
    assert METRICS in server.seen
    assert server.spans == []


def test_what_was_logged_belongs_to_its_invocations_span(
    server: SignalServer, tmp_path: Path
) -> None:
    stage = Stage(tmp_path)
    results, _ = play(stage.config(otlp(server), tracing=False), {"print": 5}, {"print": 5})
    spans = {
        facts_of(span)["faas.invocation_id"]: (span.trace_id, span.span_id)
        for span in server.spans if span.kind == SERVER
    }  # fmt: skip
    assert spans.keys() == {result.request_id for result in results}
    logged: dict[str, set[Any]] = {}
    for record in server.records:
        if request := attributes(record).get("faas.invocation_id"):
            logged.setdefault(request, set()).add((record.trace_id, record.span_id))
    assert logged == {request: {place} for request, place in spans.items()}


def test_metrics_and_spans_wait_on_disk_as_they_are() -> None:
    """A spool keeps items in MessagePack."""
    item = LogItem(b"", 0, 0, signal="traces", message=b"\x12\x00", number=1, is_json=True)
    kept = msgspec.msgpack.decode(msgspec.msgpack.encode(item), type=LogItem)
    assert kept == item
