"""The sink's queue: its bound, what overflow drops under each policy, and when reading is held."""

from __future__ import annotations

import asyncio
import functools

import pytest

from telemetryd.clock import Clock
from telemetryd.core.ledger import Count
from telemetryd.delivery.queue import (
    BLOCK_OVERHEAD,
    BURST_PAUSE_SECONDS,
    NO_PAUSE_SECONDS,
    SinkQueue,
)
from telemetryd.sinks.base import Overflow
from telemetryd.testing import JumpingLoop, block, data_of, run
from telemetryd_proto.framing import Block

MAX = 4000


def queue_of(overflow: Overflow) -> tuple[SinkQueue, list[bool]]:
    holds: list[bool] = []
    return SinkQueue(MAX, overflow, holds.append), holds


@functools.cache  # a block has a time: the same one again
def thousand(number: int) -> Block:
    """A block that is charged exactly 1000 bytes: four fill the queue."""
    return block(b"%03d" % number + b"x" * (1000 - BLOCK_OVERHEAD - 4))


def fill(queue: SinkQueue, count: int) -> list[tuple[str, Block]]:
    return [loser for number in range(count) for loser in queue.offer(thousand(number))]


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest", "block"])
def test_it_tells_when_it_is_more_than_a_quarter_full_and_when_no_longer(
    overflow: Overflow,
) -> None:
    """What is in flight counts."""
    told: list[bool] = []
    queue = SinkQueue(MAX, overflow, lambda _: None, on_crowded=told.append)
    fill(queue, 1)
    assert told == []
    fill(queue, 5)
    assert told == [True]
    blocks = queue.take(MAX * 2)
    assert told == [True]
    queue.settle(blocks[1:])
    assert told == [True, False]
    queue.settle(blocks[:1])
    fill(queue, 2)
    assert told == [True, False, True]


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest", "block"])
def test_what_fits_is_kept_in_order(overflow: Overflow) -> None:
    queue, holds = queue_of(overflow)
    assert fill(queue, 4) == []
    assert queue.charged_bytes == MAX
    assert queue.waiting() == Count(4, 4 * (1000 - BLOCK_OVERHEAD))
    assert queue.take(MAX) == [thousand(number) for number in range(4)]
    assert holds == []


def test_drop_oldest_drops_from_the_front() -> None:
    queue, _ = queue_of("drop_oldest")
    assert fill(queue, 7) == [("queue_full", thousand(number)) for number in range(3)]
    assert queue.take(MAX) == [thousand(number) for number in range(3, 7)]


def test_drop_oldest_can_not_recall_what_is_in_flight() -> None:
    queue, _ = queue_of("drop_oldest")
    fill(queue, 4)
    in_flight = queue.take(MAX)
    assert queue.offer(thousand(9)) == [("queue_full", thousand(9))]
    queue.settle(in_flight)
    assert queue.offer(thousand(9)) == []


def test_drop_newest_drops_what_comes() -> None:
    queue, _ = queue_of("drop_newest")
    assert fill(queue, 6) == [("queue_full", thousand(4)), ("queue_full", thousand(5))]
    assert queue.take(MAX) == [thousand(number) for number in range(4)]


def test_block_drops_nothing_and_holds_reading_until_a_quarter_is_left() -> None:
    queue, holds = queue_of("block")
    assert fill(queue, 4) == []
    assert holds == []
    assert fill(queue, 2) == []
    assert holds == [True]
    for settled, expected in enumerate([[True]] * 4 + [[True, False]]):
        queue.settle(queue.take(1))
        assert queue.charged_bytes == 5000 - settled * 1000
        assert holds == expected


def test_block_accepts_one_that_is_larger_than_the_queue() -> None:
    queue, holds = queue_of("block")
    big = block(b"x" * 10_000)
    assert queue.offer(big) == []
    assert queue.take(1) == [big]
    queue.settle([big])
    assert holds == [True, False]


class Dropping:
    """A queue that drops, inside a loop whose time jumps; `holds` is what it asked of reading."""

    def __init__(self, overflow: Overflow) -> None:
        self.now = 1.0
        self.holds: list[bool] = []
        self.queue = SinkQueue(
            MAX, overflow, self.holds.append, clock=Clock(monotonic=lambda: self.now)
        )

    def deliver_one(self, seconds: float | None) -> None:
        """One block goes through: delivered in `seconds`, or not at all."""
        self.queue.offer(thousand(0))
        self.queue.settle(self.queue.take(1), seconds)


