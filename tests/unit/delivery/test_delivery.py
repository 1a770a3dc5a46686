"""The delivery worker: retries, flush, stop, and sinks that break the contract in every way."""

# ruff: noqa: D102 - the names say it
from __future__ import annotations

import asyncio
import gc
import itertools
import json
import weakref
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import uvloop

from telemetryd.clock import SYSTEM, Clock
from telemetryd.core.ledger import Count
from telemetryd.delivery.dead_letter import DeadLetter
from telemetryd.errors import PermanentSinkError, SinkUnavailable, TransientSinkError
from telemetryd.sinks.base import (
    DELIVERED,
    Batch,
    Failure,
    Item,
    Overflow,
    Sink,
    SinkConfig,
    SpoolConfig,
    WriteResult,
)
from telemetryd.spool.segment_log import SpoolLog
from telemetryd.testing import (
    JumpingLoop,
    LogBook,
    Rig,
    block,
    context,
    data_of,
    dead_letter_at,
    numbered_blocks,
    run,
)
from telemetryd_proto.framing import Block

Answer = Callable[[Batch], Awaitable[Any]]


class MemorySink(Sink):
    """Keeps what it accepts; `answers` decide the first writes, anything they raise is raised."""

    def __init__(
        self, config: SinkConfig, log: LogBook, answers: Iterator[Answer], clock: Clock = SYSTEM
    ) -> None:
        super().__init__(config, context(log, clock=clock))
        self.answers = answers
        self.accepted: list[bytes] = []
        self.batches: list[Batch] = []
        self.opens: list[BaseException] = []
        self.closed = 0

    async def open(self) -> None:
        if self.opens:
            raise self.opens.pop(0)

    async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
        self.batches.append(batch)
        answer = next(self.answers, None)
        result = DELIVERED if answer is None else await answer(batch)
        if isinstance(result, WriteResult) and isinstance(result.failures, tuple):
            refused = {failure.index for failure in result.failures}
            self.accepted += [b.payload for i, b in enumerate(batch.items) if i not in refused]
        return result

    async def close(self) -> None:
        self.closed += 1


def raising(error: BaseException) -> Answer:
    async def answer(batch: Batch) -> WriteResult:
        raise error

    return answer


def returning(result: Any) -> Answer:
    async def answer(batch: Batch) -> Any:
        return result

    return answer


async def hang(batch: Batch) -> WriteResult:
    await asyncio.Event().wait()
    return DELIVERED


def forever(answer: Answer) -> Iterator[Answer]:
    while True:
        yield answer


def rig_of(
    *answers: Answer,
    endless: Answer | None = None,
    sink: type[MemorySink] = MemorySink,
    dead_letter: DeadLetter | None = None,
    overflow: Overflow = "block",
    clock: Clock = SYSTEM,
    **keys: Any,
) -> Rig:
    config = SinkConfig(type="memory", **keys)
    log = LogBook()
    script = iter(answers) if endless is None else itertools.chain(answers, forever(endless))
    return Rig(
        sink(config, log, script, clock),
        config,
        log=log,
        dead_letter=dead_letter,
        overflow=overflow,
    )


def accepted(rig: Rig) -> bytes:
    assert isinstance(rig.sink, MemorySink)
    return b"".join(rig.sink.accepted)


def batches(rig: Rig) -> list[Batch]:
    assert isinstance(rig.sink, MemorySink)
    return rig.sink.batches


def play(rig: Rig, blocks: Sequence[Block], *, seconds: float = 60.0) -> None:
    """Offer `blocks`, stop after at most `seconds`, check the end."""

    async def scenario() -> None:
        rig.worker.start()
        rig.offer(blocks)
        await rig.stop(seconds)

    run(JumpingLoop, scenario())
    rig.check_end()


# -- retries -------------------------------------------------------------------------------------


def test_lines_are_lost_under_the_last_reason_when_the_retry_window_ends() -> None:
    blocks = numbered_blocks(2)
    rig = rig_of(endless=raising(TransientSinkError("throttled")), retry_max_elapsed_ms=30_000)
    play(rig, blocks, seconds=3600)
    assert rig.lines() == {"dropped.throttled": 6}
    assert len(batches(rig)) > 3


