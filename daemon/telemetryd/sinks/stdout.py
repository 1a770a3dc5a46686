"""`type = "stdout"`: lines as they came, on standard output."""

from __future__ import annotations

import errno
import select
from collections.abc import Sequence
from typing import Final

from telemetryd.errors import PermanentSinkError, TransientSinkError
from telemetryd.sinks._thread import SinkThread, write_all
from telemetryd.sinks.base import DELIVERED, Batch, Sink, SinkConfig, SinkContext, WriteResult

_STDOUT: Final = 1
_STALL_SECONDS: Final = 5.0


class StdoutSink(Sink):
    """Writes to file descriptor 1. Never with the `extension` type in Lambda: it would feed itself.

    A reader that goes away is permanent (`stdout_closed`); one that stalls holds up only this sink.
    """

    def __init__(self, config: SinkConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        self._thread = SinkThread(f"sink-{context.name}")

    async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
        """Write every item."""
        await self._thread.run(_write, [item.payload for item in batch.items])
        return DELIVERED

    async def close(self) -> None:
        """End the thread; standard output stays open."""
        self._thread.close()


def _write(payloads: Sequence[bytes]) -> None:
    left = list(payloads)
    while left:
        progress: list[int] = []
        try:
            write_all(_STDOUT, left, progress)
        except BlockingIOError:  # somebody made the descriptor we share non-blocking
            left = [b"".join(left)[sum(progress) :]]
            poll = select.poll()
            poll.register(_STDOUT, select.POLLOUT)
            if not poll.poll(_STALL_SECONDS * 1000):
                raise TransientSinkError("stdout_stalled", "the reader takes nothing") from None
        except OSError as error:
            if error.errno in (errno.EPIPE, errno.EBADF):
                raise PermanentSinkError("stdout_closed", "nobody reads it") from error
            raise TransientSinkError("io_error", error.strerror or str(error)) from error
        else:
            return
