"""`[flush] strategy`: what has arrived when the environment freezes, and what it costs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from helpers.lifecycle import SHORT_END, Stage, play, settings, statuses, third_party, until
from helpers.scripted_platform import NEXT, ScriptedPlatform, file_sink, line, runtime_done
from telemetryd.local import InvokeResult, LocalConfig, LocalLambda

PATIENT = settings(FLUSH__MAX_ADDED_MS=10_000)
"""A flush may take what it takes on a busy machine: by default it is left after 200 ms."""


def lines_at_each_freeze(
    stage: Stage,
    config: LocalConfig,
    path: Path,
    events: Sequence[object],
    *,
    pause: float = 0.0,
) -> tuple[list[int], LocalLambda]:
    """Function lines in `path` whenever the environment is at rest."""

    async def scenario() -> tuple[list[int], LocalLambda]:
        seen = []
        async with LocalLambda(config) as env:
            for event in events:
                result = await env.invoke(event)
                assert result.status == "success"
                assert env.frozen
                seen.append(len(stage.arrived("function", path)))
                await asyncio.sleep(pause)
        return seen, env

    return asyncio.run(scenario())


def test_invocation_delivers_before_the_freeze(tmp_path: Path) -> None:
    """Every line of an invocation is in the file, however close the invocations are."""
    stage = Stage(tmp_path)
    config = stage.config(settings(FLUSH__STRATEGY="invocation") | PATIENT)
    seen, env = lines_at_each_freeze(stage, config, stage.file, [{"print": 100}] * 6)
    assert seen == [101, 201, 301, 401, 501, 601]
    stage.assert_nothing_lost(env)
    stage.assert_clean_exits(env)


def test_auto_delivers_before_the_freeze_while_invocations_are_rare(tmp_path: Path) -> None:
    """A pause before each: never busy, so nothing is left behind."""
    stage = Stage(tmp_path)
    config = stage.config(settings(FLUSH__STRATEGY="auto") | PATIENT)
    seen, env = lines_at_each_freeze(stage, config, stage.file, [{"print": 10}] * 4, pause=1.05)
    assert seen == [11, 21, 31, 41]
    stage.assert_nothing_lost(env)


@pytest.mark.parametrize("strategy", ["continuous", "auto"])
def test_when_busy_nobody_waits_for_a_flush(tmp_path: Path, strategy: str) -> None:
    """A sink that hangs, and no limit but the function's own: a wait for it would time out."""
    stage = Stage(tmp_path)
    gate = tmp_path / "open"
    variables = third_party(tmp_path / "p", "Gate", PATH=tmp_path / "out", GATE=gate)
    variables |= settings(
        FLUSH__STRATEGY=strategy, FLUSH__MAX_ADDED_MS=800_000, FLUSH__MAX_AGE_MS=900_000
    )
    config = stage.config(variables, timeout=5)

    async def scenario() -> tuple[list[InvokeResult], LocalLambda]:
        gate.touch()
        async with LocalLambda(config) as env:
            results = [await env.invoke({"print": 10}) for _ in range(4)]
            gate.unlink()
            results += [await env.invoke({"print": 10}) for _ in range(4)]
            gate.touch()
        return results, env

    results, env = asyncio.run(scenario())
    assert statuses(results) == ["success"] * 8
    stage.assert_nothing_lost(env)
    assert stage.told("sinks.probe.delivered") == len(stage.lines())


def test_the_maximum_age_holds_when_busy(tmp_path: Path) -> None:
    """Invocations longer than it: what the one before has printed is out, though a sink lingers."""
    stage = Stage(tmp_path)
    config = stage.config(settings(FLUSH__MAX_AGE_MS=100, SINKS__FILE__LINGER_MS=60_000) | PATIENT)
    events = [{"print": 10, "sleep": 0.15}] * 7
    seen, env = lines_at_each_freeze(stage, config, stage.file, events)
    assert all(count > 10 * number for number, count in enumerate(seen))
    stage.assert_nothing_lost(env)


@pytest.mark.parametrize("interval_ms", [100, 900_000])
def test_interval_flushes_when_it_is_due(tmp_path: Path, interval_ms: int) -> None:
    """Due at each invocation, or at none; everything arrives in the end."""
    stage = Stage(tmp_path)
    variables = third_party(tmp_path / "p", "Gate", PATH=tmp_path / "out", GATE=tmp_path / "open")
    (tmp_path / "open").touch()
    variables |= (
        settings(
            FLUSH__STRATEGY="interval",
            FLUSH__INTERVAL_MS=interval_ms,
            SINKS__PROBE__LINGER_MS=60_000,
        )
        | PATIENT
    )
    config = stage.config(variables)
    events = [{"print": 10, "sleep": 0.12}] * 3
    seen, env = lines_at_each_freeze(stage, config, tmp_path / "out", events, pause=0.12)
    assert seen[1:] == ([21, 31] if interval_ms == 100 else [0, 0])
    stage.assert_nothing_lost(env)
    assert stage.told("sinks.probe.delivered") == len(stage.lines())


