"""Connections that wait for the next request: few, not for long, and never trusted after a freeze.

While the environment was frozen, the destination, or a NAT on the way, may have closed a connection
without a sign. So the clock that includes a freeze measures how long a connection has been idle.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from telemetryd.clock import Clock
from telemetryd.http_client.connection import Connection
from telemetryd.http_client.dial import Route


class Pool:
    """Keeps idle connections for `seconds`."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._idle: dict[Connection, Route] = {}
        """The longest idle first."""
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._idle)

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._idle)

    def take(self, route: Route) -> Connection | None:
        """Return a connection that leads there, the one that was used last; None: there is none."""
        self._close_old()
        for connection in [c for c, leads in reversed(self._idle.items()) if leads == route]:
            self._remove(connection)
            if connection.is_usable:
                return connection
            connection.drop()
        return None

    def keep(self, connection: Connection, route: Route) -> None:
        """Keep a connection for the next request, if it carries one; otherwise close it."""
        if not connection.is_usable:
            connection.close()
            return
        connection.idle_since = self._clock.elapsed()
        connection.on_unusable = self._remove
        self._idle[connection] = route
        if self._timer is None:
            self._wait()

    def shrink(self, most: int) -> None:
        """Close those that are idle for longest until there are at most `most`."""
        for connection in list(self._idle)[: max(len(self._idle) - most, 0)]:
            self._remove(connection)
            connection.close()

    def close(self) -> None:
        """Close all."""
        self.shrink(0)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _remove(self, connection: Connection) -> None:
        connection.on_unusable = None
        self._idle.pop(connection, None)

    def _close_old(self) -> None:
        now = self._clock.elapsed()
        for connection in [c for c in self._idle if now - c.idle_since > self._seconds]:
            self._remove(connection)
            connection.close()

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._close_old()
        if self._idle:
            self._wait()
