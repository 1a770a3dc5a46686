"""The queue of one sink: blocks in order, bounded in bytes, with an overflow policy.

Its bound is the sink's own, and what the memory budget, which all queues share, has left.

Bytes stay charged until they are *settled*, so lines in flight count as much as lines waiting, and
each block is charged a little more than its lines: tiny blocks can't slip under the bound. A block
that is larger than the whole queue is cut into smaller ones, so that only a line can be too large.

`block` never drops: it asks for reading to stop above `max_bytes` and to continue below a quarter
of it. What was read before the stop is still accepted, so it may exceed the bound by one read.
More than that comes only from a peer that could not be stopped any longer; it is dropped.

The drop policies do so too, above half of `max_bytes`, but only for a sink that is fast: a burst
that outruns it for a moment waits in the kernel instead of being dropped. Such a pause is over in
milliseconds; one that is not is cut short and the last for a while, so that it can't slow down
another sink or the sender by more than a twentieth. For a sink that is slow or dead there is none:
what counts is its last batch, which must have been delivered at such a rate, and the one in flight,
which must not be overdue.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from telemetryd.clock import SYSTEM, Clock
from telemetryd.core.budget import MemoryBudget
from telemetryd.core.ledger import Count
from telemetryd.core.stats import SinkStats
from telemetryd.sinks.base import Overflow
from telemetryd_proto.framing import Block

BLOCK_OVERHEAD: Final = 256
"""Bytes of bookkeeping charged for each block."""
RESUME_FRACTION: Final = 0.25
HIGH_WATER: Final = 0.75
"""Above this part of the queue, a sink with a spool begins to use it."""
BURST_FRACTION: Final = 0.5
FAST_BYTES_PER_SECOND: Final = 10_000_000
"""A sink that delivers a batch at such a rate is fast: 34,000 lines of 290 bytes."""
BURST_PAUSE_SECONDS: Final = 0.1
"""The longest pause for a fast sink, and the longest time in flight of a batch during one. Less
would cut off healthy sinks: under a CPU quota the process stands still for most of a period of
100 ms (Linux kernel documentation, "CFS Bandwidth Control")."""
NO_PAUSE_SECONDS: Final = 2.0
"""Time without another pause after one that was cut short. The overflow policy handles the rest."""
BEYOND_BYTES: Final = 4 * 1024 * 1024
"""Bytes that `block` accepts beyond its bound before it drops."""
_PIECES: Final = 4
"""The number of pieces of a block that had to be cut that fill the queue."""


class SinkQueue:
    """A queue with one consumer. `hold_reading(True/False)` is called when reading should stop.

    `on_crowded(True/False)` is called when it holds more than a quarter, and when no longer.
    """

    def __init__(
        self,
        max_bytes: int,
        overflow: Overflow,
        hold_reading: Callable[[bool], None],
        budget: MemoryBudget | None = None,
        stats: SinkStats | None = None,
        *,
        on_crowded: Callable[[bool], None] = lambda _: None,
        clock: Clock = SYSTEM,
    ) -> None:
        self._monotonic = clock.monotonic
        self._stats = stats or SinkStats()
        self._budget = budget or MemoryBudget(max_bytes, 1)
        max_bytes = self._max = min(max_bytes, self._budget.largest_bytes)
        self._stats.queue_capacity_bytes = max_bytes
        self._resume_below = min(int(max_bytes * RESUME_FRACTION), self._budget.own_bytes)
        self._overflow = overflow
        self._hold_reading = hold_reading
        self._on_crowded = on_crowded
        self._is_crowded = False
        self._holding = False
        self._hold_above = max_bytes if overflow == "block" else int(max_bytes * BURST_FRACTION)
        self._is_fast = False
        self._taken_at = 0.0
        """The time when the batch in flight was taken, in monotonic seconds; 0 without one."""
        self._no_pause_until = 0.0
        self._pause_limit: asyncio.TimerHandle | None = None
        self._blocks: deque[Block] = deque()
        self._charged = 0
        self._queued_bytes = 0
        self._waiter: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._blocks)

    @property
    def charged_bytes(self) -> int:
        """Return the bytes that wait and are in flight, with their overhead."""
        return self._charged

    @property
    def capacity_bytes(self) -> int:
        """Return the most bytes that it may hold."""
        return self._max

    @property
    def own_bytes(self) -> int:
        """Return the bytes that it may hold whatever the queues of other sinks do."""
        return self._budget.own_bytes

    @property
    def pause_above_bytes(self) -> int:
        """Holding more, it asks for reading to stop; with a drop policy only for a fast sink."""
        return self._hold_above

    @property
    def resume_below_bytes(self) -> int:
        """Holding this or less, it lets reading continue."""
        return self._resume_below

    @property
    def spool_above_bytes(self) -> int:
        """Holding more, it is nearly full."""
        return int(self._max * HIGH_WATER)

    @property
    def is_nearly_full(self) -> bool:
        """True if it holds more than `HIGH_WATER` of its capacity, or than the others leave."""
        return self._charged > self.spool_above_bytes or self._budget.is_tight(self._charged)

    @property
    def queued_bytes(self) -> int:
        """Return the bytes of the waiting lines."""
        return self._queued_bytes

    def oldest_received_at(self) -> float | None:
        """Return when the oldest waiting line was read, in monotonic seconds; None without one."""
        return self._blocks[0].received_at if self._blocks else None

    def waiting(self) -> Count:
        """Count the lines that wait, block by block."""
        return Count(sum(b.lines for b in self._blocks), sum(b.size for b in self._blocks))

    def offer(self, block: Block) -> list[tuple[str, Block]]:
        """Accept `block`; returns what had to be dropped for it, or itself, with the reason."""
        size = len(block.data)
        charge = size + BLOCK_OVERHEAD
        losers: list[tuple[str, Block]] = []
        if self._holding and self._charged > self._max + BEYOND_BYTES:
            return [("queue_full", block)]
        if self._overflow != "block" and not self._fits(charge):
            if charge > self._max:
                if block.lines == 1:
                    return [("too_large", block)]
                pieces = block.cut(self._max // _PIECES)
                return [loser for piece in pieces for loser in self.offer(piece)]
            if self._overflow == "drop_newest":
                return [("queue_full", block)]
            while self._blocks and not self._fits(charge):
                oldest = self._blocks.popleft()
                self._queued_bytes -= len(oldest.data)
                self._charge(-len(oldest.data) - BLOCK_OVERHEAD)
                losers.append(("queue_full", oldest))
            if not self._fits(charge):  # the rest is in flight and can't be recalled
                losers.append(("queue_full", block))
                return losers
        self._blocks.append(block)
        self._charge(charge)
        self._queued_bytes += size
        self._stats.queue_peak.note(self._charged)
        if not self._holding and (
            self._charged > self._hold_above or self._budget.is_used_up(self._charged)
        ):
            self._hold()
        self.wake()
        return losers

    def _fits(self, more: int) -> bool:
        return self._charged + more <= self._max and self._budget.fits(self._charged, more)

    def _charge(self, more: int) -> None:
        self._budget.on_change(self._charged, self._charged + more)
        self._charged += more
        if (self._charged > self._resume_below) is not self._is_crowded:
            self._is_crowded = not self._is_crowded
            self._on_crowded(self._is_crowded)

    def _hold(self) -> None:
        if self._overflow != "block":
            seconds = BURST_PAUSE_SECONDS
            if self._taken_at:
                seconds -= self._monotonic() - self._taken_at
            if not self._is_fast or seconds <= 0:
                return
            loop = asyncio.get_running_loop()
            if loop.time() < self._no_pause_until:
                return
            self._pause_limit = loop.call_later(seconds, self._pause_was_long)
        self._holding = True
        self._stats.read_pauses += 1
        self._hold_reading(True)

    def _pause_was_long(self) -> None:
        self._is_fast = False  # until a batch shows otherwise
        self._no_pause_until = asyncio.get_running_loop().time() + NO_PAUSE_SECONDS
        self._resume()

    def _resume(self) -> None:
        if self._pause_limit is not None:
            self._pause_limit.cancel()
            self._pause_limit = None
        if self._holding:
            self._holding = False
            self._hold_reading(False)

    async def wait(self, seconds: float | None = None) -> None:
        """Return when a block is offered, `wake` is called, or `seconds` have passed."""
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        handle = loop.call_later(seconds, self.wake) if seconds is not None else None
        try:
            await self._waiter
        finally:
            self._waiter = None
            if handle is not None:
                handle.cancel()

    def wake(self) -> None:
        """End a `wait`."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def take(self, max_bytes: int) -> list[Block]:
        """Remove blocks from the front, up to `max_bytes` of lines but at least one if any."""
        taken: list[Block] = []
        size = 0
        while self._blocks:
            size += len(self._blocks[0].data)
            if taken and size > max_bytes:
                break
            block = self._blocks.popleft()
            self._queued_bytes -= len(block.data)
            taken.append(block)
        if taken:
            self._taken_at = self._monotonic()
        return taken

    def pass_by(self, size: int, seconds: float) -> None:
        """Note that `size` bytes were delivered in `seconds` without having waited here."""
        self._stats.queue_peak.note(size + BLOCK_OVERHEAD)
        self._is_fast = size >= seconds * FAST_BYTES_PER_SECOND

    def settle(self, blocks: list[Block], seconds: float | None = None) -> None:
        """Release the bytes of taken blocks, which are settled.

        `seconds`: how long it took to deliver them; None when they were not delivered.
        """
        size = sum(len(b.data) for b in blocks)
        self._charge(-size - BLOCK_OVERHEAD * len(blocks))
        self._is_fast = seconds is not None and size >= seconds * FAST_BYTES_PER_SECOND
        self._taken_at = 0.0
        slow = self._overflow != "block" and not self._is_fast
        if self._holding and (slow or self._charged <= self._resume_below):
            self._resume()
