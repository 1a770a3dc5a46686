"""Telemetry delivery to one subscriber: buffer, batch, one write in flight, drops.

These are the rules for a slow consumer. A batch is complete at `maxItems`, `maxBytes` or
`timeoutMs`. If the next batch is complete while one is being written, the subscription is
*blocked*. The function's output is then not read, so a printing function waits in its pipe, and
nothing is lost. If the write in flight makes no progress for `stall_timeout` (the kernel takes no
byte, or the POST has no response), the consumer is *stalled*. Complete batches are then dropped
whole, and the function continues. The first progress ends that. `platform.logsDropped` with the sum
precedes the next batch. Platform events and the extensions' own output can't wait in a pipe. They
queue behind, up to `MAX_WAITING` batches.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from telemetryd.local.clock import monotonic
from telemetryd.local.events import platform_event
from telemetryd.local.losses import ENDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from telemetryd.local.events import PlatformEvent
    from telemetryd.local.losses import How

MAX_WAITING = 16
"""Complete batches that may wait behind the one in flight before they are dropped."""

SLOW = (
    "Some logs were dropped because the downstream consumer is slower than the logs production rate"
)
"""The reason the service gives for a consumer that is too slow."""


class SendError(Exception):
    """A batch could not be handed over; the message is the reason for `platform.logsDropped`."""


@dataclass(frozen=True, slots=True)
class Buffering:
    """The limits of a batch ("Lambda Telemetry API reference", buffering)."""

    max_items: int = 10_000
    max_bytes: int = 262_144
    timeout_ms: int = 1_000


@dataclass(slots=True)
class SubscriptionStats:
    """The account of every event offered to one subscription.

    offered = sent + dropped + undelivered + lost
    """

    name: str
    generation: int
    offered: int = 0
    """Events of the subscribed types, `platform.logsDropped` for this one included."""
    sent: int = 0
    """Events the kernel took (TCP) or the subscriber acknowledged (HTTP)."""
    sent_bytes: int = 0
    batches: int = 0
    dropped: int = 0
    dropped_bytes: int = 0
    announced: int = 0
    """Dropped events that `platform.logsDropped` has announced."""
    undelivered: int = 0
    """Events still in the environment's buffer when it ended."""
    lost: int = 0
    """Events lost on demand (`--lose`), without any notice."""
    garbled: int = 0
    """Sent events whose line was broken on demand."""
    blocked: int = 0
    """The number of times that the function's output had to wait for this consumer."""
    stalls: int = 0


class Pace:
    """The parts of a subscription that its sender needs: the freeze, and reports of progress."""

    __slots__ = ("_on_progress", "awake")

    def __init__(self, on_progress: Callable[[], None]) -> None:
        self._on_progress = on_progress
        self.awake = asyncio.Event()
        """Clear while the environment is frozen: nothing may be sent."""
        self.awake.set()

    def progress(self) -> None:
        """Note that the consumer has read something."""
        self._on_progress()


class Sender(Protocol):
    """Hands batches to a subscriber."""

    async def send(self, events: Sequence[bytes], pace: Pace) -> int:
        """Deliver one batch; returns its bytes on the wire, raises `SendError`."""
        ...

    def unsent(self, events: Sequence[bytes]) -> int:
        """Return how many of `events`, whose `send` was cancelled, did not leave completely."""
        ...

    async def break_off(self, how: How, event: bytes) -> None:
        """End delivery in the way `how` says, at `event`."""
        ...

    async def close(self) -> None:
        """Release the connection."""
        ...


@dataclass(slots=True)
class _Batch:
    events: list[bytes] = field(default_factory=list)
    size: int = 0
    doomed: bool = False
    """True if the batch is lost on demand."""
    end: tuple[How, bytes] | None = None
    """The way in which delivery ends after this batch, and the event at which it does."""