def test_no_retry_window_means_one_attempt() -> None:
    rig = rig_of(raising(TransientSinkError("throttled")), retry_max_elapsed_ms=0)
    play(rig, numbered_blocks(2))
    assert rig.lines() == {"dropped.throttled": 6}
    assert len(batches(rig)) == 1


def test_each_item_keeps_its_own_reason() -> None:
    both = WriteResult((Failure(0, "busy", retryable=True), Failure(1, "shaky", retryable=True)))
    rig = rig_of(returning(both), retry_max_elapsed_ms=0)
    play(rig, numbered_blocks(3))
    assert rig.lines() == {"dropped.busy": 3, "dropped.shaky": 3, "delivered": 3}


def part_of(item: Item, start: int, end: int) -> Item:
    """Lines of `item`, as an item."""
    data = b"".join(item.payload.splitlines(keepends=True)[start:end])
    return Item(data, end - start, len(data), item.source, item.offset, item.received_at)


def test_lines_of_an_item_meet_different_ends() -> None:
    """One is delivered, one tried again under a key of its own, one lost; bytes add up too."""
    (one, two) = blocks = numbered_blocks(2)

    async def some_of_it(batch: Batch) -> WriteResult:
        item = batch.items[0]
        again = Failure(0, "busy", retryable=True, part=part_of(item, 1, 2))
        never = Failure(0, "bad", retryable=False, part=part_of(item, 2, 3))
        return WriteResult((again, never))

    rig = rig_of(some_of_it)
    play(rig, blocks)
    lines = one.data.splitlines(keepends=True)
    assert rig.leaves() == {
        "delivered": Count(5, len(data_of(blocks)) - len(lines[2])),
        "dropped.bad": Count(1, len(lines[2])),
    }
    first, second = batches(rig)
    assert [item.payload for item in second.items] == [lines[1]]
    assert second.key(0) not in {first.key(0), first.key(1)}
    assert two.data in accepted(rig)


def test_a_part_of_an_item_survives_a_spool(tmp_path: Path) -> None:
    async def busy(batch: Batch) -> WriteResult:
        item = batch.items[0]
        return WriteResult((Failure(0, "busy", retryable=True, part=part_of(item, 1, 3)),))

    spool = SpoolConfig(path=str(tmp_path))
    rig = rig_of(busy, endless=raising(TransientSinkError("busy")), spool=spool)

    async def scenario() -> None:
        rig.worker.start()
        rig.offer(numbered_blocks(1))
        await rig.stop(1.0, keep=True)

    run(JumpingLoop, scenario())
    assert rig.lines() == {"delivered": 1, "spooled": 2}


def test_open_is_tried_again_and_precedes_the_first_write() -> None:
    rig = rig_of()
    assert isinstance(rig.sink, MemorySink)
    rig.sink.opens = [SinkUnavailable("no_route"), PermanentSinkError("no_such_stream")]
    play(rig, numbered_blocks(1))
    assert rig.lines() == {"dropped.no_such_stream": 3}
    assert batches(rig) == []


def test_an_open_that_hangs_is_cut_by_the_write_deadline_and_tried_again() -> None:
    class SlowToOpen(MemorySink):
        tries = 0

        async def open(self) -> None:
            self.tries += 1
            if self.tries <= 2:  # ahead of the first line, and for the first write
                await asyncio.Event().wait()

    rig = rig_of(sink=SlowToOpen)
    play(rig, numbered_blocks(2))
    assert rig.lines() == {"delivered": 6}
    (told,) = rig.log.facts("sink_not_ready")
    assert told["error"].startswith("not open within ")


def test_the_destinations_wish_to_wait_is_honoured() -> None:
    rig = rig_of(raising(TransientSinkError("throttled", retry_after=20)))
    times: list[float] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        rig.log.on_event["write_retried"] = lambda: times.append(loop.time())
        rig.worker.start()
        rig.offer(numbered_blocks(1))
        assert await rig.flush()
        times.append(loop.time())
        await rig.stop()

    run(JumpingLoop, scenario())
    rig.check_end()
    assert times[1] - times[0] >= 20  # seconds of the jumping clock, not of the test


