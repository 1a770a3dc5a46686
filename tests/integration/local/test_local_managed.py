"""Lambda Managed Instances on the desk: concurrent, never frozen, SHUTDOWN only."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from extensions.local_kit import make, state, wait_for, write_handler
from telemetryd.local import InvokeResult, LocalLambda


def test_four_at_once_share_one_environment(tmp_path: Path) -> None:
    """Four invocations that wait for each other all succeed; their telemetry is all there."""
    config, record = make(tmp_path, mode="managed-instances", concurrency=4, log_format="json")

    async def scenario() -> tuple[list[InvokeResult], set[str], LocalLambda]:
        async with LocalLambda(config) as env:
            # Without concurrency the first would use up its timeout waiting for the last.
            results = await asyncio.gather(
                *(env.invoke({"print": 500, "sleep": 0.3}) for _ in range(4)),
            )
            states = {state(pid) for pid in env.pids.values()}
            return results, states, env

    results, states, env = asyncio.run(scenario())
    assert [item.status for item in results] == ["success"] * 4
    assert len({item.request_id for item in results}) == 4
    assert "T" not in states
    assert not env.frozen
    assert [item.lines for item in results] == [500] * 4
    starts, reports = (record.types().index(f"platform.{name}") for name in ("start", "report"))
    assert record.types()[starts:reports].count("platform.start") == 4
    assert "platform.runtimeDone" not in record.types()
    assert len(record.records("function")) == 4 * 501
    for report in record.records("platform.report"):
        assert report["metrics"].keys() == {"durationMs"}
        assert report["status"] == "success"


def test_invoke_is_refused_and_only_shutdown_comes(tmp_path: Path) -> None:
    """Registration with INVOKE is a 403 that one recovers from."""
    config, record = make(tmp_path, mode="managed-instances")

    async def scenario() -> InvokeResult:
        async with LocalLambda(config) as env:
            return await env.invoke({})

    assert asyncio.run(scenario()).status == "success"
    (refused, error), (status, _) = record.calls("/register")
    assert (refused, error["errorType"], status) == (403, "Extension.InvalidEventType", 200)
    assert [event["eventType"] for event in record.events()] == ["SHUTDOWN"]
    start = record.records("platform.initStart")[0]
    assert start["initializationType"] == "lambda-managed-instances"


def test_older_schemas_are_refused(tmp_path: Path) -> None:
    """Managed instances take 2025-01-29 only."""
    config, record = make(tmp_path, {"schema": "2022-12-13"}, mode="managed-instances")

    async def scenario() -> None:
        async with LocalLambda(config) as env:
            await env.invoke({})

    asyncio.run(scenario())
    ((status, body),) = record.calls("/telemetry")
    assert (status, body["errorType"]) == (400, "ValidationError")


def test_a_failing_invocation_fails_alone(tmp_path: Path) -> None:
    """Exception and timeout are errors of their invocation; the others and the next ones work."""
    config, record = make(tmp_path, mode="managed-instances", concurrency=3)

    async def scenario() -> tuple[list[InvokeResult], LocalLambda]:
        async with LocalLambda(config) as env:
            results = await asyncio.gather(
                env.invoke({"raise": "x"}), env.invoke({"sleep": 60}, timeout=1.0), env.invoke({})
            )
            return [*results, await env.invoke({})], env

    (raised, late, good, after), env = asyncio.run(scenario())
    assert (raised.status, raised.function_error) == ("error", "Unhandled")
    assert (late.status, late.error_type) == ("timeout", "Sandbox.Timedout")
    assert good.status == after.status == "success"
    assert env.generation == 1
    statuses = [item["status"] for item in record.records("platform.report")]
    assert sorted(statuses) == ["error", "success", "success", "timeout"]


def test_a_crash_ends_the_environment_and_another_takes_its_place(tmp_path: Path) -> None:
    """All that ran in it fail; SHUTDOWN says failure; the next init is a normal one."""
    config, record = make(tmp_path, mode="managed-instances", concurrency=2)

    async def scenario() -> tuple[tuple[InvokeResult, InvokeResult], InvokeResult, LocalLambda]:
        async with LocalLambda(config) as env:
            fell = await asyncio.gather(env.invoke({"sleep": 60}), env.invoke({"exit": 4}))
            return fell, await env.invoke({}), env

    fell, after, env = asyncio.run(scenario())
    assert {item.error_type for item in fell} == {"Runtime.ExitError"}
    assert after.status == "success"
    assert env.generation == 2
    assert record.events()[0]["shutdownReason"] == "failure"
    assert [item["phase"] for item in record.records("platform.initStart")] == ["init", "init"]


def test_shutdown_aborts_what_is_running(tmp_path: Path) -> None:
    """An invocation in flight is failed with the platform's own reason."""
    config, record = make(tmp_path, mode="managed-instances", timeout=30)

    async def scenario() -> InvokeResult:
        async with LocalLambda(config) as env:
            task = env.run(env.prepare({"sleep": 60}))
            await asyncio.to_thread(
                wait_for, lambda: "platform.start" in {event.type for event in env.events}
            )
            await env.shutdown()
            return await task

    result = asyncio.run(scenario())
    assert result.status == "failure"
    assert json.loads(result.payload)["errorType"] == "Client.ExecutionEnvironmentShutDown"
    assert record.records("platform.report")[0]["status"] == "failure"


def test_a_failed_init_fails_the_invocation_and_is_begun_anew(tmp_path: Path) -> None:
    """There is no suppressed init here: each try is an environment of its own."""
    overrides = write_handler(tmp_path, "import no_such_module\n")
    config, _ = make(tmp_path, mode="managed-instances", concurrency=2, **overrides)

    async def scenario() -> tuple[InvokeResult, LocalLambda]:
        async with LocalLambda(config) as env:
            return await env.invoke({}), env

    result, env = asyncio.run(scenario())
    assert (result.status, result.error_type) == ("error", "Runtime.ImportModuleError")
    assert env.generation == 2
    assert env.pids == {}
    # not what the recorder got: it may be killed before it has read anything
    begun = [event.record for event in env.events if event.type == "platform.initStart"]
    assert {record["phase"] for record in begun} == {"init"}
