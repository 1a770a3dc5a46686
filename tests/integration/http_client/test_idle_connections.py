"""Connections that wait: how long they are trusted, and what happens if they are dead."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import pytest

from helpers.http_destination import OK, Destination, Visit, serve_ok, until
from telemetryd.clock import SYSTEM, Clock
from telemetryd.http_client.client import HttpClient
from telemetryd.http_client.messages import HttpError, HttpOptions, Request
from telemetryd.log import EventLog

LONG = 60.0


def client(clock: Clock = SYSTEM, **options: Any) -> HttpClient:
    return HttpClient(clock, EventLog(), options=HttpOptions(**options))


def post(port: int, body: Sequence[bytes] = ()) -> Request:
    return Request("POST", "http", "127.0.0.1", port, "/", (), body)


def test_a_connection_is_not_trusted_after_a_freeze(run: Any) -> None:
    frozen = 0.0

    async def main() -> None:
        nonlocal frozen
        async with Destination() as there:
            sender = client(Clock(wall=lambda: time.time() + frozen), idle_seconds=LONG)
            for seconds, connections in ((0, 1), (LONG / 2, 1), (LONG + 1, 2), (0, 2)):
                frozen += seconds
                await sender.send(post(there.port), limit=LONG)
                assert there.connections == connections
            assert there.open == 1
            await sender.close()
            await there.until_all_ended()

    run(main)


def test_an_idle_connection_is_closed_after_a_while(run: Any) -> None:
    async def main() -> None:
        async with Destination() as there:
            sender = client(idle_seconds=0.05)
            await asyncio.gather(*(sender.send(post(there.port), limit=LONG) for _ in range(3)))
            await there.until_all_ended()
            assert not list(sender._pool)
            await sender.send(post(there.port), limit=LONG)
            await sender.close()

    run(main)


FROZEN_SECONDS = 3.0
SEND = f"""
import sys, uvloop
from telemetryd.clock import SYSTEM
from telemetryd.http_client.client import HttpClient
from telemetryd.http_client.messages import HttpOptions, Request
from telemetryd.log import EventLog

async def main():
    sender = HttpClient(SYSTEM, EventLog(), options=HttpOptions(read_seconds={FROZEN_SECONDS}))
    request = Request("POST", "http", "127.0.0.1", int(sys.argv[1]), "/", (), [b"line"])
    print((await sender.send(request, limit={LONG})).status)
    await sender.close()

uvloop.run(main())
"""


def test_an_answer_that_came_during_a_freeze_is_read() -> None:
    """By then its time is up, but the destination was not late. Stopped as Lambda stops it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        sender = subprocess.Popen([sys.executable, "-c", SEND, port], stdout=subprocess.PIPE)
        with sender, listener.accept()[0] as there:
            there.recv(65536)
            while _state(sender.pid) not in "SZ":  # it waits for the answer
                time.sleep(0.01)
            os.kill(sender.pid, signal.SIGSTOP)
            while _state(sender.pid) not in "TZ":
                time.sleep(0.01)
            there.sendall(OK)
            time.sleep(1.2 * FROZEN_SECONDS)
            os.kill(sender.pid, signal.SIGCONT)
            assert sender.communicate()[0] == b"200\n"


