"""What can't be delivered waits on disk: for the sink, or for the environment's next process."""
# ruff: noqa: D102 - the names say it

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

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
from helpers.scripted_platform import NEXT, ScriptedPlatform, line
from telemetryd.local import InvokeResult, LocalConfig, LocalLambda
from telemetryd.sinks.base import Item
from telemetryd.spool.segment_log import SpoolLog

OUTAGE_SECONDS = float(os.environ.get("TELEMETRYD_TEST_OUTAGE_SECONDS", "3")) / 2
NAME = "telemetryd"


class Spooling:
    """A stage whose only sink, `probe`, delivers while its gate is open, and has a spool."""

    def __init__(self, tmp_path: Path, sink: str = "Flaky", **keys: object) -> None:
        self.stage = Stage(tmp_path)
        self.gate = tmp_path / "open"
        self.out = tmp_path / "out"
        self.spool = tmp_path / "spool" / "probe.probe"
        self.variables = third_party(
            tmp_path / "p", sink, PATH=self.out, GATE=self.gate,
            SPOOL__PATH=self.spool.parent, **keys,
        ) | settings(FLUSH__STRATEGY="continuous") | IN_TIME  # fmt: skip

    def config(self, **overrides: Any) -> LocalConfig:
        """While its sink is down it uses all the time for a shutdown, less the margin."""
        return self.stage.config(self.variables, sink=False, **SHORT_END, **overrides)

    def lines(self) -> list[bytes]:
        return self.stage.lines(self.out)

    def pages(self) -> list[dict[str, Any]]:
        """The sink's page in the ledger of each process."""
        return [ledger["sinks"]["probe"] for ledger in self.stage.ledgers()]

    def on_disk(self) -> list[bytes]:
        """The lines in the spool, read from a copy."""
        found: list[bytes] = []
        if self.spool.exists():
            copy = shutil.copytree(self.spool, self.spool.parent / "copy")
            log = SpoolLog(str(copy), max_bytes=1 << 30)
            log.open()
            while records := log.take(1 << 20).records:
                for record in records:
                    if record.payload is not None:
                        payload = msgspec.msgpack.decode(record.payload, type=Item).payload
                        found += payload.splitlines(keepends=True)
                log.settle()
            log.close()
            shutil.rmtree(copy)
        return found


async def invoke_until(env: LocalLambda, condition: Callable[[], object]) -> None:
    """Let time pass: between invocations it stands still, telemetryd being frozen."""
    for _ in range(200):
        if condition():
            return
        assert (await env.invoke({"print": 0, "sleep": 0.1})).status == "success"
    raise AssertionError("waited without success")


def numbers(lines: list[bytes]) -> list[int]:
    """The numbers the example handler printed, in order of arrival."""
    events = map(json.loads, lines)
    printed = (event["record"] for event in events if event["type"] == "function")
    return [int(text.rpartition("=")[2]) for text in printed if "i=" in text]


def test_a_sink_that_is_down_at_first_gets_everything_in_order(tmp_path: Path) -> None:
    """The function works all the while, and nothing is dropped."""
    spooling = Spooling(tmp_path)

    async def scenario() -> tuple[list[InvokeResult], LocalLambda]:
        async with LocalLambda(spooling.config()) as env:
            loop = asyncio.get_running_loop()
            end = loop.time() + OUTAGE_SECONDS
            results = []
            while loop.time() < end or not spooling.on_disk():
                results.append(await env.invoke({"print": 200}))
            assert spooling.lines() == []
            spooling.gate.touch()
            results.append(await env.invoke({"print": 200}))
        return results, env

    results, env = asyncio.run(scenario())
    assert set(statuses(results)) == {"success"}
    (page,) = spooling.pages()
    assert page["dropped"] == {}
    assert page["delivered"]["lines"] == page["enqueued"]["lines"] == len(spooling.lines())
    assert numbers(spooling.lines()) == [*range(200)] * len(results)
    spooling.stage.assert_clean_exits(env)


def test_after_a_timeout_the_next_process_delivers_what_was_spooled(tmp_path: Path) -> None:
    """The environment is reset, its disk stays; the books are handed over."""
    spooling = Spooling(tmp_path)

    async def scenario() -> tuple[list[InvokeResult], LocalLambda]:
        async with LocalLambda(spooling.config()) as env:
            results = [await env.invoke({"print": 50, "sleep": 60}, timeout=2.0)]
            spooling.gate.touch()
            results.append(await env.invoke({"print": 5}))
        return results, env

    results, env = asyncio.run(scenario())
    assert statuses(results) == ["timeout", "success"]
    before, after = spooling.pages()
    assert before["delivered"]["lines"] == 0
    assert before["spooled"]["lines"] >= 50
    assert after["recovered"] == before["spooled"]
    assert after["spooled"]["lines"] == 0
    assert numbers(spooling.lines()) == [*range(50), *range(5)]
    assert [record["lines"] for record in spooling.stage.log("spool_recovered")] == [
        before["spooled"]["lines"]
    ]
    spooling.stage.assert_clean_exits(env, processes=2)


