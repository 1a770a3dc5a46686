"""The destination of `bench.reliability`: a sink that is up, slow, deaf or down, as a file says.

Installed for the measured process as a third-party sink, of type `destination`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from telemetryd.errors import TransientSinkError
from telemetryd.sinks.base import DELIVERED, Batch, Sink, SinkConfig, SinkContext, WriteResult


class DestinationConfig(SinkConfig, frozen=True, kw_only=True):
    """`gate` holds the bytes per second it takes, 0 for no limit, less for no answer at all.

    It is down while there is no such file.
    """

    path: str
    gate: str


class Destination(Sink):
    """Appends lines to the file `path`."""

    Config = DestinationConfig

    def __init__(self, config: Any, context: SinkContext) -> None:
        super().__init__(config, context)
        self._path = Path(config.path)
        self._gate = Path(config.gate)

    async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
        """Append, in its own time, or say that it is down."""
        if not self._gate.exists():
            raise TransientSinkError("down")
        rate = int(self._gate.read_text())
        if rate < 0:
            await asyncio.Event().wait()
        if rate:
            await asyncio.sleep(sum(item.size for item in batch.items) / rate)
        with self._path.open("ab") as file:
            file.writelines(item.payload for item in batch.items)
        return DELIVERED
