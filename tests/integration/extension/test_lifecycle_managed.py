"""Managed Instances and neighbours: four invocations at once, and several extensions."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from extensions import local_kit
from helpers.lifecycle import SCHEMA, Stage, install, play, settings, statuses, until
from helpers.ports import reserved
from telemetryd.local import InvokeResult, LocalLambda


@pytest.mark.parametrize("told", [True, False])
def test_four_invocations_at_once(tmp_path: Path, told: bool) -> None:
    """SHUTDOWN only, known beforehand or after INVOKE was refused; all lines arrive, whole."""
    stage = Stage(tmp_path)
    variables = {} if told else {"AWS_LAMBDA_INITIALIZATION_TYPE": ""}
    config = stage.config(variables, mode="managed-instances", concurrency=4, log_format="json")

    async def scenario() -> tuple[list[InvokeResult], LocalLambda]:
        async with LocalLambda(config) as env:
            results: list[InvokeResult] = []
            for _ in range(3):
                results += await asyncio.gather(*(env.invoke({"print": 500}) for _ in range(4)))
        return results, env

    results, env = asyncio.run(scenario())
    assert statuses(results) == ["success"] * 12
    (extension,) = stage.records("platform.extension")
    assert extension["events"] == ["SHUTDOWN"]
    kinds = {event["type"] for event in stage.arrived("platform")}
    assert "platform.runtimeDone" not in kinds
    assert len(stage.records("platform.report")) == 12
    stage.assert_nothing_lost(env)
    stage.assert_clean_exits(env)


def test_without_invoke_the_timer_flushes(tmp_path: Path) -> None:
    """A sink that lingers for a minute delivers at the interval, while the environment runs."""
    stage = Stage(tmp_path)
    variables = settings(
        FLUSH__INTERVAL_MS=100, FLUSH__MAX_AGE_MS=900_000, SINKS__FILE__LINGER_MS=60_000
    )
    config = stage.config(variables, mode="managed-instances")

    async def scenario() -> tuple[InvokeResult, LocalLambda]:
        async with LocalLambda(config) as env:
            result = await env.invoke({"print": 50})
            await asyncio.to_thread(until, lambda: len(stage.lines()) > 51)
        return result, env

    result, env = asyncio.run(scenario())
    assert result.status == "success"
    stage.assert_nothing_lost(env)
    stage.assert_clean_exits(env)


def test_two_of_us_find_two_ports(tmp_path: Path) -> None:
    """The second can't have the configured port, takes another, and both get everything."""
    stage = Stage(tmp_path, name="one")
    second = tmp_path / "second.ndjson"
    two = install(tmp_path / "extensions", "two")
    two.write_text(
        two.read_text().replace(
            "from telemetryd",
            f"import os\nos.environ['TELEMETRYD_SINKS__FILE__PATH'] = {str(second)!r}\n"
            "from telemetryd",
        )
    )
    with reserved() as port:
        config = stage.config(
            settings(TELEMETRY__PORT=port),
            extensions=[install(tmp_path / "extensions", "one"), two],
        )
        results, env = play(config, {"print": 100}, {"print": 100})
    assert statuses(results) == ["success", "success"]
    ports = {name: stage.log("started", name)[0]["port"] for name in ("one", "two")}
    assert port in ports.values()
    assert len(set(ports.values())) == 2
    assert len(stage.log("port_not_available", "one") + stage.log("port_not_available", "two")) == 1
    sent = {account.name: account.sent for account in env.stats}
    for name, path in (("one", stage.file), ("two", second)):
        assert stage.told("sinks.file.delivered", name) == sent[name] == len(stage.lines(path))
        assert len(stage.arrived("function", path)) == env.lines.total("function")
    assert [end.returncode for end in env.exits if end.role == "extension"] == [0, 0]


def test_beside_an_extension_that_is_not_ours(tmp_path: Path) -> None:
    """Each gets all telemetry, and ours gets the other's output as well."""
    stage = Stage(tmp_path)
    record = local_kit.Record(tmp_path / "record.ndjson")
    config = stage.config(
        settings(TELEMETRY__TYPES="platform,function,extension"),
        extensions=[
            install(tmp_path / "extensions"),
            local_kit.install(tmp_path / "extensions"),
        ],
        extension_env={
            "LISTENER_FILE": str(record.path),
            "LISTENER_MODE": json.dumps({"print": True}),
        },
    )
    results, env = play(config, {"print": 100}, {"print": 100})
    assert statuses(results) == ["success", "success"]
    assert stage.records("extension") == ["listener: invocation 1\n", "listener: invocation 2\n"]
    assert len(record.records("function")) == env.lines.total("function")
    assert len(stage.arrived("function")) == env.lines.total("function")
    expected = [event.encode(SCHEMA) + b"\n" for event in env.events]
    assert [line for line in stage.lines() if b'"type":"platform.' in line] == expected
    (ledger,) = stage.ledgers()
    assert ledger["framed"]["lines"] == len(stage.lines())
    assert ledger["rejected"]["own_log"]["lines"] > 0
    assert [end.returncode for end in env.exits if end.role == "extension"] == [0, 0]
