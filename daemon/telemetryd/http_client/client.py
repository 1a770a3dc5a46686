"""The client: takes requests, returns answers, over connections that it keeps.

An answer whose request is fully sent deserves a little more time than the window has. If it is cut
off, the request is sent again, and its lines arrive twice. Before you cancel `send`, look at
`awaits_answer`. If it is true, wait some 100 ms longer. After a failure `HttpError.sent` says if
the destination can have seen the request.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from telemetryd.clock import Clock
from telemetryd.http_client.connection import Connection
from telemetryd.http_client.dial import Route, check_proxy, dial
from telemetryd.http_client.messages import Answer, HttpError, HttpOptions, Request, Sent
from telemetryd.http_client.pool import Pool
from telemetryd.http_client.tls import make_context
from telemetryd.http_client.wire import AnswerReader, encode_head
from telemetryd.log import DaemonLog

if TYPE_CHECKING:
    import ssl

_MAX_ROUTES = 64
_GOODBYE_SECONDS = 0.5
"""Seconds that `close` waits for the loop to close the sockets."""


class _Call:
    """One call of `send`."""

    __slots__ = ("connection", "has_slot", "sent")

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.has_slot = False
        self.sent: Sent = "nothing"


class HttpClient:
    """Sends requests over connections that are kept for the next ones. For one loop."""

    def __init__(self, clock: Clock, log: DaemonLog, *, options: HttpOptions) -> None:
        self._log = log
        self._options = options
        self._pool = Pool(clock, options.idle_seconds)
        self._slots = asyncio.Semaphore(options.max_connections)
        self._calls: set[_Call] = set()
        self._routes: dict[tuple[str, str, int], Route] = {}
        self._context: ssl.SSLContext | None = None
        self._closings = 0
        """The number of calls of `close`."""

    @property
    def awaits_answer(self) -> bool:
        """True if a request is fully sent and only its answer is missing.

        To cut it off now risks that it is sent twice. A caller who can wait, waits 100 ms longer.
        """
        return any(
            call.connection is not None and call.connection.is_awaiting_answer
            for call in self._calls
        )

    async def send(self, request: Request, *, limit: float) -> Answer:
        """Return the answer to `request`, whatever its status, within `limit` seconds.

        Raises HttpError. A call that fails or is cancelled leaves no connection and no task. The
        request is sent a second time only if the connection was an idle one, the destination had
        closed it, and has acknowledged no byte of the request.
        """
        call = _Call()
        self._calls.add(call)
        try:
            async with asyncio.timeout(limit):
                return await self._send(call, request)
        except TimeoutError:
            raise HttpError("timeout", f"no answer within {limit:.1f} s", sent=call.sent) from None
        finally:
            self._calls.discard(call)

    async def close(self) -> None:
        """Close all connections; requests on their way fail. A later `send` makes new ones."""
        self._closings += 1
        leaving = list(self._pool)
        self._pool.close()
        for call in self._calls:
            if call.connection is not None:
                call.connection.interrupt()
                leaving.append(call.connection)
        if not leaving:
            return
        try:
            await asyncio.wait([each.gone for each in leaving], timeout=_GOODBYE_SECONDS)
        finally:
            for each in leaving:
                each.drop()

    async def _send(self, call: _Call, request: Request) -> Answer:
        route = self._route(request)
        head = _encode(request, route)
        async with self._slots:
            call.has_slot = True
            connection = self._pool.take(route)
            if connection is not None:
                try:
                    return await self._carry(call, connection, route, request, head)
                except HttpError as error:
                    if error.reason != "connection_lost" or error.sent != "nothing":
                        raise
            connection = await self._dial(route)
            return await self._carry(call, connection, route, request, head)

    async def _dial(self, route: Route) -> Connection:
        self._pool.shrink(self._options.max_connections - sum(c.has_slot for c in self._calls))
        closings = self._closings
        connection = await dial(route, self._options, self._tls_context)
        if closings != self._closings:
            connection.drop()
            raise HttpError("closed", "the client was closed")
        return connection

    async def _carry(
        self, call: _Call, connection: Connection, route: Route, request: Request, head: bytes
    ) -> Answer:
        options = self._options
        reader = AnswerReader(
            request.method, max_head=options.max_head_bytes, max_body=options.max_body_bytes
        )
        call.connection = connection
        try:
            answer = await connection.exchange(
                head,
                request.body,
                reader,
                send_seconds=options.send_seconds,
                read_seconds=options.read_seconds,
            )
        except BaseException:
            call.sent = connection.sent
            connection.drop()
            raise
        finally:
            call.connection = None
        self._pool.keep(connection, route)
        if route.proxy is not None and route.scheme == "http":
            check_proxy(answer, route.proxy)
        return answer

    def _route(self, request: Request) -> Route:
        key = (request.scheme, request.host, request.port)
        route = self._routes.get(key)
        if route is None:
            route = self._routes[key] = Route(*key, self._find_proxy(request))
            if len(self._routes) > _MAX_ROUTES:
                self._routes = {key: route}
        return route

    def _find_proxy(self, request: Request) -> object:
        environment = self._options.environment
        if not any(name.lower().endswith("_proxy") for name in environment):
            return None
        from telemetryd.http_client.proxies import find_proxy  # noqa: PLC0415 - most have none

        return find_proxy(environment, request.scheme, request.host, request.port)

    def _tls_context(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = make_context(self._options)
            if not self._options.verify:
                self._log.warning("certificates_not_verified")
        return self._context


def _encode(request: Request, route: Route) -> bytes:
    """Return the head of `request`. A proxy for plain HTTP gets the whole URL."""
    target, headers = request.target, request.headers
    if not target.startswith("/"):
        raise HttpError("invalid_request", "the target must begin with /")
    if route.proxy is not None and route.scheme == "http":
        target = f"http://{request.authority}{target}"
        if route.proxy.authorization:
            headers = [*headers, ("Proxy-Authorization", route.proxy.authorization)]
    length = sum(len(piece) for piece in request.body)
    return encode_head(request.method, target, request.authority, headers, length)
