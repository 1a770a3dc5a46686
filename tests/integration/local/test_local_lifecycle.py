"""Freeze, thaw and shutdown of the local Lambda, and that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from extensions.local_kit import HERE, NAME, install, make, state, wait_for
from telemetryd.local import InvokeResult, LocalLambda


def test_between_invocations_everything_stands_still(tmp_path: Path) -> None:
    """Every process is stopped and nothing is delivered; the next invocation sets it going."""
    config, record = make(tmp_path, {"tick": 0.005})

    async def scenario() -> InvokeResult:
        async with LocalLambda(config) as env:
            await env.invoke({})
            assert (env.frozen, {state(pid) for pid in env.pids.values()}) == (True, {"T"})
            ticks = len(record.all("tick"))
            (account,) = env.stats
            before = account.sent
            # The report was made on the way into the freeze; its 25 ms have long passed here.
            assert account.offered > before
            await asyncio.sleep(0.1)
            assert len(record.all("tick")) == ticks
            assert account.sent == before
            await env.thaw()
            assert not env.frozen
            await asyncio.to_thread(wait_for, lambda: len(record.all("tick")) > ticks)
            await asyncio.to_thread(wait_for, lambda: account.sent == account.offered)
            await env.freeze()
            assert {state(pid) for pid in env.pids.values()} == {"T"}
            return await env.invoke({})

    assert asyncio.run(scenario()).status == "success"
    assert len(record.records("platform.report")) == 2


def test_descendants_are_frozen_and_killed_too(tmp_path: Path) -> None:
    """Also one in a session of its own: it stands still with its parent, and ends with it."""
    pid_file = tmp_path / "child.pid"
    script = install(tmp_path / "extensions").with_name("parent")
    script.write_text(
        "#!/bin/sh\n"
        f"setsid sleep 1000 &\necho $! > {pid_file}\n"
        f"exec {sys.executable} -IS {tmp_path / 'extensions' / NAME}\n"
    )
    script.chmod(0o755)
    config, _ = make(tmp_path, {"name": "parent"}, extensions=[script])

    async def scenario() -> tuple[InvokeResult, str]:
        async with LocalLambda(config) as env:
            result = await env.invoke({})
            return result, state(int(pid_file.read_text()))

    result, frozen = asyncio.run(scenario())
    assert result.status == "success"
    assert frozen == "T"
    wait_for(lambda: state(int(pid_file.read_text())) in ("", "Z"))


def test_freezing_can_be_switched_off(tmp_path: Path) -> None:
    """With `freeze=False` the processes run on."""
    config, _ = make(tmp_path, freeze=False)

    async def scenario() -> tuple[bool, set[str]]:
        async with LocalLambda(config) as env:
            await env.invoke({})
            return env.frozen, {state(pid) for pid in env.pids.values()}

    frozen, states = asyncio.run(scenario())
    assert not frozen
    assert "T" not in states


def test_the_freeze_can_come_late_enough_for_the_report(tmp_path: Path) -> None:
    """With `freeze_after` above the buffer's timer, the report leaves before the freeze."""
    config, _ = make(tmp_path, freeze_after=0.5)

    async def scenario() -> tuple[bool, int, int]:
        async with LocalLambda(config) as env:
            await env.invoke({})
            (account,) = env.stats
            return env.frozen, account.offered, account.sent

    frozen, offered, sent = asyncio.run(scenario())
    assert frozen
    assert offered == sent


