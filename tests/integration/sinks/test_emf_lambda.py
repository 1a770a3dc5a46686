"""The EMF sink in a local Lambda: what its processes print adds up to what was invoked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.emf_streams import metrics
from helpers.lifecycle import Stage, TimesOut, play, settings

EMF = settings(
    SINKS__METRICS__TYPE="emf",
    SINKS__METRICS__METRICS="*",
    SINKS__METRICS__COUNT_LOG_ERRORS="false",
)


def totals(stage: Stage) -> dict[str, float]:
    """The sum of every metric over all documents that any process printed."""
    found: dict[str, float] = {}
    for _, line in stage.printed:
        document: dict[str, Any] = json.loads(line)
        assert document["logger"] == "telemetryd"
        if "_aws" in document:
            for name, values in metrics(document).items():
                found[name] = found.get(name, 0) + sum(values)
    return found


def test_invocations_of_one_environment_add_up(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    results, _ = play(stage.config(EMF, sink=False), *[{"print": 3}] * 5)
    found = totals(stage)
    assert found["invocations"] == 5
    assert found["cold_starts"] == 1
    assert "errors" not in found
    assert found["billed_duration"] == sum(result.billed_ms for result in results)
    assert found["duration"] == pytest.approx(sum(result.duration_ms for result in results))


@pytest.mark.parametrize("report", ["during", "next", "lost"])
def test_a_timeout_and_a_crash_count_once_over_all_processes(tmp_path: Path, report: str) -> None:
    stage = Stage(tmp_path)
    config = stage.config(EMF, sink=False, report_after_reset=report)
    once, late = {"print": 1}, TimesOut({"sleep": 60})
    results, _ = play(config, once, late, once, {"exit": 7}, once)
    found = totals(stage)
    assert found["invocations"] == 5
    assert found["errors"] == 2
    assert found["timeouts"] == 1
    assert found["cold_starts"] == 3
    reported = [r for r in results if report != "lost" or r.status == "success"]
    assert found["billed_duration"] == sum(result.billed_ms for result in reported)


def test_the_exception_of_a_handler_counts_when_the_log_is_read(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    variables = EMF | settings(SINKS__METRICS__COUNT_LOG_ERRORS="true")
    play(stage.config(variables, sink=False), {"raise": "x"}, {"print": 1})
    assert totals(stage)["errors"] == 1


def test_by_default_there_is_a_small_set_of_metrics(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    variables = settings(SINKS__METRICS__TYPE="emf")
    play(stage.config(variables, sink=False), {"print": 1}, {"raise": "x"}, {"print": 1})
    found = totals(stage)
    assert found["cold_starts"] == 1
    assert found.keys() == {
        "cold_starts", "init_duration", "memory_used_percent", "estimated_cost",
    }  # fmt: skip


def test_who_asks_for_errors_gets_those_of_handlers(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    variables = settings(SINKS__METRICS__TYPE="emf", SINKS__METRICS__METRICS="errors")
    play(stage.config(variables, sink=False), {"raise": "x"}, {"print": 1})
    assert totals(stage) == {"errors": 1}


def test_metrics_whose_namespace_is_wrong_go_to_no_other(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    variables = EMF | settings(SINKS__METRICS__NAMESPACE="AWS/Lambda")
    results, env = play(stage.config(variables), {"print": 1}, {"print": 1})
    assert [result.status for result in results] == ["success"] * 2
    assert not any("_aws" in line for _, line in stage.printed)
    (line,) = stage.log("configuration_repaired")
    assert (line["level"], line["left_out"]) == ("error", ["metrics"])
    assert "must not begin with AWS/" in str(stage.log("configuration_invalid"))
    stage.assert_nothing_lost(env)


def test_managed_instances_are_measured_from_start_and_report(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    config = stage.config(EMF, sink=False, mode="managed-instances", concurrency=2)
    play(config, {"print": 1}, {"raise": "x"}, {"print": 1})
    found = totals(stage)
    assert found["invocations"] == 3
    assert found["errors"] == 1
    assert not found.keys() & {"cold_starts", "billed_duration", "estimated_cost"}


def test_telemetryd_tells_of_itself_at_the_end(tmp_path: Path) -> None:
    """In a document that is no one's line: the books know only the function's."""
    stage = Stage(tmp_path)
    results, _ = play(stage.config(EMF, sink=False), *[{"print": 3}] * 3)
    (document,) = [d for _, line in stage.printed if "telemetryd" in (d := json.loads(line))]
    (ledger,) = stage.ledgers()
    found = metrics(document)
    assert found["telemetryd_peak_memory"][0] > 10
    assert found["telemetryd_cpu_time"][0] > 0
    assert 0 < found["telemetryd_queue_used"][0] < 100
    assert "telemetryd_lines_lost" not in found
    assert found["telemetryd_added_duration"][0] < max(r.duration_ms for r in results) + 2000
    assert document["telemetryd"]["invocations"] == ledger["figures"]["invocations"] == 3
    assert document["telemetryd"]["start_ms"].keys() == {"registered", "next", "up"}
    delivered = ledger["sinks"]["metrics"]["delivered"]
    assert delivered == ledger["sinks"]["metrics"]["enqueued"]
    lines = document["telemetryd"]["sinks"]["metrics"]["lines"]
    filtered = ledger["sinks"]["metrics"]["filtered"]["lines"]
    assert lines == {"filtered": filtered, "delivered": delivered["lines"]}


def test_printed_documents_do_not_come_back_as_telemetry(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    variables = EMF | settings(TELEMETRY__TYPES="platform,function,extension")
    play(stage.config(variables), *[{"print": 1}] * 4)
    assert totals(stage)["invocations"] == 4
    assert all(b"CloudWatchMetrics" not in line for line in stage.lines())


@pytest.mark.parametrize(
    ("names", "cpu", "traffic"),
    [
        ("system", "system_cpu_total_time", "system_network_in"),
        ("insights", "cpu_total_time", "rx_bytes"),
    ],
)
def test_the_figures_of_the_system_come_with_each_invocation(
    tmp_path: Path, names: str, cpu: str, traffic: str
) -> None:
    stage = Stage(tmp_path)
    keys = settings(
        SINKS__METRICS__TYPE="emf",
        SINKS__METRICS__METRICS="invocations",
        SYSTEM__METRICS="true",
        SYSTEM__NAMES=names,
    )
    play(stage.config(keys, sink=False), *[{"print": 3}] * 3)
    counts: dict[str, int] = {}
    for _, line in stage.printed:
        document = json.loads(line)
        for name, values in metrics(document).items() if "_aws" in document else ():
            counts[name] = counts.get(name, 0) + len(values)
    assert {"invocations", cpu, traffic} <= counts.keys()
    found = totals(stage)
    assert found["invocations"] == 3
    assert found[cpu] > 0
    memory = "system_memory_used" if names == "system" else "used_memory"
    assert counts[memory] == 3
