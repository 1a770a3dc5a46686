"""What answers mean: the same through our client and through aiobotocore, answer by answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest

from helpers.kinesis_server import environment
from telemetryd.errors import PermanentSinkError, SinkError, TransientSinkError
from telemetryd.sinks.aws import codes
from telemetryd.sinks.aws.client import AwsClient
from telemetryd.sinks.base import ClientName
from telemetryd.testing import context

TABLES = [codes._THROTTLED, codes._SERVER, codes._EXPIRED, codes._SKEWED, codes._REFUSED]
CODES = [
    *sorted({code for table in TABLES for code in table}),
    "InvalidArgumentException", "ValidationException", "NobodyKnows", "ResourceNotFound", "", "400",
]  # fmt: skip
STATUSES = [200, 300, 301, 307, 400, 401, 403, 404, 405, 408, 413, 429, 500, 502, 503, 504, 509]
BODIES = [
    b"", b" ", b"{}", b"[]", b"null", b"7", b'"text"', b"not json", b"\xff\xfe", b"[" * 100_000,
    b"<html>a page</html>", b"  <html>", b"<!doctype html><html>", b'{"message":"only this"}',
    b'{"__type":null}', b'{"__type":[]}', b'{"__type":{}}', b'{"__type":7}', b'{"__type":true}',
    b'{"__type":"a#b#ThrottlingException"}', b'{"__type":"ThrottlingException:http://x#y"}',
    b'{"__type":"AccessDeniedException","Message":"No."}', b'{"code":"AccessDeniedException"}',
    b'{"__type":"InvalidSignatureException","message":"Signature expired: 1 is now earlier"}',
    b'{"__type":"InvalidSignatureException","message":"Signature not yet current: 1"}',
    b'{"__type":"X","message":["no","text"]}', b'{"__type":"X","message":null}',
]  # fmt: skip
WISHES = ["", "7", "0.5", "-3", "soon", "1e999", "nan", "Sun, 06 Nov 1994 08:49:37 GMT"]

Recorded = tuple[int, dict[str, str], bytes]
Outcome = tuple[type, str, bool, float] | dict[str, Any]


def error(code: str) -> bytes:
    return json.dumps({"__type": code, "message": "for this reason"}).encode()


ANSWERS: list[Recorded] = [
    *((status, {}, error(code)) for code in CODES for status in (400, 403, 500)),
    *((status, {}, body) for body in BODIES for status in STATUSES if status >= 301),
    *((429, {"retry-after": wish}, error("X")) for wish in WISHES),
    *((503, {"Retry-After": wish}, b"") for wish in WISHES),
    (200, {}, b'{"FailedRecordCount":0,"Records":[{"SequenceNumber":"1","ShardId":"2"}]}'),
    (200, {}, b""),
    (200, {}, b"{}"),
    (200, {}, b"[]"),
    (200, {}, b"null"),
]


async def outcomes(name: ClientName, answers: Iterable[Recorded]) -> list[Outcome]:
    """What `name` makes of each of `answers`."""
    waiting = iter(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = next(
                    int(line.split(b":")[1])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length")
                )
                await reader.readexactly(size)
                status, headers, body = next(waiting)
                lines = [f"HTTP/1.1 {status} recorded", f"content-length: {len(body)}"]
                lines += [f"{key}: {value}" for key, value in headers.items()]
                writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = AwsClient(
        "kinesis", context(), wanted=name, region="eu-west-1",
        endpoint_url=f"http://127.0.0.1:{port}", connect_seconds=10, read_seconds=10,
    )  # fmt: skip
    found: list[Outcome] = []
    for _ in ANSWERS:
        try:
            answer = await client.call("put_records", Records=[], StreamName="x")
            answer.pop("ResponseMetadata", None)
            found.append(answer)
        except SinkError as problem:
            stops = isinstance(problem, PermanentSinkError) and problem.stops_sink
            after = problem.retry_after if isinstance(problem, TransientSinkError) else 0.0
            found.append((type(problem), problem.code, stops, after))
    await client.close()
    server.close()
    await server.wait_closed()
    return found


def test_both_clients_make_the_same_of_the_same_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch)

    async def both() -> tuple[list[Outcome], list[Outcome]]:
        return await outcomes("lean", ANSWERS), await outcomes("aiobotocore", ANSWERS)

    ours, theirs = asyncio.run(both())
    for recorded, our, their in zip(ANSWERS, ours, theirs, strict=True):
        assert our == their, recorded
    assert len({outcome[1] for outcome in ours if isinstance(outcome, tuple)}) >= 10
