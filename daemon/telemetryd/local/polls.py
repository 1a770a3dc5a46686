"""The calls of `next` that are held until there is an event for them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from telemetryd.local.api.server import Extension, ExtensionsServer
    from telemetryd.local.api.wire import Answer


class HeldPolls:
    """At most one call for each extension of `server`."""

    def __init__(self, server: ExtensionsServer) -> None:
        self._server = server
        self._held: dict[str, asyncio.Future[None]] = {}
        """The waiting calls by the extension's name."""

    async def answer(self, extension: Extension) -> Answer:
        """Wait for the next event, for as long as the environment lives.

        Cancelled when the connection or the environment ends; the event is then not lost.
        """
        try:
            while (answer := self._server.take(extension)) is None:
                self._held[extension.name] = asyncio.get_running_loop().create_future()
                await self._held[extension.name]
        finally:
            self._held.pop(extension.name, None)
            extension.hang_up()
        return answer

    def send(self, extension: Extension, event: Mapping[str, Any]) -> None:
        """Queue an event; delivered at once when the extension is waiting."""
        extension.send(event)
        held = self._held.get(extension.name)
        if held is not None and not held.done():
            held.set_result(None)

    def abandon(self) -> None:
        """End every waiting call, because the environment has ended."""
        for held in self._held.values():
            held.cancel()
