"""The retry schedule: full jitter under a growing cap, within the window and the deadline."""

from __future__ import annotations

import math
import random

from hypothesis import given
from hypothesis import strategies as st

from telemetryd.core.retry import BASE_SECONDS, CAP_SECONDS, RetrySchedule


def schedule_of(give_up_at: float = math.inf, seed: int = 1) -> RetrySchedule:
    return RetrySchedule(give_up_at=give_up_at, rng=random.Random(seed))


def test_delays_are_drawn_from_zero_to_a_cap_that_doubles_up_to_a_limit() -> None:
    largest = [0.0] * 12
    smallest = [math.inf] * 12
    for seed in range(2000):
        schedule = schedule_of(seed=seed)
        for failure in range(12):
            at = schedule.next_attempt(100.0)
            assert at is not None
            largest[failure] = max(largest[failure], at - 100.0)
            smallest[failure] = min(smallest[failure], at - 100.0)
    for failure in range(12):
        cap = min(CAP_SECONDS, BASE_SECONDS * 2**failure)
        assert 0.95 * cap < largest[failure] <= cap * (1 + 1e-9)
        assert 0 <= smallest[failure] < 0.05 * cap


def test_after_very_many_failures_the_cap_holds() -> None:
    schedule = schedule_of()
    for _ in range(5000):
        at = schedule.next_attempt(0.0)
        assert at is not None
        assert at <= CAP_SECONDS


def test_the_destinations_wish_is_a_lower_bound() -> None:
    assert schedule_of().next_attempt(10.0, retry_after=60.0) == 70.0


def test_it_gives_up_when_the_next_attempt_would_come_too_late() -> None:
    assert schedule_of(give_up_at=10.0).next_attempt(10.0) is None
    assert schedule_of(give_up_at=10.0).next_attempt(1.0, retry_after=9.0) is None
    assert schedule_of().next_attempt(1.0, retry_after=9.0, deadline=10.0) is None
    assert schedule_of().next_attempt(1.0, retry_after=math.nan) is None


@given(st.integers(0, 2**32), st.floats(0, 1e6), st.floats(0, 100), st.floats(0, 100))
def test_every_attempt_lies_between_now_and_both_limits_and_there_is_an_end(
    seed: int, start: float, window: float, left: float
) -> None:
    schedule = schedule_of(give_up_at=start + window, seed=seed)
    now, attempts = start, 0
    while (at := schedule.next_attempt(now, deadline=start + left)) is not None:
        assert now <= at < min(start + window, start + left)
        now = at
        attempts += 1
        assert attempts < 10_000


def test_before_the_deadline_the_delays_shrink_to_use_the_time() -> None:
    """After twelve failures a plain draw would fall behind a deadline in one second mostly."""
    retried = 0
    for seed in range(200):
        schedule = schedule_of(seed=seed)
        for _ in range(12):
            schedule.next_attempt(0.0)
        retried += schedule.next_attempt(0.0, deadline=1.0) is not None
    assert retried == 200
