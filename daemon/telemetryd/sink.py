"""The public names for a sink of your own, which needs no other module of telemetryd.

    from telemetryd.sink import DELIVERED, Batch, Sink, WriteResult

    class CountingSink(Sink):
        async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
            lines = sum(item.lines for item in batch.items)
            self.context.log.info("lines_counted", sink=self.context.name, lines=lines)
            return DELIVERED

`docs/sinks.md` teaches it, `telemetryd.testing` proves it. Both are stable, by semantic versioning;
the modules behind them are telemetryd's own business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from telemetryd.clock import Clock
from telemetryd.core.figures import Figures
from telemetryd.errors import (
    PermanentSinkError,
    SinkError,
    SinkUnavailable,
    TransientSinkError,
)
from telemetryd.sinks.base import (
    DELIVERED,
    Batch,
    Failure,
    Item,
    Sink,
    SinkConfig,
    SinkContext,
    SpoolConfig,
    WriteResult,
)
from telemetryd_proto.framing import Block

if TYPE_CHECKING:
    from telemetryd.log import EventLog
    from telemetryd.sinks.aws_needs import AwsNeed

__all__ = [
    "DELIVERED",
    "AwsNeed",
    "Batch",
    "Block",
    "Clock",
    "EventLog",
    "Failure",
    "Figures",
    "Item",
    "PermanentSinkError",
    "Sink",
    "SinkConfig",
    "SinkContext",
    "SinkError",
    "SinkUnavailable",
    "SpoolConfig",
    "TransientSinkError",
    "WriteResult",
]


def __getattr__(name: str) -> type[AwsNeed | EventLog[str]]:
    """Load what no sink needs as it runs, when it is asked for."""
    if name == "EventLog":
        from telemetryd.log import EventLog  # noqa: PLC0415 - see above

        return EventLog
    if name == "AwsNeed":
        from telemetryd.sinks.aws_needs import AwsNeed  # noqa: PLC0415 - see above

        return AwsNeed
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
