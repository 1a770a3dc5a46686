"""Measures how late the loop comes to a timer: the wait of everything else in the process."""

from __future__ import annotations

import asyncio
from typing import Final

from telemetryd.core.stats import Histogram

PERIOD_SECONDS: Final = 0.5


class LoopLag:
    """Observes into `histogram` until `stop`."""

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._timer = self._next()

    def stop(self) -> None:
        """Stop the observation."""
        self._timer.cancel()

    def _next(self) -> asyncio.TimerHandle:
        loop = asyncio.get_running_loop()
        self._due = loop.time() + PERIOD_SECONDS
        return loop.call_at(self._due, self._observe)

    def _observe(self) -> None:
        self._histogram.observe(max(asyncio.get_running_loop().time() - self._due, 0.0))
        self._timer = self._next()
