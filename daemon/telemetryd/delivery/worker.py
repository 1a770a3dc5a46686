"""One delivery worker per sink: queue -> batch -> [spool] -> write -> settle.

The worker owns everything a sink must not know: it forms batches, retries what may be retried with
full-jitter back-off, and settles every line exactly once, as delivered, dropped with a reason, or
dead-lettered. Order is kept: one batch is in flight, and the next starts when it is settled.

What comes after what is decided by the table in `core.delivery`; the worker executes its commands.

A lost line is counted under the last reason its destination gave, for it or, where time ran out
before its turn, for the batch it waited behind; under `shutdown` if there was none. Nothing a sink
does, short of blocking the loop, ends the worker (see `delivery.attempt`).

With a spool, what can't be delivered now goes on disk: while the circuit is open, when the queue is
nearly full, and at the end of a process whose disk outlives it. What is there goes first, so order
is kept.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from telemetryd.core import delivery
from telemetryd.core.delivery import Commands, Delivery
from telemetryd.core.ledger import Count, SinkAccount, total
from telemetryd.core.linger import Linger
from telemetryd.core.retry import RetrySchedule
from telemetryd.core.stats import SinkStats
from telemetryd.delivery.attempt import Attempts
from telemetryd.delivery.circuit import Circuit
from telemetryd.delivery.in_flight import NO_REASON, InFlight
from telemetryd.delivery.losses import Losses
from telemetryd.delivery.queue import SinkQueue
from telemetryd.errors import SinkContractError
from telemetryd.log import DaemonLog
from telemetryd.sinks.base import Item, Sink, SinkConfig
from telemetryd.spool.sink_spool import SinkSpool
from telemetryd_proto.framing import Block

_KEEP_SHARE: Final = 0.5
"""Of the time at the end, how long lines are delivered from memory before they go on disk first."""
_TICK_SECONDS: Final = 0.001
"""uvloop rounds a timer to milliseconds: one of less than half of that would be due at once, and
waiting for it again and again keeps the processor busy for nothing."""
CLOSE_SECONDS: Final = 0.5
"""What `close`, and the end of a cancelled write, may take when the deadline has already passed."""


class DeliveryWorker:
    """Delivers what is offered to one sink."""

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
        rng: random.Random,
        on_bug: Callable[[Exception], None],
    ) -> None:
        self.name = sink.context.name
        self.account = account
        self._stats = stats
        self._clock = sink.context.clock
        self._survives_freeze = sink.survives_freeze
        self._config = config
        self._queue = queue
        self._losses = losses
        self._failover: DeliveryWorker | None = None
        self._circuit = Circuit(self.name, log, self._clock)
        self._spool = self._spool_of(sink, config, log)
        self._delivery = Delivery(
            queue, self._circuit, self._spool, batch_max_bytes=config.batch_max_bytes
        )
        self._attempts = Attempts(
            sink, config, log, delivery=self._delivery, circuit=self._circuit, stats=stats,
            can_wait=self._spool is not None,
        )  # fmt: skip
        self._in_flight = InFlight(account, stats, self._clock)
        self._log = log
        self._rng = rng
        self._on_bug = on_bug
        self._lingering = Linger(config.linger_ms / 1000)
        self._attempt = 0
        """How often the batch has been tried."""
        self._batch_number = 0
        self._instance = sink.context.instance
        self._spilled: list[Block] = []
        """What the queue has just given up."""
        self._diverts_soon = False
        self._lost_for = NO_REASON
        """What lines are lost for at the end, unless the destination gave a reason."""
        self._nudge = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self._at_once: dict[str, Callable[[], None]] = {
            delivery.TELL_IDLE: self._idle.set,
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

    def _spool_of(self, sink: Sink, config: SinkConfig, log: DaemonLog) -> SinkSpool | None:
        if config.spool is None:
            return None
        return SinkSpool(
            self.name,
            config.spool,
            sink.item_type,
            self.account,
            lose=self._lose_item,
            lose_unread=self._losses.lose_unread,
            wants_data=lambda: self._losses.wants_data,
            log=log,
            sink_type=config.type,
            clock=self._clock,
        )

    @property
    def is_up(self) -> bool:
        """Whether writes are made: the worker runs, and the circuit is not open."""
        running = self._task is not None and not self._task.done()
        return running and not self._circuit.is_open

    @property
    def linger_seconds(self) -> float:
        """How long a batch that is not full waits at present."""
        return self._lingering.seconds

    @property
    def has_spool(self) -> bool:
        """Whether what can't be delivered may wait on disk."""
        return self._spool is not None

    @property
    def spool_disk_bytes(self) -> int:
        """Bytes of the files the spool has open."""
        return self._spool.disk_bytes if self._spool is not None else 0

    @property
    def spool_oldest_seconds(self) -> float:
        """Age of the oldest line on disk; 0 without any."""
        return self._spool.oldest_seconds if self._spool is not None else 0.0

    @property
    def failover(self) -> DeliveryWorker | None:
        """The worker that gets what this one can't deliver."""
        return self._failover

    @property
    def is_cut_off(self) -> bool:
        """Whether its destination is left alone for now, because it takes nothing."""
        return self._circuit.is_open

    def tell_sink_bugs(self, call: Callable[[BaseException], None]) -> None:
        """Call `call` with each bug of the sink, when it is logged. For tests of the sink."""
        self._attempts.tell_sink_bugs(call)

    def fail_over_to(self, other: DeliveryWorker) -> None:
        """Send what can't be delivered to `other`. The composition root rules out circles."""
        self._failover = other
        self._losses.fail_over(other.offer)
        self._delivery.fail_over()

    # -- what the pipeline calls -------------------------------------------------------------

    def offer(self, block: Block) -> None:
        """Enqueue `block`; what the overflow policy drops for it is counted at once."""
        account = self.account
        account.offered.add(block.lines, block.size)
        account.enqueued.add(block.lines, block.size)
        for reason, loser in self._queue.offer(block):
            if reason == "queue_full":
                self._spilled.append(loser)
            else:
                self._losses.lose(loser, reason)
        if self._spilled:
            self._execute(self._delivery.overflow())
        if len(self._queue):
            self._idle.clear()
            self._divert_soon()

    def filter_out(self, lines: int, size: int) -> None:
        """Count lines offered to the sink and not wanted by it."""
        self.account.offered.add(lines, size)
        self.account.filtered.add(lines, size)

    def count_unjudged(self, lines: int) -> None:
        """Count lines, of those offered, that passed because the sink's rules can't judge them."""
        self._stats.unjudged_lines += lines

    def pending(self) -> Count:
        """Count the lines that the queue and the batch hold now."""
        return total(self._queue.waiting(), self._in_flight.pending())

    def oldest_received_at(self) -> float | None:
        """When the oldest line that waits or is in flight was read, in monotonic seconds."""
        oldest = self._in_flight.oldest_received_at()
        return self._queue.oldest_received_at() if oldest is None else oldest

    # -- life --------------------------------------------------------------------------------

    async def open(self, deadline: float) -> str:
        """Open the sink before `start`; why it can't be, or "". The first write tries again."""
        return await self._attempts.open(deadline)

    async def reopen(self, deadline: float) -> str:
        """Have the sink open its files again; why it can't, or ""."""
        return await self._attempts.reopen(deadline)

    def adjust(self, config: SinkConfig) -> None:
        """Take on what of `config` can change while lines are delivered."""
        self._config = msgspec.structs.replace(
            self._config,
            linger_ms=config.linger_ms,
            retry_max_elapsed_ms=config.retry_max_elapsed_ms,
            write_timeout_ms=config.write_timeout_ms,
        )
        self._lingering.limit(config.linger_ms / 1000)
        self._attempts.limit(config.write_timeout_ms / 1000)

    def start(self) -> None:
        """Begin to deliver, first what an earlier process has spooled."""
        if self._spool is not None:
            self._spool.recover()
        self._task = asyncio.create_task(self._run(), name=f"deliver-{self.name}")
        self._task.add_done_callback(self._on_end)

    def _on_end(self, task: asyncio.Task[None]) -> None:
        self._idle.set()  # there is nothing left to wait for
        if not task.cancelled() and isinstance(bug := task.exception(), Exception):
            self._on_bug(bug)

    async def flush(self, deadline: float) -> bool:
        """Deliver what is queued, without lingering; False if that failed.

        It fails when `deadline` (loop time) comes first, or the worker has ended.
        """
        if self._delivery.stop_at is None and self._circuit.is_open:
            return False  # no flush should wait for a destination that is known to be down
        self._delivery.begin_flush()
        self._nudge.set()
        self._queue.wake()
        try:
            async with asyncio.timeout_at(deadline):
                await self._idle.wait()
                if not await self._attempts.flush(deadline):
                    return False
        except TimeoutError:
            return False
        finally:
            self._delivery.end_flush()
        return self._task is None or not self._task.done()

    async def hold(self) -> None:
        """Begin no write until `release`, and break off the one in flight, to be repeated.

        For what comes before a freeze, which would cut a conversation with a distant server in
        two. Sinks that survive a freeze are left alone.
        """
        if not self._survives_freeze:
            self._delivery.hold()
            await self._attempts.break_off()

    def release(self) -> None:
        """The process runs (again): writes may begin, and what has lingered too long is written."""
        self._delivery.release()
        self._queue.wake()
        if self._delivery.state in {delivery.HELD, delivery.PROBING}:  # which may be due by now
            self._nudge.set()

    def on_restore(self, instance: str) -> None:
        """The process runs on from a snapshot: `instance` is its new random id."""
        self._instance = instance
        self._rng.seed(instance)  # copies of one snapshot must not retry in step
        self._attempts.on_restore(instance)

    async def stop(
        self,
        deadline: float,
        grace: float = CLOSE_SECONDS,
        *,
        keep: bool = False,
        reason: str = "signal",
    ) -> None:
        """Deliver what can be delivered until `deadline` (loop time), then drop the rest.

        Afterwards nothing is pending and the sink is closed. Past the deadline, its write may take
        `grace` seconds to end, and its `close` as many. With `keep`, the disk outlives the process:
        the rest is spooled, where there is a spool, instead of dropped. `reason`: see
        `Sink.own_items`.
        """
        self._delivery.stop(deadline, reason, keep=keep)
        self._attempts.hurry()
        if self._task is not None:
            self._idle.clear()
        self.release()
        if self._task is not None:
            if not self._task.done():
                if keep and not await self.flush(_now() + (deadline - _now()) * _KEEP_SHARE):
                    await self._spool_queue()
                await self.flush(deadline)
            self._task.cancel()
            _, running = await asyncio.wait({self._task}, timeout=grace)
            if running:
                late = SinkContractError("write() goes on although it was cancelled")
                self._attempts.report_bug(late)
        left = self._delivery.is_left_to_the_next()
        self.abandon(self._in_flight.trouble, keep=keep)
        await self._attempts.close(_now() + grace if left else max(deadline, _now() + grace))

    def abandon(self, reason: str, *, keep: bool = False) -> None:
        """Lose all that waits or is in flight, at once; lines a destination refused say why.

        With `keep` nothing is lost that a spool can take.
        """
        self._lost_for = reason
        self._execute(self._delivery.abandon(keep=keep))

    # -- the loop ----------------------------------------------------------------------------

    async def _run(self) -> None:
        at_once, in_time, now = self._at_once, self._in_time, asyncio.get_running_loop().time
        while True:
            if self._spool is not None and self._spool.wants_recovery:
                self._spool.recover()
            commands = self._delivery.next(now())
            if not commands:
                return
            for command in commands:
                if command in at_once:
                    at_once[command]()
                else:
                    await in_time[command]()

    def _execute(self, commands: Commands) -> None:
        """Execute commands that wait for nothing."""
        for command in commands:
            self._at_once[command]()

    async def _open(self) -> None:
        await self._attempts.open_early()
        self._delivery.on_opened()

    # -- waiting -----------------------------------------------------------------------------

    async def _linger(self) -> None:
        """Wait for a batch to fill, at most `linger_ms`, and not when somebody waits for us."""
        seconds = self._lingering.seconds
        if not seconds:
            return
        elapsed = self._clock.elapsed  # the loop's clock may stand still in a freeze
        until = elapsed() + seconds
        while self._delivery.may_linger and (left := until - elapsed()) > 0:
            await self._queue.wait(max(left, _TICK_SECONDS))

    async def _await_release(self) -> None:
        while self._delivery.is_held:
            self._nudge.clear()
            await self._nudge.wait()

    async def _await_probe(self) -> None:
        if len(self._queue):
            self._divert_soon()
        await self._sleep_until(self._circuit.probe_at)

    async def _back_off(self) -> None:
        code = self._in_flight.code
        self._log.info("write_retried", sink=self.name, code=code, attempt=self._attempt)
        await self._sleep_until(self._delivery.retry_at)

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
        self._lingering.on_batch(len(blocks), size / self._config.batch_max_bytes)
        self._in_flight.take(blocks)

    async def _pack(self) -> None:
        blocks = self._in_flight.blocks
        items = await self._attempts.pack_in_turns(blocks)
        if items is None:
            for block in self._in_flight.give_up_blocks():
                self._losses.lose(block, "bug")
        self._begin(items, self._next_batch_id())

    async def _take_spooled(self) -> None:
        assert self._spool is not None  # noqa: S101 - the table asks for it only if there is one
        # what is read back is in no queue: without the bound each of many sinks would add a batch
        most = min(self._config.batch_max_bytes, self._queue.own_bytes)
        batch_id, items = self._spool.take(most)
        self._begin(items, batch_id)
        await asyncio.sleep(0)  # there may have been nothing to wait for

    def _take_own(self) -> None:
        self._begin(self._attempts.own_items(self._delivery.end), self._next_batch_id())

    def _next_batch_id(self) -> str:
        self._batch_number += 1
        return f"{self._instance}-{self.name}-{self._batch_number}"

    def _begin(self, items: list[Item] | None, batch_id: str) -> None:
        """The batch has become `items`; None: the sink has a bug."""
        self._attempt = 0
        self._in_flight.fill(items or [], batch_id)
        give_up_at = _now() + self._config.retry_max_elapsed_ms / 1000
        schedule = RetrySchedule(give_up_at=give_up_at, rng=self._rng)
        self._delivery.on_packed(None if items is None else len(items), schedule)

    async def _write(self) -> None:
        self._attempt += 1
        result, retry_after = await self._attempts.write(self._in_flight.batch(), self._attempt)
        if result is not None:
            for item, reason in self._in_flight.settle(result):
                self._lose_item(item, reason)
        self._delivery.on_written(
            self._in_flight.items, _now(), retry_after=retry_after, is_cut=result is None
        )

    def _settle(self) -> None:
        blocks, seconds = self._in_flight.end()
        if blocks:
            self._queue.settle(blocks, seconds)
        if self._spool is not None and self._delivery.is_spooled:
            self._spool.settle()

    # -- memory to disk ----------------------------------------------------------------------

    def _divert_soon(self) -> None:
        """See to it that what waits in memory goes on disk, if it should."""
        if not self._diverts_soon and self._delivery.should_divert():
            self._diverts_soon = True
            asyncio.get_running_loop().call_soon(self._divert)

    def _divert(self) -> None:
        """Move lines from the queue to the spool, a batch in each turn of the loop."""
        self._diverts_soon = False
        commands = self._delivery.divert()
        if commands:
            self._execute(commands)
            self._queue.wake()
            if len(self._queue):
                self._divert_soon()

    async def _spool_queue(self) -> None:
        """The end is near: what waits goes on disk now, a batch in each turn of the loop.

        At the deadline there would be no time for it: packing may be slow, a queue large.
        """
        while commands := self._delivery.empty_queue():
            self._execute(commands)
            await asyncio.sleep(0)

    def _spool_batch(self) -> None:
        blocks = self._queue.take(self._config.batch_max_bytes)
        self._spool_blocks(blocks)
        self._queue.settle(blocks)

    def _spool_overflow(self) -> None:
        spilled, self._spilled = self._spilled, []
        self._spool_blocks(spilled)  # the oldest that waited: they come behind what is spooled

    def _spool_blocks(self, blocks: list[Block]) -> None:
        """Put blocks that have left the queue behind all that is on disk."""
        items = self._attempts.pack(blocks)
        if items is None or self._spool is None:
            for block in blocks:
                self._losses.lose(block, "bug")
        else:
            self._spool.put(items)

    def _put_back(self) -> None:
        """Spool the batch in flight, before all that is there."""
        if self._spool is not None:
            self._spool.put_back([item for item, _ in self._in_flight.give_up_items()])
        self._divert_soon()  # no block may come that would see to it

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
        data = self._attempts.unpack(item) if self._losses.wants_data else None
        if data is None:
            self._losses.lose_unread(item.lines, item.size, reason)
            return
        added = len(data) - item.size
        block = Block(data, item.lines, item.source, item.offset, item.received_at, added)
        self._losses.lose(block, reason)

    def _keep_or_lose_all(self) -> None:
        """The end: put what is left on disk, if that is of use, else lose it."""
        keep, spool, reason = self._delivery.keeps, self._spool, self._lost_for
        if keep and spool is not None:
            spool.put_back([item for item, _ in self._in_flight.give_up_items()])
        self._lose_batch()
        self._keep_or_lose(self._in_flight.give_up_blocks(), reason)
        self._queue.settle(self._in_flight.end()[0])
        if spool is not None:
            spool.settle()
            if not keep:
                spool.lose_all(reason)
        while blocks := self._queue.take(self._config.batch_max_bytes):
            self._keep_or_lose(blocks, reason)
            self._queue.settle(blocks)
        if spool is not None:
            spool.close()

    def _keep_or_lose(self, blocks: list[Block], reason: str) -> None:
        if self._spool is not None and self._delivery.keeps:
            items = self._attempts.pack(blocks) if blocks else []
            if items is not None:
                self._spool.put(items)
                return
        for block in blocks:
            self._losses.lose(block, reason)


def _now() -> float:
    return asyncio.get_running_loop().time()