def test_telemetry_goes_on_after_shutdown_was_announced(tmp_path: Path) -> None:
    """What the runtime prints on SIGTERM arrives after SHUTDOWN, without an end of the stream."""
    config, record = make(
        tmp_path,
        bootstrap=[sys.executable, str(HERE / "bootstrap.py")],
        runtime_env={"BOOTSTRAP_IGNORE_TERM": "1"},
        flush_at_shutdown=False,
        shutdown_budget=5.0,
    )

    async def scenario() -> LocalLambda:
        async with LocalLambda(config) as env:
            await env.invoke({})
        return env

    env = asyncio.run(scenario())
    assert "bootstrap: still here\n" in record.records("function")
    runtime = env.exits[0]
    assert (runtime.returncode, runtime.at_deadline) == (-signal.SIGKILL, True)
    assert [entry["open"] for entry in record.all("connection")] == [True]
    assert record.all("end")


def test_an_extension_that_overstays_is_killed_at_the_deadline(tmp_path: Path) -> None:
    """SIGKILL when the budget is used up, and recorded so."""
    config, record = make(tmp_path, {"hold": 60}, shutdown_budget=0.3)

    async def scenario() -> LocalLambda:
        async with LocalLambda(config) as env:
            await env.invoke({})
        return env

    env = asyncio.run(scenario())
    last = env.exits[-1]
    assert (last.name, last.returncode, last.at_deadline) == (NAME, -signal.SIGKILL, True)
    assert record.events()[-1]["eventType"] == "SHUTDOWN"
    assert record.all("end") == []


def test_an_extension_without_the_shutdown_event_is_killed_unasked(tmp_path: Path) -> None:
    """Registered for INVOKE alone: SIGKILL at once, not at the deadline."""
    config, record = make(tmp_path, {"events": ["INVOKE"]})

    async def scenario() -> LocalLambda:
        async with LocalLambda(config) as env:
            await env.invoke({})
        return env

    last = asyncio.run(scenario()).exits[-1]
    assert (last.returncode, last.at_deadline) == (-signal.SIGKILL, False)
    assert [event["eventType"] for event in record.events()] == ["INVOKE"]


def test_after_a_shutdown_the_next_invocation_is_a_cold_start(tmp_path: Path) -> None:
    """A new environment, with a new instance and an init phase of its own."""
    config, record = make(tmp_path)

    async def scenario() -> InvokeResult:
        async with LocalLambda(config) as env:
            await env.invoke({})
            await env.shutdown("failure")
            assert env.pids == {}
            return await env.invoke({})

    assert asyncio.run(scenario()).cold_start
    starts = record.records("platform.initStart")
    assert [item["phase"] for item in starts] == ["init", "init"]
    assert starts[0]["instanceId"] != starts[1]["instanceId"]
    reasons = [event.get("shutdownReason") for event in record.events()]
    assert reasons == [None, "failure", None, "spindown"]


def test_two_extensions_live_side_by_side(tmp_path: Path) -> None:
    """Both get every event and all telemetry, each over its own connection."""
    paths = [install(tmp_path / "two of them", name) for name in ("one", "two")]
    config, record = make(tmp_path, extensions=paths)

    async def scenario() -> LocalLambda:
        async with LocalLambda(config) as env:
            await env.invoke({"print": 100})
        return env

    env = asyncio.run(scenario())
    assert {account.name for account in env.stats} == {"one", "two"}
    assert len(record.records("function")) == 2 * 101
    assert len({entry["pid"] for entry in record.all("event")}) == 2
    assert [event["eventType"] for event in record.events()].count("INVOKE") == 2


@pytest.mark.parametrize("failure", [RuntimeError, asyncio.CancelledError, KeyboardInterrupt])
def test_no_process_survives_an_exception_in_the_block(
    tmp_path: Path, failure: type[BaseException]
) -> None:
    """Also with an invocation running and the shutdown cut short."""
    config, _ = make(tmp_path, {"hold": 60}, shutdown_budget=0.2)
    pids: list[int] = []

    async def scenario() -> None:
        async with LocalLambda(config) as env:
            task = env.run(env.prepare({"sleep": 60}))
            await asyncio.sleep(0)
            pids.extend(env.pids.values())
            assert not task.done()
            raise failure

    with pytest.raises(failure):
        asyncio.run(scenario())
    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
