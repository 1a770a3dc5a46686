"""The lean client itself: bodies in pieces, wrong clocks, what a failed request means."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import msgspec
import pytest

from helpers.kinesis_server import Error, KinesisServer, environment
from helpers.ports import reserved
from telemetryd.clock import SYSTEM, Clock
from telemetryd.errors import PermanentSinkError, SinkError, TransientSinkError
from telemetryd.http_client.messages import HttpError
from telemetryd.sinks._unanswered import UNANSWERED
from telemetryd.sinks.aws.lean import PIECE_BYTES, LeanClient, encode
from telemetryd.testing import LogBook, context

RECORDS = [{"Data": b"x\n", "PartitionKey": "k"}]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[KinesisServer]:
    with KinesisServer() as server:
        environment(monkeypatch, server)
        yield server


def client(log: LogBook | None = None, clock: Clock = SYSTEM) -> LeanClient:
    return LeanClient(
        "kinesis", context(log, clock=clock), region="", endpoint_url="", connect_seconds=10,
        read_seconds=10,
    )  # fmt: skip


async def put(subject: LeanClient) -> str:
    """The code of the error, or "delivered"."""
    try:
        await subject.call("put_records", Records=RECORDS, StreamName="telemetry")
    except SinkError as error:
        return error.code
    return "delivered"


# -- bodies --------------------------------------------------------------------------------------


def test_pieces_are_the_json_of_the_parameters() -> None:
    rng = random.Random(1)
    for _ in range(300):
        sizes = [rng.choice([0, 1, 100, 40_000, 70_000]) for _ in range(rng.randrange(12))]
        parameters = {
            "Records": [{"Data": rng.randbytes(size), "PartitionKey": "ä"} for size in sizes],
            "StreamName": "telemetry",
            "Empty": [],
        }
        keys = rng.sample(list(parameters), rng.randrange(1, 4))
        chosen = {key: parameters[key] for key in keys}
        assert b"".join(encode(chosen)) == msgspec.json.encode(chosen)
    assert b"".join(encode({})) == b"{}"


def test_pieces_are_neither_tiny_nor_whole() -> None:
    events = [{"timestamp": 1, "message": "m" * 100}] * 10_000
    sizes = [len(piece) for piece in encode({"logEvents": events})]
    assert max(sizes) <= PIECE_BYTES
    assert min(sizes[:-1]) > PIECE_BYTES // 2


# -- the clock -----------------------------------------------------------------------------------


class WrongClock(Clock):
    """As many seconds off as `ahead` says."""

    def __init__(self, ahead: float) -> None:
        super().__init__(wall=lambda: SYSTEM.wall() + ahead)


@pytest.mark.parametrize("ahead", [-1200.0, 1200.0])
@pytest.mark.parametrize(
    "refusal",
    ["RequestTimeTooSkewed", "SignatureDoesNotMatch", "InvalidSignatureException"],
)
def test_a_wrong_clock_is_corrected_once_by_the_services_date(
    server: KinesisServer, ahead: float, refusal: str
) -> None:
    date = formatdate(SYSTEM.wall(), usegmt=True)
    server.script = [Error(403, refusal, headers={"date": date})]
    log = LogBook()
    subject = client(log, WrongClock(ahead))

    async def scenario() -> list[str]:
        try:
            return [await put(subject) for _ in range(3)]
        finally:
            await subject.close()

    assert asyncio.run(scenario()) == ["clock_skew", "delivered", "delivered"]
    (told,) = log.facts("clock_corrected")
    assert abs(told["seconds"] + ahead) < 60
    stamps = [request.headers["x-amz-date"] for request in server.requests]
    wrong, right = stamps[0], stamps[1]
    assert (wrong > right) is (ahead > 0)
    assert abs(_minutes(wrong) - _minutes(right)) >= 19


def _minutes(stamp: str) -> int:
    """`20261130T110843Z` in minutes of a sort that jumps at midnight by a day."""
    return (int(stamp[6:8]) * 24 + int(stamp[9:11])) * 60 + int(stamp[11:13])


@pytest.mark.parametrize("date", ["", "yesterday", "Sun, 06 Xxx 1994 08:49:37 GMT"])
def test_without_a_date_the_clock_stays(server: KinesisServer, date: str) -> None:
    server.otherwise = Error(403, "SignatureDoesNotMatch", headers={"date": date})
    log = LogBook()

    async def scenario() -> str:
        subject = client(log, WrongClock(1200.0))
        try:
            return await put(subject)
        finally:
            await subject.close()

    assert asyncio.run(scenario()) == "credentials_refused"
    assert log.facts("clock_corrected") == []


def test_a_right_clock_is_not_what_is_wrong(server: KinesisServer) -> None:
    date = formatdate(SYSTEM.wall() + 60, usegmt=True)
    server.otherwise = Error(403, "SignatureDoesNotMatch", headers={"date": date})

    async def scenario() -> str:
        subject = client()
        try:
            return await put(subject)
        finally:
            await subject.close()

    assert asyncio.run(scenario()) == "credentials_refused"


# -- no answer -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "code", "kind"),
    [
        ("name_not_found", "unreachable", TransientSinkError),
        ("proxy_credentials", "proxy_unreachable", TransientSinkError),
        ("proxy_refused", "proxy_unreachable", TransientSinkError),
        ("proxy_invalid", "aws_configuration", PermanentSinkError),
        ("tls_certificate", "tls_certificate", PermanentSinkError),
        ("tls_error", "tls_error", TransientSinkError),
        ("tls_configuration", "aws_configuration", PermanentSinkError),
        ("send_timeout", "read_timeout", TransientSinkError),
        ("timeout", "read_timeout", TransientSinkError),
        ("answer_too_large", "garbled_answer", TransientSinkError),
        ("closed", "connection_lost", TransientSinkError),
        ("invalid_request", "aws_configuration", PermanentSinkError),
    ],
)
def test_what_the_http_client_says_has_a_code(
    monkeypatch: pytest.MonkeyPatch, reason: Any, code: str, kind: type[SinkError]
) -> None:
    async def send(*_: object, **__: object) -> None:
        raise HttpError(reason, "what happened")

    environment(monkeypatch)
    monkeypatch.setattr("telemetryd.http_client.client.HttpClient.send", send)
    with pytest.raises(kind) as caught:
        asyncio.run(client().call("put_records", Records=RECORDS))
    assert caught.value.code == code
    assert "what happened" in caught.value.detail
    assert "kinesis" in caught.value.detail
    assert not isinstance(caught.value, PermanentSinkError) or caught.value.stops_sink


def test_no_reason_of_the_http_client_is_forgotten() -> None:
    from typing import get_args

    from telemetryd.http_client.messages import Reason

    permanent = {"invalid_request", "proxy_invalid", "tls_certificate", "tls_configuration"}
    assert {*get_args(Reason)} == permanent | UNANSWERED.keys()


# -- what it does without ------------------------------------------------------------------------


def test_it_loads_neither_an_sdk_nor_openssl(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the moment where there is something to send."""
    environment(monkeypatch)
    with reserved() as port:
        program = f"""
import asyncio, sys
before = set(sys.modules)
from telemetryd.sinks.aws.lean import LeanClient
from telemetryd.errors import SinkError
from telemetryd.log import EventLog
from telemetryd.sinks.base import SinkContext
async def main():
    context = SinkContext(name="x", function="f", version="1", instance="i", log=EventLog(),
                          salvage=lambda data, reason: False)
    subject = LeanClient("kinesis", context, region="", connect_seconds=9, read_seconds=9,
                         endpoint_url="http://127.0.0.1:{port}")
    try:
        await subject.call("put_records", Records=[{{"Data": b"x"}}], StreamName="x")
    except SinkError as error:
        print(error.code)
asyncio.run(main())
ours = set(sys.modules) - before
print(*sorted(n for n in ours if n.split(".")[0] in
      ("aiobotocore", "botocore", "aiohttp", "hashlib", "hmac", "_hashlib", "urllib")))
"""
        said = subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True
        )
    assert said.stdout.splitlines() == ["unreachable", ""]
