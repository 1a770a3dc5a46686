"""Requests to a destination, well or badly behaved: each has an answer or one kind of error."""

from __future__ import annotations

import asyncio
import socket
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from helpers.http_destination import OK, Behaviour, Destination, Received, Visit, serve_ok, until
from telemetryd.clock import SYSTEM
from telemetryd.http_client.client import HttpClient
from telemetryd.http_client.messages import Answer, HttpError, HttpOptions, Request
from telemetryd.log import EventLog

LONG = 60.0
MIB = 1024 * 1024


def client(**options: Any) -> HttpClient:
    return HttpClient(SYSTEM, EventLog(), options=HttpOptions(**options))


def post(port: int, *body: bytes | memoryview, method: str = "POST") -> Request:
    return Request(method, "http", "127.0.0.1", port, "/path?q", [("X-A", "b")], body)


async def failure(sender: HttpClient, request: Request, limit: float = LONG) -> HttpError:
    with pytest.raises(HttpError) as caught:
        await sender.send(request, limit=limit)
    return caught.value


def test_a_request_arrives_as_it_was_given_and_its_answer_returns(run: Any) -> None:
    received: list[Received] = []

    async def behave(visit: Visit) -> None:
        while True:
            received.append(await visit.request())
            await visit.say(b"HTTP/1.1 202 Accepted\r\nX-B: c\r\nContent-Length: 4\r\n\r\nfine")

    async def main() -> None:
        async with Destination(behave) as there:
            sender = client()
            pieces = (b"one", b"", memoryview(b"-two-"), b"x" * 200_000, b"three")
            for _ in range(3):
                answer = await sender.send(post(there.port, *pieces), limit=LONG)
                assert answer == Answer(202, {"x-b": "c", "content-length": "4"}, b"fine")
            await sender.send(post(there.port, method="GET"), limit=LONG)
            await sender.close()
            await there.until_all_ended()
            assert there.connections == 1
            head = (
                b"POST /path?q HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nX-A: b\r\n"
                b"Content-Length: 200013\r\n\r\n" % there.port
            )
            assert received[:3] == [Received(head, b"".join(map(bytes, pieces)))] * 3
            assert received[3].line == b"GET /path?q HTTP/1.1"

    run(main)


