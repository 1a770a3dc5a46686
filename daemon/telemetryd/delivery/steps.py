"""Executes the commands of the table in `core.delivery`, for one sink's delivery.

Each command is a method. Nothing else is decided here: `Delivery` decides what comes next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from telemetryd.core import delivery
from telemetryd.core.delivery import Commands, Delivery
from telemetryd.core.ledger import Count, SinkAccount
from telemetryd.core.linger import Linger
from telemetryd.core.retry import RetrySchedule
from telemetryd.core.stats import SinkStats
from telemetryd.delivery.attempt import Attempts
from telemetryd.delivery.circuit import Circuit
from telemetryd.delivery.in_flight import NO_REASON, InFlight
from telemetryd.delivery.losses import Losses
from telemetryd.delivery.queue import SinkQueue
from telemetryd.log import DaemonLog
from telemetryd.sinks.base import Item, Sink, SinkConfig
from telemetryd_proto.framing import Block

if TYPE_CHECKING:  # loaded only where a spool is configured
    from _random import Random

    from telemetryd.spool.sink_spool import SinkSpool

_TICK_SECONDS: Final = 0.001
"""uvloop rounds a timer to milliseconds: one of less than half of that would be due at once, and
waiting for it again and again keeps the processor busy for nothing."""


class Steps:
    """Executes the commands of one sink's delivery."""

    def __init__(
        self,
        sink: Sink,
        config: SinkConfig,
        account: SinkAccount,
        queue: SinkQueue,
        *,
        stats: SinkStats,
        losses: Losses,
        log: DaemonLog,
        rng: Random,
    ) -> None:
        self._name = sink.context.name
        self._instance = sink.context.instance
        self._clock = sink.context.clock
        self._config = config
        self._queue = queue
        self._losses = losses
        self._log = log
        self._rng = rng
        self.circuit: Final = Circuit(self._name, log, self._clock)
        self.spool: Final = self._spool_of(sink, account)
        self.delivery: Final = Delivery(
            queue, self.circuit, self.spool, batch_max_bytes=config.batch_max_bytes
        )
        self.attempts: Final = Attempts(
            sink, config, log, delivery=self.delivery, circuit=self.circuit, stats=stats,
            can_wait=self.spool is not None,
        )  # fmt: skip
        self.lingering: Final = Linger(config.linger_ms / 1000)
        self.idle: Final = asyncio.Event()
        """Set while nothing of the queue waits or is in flight, for flushes to wait for."""
        self.idle.set()
        self._nudge = asyncio.Event()
        self._in_flight = InFlight(account, stats, self._clock)
        self._attempt = 0
        """The number of attempts of the batch."""
        self._batch_number = 0
        self._spilled: list[Block] = []
        """Blocks that the queue has just given up."""
        self._diverts_soon = False
        self._lost_for = NO_REASON
        """The reason for losing lines at the end, unless the destination gave one."""
        self._at_once: dict[str, Callable[[], None]] = {
            delivery.TELL_IDLE: self.idle.set,
            delivery.TAKE: self._take,
            delivery.TAKE_OWN: self._take_own,
            delivery.PUT_BACK: self._put_back,
            delivery.LOSE_BATCH: self._lose_batch,
            delivery.SETTLE: self._settle,
            delivery.SPOOL: self._spool_batch,
            delivery.SPOOL_OVERFLOW: self._spool_overflow,
            delivery.LOSE_OVERFLOW: self._lose_overflow,
            delivery.KEEP_OR_LOSE_ALL: self._keep_or_lose_all,
        }
        self._in_time: dict[str, Callable[[], Awaitable[None]]] = {
            delivery.OPEN: self._open,
            delivery.REST: queue.wait,
            delivery.LINGER: self._linger,
            delivery.AWAIT_RELEASE: self._await_release,
            delivery.AWAIT_PROBE: self._await_probe,
            delivery.TAKE_SPOOLED: self._take_spooled,
            delivery.PACK: self._pack,
            delivery.WRITE: self._write,
            delivery.BACK_OFF: self._back_off,
        }

    def _spool_of(self, sink: Sink, account: SinkAccount) -> SinkSpool | None:
        if self._config.spool is None:
            return None
        from telemetryd.spool.sink_spool import SinkSpool  # noqa: PLC0415 - only where configured

        return SinkSpool(
            self._name,
            self._config.spool,
            sink.item_type,
            account,
            lose=self._lose_item,
            lose_unread=self._losses.lose_unread,
            wants_data=lambda: self._losses.wants_data,
            log=self._log,
            sink_type=self._config.type,
            clock=self._clock,
        )

    # -- what the worker asks ------------------------------------------------------------------

    async def run(self) -> None:
        """Execute what is commanded until there is nothing more."""
        at_once, in_time, now = self._at_once, self._in_time, asyncio.get_running_loop().time
        while True:
            if self.spool is not None and self.spool.wants_recovery:
                self.spool.recover()
            commands = self.delivery.next(now())
            if not commands:
                return
            for command in commands:
                if command in at_once:
                    at_once[command]()
                else:
                    await in_time[command]()

    def nudge(self) -> None:
        """End a wait for an attempt early."""
        self._nudge.set()

    def adjust(self, config: SinkConfig) -> None:
        """Use `config` from now on."""
        self._config = config
        self.lingering.limit(config.linger_ms / 1000)
        self.attempts.limit(config.write_timeout_ms / 1000)

    def on_restore(self, instance: str) -> None:
        """Use the new random id `instance`: the process continues from a snapshot."""
        self._instance = instance
        self._rng.seed(instance)  # copies of one snapshot must not retry in step
        self.attempts.on_restore(instance)

    @property
    def trouble(self) -> str:
        """Return the last reason for which the destination took no lines, while it is valid."""
        return self._in_flight.trouble

    def pending(self) -> Count:
        """Count the lines of the batch in hand."""
        return self._in_flight.pending()

    def oldest_received_at(self) -> float | None:
        """Return when the oldest line in hand was read, in monotonic seconds; None without one."""
        return self._in_flight.oldest_received_at()

    def write_direct(self, block: Block) -> bool:
        """Write a block that is offered at once; False if it must be put into the queue."""
        if (
            not self.attempts.may_write_direct
            or self.lingering.seconds
            or not self.delivery.may_write_direct(len(block.data))
        ):
            return False
        written: float | None = None
        for command in self.delivery.direct():
            assert command == delivery.WRITE_DIRECT  # noqa: S101 - as the table has it
            written = self.attempts.write_direct(block)
        todo = self.delivery.on_direct(is_written=written is not None)
        if written is not None:
            self._in_flight.deliver(block, self._clock.monotonic())
            self._queue.pass_by(len(block.data), written)
        return delivery.ENQUEUE not in todo

    def spill(self, block: Block) -> None:
        """Note a block that the queue has given up; `overflow` decides on it."""
        self._spilled.append(block)

    def overflow(self) -> None:
        """Spool the noted lines, or lose them."""
        if self._spilled:
            self._execute(self.delivery.overflow())

    def divert_soon(self) -> None:
        """Move waiting lines from memory to disk soon, if they should be there."""
        if not self._diverts_soon and self.delivery.should_divert():
            self._diverts_soon = True
            asyncio.get_running_loop().call_soon(self._divert)

    async def spool_queue(self) -> None:
        """Spool the waiting lines before the end, a batch in each turn of the loop.

        At the deadline there would be no time for it: packing may be slow, a queue large.
        """
        while commands := self.delivery.empty_queue():
            self._execute(commands)
            await asyncio.sleep(0)

    def abandon(self, reason: str, *, keep: bool) -> None:
        """Give up, as in `DeliveryWorker.abandon`."""
        self._lost_for = reason
        self._execute(self.delivery.abandon(keep=keep))

    def _execute(self, commands: Commands) -> None:
        """Execute commands that wait for nothing."""
        for command in commands:
            self._at_once[command]()

    async def _open(self) -> None:
        await self.attempts.open_early()
        self.delivery.on_opened()

    # -- waiting -----------------------------------------------------------------------------

    async def _linger(self) -> None:
        """Wait for a batch to fill, at most `linger_ms`, and not when somebody waits for us."""
        seconds = self.lingering.seconds
        if not seconds:
            return
        elapsed = self._clock.elapsed  # the loop's clock may stand still in a freeze
        until = elapsed() + seconds
        while self.delivery.may_linger and (left := until - elapsed()) > 0:
            await self._queue.wait(max(left, _TICK_SECONDS))

    async def _await_release(self) -> None:
        while self.delivery.is_held:
            self._nudge.clear()
            await self._nudge.wait()

    async def _await_probe(self) -> None:
        if len(self._queue):
            self.divert_soon()
        await self._sleep_until(self.circuit.probe_at)

    async def _back_off(self) -> None:
        code = self._in_flight.code
        self._log.info("write_retried", sink=self._name, code=code, attempt=self._attempt)
        await self._sleep_until(self.delivery.retry_at)

    async def _sleep_until(self, at: float) -> None:
        """Sleep until loop time `at`; a flush or stop that begins before ends it early."""
        self._nudge.clear()
        try:
            async with asyncio.timeout_at(at):
                await self._nudge.wait()
        except TimeoutError:
            return

    # -- a batch -----------------------------------------------------------------------------

    def _take(self) -> None:
        blocks = self._queue.take(self._config.batch_max_bytes)
        size = sum(len(block.data) for block in blocks)
        self.lingering.on_batch(len(blocks), size / self._config.batch_max_bytes)
        self._in_flight.take(blocks)

    async def _pack(self) -> None:
        blocks = self._in_flight.blocks
        items = await self.attempts.pack_in_turns(blocks)
        if items is None:
            for block in self._in_flight.give_up_blocks():
                self._losses.lose(block, "bug")
        self._begin(items, self._next_batch_id())

    async def _take_spooled(self) -> None:
        assert self.spool is not None  # noqa: S101 - the table asks for it only if there is one
        # what is read back is in no queue: without the bound each of many sinks would add a batch
        most = min(self._config.batch_max_bytes, self._queue.own_bytes)
        batch_id, items = self.spool.take(most)
        self._begin(items, batch_id)
        await asyncio.sleep(0)  # there may have been nothing to wait for

    def _take_own(self) -> None:
        self._begin(self.attempts.own_items(self.delivery.end), self._next_batch_id())

    def _next_batch_id(self) -> str:
        self._batch_number += 1
        return f"{self._instance}-{self._name}-{self._batch_number}"

    def _begin(self, items: list[Item] | None, batch_id: str) -> None:
        """Begin the batch with `items`; None: the sink has a bug."""
        self._attempt = 0
        self._in_flight.fill(items or [], batch_id)
        give_up_at = _now() + self._config.retry_max_elapsed_ms / 1000
        schedule = RetrySchedule(give_up_at=give_up_at, rng=self._rng)
        self.delivery.on_packed(None if items is None else len(items), schedule)

    async def _write(self) -> None:
        self._attempt += 1
        result, retry_after = await self.attempts.write(self._in_flight.batch(), self._attempt)
        if result is not None:
            for item, reason in self._in_flight.settle(result):
                self._lose_item(item, reason)
        self.delivery.on_written(
            self._in_flight.items, _now(), retry_after=retry_after, is_cut=result is None
        )

    def _settle(self) -> None:
        blocks, seconds = self._in_flight.end()
        if blocks:
            self._queue.settle(blocks, seconds)
        if self.spool is not None and self.delivery.is_spooled:
            self.spool.settle()

    # -- memory to disk ----------------------------------------------------------------------

    def _divert(self) -> None:
        """Move lines from the queue to the spool, a batch in each turn of the loop."""
        self._diverts_soon = False
        commands = self.delivery.divert()
        if commands:
            self._execute(commands)
            self._queue.wake()
            if len(self._queue):
                self.divert_soon()

    def _spool_batch(self) -> None:
        blocks = self._queue.take(self._config.batch_max_bytes)
        self._spool_blocks(blocks)
        self._queue.settle(blocks)

    def _spool_overflow(self) -> None:
        spilled, self._spilled = self._spilled, []
        self._spool_blocks(spilled)  # the oldest that waited: they come behind what is spooled

    def _spool_blocks(self, blocks: list[Block]) -> None:
        """Put blocks that have left the queue behind all that is on disk."""
        items = self.attempts.pack(blocks)
        if items is None or self.spool is None:
            for block in blocks:
                self._losses.lose(block, "bug")
        else:
            self.spool.put(items)

    def _put_back(self) -> None:
        """Spool the batch in flight, before everything that is there."""
        if self.spool is not None:
            self.spool.put_back([item for item, _ in self._in_flight.give_up_items()])
        self.divert_soon()  # no block may come that would see to it

    # -- losses ------------------------------------------------------------------------------

    def _lose_overflow(self) -> None:
        spilled, self._spilled = self._spilled, []
        for block in spilled:
            self._losses.lose(block, "queue_full", by_policy=True)

    def _lose_batch(self) -> None:
        for item, reason in self._in_flight.give_up_items():
            self._lose_item(item, reason)

    def _lose_item(self, item: Item, reason: str) -> None:
        if not item.lines:
            return  # the sink's own: no line of a sender is lost
        data = self.attempts.unpack(item) if self._losses.wants_data else None
        if data is None:
            self._losses.lose_unread(item.lines, item.size, reason)
            return
        added = len(data) - item.size
        block = Block(data, item.lines, item.source, item.offset, item.received_at, added)
        self._losses.lose(block, reason)

    def _keep_or_lose_all(self) -> None:
        """Put the remaining lines on disk at the end, if that is useful, else lose them."""
        spool, reason = self.spool, self._lost_for
        left = self._in_flight.items or self._in_flight.blocks or len(self._queue)
        # A disk is not touched without need.
        keep = self.delivery.keeps and spool is not None and bool(left) and spool.may_take
        if keep and spool is not None:
            spool.put_back([item for item, _ in self._in_flight.give_up_items()])
        self._lose_batch()
        self._keep_or_lose(self._in_flight.give_up_blocks(), reason, keep=keep)
        self._queue.settle(self._in_flight.end()[0])
        if spool is not None:
            spool.settle()
            if not self.delivery.keeps:
                spool.lose_all(reason)
        while blocks := self._queue.take(self._config.batch_max_bytes):
            self._keep_or_lose(blocks, reason, keep=keep)
            self._queue.settle(blocks)
        if spool is not None:
            spool.close()

    def _keep_or_lose(self, blocks: list[Block], reason: str, *, keep: bool) -> None:
        if self.spool is not None and keep:
            items = self.attempts.pack(blocks) if blocks else []
            if items is not None:
                self.spool.put(items)
                return
        for block in blocks:
            self._losses.lose(block, reason)


def _now() -> float:
    return asyncio.get_running_loop().time()