@pytest.mark.parametrize("seconds", [1.0, None], ids=["slow", "dead"])
@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
def test_reading_never_stops_for_a_sink_that_is_slow_or_dead(
    overflow: Overflow, seconds: float | None
) -> None:
    """However fast it has been, and however fast it refuses."""

    async def scenario() -> list[bool]:
        dropping = Dropping(overflow)
        dropping.deliver_one(0.0)
        dropping.deliver_one(seconds)
        fill(dropping.queue, 9)
        return dropping.holds

    assert run(JumpingLoop, scenario()) == []


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
def test_a_fast_sink_gets_time_for_a_burst(overflow: Overflow) -> None:
    async def scenario() -> list[bool]:
        dropping = Dropping(overflow)
        dropping.deliver_one(0.0)
        fill(dropping.queue, 3)
        assert dropping.holds == [True]
        for _ in range(2):
            dropping.queue.settle(dropping.queue.take(1), 0.0)
        return dropping.holds

    assert run(JumpingLoop, scenario()) == [True, False]


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
def test_a_fast_sink_that_stops_gets_no_second_pause(overflow: Overflow) -> None:
    async def scenario() -> list[bool]:
        dropping = Dropping(overflow)
        dropping.deliver_one(0.0)
        fill(dropping.queue, 3)
        assert dropping.holds == [True]
        await asyncio.sleep(BURST_PAUSE_SECONDS * 1.01)  # of the loop's own time
        assert dropping.holds == [True, False]
        await asyncio.sleep(NO_PAUSE_SECONDS)
        fill(dropping.queue, 9)
        return dropping.holds

    assert run(JumpingLoop, scenario()) == [True, False]


def test_there_is_no_pause_for_a_sink_whose_batch_is_overdue() -> None:
    async def scenario() -> list[bool]:
        dropping = Dropping("drop_oldest")
        dropping.deliver_one(0.0)
        dropping.queue.offer(thousand(0))
        dropping.queue.take(1)
        dropping.now += BURST_PAUSE_SECONDS
        fill(dropping.queue, 9)
        return dropping.holds

    assert run(JumpingLoop, scenario()) == []


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
def test_a_line_larger_than_the_queue_is_too_large_and_costs_only_itself(
    overflow: Overflow,
) -> None:
    queue, _ = queue_of(overflow)
    fill(queue, 2)
    big = block(b"x" * MAX)
    assert queue.offer(big) == [("too_large", big)]
    assert queue.waiting().lines == 2


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
def test_a_block_larger_than_the_queue_is_cut_at_its_lines(overflow: Overflow) -> None:
    queue, _ = queue_of(overflow)
    lines = [b"%04d" % number for number in range(1000)]
    lines[500] = b"y" * MAX
    big = block(*lines, source=7, offset=50)
    losers = queue.offer(big)
    kept = queue.take(1 << 62)
    pieces = sorted([*kept, *(loser for _, loser in losers)], key=lambda piece: piece.offset)
    assert data_of(pieces) == big.data
    assert sum(piece.lines for piece in pieces) == 1000
    assert all(piece.lines == piece.data.count(b"\n") for piece in pieces)
    assert [big.data[p.offset - 50 :].startswith(p.data) for p in pieces] == [True] * len(pieces)
    assert {piece.source for piece in pieces} == {7}
    assert [loser.data for reason, loser in losers if reason == "too_large"] == [lines[500] + b"\n"]
    kept_data = data_of(kept)
    assert kept_data
    if overflow == "drop_oldest":
        assert big.data.endswith(kept_data)
    else:
        assert big.data.startswith(kept_data)


def test_tiny_blocks_can_not_slip_under_the_bound() -> None:
    queue, _ = queue_of("drop_newest")
    losers = [loser for _ in range(1000) for loser in queue.offer(block(b""))]
    assert len(queue) == MAX // (BLOCK_OVERHEAD + 1)
    assert len(losers) == 1000 - len(queue)


def test_take_gives_at_least_one_block_and_no_more_than_asked() -> None:
    queue, _ = queue_of("block")
    fill(queue, 3)
    assert queue.take(1) == [thousand(0)]
    assert queue.take(2 * len(thousand(0).data)) == [thousand(1), thousand(2)]
    assert queue.take(1) == []
    assert queue.queued_bytes == 0


def test_wait_ends_with_an_offer_a_wake_or_the_time() -> None:
    queue, _ = queue_of("block")

    async def scenario() -> None:
        queue.wake()  # no one waits: no effect
        for end in (lambda: queue.offer(thousand(0)), queue.wake):
            waiting = asyncio.create_task(queue.wait())
            await asyncio.sleep(0)
            assert not waiting.done()
            end()
            await waiting
        await queue.wait(30.0)
        cancelled = asyncio.create_task(queue.wait())
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        assert queue.offer(thousand(1)) == []

    run(JumpingLoop, scenario())


def test_cutting_a_block_with_added_members_keeps_the_received_size() -> None:
    received, added = 30 * 100, 17 * 100
    block = Block(b"x" * 46 + b"\n", 1)
    whole = Block(block.data * 100, 100, 1, 5000, 1.5, added)
    assert whole.size == received
    queue = SinkQueue(4000, "drop_oldest", lambda _: None)
    lost = [loser for _, loser in queue.offer(whole)]
    kept = queue.take(1 << 30)
    assert sum(piece.size for piece in lost + kept) == received
    assert sum(piece.lines for piece in lost + kept) == 100
    assert b"".join(piece.data for piece in lost + kept) == whole.data
