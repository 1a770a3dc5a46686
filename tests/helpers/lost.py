"""Whatever telemetry is lost: one run on the local Lambda, and what holds in every case."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from helpers.lifecycle import Stage, play, settings, statuses
from telemetryd.core.lifecycle import CAUSES

LOSSES: Final = (
    "start", "runtimeDone", "report", "function", "*",
    "runtimeDone:late", "runtimeDone:garble", "runtimeDone:batch", "runtimeDone@2",
    "start:cut@1", "runtimeDone:cut@1", "function:close@2", "runtimeDone:stall@1",
    "connection",
)  # fmt: skip
NEVER_MISSED: Final = ("report", "function")
"""What no wait depends on."""
EVENTS: Final = ({"print": 20},) * 4
SILENCE_MS: Final = 700


def assert_the_function_is_unharmed(directory: Path, loss: str, extensions: Sequence[Path]) -> None:
    """Every caller gets the function's answer; no end is waited for twice; the books balance."""
    stage = Stage(directory)
    variables = settings(FLUSH__STRATEGY="invocation", FLUSH__MAX_SILENCE_MS=SILENCE_MS)
    config = stage.config(variables, lose=[loss], timeout=60.0, extensions=extensions)
    results, env = play(config, *EVENTS)
    assert statuses(results) == ["success"] * len(EVENTS)
    stage.assert_clean_exits(env)
    (ledger,) = stage.ledgers()
    assert ledger["sinks"]["file"]["delivered"]["lines"] == len(stage.lines())
    assert ledger["framed"]["lines"] == len(stage.lines())
    figures = ledger["figures"]
    assert figures["invocations"] == len(EVENTS)
    missed = figures["ends_missed"]
    assert missed.keys() <= CAUSES.keys() - {"deadline"}, "a wait continued to the deadline"
    warned = [line["reason"] for line in stage.log("end_missed")]
    assert sorted(warned) == sorted(missed), "one warning for each cause"
    if loss in NEVER_MISSED:
        assert missed == {}
    elif loss in ("runtimeDone", "*", "connection"):  # never seen: one wait in all
        assert sum(missed.values()) == 1
