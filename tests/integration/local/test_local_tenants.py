"""Tenant isolation on the local Lambda: who is named where, and who shares an environment."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from extensions.local_kit import Record, install, make, write_handler
from telemetryd.local import ConfigError, InvokeResult, LocalConfig, LocalLambda, TenantError
from telemetryd.local.frontend import Frontend

CODE = """
seen = []
def handler(event, context):
    seen.append(context.tenant_id)
    return seen
"""
NAMED = ("platform.start", "platform.runtimeDone", "platform.report")
LIMIT = 120


def test_an_environment_serves_one_tenant(tmp_path: Path) -> None:
    """The runtime's context and telemetry name it; for another the environment is another."""
    config, record = make(tmp_path, tenants=True, **write_handler(tmp_path, CODE))

    async def scenario() -> list[InvokeResult]:
        async with LocalLambda(config) as env:
            return [await env.invoke({}, tenant_id=name) for name in ("blue", "blue", "green")]

    results = asyncio.run(scenario())
    assert [json.loads(item.payload) for item in results] == [["blue"], ["blue"] * 2, ["green"]]
    assert [item.cold_start for item in results] == [True, False, True]
    for event_type in NAMED:
        tenants = [item["tenantId"] for item in record.records(event_type)]
        assert tenants == ["blue", "blue", "green"]
    shutdowns = [event for event in record.events() if event["eventType"] == "SHUTDOWN"]
    assert [event["shutdownReason"] for event in shutdowns] == ["spindown"] * 2
    assert record.records("platform.initStart")[1]["phase"] == "init"


def test_older_schemas_name_no_tenant(tmp_path: Path) -> None:
    """The member came with 2025-01-29."""
    config, record = make(tmp_path, {"schema": "2022-12-13"}, tenants=True)

    async def scenario() -> None:
        async with LocalLambda(config) as env:
            await env.invoke({}, tenant_id="blue")

    asyncio.run(scenario())
    for event_type in NAMED:
        assert "tenantId" not in record.records(event_type)[0]


def test_a_tenant_has_to_be_named_and_only_then(tmp_path: Path) -> None:
    """By callers of the library and of the Invoke port alike."""

    async def scenario(config: LocalConfig) -> list[tuple[int, str | None]]:
        statuses: list[tuple[int, str | None]] = []
        async with LocalLambda(config) as env:
            wrong = "blue" if not config.tenants else None
            for tenant in (wrong, "no/such\nname"):
                with pytest.raises(TenantError):
                    env.prepare({}, tenant_id=tenant)
            frontend = Frontend(env)
            await frontend.start(0)
            try:
                async with aiohttp.ClientSession() as session:
                    for headers in ({}, {"X-Amz-Tenant-Id": "blue"}):
                        async with session.post(frontend.url, json={}, headers=headers) as answer:
                            kind = answer.headers.get("x-amzn-ErrorType")
                            statuses.append((answer.status, kind))
            finally:
                await frontend.close()
        return statuses

    refused, taken = (400, "InvalidParameterValueException"), (200, None)
    for name, on in (("on", True), ("off", False)):
        (tmp_path / name).mkdir()
        config, _ = make(tmp_path / name, tenants=on)
        expected = [refused, taken] if on else [taken, refused]
        assert asyncio.run(scenario(config)) == expected


def test_only_on_demand_functions_have_it(tmp_path: Path) -> None:
    """As on Lambda."""
    for mode in ("snap-start", "managed-instances"):
        with pytest.raises(ConfigError, match="tenants"):
            make(tmp_path, tenants=True, mode=mode)


def test_the_command_takes_its_tenants_in_turn(tmp_path: Path) -> None:
    """`--tenant`, repeated."""
    record = Record(tmp_path / "record.ndjson")
    task = write_handler(tmp_path, CODE)["task_root"]
    code = "import sys; from telemetryd.local.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [
            *(sys.executable, "-c", code, "--handler", "task.handler", "--invoke", "3"),
            *("--extension", str(install(tmp_path / "extensions"))),
            *("--env", f"LISTENER_FILE={record.path}", "--tenant", "blue", "--tenant", "green"),
        ],
        cwd=task,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    tenants = [item["tenantId"] for item in record.records("platform.start")]
    assert tenants == ["blue", "green", "blue"]
