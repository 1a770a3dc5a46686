"""A small HTTP server for `/metrics` and `/healthz`: GET and HEAD, one request per connection.

Each client gets a few seconds and a few kilobytes, and the number of clients is bounded. So a
monitor can't delay telemetryd. If all connections are in use, a new peer replaces the one that has
been silent for longest. A response is made in one piece, in one turn of the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeAlias, cast

Page: TypeAlias = Callable[[str], tuple[int, str, bytes]]
"""Makes an answer from the request's Accept header: status, content type, body."""

MAX_HEAD_BYTES: Final = 8192
MAX_CONNECTIONS: Final = 16
SECONDS: Final = 5.0
"""The longest total duration of a connection."""

_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
_TEXT: Final = "text/plain; charset=utf-8"
_END: Final = b"\r\n\r\n"
_PARTS: Final = 3
"""Method, target, version."""


class HttpServer:
    """Serves `pages` by their path. `on_bug` learns of what one of them raises."""

    def __init__(self, pages: dict[str, Page], on_bug: Callable[[Exception], None]) -> None:
        self._pages = pages
        self._on_bug = on_bug
        self._server: asyncio.Server | None = None
        self._connections: dict[_Connection, None] = {}
        """Connections in the order in which they last sent something."""

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen, and return the address. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), host, port)
        address: tuple[str, int] = self._server.sockets[0].getsockname()[:2]
        return address

    def close(self) -> None:
        """Stop listening, and end what is open."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self._connections):
            connection.abort()

    # -- what connections call -----------------------------------------------------------------

    def admit(self, connection: _Connection) -> bool:
        """Make room for one more; False at the end of the server."""
        if self._server is None:
            return False
        while len(self._connections) >= MAX_CONNECTIONS:
            idlest = next(iter(self._connections))
            self.left(idlest)
            idlest.abort()
        self._connections[connection] = None
        return True

    def on_heard(self, connection: _Connection) -> None:
        """Note that a connection has sent something."""
        if connection in self._connections:
            del self._connections[connection]
            self._connections[connection] = None

    def left(self, connection: _Connection) -> None:
        """A connection has ended."""
        self._connections.pop(connection, None)

    def answer(self, head: bytes) -> bytes:
        """Return the answer to a request, whatever it is."""
        line, *fields = head.decode("latin-1").split("\r\n")
        parts = line.split(" ")
        if len(parts) != _PARTS or not parts[2].startswith("HTTP/1."):
            return _answer(400, _TEXT, b"this is an HTTP/1.1 server\n")
        method, target, _ = parts
        page = self._pages.get(target.partition("?")[0])
        if page is None:
            paths = " and ".join(self._pages)
            return _answer(404, _TEXT, f"nothing here; there are {paths}\n".encode())
        if method not in ("GET", "HEAD"):
            return _answer(405, _TEXT, b"only GET and HEAD\n", ("Allow: GET, HEAD",))
        try:
            status, content_type, body = page(_field(fields, "accept"))
        except Exception as bug:  # noqa: BLE001 - ours; it must not end the connection's task
            self._on_bug(bug)
            return _answer(500, _TEXT, b"an internal error; see telemetryd's log\n")
        return _answer(status, content_type, body, with_body=method == "GET")


class _Connection(asyncio.Protocol):
    """One request, one answer."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._head = bytearray()
        self._transport: asyncio.Transport | None = None
        self._limit: asyncio.TimerHandle | None = None
        self._answered = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the interface but not the base class
        self._transport = cast("asyncio.Transport", transport)
        if self._server.admit(self):
            self._limit = asyncio.get_running_loop().call_later(SECONDS, self.abort)
        else:
            self.abort()

    def data_received(self, data: bytes) -> None:
        if self._answered:
            return
        self._server.on_heard(self)
        self._head += data
        end = self._head.find(_END)
        if end >= 0:
            self._finish(self._server.answer(bytes(self._head[:end])))
        elif len(self._head) > MAX_HEAD_BYTES:
            self._finish(_answer(431, _TEXT, b"the request is too long\n"))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._limit is not None:
            self._limit.cancel()
        self._server.left(self)

    def abort(self) -> None:
        """End it at once."""
        if self._transport is not None:
            self._transport.abort()

    def _finish(self, answer: bytes) -> None:
        assert self._transport is not None  # noqa: S101 - it has just given us data
        self._answered = True
        self._head.clear()
        self._transport.write(answer)
        self._transport.close()


def _answer(
    status: int, content_type: str, body: bytes, fields: tuple[str, ...] = (), *,
    with_body: bool = True,
) -> bytes:  # fmt: skip
    head = "\r\n".join(
        (
            f"HTTP/1.1 {status} {_REASONS[status]}",
            f"Content-Type: {content_type}",
            f"Content-Length: {len(body)}",
            "Cache-Control: no-store",
            "Connection: close",
            *fields,
        )
    )
    return head.encode() + _END + (body if with_body else b"")


def _field(fields: list[str], name: str) -> str:
    """Return the values of a header field, joined as one."""
    found = (field.partition(":") for field in fields)
    return ", ".join(value.strip() for key, _, value in found if key.strip().lower() == name)