def _state(pid: int) -> str:
    """The letter of a process's state in /proc."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.parametrize("last_words", [b"", b"HTTP/1.1 408 Request Timeout\r\n\r\n"])
def test_a_connection_that_the_destination_closed_is_replaced(last_words: bytes, run: Any) -> None:
    async def behave(visit: Visit) -> None:
        await visit.request()
        await visit.say(OK)
        if last_words:
            await asyncio.sleep(0.01)
            await visit.say(last_words)

    async def main() -> None:
        async with Destination(behave) as there:
            sender = client()
            for number in range(1, 4):
                assert (await sender.send(post(there.port), limit=LONG)).status == 200
                assert there.connections == number
                await until(lambda: not list(sender._pool))

    run(main)


def test_an_end_that_the_loop_did_not_see_yet_is_seen(run: Any) -> None:
    """As after a thaw: the kernel knows, the loop had no turn."""
    with thread_server() as server:

        async def main() -> None:
            sender = client()
            await sender.send(post(server.port), limit=LONG)
            server.hang_up()
            assert [each.is_usable for each in sender._pool] == [False]
            await sender.send(post(server.port), limit=LONG)
            assert server.requests == [1, 1]
            await sender.close()

        run(main)


class EventfulBody(Sequence[bytes]):
    """A body of some pieces; before the one at `at` is sent for the first time, `event` happens."""

    def __init__(
        self, piece: bytes, event: Callable[[], None], pieces: int = 1, at: int = 0
    ) -> None:
        self._pieces = (piece,) * pieces
        self._event = event
        self._at = at
        self._passes = 0

    def __len__(self) -> int:
        return len(self._pieces)

    @overload
    def __getitem__(self, at: int) -> bytes: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[bytes]: ...
    def __getitem__(self, at: int | slice) -> bytes | Sequence[bytes]:
        return self._pieces[at]

    def __iter__(self) -> Iterator[bytes]:
        self._passes += 1
        for at, piece in enumerate(self._pieces):
            if self._passes == 2 and at == self._at:  # the first pass is for its length
                self._event()
            yield piece


class ThreadServer:
    """A server that needs no turn of the loop: it hangs up just when it is told to."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.requests: list[int] = []
        """How many each connection brought."""
        self.answers = True
        self._current: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.requests.append(0)
                self._current = sock
                threading.Thread(target=self._talk, args=(sock,), daemon=True).start()

    def _talk(self, sock: socket.socket) -> None:
        data = b""
        with contextlib.suppress(OSError):
            while part := sock.recv(65536):
                data += part
                if b"\r\n\r\n" not in data:
                    continue
                head, _, body = data.partition(b"\r\n\r\n")
                if len(body) < int(head.lower().partition(b"content-length: ")[2].split()[0]):
                    continue
                data = b""
                self.requests[-1] += 1
                if not self.answers:
                    break
                sock.sendall(OK)
        sock.close()

    def hang_up(self) -> None:
        """End the newest connection, as a server does with one that was idle for long."""
        assert self._current is not None
        self._current.shutdown(socket.SHUT_RDWR)

    def refuse(self) -> None:
        """Answer before the request is complete, and end the connection."""
        assert self._current is not None
        self._current.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        self.hang_up()

    def close(self) -> None:
        """End all."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@contextlib.contextmanager
def thread_server() -> Iterator[ThreadServer]:
    server = ThreadServer()
    try:
        yield server
    finally:
        server.close()


@pytest.mark.parametrize("size", [10, 5_000_000])
def test_a_request_on_a_dead_idle_connection_is_sent_once_more(size: int, run: Any) -> None:
    with thread_server() as server:

        async def main() -> None:
            sender = client()
            await sender.send(post(server.port), limit=LONG)
            body = EventfulBody(bytes(size), server.hang_up)
            assert (await sender.send(post(server.port, body), limit=LONG)).status == 200
            assert server.requests == [1, 1]
            await sender.close()

        run(main)


def test_an_answer_before_the_end_is_found_though_sending_failed(run: Any) -> None:
    with thread_server() as server:

        async def main() -> None:
            sender = client()
            await sender.send(post(server.port), limit=LONG)
            body = EventfulBody(bytes(1 << 16), server.refuse, pieces=8, at=2)
            answer = await sender.send(post(server.port, body), limit=LONG)
            assert (answer.status, answer.body) == (413, b"big")

        run(main)


def test_a_request_on_a_new_connection_is_not_sent_again(run: Any) -> None:
    async def behave(visit: Visit) -> None:
        return

    async def main() -> None:
        async with Destination(behave) as there:
            with pytest.raises(HttpError) as caught:
                await client().send(post(there.port, (bytes(10),)), limit=LONG)
            assert caught.value.reason == "connection_lost"
            assert there.connections == 1

    run(main)


def test_a_request_that_the_destination_has_read_is_not_sent_again(run: Any) -> None:
    with thread_server() as server:

        async def main() -> None:
            sender = client()
            await sender.send(post(server.port), limit=LONG)
            server.answers = False
            with pytest.raises(HttpError) as caught:
                await sender.send(post(server.port, (bytes(100_000),)), limit=LONG)
            assert (caught.value.reason, caught.value.sent) == ("connection_lost", "all")
            assert server.requests == [2]

        run(main)


def test_a_part_of_an_answer_is_never_followed_by_another_attempt(run: Any) -> None:
    async def behave(visit: Visit) -> None:
        await visit.request()
        await visit.say(OK)
        await visit.request()
        await visit.say(b"H")

    async def main() -> None:
        async with Destination(behave) as there:
            sender = client()
            await sender.send(post(there.port), limit=LONG)
            with pytest.raises(HttpError) as caught:
                await sender.send(post(there.port, (b"x",)), limit=LONG)
            assert (caught.value.reason, caught.value.sent) == ("connection_lost", "all")
            assert there.connections == 1

    run(main)


def test_two_destinations_have_connections_of_their_own(run: Any) -> None:
    async def main() -> None:
        async with Destination(serve_ok) as one, Destination(serve_ok) as other:
            sender = client()
            for there in (one, other, one, other):
                await sender.send(post(there.port), limit=LONG)
            assert (one.connections, other.connections) == (1, 1)
            await sender.close()

    run(main)
