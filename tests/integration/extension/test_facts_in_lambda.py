"""Tags, fields and rows in the extension: from its environment, and from events of the platform."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from helpers.lifecycle import Stage, play, settings, statuses, until
from helpers.otlp_server import OtlpServer
from helpers.scripted_platform import NEXT, ScriptedPlatform, file_sink, line, runtime_done
from telemetryd_proto.flat import FlatLine

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:orders"
ROOT = "1-69b539d1-5f2a0c1b7d3e4a6f8b9c0d1e"
FIELDS = "region,memory_mb,account,function_arn,runtime,cold_start,tenant_id,xray_trace_id"


def event(kind: str, record: dict[str, Any]) -> bytes:
    body = {"time": "2026-03-14T10:15:29.671Z", "type": kind, "record": record}
    return json.dumps(body).encode() + b"\n"


INIT = event(
    "platform.initStart", {"initializationType": "on-demand", "runtimeVersion": "python:3.13.v71"}
)
START = event(
    "platform.start",
    {
        "requestId": "r1", "functionArn": ARN, "tenantId": "blue",
        "tracing": {"value": f"Root={ROOT};Parent=7a6b5c4d3e2f1a0b;Sampled=1"},
    },
)  # fmt: skip


def test_lines_say_what_the_environment_and_the_platform_say(tmp_path: Path) -> None:
    raw, flat = tmp_path / "raw", tmp_path / "flat"
    variables = settings(
        SINKS__RAW__TYPE="file", SINKS__RAW__PATH=raw, SINKS__RAW__FIELDS=FIELDS,
        SINKS__FLAT__TYPE="file", SINKS__FLAT__PATH=flat, SINKS__FLAT__FORMAT="flat",
        TAGS__STAGE="test", FLUSH__STRATEGY="invocation",
    )  # fmt: skip
    variables |= {"AWS_REGION": "eu-west-1", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512"}
    with ScriptedPlatform(variables) as platform:
        telemetry, first = platform.begin()
        first.invoke("r1")
        telemetry.sendall(INIT + START + line(1) + runtime_done("r1"))
        second = platform.expect(NEXT)
        until(lambda: all(each.exists() and each.read_bytes().count(b"\n") == 4
                          for each in (raw, flat)))  # fmt: skip
        second.shutdown()
        platform.finish()
        pages = platform.ledger()["sinks"]
    log = json.loads(raw.read_bytes().splitlines()[2])
    assert log == json.loads(line(1)) | {
        "stage": "test", "region": "eu-west-1", "memory_mb": 512, "account": "123456789012",
        "function_arn": ARN, "runtime": "python:3.13.v71", "cold_start": True,
        "tenant_id": "blue", "xray_trace_id": ROOT,
    }  # fmt: skip
    rows = [msgspec.json.decode(each, type=FlatLine) for each in flat.read_bytes().splitlines()]
    assert [row.message for row in rows] == [None, None, "line 1", None]
    assert [row.request_id for row in rows] == [None, "r1", "r1", "r1"]
    assert (rows[2].trace_id, rows[2].tags) == (ROOT[2:].replace("-", ""), '{"stage":"test"}')
    assert rows[3].status == "success"
    for page in pages.values():
        assert page["delivered"]["lines"] == 4


def test_the_account_is_known_from_the_first_line(tmp_path: Path) -> None:
    """A local Lambda tells it when the extension registers."""
    stage = Stage(tmp_path)
    fields = settings(SINKS__FILE__FIELDS="account")
    results, env = play(stage.config(fields, account_id="210987654321"), {"print": 2})
    assert statuses(results) == ["success"]
    events = stage.arrived("platform")
    assert events[0]["type"] == "platform.initStart"
    assert {event.get("account") for event in events} == {"210987654321"}
    assert {event.get("account") for event in stage.arrived("function")} == {"210987654321"}
    stage.assert_clean_exits(env)


@pytest.mark.parametrize(
    ("told", "known"),
    [
        ("210987654321", "210987654321"),
        (None, None),
        ("", None),
        ("21098765432", None),
        ("2109876543210", None),
        ("21098765432x", None),
        ("\u0662" * 12, None),
    ],
)
def test_without_an_account_nothing_is_added(
    tmp_path: Path, told: str | None, known: str | None
) -> None:
    """Nor with what is none: 12 digits are one. No event tells it here."""
    variables = file_sink(tmp_path / "f") | settings(
        SINKS__FILE__FIELDS="account",
        SINKS__OTLP__TYPE="otlp",
        REGISTERED='{"accountId":"111122223333"}',  # as if a launcher had set it
    )
    variables["AWS_LAMBDA_FUNCTION_NAME"] = "orders"
    with OtlpServer() as server:
        variables |= settings(SINKS__OTLP__ENDPOINT=server.base)
        with ScriptedPlatform(variables, account=told) as platform:
            telemetry, call = platform.begin()
            telemetry.sendall(line(1))
            call.shutdown()
            platform.finish()
            platform.ledger()
        assert server.resource().get("cloud.account.id") == known
        assert server.resource()["faas.name"] == "orders"
    added = {"account": known} if known else {}
    assert json.loads((tmp_path / "f").read_bytes()) == json.loads(line(1)) | added


@pytest.mark.parametrize(
    ("answer", "known"),
    [
        pytest.param(b'{"accountId" : "210987654321"}', True, id="blanks"),
        pytest.param(
            b'{\r\n\t"handler": "",\n\t"accountId"\n:\t"210987654321"}\n', True, id="lines"
        ),
        pytest.param(b'{"account\\u0049d":"21098765432\\u0031"}', True, id="escapes"),
        pytest.param(
            b'{"handler":"\\"accountId\\":\\"111122223333\\"","by":{"accountId":"111122223333"},'
            b'"accountId": "210987654321","function":"accountId"}',
            True,
            id="look-alikes",
        ),
        pytest.param(b'{"by":{"accountId":"210987654321"}}', False, id="of another object"),
        pytest.param(b'{"handler":7,"accountId":210987654321}', False, id="number"),
        pytest.param(b'["accountId","210987654321"]', False, id="no object"),
        pytest.param(b'{"accountId":"210987654321"', False, id="no JSON"),
        pytest.param(b'{"handler":"\xff","accountId":"210987654321"}', False, id="not UTF-8"),
        pytest.param(b"", False, id="nothing"),
    ],
)
def test_the_account_is_read_from_any_json(tmp_path: Path, answer: bytes, *, known: bool) -> None:
    """As the answer to `register` may be written. What is none costs nothing else."""
    variables = file_sink(tmp_path / "f") | settings(SINKS__FILE__FIELDS="account")
    with ScriptedPlatform(variables) as platform:
        telemetry, call = platform.begin(answer)
        telemetry.sendall(line(1))
        call.shutdown()
        platform.finish()
        platform.ledger()
    added = {"account": "210987654321"} if known else {}
    assert json.loads((tmp_path / "f").read_bytes()) == json.loads(line(1)) | added
