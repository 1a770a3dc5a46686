"""Answers that wait for room, and peers that make them wait, on a listener of its own."""

# ruff: noqa: D102 - the protocol describes them
from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from telemetryd.core.stats import DaemonStats
from telemetryd.ingest import http_connection
from telemetryd.ingest.http_connection import HttpConnection
from telemetryd.ingest.http_intake import Intake
from telemetryd.ingest.listener import TelemetryListener, bind
from telemetryd.testing import LogBook
from telemetryd_proto.framing import Block, Framed

REQUEST = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n[%d]"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Receiver:
    """Keeps what was taken."""

    def __init__(self) -> None:
        self.data = b""
        self.size = 0

    def on_received(self, size: int) -> None:
        self.size += size

    def on_framed(self, parts: list[Framed]) -> None:
        self.data += b"".join(part.data for part in parts if isinstance(part, Block))


class Stage:
    """A listener, and one connection to it."""

    def __init__(self, *, lenient: bool) -> None:
        self.receiver = Receiver()
        self.stats = DaemonStats(())
        intake = Intake(lenient=lenient, token="", max_body_bytes=1 << 20, max_line_bytes=1 << 20)
        sock = bind("127.0.0.1", 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)  # answers soon find no room
        self.listener = TelemetryListener(
            sock, self.receiver, max_line_bytes=1 << 20,
            tail_budget_bytes=1 << 20, max_connections=4, keep_bytes=0, read_bytes=1 << 16,
            stats=self.stats, log=LogBook(), on_bug=lambda bug: pytest.fail(repr(bug)),
            connect=partial(HttpConnection, intake=intake, stats=self.stats, log=LogBook()),
        )  # fmt: skip
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def play(self, scene: Callable[[Stage], Awaitable[None]]) -> None:
        await self.listener.start()
        peer = socket.socket()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        peer.connect(("127.0.0.1", self.listener.port))
        self.reader, self.writer = await asyncio.open_connection(sock=peer)
        try:
            async with asyncio.timeout(60):
                await scene(self)
        finally:
            self.writer.close()
            await self.listener.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():  # noqa: ASYNC110 - the subject has no event for it
            await asyncio.sleep(0.001)


def play(scene: Callable[[Stage], Awaitable[None]], *, lenient: bool = True) -> Stage:
    async def scenario() -> Stage:
        stage = Stage(lenient=lenient)
        await stage.play(scene)
        return stage

    return asyncio.run(scenario())


@pytest.mark.parametrize("lenient", [True, False])
def test_an_answer_waits_until_there_is_room(
    lenient: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests behind it are not read; all are answered in order once there is room."""
    monkeypatch.setattr(http_connection, "HELD_SECONDS", 600.0)

    async def scene(stage: Stage) -> None:
        stage.listener.hold_reading(True)
        stage.writer.write(REQUEST % 1 + REQUEST % 2)
        await stage.until(lambda: stage.listener.unfinished_since() is not None)
        assert stage.receiver.data == b""
        stage.listener.hold_reading(False)
        assert await stage.reader.readexactly(2 * len(OK)) == OK * 2
        assert stage.receiver.data == b"1\n2\n"
        assert stage.receiver.size == 4

    assert play(scene, lenient=lenient).stats.http_requests == {"accepted": 2}


@pytest.mark.parametrize("lenient", [True, False])
def test_an_answer_waits_no_longer_than_it_may(
    lenient: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then Lambda's records are taken, for the queue to drop; others are sent again."""
    monkeypatch.setattr(http_connection, "HELD_SECONDS", 0.01)

    async def scene(stage: Stage) -> None:
        stage.listener.hold_reading(True)
        stage.writer.write(REQUEST % 1)
        answer = await stage.reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 " if lenient else b"HTTP/1.1 503 ")
        assert (b"Retry-After: 1\r\n" in answer) is not lenient
        assert stage.receiver.data == (b"1\n" if lenient else b"")

    play(scene, lenient=lenient)


@pytest.mark.parametrize("lenient", [True, False])
def test_what_waits_at_the_end_is_taken_only_from_lambda(
    lenient: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lambda sends a record once where it can't tell; others got no answer and send again."""
    monkeypatch.setattr(http_connection, "HELD_SECONDS", 600.0)

    async def scene(stage: Stage) -> None:
        stage.listener.hold_reading(True)
        stage.writer.write(REQUEST % 1)
        await stage.until(lambda: stage.listener.unfinished_since() is not None)
        await stage.listener.close()
        assert stage.receiver.data == (b"1\n" if lenient else b"")
        assert stage.receiver.size == len(stage.receiver.data)

    play(scene, lenient=lenient)


def test_a_slow_request_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that never ends; the next connection is not affected."""
    monkeypatch.setattr(http_connection, "WHOLE_SECONDS", 0.01)

    async def scene(stage: Stage) -> None:
        stage.writer.write(b"POST / HTTP/1.1\r\nA:")
        answer = await stage.reader.read()
        assert answer.startswith(b"HTTP/1.1 408 ")
        stage.writer.close()
        stage.reader, stage.writer = await asyncio.open_connection("127.0.0.1", stage.listener.port)
        stage.writer.write(REQUEST % 1)
        assert await stage.reader.readexactly(len(OK)) == OK

    play(scene, lenient=False)


def test_a_peer_that_does_not_read_its_answers_is_not_served_on() -> None:
    """What is held for it is bounded; it is served again when it reads."""
    count = 60_000

    async def scene(stage: Stage) -> None:
        async def send() -> None:
            for _ in range(count // 1000):
                stage.writer.write((REQUEST % 1) * 1000)
                await stage.writer.drain()

        sending = asyncio.create_task(send())
        before = -1
        while before < stage.receiver.size:  # until it stops to serve
            before = stage.receiver.size
            await asyncio.sleep(0.2)
        assert stage.receiver.size < 2 * count
        answers = await stage.reader.readexactly(count * len(OK))
        await sending
        assert answers == OK * count

    assert play(scene).receiver.data == b"1\n" * count