# -- contract breakers ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        raising(ValueError("bug")),
        returning(None),
        returning("delivered"),
        returning(WriteResult((Failure(3, "beyond", retryable=True),))),
        returning(WriteResult((Failure(-1, "below", retryable=True),))),
        returning(WriteResult((Failure(0, "more", retryable=True, part=Item(b"x\n" * 4, 4, 4)),))),
        returning(
            WriteResult(
                (
                    Failure(0, "all", retryable=True),
                    Failure(0, "and", retryable=True, part=Item(b"x\n", 1, 1)),
                )
            )
        ),
        returning(WriteResult(("not a failure",))),  # type: ignore[arg-type]  # as some will
        returning(WriteResult((Failure("0", "text", retryable=True),))),  # type: ignore[arg-type]  # as some will
    ],
)
def test_a_bug_in_write_costs_its_own_batch(answer: Answer) -> None:
    blocks = numbered_blocks(6)
    rig = rig_of(answer, batch_max_bytes=1024)

    async def scenario() -> None:
        rig.worker.start()
        for half in (blocks[:3], blocks[3:]):
            rig.offer(half)
            assert await rig.flush()
        await rig.stop()

    run(JumpingLoop, scenario())
    rig.check_end()
    assert rig.lines() == {"dropped.bug": 9, "delivered": 9}
    assert len(rig.log.facts("sink_bug")) == 1


def test_failures_given_as_a_generator_are_not_taken_for_a_success() -> None:
    generator = WriteResult(Failure(i, "busy", retryable=True) for i in (0,))  # type: ignore[arg-type]  # as some will
    rig = rig_of(returning(generator), retry_max_elapsed_ms=0)
    play(rig, numbered_blocks(2))
    assert rig.lines() == {"dropped.busy": 3, "delivered": 3}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConnectionResetError("peer"), "io_error"),
        (asyncio.CancelledError(), "cancelled"),
        (TimeoutError("socket"), "timeout"),
    ],
)
def test_an_error_of_the_world_that_a_sink_lets_through_is_retried(
    error: BaseException, code: str
) -> None:
    rig = rig_of(raising(error))
    play(rig, numbered_blocks(2))
    assert rig.lines() == {"delivered": 6}
    assert [facts["code"] for facts in rig.log.facts("write_failed")] == [code]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("HTTP 503: <html>", "http_503_html_"),
        ("x" * 1_000_000, "x" * 64),
        ("", "unnamed"),
        (503, "503"),
        (None, "none"),
    ],
)
def test_any_error_code_becomes_a_bounded_reason(code: Any, reason: str) -> None:
    rig = rig_of(raising(PermanentSinkError(code)))
    play(rig, numbered_blocks(1))
    assert rig.lines() == {f"dropped.{reason}": 3}
    assert rig.log.facts("write_failed")[0]["code"] == reason


def test_error_codes_without_end_make_reasons_with_an_end() -> None:
    codes = (raising(PermanentSinkError(f"code_{number}")) for number in range(100))
    rig = rig_of(*codes, batch_max_bytes=1024)
    play(rig, [block(b"x" * 1024) for _ in range(100)])
    assert len(rig.account.dropped) == 33
    assert rig.account.dropped["other"].lines == 68


def test_details_in_the_log_are_bounded() -> None:
    rig = rig_of(raising(PermanentSinkError("refused", "z" * 100_000)))
    play(rig, numbered_blocks(1))
    assert len(rig.log.facts("write_failed")[0]["detail"]) == 500


@pytest.mark.parametrize("wish", [None, "soon", float("nan"), -5, True])
def test_a_senseless_retry_after_does_not_end_the_worker(wish: Any) -> None:
    rig = rig_of(raising(TransientSinkError("busy", retry_after=wish)))
    play(rig, numbered_blocks(1))
    assert sum(rig.lines().values()) == 3


