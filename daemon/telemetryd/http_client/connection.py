"""One connection on the loop: carries one request after another, over TLS if required.

It is a protocol of the loop, which only notes what happens. The caller waits until something
happens, and looks. Large bodies are sent in pieces, as fast as the destination reads them. Data
that arrives in between is read at once.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from telemetryd.http_client.messages import Answer, HttpError, Reason, Sent
from telemetryd.http_client.tls import Tls
from telemetryd.http_client.wire import AnswerReader

if TYPE_CHECKING:
    import ssl

PIECE_BYTES: Final = 64 * 1024
"""Bytes handed to the loop at a time. It keeps about as many again until the kernel takes them."""
_ACKNOWLEDGED_AT: Final = 120
"""The offset of `tcpi_bytes_acked` in `tcp_info`, 8 bytes (linux/tcp.h)."""


class Connection(asyncio.Protocol):
    """A connection over a connected socket, which it owns. One request at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        """An asyncio.Transport, or uvloop's, which is none."""
        self._tls: Tls | None = None
        self._reader: AnswerReader | None = None
        self._waiter: asyncio.Future[bool] | None = None
        self._failure: HttpError | None = None
        self._is_paused = False
        self._is_over = False
        """No other request may be sent."""
        self._written = 0
        """Bytes handed to the loop since the connection was made."""
        self._before = 0
        """`_written` when the request began."""
        self._is_handed_over = False
        """All of the request was handed to the loop."""
        self.on_unusable: Callable[[Connection], None] | None = None
        """Called when the connection ends; set while it is idle."""
        self.idle_since = 0.0
        """Seconds of `Clock.elapsed`; kept by the pool."""
        self.gone: asyncio.Future[None] = self._loop.create_future()
        """Done when the loop has closed the connection."""

    # -- the loop's calls ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Read what arrived."""
        if self._failure is not None:
            return
        try:
            self._read(data)
        except HttpError as error:
            self._fail(error.reason, error.detail, self.sent)
        self._wake()

    def eof_received(self) -> None:
        """Note that the other side sends no more. The loop then closes the connection."""
        self._on_end(clean=self._tls is None)
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        """Note that the connection is gone."""
        self._read_what_is_left()
        if self._failure is None and not self._is_answered:
            was_ended = getattr(error, "errno", 0) == errno.EPIPE
            why = getattr(error, "strerror", None) or "the connection ended"
            self._fail("connection_lost", why, self._judge_sent(was_ended=was_ended))
        self._is_over = True
        if not self.gone.done():
            self.gone.set_result(None)
        self._wake()

    def pause_writing(self) -> None:
        """Note that the loop keeps enough."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """Note that the loop takes more."""
        self._is_paused = False
        self._wake()

    # -- the caller's ----------------------------------------------------------------------------

    @property
    def is_usable(self) -> bool:
        """True if another request may be sent: no end, and nothing arrived that was not read.

        The kernel is asked, since it may know of an end that the loop did not get to yet.
        """
        if self._is_over or self._failure is not None or self._transport.is_closing():
            return False
        try:
            self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    @property
    def is_awaiting_answer(self) -> bool:
        """True if the kernel has all of the request, and the answer is not complete."""
        if self._reader is None or self._is_answered or self._failure is not None:
            return False
        return self.sent == "all"

    @property
    def sent(self) -> Sent:
        """The part of the current request that the destination may have seen, while connected."""
        if self._written == self._before:
            return "nothing"
        is_out = self._is_handed_over and not self._transport.get_write_buffer_size()
        return "all" if is_out else "part"

    async def begin_tls(self, context: ssl.SSLContext, host: str) -> None:
        """Shake hands. Raises HttpError; it has no limit of its own."""
        tls = self._tls = Tls(context, host)
        try:
            tls.advance()
        finally:
            self._flush(tls)
        while not tls.is_ready:
            self._raise_failure()
            await self._within(None, "tls_error", "")
        self._raise_failure()

    async def exchange(
        self,
        head: bytes,
        body: Sequence[bytes | memoryview],
        reader: AnswerReader,
        *,
        send_seconds: float,
        read_seconds: float,
    ) -> Answer:
        """Send a request and return its answer, which may come before all is sent.

        Raises HttpError. Unless it returns, the connection must be dropped; if it returns,
        `is_usable` says whether the connection carries another request.
        """
        self._raise_failure()
        self._reader = reader
        self._before = self._written
        self._is_handed_over = False
        try:
            await self._send(gather(head, body), reader, send_seconds)
            while (answer := reader.answer) is None:
                self._raise_failure()
                await self._within(read_seconds, "read_timeout", "the destination sent no byte")
            if not (reader.keeps_alive and self._is_handed_over):
                self._is_over = True
            return answer
        finally:
            self._reader = None

    def interrupt(self) -> None:
        """End the request on its way, if there is one: its caller gets the reason `closed`."""
        self._fail("closed", "the client was closed", self.sent)
        self._wake()

    def drop(self) -> None:
        """Close the connection at once; what is not sent yet is discarded. May be called twice."""
        self._is_over = True
        self.on_unusable = None
        self._transport.abort()

    def close(self) -> None:
        """Close an idle connection: the other side is told."""
        self._is_over = True
        self.on_unusable = None
        if self._transport.is_closing():
            return
        if self._transport.get_write_buffer_size():  # an answer came before all was sent
            self._transport.abort()
            return
        if self._tls is not None and (goodbye := self._tls.end()):
            self._transport.write(goodbye)
        self._transport.close()

    # -- sending ---------------------------------------------------------------------------------

    async def _send(
        self, pieces: Iterator[bytes | memoryview], reader: AnswerReader, seconds: float
    ) -> None:
        """Hand over one piece after the other, until all are or there is an answer."""
        for piece in pieces:
            self._write(piece)
            while self._is_paused and not reader.is_complete:
                self._raise_failure()
                await self._within(seconds, "send_timeout", "the destination took no byte")
            if reader.is_complete or self._transport.is_closing():  # its end is about to be known
                return
            self._raise_failure()
        self._is_handed_over = True

    def _write(self, data: bytes | memoryview) -> None:
        if self._tls is not None:
            data = self._tls.encrypt(data)
        self._written += len(data)
        self._transport.write(data)

    def _flush(self, tls: Tls) -> None:
        """Send what TLS has to say for itself."""
        if (data := tls.take()) and not self._transport.is_closing():
            self._written += len(data)
            self._transport.write(data)
            if self._reader is None:  # it belongs to no request
                self._before = self._written

    # -- reading ---------------------------------------------------------------------------------

    @property
    def _is_answered(self) -> bool:
        return self._reader is not None and self._reader.answer is not None

    def _read(self, data: bytes) -> None:
        tls = self._tls
        if tls is not None:
            try:
                data = tls.feed(data)
            finally:
                self._flush(tls)
        if self._reader is not None:
            self._reader.feed(data)
        elif data:
            raise HttpError("garbled_answer", "the other side speaks without being asked")
        if tls is not None and tls.is_over:
            self._on_end(clean=True)

    def _read_what_is_left(self) -> None:
        """Read what arrived before an error of sending: it may say why there was one."""
        reader = self._reader
        if reader is None or self._failure is not None:
            return
        try:
            while not reader.is_complete:
                data = self._sock.recv(PIECE_BYTES)
                if not data:
                    self._on_end(clean=self._tls is None)
                    return
                self._read(data)
        except OSError:
            return
        except HttpError as error:
            self._fail(error.reason, error.detail, self._judge_sent(was_ended=False))

    def _on_end(self, *, clean: bool) -> None:
        """Note that the other side sends no more. `clean`: no one else can have ended it."""
        self._is_over = True
        if self._reader is None:
            what = "the other side hung up"
        else:
            try:
                self._reader.eof(clean=clean)
            except HttpError as error:
                what = error.detail
            else:
                return
        self._fail("connection_lost", what, self._judge_sent(was_ended=True))

    # -- ends ------------------------------------------------------------------------------------

    def _judge_sent(self, *, was_ended: bool) -> Sent:
        """Return how much the destination may have seen of a request that gets no answer.

        `was_ended`: the other side closed the connection, before anything else was wrong with it.
        If it has acknowledged no byte of the request, it closed before any arrived.
        """
        if self._reader is None or self._written == self._before:
            return "nothing"
        if was_ended and not self._reader.has_begun and self._count_acknowledged() == self._before:
            return "nothing"
        return "all" if self._is_handed_over else "part"

    def _count_acknowledged(self) -> int:
        """Return the bytes that the other side's kernel has acknowledged; -1: unknown."""
        try:
            info = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED_AT + 8)
        except (AttributeError, OSError):  # not Linux; or closed
            return -1
        return int.from_bytes(info[_ACKNOWLEDGED_AT:], "little") - 1  # the first one is the SYN's

    def _fail(self, reason: Reason, detail: str, sent: Sent) -> None:
        if self._failure is None:
            self._failure = HttpError(reason, detail, sent=sent)
        self._is_over = True
        self._transport.abort()
        on_unusable, self.on_unusable = self.on_unusable, None
        if on_unusable is not None:
            on_unusable(self)

    def _raise_failure(self) -> None:
        if (
            failure := self._failure
        ) is not None:  # a copy: it would keep the frames it came through
            raise HttpError(failure.reason, failure.detail, sent=failure.sent)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(True)

    def _expire(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            # after a freeze the loop looks at its timers before it reads what has come since
            self._waiter.set_result(self._has_unread())

    def _has_unread(self) -> bool:
        """True if the kernel has bytes of the other side, or its end, that the loop has not."""
        try:
            self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:
            return False
        return True

    async def _within(self, seconds: float | None, reason: Reason, what: str) -> None:
        """Wait until something happens. Raises HttpError after `seconds` without."""
        self._waiter = self._loop.create_future()
        timer = None if seconds is None else self._loop.call_later(seconds, self._expire)
        try:
            if not await self._waiter:
                raise HttpError(reason, f"{what} for {seconds:.1f} s", sent=self.sent)
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()


def gather(head: bytes, body: Sequence[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """Yield `head` and `body` in pieces of PIECE_BYTES; only the last may be smaller."""
    parts: list[bytes | memoryview] = []
    room = PIECE_BYTES
    for each in chain((head,), body):
        rest = each
        while len(rest) >= room:
            if not isinstance(rest, memoryview):
                rest = memoryview(rest)
            parts.append(rest[:room])
            rest = rest[room:]
            yield parts[0] if len(parts) == 1 else b"".join(parts)
            parts, room = [], PIECE_BYTES
        if rest:
            parts.append(rest)
            room -= len(rest)
    if parts:
        yield parts[0] if len(parts) == 1 else b"".join(parts)
