"""A sink that is down: the circuit breaker, and the sink that stands in for it."""

import asyncio
import math
from pathlib import Path

import pytest

from helpers.wall_clock import WallClock
from telemetryd.core.breaker import FAILURES, FIRST_SECONDS, MAX_SECONDS
from telemetryd.delivery.circuit import PATIENCE_SECONDS
from telemetryd.errors import PermanentSinkError, TransientSinkError
from telemetryd.sinks.base import DELIVERED, MIB, Batch, SpoolConfig, WriteResult
from telemetryd.testing import JumpingLoop, Rig, block, data_of, numbered_blocks, run
from unit.delivery.test_delivery import (
    Answer,
    MemorySink,
    accepted,
    batches,
    hang,
    raising,
    returning,
    rig_of,
)

DOWN = raising(TransientSinkError("unreachable"))
DENIED = raising(PermanentSinkError("access_denied", stops_sink=True))
accept = returning(DELIVERED)
PAUSE = 0.3
"""What an invocation waits."""


def pair(broken: Rig) -> Rig:
    """A healthy sink that the broken one fails over to."""
    spare = rig_of()
    broken.worker.fail_over_to(spare.worker)
    return spare


async def seen(rig: Rig, event: str) -> None:
    """Return once the worker has logged `event`."""
    logged = asyncio.Event()
    rig.log.on_event[event] = logged.set
    if not rig.log.facts(event):
        await logged.wait()


def test_what_a_dead_sink_cannot_deliver_goes_to_its_failover_in_order() -> None:
    broken = rig_of(endless=DOWN)
    spare = pair(broken)
    blocks = numbered_blocks(20)

    async def scenario() -> None:
        broken.worker.start()
        spare.worker.start()
        broken.offer(blocks[:10])
        await seen(broken, "lines_failed_over")
        broken.offer(blocks[10:])
        await broken.stop()
        await spare.stop()

    run(JumpingLoop, scenario())
    assert accepted(spare) == data_of(blocks)
    assert broken.lines() == {"failed_over": 60}
    assert spare.lines() == {"delivered": 60}
    assert len(batches(broken)) == FAILURES  # then no one asks it any more
    for rig in (broken, spare):
        rig.check_end()


def test_a_refusal_of_everything_opens_the_circuit_at_once_and_is_said_once() -> None:
    rig = rig_of(endless=DENIED, batch_max_bytes=1024)

    async def scenario() -> None:
        rig.worker.start()
        for number in range(50):
            rig.offer(numbered_blocks(1, start=number))
            await asyncio.sleep(0.1)
        await rig.stop()

    run(JumpingLoop, scenario())
    rig.check_end()
    assert rig.lines() == {"dropped.access_denied": 150}
    assert len(batches(rig)) == 1
    (opened,) = rig.log.facts("circuit_opened")
    assert opened["permanent"] is True


def test_a_refusal_of_some_lines_speaks_against_those_lines_only() -> None:
    poison = raising(PermanentSinkError("invalid_request"))
    rig = rig_of(*[poison] * 10, batch_max_bytes=1024)

    async def scenario() -> None:
        rig.worker.start()
        for number in range(11):
            rig.offer(numbered_blocks(1, start=number))
            await rig.flush()
        await rig.stop()

    run(JumpingLoop, scenario())
    rig.check_end()
    assert rig.lines() == {"dropped.invalid_request": 30, "delivered": 3}


def test_a_sink_that_comes_back_is_found_by_a_probe_and_nothing_is_lost() -> None:
    rig = rig_of(*[DOWN] * (FAILURES + 2), retry_max_elapsed_ms=600_000)
    blocks = numbered_blocks(8)

    async def scenario() -> None:
        rig.worker.start()
        rig.offer(blocks)
        await seen(rig, "circuit_closed")
        await rig.stop()

    run(JumpingLoop, scenario())
    rig.check_end()
    assert accepted(rig) == data_of(blocks)
    assert rig.log.facts("circuit_opened")


def test_nobody_waits_for_a_flush_while_the_circuit_is_open() -> None:
    rig = rig_of(endless=DOWN, retry_max_elapsed_ms=600_000)

    async def scenario() -> None:
        rig.worker.start()
        rig.offer(numbered_blocks(1))
        await seen(rig, "circuit_opened")
        loop = asyncio.get_running_loop()
        before = loop.time()
        assert await rig.flush(seconds=60) is False
        assert loop.time() < before + 1  # on the rig's clock, which jumps over every wait
        await rig.stop(seconds=5)

    run(JumpingLoop, scenario())
    rig.check_end()
    assert rig.lines() == {"dropped.unreachable": 3}


async def freezes(rig: Rig, count: int) -> list[bool]:
    """So many invocations whose end waits a little for the sink; whether that was of use."""
    flushed = []
    for _ in range(count):
        flushed.append(await rig.flush(seconds=PAUSE))
        await rig.worker.hold()
        rig.worker.release()
    return flushed


SILENCE = math.ceil(PATIENCE_SECONDS / PAUSE)
"""So many invocations wait for a sink that hangs."""


