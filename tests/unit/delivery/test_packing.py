"""Batches that take milliseconds to pack: the loop gets its turns, and order is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import pytest

from telemetryd.core.delivery import Delivery
from telemetryd.core.stats import SinkStats
from telemetryd.delivery.attempt import Attempts
from telemetryd.delivery.circuit import Circuit
from telemetryd.delivery.packing import TURN_BYTES
from telemetryd.delivery.queue import SinkQueue
from telemetryd.sinks.base import DELIVERED, Batch, Item, Sink, SinkConfig, WriteResult
from telemetryd.testing import LogBook, Rig, block, context
from telemetryd_proto.framing import Block


class StepwiseSink(Sink):
    """Packs a block at a time, and notes which, and in which turn of the loop."""

    def __init__(self, config: SinkConfig, fails_at: int = -1) -> None:
        super().__init__(config, context())
        self.turn = 0
        self.packed: list[int] = []
        self.turns: list[int] = []
        self.fails_at = fails_at
        self.began = asyncio.Event()

    def pack(self, blocks: Sequence[Block]) -> Iterator[Item]:
        """Each block an item."""
        for each in blocks:
            if each.offset == self.fails_at:
                raise ValueError("bug")
            self.began.set()
            self.packed.append(each.offset)
            self.turns.append(self.turn)
            yield Item(each.data, each.lines, each.size)

    async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
        """Anything is welcome."""
        return DELIVERED

    async def count_turns(self) -> None:
        """Until cancelled."""
        while True:
            self.turn += 1
            await asyncio.sleep(0)


def sink(fails_at: int = -1) -> StepwiseSink:
    return StepwiseSink(SinkConfig(type="stepwise", linger_ms=0), fails_at)


def half_turns(count: int, start: int = 0) -> list[Block]:
    """Blocks of which two fill a turn, numbered by `offset`."""
    return [block(b"x" * (TURN_BYTES // 2), offset=start + number) for number in range(count)]


def attempts_of(subject: StepwiseSink) -> tuple[Attempts, LogBook]:
    log = LogBook()
    config, stats = SinkConfig(type="stepwise"), SinkStats()
    circuit, queue = Circuit("test", log), SinkQueue(1 << 20, "block", lambda _: None)
    delivery = Delivery(queue, circuit, None, batch_max_bytes=config.batch_max_bytes)
    return Attempts(subject, config, log, delivery=delivery, circuit=circuit, stats=stats), log


@pytest.mark.parametrize("in_the_way", [False, True])
def test_a_large_batch_is_packed_in_several_turns_and_delivered_whole(*, in_the_way: bool) -> None:
    """Also when the worker is flushed and stopped at the same time."""
    subject = sink()
    rig = Rig(subject, SinkConfig(type="stepwise", linger_ms=0, batch_max_bytes=8 << 20))

    async def scenario() -> None:
        counting = asyncio.create_task(subject.count_turns())
        rig.offer(half_turns(6))
        rig.worker.start()
        if in_the_way:
            await subject.began.wait()
        await rig.stop()
        counting.cancel()

    asyncio.run(scenario())
    rig.check_end()
    assert rig.lines() == {"delivered": 6}
    first = subject.turns[0]
    assert [turn - first for turn in subject.turns] == [0, 0, 1, 1, 2, 2]


def test_who_packs_meanwhile_packs_later_lines_later() -> None:
    """What spills to the disk follows the batch that is being packed."""
    subject = sink()
    attempts, _ = attempts_of(subject)

    async def scenario() -> None:
        packing = asyncio.create_task(attempts.pack_in_turns(half_turns(6)))
        await subject.began.wait()
        spilled = attempts.pack(half_turns(2, start=6))
        assert spilled is not None
        assert len(spilled) == 2
        items = await packing
        assert items is not None
        assert len(items) == 6

    asyncio.run(scenario())
    assert subject.packed == list(range(8))


@pytest.mark.parametrize("fails_at", [0, 3, 5])
def test_a_bug_midway_is_that_of_its_batch_alone(fails_at: int) -> None:
    """In the caller that runs the generator when it raises."""
    subject = sink(fails_at)
    attempts, log = attempts_of(subject)

    async def scenario() -> None:
        packing = asyncio.create_task(attempts.pack_in_turns(half_turns(6)))
        await asyncio.sleep(0)
        assert len(attempts.pack(half_turns(2, start=6)) or ()) == 2
        assert await packing is None

    asyncio.run(scenario())
    assert len(log.facts("sink_bug")) == 1


def test_cancelled_between_turns_it_can_pack_again() -> None:
    """As at the end of a process whose time is up: the blocks are spooled or lost."""
    subject = sink()
    attempts, _ = attempts_of(subject)

    async def scenario() -> None:
        packing = asyncio.create_task(attempts.pack_in_turns(half_turns(6)))
        await asyncio.sleep(0)
        packing.cancel()
        await asyncio.wait({packing})
        assert len(attempts.pack(half_turns(6)) or ()) == 6

    asyncio.run(scenario())
    assert subject.packed == [0, 1, 0, 1, 2, 3, 4, 5]
