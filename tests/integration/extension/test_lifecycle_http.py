"""The life cycle over HTTP: what holds for lines over TCP holds here."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.lifecycle import Stage, TimesOut, play, settings, statuses

HTTP = settings(TELEMETRY__PROTOCOL="http")


def test_every_line_of_a_life_arrives(tmp_path: Path) -> None:
    """Cold start, an exception, a burst, a freeze between invocations, the report at the end."""
    stage = Stage(tmp_path)
    payloads = ({"print": 3}, {"raise": "no stock"}, {"print": 2_000}, {"print": 1})
    results, env = play(stage.config(HTTP), *payloads)
    assert results[1].function_error == "Unhandled"
    assert [event["type"] for event in stage.arrived("platform")][:3] == [
        "platform.initStart",
        "platform.telemetrySubscription",
        "platform.initRuntimeDone",
    ]
    assert len(stage.records("platform.report")) == len(payloads)
    stage.assert_nothing_lost(env)
    stage.assert_clean_exits(env)


def test_the_end_of_an_invocation_is_seen(tmp_path: Path) -> None:
    """No connection is needed between two POSTs, and a closed one is no loss."""
    stage = Stage(tmp_path)
    variables = HTTP | settings(FLUSH__STRATEGY="invocation")
    _, env = play(stage.config(variables), *({"print": 1},) * 4)
    stage.assert_nothing_lost(env)
    assert not stage.log("end_missed")
    assert not stage.log("end_not_awaited")


def test_after_a_timeout_a_new_process_subscribes_again(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    config = stage.config(HTTP, report_after_reset="next")
    results, env = play(config, TimesOut({"print": 2, "sleep": 60}), {"print": 3})
    assert statuses(results) == ["timeout", "success"]
    stage.assert_sent_is_delivered(env, processes=2)
    stage.assert_clean_exits(env, processes=2)


def test_managed_instances_send_by_http_too(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    config = stage.config(HTTP, mode="managed-instances", concurrency=2)
    _, env = play(config, {"print": 2}, {"print": 3})
    stage.assert_nothing_lost(env)
    stage.assert_clean_exits(env)


@pytest.mark.parametrize("protocol", ["tcp", "http"])
def test_the_logs_api_tells_what_it_has(tmp_path: Path, protocol: str) -> None:
    """Where only the predecessor exists: lines, ends and reports; each in its older form."""
    stage = Stage(tmp_path)
    variables = settings(
        TELEMETRY__API="logs", TELEMETRY__PROTOCOL=protocol, FLUSH__STRATEGY="invocation"
    )
    config = stage.config(variables, telemetry="logs")
    results, env = play(config, {"print": 3}, TimesOut({"sleep": 60}), {"print": 1})
    assert statuses(results) == ["success", "timeout", "success"]
    kinds = [event["type"] for event in stage.arrived("platform")]
    assert set(kinds) == {
        "platform.logsSubscription", "platform.extension", "platform.start",
        "platform.runtimeDone", "platform.end", "platform.report",
    }  # fmt: skip
    assert {frozenset(record) for record in stage.records("platform.runtimeDone")} == {
        frozenset({"requestId", "status"})
    }
    assert all(isinstance(event["record"], str) for event in stage.arrived("function"))
    stage.assert_sent_is_delivered(env, processes=2)
    stage.assert_clean_exits(env, processes=2)
    assert {record["reason"] for record in stage.log("end_missed")} <= {"deadline"}


def test_without_the_api_that_is_asked_for_the_function_runs(tmp_path: Path) -> None:
    """404 for the Telemetry API, where there is only its predecessor: one line, no telemetry."""
    stage = Stage(tmp_path)
    results, _ = play(stage.config(telemetry="logs"), {"print": 3})
    assert statuses(results) == ["success"]
    (refused,) = stage.log("subscription_refused")
    assert refused["status"] == 404


@pytest.mark.parametrize("strategy", ["invocation", "continuous", "auto"])
@pytest.mark.parametrize(
    ("loss", "cause"),
    [
        ("runtimeDone@2", "silence"),
        ("runtimeDone:late@2", "silence"),
        ("runtimeDone:batch@2", "logs_dropped"),
        ("*@2", "nothing_received"),
        ("connection", "nothing_received"),
    ],
)
def test_a_loss_costs_no_caller_more_than_its_bound(
    tmp_path: Path, loss: str, cause: str, strategy: str
) -> None:
    """The function may run for ten minutes; each invocation is billed for what it took."""
    stage = Stage(tmp_path)
    variables = HTTP | settings(
        FLUSH__STRATEGY=strategy, FLUSH__MAX_ADDED_MS=10_000, FLUSH__MAX_SILENCE_MS=1000
    )
    config = stage.config(variables, lose=[loss], timeout=600.0)
    results, env = play(config, *[{"print": 2}] * 4)
    assert statuses(results) == ["success"] * 4
    assert max(result.billed_ms for result in results) < 600_000
    (account,) = env.stats
    (ledger,) = stage.ledgers()
    assert len(stage.lines()) == account.sent == stage.told("sinks.file.delivered")
    assert ledger["upstream_dropped"]["lines"] == account.dropped
    missed = set(ledger["figures"]["ends_missed"])
    if strategy == "invocation":  # a busy machine may notice first that nothing has come
        assert missed
        assert missed <= {cause, "nothing_received"}
    elif strategy == "continuous":
        assert not missed
