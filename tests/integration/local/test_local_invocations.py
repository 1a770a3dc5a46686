"""The local Lambda's invocations as caller and extension see them, on a real runtime."""

from __future__ import annotations

import asyncio
import json
import math
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from extensions.local_kit import HERE, NAME, make, wait_for, write_handler
from telemetryd.local import EnvironmentClosedError, InvokeResult, LocalLambda
from telemetryd.local.frontend import Frontend


def test_cold_start_delivers_everything_in_the_documented_order(tmp_path: Path) -> None:
    """Init replay from initStart, then start, lines, runtimeDone, report; the numbers agree."""
    config, record = make(tmp_path)

    async def scenario() -> tuple[InvokeResult, LocalLambda]:
        async with LocalLambda(config) as env:
            return await env.invoke({"print": 2}), env

    result, env = asyncio.run(scenario())
    assert result.function_error is None
    assert json.loads(result.payload) == {"lines": 2, "requestId": result.request_id}
    assert (result.status, result.cold_start, result.lines) == ("success", True, 2)
    types = record.types()
    # the function's first line may come before the extension has subscribed
    subscribed = types.pop(types.index("platform.telemetrySubscription"))
    assert record.types().index(subscribed) < record.types().index("platform.initRuntimeDone")
    assert types == [
        "platform.initStart",
        "function",
        "platform.initRuntimeDone",
        "platform.extension",
        "platform.initReport",
        "platform.start",
        "function",
        "function",
        "platform.runtimeDone",
        "platform.report",
    ]
    assert [event.type for event in env.events] == [
        name for name in record.types() if name != "function"
    ]
    (report,) = record.records("platform.report")
    metrics = report["metrics"]
    assert metrics["billedDurationMs"] == math.ceil(
        metrics["durationMs"] + metrics["initDurationMs"]
    )
    assert metrics["initDurationMs"] == result.init_ms
    assert 0 < metrics["maxMemoryUsedMB"] <= metrics["memorySizeMB"] == 512
    assert [span["name"] for span in report["spans"]] == ["extensionOverhead"]
    (done,) = record.records("platform.runtimeDone")
    assert done["metrics"]["producedBytes"] == len(result.payload)
    assert [span["name"] for span in done["spans"]] == [
        "responseLatency",
        "responseDuration",
        "runtimeOverhead",
    ]
    assert record.records("function")[1:] == ["order accepted i=0\n", "order accepted i=1\n"]


def test_invoke_and_shutdown_events_reach_the_extension(tmp_path: Path) -> None:
    """INVOKE carries what the invocation is; SHUTDOWN has its own form and deadline."""
    config, record = make(tmp_path)

    async def scenario() -> tuple[InvokeResult, LocalLambda]:
        async with LocalLambda(config) as env:
            return await env.invoke({}), env

    result, env = asyncio.run(scenario())
    invoke, shutdown = record.events()
    assert invoke["eventType"] == "INVOKE"
    assert invoke["requestId"] == result.request_id
    assert invoke["invokedFunctionArn"] == config.function_arn
    assert invoke["tracing"]["type"] == "X-Amzn-Trace-Id"
    start = record.records("platform.start")[0]
    assert start["tracing"]["value"] == invoke["tracing"]["value"]
    assert shutdown == {
        "eventType": "SHUTDOWN",
        "shutdownReason": "spindown",
        "deadlineMs": shutdown["deadlineMs"],
    }
    headers = [call["headers"] for call in record.all("api") if call["path"].endswith("next")]
    assert "Lambda-Extension-Event-Identifier" in headers[0]
    assert "Lambda-Extension-Event-Identifier" not in headers[1]
    assert [(item.name, item.returncode) for item in env.exits] == [
        ("runtime-0", -signal.SIGTERM),
        (NAME, 0),
    ]


def test_tracing_can_be_absent(tmp_path: Path) -> None:
    """Without a trace header nothing carries `tracing`, as AWS's emulator behaves."""
    config, record = make(tmp_path, tracing=False)

    async def scenario() -> None:
        async with LocalLambda(config) as env:
            await env.invoke({})

    asyncio.run(scenario())
    assert "tracing" not in record.events()[0]
    assert all("tracing" not in event["record"] for event in record.telemetry("platform.start"))


