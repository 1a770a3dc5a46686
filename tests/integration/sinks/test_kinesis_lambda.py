"""The Kinesis sink in an extension: its own small client, and the last resort of its lines."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.kinesis_server import Hang, KinesisServer
from helpers.lifecycle import settings
from helpers.ports import reserved
from helpers.scripted_platform import NEXT, ScriptedPlatform
from telemetryd_proto.kinesis import unwrap

AWS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_REGION": "eu-west-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
    "HOME": "/nonexistent",
}
LINES = b"".join(b'{"type":"function","record":"line %d"}\n' % number for number in range(20))
SDK = ("botocore", "aiobotocore", "aiohttp")


@pytest.fixture
def server() -> Iterator[KinesisServer]:
    with KinesisServer() as server:
        yield server


def sink(url: str, **keys: object) -> dict[str, str]:
    variables = settings(
        SINKS__STREAM__TYPE="kinesis", SINKS__STREAM__STREAM="telemetry", FLUSH__MARGIN_MS=1500,
        SINKS__STREAM__ENDPOINT_URL=url, FLUSH__STRATEGY="continuous", **keys,
    )  # fmt: skip
    return AWS | variables


def one_invocation(
    variables: dict[str, str], lines: bytes = LINES, seconds: float = 6.0
) -> tuple[Any, list[bytes]]:
    """The ledger of a life of one invocation, and what was printed to standard output."""
    with ScriptedPlatform(variables, stdout=subprocess.PIPE) as platform:
        telemetry, following = platform.begin()
        following.invoke("r1")
        telemetry.sendall(lines)
        platform.expect(NEXT).shutdown(seconds)
        platform.finish()
        assert platform.process.stdout is not None
        return platform.ledger(), platform.process.stdout.read().splitlines(keepends=True)


def test_a_life_delivers_without_loading_an_sdk(server: KinesisServer, tmp_path: Path) -> None:
    for name in SDK:
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'loaded')!r}, 'w')\n")
    ledger, _ = one_invocation(sink(server.url) | {"PYTHONPATH": str(tmp_path)}, seconds=30.0)
    assert ledger["sinks"]["stream"]["delivered"]["lines"] == 20
    assert b"".join(unwrap(put.data)[1] for put in server.accepted) == LINES
    assert server.requests[0].headers["user-agent"].startswith("telemetryd/")
    assert not (tmp_path / "loaded").exists()


def test_what_only_the_sdk_reads_chooses_it(server: KinesisServer, tmp_path: Path) -> None:
    """With one line that says so."""
    file = tmp_path / "config"
    file.write_text("[profile mine]\n")
    variables = sink(server.url) | {"AWS_PROFILE": "mine", "AWS_CONFIG_FILE": str(file)}
    with ScriptedPlatform(variables) as platform:
        telemetry, following = platform.begin()
        following.invoke("r1")
        telemetry.sendall(LINES)
        server.wait_for_requests(1)
        platform.expect(NEXT).shutdown()
        platform.finish()
        assert platform.ledger()["sinks"]["stream"]["delivered"]["lines"] == 20
        (chosen,) = platform.log("aws_client_chosen")
    assert chosen["client"] == "aiobotocore"
    assert "AWS_PROFILE" in chosen["reason"]


@pytest.mark.parametrize("why", ["no one listens", "no answer"])
def test_lines_of_a_sink_that_never_delivered_are_printed_at_the_end(
    server: KinesisServer, why: str
) -> None:
    server.otherwise = Hang()
    with reserved() as port:
        url = server.url if why == "no answer" else f"http://127.0.0.1:{port}"
        ledger, printed = one_invocation(sink(url, LAMBDA__LAST_RESORT="print"))
    assert b"".join(printed) == LINES
    account, last = ledger["sinks"]["stream"], ledger["sinks"]["last_resort"]
    assert account["failed_over"]["lines"] == 20
    assert last["delivered"]["lines"] == 20
    assert ledger["balanced"]


def test_by_default_they_are_dropped_and_counted(server: KinesisServer) -> None:
    with reserved() as port:
        ledger, printed = one_invocation(sink(f"http://127.0.0.1:{port}"))
    assert printed == []
    assert list(ledger["sinks"]) == ["stream"]
    assert sum(each["lines"] for each in ledger["sinks"]["stream"]["dropped"].values()) == 20
    assert ledger["balanced"]


def test_a_failover_goes_before_the_last_resort(tmp_path: Path) -> None:
    with reserved() as port:
        keys = settings(
            LAMBDA__LAST_RESORT="print", SINKS__STREAM__FAILOVER="file",
            SINKS__FILE__TYPE="file", SINKS__FILE__PATH=tmp_path / "file",
            SINKS__FILE__EXCLUDE='["^"]',
        )  # fmt: skip
        ledger, printed = one_invocation(sink(f"http://127.0.0.1:{port}") | keys)
    assert printed == []
    assert (tmp_path / "file").read_bytes() == LINES
    assert ledger["sinks"]["last_resort"]["offered"]["lines"] == 0
    assert ledger["balanced"]


def test_a_sink_that_has_delivered_prints_nothing(server: KinesisServer) -> None:
    variables = sink(server.url, LAMBDA__LAST_RESORT="print")
    with ScriptedPlatform(variables, stdout=subprocess.PIPE) as platform:
        telemetry, following = platform.begin()
        following.invoke("r1")
        telemetry.sendall(LINES)
        server.wait_for_requests(1)
        server.otherwise = Hang()
        following = platform.expect(NEXT)
        telemetry.sendall(b'{"type":"function","record":"late"}\n')
        server.wait_for_requests(2)
        following.shutdown(6.0)
        platform.finish()
        ledger = platform.ledger()
        assert platform.process.stdout is not None
        assert platform.process.stdout.read() == b""
    assert ledger["sinks"]["stream"]["delivered"]["lines"] == 20
    assert ledger["balanced"]
    assert json.dumps(ledger["sinks"]["stream"]["dropped"]) != "{}"
