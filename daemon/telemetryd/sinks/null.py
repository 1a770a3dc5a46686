"""`type = "null"`: accepts every line and discards it."""

from __future__ import annotations

from telemetryd.sinks.base import DELIVERED, Batch, Sink, WriteResult


class NullSink(Sink):
    """Delivers to nowhere, at once."""

    survives_freeze = True

    def write_direct(self, data: bytes) -> bool:
        """Accept everything."""
        return True

    async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
        """Accept everything."""
        return DELIVERED

    async def probe(self) -> str:
        """Accept everything."""
        return "discards every line"
