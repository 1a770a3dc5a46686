"""The matrix of lost events and flush strategies: one run, and what holds whatever is lost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from helpers.lifecycle import Stage, play, settings, statuses
from telemetryd.core.lifecycle import CAUSES

LOSSES: Final = (
    "start", "runtimeDone", "report", "function", "*",
    "runtimeDone:late", "runtimeDone:garble", "runtimeDone:batch", "runtimeDone@2",
    "start:cut@1", "runtimeDone:cut@1", "function:close@2", "runtimeDone:stall@1",
    "connection",
)  # fmt: skip
STRATEGIES: Final = ("auto", "invocation", "continuous", "interval")
NEVER_MISSED: Final = ("report", "function")
"""What no wait depends on."""
EVENTS: Final = ({"print": 20},) * 4
SILENCE_MS: Final = 700


def assert_the_function_is_unharmed(
    directory: Path, loss: str, strategy: str, extensions: Sequence[Path] | None = None
) -> None:
    """Every caller gets the function's answer; no end is waited for twice; the books balance."""
    stage = Stage(directory)
    variables = settings(FLUSH__STRATEGY=strategy, FLUSH__MAX_SILENCE_MS=SILENCE_MS)
    overrides: dict[str, Any] = {"extensions": extensions} if extensions else {}
    config = stage.config(variables, lose=[loss], timeout=60.0, **overrides)
    results, env = play(config, *EVENTS)
    assert statuses(results) == ["success"] * len(EVENTS)
    stage.assert_clean_exits(env)
    (ledger,) = stage.ledgers()
    assert ledger["sinks"]["file"]["delivered"]["lines"] == len(stage.lines())
    assert ledger["framed"]["lines"] == len(stage.lines())
    figures = ledger["figures"]
    assert figures["invocations"] == len(EVENTS)
    missed = figures["ends_missed"]
    assert missed.keys() <= CAUSES.keys() - {"deadline"}, "a wait went on to the deadline"
    warned = [line["reason"] for line in stage.log("end_missed")]
    assert sorted(warned) == sorted(missed), "one warning for each cause"
    if strategy == "continuous" or loss in NEVER_MISSED:
        assert missed == {}
    elif loss in ("runtimeDone", "*", "connection"):  # never seen: one wait in all
        assert sum(missed.values()) <= 1
        assert missed or strategy != "invocation"