class Subscription:
    """One subscriber's buffer and the task that empties it. Made by the hub, closed by it."""

    def __init__(
        self,
        *,
        sender: Sender,
        types: Sequence[str],
        schema: str,
        buffering: Buffering,
        stall_timeout: float,
        stats: SubscriptionStats,
        on_pressure: Callable[[], None],
        on_dropped: Callable[[PlatformEvent], None],
        loses: Callable[[str], How | None],
        connected: bool = True,
    ) -> None:
        self.types = frozenset(types)
        self.schema = schema
        self.buffering = buffering
        self.stats = stats
        self._sender = sender
        self._stall_timeout = stall_timeout
        self._on_pressure = on_pressure
        self._on_dropped = on_dropped
        self._loses = loses
        self._broken = not connected
        self._late: list[bytes] = []
        self._trailing: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self._pace = Pace(self._on_progress)
        self._current = _Batch()
        self._waiting: deque[_Batch] = deque()
        self._in_flight: _Batch | None = None
        self._more = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_left = 0.0
        self._stall_check: asyncio.TimerHandle | None = None
        self._last_progress = monotonic()
        self._stalled = False
        self._lost = _Batch()
        self._lost_count = 0
        self._lost_reason = SLOW
        self._writer = self._loop.create_task(self._write())

    @property
    def is_blocked(self) -> bool:
        """True if the function's output waits for this consumer."""
        return self._in_flight is not None and bool(self._waiting) and not self._stalled

    def offer(self, events: list[bytes], how: How | None = None) -> None:
        """Take encoded events of a subscribed type, in order; `how` they are lost, if they are."""
        self.stats.offered += len(events)
        if self._broken or how == "drop":
            self.stats.lost += len(events)
        elif how == "late":
            self._late += events
        elif how == "trail":
            self._trailing += events
        elif how in ENDS and events:
            self._broken = True
            self.stats.lost += len(events)
            self._lose_late()
            self._current.end = how, events[0]
            self._cut()
        elif how == "garble":
            self.stats.garbled += len(events)
            self._add([event[: len(event) // 2] for event in events])
        else:
            self._current.doomed |= how == "batch"
            self._add(events)

    def release(self) -> None:
        """Deliver what was held back to be late."""
        late, self._late = self._late, []
        self._add(late)

    def trail(self) -> None:
        """Deliver what was held back to trail, behind the batch being filled, which goes now."""
        if self._trailing:
            self._cut()
            trailing, self._trailing = self._trailing, []
            self._add(trailing)

    def _lose_late(self) -> None:
        self.stats.lost += len(self._late) + len(self._trailing)
        self._late, self._trailing = [], []

    def _add(self, events: list[bytes]) -> None:
        current, limits = self._current, self.buffering
        size = sum(map(len, events)) + len(events)
        if (
            len(current.events) + len(events) < limits.max_items
            and current.size + size < limits.max_bytes
        ):
            current.events += events
            current.size += size
        else:
            for event in events:
                current.events.append(event)
                current.size += len(event) + 1
                # Checked after adding: a batch may exceed the limit by one event.
                if len(current.events) >= limits.max_items or current.size >= limits.max_bytes:
                    self._cut()
                    current = self._current
        if self._current.events and self._timer is None and self._pace.awake.is_set():
            self._timer = self._loop.call_later(limits.timeout_ms / 1000, self._cut)

    def _cut(self) -> None:
        """Complete the batch: send it, let it wait, or drop it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._current = self._current, _Batch()
        if not batch.events and batch.end is None:
            return
        if batch.doomed:
            self._drop(batch, SLOW)
            self._announce()
        elif batch.end is None and (self._stalled or len(self._waiting) >= MAX_WAITING):
            self._drop(batch, SLOW)
        else:
            self._queue(batch)

    def _queue(self, batch: _Batch) -> None:
        self._waiting.append(batch)
        self._idle.clear()
        self._more.set()
        if self._in_flight is not None:
            self.stats.blocked += 1
            self._on_pressure()

    def _drop(self, batch: _Batch, reason: str) -> None:
        self.stats.dropped += len(batch.events)
        self.stats.dropped_bytes += batch.size
        self._lost_count += len(batch.events)
        self._lost.size += batch.size
        self._lost_reason = reason

    def _announcement(self) -> list[bytes]:
        """Return the `platform.logsDropped` that is due, now that writing works."""
        if not self._lost_count:
            return []
        event = platform_event(
            "platform.logsDropped",
            {
                "droppedBytes": self._lost.size,
                "droppedRecords": self._lost_count,
                "reason": self._lost_reason,
            },
        )
        self.stats.announced += self._lost_count
        self._lost_count = 0
        self._lost.size = 0
        self._on_dropped(event)
        if "platform" not in self.types:
            return []
        self.stats.offered += 1
        if self._broken or self._loses(event.type) is not None:
            self.stats.lost += 1
            return []
        return event.encode_all(self.schema)

    async def _write(self) -> None:
        while True:
            await self._more.wait()
            await self._pace.awake.wait()
            self._in_flight = batch = self._waiting.popleft()
            if not self._waiting:
                self._more.clear()
            self._on_pressure()
            self._last_progress = monotonic()
            self._watch()
            if batch.events:
                await self._send(batch)
            if batch.end is not None:
                await self._sender.break_off(*batch.end)
            self._in_flight = None
            self._unwatch()
            self._stalled = False
            if not self._waiting:
                self._idle.set()

    async def _send(self, batch: _Batch) -> None:
        try:
            size = await self._sender.send(batch.events, self._pace)
        except SendError as error:
            self._drop(batch, f"could not send events: {error}")
        else:
            self.stats.sent += len(batch.events)
            self.stats.sent_bytes += size
            self.stats.batches += 1
            self._announce()

    def _announce(self) -> None:
        announcement = self._announcement()
        if announcement and self._waiting:
            self._waiting[0].events[:0] = announcement
            self._waiting[0].size += len(announcement[0]) + 1
        elif announcement:
            self._current.events[:0] = announcement
            self._add([])
            self._current.size += len(announcement[0]) + 1

    def _watch(self) -> None:
        self._unwatch()
        self._stall_check = self._loop.call_later(self._stall_timeout, self._check_progress)

    def _unwatch(self) -> None:
        if self._stall_check is not None:
            self._stall_check.cancel()
            self._stall_check = None

    def _check_progress(self) -> None:
        self._stall_check = None
        left = self._last_progress + self._stall_timeout - monotonic()
        if left > 0:
            self._stall_check = self._loop.call_later(left, self._check_progress)
            return
        self._stalled = True
        self.stats.stalls += 1
        while self._waiting:
            self._drop(self._waiting.popleft(), SLOW)
        self._more.clear()
        self._on_pressure()

    def _on_progress(self) -> None:
        self._last_progress = monotonic()
        if self._stalled:
            self._stalled = False
            self._watch()

    def freeze(self) -> None:
        """Stop sending and stop the clocks."""
        self._pace.awake.clear()
        self._unwatch()
        self._timer_left = self.buffering.timeout_ms / 1000
        if self._timer is not None:
            self._timer_left = max(self._timer.when() - self._loop.time(), 0.0)
            self._timer.cancel()
            self._timer = None

    def thaw(self) -> None:
        """Continue where `freeze` stopped."""
        if self._pace.awake.is_set():
            return
        self._pace.awake.set()
        if self._current.events:
            self._timer = self._loop.call_later(self._timer_left, self._cut)
        if self._in_flight is not None:
            self._last_progress = monotonic()
            self._watch()

    def hurry(self) -> None:
        """Let what is buffered go now, as if it were complete."""
        self._cut()

    async def flush(self, limit: float) -> None:
        """Send what is buffered, for at most `limit` seconds."""
        self.hurry()
        try:
            await asyncio.wait_for(self._idle.wait(), limit)
        except TimeoutError:
            return  # what is left is counted when the subscription closes

    async def close(self) -> None:
        """End delivery, and account for what is left."""
        self._unwatch()
        if self._timer is not None:
            self._timer.cancel()
        self._writer.cancel()
        await asyncio.wait((self._writer,))
        failure = None if self._writer.cancelled() else self._writer.exception()
        left = len(self._current.events) + sum(len(batch.events) for batch in self._waiting)
        if self._in_flight is not None:
            unsent = self._sender.unsent(self._in_flight.events)
            self.stats.sent += len(self._in_flight.events) - unsent
            left += unsent
        self.stats.undelivered += left
        self._lose_late()
        self._waiting.clear()
        self._current = _Batch()
        self._in_flight = None
        await self._sender.close()
        if failure is not None:
            raise failure
