"""Distributes telemetry from the environment and its processes to the subscribers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from telemetryd.local.events import FIRST_SCHEMA, LOGS_SCHEMAS, LogLines, PlatformEvent
from telemetryd.local.subscriber import Subscription, SubscriptionStats

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from telemetryd.local.config import LocalConfig
    from telemetryd.local.events import Kind
    from telemetryd.local.losses import How, LossPlan
    from telemetryd.local.subscriber import Buffering, Sender


class TelemetryHub:
    """All telemetry of one generation of processes.

    Until the subscription window closes, everything is remembered and replayed to each new
    subscriber, from `platform.initStart` on.
    """

    def __init__(
        self,
        config: LocalConfig,
        *,
        generation: int,
        on_event: Callable[[PlatformEvent], None],
        on_pressure: Callable[[], None],
        losses: LossPlan,
    ) -> None:
        self.stats: list[SubscriptionStats] = []
        self.subscriptions: list[Subscription] = []
        self.silent_connections: list[socket.socket] = []
        """Dialled for a subscription that was then refused: they carry nothing, as observed."""
        self._config = config
        self._generation = generation
        self._on_event = on_event
        self._on_pressure = on_pressure
        self._losses = losses
        self._history: list[tuple[PlatformEvent | LogLines, How | None]] | None = []

    @property
    def open(self) -> bool:
        """True if subscriptions are still accepted."""
        return self._history is not None

    @property
    def makes_connection(self) -> bool:
        """False if a subscription is to be answered, and then never served."""
        return self._losses.losses.makes_connection

    @property
    def is_blocked(self) -> bool:
        """True if the function's output waits for a consumer."""
        return any(
            subscription.is_blocked and "function" in subscription.types
            for subscription in self.subscriptions
        )

    def platform(self, event: PlatformEvent) -> None:
        """Publish a platform event."""
        self._on_event(event)
        self.replay(event)

    def replay(self, event: PlatformEvent) -> None:
        """Publish a platform event of an earlier generation: it is recorded already."""
        how = self._losses.of_event(event)
        if self._history is not None:
            self._history.append((event, how))
        for subscription in self.subscriptions:
            if event.type == "platform.start":
                subscription.release()
            if "platform" in subscription.types:
                subscription.offer(event.encode_all(subscription.schema), how)
            if event.type == "platform.runtimeDone":
                subscription.trail()

    def lines(self, kind: Kind, block: bytes) -> None:
        """Publish whole lines, as read from a process."""
        if self._history is None and not self.subscriptions:
            return
        lines = LogLines.read(kind, block)
        how = self._losses.of(kind)
        if self._history is not None:
            self._history.append((lines, how))
        encoded: dict[bool, list[bytes]] = {}
        for subscription in self.subscriptions:
            if kind in subscription.types:
                objects = self._objects(subscription)
                if objects not in encoded:
                    encoded[objects] = self._encode(lines, objects=objects)
                subscription.offer(encoded[objects], how)

    def subscribe(
        self, name: str, *, sender: Sender, types: list[str], schema: str, buffering: Buffering
    ) -> None:
        """Add a subscriber, and send it what has happened so far."""
        stats = SubscriptionStats(name, self._generation)
        self.stats.append(stats)
        subscription = Subscription(
            sender=sender,
            types=types,
            schema=schema,
            buffering=buffering,
            stall_timeout=self._config.stall_timeout,
            stats=stats,
            on_pressure=self._on_pressure,
            on_dropped=self._on_event,
            loses=self._losses.of,
            connected=self.makes_connection,
        )
        self.subscriptions.append(subscription)
        for item, how in self._history or ():
            if isinstance(item, LogLines):
                if item.kind in subscription.types:
                    objects = self._objects(subscription)
                    subscription.offer(self._encode(item, objects=objects), how)
            elif "platform" in subscription.types:
                subscription.offer(item.encode_all(schema), how)

    def close_window(self) -> None:
        """Accept no more subscriptions, and forget what was kept for them."""
        self._history = None

    def freeze(self) -> None:
        """Stop delivery and its timers."""
        for subscription in self.subscriptions:
            subscription.freeze()

    def thaw(self) -> None:
        """Let delivery continue."""
        for subscription in self.subscriptions:
            subscription.thaw()

    def hurry(self) -> None:
        """Let what is buffered go now, without its timer."""
        for subscription in self.subscriptions:
            subscription.hurry()

    async def flush(self, limit: float) -> None:
        """Send what is buffered, for at most `limit` seconds."""
        await asyncio.gather(*(each.flush(limit) for each in self.subscriptions))

    async def close(self) -> None:
        """End delivery, close every connection."""
        self._history = None
        subscriptions, self.subscriptions = self.subscriptions, []
        try:
            for subscription in subscriptions:
                await subscription.close()
        finally:
            for connection in self.silent_connections:
                connection.close()
            self.silent_connections.clear()

    def _objects(self, subscription: Subscription) -> bool:
        texts_only = (FIRST_SCHEMA, *LOGS_SCHEMAS)
        return self._config.log_format == "json" and subscription.schema not in texts_only

    def _encode(self, lines: LogLines, *, objects: bool) -> list[bytes]:
        return lines.encode(objects=objects, keep_newline=self._config.keep_newline)
