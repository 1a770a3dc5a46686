"""The OTLP sink against a server over real sockets: what each answer means, and what is sent."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from helpers.collector_server import CollectorServer, Raw, Say, Step, no_proxies
from helpers.otlp_server import PROTOBUF, OtlpServer, attributes, response
from telemetryd import __version__
from telemetryd.errors import PermanentSinkError, SinkError, TransientSinkError
from telemetryd.sinks.base import Batch, Failure, WriteResult
from telemetryd.sinks.otlp.config import OtlpConfig
from telemetryd.sinks.otlp.items import LogItem
from telemetryd.sinks.otlp.sink import OtlpSink
from telemetryd.testing import LogBook, Rig, block, context
from telemetryd.testing.rig import dead_letter_at
from telemetryd_proto.framing import Block

FAR = 1e9
OK = {"Content-Type": PROTOBUF}


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    no_proxies(monkeypatch)
    for name in list(os.environ):
        if name.startswith(("OTEL_", "AWS_")):
            monkeypatch.delenv(name)


@pytest.fixture
def server() -> Iterator[OtlpServer]:
    with OtlpServer() as server:
        yield server
        assert server.violations == []


def config_of(server: CollectorServer, **keys: Any) -> OtlpConfig:
    base = f"http://127.0.0.1:{server.port}"
    return msgspec.convert({"type": "otlp", "endpoint": base, "linger_ms": 0, **keys}, OtlpConfig)


def deliver(
    server: OtlpServer, blocks: list[Block], letters: Path | None = None, **keys: Any
) -> Rig:
    """Send blocks through a worker, until all are settled."""
    config = config_of(server, **keys)
    letter = None if letters is None else dead_letter_at(letters)
    log = LogBook()
    rig = Rig(OtlpSink(config, context(log)), config, log=log, dead_letter=letter)

    async def scenario() -> None:
        rig.worker.start()
        rig.offer(blocks)
        await rig.flush()
        await rig.stop()

    asyncio.run(scenario())
    if letter is not None:
        letter.close()
    rig.check_end()
    assert rig.log.facts("sink_bug") == []
    return rig


def write(server: OtlpServer, items: list[LogItem] | None = None, **keys: Any) -> WriteResult:
    """The outcome of one write."""

    async def scenario() -> WriteResult:
        sink = OtlpSink(config_of(server, **keys), context())
        batch = Batch("b", tuple(items or [LogItem(b"1\n", 1, 2)]))
        try:
            return await sink.write(batch, attempt=1, deadline=FAR)
        finally:
            await sink.close()

    return asyncio.run(scenario())


def refusal(server: OtlpServer, step: Step, **keys: Any) -> SinkError:
    """The error that one answer makes of a write."""
    server.script = [step]
    with pytest.raises(SinkError) as caught:
        write(server, **keys)
    return caught.value


# -- answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code"),
    [(429, "throttled"), (502, "server_error"), (503, "server_error"), (504, "server_error")],
)
def test_answers_that_are_tried_again(server: OtlpServer, status: int, code: str) -> None:
    error = refusal(server, Say(status, {"Retry-After": "7"}))
    assert isinstance(error, TransientSinkError)
    assert (error.code, error.retry_after) == (code, 7.0)
    assert f"127.0.0.1:{server.port} answered {status}" in error.detail


@pytest.mark.parametrize(
    ("status", "code", "stops"),
    [
        (301, "redirected", True), (307, "redirected", True), (400, "invalid_request", False),
        (422, "invalid_request", False), (413, "too_large", False),
        (401, "credentials_refused", True), (403, "access_denied", True),
        (404, "not_found", True), (405, "not_found", True), (415, "unsupported_media_type", True),
        (408, "refused", True), (500, "server_error", True), (501, "server_error", True),
    ],
)  # fmt: skip
def test_answers_that_are_final(server: OtlpServer, status: int, code: str, stops: bool) -> None:
    """A redirect is not followed: the one request is all that is sent."""
    error = refusal(server, Say(status, {"Location": server.url}, b"secret text"))
    assert isinstance(error, PermanentSinkError)
    assert (error.code, error.stops_sink) == (code, stops)
    assert "secret" not in str(error)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "step",
    [
        Say(200), Say(200, OK), Say(204), Say(202, body=b" \n"), Say(200, OK, response(0, "hm")),
        Say(200, {"Content-Type": "application/json; charset=utf-8"}, b"{}"),
        Say(200, {"Content-Type": "application/json"}, b'{"partialSuccess":{}}'),
        Say(200, {"Content-Type": "text/plain; charset=utf-8"}, b'{"partialSuccess":{}}'),
        Say(200, {}, b"{}"),
    ],
)  # fmt: skip
def test_answers_that_accept_all(server: OtlpServer, step: Say) -> None:
    server.script = [step]
    assert write(server) == WriteResult()


@pytest.mark.parametrize(
    "step",
    [
        Say(200, {"Content-Type": "text/html"}, b"\n<!DOCTYPE html><title>Sign in</title>"),
        Say(200, OK, b"ok"), Say(200, {}, b"accepted"), Say(200, OK, response(1)[:-1]),
        Say(200, {"Content-Type": "application/json"}, b"[]"),
        Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"),
    ],
)  # fmt: skip
def test_an_answer_of_something_else_is_tried_again(server: OtlpServer, step: Step) -> None:
    error = refusal(server, step)
    assert isinstance(error, TransientSinkError)
    assert error.code == "garbled_answer"


# -- partial success -----------------------------------------------------------------------------


@pytest.mark.parametrize("message", ["", "three were bad"])
def test_rejected_records_are_counted_and_not_sent_again(
    server: OtlpServer, tmp_path: Path, message: str
) -> None:
    """Which lines they are is not said, so none is kept elsewhere."""
    server.script = [Say(200, OK, response(3, message), accept=True)]
    lines = [b"line %d" % number for number in range(10)]
    rig = deliver(server, [block(*lines)], tmp_path / "letters.ndjson")
    assert rig.lines() == {"delivered": 7, "dropped.partial": 3}
    assert len(server.requests) == 1
    assert (
        not (tmp_path / "letters.ndjson").exists() or not (tmp_path / "letters.ndjson").read_bytes()
    )
    (facts,) = rig.log.facts("records_refused")
    assert facts["records"] == 3
    assert "bad" not in json.dumps(facts)


@pytest.mark.parametrize("rejected", [40, 10**12])
def test_no_more_is_rejected_than_was_sent(server: OtlpServer, rejected: int) -> None:
    server.script = [Say(200, OK, response(rejected), accept=True)]
    rig = deliver(server, [block(*[b"x" * 9000 for _ in range(4)]), block(b"y")])
    assert sum(rig.lines().values()) == 5
    assert rig.lines()["dropped.partial"] >= 4


def test_rejected_records_beside_lines_that_were_refused(server: OtlpServer) -> None:
    """The refused line is told apart; the rejected ones are among the others."""
    server.refused = b"poison"
    server.script = [None, None, None, None, Say(200, OK, response(1), accept=True)]
    lines = block(b"a", b"poison", b"b", b"c")
    result = write(server, [LogItem(lines.data, 4, lines.size)])
    parts = [(each.code, each.part and each.part.payload) for each in result.failures]
    assert parts == [("invalid_request", b"poison\n"), ("partial", b"")]
    assert len(server.requests) == 5


# -- refused lines -------------------------------------------------------------------------------


def test_neighbours_of_a_refused_line_are_delivered(server: OtlpServer, tmp_path: Path) -> None:
    server.refused = b"poison"
    lines = [b"line %d" % number for number in range(200)]
    lines[77] = b"poison"
    letters = tmp_path / "letters.ndjson"
    rig = deliver(server, [block(*lines)], letters)
    assert rig.lines() == {"delivered": 199, "dead_lettered": 1}
    assert "poison" in letters.read_text()
    assert server.lines == b"".join(line + b"\n" for line in lines if line != b"poison")
    assert len(server.requests) < 40


def test_a_line_in_a_part_is_of_the_same_invocation(server: OtlpServer) -> None:
    server.refused = b"poison"
    request = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
    begun = b'{"type":"platform.start","record":{"requestId":"%s"}}' % request.encode()
    lines = [b"before", begun, *[b"line %d" % number for number in range(20)], b"poison", b"end"]
    deliver(server, [block(*lines)])
    found = {
        record.body.string_value: attributes(record).get("faas.invocation_id")
        for record in server.records
    }
    assert found.pop("before") is None
    assert set(found.values()) == {request}
    assert {"line 0", "line 19", "end"} <= found.keys()


def test_what_is_too_large_for_the_server_is_sent_in_parts(server: OtlpServer) -> None:
    server.max_body = 4000
    lines = [b"%d" % number + b"x" * 300 for number in range(100)]
    lines[50] = b"y" * 5000
    rig = deliver(server, [block(*lines)])
    assert rig.lines() == {"delivered": 99, "dropped.too_large": 1}
    assert server.lines == b"".join(line + b"\n" for line in lines if line[:1] != b"y")


def test_a_request_has_at_most_ten_thousand_records(server: OtlpServer) -> None:
    lines = [b"%d" % number for number in range(25_000)]
    rig = deliver(server, [block(*lines)])
    assert rig.lines() == {"delivered": 25_000}
    assert len(server.requests) == 3
    assert server.lines == b"".join(line + b"\n" for line in lines)


# -- what is sent --------------------------------------------------------------------------------


def test_a_request_names_who_sends_it(server: OtlpServer) -> None:
    write(server, token="s3cret", headers={"X-Tenant": "a"}, compression="gzip")  # noqa: S106
    (request,) = server.requests
    assert request.headers["user-agent"] == f"telemetryd/{__version__}"
    assert request.headers["authorization"] == "Bearer s3cret"
    assert request.headers["x-tenant"] == "a"
    assert request.headers["content-encoding"] == "gzip"
    (group,) = server.exports[0].resource_logs
    (scope,) = group.scope_logs
    assert (scope.scope.name, scope.scope.version) == ("telemetryd", __version__)


def test_the_environment_says_where_requests_go(
    server: OtlpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.base)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a%20b")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "orders")
    write(server, endpoint="")
    assert server.requests[0].headers["x-tenant"] == "a b"
    assert server.resource() == {"service.name": "orders"}


def test_json_is_an_option() -> None:
    with OtlpServer(as_json=True) as server:
        write(server, protocol="http/json")
        assert [record.body.string_value for record in server.records] == ["1"]
        assert server.violations == []


def test_the_resource_learns_from_events(
    server: OtlpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "AWS_LAMBDA_FUNCTION_NAME": "orders", "AWS_LAMBDA_FUNCTION_VERSION": "3",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128", "AWS_REGION": "eu-west-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    stream = "2026/03/14/[3]0123456789abcdef"
    arn = "arn:aws:lambda:eu-west-1:123456789012:function:orders"
    events = [
        {"type": "platform.initStart", "record": {"instanceId": stream}},
        {"type": "platform.start", "record": {"requestId": "r", "functionArn": f"{arn}:live"}},
        {"type": "platform.start", "record": "odd"},
    ]
    deliver(server, [block(*(json.dumps(event).encode() for event in events))])
    assert server.resource() == {
        "service.name": "orders", "faas.name": "orders", "faas.version": "3",
        "faas.instance": stream, "faas.max_memory": 134217728, "cloud.provider": "aws",
        "cloud.platform": "aws_lambda", "cloud.region": "eu-west-1",
        "cloud.account.id": "123456789012", "cloud.resource_id": arn,
        "aws.log.group.names": ["/aws/lambda/orders"], "aws.log.stream.names": [stream],
    }  # fmt: skip


def test_an_invocation_continues_in_the_next_batch(server: OtlpServer) -> None:
    begun = b'{"type":"platform.start","record":{"requestId":"r-1"}}'
    deliver(server, [block(begun)], batch_max_bytes=1024)
    deliver(server, [block(begun), block(b"x" * 2000), block(b"y")], batch_max_bytes=1024)
    ids = [attributes(record).get("faas.invocation_id") for record in server.records]
    assert ids == ["r-1"] * 4


def test_a_probe_sends_a_request_without_records(server: OtlpServer) -> None:
    async def probe() -> str:
        sink = OtlpSink(config_of(server), context())
        try:
            return await sink.probe()
        finally:
            await sink.close()

    assert "takes a request without logs" in asyncio.run(probe())
    assert server.records == []
    server.script = [Say(400)]
    assert "is unknown" in asyncio.run(probe())
    server.script = [Say(403)]
    with pytest.raises(PermanentSinkError, match="access_denied"):
        asyncio.run(probe())


# -- AWS -----------------------------------------------------------------------------------------

AWS: dict[str, Any] = {
    "auth": "sigv4",
    "log_group": "telemetry",
    "log_stream": "orders",
    "region": "eu-west-1",
}
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"  # noqa: S105 - an example of AWS's


@pytest.fixture
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": "a token",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("_keys")
def test_requests_are_signed_as_botocore_signs_them(
    server: OtlpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(server, **AWS)
    (request,) = server.requests
    headers = request.headers
    assert (headers["x-aws-log-group"], headers["x-aws-log-stream"]) == ("telemetry", "orders")
    signed = headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    assert {"host", "content-type", "x-aws-log-group", "x-aws-log-stream"} <= set(signed)
    at = datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    monkeypatch.setattr(auth, "get_current_datetime", lambda: at)
    own = {"authorization", "x-amz-date", "x-amz-security-token"}
    theirs = AWSRequest(
        "POST", server.url, data=request.body,
        headers={name: headers[name] for name in signed if name not in own},
    )  # fmt: skip
    known = Credentials("AKIDEXAMPLE", SECRET, "a token")
    auth.SigV4Auth(known, "logs", "eu-west-1").add_auth(theirs)
    assert theirs.headers["Authorization"] == headers["authorization"]


@pytest.mark.usefixtures("_keys")
def test_expired_credentials_are_read_again_once(server: OtlpServer) -> None:
    expired = Say(403, body=b'{"message":"ExpiredTokenException"}')
    assert isinstance(refusal(server, expired, **AWS), TransientSinkError)
    denied = refusal(server, Say(403, body=b'{"message":"not authorized"}'), **AWS)
    assert (denied.code, isinstance(denied, PermanentSinkError)) == ("access_denied", True)

    async def twice() -> list[str]:
        sink = OtlpSink(config_of(server, **AWS), context())
        codes = []
        server.script = [expired, expired, None]
        for _ in range(2):
            with pytest.raises(SinkError) as caught:
                await sink.write(Batch("b", (LogItem(b"1\n", 1, 2),)), attempt=1, deadline=FAR)
            codes.append(caught.value.code)
        await sink.write(Batch("b", (LogItem(b"1\n", 1, 2),)), attempt=1, deadline=FAR)
        await sink.close()
        return codes

    assert asyncio.run(twice()) == ["credentials_expired", "credentials_refused"]


@pytest.mark.usefixtures("_keys")
def test_a_clock_that_is_wrong_is_corrected(server: OtlpServer) -> None:
    async def scenario() -> WriteResult:
        sink = OtlpSink(config_of(server, **AWS), context())
        batch = Batch("b", (LogItem(b"1\n", 1, 2),))
        server.script = [Say(403, {"Date": "Sun, 06 Nov 1994 08:49:37 GMT"})]
        with pytest.raises(TransientSinkError, match="clock_skew"):
            await sink.write(batch, attempt=1, deadline=FAR)
        result = await sink.write(batch, attempt=2, deadline=FAR)
        await sink.close()
        return result

    assert asyncio.run(scenario()) == WriteResult()
    assert server.requests[1].headers["x-amz-date"].startswith("19941106T0849")


def test_without_credentials_or_region_nothing_is_sent(
    server: OtlpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PermanentSinkError, match="no_credentials"):
        write(server, **AWS)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    with pytest.raises(PermanentSinkError, match="no_region"):
        write(server, **{**AWS, "region": "", "endpoint": ""})
    assert server.requests == []


def test_by_default_requests_go_to_the_endpoint_of_the_region(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from telemetryd.sinks.aws.posting import AwsEndpoint

    for service in ("logs", "monitoring", "xray"):
        made = AwsEndpoint(service, "/v1/x", context(), {}, region="eu-west-1", place=None)
        place = made.place()
        assert (place.host, place.target) == (f"{service}.eu-west-1.amazonaws.com", "/v1/x")


def test_a_line_as_long_as_lambda_takes_is_sent(server: OtlpServer) -> None:
    server.max_body = 20 << 20
    rig = deliver(server, [block(b"x" * (1 << 20))])
    assert rig.lines() == {"delivered": 1}


def test_the_largest_body_by_default() -> None:
    for keys, size in (
        ({}, 4 << 20),
        (AWS, 1_000_000),
        ({**AWS, "max_body_bytes": 1 << 20}, 1 << 20),
    ):
        config = msgspec.convert({"type": "otlp", **keys}, OtlpConfig)
        assert config.most_request_bytes == config.most_line_bytes == size


# -- imports -------------------------------------------------------------------------------------


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; from telemetryd.sinks.registry import sink_class; sink_class('otlp');"
        "print(*sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert loaded.isdisjoint(
        {"google.protobuf", "opentelemetry", "aiohttp", "hashlib", "aiobotocore"}
    )
    assert loaded.isdisjoint({"telemetryd.sinks.http", "telemetryd.http_client.client"})
    assert "telemetryd.sinks.aws.posting" not in loaded


def test_failures_have_each_item_once(server: OtlpServer) -> None:
    server.script = [Say(200, OK, response(1), accept=True)]
    result = write(server, [LogItem(b"1\n", 1, 2), LogItem(b"2\n3\n", 2, 4)])
    (failure,) = result.failures
    assert isinstance(failure, Failure)
    assert (failure.index, failure.code, failure.retryable) == (1, "partial", False)
    assert failure.part is not None
    assert (failure.part.lines, failure.part.size) == (1, 2)