@pytest.mark.parametrize(
    "pack",
    [
        lambda items: items[:-1],
        lambda items: [*items, items[0]],
        lambda _: [],
        lambda items: [Item(items[0].payload, items[0].lines + 1, items[0].size), *items[1:]],
        lambda items: [Item(items[0].payload, items[0].lines, items[0].size - 1), *items[1:]],
        lambda _: None,
        lambda _: [b"payload"],
    ],
)
def test_items_that_do_not_add_up_are_a_bug_and_the_ledger_still_balances(
    pack: Callable[[list[Item]], Any],
) -> None:
    class Mispacking(MemorySink):
        def pack(self, blocks: Sequence[Block]) -> list[Item]:
            return pack(list(super().pack(blocks)))  # type: ignore[no-any-return]  # wrong on purpose

    rig = rig_of(sink=Mispacking)
    play(rig, numbered_blocks(3))
    assert rig.lines() == {"dropped.bug": 9}
    assert batches(rig) == []


@pytest.mark.parametrize("unpacked", [ValueError("bug"), b"too short", 7])
def test_a_bug_in_unpack_drops_the_lines_under_their_reason(unpacked: Any, tmp_path: Path) -> None:
    class Misunpacking(MemorySink):
        def unpack(self, item: Item) -> bytes:
            if isinstance(unpacked, Exception):
                raise unpacked
            return unpacked  # type: ignore[no-any-return]  # wrong on purpose

    refused = raising(PermanentSinkError("refused"))
    letters = tmp_path / "dead"
    rig = rig_of(refused, sink=Misunpacking, dead_letter=dead_letter_at(letters))
    play(rig, numbered_blocks(3))
    assert rig.lines() == {"dropped.refused": 9}
    assert not letters.exists()
    assert len(rig.log.facts("sink_bug")) == 3


def test_bugs_in_flush_and_close_do_not_reach_the_caller() -> None:
    class Clumsy(MemorySink):
        async def flush(self, *, deadline: float) -> None:
            raise asyncio.CancelledError

        async def close(self) -> None:
            raise ValueError("bug")

    rig = rig_of(sink=Clumsy)
    play(rig, numbered_blocks(3))
    assert rig.lines() == {"delivered": 9}
    assert len(rig.log.facts("sink_bug")) == 1
    assert len(rig.log.facts("close_failed")) == 1


def test_a_write_that_ignores_its_cancellation_can_not_hold_up_the_end() -> None:
    released: list[asyncio.Event] = []

    async def stubborn(batch: Batch) -> WriteResult:
        released.append(release := asyncio.Event())
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return DELIVERED

    rig = rig_of(stubborn)

    async def scenario() -> None:
        rig.worker.start()
        rig.offer(numbered_blocks(2))
        await rig.stop(1.0)
        rig.check_balance()
        assert rig.worker.pending() == Count()
        released[0].set()
        await asyncio.sleep(1)

    run(JumpingLoop, scenario())
    rig.check_end()
    assert rig.lines() == {"dropped.shutdown": 6}


# -- flush ---------------------------------------------------------------------------------------


def test_flush_does_not_wait_for_a_block_that_was_refused() -> None:
    rig = rig_of(overflow="drop_newest", queue_max_bytes=65_536)

    async def scenario() -> None:
        rig.worker.start()
        await asyncio.sleep(0)
        await rig.worker.hold()
        rig.offer([block(b"x" * 70_000)])
        assert await rig.flush()
        await rig.stop()

    run(JumpingLoop, scenario())
    rig.check_end()
    assert rig.lines() == {"dropped.too_large": 1}


def test_flush_cuts_the_linger_short_and_fills_batches_otherwise() -> None:
    rig = rig_of(linger_ms=60_000)

    async def scenario() -> float:
        loop = asyncio.get_running_loop()
        rig.worker.start()
        for each in numbered_blocks(5):
            rig.offer([each])
            await asyncio.sleep(1)
        assert batches(rig) == []
        began = loop.time()
        assert await rig.flush()
        took = loop.time() - began
        rig.offer(numbered_blocks(1))
        await asyncio.sleep(61)
        assert len(batches(rig)) == 2
        await rig.stop()
        return took

    assert run(JumpingLoop, scenario()) < 5  # seconds of the jumping clock
    rig.check_end()
    assert len(batches(rig)[0].items) == 5


