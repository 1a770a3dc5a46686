"""PutRecords as the Kinesis sink calls it: limits, partial failures, errors, bad servers."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

import msgspec
import pytest

from helpers.kinesis_server import (
    Error,
    Hang,
    KinesisServer,
    Raw,
    Refuse,
    Reset,
    Step,
    environment,
)
from telemetryd.delivery.dead_letter import DeadLetter
from telemetryd.errors import PermanentSinkError, SinkError, TransientSinkError
from telemetryd.sinks.base import DELIVERED, Batch, Failure, Item, WriteResult
from telemetryd.sinks.kinesis.sink import KinesisSink
from telemetryd.testing import LogBook, Rig, batch_of, block, context, data_of, dead_letter_at
from telemetryd_proto.framing import Block
from telemetryd_proto.kinesis import decode, unwrap

pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")

T = TypeVar("T")
CLIENT = "auto"
ARN = "arn:aws:kinesis:us-east-2:123456789012:stream/telemetry"
THROTTLED = "ProvisionedThroughputExceededException"
REFUSALS = {
    "AccessDeniedException": "access_denied",
    "ResourceNotFoundException": "not_found",
    "KMSAccessDeniedException": "kms_key_unusable",
    "KMSDisabledException": "kms_key_unusable",
    "KMSInvalidStateException": "kms_key_unusable",
    "KMSNotFoundException": "kms_key_unusable",
    "KMSOptInRequired": "kms_key_unusable",
    "InvalidSignatureException": "credentials_refused",
    "IncompleteSignature": "credentials_refused",
    "InvalidArgumentException": "invalid_request",
    "ValidationException": "invalid_request",
    "SomethingNewException": "invalid_request",
}
LINES = [block(b"%d" % number) for number in range(6)]


@pytest.fixture(autouse=True, params=["aiobotocore", "lean"])
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test is true of both clients."""
    monkeypatch.setattr(sys.modules[__name__], "CLIENT", request.param)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[KinesisServer]:
    with KinesisServer() as server:
        environment(monkeypatch, server)
        yield server
        assert server.violations == []


def sink(log: LogBook | None = None, **keys: Any) -> KinesisSink:
    keys = {"type": "kinesis", "stream": "telemetry", "linger_ms": 0, "client": CLIENT, **keys}
    return KinesisSink(msgspec.convert(keys, KinesisSink.Config), context(log))


def rig_of(log: LogBook | None = None, dead_letter: DeadLetter | None = None, **keys: Any) -> Rig:
    log = log or LogBook()
    subject = sink(log, **keys)
    return Rig(subject, subject._config, log=log, dead_letter=dead_letter)


def use(subject: KinesisSink, scenario: Callable[[KinesisSink], Awaitable[T]]) -> T:
    async def all_of_it() -> T:
        await subject.open()
        try:
            return await scenario(subject)
        finally:
            await subject.close()

    return asyncio.run(all_of_it())


async def write(subject: KinesisSink, blocks: list[Block]) -> WriteResult:
    return await subject.write(batch_of(subject, blocks), attempt=1, deadline=0.0)


def write_once(subject: KinesisSink, blocks: list[Block]) -> WriteResult:
    return use(subject, lambda opened: write(opened, blocks))


def error_of(subject: KinesisSink, blocks: list[Block] = LINES) -> SinkError:
    with pytest.raises(SinkError) as caught:
        write_once(subject, blocks)
    return caught.value


def accepted_lines(server: KinesisServer) -> bytes:
    return b"".join(unwrap(put.data)[1] for put in server.accepted)


# -- what is sent --------------------------------------------------------------------------------


def test_the_request_names_stream_key_and_hash_key(server: KinesisServer) -> None:
    subject = sink(partition_key="function", explicit_hash_key="12", packing="single")
    assert write_once(subject, LINES) == DELIVERED
    (request,) = server.requests
    assert request.target == "Kinesis_20131202.PutRecords"
    assert request.put.stream_name == "telemetry"
    assert request.put.stream_arn is None
    assert {(put.partition_key, put.explicit_hash_key) for put in request.put.records} == {
        ("orders", "12")
    }
    assert [put.data for put in request.put.records] == [each.data for each in LINES]


def test_a_stream_by_arn_brings_its_region(server: KinesisServer) -> None:
    write_once(sink(stream=ARN), LINES)
    (request,) = server.requests
    assert request.put.stream_arn == ARN
    assert request.put.stream_name is None
    assert "/us-east-2/kinesis/aws4_request" in request.headers["authorization"]


