"""The surroundings of a sink, made for tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from telemetryd.clock import SYSTEM, Clock
from telemetryd.log import EventLog, Level
from telemetryd.sinks.base import SinkContext

INSTANCE: Final = "0123456789abcdef0123456789abcdef"
"""The id of the process in a `context`, unless the test gives another."""


class LogBook(EventLog[str]):
    """A log that remembers: `records` holds `(level, event, facts)`, in order.

    `on_event[event]` is called when that event is logged: how a test waits for one.
    """

    def __init__(self) -> None:
        self.records: list[tuple[str, str, dict[str, Any]]] = []
        self.on_event: dict[str, Callable[[], None]] = {}

    def write(self, level: Level, event: str, facts: dict[str, Any]) -> None:
        """Store the event."""
        self.records.append((level, event, facts))
        if event in self.on_event:
            self.on_event[event]()

    def facts(self, event: str) -> list[dict[str, Any]]:
        """Return the facts of every record of `event`, in order."""
        return [facts for _, name, facts in self.records if name == event]


def no_dead_letter(_data: bytes, _reason: str) -> bool:
    """Return False: the `SinkContext.salvage` without a dead letter."""
    return False


def context(
    log: EventLog[str] | None = None,
    salvage: Callable[[bytes, str], bool] = no_dead_letter,
    *,
    name: str = "subject",
    function: str = "orders",
    version: str = "$LATEST",
    instance: str = INSTANCE,
    clock: Clock = SYSTEM,
) -> SinkContext:
    """Return the context of a sink called `name`. Without `log`, its log is not kept."""
    return SinkContext(
        name=name,
        function=function,
        version=version,
        instance=instance,
        salvage=salvage,
        log=log or LogBook(),
        clock=clock,
    )