def test_less_than_a_tick_of_the_loop_is_not_waited_for_by_asking_again_and_again() -> None:
    written = asyncio.Event()

    async def answer(batch: Batch) -> WriteResult:
        written.set()
        return DELIVERED

    class Loop(uvloop.Loop):
        timers = 0

        def call_later(  # type: ignore[override]  # whatever its arguments
            self, *args: Any, **kwargs: Any
        ) -> asyncio.TimerHandle:
            self.timers += 1
            handle: asyncio.TimerHandle = super().call_later(*args, **kwargs)
            return handle

    loop = Loop()
    rig = rig_of(answer, linger_ms=4)  # half a millisecond at first, which uvloop rounds to none

    async def scenario() -> None:
        rig.worker.start()
        await asyncio.sleep(0)
        before = loop.timers
        rig.offer(numbered_blocks(1))
        await written.wait()
        assert loop.timers - before <= 4
        await rig.stop()

    run(lambda: loop, scenario())
    rig.check_end()


def test_a_full_batch_does_not_linger() -> None:
    rig = rig_of(linger_ms=60_000, batch_max_bytes=1024)

    async def scenario() -> None:
        rig.worker.start()
        rig.offer([block(b"x" * 1024)])
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(batches(rig)) == 1
        await rig.stop()

    run(JumpingLoop, scenario())
    rig.check_end()


def test_the_end_of_one_flush_leaves_another_its_haste() -> None:
    rig = rig_of(hang, linger_ms=60_000, write_timeout_ms=100)

    async def scenario() -> None:
        rig.worker.start()
        rig.offer(numbered_blocks(1))
        short = asyncio.create_task(rig.flush(0.01))
        long = asyncio.create_task(rig.flush(10.0))
        assert not await short
        rig.offer(numbered_blocks(1))
        assert await long
        await rig.stop()

    run(JumpingLoop, scenario())
    rig.check_end()


def test_flush_fails_at_its_deadline_and_nothing_is_lost() -> None:
    rig = rig_of(hang)

    async def scenario() -> None:
        rig.worker.start()
        rig.offer(numbered_blocks(2))
        assert not await rig.flush(1.0)
        rig.check_balance()
        assert rig.worker.pending().lines == 6
        assert await rig.flush()
        await rig.stop()

    run(JumpingLoop, scenario())
    rig.check_end()
    assert rig.lines() == {"delivered": 6}


def test_flush_ends_a_back_off_early() -> None:
    rig = rig_of(raising(TransientSinkError("busy", retry_after=25)))

    async def scenario() -> float:
        loop = asyncio.get_running_loop()
        retried = asyncio.Event()
        rig.log.on_event["write_retried"] = retried.set
        rig.worker.start()
        rig.offer(numbered_blocks(1))
        await retried.wait()
        await asyncio.sleep(0)
        began = loop.time()
        assert await rig.flush()
        await rig.stop()
        return loop.time() - began

    assert run(JumpingLoop, scenario()) < 5  # seconds of the jumping clock
    rig.check_end()


def test_flush_does_not_wait_for_a_worker_that_died() -> None:
    rig = rig_of()

    async def scenario() -> None:
        rig.worker.start()
        rig.worker._attempts.pack_in_turns = None  # type: ignore[assignment,method-assign]  # a bug of ours
        rig.offer(numbered_blocks(1))
        assert not await asyncio.wait_for(rig.flush(1e9), 1e6)

    run(JumpingLoop, scenario())
    assert [type(bug) for bug in rig.bugs] == [TypeError]


# -- hold ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["idle", "in a write", "in a back-off"])
def test_while_held_no_write_is_in_flight_and_after_release_all_is_delivered(moment: str) -> None:
    first: dict[str, list[Answer]] = {
        "idle": [],
        "in a write": [hang],
        "in a back-off": [raising(TransientSinkError("x"))],
    }
    rig = rig_of(*first[moment])

    async def scenario() -> None:
        rig.worker.start()
        if moment != "idle":
            rig.offer(numbered_blocks(1))
            retried = asyncio.Event()
            rig.log.on_event["write_retried"] = retried.set
            for _ in range(5):
                await asyncio.sleep(0)
            assert retried.is_set() == (moment == "in a back-off")
        await rig.worker.hold()
        before = len(batches(rig))
        rig.offer(numbered_blocks(2, start=1))
        await asyncio.sleep(100)
        assert len(batches(rig)) == before
        rig.worker.release()
        assert await rig.flush()
        await rig.stop()

    run(JumpingLoop, scenario())
    rig.check_end()
    assert set(rig.lines()) == {"delivered"}


