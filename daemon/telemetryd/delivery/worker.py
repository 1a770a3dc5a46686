"""One delivery worker per sink: queue -> batch -> [spool] -> write -> settle.

The worker owns everything a sink must not know: it forms batches, retries what may be retried with
full-jitter back-off, and settles every line exactly once, as delivered, dropped with a reason, or
dead-lettered. Order is kept: one batch is in flight, and the next starts when it is settled.

What comes after what is decided by the table in `core.delivery`; `delivery.steps` executes it. The
worker is what the pipeline and the daemon see of both.

A lost line is counted under the last reason its destination gave, for it or, where time ran out
before its turn, for the batch it waited behind; under `shutdown` if there was none. Nothing a sink
does, short of blocking the loop, ends the worker (see `delivery.attempt`).

With a spool, what can't be delivered now goes to disk: while the circuit is open, when the queue is
nearly full, and at the end of a process whose disk outlives it. What is there goes first, so order
is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from telemetryd.core import delivery
from telemetryd.core.ledger import Count, SinkAccount, total
from telemetryd.core.stats import SinkStats
from telemetryd.delivery.losses import Losses
from telemetryd.delivery.queue import SinkQueue
from telemetryd.delivery.steps import Steps
from telemetryd.errors import SinkContractError
from telemetryd.log import DaemonLog
from telemetryd.sinks.base import Sink, SinkConfig
from telemetryd_proto.framing import Block

if TYPE_CHECKING:
    from _random import Random

_KEEP_SHARE: Final = 0.5
"""Of the time at the end, how long lines are delivered from memory before they go to disk first."""
CLOSE_SECONDS: Final = 0.5
"""Seconds for `close`, and for the end of a cancelled write, after the deadline has passed."""


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
        rng: Random,
        on_bug: Callable[[Exception], None],
    ) -> None:
        self.name = sink.context.name
        self.account = account
        self._stats = stats
        self._survives_freeze = sink.survives_freeze
        self._config = config
        self._queue = queue
        self._losses = losses
        self._failover: DeliveryWorker | None = None
        self._last_resort: DeliveryWorker | None = None
        self._on_bug = on_bug
        self._steps = Steps(
            sink, config, account, queue, stats=stats, losses=losses, log=log, rng=rng
        )
        self._delivery = self._steps.delivery
        self._attempts = self._steps.attempts
        self._circuit = self._steps.circuit
        self._spool = self._steps.spool
        self._task: asyncio.Task[None] | None = None

    @property
    def is_up(self) -> bool:
        """True if writes are made: the worker runs, and the circuit is not open."""
        running = self._task is not None and not self._task.done()
        return running and not self._circuit.is_open

    @property
    def linger_seconds(self) -> float:
        """Return how long a batch waits at present until it is full."""
        return self._steps.lingering.seconds

    @property
    def has_spool(self) -> bool:
        """True if lines that can't be delivered may wait on disk."""
        return self._spool is not None

    @property
    def spool_disk_bytes(self) -> int:
        """Return the bytes of the files that the spool has open."""
        return self._spool.disk_bytes if self._spool is not None else 0

    @property
    def spool_oldest_seconds(self) -> float:
        """Return the age of the oldest line on disk; 0 without one."""
        return self._spool.oldest_seconds if self._spool is not None else 0.0

    @property
    def failover(self) -> DeliveryWorker | None:
        """Return the worker that gets the lines that this one can't deliver."""
        return self._failover

    @property
    def is_at_rest(self) -> bool:
        """True if a flush would have nothing to do, and would not fail."""
        running = self._task is not None and not self._task.done()
        return (
            running
            and self._is_idle()
            and not self._circuit.is_open
            and self._delivery.stop_at is None
            and not self._attempts.needs_flush
        )

    def _is_idle(self) -> bool:
        """True if nothing waits or is in flight, in memory or on disk."""
        return (
            self._delivery.state == delivery.IDLE
            and self._steps.idle.is_set()
            and not len(self._queue)
        )

    @property
    def is_cut_off(self) -> bool:
        """True if its destination is left alone for now, because it takes nothing."""
        return self._circuit.is_open

    def tell_sink_bugs(self, call: Callable[[BaseException], None]) -> None:
        """Call `call` with each bug of the sink, when it is logged. For tests of the sink."""
        self._attempts.tell_sink_bugs(call)

    def fail_over_to(self, other: DeliveryWorker) -> None:
        """Send what can't be delivered to `other`. The composition root rules out circles."""
        self._failover = other
        self._losses.fail_over(other.offer)
        self._delivery.fail_over()

    def leave_to(self, last_resort: DeliveryWorker) -> None:
        """At the end, send what is lost to `last_resort` if no line was delivered until then."""
        self._last_resort = last_resort

    @property
    def heir(self) -> DeliveryWorker | None:
        """Return the worker that may get lines of this one, and has to stop later."""
        return self._failover or self._last_resort

    # -- what the pipeline calls -------------------------------------------------------------

    def offer(self, block: Block) -> None:
        """Deliver `block` at once, or enqueue it. Count what the overflow policy drops for it."""
        account = self.account
        account.offered.add(block.lines, block.size)
        account.enqueued.add(block.lines, block.size)
        if self._steps.write_direct(block):
            return
        for reason, loser in self._queue.offer(block):
            if reason == "queue_full":
                self._steps.spill(loser)
            else:
                self._losses.lose(loser, reason)
        self._steps.overflow()
        if len(self._queue):
            self._steps.idle.clear()
            self._steps.divert_soon()

    def filter_out(self, lines: int, size: int) -> None:
        """Count lines offered to the sink and not wanted by it."""
        self.account.offered.add(lines, size)
        self.account.filtered.add(lines, size)

    def sample_out(self, lines: int, size: int) -> None:
        """Count lines offered to the sink that sampling leaves out."""
        self.account.offered.add(lines, size)
        self.account.sampled.add(lines, size)

    def count_unjudged(self, lines: int) -> None:
        """Count lines, of those offered, that passed because the sink's rules can't judge them."""
        self._stats.unjudged_lines += lines

    def pending(self) -> Count:
        """Count the lines that the queue and the batch hold now."""
        return total(self._queue.waiting(), self._steps.pending())

    def oldest_received_at(self) -> float | None:
        """Return when the oldest line, waiting or in flight, was read, in monotonic seconds."""
        oldest = self._steps.oldest_received_at()
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
        self._steps.adjust(self._config)

    def start(self) -> None:
        """Begin to deliver, first what an earlier process has spooled."""
        if self._spool is not None:
            self._spool.recover()
        self._task = asyncio.create_task(self._steps.run(), name=f"deliver-{self.name}")
        self._task.add_done_callback(self._on_end)

    def _on_end(self, task: asyncio.Task[None]) -> None:
        self._steps.idle.set()  # there is nothing left to wait for
        self._attempts.end_direct()
        if not task.cancelled() and isinstance(bug := task.exception(), Exception):
            self._on_bug(bug)

    async def flush(self, deadline: float) -> bool:
        """Deliver what is queued, without lingering; False if that failed.

        It fails when `deadline` (loop time) comes first, or the worker has ended.
        """
        if self._delivery.stop_at is None and self._circuit.is_open:
            return False  # no flush should wait for a destination that is known to be down
        self._delivery.begin_flush()
        self._steps.nudge()
        self._queue.wake()
        try:
            async with asyncio.timeout_at(deadline):
                await self._steps.idle.wait()
                if not await self._attempts.flush(deadline):
                    return False
        except TimeoutError:
            return False
        finally:
            self._delivery.end_flush()
        return self._task is None or not self._task.done()

    def begin_hold(self) -> bool:
        """Begin no write until `release`. False if one is in flight, which `hold` breaks off."""
        if self._survives_freeze:
            return True
        self._delivery.hold()
        return not self._attempts.is_writing

    async def hold(self, answer_until: float = 0.0) -> None:
        """Begin no write until `release`, and break off the one in flight, to be repeated.

        One that is sent, and only not answered, may be answered until `answer_until` (loop time).
        For what comes before a freeze, which would cut a conversation with a distant server in
        two. Sinks that survive a freeze are left alone.
        """
        if not self.begin_hold():
            await self._attempts.break_off(answer_until)

    def release(self) -> None:
        """Permit writes again after a freeze. Batches that lingered too long are written."""
        self._delivery.release()
        if self._is_idle():
            return  # there is nothing to wake up for
        self._queue.wake()
        if self._delivery.state in {delivery.HELD, delivery.PROBING}:  # which may be due by now
            self._steps.nudge()

    def on_restore(self, instance: str) -> None:
        """Use the new random id `instance`: the process continues from a snapshot."""
        self._steps.on_restore(instance)

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
        if self._last_resort is not None and not self.account.delivered.lines:
            self._losses.fail_over(self._last_resort.offer)
        self._delivery.stop(deadline, reason, keep=keep)
        self._attempts.hurry()
        if self._task is not None:
            self._steps.idle.clear()
        self.release()
        if self._task is not None:
            if not self._task.done():
                if keep and not await self.flush(_now() + (deadline - _now()) * _KEEP_SHARE):
                    await self._steps.spool_queue()
                await self.flush(deadline)
            self._task.cancel()
            _, running = await asyncio.wait({self._task}, timeout=grace)
            if running:
                late = SinkContractError("write() continues although it was cancelled")
                self._attempts.report_bug(late)
        left = self._delivery.is_left_to_the_next()
        self.abandon(self._steps.trouble, keep=keep)
        await self._attempts.close(_now() + grace if left else max(deadline, _now() + grace))

    def abandon(self, reason: str, *, keep: bool = False) -> None:
        """Lose all that waits or is in flight, at once; lines a destination refused say why.

        With `keep` nothing is lost that a spool can take.
        """
        self._steps.abandon(reason, keep=keep)


def _now() -> float:
    return asyncio.get_running_loop().time()