@pytest.mark.parametrize(
    ("variables", "keys", "region"),
    [
        ({}, {}, "eu-west-1"),
        ({"AWS_DEFAULT_REGION": "", "AWS_REGION": "ap-south-1"}, {}, "ap-south-1"),
        ({}, {"region": "sa-east-1"}, "sa-east-1"),
    ],
)
def test_the_region_is_the_configured_or_the_environments(
    server: KinesisServer,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    keys: dict[str, Any],
    region: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
    write_once(sink(**keys), LINES)
    assert f"/{region}/kinesis/" in server.requests[0].headers["authorization"]


def test_the_endpoint_can_be_configured(
    server: KinesisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_KINESIS", "http://127.0.0.1:1")
    assert write_once(sink(endpoint_url=server.url), LINES) == DELIVERED


@pytest.mark.parametrize(
    ("variables", "endpoint"),
    [
        ({}, "https://kinesis.eu-west-1.amazonaws.com"),
        ({"AWS_USE_FIPS_ENDPOINT": "true"}, "https://kinesis-fips.eu-west-1.amazonaws.com"),
        ({"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "https://kinesis.eu-west-1.api.aws"),
        ({"AWS_DEFAULT_REGION": "cn-north-1"}, "https://kinesis.cn-north-1.amazonaws.com.cn"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:7"}, "http://127.0.0.1:7"),
    ],
)
def test_endpoints_are_those_of_any_aws_tool(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], endpoint: str
) -> None:
    environment(monkeypatch)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    async def endpoint_of(subject: KinesisSink) -> str:
        return subject._client.endpoint

    assert use(sink(), endpoint_of) == endpoint


def test_a_proxy_is_used(server: KinesisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url)
    monkeypatch.delenv("AWS_ENDPOINT_URL_KINESIS")
    subject = sink(endpoint_url="http://kinesis.example.invalid")
    assert write_once(subject, LINES) == DELIVERED
    assert server.requests[0].headers["host"] == "kinesis.example.invalid"


def test_no_call_exceeds_the_limits(server: KinesisServer) -> None:
    subject = sink(packing="single", max_record_bytes=4096, max_request_bytes=8192)
    blocks = [block(*(b"x" * 1000 for _ in range(20))), block(*(b"y" for _ in range(1100)))]
    assert write_once(subject, blocks) == DELIVERED
    assert accepted_lines(server) == data_of(blocks)
    for request in server.requests:
        records = request.put.records
        assert len(records) <= 500
        assert sum(len(put.data) + len(put.partition_key) for put in records) <= 8192
    assert len(server.requests) > 20 * 1000 // 8192


def test_full_batches_of_noise_keep_to_the_default_limits(server: KinesisServer) -> None:
    line = base64.b64encode(bytes(range(256)) * 3)
    blocks = [block(*(line for _ in range(250))) for _ in range(24)]  # 6 MiB
    assert write_once(sink(), blocks) == DELIVERED
    assert accepted_lines(server) == data_of(blocks)
    assert len(server.requests) == 2


# -- partial failures ------------------------------------------------------------------------------


def deliver(server: KinesisServer, *steps: Step, **keys: Any) -> tuple[Rig, LogBook]:
    server.script[:] = steps
    log = LogBook()
    subject = sink(log, packing="single", **keys)
    rig = Rig(subject, subject._config, log=log)

    async def scenario() -> None:
        rig.worker.start()
        rig.offer(LINES)
        await rig.flush()
        await rig.stop()

    asyncio.run(scenario())
    rig.check_end()
    return rig, log


def test_only_refused_records_are_sent_again_in_order(server: KinesisServer) -> None:
    rig, log = deliver(
        server,
        Refuse({0: THROTTLED, 3: "InternalFailure", 4: THROTTLED}),
        Refuse({1: THROTTLED}),
    )
    assert rig.lines() == {"delivered": 6}
    sent = [[put.data for put in request.put.records] for request in server.requests]
    assert sent == [
        [b"0\n", b"1\n", b"2\n", b"3\n", b"4\n", b"5\n"],
        [b"0\n", b"3\n", b"4\n"],
        [b"3\n"],
    ]
    assert log.facts("records_refused")[0]["codes"] == "server_error,throttled"


def test_codes_of_records_are_told_apart(server: KinesisServer) -> None:
    server.script = [
        Refuse({0: THROTTLED, 1: "InternalFailure", 2: "Novelty", 3: "InvalidArgumentException"})
    ]
    assert write_once(sink(packing="single"), LINES).failures == (
        Failure(0, "throttled", retryable=True),
        Failure(1, "server_error", retryable=True),
        Failure(2, "record_refused", retryable=True),
        Failure(3, "invalid_request", retryable=False),
    )


def test_a_wrong_count_of_failures_is_no_matter(server: KinesisServer) -> None:
    server.script = [Refuse({0: THROTTLED, 5: THROTTLED}, count=1)]
    failures = write_once(sink(packing="single"), LINES).failures
    assert [failure.index for failure in failures] == [0, 5]


def test_a_line_too_large_is_refused_unsent_with_its_reason(
    server: KinesisServer, tmp_path: Any
) -> None:
    log = LogBook()
    letters = tmp_path / "letters"
    dead_letter = dead_letter_at(letters, log)
    subject = sink(log, max_record_bytes=1024, max_request_bytes=1024)
    rig = Rig(subject, subject._config, log=log, dead_letter=dead_letter)

    async def scenario() -> None:
        rig.worker.start()
        rig.offer([block(b"before"), block(b"x" * 2000), block(b"after")])
        await rig.flush()
        await rig.stop()

    asyncio.run(scenario())
    dead_letter.close()
    assert rig.lines() == {"delivered": 2, "dead_lettered": 1}
    assert b'"record_too_large"' in letters.read_bytes()
    assert accepted_lines(server) == b"before\nafter\n"


# -- errors of a call ------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "reason"), REFUSALS.items())
def test_permanent_errors(server: KinesisServer, code: str, reason: str) -> None:
    server.otherwise = Error(400, code, "because of this")
    error = error_of(sink())
    assert isinstance(error, PermanentSinkError)
    assert error.code == reason
    assert code in error.detail
    assert "because of this" in error.detail


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (Error(400, THROTTLED), "throttled"),
        (Error(400, "LimitExceededException"), "throttled"),
        (Error(400, "KMSThrottlingException"), "throttled"),
        (Error(400, "ThrottlingException"), "throttled"),
        (Error(429, "Whatever"), "throttled"),
        (Error(500, "InternalFailure"), "server_error"),
        (Error(400, "InternalFailureException"), "server_error"),
        (Error(503, "ServiceUnavailable"), "server_error"),
        (Raw(b"<html>Bad gateway</html>", 502), "server_error"),
        (Error(400, "RequestTimeTooSkewed"), "clock_skew"),
        (Error(400, "InvalidSignatureException", "Signature expired: ..."), "clock_skew"),
        (Raw(b"not json"), "garbled_answer"),
        (Raw(b"[]"), "garbled_answer"),
        (Raw(b"{}"), "garbled_answer"),
        (Raw(b'{"FailedRecordCount":0,"Records":[]}'), "garbled_answer"),
        (Raw(b'{"FailedRecordCount":1,"Records":[{"SequenceNumber":"1"}]}'), "garbled_answer"),
        (Raw(b'{"FailedRecordCount":0,"Records":["x"]}'), "garbled_answer"),
        (Raw(b'{"Records":{"0":{"SequenceNumber":"1"}}}'), "garbled_answer"),
        (Raw(b'{"Records":[{"SequenceNumber":"1"},{"SequenceNumber":"2"}]}'), "garbled_answer"),
        (Raw(b'{"FailedRecordCount":[],"Records":null}'), "garbled_answer"),
        (Raw(b"null"), "garbled_answer"),
        (Raw(b'"text"'), "garbled_answer"),
        (Raw(b"\xff\xfe"), "garbled_answer"),
        (Raw(b"[" * 200_000), "garbled_answer"),
        (Raw(b'{"Records":[' + b" " * 5_000_000 + b"]}"), "garbled_answer"),
        (Raw(b"<html>no</html>", 400), "garbled_answer"),
        (Raw(b"", 403), "garbled_answer"),
        (Raw(b'{"__type":[]}', 400), "garbled_answer"),
        (Raw(b"x" * 5_000_000, 400), "garbled_answer"),
        (Reset(), "connection_lost"),
    ],
)
def test_transient_errors(server: KinesisServer, step: Step, reason: str) -> None:
    server.otherwise = step
    error = error_of(sink())
    assert isinstance(error, TransientSinkError)
    assert error.code == reason
    assert len(server.requests) == 1  # botocore's own retries are off


def test_a_record_answered_with_nothing_is_sent_again(server: KinesisServer) -> None:
    server.script = [Raw(b'{"FailedRecordCount":0,"Records":[{"SequenceNumber":"1"},{}]}')]
    assert write_once(sink(packing="single"), LINES[:2]).failures == (
        Failure(1, "garbled_answer", retryable=True),
    )


@pytest.mark.parametrize(
    "result",
    [
        b"null", b"7", b"[]", b'"x"', b'{"SequenceNumber":7}', b'{"SequenceNumber":[""]}',
        b'{"SequenceNumber":null,"ErrorCode":null}', b'{"ErrorCode":{"a":[]}}',
        b'{"ErrorCode":["InvalidArgumentException"],"ErrorMessage":{}}', b'{"ShardId":"1"}',
    ],
)  # fmt: skip
def test_what_is_no_answer_for_a_record_is_sent_again_alone(
    server: KinesisServer, result: bytes
) -> None:
    server.script = [
        Raw(b'{"FailedRecordCount":"1","Records":[{"SequenceNumber":"1"},%b]}' % result)
    ]
    rig = rig_of(packing="single")

    async def scenario() -> None:
        rig.worker.start()
        rig.offer(LINES[:2])
        while not await rig.flush():  # noqa: ASYNC110 - a flush waits
            await asyncio.sleep(0)
        await rig.stop()

    asyncio.run(scenario())
    rig.check_end()
    assert rig.lines() == {"delivered": 2}
    assert rig.log.facts("sink_bug") == []


def test_the_service_can_ask_for_time(server: KinesisServer) -> None:
    server.otherwise = Error(503, "ServiceUnavailable", headers={"retry-after": "7"})
    error = error_of(sink())
    assert isinstance(error, TransientSinkError)
    assert error.retry_after == 7.0


@pytest.mark.parametrize("value", ["-5", "soon", "1e999"])
def test_absurd_wishes_are_not_followed(server: KinesisServer, value: str) -> None:
    server.otherwise = Error(503, "ServiceUnavailable", headers={"retry-after": value})
    error = error_of(sink())
    assert isinstance(error, TransientSinkError)
    assert 0.0 <= error.retry_after <= 60.0


def test_a_server_that_hangs(server: KinesisServer) -> None:
    server.otherwise = Hang()
    error = error_of(sink(read_timeout_ms=50))
    assert isinstance(error, TransientSinkError)
    assert error.code == "read_timeout"


def test_nobody_listens(server: KinesisServer) -> None:
    with server.down():
        error = error_of(sink())
    assert isinstance(error, TransientSinkError)
    assert error.code == "unreachable"


def test_a_host_without_address(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch)
    error = error_of(sink(endpoint_url="http://kinesis.example.invalid"))
    assert isinstance(error, TransientSinkError)
    assert error.code == "unreachable"


def test_a_failure_of_a_later_call_leaves_the_earlier_delivered(server: KinesisServer) -> None:
    subject = sink(packing="single", max_record_bytes=1024, max_request_bytes=1024)
    blocks = [block(b"%d" % number + b"x" * 400) for number in range(6)]  # two to a call
    server.script = [None, Error(400, "AccessDeniedException")]
    assert write_once(subject, blocks).failures == tuple(
        Failure(index, "access_denied", retryable=True) for index in (2, 3, 4, 5)
    )
    assert accepted_lines(server) == data_of(blocks[:2])


def test_a_call_made_invalid_by_one_record_costs_that_record(server: KinesisServer) -> None:
    real = server._violation

    def violation(put: Any) -> str:
        bad = any(record.data == b"3\n" for record in put.records)
        return "record 3 is too large" if bad else real(put)

    server._violation = violation  # type: ignore[method-assign]  # a rule of one test
    log = LogBook()
    result = write_once(sink(log, packing="single"), LINES)
    assert result.failures == (Failure(3, "invalid_request", retryable=False),)
    assert accepted_lines(server) == b"0\n1\n2\n4\n5\n"
    assert "record 3 is too large" in log.facts("records_refused")[0]["detail"]
    server.violations.clear()


def test_a_search_for_the_culprit_survives_other_failures(server: KinesisServer) -> None:
    server.script = [Error(400, "InvalidArgumentException"), None, Error(500, "InternalFailure")]
    assert write_once(sink(packing="single"), LINES).failures == tuple(
        Failure(index, "server_error", retryable=True) for index in (3, 4, 5)
    )


def test_a_search_for_the_culprit_ends_when_the_server_fails(server: KinesisServer) -> None:
    server.script = [Error(400, "InvalidArgumentException"), Error(500, "InternalFailure")]
    assert write_once(sink(packing="single"), LINES).failures == tuple(
        Failure(index, "server_error", retryable=True) for index in range(6)
    )
    assert len(server.requests) == 2


def test_when_every_record_is_invalid_the_calls_are_bounded(server: KinesisServer) -> None:
    server.otherwise = Error(400, "ValidationException", "no such thing")
    blocks = [block(*(b"%d" % number for number in range(400)))]
    error = error_of(sink(packing="single"), blocks)
    assert isinstance(error, PermanentSinkError)
    assert "no such thing" in error.detail
    assert len(server.requests) < 50


# -- credentials -----------------------------------------------------------------------------------


def test_expired_credentials_are_looked_up_anew_once(
    server: KinesisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script = [Error(400, "ExpiredTokenException")]

    async def scenario(subject: KinesisSink) -> None:
        batch = batch_of(subject, LINES)
        with pytest.raises(TransientSinkError) as caught:
            await subject.write(batch, attempt=1, deadline=0.0)
        assert caught.value.code == "credentials_expired"
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "renewed")
        assert await subject.write(batch, attempt=2, deadline=0.0) == DELIVERED
        # and again the next time they expire
        server.script = [Error(400, "ExpiredTokenException")]
        with pytest.raises(TransientSinkError):
            await subject.write(batch, attempt=1, deadline=0.0)

    use(sink(), scenario)
    assert [("=renewed/" in r.headers["authorization"]) for r in server.requests[:2]] == [
        False,
        True,
    ]


def test_credentials_of_a_container_are_used_and_renewed_when_they_expire(
    server: KinesisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ECS gives them, and Lambda with SnapStart, where the environment has none."""
    handed_out = 0
    tokens: list[str | None] = []

    class Credentials(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            nonlocal handed_out
            handed_out += 1
            tokens.append(self.headers["Authorization"])
            body = json.dumps(
                {
                    "AccessKeyId": f"container{handed_out}",
                    "SecretAccessKey": "secret",
                    "Token": "token",
                    "Expiration": "2099-01-01T00:00:00Z",
                }
            ).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    server.script = [None, Error(400, "ExpiredTokenException")]

    async def scenario(subject: KinesisSink) -> None:
        batch = batch_of(subject, LINES)
        assert await subject.write(batch, attempt=1, deadline=0.0) == DELIVERED
        with pytest.raises(TransientSinkError):
            await subject.write(batch, attempt=1, deadline=0.0)
        assert await subject.write(batch, attempt=2, deadline=0.0) == DELIVERED

    with HTTPServer(("127.0.0.1", 0), Credentials) as source:
        thread = Thread(target=source.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{source.server_port}/v1/credentials"
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "of-the-container")
        try:
            use(sink(), scenario)
        finally:
            source.shutdown()
            thread.join()
    used = [request.headers["authorization"].split("/")[0] for request in server.requests]
    assert [each.rpartition("=")[2] for each in used] == ["container1", "container1", "container2"]
    assert tokens == ["of-the-container"] * 2


def test_credentials_refused_twice_are_permanent_until_there_are_others(
    server: KinesisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.otherwise = Error(400, "UnrecognizedClientException")

    async def scenario(subject: KinesisSink) -> None:
        batch = batch_of(subject, LINES)
        with pytest.raises(TransientSinkError):
            await subject.write(batch, attempt=1, deadline=0.0)
        with pytest.raises(PermanentSinkError) as caught:
            await subject.write(batch, attempt=2, deadline=0.0)
        assert caught.value.code == "credentials_refused"
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "fixed")  # found by the circuit's next probe
        server.otherwise = None
        assert await subject.write(batch, attempt=3, deadline=0.0) == DELIVERED

    use(sink(), scenario)
    assert "=fixed/" in server.requests[-1].headers["authorization"]


def test_without_credentials_open_says_so(
    server: KinesisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    error = error_of(sink())
    assert isinstance(error, PermanentSinkError)
    assert error.code == "no_credentials"


def test_without_a_region_open_says_so(
    server: KinesisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    error = error_of(sink())
    assert isinstance(error, PermanentSinkError)
    assert error.code == "no_region"


# -- life ------------------------------------------------------------------------------------------


def test_a_cancelled_write_leaves_a_sink_that_works(server: KinesisServer) -> None:
    server.script = [Hang()]

    async def scenario(subject: KinesisSink) -> None:
        writing = asyncio.create_task(write(subject, LINES[:1]))
        await asyncio.to_thread(server.wait_for_requests, 1)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert await write(subject, LINES[1:]) == DELIVERED

    use(sink(), scenario)
    assert accepted_lines(server) == data_of(LINES[1:])


def test_a_batch_sent_twice_has_the_same_ids(server: KinesisServer) -> None:
    server.script = [Reset(accept=True)]

    async def scenario(subject: KinesisSink) -> None:
        batch = batch_of(subject, LINES)
        with pytest.raises(TransientSinkError):
            await subject.write(batch, attempt=1, deadline=0.0)
        assert await subject.write(batch, attempt=2, deadline=0.0) == DELIVERED

    use(sink(), scenario)
    first, second = (decode(put.data) for put in server.accepted)
    assert first == second
    assert first.record_id is not None


def test_after_a_restore_ids_and_keys_are_new(server: KinesisServer) -> None:
    async def scenario(subject: KinesisSink) -> None:
        await write(subject, LINES[:1])
        subject.on_restore("f" * 32)
        await write(subject, LINES[1:])

    use(sink(), scenario)
    before, after = server.accepted
    assert before.partition_key != after.partition_key == "f" * 32
    ids = [str(decode(put.data).record_id).split("-") for put in server.accepted]
    assert ids[0][0] != ids[1][0]
    assert [sequence for _, sequence in ids] == ["0", "0"]


def test_connections_are_kept_and_renewed_after_a_pause(
    server: KinesisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(subject: KinesisSink) -> None:
        for _ in range(3):
            assert await write(subject, LINES) == DELIVERED

    use(sink(), scenario)
    assert server.connections == 1
    module = {"aiobotocore": "transport", "lean": "lean"}[CLIENT]
    # any pause is one too many
    monkeypatch.setattr(f"telemetryd.sinks.aws.{module}.IDLE_SECONDS", -1.0)
    use(sink(), scenario)
    assert server.connections == 1 + 3


def test_items_of_another_sink_are_a_bug(server: KinesisServer) -> None:
    async def scenario(subject: KinesisSink) -> None:
        with pytest.raises(TypeError):
            await subject.write(Batch("b", (Item(b"x\n", 1, 2),)), attempt=1, deadline=0.0)

    use(sink(), scenario)
    assert server.requests == []


# -- what waited on disk while the configuration changed ------------------------------------------

PACKED = [
    {"packing": "ndjson", "compression": "none"},
    {"packing": "ndjson", "compression": "gzip"},
    {"packing": "ndjson", "compression": "zstd"},
    {"packing": "kpl"},
    {"packing": "single"},
]


@pytest.mark.parametrize("before", PACKED, ids=str)
@pytest.mark.parametrize("after", PACKED[::2], ids=str)
@pytest.mark.parametrize("says", [True, False])
def test_spooled_records_give_their_lines_back_whatever_the_packing_is_now(
    server: KinesisServer,
    tmp_path: Path,
    before: dict[str, Any],
    after: dict[str, Any],
    says: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spool = {"path": str(tmp_path / "spool")}
    blocks = [block(b'{"id":%d}' % number, b"not json") for number in range(5)]
    if not says:  # as an earlier version stored them
        monkeypatch.setattr(
            "telemetryd.sinks.kinesis.packer._PACKED", {"none": "", "gzip": "", "zstd": ""}
        )

    async def leave() -> None:
        rig = rig_of(spool=spool, **before)
        rig.worker.start()
        rig.offer(blocks)
        await rig.stop(0.0, keep=True)
        assert rig.lines() == {"spooled": 10}

    async def lose() -> Rig:
        server.otherwise = Error(400, "ValidationException", "these are refused")
        letter = dead_letter_at(tmp_path / "dead")
        rig = rig_of(dead_letter=letter, spool=spool, **after)
        rig.worker.start()
        while rig.account.spooled.lines or rig.worker.pending().lines:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)
        await rig.stop()
        letter.close()
        return rig

    asyncio.run(leave())
    rig = asyncio.run(lose())
    assert rig.lines() == {"dead_lettered": 10}
    assert rig.log.facts("sink_bug") == []
    kept = [json.loads(line)["data"] for line in (tmp_path / "dead").read_bytes().splitlines()]
    assert "".join(kept).encode() == data_of(blocks)