class Asking(MemorySink):
    """Sends a write in the first second, and waits for the answer after that."""

    is_sent = False

    @property
    def awaits_answer(self) -> bool:
        return self.is_sent

    async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
        self.is_sent = False
        await asyncio.sleep(1)
        self.is_sent = True
        return await super().write(batch, attempt=attempt, deadline=deadline)


def answering(seconds: float) -> Answer:
    async def answer(batch: Batch) -> WriteResult:
        await asyncio.sleep(seconds)
        return DELIVERED

    return answer


@pytest.mark.parametrize(
    ("held_after", "answered_after", "patience", "attempts", "waited"),
    [
        (1.5, 3.0, 5.0, 1, 2.5),  # the answer comes
        (1.5, 60.0, 5.0, 2, 5.0),  # it does not
        (1.5, 60.0, 0.0, 2, 0.0),  # the caller has no time
        (0.5, 0.0, 5.0, 2, 0.0),  # not all is sent
    ],
)
def test_an_answer_to_what_is_sent_is_waited_for_before_a_freeze(
    held_after: float, answered_after: float, patience: float, attempts: int, waited: float
) -> None:
    rig = rig_of(answering(answered_after), sink=Asking)

    async def scenario() -> float:
        now = asyncio.get_running_loop().time
        rig.worker.start()
        rig.offer(numbered_blocks(1))
        await asyncio.sleep(held_after)
        began = now()
        await rig.worker.hold(began + patience)
        seconds = now() - began
        await asyncio.sleep(100)  # frozen
        rig.worker.release()
        assert await rig.flush()
        await rig.stop()
        return seconds

    took = run(JumpingLoop, scenario())
    rig.check_end()
    assert rig.lines() == {"delivered": 3}
    assert rig.stats.retries == attempts - 1
    assert took == pytest.approx(waited, abs=0.2)


class FreezesAsItOpens(MemorySink):
    """Opens in a second, in which the process stands still for so many, the first times."""

    frozen_seconds = [100.0, 100.0, 100.0]  # noqa: RUF012 - of one test

    async def open(self) -> None:
        await asyncio.sleep(0.5)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, JumpingLoop)
        if self.frozen_seconds:
            loop._jumping.jumped += self.frozen_seconds.pop()
        await asyncio.sleep(0.5)


def test_the_time_of_a_freeze_does_not_count_against_opening() -> None:
    """Neither in the log, nor against the destination."""
    rig = rig_of(sink=FreezesAsItOpens, write_timeout_ms=2000, retry_max_elapsed_ms=600_000)

    async def scenario() -> None:
        rig.worker.start()
        rig.offer(numbered_blocks(1))
        assert await rig.flush(seconds=500)
        await rig.stop()

    run(JumpingLoop, scenario())
    rig.check_end()
    assert rig.lines() == {"delivered": 3}
    for event in ("sink_not_ready", "write_failed", "circuit_opened"):
        assert rig.log.facts(event) == [], event


def test_a_sink_that_cant_say_whether_it_awaits_an_answer_is_cut_off() -> None:
    class Broken(MemorySink):
        @property
        def awaits_answer(self) -> bool:
            raise KeyError("x")

    rig = rig_of(hang, sink=Broken)

    async def scenario() -> None:
        rig.worker.start()
        rig.offer(numbered_blocks(1))
        await asyncio.sleep(0.1)
        await rig.worker.hold(asyncio.get_running_loop().time() + 1000)
        rig.worker.release()
        assert await rig.flush()
        await rig.stop()

    run(JumpingLoop, scenario())
    assert rig.lines() == {"delivered": 3}
    assert len(rig.sink_bugs) == 1
    assert "KeyError" in rig.sink_bugs.pop()