@pytest.mark.parametrize(
    ("said", "status", "body", "connections"),
    [
        ((OK,), 200, b"ok", 1),
        ((b"HTTP/1.1 100 Continue\r\n\r\n", OK), 200, b"ok", 1),
        ((b"HTTP/1.1 204 No Content\r\n\r\n",), 204, b"", 1),
        (
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n",
                b"abc\r\n0\r\n",
                b"X: y\r\n\r\n",
            ),
            200,
            b"abc",
            1,
        ),
        ((b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx",), 200, b"x", 2),
        ((OK, OK), 200, b"ok", 2),
    ],
)
def test_answers_of_every_form(
    said: tuple[bytes, ...], status: int, body: bytes, connections: int, run: Any
) -> None:
    async def behave(visit: Visit) -> None:
        while True:
            await visit.request()
            await visit.say(*said)

    async def main() -> None:
        async with Destination(behave) as there:
            sender = client()
            for _ in range(2):
                answer = await sender.send(post(there.port, b"x"), limit=LONG)
                assert (answer.status, answer.body) == (status, body)
            await sender.close()
            await there.until_all_ended()
            assert there.connections == connections

    run(main)


def test_an_answer_that_ends_with_the_connection(run: Any) -> None:
    async def behave(visit: Visit) -> None:
        await visit.request()
        await visit.say(b"HTTP/1.1 200 OK\r\n\r\n", b"to the ", b"end")

    async def main() -> None:
        async with Destination(behave) as there:
            sender = client()
            for _ in range(2):
                assert (await sender.send(post(there.port), limit=LONG)).body == b"to the end"
            await there.until_all_ended()
            assert there.connections == 2

    run(main)


def test_a_large_body_takes_little_memory_while_the_destination_is_slow(run: Any) -> None:
    may_read = asyncio.Event()

    async def behave(visit: Visit) -> None:
        await visit.head()
        await may_read.wait()
        for _ in range(32 * 16):
            await visit.reader.readexactly(MIB // 16)
        await visit.say(OK)

    async def main() -> None:
        async with Destination(behave) as there:
            sender = client()
            piece = bytes(MIB)
            tracemalloc.start()
            try:
                task = asyncio.create_task(sender.send(post(there.port, *[piece] * 32), limit=LONG))
                await until(lambda: there.connections)
                tracemalloc.reset_peak()
                before, _ = tracemalloc.get_traced_memory()
                may_read.set()
                await task
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert peak - before < 6 * MIB  # the destination's buffers are in it
            await sender.close()

    run(main)


@pytest.mark.parametrize("hangs_up", [False, True])
def test_an_answer_that_comes_while_the_body_is_sent_is_noticed(hangs_up: bool, run: Any) -> None:
    async def behave(visit: Visit) -> None:
        await visit.head()
        await visit.say(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        if not hangs_up:  # it reads no more of the body, and waits for the client to see that
            visit.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(LONG)

    async def main() -> None:
        async with Destination(behave) as there:
            sender = client()
            answer = await sender.send(post(there.port, *[bytes(MIB)] * 64), limit=LONG)
            assert (answer.status, answer.body) == (413, b"big")
            assert not list(sender._pool)

    run(main)


async def hang(visit: Visit) -> None:
    await visit.request()
    await visit.ended()


async def stall(visit: Visit) -> None:
    visit.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.sleep(LONG)


async def drip(visit: Visit) -> None:
    await visit.request()
    await visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n")
    while True:
        await visit.say(b"x")
        await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("behave", "options", "size", "limit", "reason", "sent"),
    [
        (hang, {"read_seconds": 0.05}, 3, LONG, "read_timeout", "all"),
        (hang, {}, 3, 1.0, "timeout", "all"),
        (drip, {"read_seconds": LONG}, 3, 1.0, "timeout", "all"),
        (stall, {"send_seconds": 0.05}, 64 * MIB, LONG, "send_timeout", "part"),
        (stall, {}, 64 * MIB, 1.0, "timeout", "part"),
    ],
)
def test_a_destination_that_hangs_is_given_up(
    behave: Behaviour,
    options: dict[str, float],
    size: int,
    limit: float,
    reason: str,
    sent: str,
    run: Any,
) -> None:
    async def main() -> None:
        async with Destination(behave) as there:
            error = await failure(client(**options), post(there.port, bytes(size)), limit)
            assert (error.reason, error.sent) == (reason, sent)
            if behave is not stall:
                await there.until_all_ended()

    run(main)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "garbled_answer"),
        (b"HTTP/1.1 200 OK\r\nX\r\n\r\n", "garbled_answer"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000, "answer_too_large"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n", "answer_too_large"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"y" * (5 * MIB), "answer_too_large"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nx", "connection_lost"),
        (b"HTTP/1.1 20", "connection_lost"),
        (b"", "connection_lost"),
    ],
)
def test_what_is_no_answer_is_an_error_and_ends_the_connection(
    said: bytes, reason: str, run: Any
) -> None:
    async def behave(visit: Visit) -> None:
        await visit.request()
        await visit.say(said)

    async def main() -> None:
        async with Destination(behave) as there:
            error = await failure(client(), post(there.port, b"x"))
            assert (error.reason, error.sent) == (reason, "all")
            await there.until_all_ended()

    run(main)


def test_a_request_that_http_does_not_allow_opens_no_connection(run: Any) -> None:
    async def main() -> None:
        async with Destination() as there:
            sender = client()
            for target, headers in (("/a b", ()), ("a", ()), ("/", [("X", "a\r\nY: b")])):
                bad = Request("POST", "http", "127.0.0.1", there.port, target, headers, ())
                assert (await failure(sender, bad)).reason == "invalid_request"
            assert there.connections == 0

    run(main)


def after_steps(number: int) -> Callable[[], Any]:
    async def steps() -> None:
        for _ in range(number):
            await asyncio.sleep(0)

    return steps


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_call_that_is_cancelled_leaves_nothing_wherever_it_was(host: str, run: Any) -> None:
    async def main() -> None:
        async with Destination(serve_ok) as there:
            for number in range(60):
                sender = client()
                request = Request("POST", "http", host, there.port, "/", (), (bytes(300_000),))
                task = asyncio.create_task(sender.send(request, limit=LONG))
                await after_steps(number)()
                task.cancel()
                await asyncio.wait([task])
                await after_steps(2)()
                assert not sender._calls
                if task.cancelled():
                    assert not list(sender._pool)
                await sender.close()
            await there.until_all_ended()

    run(main)


def test_a_call_that_is_cancelled_while_it_waits_ends_its_connection(run: Any) -> None:
    async def main() -> None:
        async with Destination(hang) as there:
            sender = client()
            task = asyncio.create_task(sender.send(post(there.port, b"x"), limit=LONG))
            await until(lambda: sender.awaits_answer)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            assert not sender.awaits_answer
            await there.until_all_ended()

    run(main)


def test_an_answer_is_awaited_from_the_last_byte_of_the_request_on(run: Any) -> None:
    may_read, may_answer = asyncio.Event(), asyncio.Event()

    async def behave(visit: Visit) -> None:
        visit.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await may_read.wait()
        visit.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await visit.request()
        await may_answer.wait()
        await visit.say(OK)
        await visit.ended()

    async def main() -> None:
        async with Destination(behave) as there:
            sender = client()
            assert not sender.awaits_answer
            request = post(there.port, *[bytes(MIB)] * 64)
            task = asyncio.create_task(sender.send(request, limit=LONG))
            await until(lambda: there.connections)
            await asyncio.sleep(0.01)
            assert not sender.awaits_answer
            may_read.set()
            await until(lambda: sender.awaits_answer)
            may_answer.set()
            assert (await task).status == 200
            assert not sender.awaits_answer
            await sender.close()

    run(main)