def test_handler_exception_is_the_callers_error_and_the_platforms_success(tmp_path: Path) -> None:
    """On demand, runtimeDone and report say success for an exception of the handler."""
    config, record = make(tmp_path)

    async def scenario() -> InvokeResult:
        async with LocalLambda(config) as env:
            return await env.invoke({"raise": "no stock"})

    result = asyncio.run(scenario())
    assert result.function_error == "Unhandled"
    assert json.loads(result.payload)["errorType"] == "OutOfStockError"
    assert result.status == "success"
    assert record.records("platform.runtimeDone")[0]["status"] == "success"
    assert record.records("platform.report")[0]["status"] == "success"


def test_timeout_resets_and_the_next_invocation_runs_a_suppressed_init(tmp_path: Path) -> None:
    """The runtime is killed, SHUTDOWN says timeout; then everything starts and subscribes again."""
    config, record = make(tmp_path)

    async def scenario() -> tuple[InvokeResult, InvokeResult, LocalLambda]:
        async with LocalLambda(config) as env:
            late = await env.invoke({"sleep": 60}, timeout=1.5)
            assert env.pids == {}
            again = await env.invoke({})
            return late, again, env

    late, again, env = asyncio.run(scenario())
    assert (late.status, late.function_error) == ("timeout", "Unhandled")
    assert "Task timed out after 1.50 seconds" in json.loads(late.payload)["errorMessage"]
    assert late.lines == 1
    assert again.status == "success"
    assert env.generation == 2
    assert record.events()[1]["shutdownReason"] == "timeout"
    assert [item["phase"] for item in record.records("platform.initStart")] == ["init", "invoke"]
    done, _ = record.records("platform.runtimeDone")
    assert (done["status"], done["requestId"]) == ("timeout", late.request_id)
    assert done["metrics"]["producedBytes"] == 0
    first, second = record.records("platform.report")
    assert first["status"] == "timeout"
    assert first["metrics"]["billedDurationMs"] == 1500
    assert "initDurationMs" not in second["metrics"]
    inits = [item["metrics"]["durationMs"] for item in record.records("platform.initReport")]
    assert second["metrics"]["durationMs"] > inits[1]  # the suppressed init is part of it
    assert [status for status, _ in record.calls("/telemetry")] == [200, 200]


@pytest.mark.parametrize(("when", "expected"), [("during", 1), ("lost", 0), ("next", 1)])
def test_the_report_of_a_timed_out_invocation_comes_early_late_or_never(
    tmp_path: Path, when: str, expected: int
) -> None:
    """All three happen on the service; an extension has to live with each."""
    config, record = make(tmp_path, report_after_reset=when)

    async def scenario() -> InvokeResult:
        async with LocalLambda(config) as env:
            late = await env.invoke({"sleep": 60}, timeout=0.3)
            await env.invoke({})
            return late

    late = asyncio.run(scenario())
    reports = [r for r in record.records("platform.report") if r["requestId"] == late.request_id]
    assert len(reports) == expected
    if when == "next":
        again = record.types().index("platform.initStart", 1)
        assert record.types().index("platform.report") == again - 1


def test_runtime_exit_is_an_error_and_resets(tmp_path: Path) -> None:
    """`Runtime.ExitError` for the caller and in telemetry, SHUTDOWN says failure."""
    config, record = make(tmp_path)

    async def scenario() -> tuple[InvokeResult, InvokeResult]:
        async with LocalLambda(config) as env:
            return await env.invoke({"exit": 3}), await env.invoke({})

    gone, again = asyncio.run(scenario())
    assert (gone.status, gone.error_type) == ("error", "Runtime.ExitError")
    assert "exit status 3" in json.loads(gone.payload)["errorMessage"]
    assert record.events()[1]["shutdownReason"] == "failure"
    done = record.records("platform.runtimeDone")[0]
    assert (done["status"], done["errorType"]) == ("error", "Runtime.ExitError")
    assert again.status == "success"


