"""Frozen in mid-delivery, killed, ended by a signal: what becomes of the lines."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from extensions import local_kit
from helpers.lifecycle import (
    IN_TIME,
    SHORT_END,
    Stage,
    play,
    settings,
    statuses,
    third_party,
    until,
)
from telemetryd.local import InvokeResult, LocalLambda
from telemetryd.local.events import ProcessExit

NAME = "telemetryd"


def gated(tmp_path: Path, sink: str = "Gate", **keys: object) -> dict[str, str]:
    """Variables of a sink that waits inside a write until the file `open` exists."""
    return third_party(
        tmp_path / "packages", sink, PATH=tmp_path / "gated", GATE=tmp_path / "open", **keys
    )


@pytest.mark.parametrize("strategy", ["continuous", "invocation", "auto", "interval"])
def test_nothing_is_lost_by_a_freeze_in_mid_delivery(tmp_path: Path, strategy: str) -> None:
    """A sink slower than the invocation: frozen with its queue full, done after the thaw."""
    stage = Stage(tmp_path)
    config = stage.config(gated(tmp_path) | settings(FLUSH__STRATEGY=strategy), timeout=5)

    async def scenario() -> tuple[list[InvokeResult], LocalLambda]:
        async with LocalLambda(config) as env:
            results = [await env.invoke({"print": 500})]
            assert env.frozen
            assert stage.lines(tmp_path / "gated") == []
            (tmp_path / "open").touch()
            results.append(await env.invoke({"print": 500}))
            return results, env

    results, env = asyncio.run(scenario())
    assert statuses(results) == ["success", "success"]
    stage.assert_nothing_lost(env)
    assert stage.lines(tmp_path / "gated") == stage.lines()
    assert stage.told("sinks.probe.delivered") == len(stage.lines())
    stage.assert_clean_exits(env)


@pytest.mark.parametrize("sink", ["Gate", "Stubborn"])
def test_a_sink_that_hangs_at_shutdown_costs_its_own_lines_only(tmp_path: Path, sink: str) -> None:
    """Out before SIGKILL, status 0, what it did not take dropped with a reason or still pending.

    The invocation is not delayed beyond `max_added_ms` either, though every flush fails: a
    timeout would show it.
    """
    stage = Stage(tmp_path)
    variables = gated(tmp_path, sink) | settings(FLUSH__STRATEGY="invocation") | IN_TIME
    config = stage.config(variables, timeout=5, **SHORT_END)

    async def scenario() -> tuple[list[InvokeResult], LocalLambda]:
        async with LocalLambda(config) as env:
            return [await env.invoke({"print": 300}) for _ in range(2)], env

    results, env = asyncio.run(scenario())
    assert statuses(results) == ["success", "success"]
    stage.assert_clean_exits(env)
    assert len(stage.lines()) == sum(account.sent for account in env.stats)
    (ledger,) = stage.log("ledger")
    assert ledger["balanced"] is True
    page = ledger["sinks"]["probe"]
    lost = page["dropped"].get("shutdown", {"lines": 0})["lines"] + page["pending"]["lines"]
    assert lost == page["enqueued"]["lines"] == len(stage.lines())
    assert sink == "Stubborn" or page["pending"]["lines"] == 0


@pytest.mark.parametrize("budget", [SHORT_END["shutdown_budget"], 1.2])
def test_a_fifo_nobody_reads_does_not_hold_up_the_shutdown(tmp_path: Path, budget: float) -> None:
    """A destination that can't be opened, and no time but the margin: status 0, a reason each."""
    stage = Stage(tmp_path)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    variables = settings(SINKS__PIPE__TYPE="file", SINKS__PIPE__PATH=fifo) | IN_TIME
    config = stage.config(variables, shutdown_budget=budget)

    async def scenario() -> tuple[list[InvokeResult], LocalLambda]:
        async with LocalLambda(config) as env:
            return [await env.invoke({"print": 10})], env

    results, env = asyncio.run(scenario())
    assert statuses(results) == ["success"]
    stage.assert_nothing_lost(env)
    stage.assert_clean_exits(env)
    (ledger,) = stage.ledgers()
    assert sum(c["lines"] for c in ledger["sinks"]["pipe"]["dropped"].values()) == len(
        stage.lines()
    )


def test_killed_between_invocations_it_comes_back_with_the_one_after_next(tmp_path: Path) -> None:
    """SIGKILL: the next invocation fails as the platform defines it, telemetry resumes after it."""
    stage = Stage(tmp_path)
    config = stage.config(settings(FLUSH__STRATEGY="invocation", FLUSH__MAX_ADDED_MS=10_000))

    async def scenario() -> tuple[list[InvokeResult], int, LocalLambda]:
        async with LocalLambda(config) as env:
            results = [await env.invoke({"print": 5})]
            before = len(stage.arrived("function"))
            env.kill_extension(NAME)
            await asyncio.to_thread(until, lambda: env.exits)
            results += [await env.invoke({"print": 7}) for _ in range(2)]
            return results, before, env

    results, before, env = asyncio.run(scenario())
    assert [result.error_type for result in results] == [None, "Extension.Crash", None]
    assert before == 6, "the lines of an invocation are in the file before its environment freezes"
    (second,) = stage.ledgers()
    assert second["received"]["lines"] == env.stats[-1].sent
    numbers = [event["record"] for event in stage.arrived("function")]
    assert sum("i=6" in text for text in numbers) == 1
    ends = [(end.returncode, end.at_deadline) for end in env.exits if end.name == NAME]
    assert ends == [(-signal.SIGKILL, False), (0, False)]


def test_sigterm_ends_it_like_a_shutdown(tmp_path: Path) -> None:
    """All that was sent is delivered, the ledger balances, status 0."""
    stage = Stage(tmp_path)
    config = stage.config(freeze=False)

    async def scenario() -> tuple[InvokeResult, int, ProcessExit, int]:
        async with LocalLambda(config) as env:
            result = await env.invoke({"print": 50})
            env.kill_extension(NAME, signal.SIGTERM)
            await asyncio.to_thread(until, lambda: env.exits)
            return result, env.stats[0].sent, env.exits[0], len(stage.lines())

    result, sent, ended, arrived = asyncio.run(scenario())
    assert result.status == "success"
    assert (ended.name, ended.returncode, ended.at_deadline) == (NAME, 0, False)
    assert arrived == sent
    assert stage.ledgers()[0]["sinks"]["file"]["delivered"]["lines"] == sent
    assert stage.log("stopping")[0]["signal"] == "SIGTERM"


def test_what_the_runtime_prints_when_it_is_told_to_end_arrives(tmp_path: Path) -> None:
    """Its last words come during the shutdown, and the stream has no end to wait for."""
    stage = Stage(tmp_path)
    config = stage.config(
        bootstrap=[sys.executable, str(local_kit.HERE / "bootstrap.py")],
        runtime_env={"BOOTSTRAP_IGNORE_TERM": "1"},
        shutdown_budget=5.0,
    )
    results, env = play(config, {})
    assert statuses(results) == ["success"]
    assert "bootstrap: still here\n" in stage.records("function")
    stage.assert_nothing_lost(env)
    stage.assert_clean_exits(env)
