"""telemetryd beside other extensions, at the two addresses of the local Lambda."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from pathlib import Path

import pytest

from extensions.local_kit import Record
from extensions.local_kit import install as install_listener
from helpers.lifecycle import Stage, install, settings
from telemetryd.local import InvokeResult, LocalLambda
from telemetryd.local.sandbox import NoNamespaceError, SandboxHosts

FAMOUS = 4243
"""The port that AWS's samples hard-code."""


@pytest.fixture
def sandbox() -> str:
    """A sandbox address that no other test uses; skips where its name cannot be given to it."""
    address = f"127.{random.randint(101, 250)}.{random.randint(0, 255)}.{random.randint(1, 254)}"

    async def name() -> None:
        hosts = SandboxHosts(address)
        await hosts.open()
        hosts.close()

    try:
        asyncio.run(name())
    except NoNamespaceError as error:
        pytest.skip(f"no mount namespace for /etc/hosts on this machine: {error}")
    return address


@pytest.mark.parametrize("port", [0, FAMOUS])
def test_an_extension_at_the_sandboxs_name_works_beside_telemetryd(
    tmp_path: Path, sandbox: str, port: int
) -> None:
    """It is bound there after telemetryd, which has started first, at its own default port."""
    if port:
        try:
            socket.create_server((sandbox, port)).close()
        except OSError as error:
            pytest.skip(f"port {port} is not free on this machine: {error}")
    stage = Stage(tmp_path)
    record = Record(tmp_path / "record.ndjson")
    mode = {"host": "sandbox.localdomain", "port": port, "second": ["function"]}
    directory = tmp_path / "extensions"
    config = stage.config(
        settings(SINKS__FILE__TYPE="file", SINKS__FILE__PATH=stage.file)
        | {"LISTENER_FILE": str(record.path), "LISTENER_MODE": json.dumps(mode)},
        extensions=[install(directory), install_listener(directory)],
        sandbox_address=sandbox,
    )
    assert isinstance(config.extension_env, dict)
    del config.extension_env["TELEMETRYD_TELEMETRY__PORT"]

    async def scenario() -> tuple[list[InvokeResult], LocalLambda]:
        async with LocalLambda(config) as env:
            return [await env.invoke({"print": 3}) for _ in range(2)], env

    results, env = asyncio.run(scenario())
    assert [result.status for result in results] == ["success"] * 2
    assert env.warnings == []
    ids = [result.request_id for result in results]
    assert [item["requestId"] for item in stage.records("platform.runtimeDone")] == ids
    assert [item["requestId"] for item in record.records("platform.runtimeDone")] == ids
    assert {entry["local"] for entry in record.all("addresses")} == {sandbox}
    assert port in {0, *(entry["port"] for entry in record.all("addresses"))}
    assert len(stage.ledgers()) == 1
    assert [account.undelivered for account in env.stats] == [0] * 3
