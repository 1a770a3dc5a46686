"""SnapStart on the local Lambda: stopped after init, restored by an invocation, in order."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from extensions.local_kit import Record, make, state, wait_for, write_handler
from telemetryd.local import InvokeResult, LocalConfig, LocalLambda

HOOKS = """
import os, time
from snapshot_restore_py import register_after_restore, register_before_snapshot
def before():
    print("before the snapshot", flush=True)
def after():
    print("after the restore", flush=True)
    {after}
register_before_snapshot(before)
register_after_restore(after)
def handler(event, context):
    print("invoked, with a log stream:", "AWS_LAMBDA_LOG_STREAM_NAME" in os.environ, flush=True)
"""


def snapstart(tmp_path: Path, after: str = "pass", **overrides: Any) -> tuple[LocalConfig, Record]:
    """A function with hooks."""
    handler = write_handler(tmp_path, HOOKS.replace("{after}", after))
    return make(tmp_path, mode="snap-start", **handler | overrides)


def run(config: LocalConfig, count: int) -> tuple[list[InvokeResult], LocalLambda]:
    """Invoke so often; returns results and environment."""

    async def scenario() -> tuple[list[InvokeResult], LocalLambda]:
        async with LocalLambda(config) as env:
            return [await env.invoke({}) for _ in range(count)], env

    return asyncio.run(scenario())


def test_an_invocation_restores_the_snapshot(tmp_path: Path) -> None:
    """Events in Lambda's order; the report of init after that of the restore, though earlier."""
    config, record = snapstart(tmp_path)
    (first, second), _ = run(config, 2)
    assert record.types()[:10] == [
        "platform.initStart",
        "platform.telemetrySubscription",
        "function",
        "platform.initRuntimeDone",
        "platform.extension",
        "platform.restoreStart",
        "function",
        "platform.restoreRuntimeDone",
        "platform.restoreReport",
        "platform.initReport",
    ]
    lines = [line.rstrip("\n") for line in record.records("function")]
    invoked = "invoked, with a log stream: False"
    assert lines == ["before the snapshot", "after the restore", invoked, invoked]
    (init,) = record.telemetry("platform.initReport")
    (restore,) = record.telemetry("platform.restoreStart")
    assert init["time"] <= restore["time"]
    assert init["record"]["initializationType"] == "snap-start"
    (begun,) = record.records("platform.initStart")
    assert begun["instanceId"] != restore["record"]["instanceId"]
    (restored,) = record.records("platform.restoreReport")
    assert restored["status"] == "success"
    report, again = (item["metrics"] for item in record.records("platform.report"))
    assert report["restoreDurationMs"] == restored["metrics"]["durationMs"] == first.restore_ms
    assert report["billedDurationMs"] == first.billed_ms >= report["billedRestoreDurationMs"]
    assert not {"initDurationMs", "restoreDurationMs"} & set(again)
    assert "initDurationMs" not in report
    assert (first.cold_start, second.cold_start, second.restore_ms) == (True, False, None)


def test_processes_are_stopped_until_then(tmp_path: Path) -> None:
    """Extension and runtime, from the end of init on."""
    config, record = snapstart(tmp_path)

    async def scenario() -> tuple[bool, list[str]]:
        async with LocalLambda(config) as env:
            frozen = env.frozen, [state(pid) for pid in env.pids.values()]
            await env.invoke({})
            return frozen

    frozen, states = asyncio.run(scenario())
    assert frozen
    assert set(states) == {"T"}
    assert len(states) == 2
    started = record.all("started")[0]["environment"]
    assert started["AWS_LAMBDA_INITIALIZATION_TYPE"] == "snap-start"


def test_a_runtime_that_knows_no_snapshots_works_as_well(tmp_path: Path) -> None:
    """It asks for an invocation at once, and waits for it in the snapshot."""
    runtime = tmp_path / "bootstrap"
    runtime.write_text(
        "import os, urllib.request as u\n"
        "b = f'http://{os.environ[\"AWS_LAMBDA_RUNTIME_API\"]}/2018-06-01/runtime/invocation'\n"
        "while True:\n"
        "    r = u.urlopen(f'{b}/next').headers['Lambda-Runtime-Aws-Request-Id']\n"
        "    u.urlopen(f'{b}/{r}/response', b'{}')\n"
    )
    import sys

    config, record = make(tmp_path, mode="snap-start", bootstrap=[sys.executable, str(runtime)])
    (result,), _ = run(config, 1)
    assert result.status == "success"
    assert record.records("platform.restoreRuntimeDone") == [{"status": "success"}]


@pytest.mark.parametrize(
    ("after", "status", "error"),
    [
        ("raise RuntimeError('no luck')", "error", "Runtime.AfterRestoreError"),
        ("time.sleep(60)", "timeout", "Sandbox.Timedout"),
    ],
)
def test_a_restore_that_fails_fails_the_invocation(
    tmp_path: Path, after: str, status: str, error: str
) -> None:
    """And ends the environment; the next invocation starts another."""
    config, record = snapstart(tmp_path, after, restore_timeout=3.0)

    async def scenario() -> tuple[InvokeResult, int]:
        async with LocalLambda(config) as env:
            result = await env.invoke({})
            return result, env.generation

    result, _ = asyncio.run(scenario())
    assert result.function_error == "Unhandled"
    assert error in result.payload.decode()
    (done,) = record.records("platform.restoreRuntimeDone")
    (report,) = record.records("platform.restoreReport")
    assert done["status"] == report["status"] == status
    wait_for(lambda: [event for event in record.events() if event["eventType"] == "SHUTDOWN"])


def test_the_start_of_init_may_come_after_that_of_the_restore(tmp_path: Path) -> None:
    """On demand, as Lambda has been seen to do it."""
    config, record = snapstart(tmp_path, lose=["initStart:late@0"])
    run(config, 1)
    types = record.types()
    assert types.index("platform.restoreStart") < types.index("platform.initStart")
    assert types.index("platform.initStart") < types.index("platform.start")
