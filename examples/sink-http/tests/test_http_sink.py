"""The sink under telemetryd's contract, against a real server, and what only this sink does."""

# ruff: noqa: S101, D101, D102, D103 - assertions, and names that say it
from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from ndjson_server import NdjsonServer
from telemetryd_sink_http import HttpConfig, HttpSink

from telemetryd.testing import Received, Rig, SinkContract, context, data_of, numbered_blocks

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[NdjsonServer]:
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with NdjsonServer(max_bytes=4 * MIB, drop_duplicates=True) as server:
        yield server


class TestHttpSink(SinkContract):
    sink_class = HttpSink
    refused_bytes = 5 * MIB
    drops_duplicates = True

    @pytest.fixture(autouse=True)
    def _server(self, server: NdjsonServer) -> None:
        self.server = server

    def config(self, directory: Path, **keys: object) -> HttpConfig:
        return msgspec.convert({"type": "ndjson", "url": self.server.url, **keys}, HttpConfig)

    @contextmanager
    def destination(self, directory: Path) -> Iterator[Received]:
        yield lambda _: self.server.lines

    @contextmanager
    def outage(self, directory: Path) -> Iterator[str]:
        self.server.is_down = True
        yield "http_503"
        self.server.is_down = False

    @contextmanager
    def stall(self, directory: Path) -> Iterator[None]:
        with self.server.stalled():
            yield


# -- what only this sink does ----------------------------------------------------------------


def deliver(server: NdjsonServer, count: int = 2, **keys: object) -> Rig:
    """Send so many blocks of three lines through a worker, until all are settled."""
    config = msgspec.convert({"type": "ndjson", "url": server.url, **keys}, HttpConfig)
    rig = Rig(HttpSink(config, context()), config)

    async def scenario() -> None:
        rig.worker.start()
        rig.offer(numbered_blocks(count))
        await rig.flush()
        await rig.stop()

    asyncio.run(scenario())
    rig.check_end()
    return rig


@pytest.mark.parametrize(
    ("status", "settled"),
    [
        (200, {"delivered": 6}),
        (202, {"delivered": 6}),
        (302, {"dropped.http_302": 6}),
        (400, {"dropped.http_400": 6}),
        (403, {"dropped.http_403": 6}),
        (408, {"delivered": 6}),
        (422, {"dropped.http_422": 6}),
        (429, {"delivered": 6}),
        (500, {"delivered": 6}),
        (599, {"delivered": 6}),
    ],
)
def test_what_the_server_says_decides(
    server: NdjsonServer, status: int, settled: dict[str, int]
) -> None:
    server.script = [(status, {"Location": server.url})]
    rig = deliver(server)
    assert rig.lines() == settled
    assert server.statuses[0] == status
    assert [facts["code"] for facts in rig.log.facts("circuit_opened")] == (
        [f"http_{status}"] if status in (302, 403) else []
    )


@pytest.mark.parametrize("wait", ["0", "3600", "Fri, 20 Nov 2026 12:00:00 GMT", "\xb2", "-1"])
def test_the_server_s_wish_to_wait_is_heeded_where_it_is_a_number(
    server: NdjsonServer, wait: str
) -> None:
    server.script = [(503, {"Retry-After": wait})]
    rig = deliver(server, retry_max_elapsed_ms=10_000)
    assert rig.lines() == ({"dropped.http_503": 6} if wait == "3600" else {"delivered": 6})
    assert rig.log.facts("sink_bug") == []


def test_a_retry_carries_the_key_of_the_first_attempt_and_another_batch_does_not(
    server: NdjsonServer,
) -> None:
    server.script = [(503, {})]
    deliver(server, count=100, batch_max_bytes=1024)
    keys = [headers["Idempotency-Key"] for headers in server.headers]
    assert keys[0] == keys[1]
    assert len(set(keys)) == len(keys) - 1 > 1


def test_a_batch_that_is_too_large_is_sent_block_by_block(server: NdjsonServer) -> None:
    server.max_bytes = 100
    rig = deliver(server, count=4)
    assert rig.lines() == {"delivered": 12}
    assert server.statuses == [413, 204, 204, 204, 204]
    assert server.lines == data_of(numbered_blocks(4))


def test_of_a_batch_that_is_too_large_only_what_failed_is_sent_again(server: NdjsonServer) -> None:
    server.script = [(413, {}), (204, {}), (503, {}), (400, {})]
    rig = deliver(server, count=4)
    assert rig.lines() == {"delivered": 9, "dropped.http_400": 3}
    assert server.statuses == [413, 204, 503, 400, 204, 204]
    assert server.lines == data_of([numbered_blocks(4)[index] for index in (3, 1)])


def test_a_server_that_is_not_there(server: NdjsonServer) -> None:
    with NdjsonServer() as gone:
        pass
    rig = deliver(gone, retry_max_elapsed_ms=0)
    assert rig.lines() == {"dropped.unreachable": 6}
    assert "Connect" in rig.log.facts("write_failed")[0]["detail"]
    assert server.statuses == []


def test_the_token_is_sent_and_the_content_is_named(server: NdjsonServer) -> None:
    deliver(server, token="s3cret")  # noqa: S106 - a server of our own
    assert server.headers[0]["Authorization"] == "Bearer s3cret"
    assert server.headers[0]["Content-Type"] == "application/x-ndjson"


@pytest.mark.parametrize(
    "keys",
    [
        {"url": "collector.example.com/lines"},
        {"url": "ftp://collector.example.com"},
        {"url": "http://"},
        {"url": "http://host:port/"},
        {"url": "http://host:0/"},
        {"url": "http://[::1/"},
        {"url": "http://host/a path"},
        {"token": "two\nlines"},
        {"token": "caf\xe9"},
    ],
)
def test_what_can_not_work_is_refused_with_its_key(keys: dict[str, str]) -> None:
    config = msgspec.convert({"type": "ndjson", "url": "https://host/", **keys}, HttpConfig)
    (problem,) = config.problems()
    assert problem.startswith(f"{next(iter(keys))}: must ")
