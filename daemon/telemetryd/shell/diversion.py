"""When lines of one sink go on disk instead of waiting in memory, and how they get there.

They do while the circuit is open, when the queue is nearly full, and at the end of a process whose
disk outlives it: the queue's lines behind what is there already. Without a spool, nothing does.
"""

from __future__ import annotations

import asyncio

from telemetryd.shell.attempt import Attempts
from telemetryd.shell.losses import Losses
from telemetryd.shell.queue import SinkQueue
from telemetryd.shell.spool import SinkSpool
from telemetryd_proto.framing import Block


class Diversion:
    """The way to the disk. It shares queue, attempts and losses with the sink's worker."""

    def __init__(
        self,
        spool: SinkSpool | None,
        queue: SinkQueue,
        attempts: Attempts,
        losses: Losses,
        *,
        batch_max_bytes: int,
    ) -> None:
        self.keeps = False
        """Whether, at the end, what is on disk is left to the next process."""
        self._spool = spool
        self._queue = queue
        self._attempts = attempts
        self._losses = losses
        self._batch_max_bytes = batch_max_bytes
        self._is_coming = False
        """Whether `_divert` is called in the next turn of the loop."""

    @property
    def has_lines(self) -> bool:
        """Whether there is something on disk."""
        return self._spool is not None and not self._spool.is_empty

    @property
    def is_usable(self) -> bool:
        """Whether there is a spool, and the disk takes something; asked only when it should."""
        return self._spool is not None and self._spool.is_usable

    def is_futile(self) -> bool:
        """Whether to give up without asking: the circuit is open, and waiting is no use."""
        circuit = self._attempts.circuit
        if not circuit.is_open:
            return False
        if self._losses.failover is not None:  # rather there than to wait, unless it is soon over
            return circuit.is_permanent or not self.is_usable
        return circuit.is_permanent and not self.is_usable  # else memory or disk may outlast it

    def makes_way(self) -> bool:
        """Whether the batch in flight should wait on disk: the circuit is open."""
        return self._attempts.stop_at is None and self._attempts.circuit.is_open and self.is_usable

    def is_left_to_the_next(self) -> bool:
        """At the end: whether what is on disk stays there, for a destination that takes nothing."""
        circuit = self._attempts.circuit
        return self.keeps and circuit.is_failing and not circuit.is_closed and self.is_usable

    def may_spill(self) -> bool:
        """Whether what the queue has no room for goes on disk."""
        if self._spool is None:
            return False
        wished = self.keeps if self._attempts.stop_at is not None else not self.is_futile()
        return wished and self.is_usable

    def divert_soon(self) -> None:
        """See to it that what waits in memory goes on disk, if it should."""
        if not self._is_coming and self._should_divert():
            self._is_coming = True
            asyncio.get_running_loop().call_soon(self._divert)

    def _should_divert(self) -> bool:
        return (
            self._spool is not None
            and self._attempts.stop_at is None
            and (
                self._queue.is_nearly_full
                or (self._attempts.circuit.is_open and not self.is_futile())
            )
            and self.is_usable
        )

    def _divert(self) -> None:
        """Move lines from the queue to the spool, a batch in each turn of the loop."""
        self._is_coming = False
        if not self._should_divert():
            return
        if self._move_batch():
            self._queue.wake()
            if len(self._queue):
                self.divert_soon()

    async def spool_queue(self) -> None:
        """The end is near: what waits goes on disk now, a batch in each turn of the loop.

        At the deadline there would be no time for it: packing may be slow, a queue large.
        """
        more = True
        while more and self.is_usable:
            more = self._move_batch()
            await asyncio.sleep(0)

    def _move_batch(self) -> bool:
        """Put a batch of the queue on disk; False when there is none."""
        blocks = self._queue.take(self._batch_max_bytes)
        if blocks:
            self.spill(blocks)
            self._queue.settle(blocks)
        return bool(blocks)

    def spill(self, blocks: list[Block]) -> None:
        """Put blocks that have left the queue behind all that is on disk."""
        items = self._attempts.pack(blocks)
        if items is None or self._spool is None:
            for block in blocks:
                self._losses.undelivered(block, "bug")
        else:
            self._spool.put(items)
