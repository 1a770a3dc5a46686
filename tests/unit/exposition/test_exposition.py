"""`/metrics` and `/healthz` in the process: what a daemon reports, and when a page fails."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from telemetryd.app import Daemon, Identity
from telemetryd.config import load
from telemetryd.exposition import expose
from telemetryd.exposition import server as http
from telemetryd.exposition.server import HttpServer
from telemetryd.log import Level, Log
from telemetryd.testing import LOOPS, LogBook, LoopFactory, run


async def asked(port: int, request: str) -> tuple[int, bytes]:
    """Status and body of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{request} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), body


def with_daemon(
    loop_factory: LoopFactory, scenario: Callable[[Daemon, int], Awaitable[None]], **keys: str
) -> LogBook:
    """Run a daemon with a null sink; `scenario` gets it and the port of its metrics."""
    environ = {"TELEMETRYD_SINKS__A__TYPE": "null"}
    log = LogBook()

    async def play() -> None:
        daemon = Daemon(
            load(environ, default_paths=()).config,
            socket.create_server(("127.0.0.1", 0)),
            mode="listen",
            memory_bytes=1 << 24,
            identity=Identity({}),
            log=Book(log),
            on_bug=lambda bug: pytest.fail(repr(bug)),
        )
        await daemon.start()
        await expose(daemon, "127.0.0.1:0", Book(log))
        (served,) = log.facts("metrics_served")
        await scenario(daemon, served["port"])
        now = asyncio.get_running_loop().time()
        await daemon.stop(quiet=0, read_until=now, deadline=now + 10)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", served["port"])

    run(loop_factory, play())
    return log


class Book(Log):
    """Keeps lines and statements in `log`."""

    def __init__(self, log: LogBook) -> None:
        super().__init__()
        self.log = log

    def write(self, level: Level, event: str, facts: dict[str, Any]) -> None:
        """One line."""
        self.log.write(level, event, facts)

    def statement(self, event: str, facts: dict[str, Any]) -> None:
        """The ledger."""
        self.log.write("info", event, facts)


@LOOPS
def test_healthy_until_a_bug(loop_factory: LoopFactory) -> None:
    """A daemon that only counts is of no use, though it is alive."""

    async def scenario(daemon: Daemon, port: int) -> None:
        assert await asked(port, "GET /healthz") == (
            200, b'{"status":"ok","problems":[],"sinks":{"a":"up"},"reading":"yes"}\n',
        )  # fmt: skip
        daemon.listener.hold_reading(held=True)
        status, body = await asked(port, "GET /healthz")
        assert (status, json.loads(body)["reading"]) == (200, "paused")
        daemon.listener.hold_reading(held=False)
        daemon.discard()
        status, body = await asked(port, "GET /healthz")
        assert status == 503
        assert json.loads(body)["problems"] == [
            "an internal error: lines are counted and discarded"
        ]

    with_daemon(loop_factory, scenario)


@LOOPS
def test_both_pages_on_both_loops(loop_factory: LoopFactory) -> None:
    async def scenario(daemon: Daemon, port: int) -> None:
        status, body = await asked(port, "GET /metrics")
        assert status == 200
        assert b'\ntelemetryd_sink_up{sink="a"} 1.0\n' in body
        assert (await asked(port, "HEAD /metrics"))[1] == b""
        assert (await asked(port, "GET /"))[1] == b"nothing here; there are /metrics and /healthz\n"

    with_daemon(loop_factory, scenario)


def serve(loop_factory: LoopFactory, page: http.Page, ask: Callable[[int], Awaitable[None]]) -> Any:
    """Run a server with one page at `/`; the bugs it reported."""
    bugs: list[Exception] = []

    async def play() -> None:
        server = HttpServer({"/": page}, bugs.append)
        _, port = await server.start("127.0.0.1", 0)
        try:
            await ask(port)
        finally:
            server.close()

    run(loop_factory, play())
    return bugs


@LOOPS
def test_a_page_that_fails_is_an_answer_and_a_report(loop_factory: LoopFactory) -> None:
    def broken(_: str) -> tuple[int, str, bytes]:
        raise KeyError("x")

    async def ask(port: int) -> None:
        for _ in range(2):
            status, body = await asked(port, "GET /")
            assert (status, body) == (500, b"an internal error; see telemetryd's log\n")

    bugs = serve(loop_factory, broken, ask)
    assert [type(bug) for bug in bugs] == [KeyError, KeyError]


@LOOPS
def test_whoever_does_not_read_the_answer_is_cut_off(
    loop_factory: LoopFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would hold one of few places for ever."""
    monkeypatch.setattr(http, "SECONDS", 0.2)
    monkeypatch.setattr(http, "MAX_CONNECTIONS", 3)

    async def ask(port: int) -> None:
        for _ in range(3):
            lazy = socket.create_connection(("127.0.0.1", port))
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            lazy.sendall(b"GET / HTTP/1.1\r\n\r\n")
            lazies.append(lazy)
        while True:
            try:
                assert (await asked(port, "HEAD /"))[0] == 200
            except (IndexError, ConnectionResetError):
                await asyncio.sleep(0.01)  # still full
            else:
                break

    lazies: list[socket.socket] = []
    assert serve(loop_factory, lambda _: (200, "text/plain", b"x" * 10_000_000), ask) == []
    for lazy in lazies:
        lazy.close()


@LOOPS
def test_the_accept_header_reaches_the_page(loop_factory: LoopFactory) -> None:
    """Several are one list (RFC 9110, 5.3); names have no case."""
    seen: list[str] = []

    def page(accept: str) -> tuple[int, str, bytes]:
        seen.append(accept)
        return 200, "text/plain", b""

    async def ask(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nACCEPT: a/b\r\naccept:c/d;q=0.5\r\nX: accept\r\n\r\n")
        await reader.read()
        writer.close()
        await asked(port, "GET /")

    serve(loop_factory, page, ask)
    assert seen == ["a/b, c/d;q=0.5", ""]
