"""One attempt at a time: a sink's `open`, `write` and `close`, whose outcomes become plain values.

Each has a deadline. An error of a sink, or a result against the contract, becomes a result that
says what happens to every item. A bug is logged as `sink_bug` and affects only its own batch.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from telemetryd.core.delivery import Delivery
from telemetryd.core.direct import SLOW_SECONDS, DirectGuard, is_slow
from telemetryd.core.ledger import Count
from telemetryd.core.stats import Outcome, SinkStats
from telemetryd.delivery.circuit import Circuit
from telemetryd.delivery.packing import TURN_BYTES, Packing, with_dates
from telemetryd.errors import PermanentSinkError, SinkContractError, SinkError
from telemetryd.log import DaemonLog, describe
from telemetryd.sinks.base import DELIVERED, Batch, Failure, Item, Sink, SinkConfig, WriteResult
from telemetryd_proto.framing import Block

FROZEN_SECONDS: Final = 0.5
"""A limit that is noticed so late has passed while the process stood still: it says nothing."""
LAST_CHANCE_SECONDS: Final = 0.3
"""Seconds for an attempt at the end, if the circuit is not closed and lines can wait on disk:
enough for a destination that is back, and too little to delay the end."""
_EARLY_SECONDS: Final = 0.001
"""uvloop rounds timers to milliseconds: the limit at the end may pass so long before it."""
_MAX_CODE: Final = 64
_MAX_DETAIL: Final = 500
_UNSAFE_IN_CODE: Final = re.compile(r"[^a-z0-9_]+")


class Attempts:
    """Calls one sink. `delivery` says whether the process is about to be frozen, or to end.

    `can_wait`: lines can outlast even a destination that refuses everything until somebody changes
    something there.
    """

    def __init__(
        self,
        sink: Sink,
        config: SinkConfig,
        log: DaemonLog,
        *,
        delivery: Delivery,
        circuit: Circuit,
        stats: SinkStats,
        can_wait: bool = False,
    ) -> None:
        self._on_sink_bug: Callable[[BaseException], None] | None = None
        self._delivery = delivery
        self._stats = stats
        self._circuit = circuit
        self._clock = sink.context.clock
        self._sink = sink
        self._name = sink.context.name
        self._seconds = config.write_timeout_ms / 1000
        self._log = log
        self._can_wait = can_wait
        self._is_open = False
        self._tried_at = 0.0
        """Loop time at which the last attempt began; when it had to open the sink, at its end."""
        self._landed = asyncio.Event()
        self._landed.set()
        self._limit: asyncio.Timeout | None = None
        self._packing: Packing | None = None
        self._writes_direct = type(sink).write_direct is not Sink.write_direct
        self.needs_flush: Final = type(sink).flush is not Sink.flush and sink.needs_flush
        self._guard = DirectGuard()

    def tell_sink_bugs(self, call: Callable[[BaseException], None]) -> None:
        """Call `call` with each bug of the sink, while it still has its traceback."""
        self._on_sink_bug = call

    @property
    def may_write_direct(self) -> bool:
        """True if the sink is open, writes direct, and has not been slow lately."""
        return (
            self._writes_direct
            and self._is_open
            and (not self._guard.is_paused or self._guard.permits(self._clock.elapsed()))
        )

    @property
    def is_writing(self) -> bool:
        """True if an attempt is on its way."""
        return self._limit is not None

    def end_direct(self) -> None:
        """Write nothing direct any more."""
        self._writes_direct = False

    async def break_off(self, answer_until: float = 0.0) -> None:
        """End the attempt that is on its way, if there is one. `delivery` is held already.

        If only its answer is missing, it may come until `answer_until` (loop time): what is cut off
        then is sent twice.
        """
        limit = self._limit
        if limit is not None:
            if not limit.expired():
                latest = max(_now(), answer_until if self._awaits_answer() else 0.0)
                limit.reschedule(min(limit.when() or latest, latest))
            await self._landed.wait()

    def _awaits_answer(self) -> bool:
        try:
            return bool(self._sink.awaits_answer)
        except Exception as error:  # noqa: BLE001 - a sink's bug costs nothing but itself
            self.report_bug(error)
            return False

    def hurry(self) -> None:
        """Limit the current attempt, if it is the last chance of a failing destination."""
        limit = self._limit
        if limit is not None and not limit.expired() and self._delivery.has_last_chance:
            latest = _now() + LAST_CHANCE_SECONDS
            limit.reschedule(min(limit.when() or latest, latest))

    # -- calls -------------------------------------------------------------------------------

    async def open(self, deadline: float) -> str:
        """Open the sink; why it can't be, or "". A write tries again."""
        began, limit = _now(), asyncio.timeout_at(deadline)
        try:
            async with limit:
                await self._sink.open()
        except (Exception, asyncio.CancelledError) as error:  # the other sinks may be open
            if is_cancelled(error):
                raise
            if limit.expired():
                return f"not open within {max(deadline - began, 0.0):.1f} s"
            return describe(error)
        self._is_open = True
        return ""

    async def reopen(self, deadline: float) -> str:
        """Have the sink open its files again; why it can't, or "". The next write tries again."""
        if not self._is_open:
            return ""
        began, limit = _now(), asyncio.timeout_at(deadline)
        try:
            async with limit:
                await self._sink.reopen()
        except (Exception, asyncio.CancelledError) as error:  # the other sinks must reopen too
            if is_cancelled(error):
                raise
            if limit.expired():
                return f"not open within {max(deadline - began, 0.0):.1f} s"
            return describe(error)
        return ""

    def limit(self, seconds: float) -> None:
        """Limit the time of an attempt from now on."""
        self._seconds = seconds

    async def open_early(self) -> None:
        """Open the sink ahead of the first line: what is wrong should be known early."""
        deadline = _now() + self._seconds
        if self._is_open or not (reason := await self.open(deadline)):
            return
        if _now() - deadline < FROZEN_SECONDS:
            self._log.warning("sink_not_ready", sink=self._name, error=reason)

    def pack(self, blocks: Sequence[Block]) -> list[Item] | None:
        """Return the sink's items, which must hold exactly the lines of `blocks`. None: a bug."""
        if self._packing is not None:  # its lines came before these
            self._packing.advance()
        packing = Packing(self._sink, blocks)
        packing.advance()
        return self._result_of_packing(packing)

    async def pack_in_turns(self, blocks: Sequence[Block]) -> list[Item] | None:
        """Return what `pack` does, but let other tasks run in between."""
        packing = self._packing = Packing(self._sink, blocks)
        try:
            packing.advance(TURN_BYTES)
            while not packing.is_done:
                await asyncio.sleep(0)
                if not packing.is_done:  # `pack` may have run in between
                    packing.advance(TURN_BYTES)
        finally:
            self._packing = None
        return self._result_of_packing(packing)

    def _result_of_packing(self, packing: Packing) -> list[Item] | None:
        if packing.bug is not None:
            self.report_bug(packing.bug)
            return None
        return packing.items

    def own_items(self, end: str) -> list[Item]:
        """Return items that the sink adds at the end. They must not hold lines."""
        try:
            items = list(self._sink.own_items(end))
            if any(item.lines or item.size for item in items):
                raise SinkContractError("own_items() made items that stand for lines")  # noqa: TRY301 - its handler is every bug's
        except Exception as error:  # noqa: BLE001 - a sink's bug costs nothing but itself
            self.report_bug(error)
            return []
        return with_dates(items, self._clock.monotonic())

    def unpack(self, item: Item) -> bytes | None:
        """Return the lines of `item`, None if the sink can't give them back."""
        try:
            data = self._sink.unpack(item)
            if data is None:
                return None
            if bytes(data).count(b"\n") != item.lines:
                raise SinkContractError("unpack() did not give back the item's lines")  # noqa: TRY301 - its handler is every bug's
        except Exception as error:  # noqa: BLE001 - the lines are still counted
            self.report_bug(error)
            return None
        return bytes(data)

    async def write(self, batch: Batch, attempt: int) -> tuple[WriteResult | None, float]:
        """Return the result of one write, failures included, and how long to wait.

        None when a freeze or the end of the process cut the attempt: the destination did not say
        anything.
        """
        self._tried_at = _now()
        deadline = self._deadline()
        stats, began = self._stats, self._clock.monotonic()
        outcome: Outcome = "cut"
        if attempt == 1:
            stats.batch_lines.observe(sum(item.lines for item in batch.items))
            stats.batch_bytes.observe(sum(len(item.payload) for item in batch.items))
        else:
            stats.retries += 1
        stats.writes_in_flight += 1
        try:
            self._landed.clear()
            async with asyncio.timeout_at(deadline) as self._limit:
                if not self._is_open:
                    await self._sink.open()
                    self._is_open = True
                    self._tried_at = _now()
                    self._circuit.became_ready()
                result = await self._sink.write(batch, attempt=attempt, deadline=deadline)
            result = _check(result, batch.items)
            self._circuit.on_answer(batch, result)
            outcome = self._on_answer(batch, result)
        except (Exception, asyncio.CancelledError) as error:
            if is_cancelled(error):
                raise
            failed, outcome = self._on_failure(batch, error)
            _forget_frames(error)
            return failed, _seconds(getattr(error, "retry_after", 0.0))
        finally:
            self._limit = None
            self._landed.set()
            stats.writes_in_flight -= 1
            stats.count_attempt(outcome, self._clock.monotonic() - began)
        return result, 0.0

    def write_direct(self, block: Block) -> float | None:
        """Have the sink write `block` at once. Return the seconds that took; None: it has not.

        A sink that raises has a bug: it is asked for no direct write any more, and the block is
        written again in the ordinary way.
        """
        stats, monotonic, usage = self._stats, self._clock.monotonic, self._clock.usage
        began, before = monotonic(), usage()
        try:
            is_written = self._sink.write_direct(block.data)
        except Exception as error:  # noqa: BLE001 - a sink's bug costs nothing but itself
            self.report_bug(error)
            self.end_direct()
            return None
        seconds = monotonic() - began
        if seconds < SLOW_SECONDS or not is_slow(seconds, before, usage()):
            self._guard.on_fast()
        else:
            self._guard.on_slow(self._clock.elapsed())
            stats.slow_writes += 1
            self._log.info("write_slow", sink=self._name, ms=round(seconds * 1000, 1))
        if not is_written:
            return None
        stats.direct_writes += 1
        stats.batch_lines.observe(block.lines)
        stats.batch_bytes.observe(len(block.data))
        stats.count_attempt("ok", seconds)
        self._circuit.on_delivery()
        return seconds

    def _deadline(self) -> float:
        """Return the deadline of the attempt that begins now, in loop seconds."""
        deadline = self._tried_at + self._seconds
        if self._delivery.stop_at is not None:
            deadline = min(deadline, self._delivery.stop_at)
        if self._delivery.has_last_chance:
            deadline = min(deadline, self._tried_at + LAST_CHANCE_SECONDS)
        return deadline

    def _on_answer(self, batch: Batch, result: WriteResult) -> Outcome:
        for retryable, code in {(each.retryable, each.code) for each in result.failures}:
            self._stats.count_failure("transient" if retryable else "permanent", code)
        if not result.failures:
            return "ok"
        if not result.refuses_all_of(batch):
            return "partial"
        return "transient" if any(each.retryable for each in result.failures) else "permanent"

    async def flush(self, deadline: float) -> bool:
        """Have the sink make durable what it accepted; whether it did. TimeoutError passes."""
        try:
            await self._sink.flush(deadline=deadline)
        except SinkError as error:
            self._log.warning("flush_failed", sink=self._name, code=to_code(error.code))
            return False
        except TimeoutError:
            raise
        except (Exception, asyncio.CancelledError) as error:  # the other sinks must still flush
            if is_cancelled(error):
                raise
            self.report_bug(error)
            return False
        return True

    async def close(self, deadline: float) -> None:
        """Close the sink by `deadline`."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._sink.close()
        except (Exception, asyncio.CancelledError) as error:  # the other sinks must still be closed
            if is_cancelled(error):
                raise
            self._log.warning("close_failed", sink=self._name, error=describe(error))

    def on_restore(self, instance: str) -> None:
        """Give the sink its new random id `instance`, after a restore from a snapshot."""
        try:
            self._sink.on_restore(instance)
        except Exception as error:  # noqa: BLE001 - a sink's bug costs nothing but itself
            self.report_bug(error)

    def report_bug(self, error: BaseException) -> None:
        """Count and log that the sink broke its contract."""
        self._log.error("sink_bug", sink=self._name, error=describe(error))
        if self._on_sink_bug is not None:
            self._on_sink_bug(error)

    def _on_failure(self, batch: Batch, error: BaseException) -> tuple[WriteResult | None, Outcome]:
        retryable = True
        outcome: Outcome = "transient"
        if isinstance(error, SinkError):
            code, detail = to_code(error.code), str(error.detail)
            if isinstance(error, PermanentSinkError):
                retryable = error.stops_sink and self._can_wait
                outcome = "permanent"
        elif isinstance(error, TimeoutError):
            is_over = self._delivery.is_out_of_time(_now() + _EARLY_SECONDS)
            if is_over or self._was_frozen_while_opening():
                return None, "cut"
            if self._delivery.is_held:
                self._circuit.on_cut_off(_now() - self._tried_at, opening=not self._is_open)
                return None, "cut"
            outcome = "timeout"
            code, detail = "timeout", f"no answer within {round(self._seconds * 1000)} ms"
        elif isinstance(error, OSError):  # not wrapped as it should be; still the world's fault
            code, detail = "io_error", error.strerror or describe(error)
        elif isinstance(error, asyncio.CancelledError):
            code, detail = "cancelled", "by the sink itself; the outcome is unknown"
        else:
            self.report_bug(error)
            self._stats.count_failure("bug", "bug")
            return _fail_all(batch, "bug", retryable=False), "permanent"
        self._log.warning(
            "write_failed", sink=self._name, code=code, detail=detail[:_MAX_DETAIL],
            retryable=retryable, lines=sum(item.lines for item in batch.items),
        )  # fmt: skip
        self._circuit.on_failure(error, code, _now() - self._tried_at)
        self._stats.count_failure("permanent" if outcome == "permanent" else "transient", code)
        return _fail_all(batch, code, retryable=retryable), outcome

    def _was_frozen_while_opening(self) -> bool:
        """True if the limit of an attempt that had to open the sink has passed in a freeze."""
        limit = None if self._limit is None else self._limit.when()
        return not self._is_open and limit is not None and _now() - limit >= FROZEN_SECONDS


def to_code(code: object) -> str:
    """Return a sink's error code as a label: lower-case letters, digits, `_`, of bounded length."""
    return _UNSAFE_IN_CODE.sub("_", str(code).lower())[:_MAX_CODE] or "unnamed"


