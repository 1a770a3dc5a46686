"""An invocation that ends the environment is counted, once, whatever the platform still tells."""

from __future__ import annotations

import json
import subprocess

import pytest

from helpers.lifecycle import settings
from helpers.scripted_platform import NEXT, ScriptedPlatform

AT = "2026-03-14T10:15:30.123Z"


def event(kind: str, **record: object) -> bytes:
    return json.dumps({"time": AT, "type": kind, "record": record}).encode() + b"\n"


START = event("platform.start", requestId="r1", version="1")
DONE = event("platform.runtimeDone", requestId="r1", status="timeout")
SUCCESS = event("platform.runtimeDone", requestId="r1", status="success")
REPORT = event(
    "platform.report",
    requestId="r1",
    status="success",
    metrics={"durationMs": 3, "billedDurationMs": 3},
)


def measured(events: bytes, reason: str, *, invoked: bool = True) -> dict[str, float]:
    """The sums of what was printed by a process that got `events` and then SHUTDOWN."""
    variables = settings(
        SINKS__METRICS__TYPE="emf", SINKS__METRICS__METRICS="*", FLUSH__STRATEGY="continuous"
    )
    variables["AWS_LAMBDA_FUNCTION_NAME"] = "f"
    with ScriptedPlatform(variables, stdout=subprocess.PIPE) as platform:
        telemetry, following = platform.begin()
        if invoked:
            following.invoke("r1")
        telemetry.sendall(events)
        (platform.expect(NEXT) if invoked else following).shutdown(reason=reason)
        platform.finish()
        assert platform.ledger()["sinks"]["metrics"]["delivered"]["lines"] == events.count(b"\n")
        assert platform.process.stdout is not None
        documents = [json.loads(line) for line in platform.process.stdout.read().splitlines()]
    names = ("invocations", "errors", "timeouts") if invoked else ("errors", "init_errors")
    sums: dict[str, float] = dict.fromkeys(names, 0)
    for document in documents:
        for name in names:
            value = document.get(name, 0)
            sums[name] = sums.get(name, 0) + (sum(value) if isinstance(value, list) else value)
    return sums


@pytest.mark.parametrize(
    ("events", "reason", "errors", "timeouts"),
    [
        (START, "timeout", 1, 1),
        (START, "failure", 1, 0),
        (START + DONE, "timeout", 1, 1),
        (START + SUCCESS, "timeout", 1, 1),
        (START + SUCCESS, "failure", 0, 0),
        (START + SUCCESS + REPORT, "timeout", 0, 0),
        (START, "spindown", 0, 0),
        (START, "Timeout", 1, 1),
    ],
    ids=[
        "only the reason",
        "a crash",
        "both",
        "an extension took too long",
        "a crash after the answer",
        "it had ended",
        "for good",
        "an emulator",
    ],
)
def test_a_failure_known_only_from_the_shutdown_counts_once(
    events: bytes, reason: str, errors: int, timeouts: int
) -> None:
    """The reset of the environment may overtake `runtimeDone` and `report`."""
    assert measured(events, reason) == {"invocations": 1, "errors": errors, "timeouts": timeouts}


INIT = event("platform.initStart", initializationType="on-demand", phase="init")
INIT_DONE = event("platform.initRuntimeDone", phase="init", status="success")
INIT_FAILED = event("platform.initReport", phase="init", status="error", errorType="Runtime.X")


@pytest.mark.parametrize(
    ("events", "reason", "failures"),
    [
        (INIT, "failure", 1),
        (INIT, "timeout", 1),
        (INIT + INIT_FAILED, "failure", 1),
        (INIT + INIT_DONE, "failure", 0),
        (INIT, "spindown", 0),
    ],
    ids=["only the reason", "a timeout", "both", "it was over", "for good"],
)
def test_an_initialisation_that_the_shutdown_cuts_short_has_failed(
    events: bytes, reason: str, failures: int
) -> None:
    """With and without a timely report of the platform."""
    found = measured(events, reason, invoked=False)
    assert (found["init_errors"], found["errors"]) == (failures, failures)


def test_what_the_next_process_is_told_of_it_is_not_counted_again() -> None:
    """Events of an earlier life: this process has seen no `start`."""
    metrics = {"durationMs": 3000.0, "billedDurationMs": 3000}
    report = event("platform.report", requestId="r1", status="timeout", metrics=metrics)
    assert measured(DONE + report, "spindown") == {"invocations": 0, "errors": 0, "timeouts": 0}