def test_what_was_spooled_when_telemetryd_was_killed_arrives(tmp_path: Path) -> None:
    """SIGKILL: no ledger, no goodbye. Whole blocks on disk arrive after the restart, in order."""
    spooling = Spooling(tmp_path)

    async def scenario() -> tuple[list[InvokeResult], list[bytes]]:
        async with LocalLambda(spooling.config()) as env:
            results = [await env.invoke({"print": 300})]
            await invoke_until(env, lambda: len(spooling.on_disk()) >= 300)
            kept = spooling.on_disk()
            env.kill_extension(NAME)
            await asyncio.to_thread(until, lambda: NAME not in env.pids)
            results.append(await env.invoke({}))
            spooling.gate.touch()
            results.append(await env.invoke({"print": 5}))
        return results, kept

    results, kept = asyncio.run(scenario())
    assert results[1].error_type == "Extension.Crash"
    assert results[2].status == "success"
    arrived = spooling.lines()
    assert set(kept) <= set(arrived)
    assert [each for each in arrived if each in set(kept)] == kept
    page = spooling.pages()[-1]  # of the process that was not killed
    assert page["recovered"]["lines"] >= len(kept)
    assert page["spooled"]["lines"] == 0


def test_at_the_end_of_the_environment_nothing_is_left_on_its_disk(tmp_path: Path) -> None:
    """What is not delivered then fails over: `/tmp` is gone with the environment."""
    spooling = Spooling(tmp_path, FAILOVER="rest")
    spooling.variables |= settings(SINKS__REST__TYPE="file", SINKS__REST__PATH=tmp_path / "rest")
    spooling.variables |= settings(SINKS__REST__EXCLUDE="^")
    results, env = play(spooling.config(), {"print": 300}, {"print": 5})
    assert statuses(results) == ["success"] * 2
    (page,) = spooling.pages()
    assert page["spooled"]["lines"] == 0
    assert page["failed_over"] == page["enqueued"]
    rest = spooling.stage.lines(tmp_path / "rest")
    assert sorted(numbers(rest)) == sorted([*range(300), *range(5)])
    assert list(spooling.spool.glob("*.spool")) == []
    spooling.stage.assert_clean_exits(env)


def test_without_a_failover_they_are_counted_as_lost(tmp_path: Path) -> None:
    """No one is told that lines are kept which no one can ever read."""
    spooling = Spooling(tmp_path)
    play(spooling.config(), {"print": 30})
    (page,) = spooling.pages()
    assert page["spooled"]["lines"] == 0
    assert sum(count["lines"] for count in page["dropped"].values()) == page["enqueued"]["lines"]


def test_a_slow_sink_spools_what_memory_can_not_hold(tmp_path: Path) -> None:
    """A hundredth of the input's rate: nothing is dropped while the environment lives."""
    spooling = Spooling(tmp_path, "Slow", QUEUE_MAX_BYTES=65_536, BATCH_MAX_BYTES=8192)
    spooling.gate.touch()

    async def scenario() -> list[InvokeResult]:
        async with LocalLambda(spooling.config()) as env:
            results = [await env.invoke({"print": 3000})]
            await invoke_until(env, lambda: len(spooling.on_disk()) >= 1000)
            results.append(await env.invoke({"sleep": 60}, timeout=2.0))
        return results

    assert statuses(asyncio.run(scenario())) == ["success", "timeout"]
    page = spooling.pages()[0]
    assert page["dropped"] == {}
    assert page["spooled"]["lines"] > 1000
    arrived = numbers(spooling.lines())
    assert arrived == [*range(len(arrived))]


def test_in_normal_operation_the_spool_touches_no_disk(tmp_path: Path) -> None:
    """Not even its directory is made."""
    spooling = Spooling(tmp_path)
    spooling.gate.touch()
    results, _ = play(spooling.config(), {"print": 200}, {"print": 200})
    assert statuses(results) == ["success"] * 2
    assert numbers(spooling.lines()) == [*range(200)] * 2
    assert not spooling.spool.parent.exists()


def test_a_spool_that_another_process_holds_is_not_used(tmp_path: Path) -> None:
    """One clear line; lines are lost as without a spool, for the reason their sink gave."""
    spooling = Spooling(tmp_path)
    other = SpoolLog(str(spooling.spool), max_bytes=1 << 30)
    other.open()
    with ScriptedPlatform(spooling.variables) as platform:
        telemetry, following = platform.begin()
        telemetry.sendall(line(1))
        following.shutdown(3.0, "timeout")
        platform.finish()
        (told,) = platform.log("spool_unusable")
        assert str(spooling.spool) in told["path"]
        assert "another process" in told["error"]
        page = platform.ledger()["sinks"]["probe"]
        assert page["spooled"]["lines"] == 0
        assert page["dropped"] == {"down": page["enqueued"]}
    other.close()


@pytest.mark.parametrize("reason", ["timeout", "failure", "spindown"])
def test_only_an_end_that_the_environment_outlives_is_spooled_for(
    tmp_path: Path, reason: str
) -> None:
    """And only then is there a directory at all: the sink failed too rarely to open its circuit."""
    spooling = Spooling(tmp_path)
    with ScriptedPlatform(spooling.variables) as platform:
        telemetry, following = platform.begin()
        telemetry.sendall(line(1))
        following.invoke("r1")
        platform.expect(NEXT).shutdown(3.0, reason)
        platform.finish()
        page = platform.ledger()["sinks"]["probe"]
    kept = reason != "spindown"
    assert page["spooled"]["lines"] == (1 if kept else 0)
    assert spooling.on_disk() == ([line(1)] if kept else [])
