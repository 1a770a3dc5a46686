"""The contract of a hook: what telemetryd calls, and when.

A hook may have any of these methods, and need not inherit from `Hook`:

    on_init           once, when telemetryd is up; the function does not wait for it
    on_invoke         an invocation begins
    on_runtime_done   the function has ended
    on_report         the platform's figures of an invocation, which come after the end
    on_events         telemetry, decoded: every event of a socket read
    on_shutdown       the environment ends

Each hook has a thread. Its calls come one after the other, in order, so it needs no locks and may
block. A call has a budget of time; `docs/hooks.md` says what happens beyond it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from telemetryd_proto.events import Record
from telemetryd_proto.extensions_api import NextEvent
from telemetryd_proto.records import Report, RuntimeDone


class HookContext(msgspec.Struct, frozen=True, kw_only=True):
    """The argument of a hook that is made."""

    name: str
    """Its name in the configuration."""
    settings: Mapping[str, Any]
    """`settings` of its section."""
    function: str
    version: str
    instance: str
    """Random id of this process."""
    in_lambda: bool
    """False in `listen`, where there is neither `on_invoke` nor a freeze."""


class Event(msgspec.Struct, frozen=True):
    """An event of telemetry."""

    time: str
    """ISO-8601, as sent."""
    type: str
    """Such as `function` or `platform.report`."""
    record: Record
    """The record as its type: `telemetryd_proto.events.RECORD_TYPES`."""


class Hook:
    """A hook that does nothing. Methods that are not overridden cost nothing."""

    def __init__(self, context: HookContext) -> None:
        self.context = context

    def on_init(self) -> None:
        """Prepare. An exception here switches the hook off."""

    def on_invoke(self, event: NextEvent) -> None:
        """Note that an invocation begins. `event` is the answer to `next`."""

    def on_runtime_done(self, done: RuntimeDone) -> None:
        """Note that the function has ended."""

    def on_report(self, report: Report) -> None:
        """Note the platform's figures of an invocation."""

    def on_events(self, events: Sequence[Event]) -> None:
        """Take events of telemetry, in order, as they came in one read."""

    def on_shutdown(self, reason: str) -> None:
        """Give back what was taken: this is the last call.

        `reason`: `spindown`, `timeout`, `failure`, or `signal`.
        """
