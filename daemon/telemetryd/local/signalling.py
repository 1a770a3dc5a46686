"""Waiting for a state instead of for a message: one notifier, many bounded waits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from telemetryd.local.clock import monotonic

if TYPE_CHECKING:
    from collections.abc import Callable


class Changes:
    """Wakes all that wait for a condition over shared state, whenever that state changes."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    def notify(self) -> None:
        """Say that something changed."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def wait_until(self, condition: Callable[[], object], deadline: float) -> bool:
        """Wait until `condition()` is true; False when `deadline` (monotonic) passes first."""
        loop = asyncio.get_running_loop()
        while not condition():
            left = deadline - monotonic()
            if left <= 0:
                return False
            waiter: asyncio.Future[None] = loop.create_future()
            self._waiters.add(waiter)
            try:
                await asyncio.wait((waiter,), timeout=left)
            finally:
                self._waiters.discard(waiter)
        return True