# -- stop ----------------------------------------------------------------------------------------


def test_stop_ends_at_its_deadline_although_the_retry_window_is_open() -> None:
    rig = rig_of(endless=raising(TransientSinkError("disk_full")), batch_max_bytes=1024)

    async def scenario() -> float:
        rig.worker.start()
        rig.offer([block(b"x" * 1000) for _ in range(5)])
        began = asyncio.get_running_loop().time()
        await rig.stop(2.0)
        return asyncio.get_running_loop().time() - began

    assert run(JumpingLoop, scenario()) < 3  # seconds of the jumping clock
    rig.check_end()
    assert rig.lines() == {"dropped.disk_full": 5}


def test_lines_the_destination_said_nothing_about_are_lost_as_shutdown() -> None:
    rig = rig_of(endless=hang, batch_max_bytes=1024)
    play(rig, [block(b"x" * 1000) for _ in range(5)], seconds=2.0)
    assert rig.lines() == {"dropped.shutdown": 5}


def test_a_sink_that_answers_its_cancellation_with_a_timeout_does_not_go_on() -> None:
    async def sloppy(batch: Batch) -> WriteResult:
        try:
            return await hang(batch)
        except asyncio.CancelledError:
            raise TimeoutError from None

    rig = rig_of(endless=sloppy, batch_max_bytes=1024, write_timeout_ms=600_000)
    play(rig, [block(b"x" * 1000) for _ in range(3)], seconds=2.0)
    assert rig.lines() == {"dropped.shutdown": 3}
    assert rig.log.facts("sink_bug") == []
    assert len(batches(rig)) == 1


def test_a_refusal_stays_the_reason_when_the_last_attempt_is_cut() -> None:
    rig = rig_of(raising(TransientSinkError("busy")), hang)
    play(rig, numbered_blocks(2), seconds=2.0)
    assert rig.lines() == {"dropped.busy": 6}


def test_it_stays_the_reason_where_the_spool_is_another_processs(tmp_path: Path) -> None:
    """Lines are lost as without a spool, also where the last attempt is cut."""
    other = SpoolLog(f"{tmp_path}/subject.memory", max_bytes=1 << 30)
    other.open()
    spool = SpoolConfig(path=str(tmp_path))
    began = asyncio.Event()

    async def begin_and_hang(batch: Batch) -> WriteResult:
        began.set()
        return await hang(batch)

    rig = rig_of(raising(TransientSinkError("busy")), begin_and_hang, spool=spool)

    async def scenario() -> None:
        rig.worker.start()
        rig.offer(numbered_blocks(2))
        await began.wait()
        rig.worker.abandon("shutdown", keep=True)
        await rig.stop(0.0, keep=True)

    run(JumpingLoop, scenario())
    rig.check_end()
    assert rig.lines() == {"dropped.busy": 6}
    other.close()


def test_stop_makes_use_of_the_time_it_has() -> None:
    """Even one that has failed long, and would now wait five seconds, is asked again in two."""
    rig = rig_of(*[raising(TransientSinkError("busy"))] * 12, retry_max_elapsed_ms=86_400_000)

    async def scenario() -> None:
        rig.worker.start()
        rig.offer(numbered_blocks(1))
        for _ in range(10):
            retried = asyncio.Event()
            rig.log.on_event["write_retried"] = retried.set
            await retried.wait()
        await rig.stop(2.0)

    run(JumpingLoop, scenario())
    rig.check_end()
    assert rig.lines() == {"delivered": 3}


def test_stop_without_start_and_stop_twice() -> None:
    rig = rig_of()

    async def scenario() -> None:
        rig.offer(numbered_blocks(2))
        await rig.stop(0.0)
        await rig.stop(0.0)

    run(JumpingLoop, scenario())
    rig.check_end()
    assert rig.lines() == {"dropped.shutdown": 6}
    assert isinstance(rig.sink, MemorySink)
    assert rig.sink.closed == 2


def test_stop_lets_reading_go_on() -> None:
    rig = rig_of(endless=hang, queue_max_bytes=65_536)
    play(rig, [block(b"x" * 60_000) for _ in range(4)], seconds=1.0)
    assert rig.holds == [True, False]


