"""One delivery worker per sink: queue -> batch -> [spool] -> write -> settle.

The worker owns everything a sink must not know: it forms batches, retries what may be retried with
full-jitter back-off, and settles every line exactly once, as delivered, dropped with a reason, or
dead-lettered. Order is kept: one batch is in flight, and the next starts when it is settled.

A lost line is counted under the last reason its destination gave, for it or, where time ran out
before its turn, for the batch it waited behind; under `shutdown` if there was none. Nothing a sink
does, short of blocking the loop, ends the worker (see `shell.attempt`).

With a spool, what can't be delivered now goes on disk (see `shell.diversion`). What is there goes
first, so order is kept.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final

import msgspec

from telemetryd.core.ledger import Count, SinkAccount, total
from telemetryd.core.linger import Linger
from telemetryd.core.retry import RetrySchedule
from telemetryd.core.stats import SinkStats
from telemetryd.errors import SinkContractError
from telemetryd.log import DaemonLog
from telemetryd.shell.attempt import Attempts
from telemetryd.shell.diversion import Diversion
from telemetryd.shell.losses import Losses
from telemetryd.shell.queue import SinkQueue
from telemetryd.shell.spool import SinkSpool
from telemetryd.sinks.base import Batch, Item, Sink, SinkConfig, WriteResult
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
        self._end = ""
        """Why the process ends, until the sink has been asked for its own items."""
        self._losses = losses
        self._failover: DeliveryWorker | None = None
        self._attempts = Attempts(sink, config, log, stats=stats, can_wait=config.spool is not None)
        self._spool = self._spool_of(sink, config, log)
        self._diversion = Diversion(
            self._spool, queue, self._attempts, losses, batch_max_bytes=config.batch_max_bytes
        )
        self._log = log
        self._rng = rng
        self._on_bug = on_bug
        self._taken: list[Block] = []
        """Blocks that have left the queue and are not items yet."""
        self._unsettled: list[tuple[Item, str]] = []
        """The items in flight, each with the reason it is lost for if nothing better comes."""
        self._numbers: tuple[int, ...] = ()
        """Their numbers in the batch, as they were in its first attempt."""
        self._trouble = "shutdown"
        """What lines are lost for that were still waiting at the end."""
        self._lingering = Linger(config.linger_ms / 1000)
        self._batch_number = 0
        self._instance = sink.context.instance
        self._flushing = 0
        self._nudge = asyncio.Event()
        self._waits_for_probe = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None

    def _spool_of(self, sink: Sink, config: SinkConfig, log: DaemonLog) -> SinkSpool | None:
        if config.spool is None:
            return None
        return SinkSpool(
            self.name,
            config.spool,
            sink.item_type,
            self.account,
            lose=self._lose_item,
            lose_unread=self._losses.unreadable,
            wants_data=lambda: self._losses.wants_data,
            log=log,
            sink_type=config.type,
            clock=self._clock,
        )

    @property
    def is_up(self) -> bool:
        """Whether writes are made: the worker runs, and the circuit is not open."""
        running = self._task is not None and not self._task.done()
        return running and not self._attempts.circuit.is_open

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
        return self._attempts.circuit.is_open

    def tell_sink_bugs(self, call: Callable[[BaseException], None]) -> None:
        """Call `call` with each bug of the sink, when it is logged. For tests of the sink."""
        self._attempts.on_sink_bug = call

    def fail_over_to(self, other: DeliveryWorker) -> None:
        """Send what can't be delivered to `other`. The composition root rules out circles."""
        self._failover = other
        self._losses.failover = other.offer

    # -- what the pipeline calls -------------------------------------------------------------

    def offer(self, block: Block) -> None:
        """Enqueue `block`; what the overflow policy drops for it is counted at once."""
        account = self.account
        account.offered.add(block.lines, block.size)
        account.enqueued.add(block.lines, block.size)
        spilled: list[Block] = []
        for reason, loser in self._queue.offer(block):
            if reason != "queue_full":
                self._losses.undelivered(loser, reason)
            elif self._diversion.may_spill():
                spilled.append(loser)  # the oldest that waited: they come behind what is spooled
            else:
                self._losses.overflow(loser)
        if spilled:
            self._diversion.spill(spilled)
        if len(self._queue):
            self._idle.clear()
            self._diversion.divert_soon()

    def filter_out(self, lines: int, size: int) -> None:
        """Count lines offered to the sink and not wanted by it."""
        self.account.offered.add(lines, size)
        self.account.filtered.add(lines, size)

    def count_unjudged(self, lines: int) -> None:
        """Count lines, of those offered, that passed because the sink's rules can't judge them."""
        self._stats.unjudged_lines += lines

    def pending(self) -> Count:
        """Count the lines that the queue and the batch hold now."""
        taken = (Count(block.lines, block.size) for block in self._taken)
        in_flight = (Count(item.lines, item.size) for item, _ in self._unsettled)
        return total(self._queue.waiting(), *taken, *in_flight)

    def oldest_received_at(self) -> float | None:
        """When the oldest line that waits or is in flight was read, in monotonic seconds."""
        if self._unsettled:
            return self._unsettled[0][0].received_at
        return self._queue.oldest_received_at()

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
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._idle.set()  # there is nothing left to wait for
        if not task.cancelled() and isinstance(bug := task.exception(), Exception):
            self._on_bug(bug)

    async def flush(self, deadline: float) -> bool:
        """Deliver what is queued, without lingering; False if that failed.

        It fails when `deadline` (loop time) comes first, or the worker has ended.
        """
        if self._attempts.stop_at is None and self._attempts.circuit.is_open:
            return False  # no flush should wait for a destination that is known to be down
        self._flushing += 1
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
            self._flushing -= 1
        return self._task is None or not self._task.done()

    async def hold(self) -> None:
        """Begin no write until `release`, and break off the one in flight, to be repeated.

        For what comes before a freeze, which would cut a conversation with a distant server in
        two. Sinks that survive a freeze are left alone.
        """
        if not self._survives_freeze:
            await self._attempts.hold()

    def release(self) -> None:
        """The process runs (again): writes may begin, and what has lingered too long is written."""
        self._attempts.release()
        self._queue.wake()
        if self._waits_for_probe:  # which may be due by now
            self._nudge.set()

    def restored(self, instance: str) -> None:
        """The process runs on from a snapshot: `instance` is its new random id."""
        self._instance = instance
        self._rng.seed(instance)  # copies of one snapshot must not retry in step
        self._attempts.restored(instance)

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
        self._attempts.stop_at = deadline
        self._diversion.keeps = keep
        self._end = reason
        if keep and self._diversion.is_usable:
            self._attempts.hurry()
        if self._task is not None:
            self._idle.clear()
        self.release()
        if self._task is not None:
            if not self._task.done():
                if keep and not await self.flush(_now() + (deadline - _now()) * _KEEP_SHARE):
                    await self._diversion.spool_queue()
                await self.flush(deadline)
            self._task.cancel()
            _, running = await asyncio.wait({self._task}, timeout=grace)
            if running:
                late = SinkContractError("write() goes on although it was cancelled")
                self._attempts.report_bug(late)
        left = self._diversion.is_left_to_the_next()
        self.abandon(self._trouble, keep=keep)
        await self._attempts.close(_now() + grace if left else max(deadline, _now() + grace))

    def abandon(self, reason: str, *, keep: bool = False) -> None:
        """Lose all that waits or is in flight, at once; lines a destination refused say why.

        With `keep` nothing is lost that a spool can take.
        """
        spool = self._spool
        if keep:
            self._put_back()
        self._give_up()
        taken, self._taken = self._taken, []
        self._leave(taken, reason, keep=keep)
        if spool is not None:
            spool.settle()
            if not keep:
                spool.lose_all(reason)
        while blocks := self._queue.take(self._config.batch_max_bytes):
            self._leave(blocks, reason, keep=keep)
            self._queue.settle(blocks)
        if spool is not None:
            spool.close()

    def _leave(self, blocks: list[Block], reason: str, *, keep: bool) -> None:
        """At the end: spool `blocks` if that is of use, else lose them."""
        if self._spool is not None and keep:
            items = self._attempts.pack(blocks) if blocks else []
            if items is not None:
                self._spool.put(items)
                return
        for block in blocks:
            self._losses.undelivered(block, reason)

    # -- the loop ----------------------------------------------------------------------------

    async def _run(self) -> None:
        await self._attempts.open_early()
        while not self._attempts.out_of_time:
            if self._spool is not None and self._spool.wants_recovery:
                self._spool.recover()
            if not len(self._queue):
                await self._run_dry()
            await self._linger()
            await self._attempts.until_released()
            await self._until_probe()
            if self._spool is not None and self._diversion.has_lines:
                if not await self._deliver_spooled(self._spool):
                    return
            elif blocks := self._queue.take(self._config.batch_max_bytes):
                self._lingering.batched(
                    len(blocks), sum(len(b.data) for b in blocks) / self._config.batch_max_bytes
                )
                self._taken = blocks
                began, before = self._clock.monotonic(), self.account.delivered.lines
                try:
                    await self._deliver(blocks)
                finally:
                    delivered = self.account.delivered.lines - before
                    all_of_it = delivered == sum(b.lines for b in blocks)
                    self._queue.settle(
                        blocks, self._clock.monotonic() - began if all_of_it else None
                    )
                if self._diversion.has_lines and self._diversion.is_left_to_the_next():
                    return

    async def _run_dry(self) -> None:
        """The queue is empty: wait for more, unless there is something on disk."""
        if self._attempts.stop_at is None:
            self._idle.set()
        elif not self._diversion.has_lines:
            if self._end and (items := self._attempts.own_items(self._end)):
                self._end = ""
                await self._deliver_items(items, self._next_batch_id())
            self._idle.set()
        if not self._diversion.has_lines:
            await self._queue.wait()

    async def _linger(self) -> None:
        """Wait for a batch to fill, at most `linger_ms`, and not when somebody waits for us."""
        seconds = self._lingering.seconds
        if not seconds:
            return
        elapsed = self._clock.elapsed  # the loop's clock may stand still in a freeze
        until = elapsed() + seconds
        while (
            not self._flushing
            and self._queue.queued_bytes < self._config.batch_max_bytes
            and (left := until - elapsed()) > 0
        ):
            await self._queue.wait(max(left, _TICK_SECONDS))

    async def _deliver(self, blocks: list[Block]) -> None:
        items = await self._attempts.pack_in_turns(blocks)
        self._taken = []
        if items is None:
            for block in blocks:
                self._losses.undelivered(block, "bug")
            return
        await self._deliver_items(items, self._next_batch_id())

    def _next_batch_id(self) -> str:
        self._batch_number += 1
        return f"{self._instance}-{self.name}-{self._batch_number}"

    async def _deliver_spooled(self, spool: SinkSpool) -> bool:
        """Deliver a batch of what is spooled; False where it is left to the next process."""
        # what is read back is in no queue: without the bound each of many sinks would add a batch
        most = min(self._config.batch_max_bytes, self._queue.own_bytes)
        batch_id, items = spool.take(most)
        await self._deliver_items(items, batch_id)
        spool.settle()
        await asyncio.sleep(0)  # there may have been nothing to wait for
        return not (self._diversion.keeps and self._attempts.circuit.is_failing)

    async def _deliver_items(self, items: list[Item], batch_id: str) -> None:
        """Write `items` until each is delivered, lost, or back in the spool."""
        self._unsettled = [(item, self._trouble) for item in items]
        self._numbers = tuple(range(len(items)))
        attempt = 0
        give_up_at = _now() + self._config.retry_max_elapsed_ms / 1000
        schedule = RetrySchedule(give_up_at=give_up_at, rng=self._rng)
        while self._unsettled:
            await self._attempts.until_released()
            if self._diversion.is_futile():
                self._give_up()
                return
            if self._diversion.makes_way():
                self._put_back()
                self._diversion.divert_soon()  # no block may come that would see to it
                return
            attempt += 1
            batch = Batch(batch_id, tuple(item for item, _ in self._unsettled), self._numbers)
            result, retry_after = await self._attempts.write(batch, attempt)
            if result is not None:
                self._settle(result)
                if not self._unsettled:
                    return
            elif self._attempts.held:  # broken off by `hold`: says nothing of these lines
                await self._attempts.until_released()
                await self._until_probe()
                continue
            left = self._diversion.is_left_to_the_next()
            again_at = (
                None
                if left
                else schedule.next_attempt(
                    _now(), retry_after=retry_after, deadline=self._attempts.stop_at
                )
            )
            if again_at is None:
                failing, ending = self._attempts.circuit.is_failing, self._attempts.stop_at
                worth_it = self._diversion.keeps if ending is not None else failing
                if worth_it and self._diversion.is_usable:
                    self._put_back()  # the destination's fault, not that of these lines
                self._give_up()
                return
            if not (self._diversion.is_futile() or self._diversion.makes_way()):
                code = self._unsettled[-1][1]
                self._log.info("write_retried", sink=self.name, code=code, attempt=attempt)
                await self._back_off(again_at)
                await self._until_probe()

    async def _until_probe(self) -> None:
        """While the circuit is open, and waiting is of use: wait. The end of the process asks."""
        circuit = self._attempts.circuit
        while (
            self._attempts.stop_at is None and circuit.is_open and not self._diversion.is_futile()
        ):
            if len(self._queue):
                self._diversion.divert_soon()
            self._waits_for_probe = True
            try:
                await self._back_off(circuit.probe_at)
            finally:
                self._waits_for_probe = False

    def _settle(self, result: WriteResult) -> None:
        """Settle what was delivered or refused for good; the rest stays unsettled."""
        failures = {failure.index: failure for failure in result.failures}
        left: list[tuple[Item, str]] = []  # empty when `stop` was faster: all is settled then
        lost: list[tuple[Item, str]] = []
        delivered, now = self.account.delivered, self._clock.monotonic()
        for index, (item, _) in enumerate(self._unsettled):
            failure = failures.get(index)
            if failure is None:
                delivered.add(item.lines, item.size)
                self._stats.delivered(now - item.received_at, item.lines)
            else:
                (left if failure.retryable else lost).append((item, failure.code))
        if left and self._unsettled:
            kept = (failure.index for failure in failures.values() if failure.retryable)
            self._numbers = tuple(self._numbers[index] for index in sorted(kept))
        self._unsettled = left
        self._trouble = (left or lost)[-1][1] if left or lost else "shutdown"
        for item, reason in lost:
            self._lose_item(item, reason)

    def _put_back(self) -> None:
        """Spool the batch in flight, before all that is there."""
        if self._spool is not None:
            unsettled, self._unsettled = self._unsettled, []
            self._spool.put_back([item for item, _ in unsettled])

    async def _back_off(self, until: float) -> None:
        """Sleep until loop time `until`; a flush or stop that begins before ends it early."""
        self._nudge.clear()
        try:
            async with asyncio.timeout_at(until):
                await self._nudge.wait()
        except TimeoutError:
            return

    # -- losses ------------------------------------------------------------------------------

    def _give_up(self) -> None:
        unsettled, self._unsettled = self._unsettled, []
        for item, reason in unsettled:
            self._lose_item(item, reason)

    def _lose_item(self, item: Item, reason: str) -> None:
        if not item.lines:
            return  # the sink's own: no line of a sender is lost
        data = self._attempts.unpack(item) if self._losses.wants_data else None
        if data is None:
            self._losses.unreadable(item.lines, item.size, reason)
            return
        added = len(data) - item.size
        block = Block(data, item.lines, item.source, item.offset, item.received_at, added)
        self._losses.undelivered(block, reason)


def _now() -> float:
    return asyncio.get_running_loop().time()
