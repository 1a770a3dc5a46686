"""One delivery worker per sink: queue -> batch -> write -> settle.

The worker owns everything a sink must not know: it forms batches, gives each attempt a deadline,
retries what may be retried with full-jitter back-off, and settles every line exactly once, as
delivered, dropped with a reason, or dead-lettered. Order is kept: one batch is in flight, and the
next starts when it is settled.

A lost line is counted under the last reason its destination gave, for it or, where time ran out
before its turn, for the batch it waited behind; under `shutdown` if there was none. Nothing a sink
does, short of blocking the loop, ends the worker: what it raises or returns against the contract is
logged as `sink_bug` and costs its own batch.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable
from typing import Any, Final

from telemetryd.core.breaker import Breaker
from telemetryd.core.ledger import Count, SinkAccount, total
from telemetryd.core.retry import RetrySchedule
from telemetryd.errors import PermanentSinkError, SinkContractError, SinkError
from telemetryd.log import describe
from telemetryd.shell.losses import Losses
from telemetryd.shell.queue import SinkQueue
from telemetryd.sinks.base import DELIVERED, Batch, Failure, Item, Sink, SinkConfig, WriteResult
from telemetryd_proto.framing import Block

CLOSE_SECONDS: Final = 0.5
"""What `close`, and the end of a cancelled write, may take when the deadline has already passed."""
_MAX_CODE: Final = 64
_MAX_DETAIL: Final = 500
_UNSAFE_IN_CODE: Final = re.compile(r"[^a-z0-9_]+")


class DeliveryWorker:
    """Delivers what is offered to one sink."""

    def __init__(
        self,
        sink: Sink,
        config: SinkConfig,
        account: SinkAccount,
        queue: SinkQueue,
        *,
        losses: Losses,
        log: Callable[..., None],
        rng: random.Random,
        on_bug: Callable[[Exception], None],
    ) -> None:
        self.name = sink.context.name
        self.account = account
        self._sink = sink
        self._config = config
        self._queue = queue
        self._losses = losses
        self._failover: DeliveryWorker | None = None
        self._breaker = Breaker()
        self._log = log
        self._rng = rng
        self._on_bug = on_bug
        self._is_open = False
        self._taken: list[Block] = []
        """Blocks that have left the queue and are not items yet."""
        self._unsettled: list[tuple[Item, str]] = []
        """The items in flight, each with the reason it is lost for if nothing better comes."""
        self._trouble = "shutdown"
        """What lines are lost for that were still waiting at the end."""
        self._batch_number = 0
        self._instance = sink.context.instance
        self._flushing = 0
        self._nudge = asyncio.Event()
        self._stop_at: float | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self._released = asyncio.Event()
        self._released.set()
        self._landed = asyncio.Event()
        self._landed.set()
        self._attempt_limit: asyncio.Timeout | None = None

    @property
    def failover(self) -> DeliveryWorker | None:
        """The worker that gets what this one can't deliver."""
        return self._failover

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
        for reason, loser in self._queue.offer(block):
            if reason == "queue_full":
                self._losses.overflow(loser)
            else:
                self._losses.undelivered(loser, reason)
        if len(self._queue):
            self._idle.clear()

    def filter_out(self, lines: int, size: int) -> None:
        """Count lines offered to the sink and not wanted by it."""
        self.account.offered.add(lines, size)
        self.account.filtered.add(lines, size)

    def refuse(self, block: Block) -> None:
        """Lines that the sink's filter can't judge: it can never get them."""
        self.account.offered.add(block.lines, block.size)
        self.account.enqueued.add(block.lines, block.size)
        self._losses.malformed(block)

    def pending(self) -> Count:
        """Lines waiting and in flight, counted anew from what the queue and the batch hold."""
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
        try:
            async with asyncio.timeout_at(deadline):
                await self._sink.open()
        except (Exception, asyncio.CancelledError) as error:  # the other sinks may be open
            if _is_cancelled(error):
                raise
            return describe(error)
        self._is_open = True
        return ""

    def start(self) -> None:
        """Begin to deliver."""
        self._task = asyncio.create_task(self._run(), name=f"deliver-{self.name}")
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._idle.set()  # nobody is left to wait for
        if not task.cancelled() and isinstance(bug := task.exception(), Exception):
            self._on_bug(bug)

    async def flush(self, deadline: float) -> bool:
        """Deliver what is queued, without lingering; False if that failed.

        It fails when `deadline` (loop time) comes first, or the worker has ended.
        """
        if self._stop_at is None and self._circuit_is_open():
            return False  # nobody should wait for a destination that is known to be down
        self._flushing += 1
        self._nudge.set()
        self._queue.wake()
        try:
            async with asyncio.timeout_at(deadline):
                await self._idle.wait()
                await self._sink.flush(deadline=deadline)
        except TimeoutError:
            return False
        except SinkError as error:
            self._log("warning", "flush_failed", sink=self.name, code=_bounded(error.code))
            return False
        except (Exception, asyncio.CancelledError) as error:  # the other sinks must still flush
            if _is_cancelled(error):
                raise
            self._report_bug(error)
            return False
        finally:
            self._flushing -= 1
        return self._task is None or not self._task.done()

    async def hold(self) -> None:
        """Begin no write until `release`, and break off the one in flight, to be repeated.

        For what comes before a freeze, which would cut a conversation with a distant server in
        two. Sinks that survive a freeze are left alone.
        """
        if self._sink.survives_freeze:
            return
        self._released.clear()
        if self._attempt_limit is not None:
            if not self._attempt_limit.expired():
                self._attempt_limit.reschedule(asyncio.get_running_loop().time())
            await self._landed.wait()

    def release(self) -> None:
        """The process runs (again): writes may begin, and what has lingered too long is written."""
        self._released.set()
        self._queue.wake()

    def restored(self, instance: str) -> None:
        """The process runs on from a snapshot: `instance` is its new random id."""
        self._instance = instance
        self._rng.seed(instance)  # copies of one snapshot must not retry in step
        try:
            self._sink.restored(instance)
        except Exception as error:  # noqa: BLE001 - a sink's bug costs nothing but itself
            self._report_bug(error)

    async def stop(self, deadline: float, grace: float = CLOSE_SECONDS) -> None:
        """Deliver what can be delivered until `deadline` (loop time), then drop the rest.

        Afterwards nothing is pending and the sink is closed. Past the deadline, its write may take
        `grace` seconds to end, and its `close` as many.
        """
        self._stop_at = deadline
        self.release()
        if self._task is not None:
            if not self._task.done():
                await self.flush(deadline)
            self._task.cancel()
            _, running = await asyncio.wait({self._task}, timeout=grace)
            if running:
                late = SinkContractError("write() goes on although it was cancelled")
                self._report_bug(late)
        self.abandon(self._trouble)
        await self._close(deadline, grace)

    def abandon(self, reason: str) -> None:
        """Lose all that waits or is in flight, at once; lines a destination refused say why."""
        self._give_up()
        taken, self._taken = self._taken, []
        for block in taken:
            self._losses.undelivered(block, reason)
        while blocks := self._queue.take(1 << 62):
            for block in blocks:
                self._losses.undelivered(block, reason)
            self._queue.settle(blocks)

    async def _close(self, deadline: float, grace: float) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(max(deadline, loop.time() + grace)):
                await self._sink.close()
        except (Exception, asyncio.CancelledError) as error:  # the other sinks must still be closed
            if _is_cancelled(error):
                raise
            self._log("warning", "close_failed", sink=self.name, error=describe(error))

    # -- the loop ----------------------------------------------------------------------------

    async def _run(self) -> None:
        if not self._is_open:  # ahead of the first line: what is wrong should be known early
            limit = asyncio.get_running_loop().time() + self._config.write_timeout_ms / 1000
            if reason := await self.open(limit):
                self._log("warning", "sink_not_ready", sink=self.name, error=reason)
        while not self._out_of_time():
            if not len(self._queue):
                self._idle.set()
                await self._queue.wait()
            await self._linger()
            await self._released.wait()
            await self._until_probe()
            blocks = self._queue.take(self._config.batch_max_bytes)
            if blocks:
                self._taken = blocks
                began = time.monotonic()
                try:
                    await self._deliver(blocks)
                finally:
                    self._queue.settle(blocks, time.monotonic() - began)

    async def _linger(self) -> None:
        """Wait for a batch to fill, at most `linger_ms`, and not when somebody waits for us."""
        if not self._config.linger_ms:
            return
        loop = asyncio.get_running_loop()
        seconds = self._config.linger_ms / 1000
        # by the clock that moves: the loop's may stand still while the process is frozen
        until, wall_until = loop.time() + seconds, time.time() + seconds
        while (
            not self._flushing
            and self._queue.queued_bytes < self._config.batch_max_bytes
            and (left := min(until - loop.time(), wall_until - time.time())) > 0
        ):
            await self._queue.wait(left)

    def _out_of_time(self) -> bool:
        return self._stop_at is not None and self._now() >= self._stop_at

    async def _deliver(self, blocks: list[Block]) -> None:
        loop = asyncio.get_running_loop()
        self._batch_number += 1
        batch_id = f"{self._instance}-{self.name}-{self._batch_number}"
        try:
            items = self._pack(blocks)
        except Exception as error:  # noqa: BLE001 - a sink's bug costs its own batch only
            self._report_bug(error)
            self._taken = []
            for block in blocks:
                self._losses.undelivered(block, "bug")
            return
        self._taken = []
        self._unsettled = [(item, self._trouble) for item in items]
        attempt = 0
        give_up_at = loop.time() + self._config.retry_max_elapsed_ms / 1000
        schedule = RetrySchedule(give_up_at=give_up_at, rng=self._rng)
        while self._unsettled:
            await self._released.wait()
            if self._is_futile():
                self._give_up()
                return
            attempt += 1
            batch = Batch(batch_id, tuple(item for item, _ in self._unsettled))
            result, retry_after = await self._attempt(batch, attempt)
            if result is not None:
                self._settle(result)
                if not self._unsettled:
                    return
            elif not self._released.is_set():  # broken off by `hold`: not a failure
                continue
            again_at = schedule.next_attempt(
                loop.time(), retry_after=retry_after, deadline=self._stop_at
            )
            if again_at is None:
                self._give_up()
                return
            code = self._unsettled[-1][1]
            self._log("info", "write_retried", sink=self.name, code=code, attempt=attempt)
            if not self._is_futile():
                await self._back_off(again_at)
                await self._until_probe()

    # -- the circuit -------------------------------------------------------------------------

    def _circuit_is_open(self) -> bool:
        return self._breaker.state(self._now()) == "open"

    def _is_futile(self) -> bool:
        """Whether to give up without asking: the circuit is open, and waiting is no use."""
        return self._circuit_is_open() and (
            self._breaker.permanent or self._losses.failover is not None
        )

    async def _until_probe(self) -> None:
        """While the circuit is open, and waiting is of use: wait. The end of the process asks."""
        while self._stop_at is None and self._circuit_is_open() and not self._is_futile():
            await self._back_off(self._breaker.probe_at)

    def _judge(self, batch: Batch, result: WriteResult) -> None:
        """Tell the breaker whether the destination, which has answered, takes anything."""
        if len(result.failures) < len(batch.items):
            if self._breaker.succeeded():
                self._log("info", "circuit_closed", sink=self.name)
        elif all(failure.retryable for failure in result.failures):
            self._opened(self._breaker.failed(self._now()), _bounded(result.failures[0].code))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _opened(self, opened: bool, code: str) -> None:
        if opened:
            self._log(
                "error", "circuit_opened", sink=self.name, code=code,
                permanent=self._breaker.permanent,
                next_attempt_seconds=round(self._breaker.probe_at - self._now(), 1),
            )  # fmt: skip

    def _note(self, error: BaseException, code: str) -> None:
        """Tell the breaker that an attempt failed, if that speaks against the destination."""
        permanent = False
        if isinstance(error, PermanentSinkError):
            if not error.stops_sink:
                return  # against these lines only
            permanent = True
        self._opened(self._breaker.failed(self._now(), permanent=permanent), code)

    def _pack(self, blocks: list[Block]) -> list[Item]:
        """The sink's items, which must stand for exactly the lines of `blocks`."""
        items = list(self._sink.pack(blocks))
        packed = Count(sum(item.lines for item in items), sum(item.size for item in items))
        taken = Count(sum(b.lines for b in blocks), sum(b.size for b in blocks))
        if packed != taken:
            raise SinkContractError(f"pack() made items of {packed} from blocks of {taken}")
        return items

    async def _attempt(self, batch: Batch, attempt: int) -> tuple[WriteResult | None, float]:
        """One write, every failure turned into a result; and the destination's wish to wait.

        None when `stop` or `hold` cut the attempt: the destination did not say anything.
        """
        deadline = self._now() + self._config.write_timeout_ms / 1000
        if self._stop_at is not None:
            deadline = min(deadline, self._stop_at)
        try:
            self._landed.clear()
            async with asyncio.timeout_at(deadline) as self._attempt_limit:
                if not self._is_open:
                    await self._sink.open()
                    self._is_open = True
                result = await self._sink.write(batch, attempt=attempt, deadline=deadline)
            result = _checked(result, len(batch.items))
            self._judge(batch, result)
        except (Exception, asyncio.CancelledError) as error:
            if _is_cancelled(error):
                raise
            return self._failed(batch, error), _seconds(getattr(error, "retry_after", 0.0))
        finally:
            self._attempt_limit = None
            self._landed.set()
        return result, 0.0

    def _failed(self, batch: Batch, error: BaseException) -> WriteResult | None:
        retryable = True
        if isinstance(error, SinkError):
            code, detail = _bounded(error.code), str(error.detail)
            retryable = not isinstance(error, PermanentSinkError)
        elif isinstance(error, TimeoutError):
            if self._out_of_time() or not self._released.is_set():
                return None
            code, detail = "timeout", f"no answer within {self._config.write_timeout_ms} ms"
        elif isinstance(error, OSError):  # not wrapped as it should be; still the world's fault
            code, detail = "io_error", error.strerror or describe(error)
        elif isinstance(error, asyncio.CancelledError):
            code, detail = "cancelled", "by the sink itself; the outcome is unknown"
        else:
            self._report_bug(error)
            return _all_failed(batch, "bug", retryable=False)
        self._log(
            "warning", "write_failed", sink=self.name, code=code, detail=detail[:_MAX_DETAIL],
            retryable=retryable, lines=sum(item.lines for item in batch.items),
        )  # fmt: skip
        self._note(error, code)
        return _all_failed(batch, code, retryable=retryable)

    def _settle(self, result: WriteResult) -> None:
        """Settle what was delivered or refused for good; the rest stays unsettled."""
        failures = {failure.index: failure for failure in result.failures}
        left: list[tuple[Item, str]] = []  # empty when `stop` was faster: all is settled then
        lost: list[tuple[Item, str]] = []
        delivered = self.account.delivered
        for index, (item, _) in enumerate(self._unsettled):
            failure = failures.get(index)
            if failure is None:
                delivered.add(item.lines, item.size)
            else:
                (left if failure.retryable else lost).append((item, _bounded(failure.code)))
        self._unsettled = left
        self._trouble = (left or lost)[-1][1] if left or lost else "shutdown"
        for item, reason in lost:
            self._lose_item(item, reason)

    async def _back_off(self, until: float) -> None:
        """Sleep until loop time `until`; a flush or stop that begins meanwhile ends it early."""
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
        data = self._unpacked(item) if self._losses.wants_data else None
        if data is None:
            self._losses.unreadable(item.lines, item.size, reason)
            return
        added = len(data) - item.size
        block = Block(data, item.lines, item.source, item.offset, item.received_at, added)
        self._losses.undelivered(block, reason)

    def _unpacked(self, item: Item) -> bytes | None:
        try:
            data = self._sink.unpack(item)
            if data is None:
                return None
            if bytes(data).count(b"\n") != item.lines:
                raise SinkContractError("unpack() did not give back the item's lines")  # noqa: TRY301 - its handler is every bug's
        except Exception as error:  # noqa: BLE001 - the lines are still counted
            self._report_bug(error)
            return None
        return bytes(data)

    def _report_bug(self, error: BaseException) -> None:
        self._log("error", "sink_bug", sink=self.name, error=describe(error))


def _all_failed(batch: Batch, code: str, *, retryable: bool) -> WriteResult:
    return WriteResult(tuple(Failure(index, code, retryable) for index in range(len(batch.items))))


def _checked(result: Any, items: int) -> WriteResult:
    """`result`, made sure of: typing does not stop a sink from returning anything at all."""
    failures = tuple(result.failures)
    for failure in failures:
        if not (isinstance(failure, Failure) and 0 <= failure.index < items):
            raise SinkContractError(f"write() did not return failures of its {items} items")
    return WriteResult(failures) if failures else DELIVERED


def _bounded(code: object) -> str:
    """A sink's error code as what may be a label: lower-case letters, digits, `_`, not endless."""
    return _UNSAFE_IN_CODE.sub("_", str(code).lower())[:_MAX_CODE] or "unnamed"


def _seconds(wish: object) -> float:
    return float(wish) if isinstance(wish, int | float) else 0.0


def _is_cancelled(error: BaseException) -> bool:
    """Whether our task is being cancelled, as opposed to a sink letting such an error out."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0
