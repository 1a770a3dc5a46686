"""Polls `GET /event/next` on the connection that boot opened.

One request is outstanding at a time. None has a time limit, because a response may take as long as
the environment stays frozen.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

from telemetryd.extension import http
from telemetryd.extension.boot import Refused, Session
from telemetryd_proto.errors import MalformedAnswer
from telemetryd_proto.extensions_api import NextEvent, decode_next

_READ_BYTES = 65536


class StoppedError(Exception):
    """No event is awaited any more."""


class EventsClient:
    """Asks for events, one after the other."""

    def __init__(self, session: Session, on_odd: Callable[[MalformedAnswer], None]) -> None:
        """Store the parts. `on_odd`: gets the reason why members of a response are ignored."""
        self._session = session
        self._on_odd = on_odd
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._is_stopped = False

    async def ask(self) -> None:
        """Send the request, unless it is on its way. Raises OSError when the platform is gone."""
        if self._session.next_sent:
            return
        if self._writer is None:
            self._session.next_socket = None
            self._session.send_next()
        else:
            self._writer.write(self._session.next_request())
            self._session.next_sent = True

    async def answer(self) -> NextEvent:
        """Wait for the event that was asked for.

        Raises OSError when the platform is gone, Refused when it answers with an error,
        MalformedAnswer or ValueError when it answers with something else, and StoppedError after
        `stop`.
        """
        try:
            try:
                answer = await self._read()
            except ConnectionError:
                # An idle connection may have died while frozen: ask once more, on a new one.
                self._drop()
                self._session.send_next()
                answer = await self._read()
        except ValueError:  # not HTTP: where the next answer would begin is unknown
            self._drop()
            raise
        self._session.next_sent = False
        if not answer.keeps_alive:
            self._drop()
        if answer.status != 200:  # noqa: PLR2004 - OK
            raise Refused("next", answer.status, answer.body)
        try:
            return decode_next(answer.body)
        except MalformedAnswer as error:
            event = decode_next(answer.body, lenient=True)
            self._on_odd(error)
            return event

    def stop(self) -> None:
        """End the wait for an answer that has not arrived, and every later one."""
        self._is_stopped = True
        if self._reader is not None:
            self._reader.set_exception(StoppedError())

    async def _read(self) -> http.Answer:
        if self._reader is None:
            assert self._session.next_socket is not None  # noqa: S101 - send_next has made it
            # A copy of the descriptor: boot's own stays usable should the loop come to an end.
            copy = socket.socket(fileno=os.dup(self._session.next_socket.fileno()))
            copy.setblocking(False)
            self._reader, self._writer = await asyncio.open_connection(sock=copy)
            if self._is_stopped:
                raise StoppedError
        answer = http.Answer()
        while not answer.feed(await self._reader.read(_READ_BYTES)):
            pass
        return answer

    def _drop(self) -> None:
        if self._writer is not None:
            self._writer.close()
        if self._session.next_socket is not None:
            self._session.next_socket.close()
        self._reader = self._writer = self._session.next_socket = None
        self._session.next_sent = False