def test_extension_crash_fails_the_invocation_that_runs(tmp_path: Path) -> None:
    """An exit before SHUTDOWN is a crash whatever its status; the environment recovers."""
    config, record = make(tmp_path, {"exit_at": 2})

    async def scenario() -> tuple[list[InvokeResult], LocalLambda]:
        async with LocalLambda(config) as env:
            return [await env.invoke({"sleep": wait}) for wait in (0, 5, 0)], env

    (good, crashed, again), env = asyncio.run(scenario())
    assert good.status == again.status == "success"
    assert (crashed.status, crashed.error_type) == ("error", "Extension.Crash")
    assert env.exits[0].returncode == 7
    assert env.generation == 2
    assert len(record.all("started")) == 2


def test_extension_killed_while_frozen_fails_the_next_invocation(tmp_path: Path) -> None:
    """No one notices between invocations; the next one pays, the one after it is good again."""
    config, _ = make(tmp_path)

    async def scenario() -> tuple[InvokeResult, InvokeResult]:
        async with LocalLambda(config) as env:
            await env.invoke({})
            env.kill_extension(NAME)
            await asyncio.to_thread(wait_for, lambda: NAME not in env.pids)
            with pytest.raises(KeyError):
                env.kill_extension("nobody")
            return await env.invoke({}), await env.invoke({})

    paid, again = asyncio.run(scenario())
    assert paid.error_type == "Extension.Crash"
    assert "SIGKILL" in json.loads(paid.payload)["errorMessage"]
    assert again.status == "success"


def test_extension_that_works_past_the_deadline_times_the_environment_out(tmp_path: Path) -> None:
    """The caller has its response, runtimeDone says success, the report says timeout."""
    config, record = make(tmp_path, {"work": 30}, timeout=2.0, shutdown_budget=0.2)

    async def scenario() -> tuple[InvokeResult, LocalLambda]:
        async with LocalLambda(config) as env:
            return await env.invoke({}), env

    result, env = asyncio.run(scenario())
    assert result.function_error is None
    assert result.status == "timeout"
    statuses = {
        event.type: event.record["status"]
        for event in env.events
        if "requestId" in event.record and "status" in event.record
    }
    assert statuses == {"platform.runtimeDone": "success", "platform.report": "timeout"}
    assert [(item.name, item.at_deadline) for item in env.exits][-1] == (NAME, True)
    assert record.events()[0]["eventType"] == "INVOKE"


def test_failed_import_fails_init_and_every_invocation(tmp_path: Path) -> None:
    """The runtime's init error reaches the caller; init was tried once before, as on Lambda."""
    config, record = make(tmp_path, **write_handler(tmp_path, "import no_such_module\n"))

    async def scenario() -> tuple[InvokeResult, LocalLambda]:
        async with LocalLambda(config) as env:
            return await env.invoke({}), env

    result, env = asyncio.run(scenario())
    assert result.error_type == "Runtime.ImportModuleError"
    assert "no_such_module" in json.loads(result.payload)["errorMessage"]
    assert env.generation == 2
    reports = record.records("platform.initReport")
    assert [item["status"] for item in reports] == ["error", "error"]
    assert [item["errorType"] for item in reports] == ["Runtime.ImportModuleError"] * 2


def test_extension_init_error_fails_init_with_its_type(tmp_path: Path) -> None:
    """`init/error` is fatal; its type header is what telemetry and caller see.

    As on Lambda, the environment is killed at once, so the extension may not live to write down
    the answer; tests of `local.api.server` hold that.
    """
    config, _ = make(tmp_path, {"error": "Extension.ConfigInvalid"})

    async def scenario() -> tuple[InvokeResult, LocalLambda]:
        async with LocalLambda(config) as env:
            return await env.invoke({}), env

    result, env = asyncio.run(scenario())
    assert result.error_type == "Extension.ConfigInvalid"
    states = [event.record for event in env.events if event.type == "platform.extension"]
    assert {item["state"] for item in states} == {"InitError"}
    assert {item["errorType"] for item in states} == {"Extension.ConfigInvalid"}


