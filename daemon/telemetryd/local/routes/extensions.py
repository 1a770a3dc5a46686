"""The Extensions API over HTTP: each call goes to the generation's server; what it says is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from telemetryd.local.api import server
from telemetryd.local.api.server import Polling, Registered, Reported
from telemetryd.local.api.wire import Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from telemetryd.local.api.wire import Answer
    from telemetryd.local.generation import Generation


class ExtensionsApi:
    """Routes for extensions. `current` gives the living generation, or None between two."""

    def __init__(self, current: Callable[[], Generation | None]) -> None:
        self._current = current

    def routes(self) -> list[web.RouteDef]:
        """Return the four calls of an extension."""
        return [
            web.post(server.REGISTER, self._call),
            web.get(server.NEXT, self._call, allow_head=False),
            web.post(server.INIT_ERROR, self._call),
            web.post(server.EXIT_ERROR, self._call),
        ]

    async def _call(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        generation = self._current()
        if generation is None:
            return to_response(server.refuse_all(to_request(request, body)))
        outcome = generation.server.receive(to_request(request, body))
        if isinstance(outcome, Polling):
            generation.changes.notify()
            return to_response(await generation.polls.answer(outcome.extension))
        if isinstance(outcome, Registered):
            generation.changes.notify()
        elif isinstance(outcome, Reported):
            generation.fail(outcome.error_type, outcome.message)
        return to_response(outcome.answer)


def to_request(request: web.Request, body: bytes) -> Request:
    """Return the request as the server reads it."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    return Request(request.method, request.path, headers, body)


def to_response(answer: Answer) -> web.Response:
    """Return the answer as aiohttp sends it."""
    return web.Response(status=answer.status, body=answer.body, headers=dict(answer.headers))
