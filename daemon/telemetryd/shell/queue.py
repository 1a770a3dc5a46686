"""The queue of one sink: blocks in order, bounded in bytes, with an overflow policy.

Bytes stay charged until they are *settled*, so lines in flight count as much as lines waiting, and
each block is charged a little more than its lines: tiny blocks can't slip under the bound. A block
that is larger than the whole queue is cut into smaller ones, so that only a line can be too large.

`block` never drops: it asks for reading to stop above `max_bytes` and to go on below a quarter of
it. What was read before the stop is still accepted, so it may exceed the bound by one read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from telemetryd.core.ledger import Count
from telemetryd.sinks.base import Overflow
from telemetryd_proto.framing import Block

BLOCK_OVERHEAD: Final = 256
"""Bytes of bookkeeping charged for each block."""
RESUME_FRACTION: Final = 0.25
_PIECES: Final = 4
"""How many pieces of a block that had to be cut fill the queue."""


class SinkQueue:
    """A queue with one consumer. `hold_reading(True/False)` is called when `block` needs it."""

    def __init__(
        self, max_bytes: int, overflow: Overflow, hold_reading: Callable[[bool], None]
    ) -> None:
        self._max = max_bytes
        self._overflow = overflow
        self._hold_reading = hold_reading
        self._holding = False
        self._blocks: deque[Block] = deque()
        self._charged = 0
        self._queued_bytes = 0
        self._waiter: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._blocks)

    @property
    def charged_bytes(self) -> int:
        """Bytes queued and in flight, with their overhead."""
        return self._charged

    @property
    def queued_bytes(self) -> int:
        """Bytes of the lines waiting."""
        return self._queued_bytes

    def oldest_received_at(self) -> float | None:
        """When the oldest line waiting was read, in monotonic seconds; None when none waits."""
        return self._blocks[0].received_at if self._blocks else None

    def waiting(self) -> Count:
        """The lines that wait, counted anew."""
        return Count(sum(b.lines for b in self._blocks), sum(len(b.data) for b in self._blocks))

    def offer(self, block: Block) -> list[tuple[str, Block]]:
        """Accept `block`; returns what had to be dropped for it, or itself, with the reason."""
        size = len(block.data)
        charge = size + BLOCK_OVERHEAD
        losers: list[tuple[str, Block]] = []
        if self._charged + charge > self._max and self._overflow != "block":
            if charge > self._max:
                if block.lines == 1:
                    return [("too_large", block)]
                pieces = _cut(block, self._max // _PIECES)
                return [loser for piece in pieces for loser in self.offer(piece)]
            if self._overflow == "drop_newest":
                return [("queue_full", block)]
            while self._blocks and self._charged + charge > self._max:
                oldest = self._blocks.popleft()
                self._queued_bytes -= len(oldest.data)
                self._charged -= len(oldest.data) + BLOCK_OVERHEAD
                losers.append(("queue_full", oldest))
            if self._charged + charge > self._max:  # the rest is in flight and can't be recalled
                losers.append(("queue_full", block))
                return losers
        self._blocks.append(block)
        self._charged += charge
        self._queued_bytes += size
        if self._charged > self._max and not self._holding:
            self._holding = True
            self._hold_reading(True)
        self.wake()
        return losers

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
        return taken

    def settle(self, blocks: list[Block]) -> None:
        """Blocks taken earlier have met their end: give their bytes back."""
        self._charged -= sum(len(b.data) for b in blocks) + BLOCK_OVERHEAD * len(blocks)
        if self._holding and self._charged <= self._max * RESUME_FRACTION:
            self._holding = False
            self._hold_reading(False)


def _cut(block: Block, max_bytes: int) -> Iterator[Block]:
    """`block` as blocks of at most `max_bytes`, or of one line."""
    data, at = block.data, 0
    while at < len(data):
        end = data.rfind(b"\n", at, at + max_bytes) + 1 or data.find(b"\n", at) + 1
        piece = data[at:end]
        yield Block(piece, piece.count(b"\n"), block.source, block.offset + at, block.received_at)
        at = end