def test_a_sink_that_hangs_past_each_invocation_is_soon_not_waited_for() -> None:
    """Each attempt is cut off by a freeze, long before it could fail by itself."""
    rig = rig_of(*[hang] * (SILENCE + 1), retry_max_elapsed_ms=600_000)
    blocks = numbered_blocks(4)

    async def scenario() -> None:
        rig.worker.start()
        loop = asyncio.get_running_loop()
        rig.offer(blocks)
        assert await freezes(rig, SILENCE) == [False] * SILENCE
        before = loop.time()
        assert await freezes(rig, 10) == [False] * 10
        assert loop.time() < before + PAUSE  # on the rig's clock, which jumps over every wait
        assert len(batches(rig)) == SILENCE
        await asyncio.sleep(FIRST_SECONDS)  # then one invocation asks again
        assert await freezes(rig, 10) == [False] * 10
        assert len(batches(rig)) == SILENCE + 1
        await rig.stop()

    run(JumpingLoop, scenario())
    rig.check_end()
    assert accepted(rig) == data_of(blocks)
    assert [each["code"] for each in rig.log.facts("circuit_opened")] == ["cut_off"] * 2


def slow_to_open(hangs: int) -> type[MemorySink]:
    """A sink that is not ready ahead of the first line, and then that many attempts long."""

    class SlowToOpen(MemorySink):
        opened = 0

        async def open(self) -> None:
            self.opened += 1
            if self.opened == 1:
                raise TransientSinkError("not_yet")
            if self.opened <= hangs + 1:
                await asyncio.Event().wait()

    return SlowToOpen


def test_a_sink_that_gets_ready_slowly_is_given_more_time() -> None:
    """As where a function with a small share of a processor imports a client."""
    waits = FAILURES * SILENCE
    rig = rig_of(
        sink=slow_to_open(waits - 1), write_timeout_ms=600_000, retry_max_elapsed_ms=600_000
    )

    async def scenario() -> None:
        rig.worker.start()
        rig.offer(numbered_blocks(1))
        assert await freezes(rig, waits) == [*[False] * (waits - 1), True]
        await rig.stop()

    run(JumpingLoop, scenario())
    rig.check_end()
    assert rig.lines() == {"delivered": 3}
    assert rig.log.facts("circuit_opened") == []


def test_what_it_took_to_get_ready_does_not_count_against_the_first_write() -> None:
    rig = rig_of(
        hang, sink=slow_to_open(SILENCE - 1), write_timeout_ms=600_000, retry_max_elapsed_ms=600_000
    )

    async def scenario() -> None:
        rig.worker.start()
        rig.offer(numbered_blocks(1))
        assert await freezes(rig, SILENCE + 1) == [*[False] * SILENCE, True]
        await rig.stop()

    run(JumpingLoop, scenario())
    rig.check_end()
    assert rig.log.facts("circuit_opened") == []


def test_after_an_attempt_that_timed_out_one_that_is_cut_off_opens_the_circuit() -> None:
    """Silence is silence: no invocation need wait as often again to find it out."""
    rig = rig_of(hang, hang, write_timeout_ms=2000, retry_max_elapsed_ms=600_000)

    async def scenario() -> None:
        rig.worker.start()
        rig.offer(numbered_blocks(1))
        await seen(rig, "write_failed")
        assert await freezes(rig, 2) == [False] * 2
        await rig.stop()

    run(JumpingLoop, scenario())
    rig.check_end()
    assert [each["code"] for each in rig.log.facts("circuit_opened")] == ["cut_off"]


def test_a_slow_refusal_is_an_answer() -> None:
    async def refuse_slowly(batch: Batch) -> WriteResult:
        await asyncio.sleep(PATIENCE_SECONDS * 2)
        raise TransientSinkError("throttled")

    rig = rig_of(refuse_slowly, hang, retry_max_elapsed_ms=600_000)

    async def scenario() -> None:
        rig.worker.start()
        rig.offer(numbered_blocks(1))
        await seen(rig, "write_failed")
        assert await freezes(rig, 2) == [False, True]
        await rig.stop()

    run(JumpingLoop, scenario())
    rig.check_end()
    assert rig.log.facts("circuit_opened") == []


def test_a_flush_ends_the_wait_before_the_next_attempt() -> None:
    """Which a short invocation would not outlast by itself, nor would many."""
    throttled = raising(TransientSinkError("throttled", retry_after=60))
    rig = rig_of(throttled, retry_max_elapsed_ms=600_000)

    async def scenario() -> None:
        rig.worker.start()
        rig.offer(numbered_blocks(1))
        await seen(rig, "write_retried")
        assert await freezes(rig, 1) == [True]
        await rig.stop()

    run(JumpingLoop, scenario())
    rig.check_end()
    assert rig.lines() == {"delivered": 3}


