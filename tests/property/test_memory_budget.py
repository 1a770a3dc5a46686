"""The memory all queues share: together never more, each always its own part, all given back."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from telemetryd.core.budget import MemoryBudget
from telemetryd.delivery.queue import BLOCK_OVERHEAD, SinkQueue
from telemetryd.sinks.base import Overflow
from telemetryd.testing import block
from telemetryd_proto.framing import Block

LIMIT = 60_000
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), st.integers(0, 2), st.integers(1, 6000)),
        st.tuples(st.just("take"), st.integers(0, 2), st.integers(1, 9000)),
        st.tuples(st.just("settle"), st.integers(0, 2), st.just(0)),
    ),
    max_size=120,
)


@settings(max_examples=300)
@given(
    steps=STEPS,
    overflow=st.sampled_from(["drop_oldest", "drop_newest"]),
    queue_max=st.integers(8000, LIMIT),
)
def test_the_queues_together_hold_no_more_than_the_budget(
    steps: list[tuple[str, int, int]], overflow: Overflow, queue_max: int
) -> None:
    budget = MemoryBudget(LIMIT, 3)
    queues = [SinkQueue(queue_max, overflow, lambda _: None, budget) for _ in range(3)]
    in_flight: list[list[list[Block]]] = [[], [], []]
    for step, number, amount in steps:
        queue = queues[number]
        if step == "offer":
            held = queue.charged_bytes
            losers = queue.offer(block(b"x" * amount))
            if held + amount + 1 + BLOCK_OVERHEAD <= min(budget.own_bytes, queue_max):
                assert losers == [], "a queue was refused its own part"
        elif step == "take":
            in_flight[number].append(queue.take(amount))
        elif in_flight[number]:
            queue.settle(in_flight[number].pop())
        held_by_all = [each.charged_bytes for each in queues]
        assert sum(held_by_all) <= LIMIT
        assert max(held_by_all) <= queue_max
        beyond = sum(max(0, held - budget.own_bytes) for held in held_by_all)
        assert budget.shared_used_bytes == beyond
    for number, queue in enumerate(queues):
        for blocks in in_flight[number]:
            queue.settle(blocks)
        queue.settle(queue.take(1 << 30))
    assert budget.shared_used_bytes == 0


def test_a_blocking_queue_stops_reading_when_the_others_use_everything() -> None:
    """It still has its own part, so it continues as soon as that has room."""
    budget = MemoryBudget(40_000, 2)
    hog = SinkQueue(40_000, "drop_oldest", lambda _: None, budget)
    holds: list[bool] = []
    blocking = SinkQueue(40_000, "block", holds.append, budget)
    while not hog.offer(block(b"x" * 999)):
        pass
    while not holds:
        blocking.offer(block(b"y" * 999))
    assert blocking.charged_bytes <= budget.own_bytes + 2 * (1000 + BLOCK_OVERHEAD)
    while holds == [True]:
        taken = blocking.take(1)
        assert taken, "reading never continued"
        blocking.settle(taken)
    assert holds == [True, False]
