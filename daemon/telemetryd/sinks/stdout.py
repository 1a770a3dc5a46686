"""`type = "stdout"`: writes unchanged lines to standard output."""

from __future__ import annotations

from telemetryd.errors import PermanentSinkError
from telemetryd.sinks._standard_output import StandardOutput
from telemetryd.sinks.base import Batch, Sink, SinkConfig, SinkContext, WriteResult


class StdoutSink(Sink):
    """Writes to file descriptor 1. Never with the `extension` type in Lambda: it would feed itself.

    How closed and stalled readers are met, `StandardOutput` says.
    """

    survives_freeze = True

    def __init__(self, config: SinkConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        self._output = StandardOutput(f"sink-{context.name}")

    async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
        """Write every item; those that found no room are refused, to be tried again."""
        return await self._output.write([item.payload for item in batch.items])

    def write_direct(self, data: bytes) -> bool:
        """Write `data` at once, if it is little and there is room for it."""
        return self._output.write_direct(data)

    async def probe(self) -> str:
        """Look at the standard output of the command; that of the daemon may be another."""
        import os  # noqa: PLC0415 - for `check --probe` only

        try:
            os.fstat(1)
        except OSError as error:
            raise PermanentSinkError("stdout_closed", "it is closed", stops_sink=True) from error
        return "standard output of this command is open; that of the daemon may be another"

    async def close(self) -> None:
        """End the thread; standard output stays open."""
        self._output.close()