def test_a_wish_that_outlasts_a_batch_holds_for_the_next_ones() -> None:
    """Only the first batch is lost; the others wait in the queue, instead of meeting the same."""
    throttled = raising(TransientSinkError("throttled", retry_after=40))
    rig = rig_of(throttled, retry_max_elapsed_ms=30_000)
    times: list[float] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        rig.worker.start()
        rig.offer(numbered_blocks(1))
        await seen(rig, "lines_dropped")
        times.append(loop.time())
        rig.offer(numbered_blocks(9, start=1))
        await seen(rig, "circuit_closed")
        times.append(loop.time())
        await rig.stop()

    run(JumpingLoop, scenario())
    rig.check_end()
    assert rig.lines() == {"dropped.throttled": 3, "delivered": 27}
    assert times[1] - times[0] >= 40  # seconds of the jumping clock, not of the test
    (opened,) = rig.log.facts("circuit_opened")
    assert (opened["code"], opened["next_attempt_seconds"]) == ("throttled", 40.0)


def test_no_wish_keeps_a_destination_alone_for_more_than_a_minute() -> None:
    rig = rig_of(raising(TransientSinkError("throttled", retry_after=1e9)))

    async def scenario() -> None:
        rig.worker.start()
        rig.offer(numbered_blocks(1))
        await seen(rig, "lines_dropped")
        rig.offer(numbered_blocks(1, start=1))
        await seen(rig, "circuit_closed")
        await rig.stop()

    run(JumpingLoop, scenario())
    rig.check_end()
    assert rig.lines() == {"dropped.throttled": 3, "delivered": 3}
    (opened,) = rig.log.facts("circuit_opened")
    assert opened["next_attempt_seconds"] == MAX_SECONDS


def test_a_sink_that_answers_now_and_then_is_waited_for() -> None:
    waits = SILENCE - 1
    answers = [*[hang] * waits, accept] * 3
    rig = rig_of(*answers, retry_max_elapsed_ms=600_000, batch_max_bytes=1024)

    async def scenario() -> None:
        rig.worker.start()
        for number in range(3):
            rig.offer(numbered_blocks(1, start=number))
            assert await freezes(rig, waits + 1) == [*[False] * waits, True]
        await rig.stop()

    run(JumpingLoop, scenario())
    rig.check_end()
    assert rig.lines() == {"delivered": 9}
    assert rig.log.facts("circuit_opened") == []


@pytest.mark.parametrize("answer", [DOWN, DENIED], ids=["down", "denied"])
def test_reading_does_not_stop_for_a_sink_that_refuses_fast(answer: Answer) -> None:
    rig = rig_of(endless=answer, overflow="drop_oldest", queue_max_bytes=MIB)
    large = block(b"x" * (MIB // 4))

    async def scenario() -> None:
        rig.worker.start()
        rig.offer([large])
        await seen(rig, "circuit_opened")
        rig.offer([large] * 10)
        await rig.stop()

    run(JumpingLoop, scenario())
    rig.check_end()
    assert rig.holds == []


def test_the_end_of_the_process_asks_a_dead_sink_once_more() -> None:
    rig = rig_of(*[DOWN] * FAILURES, retry_max_elapsed_ms=600_000)
    blocks = numbered_blocks(4)

    async def scenario() -> None:
        rig.worker.start()
        rig.offer(blocks)
        await seen(rig, "circuit_opened")
        await rig.stop(seconds=5)

    run(JumpingLoop, scenario())
    rig.check_end()
    assert accepted(rig) == data_of(blocks)


def test_lines_a_sink_has_aggregated_cannot_fail_over_and_are_counted() -> None:
    class Aggregating(MemorySink):
        def unpack(self, item: object) -> None:
            return None

    broken = rig_of(endless=DENIED, sink=Aggregating)
    spare = pair(broken)

    async def scenario() -> None:
        broken.worker.start()
        spare.worker.start()
        broken.offer(numbered_blocks(2))
        await broken.stop()
        await spare.stop()

    run(JumpingLoop, scenario())
    assert broken.lines() == {"dropped.access_denied": 6}
    assert spare.lines() == {}
    broken.check_end()


def test_the_time_of_a_freeze_counts_though_the_loops_clock_stood_still(tmp_path: Path) -> None:
    """Else an environment that runs now and then would leave a sink alone for hours."""
    clock = WallClock()
    rig = rig_of(DENIED, clock=clock.clock, spool=SpoolConfig(path=str(tmp_path)))

    async def scenario() -> None:
        now = asyncio.get_running_loop().time
        rig.worker.start()
        rig.offer(numbered_blocks(1))
        await seen(rig, "circuit_opened")
        began = now()
        for seconds in (5.0, MAX_SECONDS):  # the first is not enough
            assert rig.account.delivered.lines == 0
            await rig.worker.hold()
            clock.offset += seconds
            rig.worker.release()
            for _ in range(10):
                await asyncio.sleep(0)
        await seen(rig, "circuit_closed")
        assert now() < began + MAX_SECONDS / 2, "it waited for the loop's clock"
        clock.offset -= 100_000  # set back: no reason to wait for longer
        rig.offer(numbered_blocks(1, start=1))
        assert await rig.flush()
        await rig.stop()

    run(JumpingLoop, scenario())
    rig.check_end()
    assert rig.lines() == {"delivered": 6}
