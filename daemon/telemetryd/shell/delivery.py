"""One delivery worker per sink: queue -> batch -> write -> settle.

The worker owns everything a sink must not know: it forms batches, gives each attempt a deadline,
retries what may be retried with full-jitter back-off, and settles every line exactly once, as
delivered, dropped with a reason, or dead-lettered. Order is kept: one batch is in flight, and the
next starts when it is settled.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final

from telemetryd.core.ledger import Count, SinkAccount, total
from telemetryd.core.retry import RetrySchedule
from telemetryd.errors import PermanentSinkError, SinkError, TransientSinkError
from telemetryd.shell.dead_letter import DeadLetter
from telemetryd.shell.queue import SinkQueue
from telemetryd.sinks.base import Batch, Failure, Item, Sink, SinkConfig, WriteResult
from telemetryd_proto.framing import Block

_CLOSE_SECONDS: Final = 0.5
"""What `flush` and `close` may take when the deadline has already passed."""


class DeliveryWorker:
    """Delivers what is offered to one sink."""

    def __init__(
        self,
        sink: Sink,
        config: SinkConfig,
        account: SinkAccount,
        queue: SinkQueue,
        *,
        dead_letter: DeadLetter | None,
        log: Callable[..., None],
        rng: random.Random,
        on_bug: Callable[[Exception], None],
    ) -> None:
        self.name = sink.context.name
        self.account = account
        self._sink = sink
        self._config = config
        self._queue = queue
        self._dead_letter = dead_letter
        self._log = log
        self._rng = rng
        self._on_bug = on_bug
        self._is_open = False
        self._unsettled: list[Item] = []
        self._batch_number = 0
        self._stop_at: float | None = None
        self._rush = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None

    # -- what the pipeline calls -------------------------------------------------------------

    def offer(self, block: Block) -> None:
        """Enqueue `block`; what the overflow policy drops for it is counted at once."""
        lines, size = block.lines, len(block.data)
        account = self.account
        account.offered.add(lines, size)
        account.enqueued.add(lines, size)
        self._idle.clear()
        for reason, loser in self._queue.offer(block):
            account.drop(reason, loser.lines, len(loser.data))
            self._log("warning", "lines_dropped", sink=self.name, reason=reason, lines=loser.lines)

    def filter_out(self, lines: int, size: int) -> None:
        """Count lines offered to the sink and not wanted by it."""
        self.account.offered.add(lines, size)
        self.account.filtered.add(lines, size)

    def refuse(self, block: Block, reason: str) -> None:
        """Lines meant for the sink that it can never get: to the dead letter, else dropped."""
        self.account.offered.add(block.lines, len(block.data))
        self.account.enqueued.add(block.lines, len(block.data))
        self._lose(block.data, block.lines, len(block.data), reason, block.source, block.offset)

    def pending(self) -> Count:
        """Lines waiting and in flight, counted anew from what the queue and the batch hold."""
        in_flight = (Count(item.lines, item.size) for item in self._unsettled)
        return total(self._queue.waiting(), *in_flight)

    # -- life --------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to deliver."""
        self._task = asyncio.create_task(self._run(), name=f"deliver-{self.name}")
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and isinstance(bug := task.exception(), Exception):
            self._on_bug(bug)

    async def flush(self, deadline: float) -> bool:
        """Deliver what is queued, without lingering; False if `deadline` (loop time) came first."""
        self._rush.set()
        self._queue.wake()
        try:
            async with asyncio.timeout_at(deadline):
                await self._idle.wait()
                await self._sink.flush(deadline=deadline)
        except TimeoutError:
            return False
        except SinkError as error:
            self._log("warning", "flush_failed", sink=self.name, code=error.code)
            return False
        finally:
            if self._stop_at is None:
                self._rush.clear()
        return True

    async def stop(self, deadline: float) -> None:
        """Deliver what can be delivered until `deadline` (loop time), then drop the rest.

        Afterwards nothing is pending and the sink is closed.
        """
        self._stop_at = deadline
        if self._task is not None:
            if not self._task.done():
                await self.flush(deadline)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._abandon()
        await self._close(deadline)

    def _abandon(self) -> None:
        unsettled, self._unsettled = self._unsettled, []
        for item in unsettled:
            self._lose_item(item, "shutdown")
        while blocks := self._queue.take(1 << 62):
            for block in blocks:
                size = len(block.data)
                self._lose(block.data, block.lines, size, "shutdown", block.source, block.offset)
            self._queue.settle(blocks)

    async def _close(self, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(max(deadline, loop.time() + _CLOSE_SECONDS)):
                await self._sink.close()
        except Exception as error:  # noqa: BLE001 - the other sinks must still be closed
            self._log("warning", "close_failed", sink=self.name, error=repr(error))

    # -- the loop ----------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            if not len(self._queue):
                self._idle.set()
                await self._queue.wait()
            await self._linger()
            blocks = self._queue.take(self._config.batch_max_bytes)
            if blocks:
                await self._deliver(blocks)
                self._queue.settle(blocks)

    async def _linger(self) -> None:
        """Wait for a batch to fill, at most `linger_ms`, and not when somebody waits for us."""
        if not self._config.linger_ms:
            return
        loop = asyncio.get_running_loop()
        until = loop.time() + self._config.linger_ms / 1000
        while (
            not self._rush.is_set()
            and self._queue.queued_bytes < self._config.batch_max_bytes
            and (left := until - loop.time()) > 0
        ):
            await self._queue.wait(left)

    async def _deliver(self, blocks: list[Block]) -> None:
        loop = asyncio.get_running_loop()
        self._batch_number += 1
        batch_id = f"{self._sink.context.instance}-{self.name}-{self._batch_number}"
        try:
            items = self._sink.pack(blocks)
        except Exception as error:  # noqa: BLE001 - a sink's bug costs its own batch only
            self._report_bug(error)
            for block in blocks:
                size = len(block.data)
                self._lose(block.data, block.lines, size, "bug", block.source, block.offset)
            return
        self._unsettled = items
        attempt = 0
        give_up_at = loop.time() + self._config.retry_max_elapsed_ms / 1000
        schedule = RetrySchedule(give_up_at=give_up_at, rng=self._rng)
        while items:
            attempt += 1
            result, retry_after = await self._attempt(Batch(batch_id, tuple(items)), attempt)
            items, code = self._settle(items, result)
            if not items:
                return
            again_at = schedule.next_attempt(
                loop.time(), retry_after=retry_after, deadline=self._stop_at
            )
            if again_at is None:
                self._unsettled = []
                for item in items:
                    self._lose_item(item, code)
                return
            self._log("info", "write_retried", sink=self.name, code=code, attempt=attempt)
            await self._back_off(again_at)

    async def _attempt(self, batch: Batch, attempt: int) -> tuple[WriteResult, float]:
        """One write, every failure turned into a result; and the destination's wish to wait."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._config.write_timeout_ms / 1000
        if self._stop_at is not None:
            deadline = min(deadline, self._stop_at)
        try:
            async with asyncio.timeout_at(deadline):
                if not self._is_open:
                    await self._sink.open()
                    self._is_open = True
                result = await self._sink.write(batch, attempt=attempt, deadline=deadline)
                if any(not 0 <= f.index < len(batch.items) for f in result.failures):
                    raise IndexError("WriteResult names an item that is not in the batch")  # noqa: TRY301
        except TransientSinkError as error:
            return self._failed(batch, error, retryable=True), error.retry_after
        except PermanentSinkError as error:
            return self._failed(batch, error, retryable=False), 0.0
        except SinkError as error:
            return self._failed(batch, error, retryable=True), 0.0
        except TimeoutError:
            late = SinkError("timeout", f"no answer within {self._config.write_timeout_ms} ms")
            return self._failed(batch, late, retryable=True), 0.0
        except Exception as error:  # noqa: BLE001 - a sink's bug costs its own batch only
            self._report_bug(error)
            return _all_failed(batch, "bug", retryable=False), 0.0
        return result, 0.0

    def _failed(self, batch: Batch, error: SinkError, *, retryable: bool) -> WriteResult:
        self._log(
            "warning", "write_failed", sink=self.name, code=error.code, detail=error.detail,
            retryable=retryable, lines=sum(item.lines for item in batch.items),
        )  # fmt: skip
        return _all_failed(batch, error.code, retryable=retryable)

    def _settle(self, items: list[Item], result: WriteResult) -> tuple[list[Item], str]:
        """Settle what was delivered or refused for good; what is left, and why."""
        failures = {failure.index: failure for failure in result.failures}
        left: list[Item] = []
        code = ""
        delivered = self.account.delivered
        lost: list[tuple[Item, str]] = []
        for index, item in enumerate(items):
            failure = failures.get(index)
            if failure is None:
                delivered.add(item.lines, item.size)
            elif failure.retryable:
                left.append(item)
                code = failure.code
            else:
                lost.append((item, failure.code))
        self._unsettled = left
        for item, reason in lost:
            self._lose_item(item, reason)
        return left, code

    async def _back_off(self, until: float) -> None:
        """Sleep until loop time `until`; a flush or stop that begins meanwhile ends it early."""
        seconds = until - asyncio.get_running_loop().time()
        if seconds <= 0:
            await asyncio.sleep(0)
        elif self._rush.is_set():
            await asyncio.sleep(seconds)
        else:
            try:
                async with asyncio.timeout(seconds):
                    await self._rush.wait()
            except TimeoutError:
                return

    # -- losses ------------------------------------------------------------------------------

    def _lose_item(self, item: Item, reason: str) -> None:
        self._lose(self._sink.unpack(item), item.lines, item.size, reason, item.source, item.offset)

    def _lose(
        self, data: bytes, lines: int, size: int, reason: str, source: int, offset: int
    ) -> None:
        if self._dead_letter is not None and self._dead_letter.keep(
            data, reason=reason, sink=self.name, source=source, offset=offset
        ):
            self.account.dead_lettered.add(lines, size)
            self._log("warning", "lines_dead_lettered", sink=self.name, reason=reason, lines=lines)
        else:
            self.account.drop(reason, lines, size)
            self._log("error", "lines_dropped", sink=self.name, reason=reason, lines=lines)

    def _report_bug(self, error: Exception) -> None:
        self._log("error", "sink_bug", sink=self.name, error=repr(error)[:500])


def _all_failed(batch: Batch, code: str, *, retryable: bool) -> WriteResult:
    return WriteResult(tuple(Failure(index, code, retryable) for index in range(len(batch.items))))