def test_closing_ends_what_is_on_its_way_and_a_later_call_begins_again(run: Any) -> None:
    behaviours = [hang, serve_ok]

    async def behave(visit: Visit) -> None:
        await behaviours.pop(0)(visit)

    async def main() -> None:
        async with Destination(behave) as there:
            sender = client()
            task = asyncio.create_task(failure(sender, post(there.port, b"x")))
            await until(lambda: sender.awaits_answer)
            await sender.close()
            error = await task
            assert (error.reason, error.sent) == ("closed", "all")
            await there.until_all_ended()
            assert (await sender.send(post(there.port), limit=LONG)).status == 200
            await sender.close()
            await sender.close()
            await there.until_all_ended()

    run(main)


def test_no_more_connections_than_allowed(run: Any) -> None:
    async def behave(visit: Visit) -> None:
        while True:
            await visit.request()
            await asyncio.sleep(0.01)
            await visit.say(OK)

    async def main() -> None:
        async with Destination(behave) as one, Destination(behave) as other:
            sender = client(max_connections=2)
            ports = [one.port, one.port, other.port, one.port, other.port, other.port] * 2
            await asyncio.gather(*(sender.send(post(port), limit=LONG) for port in ports))
            assert one.most_open <= 2
            assert other.most_open <= 2
            assert len(sender._pool) <= 2
            await sender.close()
            await one.until_all_ended()
            await other.until_all_ended()

    run(main)


def test_a_call_that_finds_no_free_connection_within_its_limit_was_not_sent(run: Any) -> None:
    async def main() -> None:
        async with Destination(hang) as there:
            sender = client(max_connections=1)
            task = asyncio.create_task(failure(sender, post(there.port, b"x")))
            await until(lambda: sender.awaits_answer)
            error = await failure(sender, post(there.port), 0.05)
            assert (error.reason, error.sent) == ("timeout", "nothing")
            await sender.close()
            await task

    run(main)


def full_listener() -> tuple[socket.socket, list[socket.socket]]:
    """Return a listener that answers no more connections: its queue is full."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    waiting = []
    for _ in range(4):
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(listener.getsockname())
        waiting.append(sock)
    return listener, waiting


def test_a_destination_that_takes_no_connection(run: Any) -> None:
    listener, waiting = full_listener()

    async def main() -> None:
        port = listener.getsockname()[1]
        error = await failure(client(connect_seconds=0.1), post(port, b"x"))
        assert (error.reason, error.sent) == ("connect_timeout", "nothing")

    run(main)
    for sock in (listener, *waiting):
        sock.close()


def test_a_destination_that_is_not_there(run: Any) -> None:
    async def main() -> None:
        with socket.socket() as holder:
            holder.bind(("127.0.0.1", 0))
            port = holder.getsockname()[1]
            for host in ("127.0.0.1", "localhost"):
                error = await failure(client(), Request("GET", "http", host, port, "/", (), ()))
                assert (error.reason, error.sent) == ("unreachable", "nothing")
        for host in ("a" * 64, f"{'a' * 64}.test", "a..b"):  # no resolver is asked for such names
            error = await failure(client(), Request("GET", "http", host, 80, "/", (), ()))
            assert error.reason == "name_not_found"

    run(main)


class ManyAddresses(asyncio.SelectorEventLoop):
    """A loop that knows several addresses of every name."""

    addresses: tuple[tuple[str, int], ...] = ()

    async def getaddrinfo(self, *args: Any, **kwargs: Any) -> Any:
        """Return `addresses`."""
        family, kind = socket.AF_INET, socket.SOCK_STREAM
        return [(family, kind, 6, "", address) for address in self.addresses]


def test_each_address_of_a_name_is_tried() -> None:
    listener, waiting = full_listener()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, ManyAddresses)
        async with Destination() as there:
            with socket.socket() as refusing:
                refusing.bind(("127.0.0.1", 0))
                loop.addresses = (
                    refusing.getsockname(),
                    listener.getsockname(),
                    ("127.0.0.1", there.port),
                )
                sender = client(connect_seconds=2.0)
                request = Request("GET", "http", "many.test", 80, "/", (), ())
                assert (await sender.send(request, limit=LONG)).status == 200
                await sender.close()
                loop.addresses = ()
                assert (await failure(client(), request)).reason == "unreachable"

    with asyncio.Runner(loop_factory=ManyAddresses) as runner:
        runner.run(main())
    for sock in (listener, *waiting):
        sock.close()