def test_extension_under_a_wrong_name_never_counts_as_registered(tmp_path: Path) -> None:
    """It is treated as an internal extension, and init waits for the real one until its limit."""
    mode = {"name": "somebody", "events": ["INVOKE"]}
    config, record = make(tmp_path, mode, init_timeout=2.5, timeout=2.5, shutdown_budget=0.1)

    async def scenario() -> tuple[InvokeResult, LocalLambda]:
        async with LocalLambda(config) as env:
            return await env.invoke({}), env

    result, env = asyncio.run(scenario())
    assert record.calls("/register")[0][0] == 200
    assert result.status == "timeout"
    first = next(event.record for event in env.events if event.type == "platform.initReport")
    assert first["status"] == "timeout"
    assert "platform.initRuntimeDone" not in {event.type for event in env.events}


def test_every_file_of_the_extensions_directory_is_started(tmp_path: Path) -> None:
    """A stray file is 'started' too, and fails init, as in /opt/extensions."""
    config, _ = make(tmp_path)
    directory = Path(config.extensions[0]).parent
    config, record = make(tmp_path, extensions=(), extensions_dir=directory)

    async def scenario() -> InvokeResult:
        async with LocalLambda(config) as env:
            return await env.invoke({})

    assert asyncio.run(scenario()).status == "success"
    assert record.events()
    (directory / "readme.txt").write_text("not an extension\n")
    assert asyncio.run(scenario()).error_type == "PermissionDenied"


def test_any_bootstrap_runs_and_the_environments_differ_as_documented(tmp_path: Path) -> None:
    """A runtime of its own, with a streamed response; extensions lack what Lambda withholds."""
    config, record = make(
        tmp_path,
        bootstrap=[sys.executable, str(HERE / "bootstrap.py")],
        env={"TABLE": "orders", "_PRIVATE": "1", "AWS_XRAY_DAEMON_ADDRESS": "its own"},
        memory_mb=256,
    )

    async def scenario() -> tuple[InvokeResult, str]:
        async with LocalLambda(config) as env:
            result = await env.invoke({"n": 1}, client_context='{"a":1}')
            return result, env.address

    result, address = asyncio.run(scenario())
    answer = json.loads(result.payload)
    assert answer["event"] == {"n": 1}
    assert answer["headers"]["Lambda-Runtime-Aws-Request-Id"] == result.request_id
    assert answer["headers"]["Lambda-Runtime-Client-Context"] == '{"a":1}'
    assert record.records("function") == ["bootstrap: 202 then 400\n"]
    runtime = answer["environment"]
    extension = record.all("started")[0]["environment"]
    for name, value in {
        "AWS_LAMBDA_RUNTIME_API": address,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "TZ": ":UTC",
        "TABLE": "orders",
    }.items():
        assert runtime[name] == extension[name] == value
    withheld = {"_PRIVATE", "AWS_XRAY_DAEMON_ADDRESS"}
    withheld |= {"_HANDLER", "LAMBDA_TASK_ROOT", "AWS_EXECUTION_ENV", "AWS_LAMBDA_LOG_GROUP_NAME"}
    assert withheld <= runtime.keys()
    assert not withheld & extension.keys()
    assert not [name for name in extension if name.startswith("_")]


def test_the_caller_does_not_wait_for_the_extensions(tmp_path: Path) -> None:
    """Over HTTP the response comes while an extension still works on the invocation."""
    config, record = make(tmp_path, {"work": 1})

    async def scenario() -> tuple[Any, bool, list[str]]:
        async with LocalLambda(config) as env, aiohttp.ClientSession() as session:
            frontend = Frontend(env)
            await frontend.start(0)
            try:
                async with session.post(frontend.url, data=b'{"print": 2}') as answer:
                    return await answer.json(), env.frozen, [event.type for event in env.events]
            finally:
                await frontend.close()

    answer, frozen, types = asyncio.run(scenario())
    assert answer["lines"] == 2
    assert not frozen
    assert "platform.report" not in types
    assert record.records("platform.report")


def test_use_outside_of_the_block_is_an_error(tmp_path: Path) -> None:
    """Before and after, there is no environment to invoke."""
    config, _ = make(tmp_path)

    async def scenario() -> None:
        env = LocalLambda(config)
        with pytest.raises(EnvironmentClosedError):
            env.address  # noqa: B018 - the access is the test
        with pytest.raises(EnvironmentClosedError):
            await env.invoke({})

    asyncio.run(scenario())
