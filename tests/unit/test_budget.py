"""The memory that queues share: a part for each queue, and one for any that needs it."""

from __future__ import annotations

from telemetryd.core.budget import MemoryBudget


def test_each_queue_has_a_part_of_its_own_and_may_use_what_is_shared() -> None:
    budget = MemoryBudget(1000, 2)
    assert (budget.max_bytes, budget.own_bytes, budget.largest_bytes) == (1000, 250, 750)
    assert budget.fits(0, 750)
    assert not budget.fits(0, 751)


def test_what_one_takes_of_the_shared_part_the_others_lack() -> None:
    budget = MemoryBudget(1000, 2)
    budget.on_change(0, 650)
    assert budget.shared_used_bytes == 400
    assert budget.fits(0, 350)
    assert not budget.fits(0, 351)
    budget.on_change(650, 100)
    assert budget.shared_used_bytes == 0


def test_only_who_holds_more_than_its_own_part_comes_up_against_the_others() -> None:
    budget = MemoryBudget(1000, 2)
    budget.on_change(0, 626)
    assert budget.is_tight(626)
    assert not budget.is_tight(250)
    assert not budget.is_used_up(626)
    budget.on_change(0, 376)
    assert budget.is_used_up(626)
    assert not budget.is_used_up(250)


def test_without_queues_there_is_still_a_budget() -> None:
    budget = MemoryBudget(1000, 0)
    assert (budget.own_bytes, budget.largest_bytes) == (500, 1000)
