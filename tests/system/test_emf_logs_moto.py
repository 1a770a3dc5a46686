"""Documents through PutLogEvents to a moto server, read back with another client.

moto enforces no limit of PutLogEvents, so the requests are recorded and checked as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from aiobotocore.session import get_session

from helpers.emf_streams import block, metrics, report, start
from helpers.fake_logs import check_limits
from helpers.ports import reserved
from telemetryd.log import utc_timestamp
from telemetryd.sinks.aws.client import AwsClient
from telemetryd.sinks.emf.config import EmfConfig
from telemetryd.sinks.emf.sink import EmfSink
from telemetryd.testing import LOOPS, LogBook, LoopFactory, Rig, context, run

pytestmark = pytest.mark.system

REGION = "eu-west-1"
GROUP = "/telemetryd/orders"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The URL of a moto server."""
    with reserved() as port:
        yield from _endpoint(port)


def _endpoint(port: int) -> Iterator[str]:
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(server, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def _wait_for(server: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        assert server.poll() is None, "the server ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
    raise AssertionError("the server does not accept connections")


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Every request, as it went out; with credentials moto takes."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "example")
    requests: list[tuple[str, dict[str, Any]]] = []
    call = AwsClient.call

    async def recording(self: AwsClient, operation: str, **parameters: Any) -> dict[str, Any]:
        requests.append((operation, parameters))
        return await call(self, operation, **parameters)

    monkeypatch.setattr(AwsClient, "call", recording)
    return requests


async def read_back(endpoint: str, stream: str) -> list[dict[str, Any]]:
    """All documents of the stream, in its order."""
    found: list[dict[str, Any]] = []
    async with get_session().create_client(
        "logs", region_name=REGION, endpoint_url=endpoint
    ) as client:
        token: dict[str, str] = {}
        while True:
            page = await client.get_log_events(
                logGroupName=GROUP, logStreamName=stream, startFromHead=True, **token
            )
            found += [json.loads(each["message"]) for each in page["events"]]
            if not page["events"]:
                return found
            token = {"nextToken": page["nextForwardToken"]}


@LOOPS
@pytest.mark.parametrize("client", ["aiobotocore", "lean"])
def test_every_invocation_is_read_back(
    endpoint: str,
    recorded: list[tuple[str, dict[str, Any]]],
    loop_factory: LoopFactory,
    client: str,
) -> None:
    stream = f"telemetryd/{client}/{loop_factory.__module__}"
    keys = {"type": "emf", "metrics": ["*"], "delivery": "logs", "endpoint_url": endpoint,
            "region": REGION, "log_group": GROUP, "log_stream": stream, "linger_ms": 0,
            "forward_emf": True, "client": client}  # fmt: skip
    config = msgspec.convert(keys, EmfConfig)
    log = LogBook()
    rig = Rig(EmfSink(config, context(log)), config, log=log)
    own = {"_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [
        {"Namespace": "Shop", "Dimensions": [[]], "Metrics": [{"Name": "Sold"}]}]},
        "Sold": 1, "text": "ß" * 100_000}  # fmt: skip

    async def scenario() -> list[dict[str, Any]]:
        rig.worker.start()
        for first in range(0, 20_000, 2_000):
            now = utc_timestamp(time.time())
            numbers = range(first, first + 2_000)
            rig.offer([block([start(f"{i}", now), report(f"{i}", now)]) for i in numbers])
            printed = {"time": now, "type": "function", "record": own}
            rig.offer([block([json.dumps(printed).encode() + b"\n"])])
            assert await rig.flush()
        await rig.stop()
        return await read_back(endpoint, stream)

    found = run(loop_factory, asyncio.wait_for(scenario(), 250))
    rig.check_end()
    assert rig.lines() == {"delivered": 40_010}
    assert found.count(own) == 10
    ours = [document for document in found if document != own]
    assert sum(sum(metrics(d).get("invocations", [])) for d in ours) == 20_000
    assert sum(len(metrics(d).get("duration", [])) for d in ours) == 20_000
    puts = [parameters["logEvents"] for name, parameters in recorded if name == "put_log_events"]
    for events in puts:
        check_limits(events)
    names = Counter(name for name, _ in recorded)
    assert names["create_log_stream"] <= 2
    assert names["create_log_group"] <= 1


@LOOPS
def test_nobody_listening_is_a_transient_error(
    recorded: list[tuple[str, dict[str, Any]]], loop_factory: LoopFactory
) -> None:
    async def scenario() -> None:
        rig.worker.start()
        rig.offer([block([start("a", utc_timestamp(time.time()))])])
        await rig.flush()
        await rig.stop()

    with reserved() as port:
        url = f"http://127.0.0.1:{port}"
        keys = {"type": "emf", "metrics": ["*"], "delivery": "logs", "endpoint_url": url,
                "region": REGION, "retry_max_elapsed_ms": 0, "linger_ms": 0}  # fmt: skip
        config = msgspec.convert(keys, EmfConfig)
        log = LogBook()
        rig = Rig(EmfSink(config, context(log)), config, log=log)
        run(loop_factory, scenario())
    rig.check_end()
    assert rig.lines() == {"dropped.unreachable": 1}
    assert log.facts("write_failed")[0]["retryable"] is True