def is_cancelled(error: BaseException) -> bool:
    """True if our task is being cancelled, and the sink did not raise the error itself."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def _forget_frames(error: BaseException) -> None:
    """Release the frames that `error` came through, and with them of the batch.

    A sink that keeps its error in a variable has made a circle of error and frame; until the
    garbage collector came by, each failed attempt would hold on to its batch.
    """
    seen: set[int] = set()
    following: list[BaseException | None] = [error]
    while following:
        each = following.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            each.__traceback__ = None
            following += (each.__cause__, each.__context__)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _fail_all(batch: Batch, code: str, *, retryable: bool) -> WriteResult:
    return WriteResult(tuple(Failure(index, code, retryable) for index in range(len(batch.items))))


def _check(result: Any, items: Sequence[Item]) -> WriteResult:
    """Return `result` after a check. A sink can return anything at all."""
    failures = tuple(
        Failure(failure.index, to_code(failure.code), failure.retryable, failure.part)
        if isinstance(failure, Failure) and 0 <= failure.index < len(items)
        else _contract_broken(items)
        for failure in result.failures
    )
    if any(failure.part is not None for failure in failures):
        _check_parts(failures, items)
    else:  # the last word on each item counts
        failures = tuple({failure.index: failure for failure in failures}.values())
    return WriteResult(failures) if failures else DELIVERED


def _check_parts(failures: Sequence[Failure], items: Sequence[Item]) -> None:
    """Raise SinkContractError if more is refused of an item than it holds."""
    refused = [Count() for _ in items]
    for failure in failures:
        part = items[failure.index] if failure.part is None else failure.part
        refused[failure.index].add(part.lines, part.size)
    for count, item in zip(refused, items, strict=True):
        if count.lines > item.lines or count.bytes > item.size:
            raise SinkContractError("write() refused more lines of an item than it holds")


def _contract_broken(items: Sequence[Item]) -> Failure:
    raise SinkContractError(f"write() did not return failures of its {len(items)} items")


def _seconds(wish: object) -> float:
    return float(wish) if isinstance(wish, int | float) else 0.0
