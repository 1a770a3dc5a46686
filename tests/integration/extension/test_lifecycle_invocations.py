"""Invocations with telemetryd beside them: caller, file and ledger after every kind of ending."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.lifecycle import Stage, TimesOut, install, play, settings, statuses


def test_a_cold_start_is_told_from_its_first_event_on(tmp_path: Path) -> None:
    """Events older than the subscription, all lines, and the report that comes after `next`."""
    stage = Stage(tmp_path)
    results, env = play(stage.config(), {"print": 3})
    assert statuses(results) == ["success"]
    assert json.loads(results[0].payload)["lines"] == 3
    assert [event["type"] for event in stage.arrived("platform")] == [
        "platform.initStart",
        "platform.telemetrySubscription",
        "platform.initRuntimeDone",
        "platform.extension",
        "platform.initReport",
        "platform.start",
        "platform.runtimeDone",
        "platform.report",
    ]
    assert stage.records("platform.extension") == [
        {"name": "telemetryd", "state": "Ready", "events": ["INVOKE", "SHUTDOWN"]}
    ]
    stage.assert_nothing_lost(env)
    stage.assert_clean_exits(env)
    (started,) = stage.log("started")
    assert started["subscribed"] is True
    assert started["events"] == ["INVOKE", "SHUTDOWN"]


def test_an_exception_of_the_handler_is_the_callers_and_telemetry_goes_on(tmp_path: Path) -> None:
    """The caller gets the function's own error; its lines and the next invocation's arrive."""
    stage = Stage(tmp_path)
    results, env = play(stage.config(), {"print": 2, "raise": "no stock"}, {"print": 1})
    assert results[0].function_error == "Unhandled"
    assert json.loads(results[0].payload)["errorMessage"] == "no stock"
    assert results[1].function_error is None
    stage.assert_nothing_lost(env)
    stage.assert_clean_exits(env)


def test_after_a_timeout_a_new_process_registers_and_subscribes_again(tmp_path: Path) -> None:
    """Suppressed re-init: two processes, two subscriptions, two ledgers that add up."""
    stage = Stage(tmp_path)
    config = stage.config(report_after_reset="next")
    results, env = play(config, TimesOut({"print": 2, "sleep": 60}), {"print": 3})
    assert statuses(results) == ["timeout", "success"]
    assert b"Task timed out" in results[0].payload
    phases = [record["phase"] for record in stage.records("platform.initStart")]
    assert phases == ["init", "invoke"]
    assert len(stage.records("platform.report")) == 2
    assert len(stage.records("platform.telemetrySubscription")) == 2
    stage.assert_sent_is_delivered(env, processes=2)
    assert len(stage.arrived("function")) == env.lines.total("function")
    stage.assert_clean_exits(env, processes=2)
    assert [record["reason"] for record in stage.log("stopping")] == ["timeout", "spindown"]


@pytest.mark.parametrize("how", ["during", "lost"])
def test_the_report_of_a_timeout_may_come_late_or_never(tmp_path: Path, how: str) -> None:
    """Whatever of it was sent arrives; the next invocation is not affected."""
    stage = Stage(tmp_path)
    config = stage.config(report_after_reset=how)
    results, env = play(config, TimesOut({"sleep": 60}), {"print": 3})
    assert statuses(results) == ["timeout", "success"]
    stage.assert_sent_is_delivered(env, processes=2)
    reports = {record["requestId"] for record in stage.records("platform.report")}
    assert results[1].request_id in reports
    if how == "lost":
        assert results[0].request_id not in reports
    stage.assert_clean_exits(env, processes=2)


def test_a_runtime_that_exits_resets_the_environment(tmp_path: Path) -> None:
    """The caller sees the crash; SHUTDOWN says failure; the next environment works."""
    stage = Stage(tmp_path)
    config = stage.config(report_after_reset="next")
    results, env = play(config, {"print": 2, "exit": 3}, {"print": 1})
    assert results[0].error_type == "Runtime.ExitError"
    assert results[1].status == "success"
    assert [record["reason"] for record in stage.log("stopping")] == ["failure", "spindown"]
    stage.assert_sent_is_delivered(env, processes=2)
    stage.assert_clean_exits(env, processes=2)


def test_100000_lines_of_one_invocation_arrive(tmp_path: Path) -> None:
    """Nothing is lost, not to the platform, not to the queue."""
    stage = Stage(tmp_path)
    results, env = play(stage.config(), {"print": 100_000})
    assert statuses(results) == ["success"]
    numbers = [
        int(event["record"].rpartition("=")[2])
        for event in stage.arrived("function")
        if " i=" in event["record"]
    ]
    assert numbers == list(range(100_000))
    stage.assert_nothing_lost(env)
    stage.assert_clean_exits(env)
    assert stage.log("lines_dropped") == []


def test_started_under_another_name_it_registers_under_that(tmp_path: Path) -> None:
    """The base name of the link is the extension's identity."""
    stage = Stage(tmp_path, name="shipper.sh")
    link = tmp_path / "shipper.sh"
    link.symlink_to(install(tmp_path / "real"))
    results, env = play(stage.config(extensions=[link]), {"print": 2})
    assert statuses(results) == ["success"]
    assert [record["name"] for record in stage.records("platform.extension")] == ["shipper.sh"]
    stage.assert_nothing_lost(env)
    stage.assert_clean_exits(env)


