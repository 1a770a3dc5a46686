"""An event that Lambda repeats under its id: each attempt ends with a flush of its own lines."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from helpers.launcher_kit import install
from helpers.lifecycle import Stage, settings
from telemetryd.local import LocalConfig, LocalLambda

SETTINGS = settings(FLUSH__STRATEGY="invocation", FLUSH__MAX_ADDED_MS=10_000)
"""Each invocation ends with a flush, which may take what it takes on a busy machine."""
REQUEST = "0f8fad5b-d9cb-469f-a165-70867728950e"
SOURCE = """\
import time

def handler(event, context):
    time.sleep(event.get("seconds", 0))
    for number in range(10):
        print(number)
    if event.get("fails"):
        raise ValueError("once more")
    time.sleep(event.get("hangs", 0))
"""


def function(directory: Path) -> dict[str, Any]:
    """Prints when it has slept, so that a flush at its beginning leaves lines behind."""
    directory.mkdir()
    (directory / "late.py").write_text(SOURCE)
    return {"handler": "late.handler", "task_root": directory}


def attempt(config: LocalConfig, stage: Stage, *attempts: dict[str, Any]) -> tuple[Any, ...]:
    """Invoke under one id; at each rest, the function's lines that are delivered, and all."""

    async def scenario() -> tuple[Any, ...]:
        seen, results = [], []
        async with LocalLambda(config) as env:
            for event in attempts:
                seconds = 1.0 if event.get("hangs") else None
                results.append(await env.invoke(event, request_id=REQUEST, timeout=seconds))
                seen.append((len(stage.arrived("function")), env.lines.total("function")))
        return seen, results, env

    return asyncio.run(scenario())


@pytest.mark.parametrize("following", ["early", "ready"])
@pytest.mark.parametrize("late", [[], ["report:late"]], ids=["thaw", "start"])
def test_each_attempt_that_fails_is_flushed_at_its_own_end(
    tmp_path: Path, late: list[str], following: str
) -> None:
    """The report of the one before comes with the thaw, or right before the start."""
    stage = Stage(tmp_path)
    variables = SETTINGS | settings(LAMBDA__NEXT=following)
    config = stage.config(variables, lose=late, **function(tmp_path / "f"))
    event = {"seconds": 0.3, "fails": True}
    seen, results, env = attempt(config, stage, event, event, event)
    assert [result.function_error for result in results] == ["Unhandled"] * 3
    assert all(delivered == printed > 0 for delivered, printed in seen), seen
    assert not stage.log("end_missed")
    stage.assert_sent_is_delivered(env)
    stage.assert_clean_exits(env)


@pytest.mark.parametrize(("how", "is_parked"), [("during", False), ("next", False), ("next", True)])
def test_an_attempt_after_one_that_timed_out_is_flushed_at_its_own_end(
    tmp_path: Path, how: str, is_parked: bool
) -> None:
    """In a new process, which may be told of the end of the one before."""
    stage = Stage(tmp_path)
    own = function(tmp_path / "f")
    if is_parked:
        own["extensions"] = [install(tmp_path / "layer")]
    variables = SETTINGS | settings(LAMBDA__START="park" if is_parked else "init")
    config = stage.config(variables, memory_mb=128, report_after_reset=how, **own)
    again = {"seconds": 0.3, "fails": True}
    seen, results, env = attempt(config, stage, {"hangs": 60}, again, again)
    assert results[0].status == "timeout"
    assert [result.function_error for result in results[1:]] == ["Unhandled"] * 2
    assert all(delivered == printed > 0 for delivered, printed in seen[1:]), seen
    stage.assert_sent_is_delivered(env, processes=2)
    stage.assert_clean_exits(env, processes=2)
