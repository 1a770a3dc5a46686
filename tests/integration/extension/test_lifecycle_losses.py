"""What Lambda may lose, under every flush strategy, on the local Lambda.

The function may run for ten minutes, so a wait for what never comes would end the test, not the
invocation. Each case says what the callers saw, what they were billed, and what the ledger tells.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from helpers.lifecycle import Stage, play, settings, statuses

STRATEGIES = ("invocation", "continuous", "interval", "auto")
LONG = 600.0
LATE = {"nothing_received"}
"""On a busy machine the platform may be so late that this is what is noticed."""


class Case(NamedTuple):
    """A loss, and the cause that is counted where the end is awaited."""

    loss: str
    cause: str
    silence_ms: int = 30_000
    end_of_last: bool | None = True
    """True if that of the last invocation arrives; None: it may be in the lost batch."""


CASES = {
    "the end does not come": Case("runtimeDone@2", "silence", 1000),
    "the end comes late": Case("runtimeDone:late@2", "silence", 1000),
    "the end is cut off": Case("runtimeDone:cut@2", "line_rejected", end_of_last=False),
    "the end stays unfinished": Case("runtimeDone:stall@2", "line_unfinished", end_of_last=False),
    "the end is garbled": Case("runtimeDone:garble@2", "event_malformed"),
    "the end is in a dropped batch": Case("runtimeDone:batch@2", "logs_dropped", end_of_last=None),
    "the connection is closed": Case("runtimeDone:close@2", "connection_closed", end_of_last=False),
    "nothing of an invocation comes": Case("*@2", "nothing_received"),
    "no connection is made": Case("connection", "no_connection", end_of_last=False),
}


def _whole(stage: Stage, kind: str) -> list[dict[str, Any]]:
    """The events of one type in the sink's file, but for a line that is garbled."""
    found = []
    for line in stage.lines():
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return [event for event in found if event["type"] == kind]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("case", CASES)
def test_a_loss_costs_no_caller_more_than_its_bound(
    tmp_path: Path, case: str, strategy: str
) -> None:
    """Every invocation succeeds, is billed for what it took, and every line is accounted for."""
    loss = CASES[case]
    stage = Stage(tmp_path)
    variables = settings(
        FLUSH__STRATEGY=strategy,
        FLUSH__INTERVAL_MS=100,
        FLUSH__MAX_ADDED_MS=10_000,
        FLUSH__MAX_SILENCE_MS=loss.silence_ms,
    )
    config = stage.config(variables, lose=[loss.loss], timeout=LONG)
    results, env = play(config, *[{"print": 2}] * 4)

    # what the callers saw
    assert statuses(results) == ["success"] * 4
    assert [result.lines for result in results] == [2] * 4
    # what was billed: as the platform reports it, and nothing near the function's deadline
    reports = [event.record for event in env.events if event.type == "platform.report"]
    billed = [record["metrics"]["billedDurationMs"] for record in reports]
    assert billed == [result.billed_ms for result in results]
    assert max(billed) < LONG * 1000
    # the ledger
    (account,) = env.stats
    assert account.offered == account.sent + account.dropped + account.lost + account.undelivered
    assert account.undelivered == 0
    (ledger,) = stage.ledgers()
    assert len(stage.lines()) == account.sent == stage.told("sinks.file.delivered")
    assert ledger["upstream_dropped"]["lines"] == account.dropped
    figures = ledger["figures"]
    assert figures["invocations"] == 4
    missed = figures["ends_missed"]
    if strategy == "invocation":
        assert loss.cause in missed or (missed and set(missed) <= LATE)
    elif strategy == "continuous":
        assert missed == {}
    else:  # some of the ends are awaited: that one, or one after it
        gone = {"no_connection"} if loss.end_of_last is False else set()
        assert set(missed) <= {loss.cause, *LATE, *gone}
    warned = {record["reason"] for record in stage.log("end_missed")}
    assert warned == set(missed)
    # and what came after the loss
    if loss.end_of_last is not None:
        ends = [event["record"]["requestId"] for event in _whole(stage, "platform.runtimeDone")]
        assert (results[3].request_id in ends) == loss.end_of_last