# -- losses --------------------------------------------------------------------------------------


def test_lost_lines_are_in_the_dead_letter_with_their_place_in_the_stream(tmp_path: Path) -> None:
    letters = tmp_path / "dead"
    dead_letter = dead_letter_at(letters)
    rig = rig_of(raising(PermanentSinkError("refused")), dead_letter=dead_letter)
    blocks = [block(b"first", source=4, offset=10), block(b"second", source=5, offset=99)]
    play(rig, blocks)
    dead_letter.close()
    assert rig.leaves() == {"dead_lettered": Count(2, len(data_of(blocks)))}
    records = [json.loads(line) for line in letters.read_text().splitlines()]
    facts = [(r["reason"], r["sink"], r["source"], r["offset"], r["data"]) for r in records]
    assert facts == [
        ("refused", "subject", 4, 10, "first\n"),
        ("refused", "subject", 5, 99, "second\n"),
    ]


def test_lines_a_full_dead_letter_can_not_take_are_dropped(tmp_path: Path) -> None:
    dead_letter = dead_letter_at(tmp_path / "dead", max_bytes=300)
    rig = rig_of(raising(PermanentSinkError("refused")), dead_letter=dead_letter)
    play(rig, [block(b"short"), block(b"x" * 500)])
    dead_letter.close()
    assert rig.lines() == {"dead_lettered": 1, "dropped.refused": 1}


def test_lines_filtered_out_are_in_the_books() -> None:
    rig = rig_of()
    rig.worker.filter_out(2, 20)
    rig.check_balance()
    assert rig.leaves() == {"filtered": Count(2, 20)}


def test_what_overflow_drops_is_counted_at_once() -> None:
    rig = rig_of(overflow="drop_oldest", queue_max_bytes=65_536)
    rig.offer([block(b"x" * 30_000) for _ in range(5)])
    rig.check_balance()
    assert rig.lines() == {"dropped.queue_full": 3}


def test_a_block_larger_than_the_queue_is_cut_and_not_lost_whole() -> None:
    rig = rig_of(overflow="drop_oldest", queue_max_bytes=65_536)
    big = block(*(b"%06d" % number for number in range(30_000)))
    play(rig, [big])
    assert sum(rig.lines().values()) == 30_000
    assert rig.lines()["delivered"] > 5000
    assert big.data.endswith(accepted(rig))


def test_after_a_snapshot_is_restored_batches_have_another_id() -> None:
    told: list[str] = []

    class Snapped(MemorySink):
        def on_restore(self, instance: str) -> None:
            told.append(instance)

    rig = rig_of(sink=Snapped)

    async def scenario() -> None:
        rig.worker.start()
        rig.offer(numbered_blocks(1))
        await rig.flush()
        rig.worker.on_restore("f" * 32)
        rig.offer(numbered_blocks(1))
        await rig.stop()

    run(JumpingLoop, scenario())
    first, second = [batch.batch_id for batch in batches(rig)]
    assert first.startswith(rig.sink.context.instance)
    assert second.startswith("f" * 32)
    assert told == ["f" * 32]


class Held:
    """Something in the frame of a write."""


def test_a_failed_attempt_keeps_nothing_alive() -> None:
    """Error and frame hold each other where a sink has its error in a variable."""
    frames: list[weakref.ref[Held]] = []

    async def answer(batch: Batch) -> WriteResult:
        held = Held()
        frames.append(weakref.ref(held))
        cause = TransientSinkError("lower")
        try:
            raise cause
        except TransientSinkError as caught:
            error = TransientSinkError("down")
            raise error from caught

    rig = rig_of(endless=answer, retry_max_elapsed_ms=1000)

    async def scenario() -> list[bool]:
        rig.worker.start()
        rig.offer([block(b"1")])
        await rig.flush()
        alive = [frame() is not None for frame in frames]
        await rig.stop()
        return alive

    gc.disable()
    try:
        alive = run(JumpingLoop, scenario())
    finally:
        gc.enable()
    assert len(alive) > 1
    assert not any(alive)
