"""A loopback HTTP server that does to a connection what a test says, on the test's own loop."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self, TypeAlias

CERTIFICATES = Path(__file__).parent / "certificates"
AUTHORITY = CERTIFICATES / "authority.pem"
_PATIENCE_SECONDS = 30.0
"""With what is a hang; a busy machine needs a small part of it."""
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Received(NamedTuple):
    """A request as it came."""

    head: bytes
    body: bytes

    @property
    def line(self) -> bytes:
        """Its first line."""
        return self.head.partition(b"\r\n")[0]


class Visit:
    """One connection, as the server sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def head(self) -> bytes:
        """Read the head of a request."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def request(self) -> Received:
        """Read a request."""
        head = await self.head()
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        return Received(head, await self.reader.readexactly(length))

    async def say(self, *data: bytes) -> None:
        """Send `data`, each part by itself."""
        for part in data:
            self.writer.write(part)
            await self.writer.drain()

    async def ended(self) -> None:
        """Wait until the client has hung up."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


Behaviour: TypeAlias = Callable[[Visit], Awaitable[None]]


async def serve_ok(visit: Visit) -> None:
    """Answer every request with 200."""
    while True:
        await visit.request()
        await visit.say(OK)


async def until(condition: Callable[[], object]) -> None:
    """Wait until `condition` is true; TimeoutError where it never is."""
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - no event says what is looked at
            await asyncio.sleep(0.001)


def tls_server(name: str = "server", *, asks: bool = False) -> ssl.SSLContext:
    """Return a context with the certificate `name`. `asks`: clients must have one, too."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / f"{name}.pem")
    if asks:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(AUTHORITY)
    return context


class Destination:
    """Serves each connection by `behave`, until it returns; counts connections and requests."""

    def __init__(self, behave: Behaviour = serve_ok, tls: ssl.SSLContext | None = None) -> None:
        self._behave = behave
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        self.connections = 0
        self.open = 0
        self.most_open = 0

    async def until_all_ended(self) -> None:
        """Wait until no connection is open; TimeoutError if one stays."""
        await until(lambda: not self.open)

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        visit = Visit(reader, writer)
        try:
            await self._behave(visit)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()
            self.open -= 1

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._visit, "127.0.0.1", 0, ssl=self._tls, limit=1 << 20
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))