def test_a_flush_that_fails_is_bounded(tmp_path: Path) -> None:
    """A sink that never delivers: the caller of each invocation is served, none times out."""
    stage = Stage(tmp_path)
    variables = third_party(tmp_path / "p", "Gate", PATH=tmp_path / "out", GATE=tmp_path / "open")
    variables |= settings(FLUSH__STRATEGY="invocation", FLUSH__MARGIN_MS=0)
    config = stage.config(variables, timeout=4)

    async def scenario() -> tuple[list[InvokeResult], LocalLambda]:
        async with LocalLambda(config) as env:
            results = [await env.invoke({"print": 10}) for _ in range(3)]
            (tmp_path / "open").touch()
        return results, env

    results, env = asyncio.run(scenario())
    assert statuses(results) == ["success"] * 3
    stage.assert_nothing_lost(env)
    assert stage.told("sinks.probe.delivered") == len(stage.lines())
    stage.assert_clean_exits(env)


def test_the_functions_deadline_comes_before_any_flush(tmp_path: Path) -> None:
    """A function that leaves no time: `next` is asked for before the timeout, less the margin."""
    stage = Stage(tmp_path)
    variables = third_party(tmp_path / "p", "Gate", PATH=tmp_path / "out", GATE=tmp_path / "open")
    variables |= settings(
        FLUSH__STRATEGY="invocation", FLUSH__MAX_ADDED_MS=900_000, FLUSH__MARGIN_MS=1500
    )
    config = stage.config(variables, timeout=3)

    async def scenario() -> tuple[list[InvokeResult], LocalLambda]:
        async with LocalLambda(config) as env:
            results = [await env.invoke({"print": 10, "sleep": 0.5}) for _ in range(2)]
            (tmp_path / "open").touch()
        return results, env

    results, env = asyncio.run(scenario())
    assert statuses(results) == ["success", "success"]
    stage.assert_nothing_lost(env)
    stage.assert_clean_exits(env)


def test_lines_behind_an_end_are_waited_for_once_some_have_come(tmp_path: Path) -> None:
    """The first goes with the next invocation, and is counted; the next `next` comes behind it."""
    file = tmp_path / "f"
    variables = file_sink(file) | settings(
        FLUSH__STRATEGY="invocation",
        FLUSH__MAX_ADDED_MS=60_000,
        TELEMETRY__BUFFERING__TIMEOUT_MS=4000,
    )
    with ScriptedPlatform(variables) as platform:
        telemetry, call = platform.begin()
        call.invoke("a", 900)
        telemetry.sendall(start("a") + runtime_done("a"))
        platform.expect(NEXT).invoke("b", 900)
        telemetry.sendall(line(1) + start("b") + line(2) + runtime_done("b"))
        until(lambda: runtime_done("b") in file.read_bytes())
        telemetry.sendall(line(3))
        following = platform.expect(NEXT)
        assert file.read_bytes().endswith(line(3))
        following.shutdown()
        platform.finish()
        assert platform.ledger()["figures"]["trailing_lines"] == 1


@pytest.mark.parametrize("invocations", [1, 4])
def test_lines_that_trail_are_delivered(tmp_path: Path, invocations: int) -> None:
    """With the flush, where a cold start is slow; else with the next one, or with the shutdown."""
    stage = Stage(tmp_path)
    config = stage.config(settings(FLUSH__STRATEGY="invocation"), lose=["function:trail@1-"])
    _, env = play(config, *[{"print": 10}] * invocations)
    stage.assert_nothing_lost(env)
    (ledger,) = stage.ledgers()
    assert ledger["figures"]["trailing_lines"] <= 10 * invocations


def start(request_id: str) -> bytes:
    """The beginning of an invocation."""
    record = {"requestId": request_id, "version": "$LATEST"}
    body = {"time": "2026-03-14T10:15:30.123Z", "type": "platform.start", "record": record}
    return json.dumps(body).encode() + b"\n"


HOPELESS = {
    "no platform events": settings(TELEMETRY__TYPES="function"),
    "events come too late": settings(TELEMETRY__BUFFERING__TIMEOUT_MS=30_000),
    "nothing may be added": settings(FLUSH__MAX_ADDED_MS=0),
}


@pytest.mark.parametrize("case", HOPELESS)
def test_an_end_that_is_not_told_in_time_is_not_waited_for(tmp_path: Path, case: str) -> None:
    """Nothing is billed to the timeout: telemetry goes alongside, and the log says so once."""
    stage = Stage(tmp_path)
    variables = settings(FLUSH__STRATEGY="invocation", FLUSH__MARGIN_MS=0) | HOPELESS[case]
    calls = [{"print": 10}] * 3
    results, env = play(stage.config(variables, timeout=3, **SHORT_END), *calls)
    assert statuses(results) == ["success"] * 3
    assert len(stage.log("end_not_awaited")) == 1
    stage.assert_sent_is_delivered(env)
    assert len(stage.arrived("function")) == env.lines.total("function")
    stage.assert_clean_exits(env)