def test_events_may_be_limited_to_shutdown(tmp_path: Path) -> None:
    """`lambda.events = "shutdown"`: no INVOKE reaches it, and everything still arrives."""
    stage = Stage(tmp_path)
    results, env = play(stage.config(settings(LAMBDA__EVENTS="shutdown")), {"print": 5}, {})
    assert statuses(results) == ["success", "success"]
    assert stage.records("platform.extension")[0]["events"] == ["SHUTDOWN"]
    stage.assert_nothing_lost(env)
    stage.assert_clean_exits(env)


def test_json_log_records_and_an_untraced_function(tmp_path: Path) -> None:
    """Objects as records, INVOKE without `tracing`."""
    stage = Stage(tmp_path)
    config = stage.config(log_format="json", tracing=False)
    results, env = play(config, {"log": "json"})
    assert statuses(results) == ["success"]
    objects = [record for record in stage.records("function") if isinstance(record, dict)]
    assert "order 7741 accepted" in [record["message"] for record in objects]
    assert "tracing" not in stage.records("platform.start")[0]
    stage.assert_nothing_lost(env)


def test_it_prints_the_same_however_much_it_receives(tmp_path: Path) -> None:
    """Nothing per event, nothing per invocation."""
    stage = Stage(tmp_path)
    _, env = play(stage.config(), *({"print": 200} for _ in range(6)))
    assert [record["event"] for record in stage.log()] == ["started", "stopping", "ledger"]
    stage.assert_nothing_lost(env)


def test_its_own_lines_do_not_feed_it(tmp_path: Path) -> None:
    """Subscribed to `extension`, at the level debug: what it prints comes back, and ends there."""
    stage = Stage(tmp_path)
    variables = settings(TELEMETRY__TYPES="platform,function,extension", LOG__LEVEL="debug")
    results, env = play(stage.config(variables), *({"print": 20} for _ in range(5)))
    assert statuses(results) == ["success"] * 5
    assert stage.arrived("extension") == []
    printed = len(stage.log())
    assert printed < 12, "lines per invocation or per event"
    (ledger,) = stage.ledgers()
    own = ledger["rejected"]["own_log"]["lines"]
    assert 0 < own <= printed
    assert len(stage.lines()) == ledger["framed"]["lines"]
    assert len(stage.arrived("platform")) == len(env.events)
    assert len(stage.arrived("function")) == env.lines.total("function")
    stage.assert_clean_exits(env)
