"""The two ways telemetry reaches a subscriber: one TCP connection, or HTTP POSTs."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import aiohttp

from telemetryd.local.subscriber import SendError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from telemetryd.local.losses import How
    from telemetryd.local.subscriber import Pace

_DIAL_TIMEOUT = 1.0
_HTTP_TRIES = 3
_HTTP_BACKOFF = 0.1
_HTTP_ANSWER_TIMEOUT = 300.0


async def dial(address: tuple[str, int], source: str, send_buffer: int | None) -> socket.socket:
    """Connect to a subscriber's listener from the platform's address.

    `send_buffer` is SO_SNDBUF in bytes. Raises `OSError` (`TimeoutError` after one second).
    """
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        connection.bind((source, 0))
        if send_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        async with asyncio.timeout(_DIAL_TIMEOUT):
            loop = asyncio.get_running_loop()
            await loop.sock_connect(connection, address)
    except BaseException:
        connection.close()
        raise
    return connection


class TcpSender:
    """NDJSON over the one connection made during the subscription; never reconnects.

    After an error every later batch fails too: so does AWS's emulator, and no publication says
    what the service does.
    """

    def __init__(
        self,
        connection: socket.socket | None,
        connect: Callable[[], Awaitable[socket.socket]] | None = None,
    ) -> None:
        """Store the settings. Without a connection, `connect` makes one for the first data."""
        self._connection = connection
        self._connect = connect
        self._failure: OSError | None = None
        self._accepted = 0

    async def send(self, events: Sequence[bytes], pace: Pace) -> int:
        """Write one batch; progress is every byte the kernel takes."""
        payload = memoryview(b"\n".join(events) + b"\n")
        self._accepted = 0
        connection = await self._open_connection()
        while self._accepted < len(payload):
            await pace.awake.wait()
            if self._failure is not None:
                raise SendError(f"could not write events: {self._failure}")
            try:
                taken = connection.send(payload[self._accepted :])
            except BlockingIOError:
                await _writable(connection)
            except OSError as error:
                self._failure = error
            else:
                self._accepted += taken
                pace.progress()
        return len(payload)

    async def _open_connection(self) -> socket.socket:
        """Return the connection, made now if need be. Raises `SendError`."""
        if self._connection is None:
            if self._connect is None:
                raise SendError("the connection was given away")
            try:
                self._connection = await self._connect()
            except OSError as error:
                raise SendError(f"could not connect: {error}") from None
        return self._connection

    def unsent(self, events: Sequence[bytes]) -> int:
        """Return the events of the interrupted batch that are not completely in the kernel."""
        left = self._accepted
        for index, event in enumerate(events):
            left -= len(event) + 1
            if left < 0:
                return len(events) - index
        return 0

    async def break_off(self, how: How, event: bytes) -> None:
        """Send half of the event's line unless `how` is `close`; close unless it is `stall`."""
        try:
            connection = await self._open_connection()
        except SendError:
            return  # there is none to break off
        half = memoryview(event[: len(event) // 2]) if how != "close" else memoryview(b"")
        while half and self._failure is None:
            try:
                half = half[connection.send(half) :]
            except BlockingIOError:
                await _writable(connection)
            except OSError as error:
                self._failure = error
        if how != "stall":
            connection.close()

    def release(self) -> socket.socket | None:
        """Give the connection away, if there is one: nothing will be sent on it."""
        return self._connection

    async def close(self) -> None:
        """Close the connection: the subscriber sees the end of the stream."""
        if self._connection is not None:
            self._connection.close()


async def _writable(connection: socket.socket) -> None:
    """Return when the kernel takes more."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(connection, _wake, ready)
    try:
        await ready
    finally:
        loop.remove_writer(connection)


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


class HttpSender:
    """One POST of a JSON array per batch; retried, since HTTP delivery is acknowledged.

    A status of 400 or more and a connection error are tried three times, then the batch is given
    up ("Accessing real-time telemetry data for extensions": Lambda retries with backoff).
    """

    def __init__(
        self, url: str, method: str, *, host: str, source: str, on_refused: Callable[[], None]
    ) -> None:
        self._url = url
        self._method = method
        self._headers = {"Content-Type": "application/json", "Host": host}
        self._on_refused = on_refused
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(local_addr=(source, 0)),
            timeout=aiohttp.ClientTimeout(total=_HTTP_ANSWER_TIMEOUT),
        )

    async def send(self, events: Sequence[bytes], pace: Pace) -> int:
        """Post one batch. The response counts as progress."""
        body = b"[" + b",".join(events) + b"]"
        reason = ""
        for attempt in range(_HTTP_TRIES):
            if attempt:
                await asyncio.sleep(_HTTP_BACKOFF * 2**attempt)
            await pace.awake.wait()
            try:
                async with self._session.request(
                    self._method,
                    self._url,
                    data=body,
                    headers=self._headers,
                ) as answer:
                    await answer.read()
                    if answer.ok:
                        pace.progress()
                        return len(body)
                    reason = f"http request failed with status {answer.status} {answer.reason}"
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                if isinstance(error, aiohttp.ClientConnectorError):
                    self._on_refused()
                reason = f"http request failed: {error!r}"
        raise SendError(reason)

    def unsent(self, events: Sequence[bytes]) -> int:
        """Return all of the batch if there was no response."""
        return len(events)

    async def break_off(self, how: How, event: bytes) -> None:
        """Do nothing: each request is whole, and no other follows."""

    async def close(self) -> None:
        """Close the HTTP connections."""
        await self._session.close()


class NowhereSender:
    """Stands for the connection that is never made, on demand. Nothing is ever handed to it."""

    async def send(self, events: Sequence[bytes], pace: Pace) -> int:
        """Raise `SendError`."""
        raise SendError("no connection was made")

    def unsent(self, events: Sequence[bytes]) -> int:
        """Return all of the batch."""
        return len(events)

    async def break_off(self, how: How, event: bytes) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""
