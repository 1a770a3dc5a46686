"""The HTTP sink against a server over real sockets: what each answer means, and what is sent."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from helpers.collector_server import (
    MIB,
    CollectorServer,
    Hang,
    Raw,
    Reset,
    Say,
    Step,
    no_proxies,
)
from helpers.http_destination import AUTHORITY, OK, Destination, Visit, tls_server
from helpers.ports import reserved
from telemetryd.clock import Clock
from telemetryd.errors import PermanentSinkError, SinkError, TransientSinkError
from telemetryd.sinks._attempt import MAX_REFUSALS
from telemetryd.sinks.base import Batch, Failure, WriteResult
from telemetryd.sinks.http.config import HttpConfig
from telemetryd.sinks.http.sink import HttpItem, HttpSink
from telemetryd.testing import LogBook, Rig, block, context, data_of, numbered_blocks
from telemetryd.testing.rig import dead_letter_at
from telemetryd_proto.framing import Block

FAR = 1e9


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[CollectorServer]:
    no_proxies(monkeypatch)
    with CollectorServer() as server:
        yield server
        assert server.violations == []


def config_of(server: CollectorServer, **keys: Any) -> HttpConfig:
    given = {"type": "http", "url": server.url, "linger_ms": 0, "body": server.form, **keys}
    return msgspec.convert(given, HttpConfig)


def deliver(
    server: CollectorServer, blocks: list[Block], letters: Path | None = None, **keys: Any
) -> Rig:
    """Send blocks through a worker, until all are settled."""
    config = config_of(server, **keys)
    letter = None if letters is None else dead_letter_at(letters)
    log = LogBook()
    rig = Rig(HttpSink(config, context(log)), config, log=log, dead_letter=letter)

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


def write(server: CollectorServer, items: list[HttpItem], **keys: Any) -> WriteResult:
    """The outcome of one write."""

    async def scenario() -> WriteResult:
        sink = HttpSink(config_of(server, **keys), context())
        try:
            return await sink.write(Batch("b", tuple(items)), attempt=1, deadline=FAR)
        finally:
            await sink.close()

    return asyncio.run(scenario())


def refusal(server: CollectorServer, step: Step, **keys: Any) -> SinkError:
    """The error that one answer makes of a write."""
    server.script = [step]
    with pytest.raises(SinkError) as caught:
        write(server, [HttpItem(b"1\n", 1, 2)], **keys)
    return caught.value


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (408, "server_error"), (425, "server_error"), (429, "throttled"), (500, "server_error"),
        (502, "server_error"), (503, "server_error"), (599, "server_error"),
    ],
)  # fmt: skip
def test_answers_that_are_tried_again(server: CollectorServer, status: int, code: str) -> None:
    error = refusal(server, Say(status, {"Retry-After": "7"}))
    assert isinstance(error, TransientSinkError)
    assert (error.code, error.retry_after) == (code, 7.0)
    assert f"127.0.0.1:{server.port} answered {status}" in error.detail


@pytest.mark.parametrize(
    ("status", "code", "stops"),
    [
        (301, "redirected", True), (307, "redirected", True), (304, "redirected", True),
        (400, "invalid_request", False), (422, "invalid_request", False),
        (413, "too_large", False), (401, "credentials_refused", True),
        (403, "access_denied", True), (404, "not_found", True), (410, "not_found", True),
        (405, "refused", True), (415, "refused", True), (499, "refused", True),
    ],
)  # fmt: skip
def test_answers_that_are_final(
    server: CollectorServer, status: int, code: str, stops: bool
) -> None:
    """A redirect is not followed: the one request is all that is sent."""
    error = refusal(server, Say(status, {"Location": server.url}))
    assert isinstance(error, PermanentSinkError)
    assert (error.code, error.stops_sink) == (code, stops)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_lines_are_delivered_where_the_server_says_so(server: CollectorServer, status: int) -> None:
    server.script = [Say(status, body=b"<ok/>" if status != 204 else b"")]
    assert write(server, [HttpItem(b"1\n", 1, 2)]) == WriteResult()


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0.0),
        ({"Retry-After": "86400"}, 60.0),
        ({"Retry-After": "soon"}, 0.0),
        (
            {
                "Date": "Sun, 06 Nov 1994 08:49:37 GMT",
                "Retry-After": "Sun, 06 Nov 1994 08:49:42 GMT",
            },
            5.0,
        ),
    ],
)
def test_how_long_a_server_asks_to_wait(
    server: CollectorServer, headers: dict[str, str], seconds: float
) -> None:
    error = refusal(server, Say(429, headers))
    assert isinstance(error, TransientSinkError)
    assert error.retry_after == seconds


@pytest.mark.parametrize(
    ("step", "code", "sent"),
    [
        (Reset(), "connection_lost", "all was sent"),
        (Raw(b""), "connection_lost", "all was sent"),
        (Raw(b"SSH-2.0\r\n\r\n"), "garbled_answer", "all was sent"),
        (Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1"), "connection_lost", "all was sent"),
        (Hang(), "read_timeout", "all was sent"),
        (Raw(b"HTTP/1.1 200 OK\r\nA: b\r\n", ends=False), "read_timeout", "all was sent"),
        (Say(200, body=b" \n<!DOCTYPE html><p>Log in"), "garbled_answer", "answered 200"),
        (Say(200, body=b"<HTML><body>Log in"), "garbled_answer", "answered 200"),
        (Raw(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (5 * MIB)), "garbled_answer", "all was sent"),
    ],
)
def test_no_answer_that_can_be_understood(
    server: CollectorServer, step: Step, code: str, sent: str
) -> None:
    """Each is tried again, within bounds; the text says if lines may arrive twice."""
    error = refusal(server, step, read_timeout_ms=500 if code == "read_timeout" else 60_000)
    assert isinstance(error, TransientSinkError)
    assert error.code == code
    assert sent in error.detail


@pytest.mark.parametrize(
    "page",
    [
        b"\xef\xbb\xbf<!DOCTYPE html><p>Log in", b'<?xml version="1.0"?>\n<!DOCTYPE html>',
        b"<!-- portal -->\n<html>", b"<head><title>Log in</title>", b"<script>location='/login'",
    ],
)  # fmt: skip
def test_a_web_page_is_no_delivery_however_it_begins(server: CollectorServer, page: bytes) -> None:
    error = refusal(server, Say(200, {"Content-Type": "Text/HTML; charset=utf-8"}, page))
    assert isinstance(error, TransientSinkError)
    assert error.code == "garbled_answer"


@pytest.mark.parametrize("kind", ["text/html", "application/xml"])
def test_other_answers_are_deliveries_whatever_their_type(
    server: CollectorServer, kind: str
) -> None:
    """Small servers say `ok`, and that it is text/html."""
    server.script = [Say(200, {"Content-Type": kind}, b"ok" if "html" in kind else b"<ok/>")]
    assert deliver(server, [block(b"1")]).lines() == {"delivered": 1}


def test_an_answer_that_never_ends_is_cut_and_its_lines_are_written_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each byte comes in time, so only the limit of the whole attempt ends it."""
    no_proxies(monkeypatch)
    answered: list[int] = []

    async def dribble(visit: Visit) -> None:
        await visit.request()
        answered.append(1)
        if len(answered) > 1:
            await visit.say(OK)
            return
        await visit.say(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await visit.say(b"x")
            await asyncio.sleep(0.01)

    async def scenario() -> Rig:
        async with Destination(dribble) as there:
            url = f"http://127.0.0.1:{there.port}/"
            given = {"type": "http", "url": url, "linger_ms": 0, "write_timeout_ms": 500}
            config = msgspec.convert(given, HttpConfig)
            log = LogBook()
            rig = Rig(HttpSink(config, context(log)), config, log=log)
            rig.worker.start()
            rig.offer(numbered_blocks(2))
            await rig.flush()
            await rig.stop()
            return rig

    rig = asyncio.run(scenario())
    rig.check_end()
    assert rig.lines() == {"delivered": 6}
    assert [facts["code"] for facts in rig.log.facts("write_failed")] == ["timeout"]


def test_a_server_that_is_not_there(server: CollectorServer) -> None:
    with reserved() as port:
        error = refusal(server, None, url=f"http://127.0.0.1:{port}/")
    assert isinstance(error, TransientSinkError)
    assert error.code == "unreachable"
    assert "nothing was sent" in error.detail


def test_what_stops_the_sink_reaches_the_dead_letter_and_one_request_is_made(
    server: CollectorServer, tmp_path: Path
) -> None:
    server.token = "right"  # noqa: S105 - opens nothing
    rig = deliver(server, numbered_blocks(4), tmp_path / "letters", token="wrong")  # noqa: S106
    assert rig.lines() == {"dead_lettered": 12}
    assert [facts["code"] for facts in rig.log.facts("circuit_opened")] == ["credentials_refused"]
    assert "wrong" not in str(rig.log.records)


@pytest.mark.parametrize("is_trusted", [True, False])
def test_a_certificate_must_verify(monkeypatch: pytest.MonkeyPatch, is_trusted: bool) -> None:
    no_proxies(monkeypatch)
    monkeypatch.setenv("SSL_CERT_FILE", str(AUTHORITY))
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    certificate = tls_server("server" if is_trusted else "elsewhere")

    async def scenario() -> WriteResult:
        async with Destination(tls=certificate) as there:
            url = f"https://127.0.0.1:{there.port}/"
            config = msgspec.convert({"type": "http", "url": url}, HttpConfig)
            sink = HttpSink(config, context())
            batch = Batch("b", (HttpItem(b"1\n", 1, 2),))
            try:
                return await sink.write(batch, attempt=1, deadline=FAR)
            finally:
                await sink.close()

    if is_trusted:
        assert asyncio.run(scenario()) == WriteResult()
        return
    with pytest.raises(PermanentSinkError) as caught:
        asyncio.run(scenario())
    assert (caught.value.code, caught.value.stops_sink) == ("tls_certificate", True)
    assert "nothing was sent" in caught.value.detail


# -- what is sent ----------------------------------------------------------------------------


def test_headers(server: CollectorServer) -> None:
    """The user's replace ours; the lines go over one connection."""
    server.token = "s3cret"  # noqa: S105 - opens nothing
    keys: dict[str, Any] = {"token": "s3cret", "headers": {"X-Tenant": "a b", "user-agent": "mine"}}
    rig = deliver(server, numbered_blocks(300), batch_max_bytes=1024, **keys)
    assert rig.lines() == {"delivered": 900}
    assert server.connections == 1
    assert len({request.headers["idempotency-key"] for request in server.requests}) == len(
        server.requests
    )
    (headers,) = {
        tuple(sorted((k, v) for k, v in request.headers.items() if k in keep))
        for request in server.requests
        for keep in [("authorization", "content-type", "user-agent", "x-tenant")]
    }
    assert headers == (
        ("authorization", "Bearer s3cret"), ("content-type", "application/x-ndjson"),
        ("user-agent", "mine"), ("x-tenant", "a b"),
    )  # fmt: skip


def test_a_retry_has_the_key_of_the_first_attempt(server: CollectorServer) -> None:
    server.script = [Say(503, accept=True), Reset(accept=True)]
    assert deliver(server, numbered_blocks(5)).lines() == {"delivered": 15}
    assert len({request.headers["idempotency-key"] for request in server.requests}) == 1
    assert server.lines == data_of(numbered_blocks(5))


def test_a_batch_is_cut_into_bodies_of_the_largest_size(server: CollectorServer) -> None:
    server.max_body = 64 * 1024
    lines = [block(b"%d" % number * 5000) for number in range(10)]
    rig = deliver(server, lines * 10, max_body_bytes=64 * 1024)
    assert rig.lines() == {"delivered": 100}
    assert set(server.statuses) == {204}
    assert max(len(request.body) for request in server.requests) > 48 * 1024
    assert server.lines == data_of(lines * 10)


def test_what_a_server_finds_too_large_is_halved_and_only_one_line_is_lost(
    server: CollectorServer, tmp_path: Path
) -> None:
    """The size is remembered: the next batch is not refused."""
    server.max_body = 20_000
    blocks = [block(b"%d" % number * 5000) for number in range(10)]
    blocks.insert(3, block(b"<" + b"x" * 30_000))
    config = config_of(server)
    letter = dead_letter_at(tmp_path / "letters")
    log = LogBook()
    rig = Rig(HttpSink(config, context(log)), config, log=log, dead_letter=letter)

    async def scenario() -> None:
        rig.worker.start()
        rig.offer(blocks)
        await rig.flush()
        refused = server.statuses.count(413)
        rig.offer(blocks[:3])
        await rig.flush()
        assert server.statuses.count(413) == refused
        await rig.stop()

    asyncio.run(scenario())
    letter.close()
    rig.check_end()
    assert rig.lines() == {"delivered": 13, "dead_lettered": 1}
    assert server.lines == data_of([*blocks[:3], *blocks[4:], *blocks[:3]])
    assert (tmp_path / "letters").read_bytes().count(b"<xxx") == 1
    assert rig.log.facts("records_refused")[0]["codes"] == "too_large"


def test_a_request_that_is_refused_costs_no_neighbour_of_the_culprit(
    server: CollectorServer,
) -> None:
    """The answer's body, which may repeat lines, is not in the log."""
    server.refused = b"poison"
    blocks = [block(b"%d" % number * 15_000) for number in range(9)]
    blocks[4] = block(b"poison" + b"x" * 15_000)
    rig = deliver(server, blocks, max_body_bytes=32 * 1024)
    assert rig.lines() == {"delivered": 8, "dropped.invalid_request": 1}
    assert server.lines == data_of([*blocks[:4], *blocks[5:]])
    assert "poison" not in str(rig.log.records)


@pytest.mark.parametrize("status", [400, 422])
def test_lines_that_are_refused_in_the_middle_of_an_item_are_lost_alone(
    server: CollectorServer, tmp_path: Path, status: int
) -> None:
    """Two of a thousand lines, in a batch of few items; the log says how many requests it took."""
    server.refused, server.refuses_with = b"poison", status
    lines = [b"line %d" % number for number in range(1000)]
    lines[17] = b"poison 17"
    lines[931] = b"poison 931"
    rig = deliver(server, [block(*lines[:300]), block(*lines[300:])], tmp_path / "letters")
    assert rig.lines() == {"delivered": 998, "dead_lettered": 2}
    assert server.lines == b"".join(line + b"\n" for line in lines if b"poison" not in line)
    letters = (tmp_path / "letters").read_text()
    assert letters.count("invalid_request") == letters.count("poison") == 2
    assert "line 18" not in letters
    (facts,) = rig.log.facts("records_refused")
    assert facts["records"] == 2
    assert facts["requests"] == len(server.requests) < 50


def test_the_search_for_lines_that_are_refused_is_bounded(server: CollectorServer) -> None:
    """A server that refuses all of a batch, line by line, gets a bounded number of requests."""
    server.refused = b"line"
    rig = deliver(server, [block(*(b"line %d" % number for number in range(2000)))])
    assert rig.lines() == {"dropped.invalid_request": 2000}
    assert len(server.requests) < 2 * MAX_REFUSALS + 3


def test_what_was_found_so_far_is_kept_where_the_time_is_over(server: CollectorServer) -> None:
    """The next attempt has the rest only: nothing is delivered twice, and it comes to an end."""
    server.refused = b"poison"
    clock = iter(range(1000))  # a second passes with each look at it
    lines = [b"line %d" % number for number in range(64)]
    lines[3] = b"poison"
    config = config_of(server)
    sink = HttpSink(config, context(clock=Clock(loop=lambda: float(next(clock)))))
    (item,) = sink.pack([block(*lines)])

    async def scenario() -> list[Failure]:
        batch, numbers, lost = Batch("b", (item,)), 1, []
        while batch.items:
            result = await sink.write(batch, attempt=1, deadline=float(next(clock)) + 12)
            lost += [failure for failure in result.failures if not failure.retryable]
            left = [f.part or batch.items[f.index] for f in result.failures if f.retryable]
            numbers += len(left)
            batch = Batch("b", tuple(left), tuple(range(numbers, numbers + len(left))))
        await sink.close()
        return lost

    (failure,) = asyncio.run(scenario())
    assert failure.part is not None
    assert failure.part.payload == b"poison\n"
    arrived = server.lines.splitlines()
    assert sorted(arrived) == sorted(line for line in lines if line != b"poison")


def test_a_size_far_below_that_of_an_item_is_remembered_too(server: CollectorServer) -> None:
    """The second batch is sent in bodies that the server takes."""
    server.max_body = 60_000
    lines = [block(*(b"%d" % number + b"x" * 100 for number in range(9000)))] * 2
    config = config_of(server)
    rig = Rig(HttpSink(config, context()), config)

    async def scenario() -> None:
        rig.worker.start()
        rig.offer(lines[:1])
        await rig.flush()
        refused = server.statuses.count(413)
        assert 0 < refused < 10
        rig.offer(lines[1:])
        await rig.flush()
        assert server.statuses.count(413) == refused
        await rig.stop()

    asyncio.run(scenario())
    rig.check_end()
    assert rig.lines() == {"delivered": 18_000}
    assert server.lines == data_of(lines)


def test_a_server_that_finds_everything_too_large_gets_a_bounded_number_of_requests(
    server: CollectorServer,
) -> None:
    server.max_body = 0
    rig = deliver(server, [block(*(b"%d" % number + b"x" * 100 for number in range(9000)))])
    assert rig.lines() == {"dropped.too_large": 9000}
    assert len(server.requests) < 3 * MAX_REFUSALS


def test_an_item_that_is_too_large_for_the_server_is_cut_between_lines(
    server: CollectorServer,
) -> None:
    server.max_body = 1000
    lines = [b"%d" % number + b"x" * 120 for number in range(100)]
    lines[50] = b"y" * 2000
    rig = deliver(server, [block(*lines)])
    assert rig.lines() == {"delivered": 99, "dropped.too_large": 1}
    assert server.lines == b"".join(line + b"\n" for line in lines if line[:1] != b"y")


def test_what_fails_in_the_middle_of_a_batch_is_written_again_alone(
    server: CollectorServer,
) -> None:
    server.script = [None, Say(503), None]
    blocks = [block(b"%d" % number * 15_000) for number in range(9)]
    rig = deliver(server, blocks, max_body_bytes=16 * 1024)
    assert rig.lines() == {"delivered": 9}
    assert server.lines == data_of(blocks)
    assert len(server.requests) == 10


# -- JSON ------------------------------------------------------------------------------------


@pytest.fixture
def arrays(monkeypatch: pytest.MonkeyPatch) -> Iterator[CollectorServer]:
    no_proxies(monkeypatch)
    with CollectorServer(form="json") as server:
        yield server
        assert server.violations == []


def objects(count: int) -> bytes:
    return b"".join(b'{"n":%d,"s":"\xc3\xa9","t":"a,\\nb"}\n' % number for number in range(count))


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_lines_become_arrays(arrays: CollectorServer, compression: str) -> None:
    data = objects(10_000)
    rig = deliver(arrays, [Block.of(data)], compression=compression)
    assert rig.lines() == {"delivered": 10_000}
    assert [json.loads(line) for line in arrays.lines.splitlines()] == [
        json.loads(line) for line in data.splitlines()
    ]
    assert len(arrays.requests) == 1


def test_a_line_that_is_not_json_is_lost_alone(arrays: CollectorServer, tmp_path: Path) -> None:
    bad = [b"START RequestId", b"[1", b"2]", b"1,2", b'"\xff"', b'{"cut": ']
    good = [b'{"n":%d}' % number for number in range(len(bad))]
    lines = [line for pair in zip(good, bad, strict=True) for line in pair]
    rig = deliver(arrays, [block(*lines), block(*bad)], tmp_path / "letters")
    assert rig.lines() == {"delivered": 6, "dead_lettered": 12}
    assert arrays.lines == b"".join(line + b"\n" for line in good)
    letters = (tmp_path / "letters").read_text()
    assert letters.count("malformed") == 12


def test_lines_that_a_spool_kept_for_another_format_are_checked(arrays: CollectorServer) -> None:
    items = [HttpItem(b"1\n2\n", 2, 4), HttpItem(b"x\n", 1, 2), HttpItem(b"3\n", 1, 2)]
    result = write(arrays, items)
    assert [(failure.index, failure.code) for failure in result.failures] == [(1, "malformed")]
    assert arrays.lines == b"1\n2\n3\n"


def test_a_batch_of_malformed_lines_makes_no_request(arrays: CollectorServer) -> None:
    rig = deliver(arrays, [block(b"x", b"y")])
    assert rig.lines() == {"dropped.malformed": 2}
    assert arrays.requests == []


def test_items_survive_a_spool() -> None:
    item = HttpItem(b"1\n", 1, 2, 3, 4, 5.0, is_json=True)
    packed = msgspec.msgpack.encode(item)
    assert msgspec.msgpack.decode(packed, type=HttpSink.item_type) == item


def test_the_client_is_imported_with_the_first_lines() -> None:
    code = (
        "import sys; from telemetryd.sinks.registry import sink_class; sink_class('http');"
        "sys.exit(any(name in sys.modules for name in"
        " ('telemetryd.http_client.client', 'telemetryd_proto.kinesis', 'ssl', 'zstandard',"
        " 'telemetryd.sinks.http.presets.loki', 'telemetryd.sinks.aws.posting')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
