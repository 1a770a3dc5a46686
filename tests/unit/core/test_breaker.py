"""The circuit breaker's states."""

from telemetryd.core.breaker import FAILURES, FIRST_SECONDS, MAX_SECONDS, Breaker


def opened(now: float = 100.0) -> Breaker:
    breaker = Breaker()
    assert [breaker.on_failure(now) for _ in range(FAILURES)] == [False] * (FAILURES - 1) + [True]
    return breaker


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    breaker = opened()
    assert breaker.state(100.0) == "open"
    assert breaker.state(100.0 + FIRST_SECONDS) == "half_open"


def test_a_success_starts_the_count_anew() -> None:
    breaker = Breaker()
    for _ in range(3):
        assert not any(breaker.on_failure(0.0) for _ in range(FAILURES - 1))
        assert breaker.on_success() is False
    assert breaker.state(0.0) == "closed"


def test_a_failed_probe_opens_it_for_longer_up_to_a_limit() -> None:
    breaker = opened(0.0)
    waits = []
    for _ in range(9):
        now = breaker.probe_at
        assert breaker.on_failure(now)
        waits.append(breaker.probe_at - now)
    assert waits[:3] == [2 * FIRST_SECONDS, 4 * FIRST_SECONDS, 8 * FIRST_SECONDS]
    assert waits[-1] == MAX_SECONDS


def test_a_delivered_probe_closes_it() -> None:
    breaker = opened()
    assert breaker.on_success() is True
    assert breaker.state(0.0) == "closed"
    assert not breaker.on_failure(200.0)


def test_a_wish_opens_it_or_keeps_it_open_for_longer_but_never_shorter() -> None:
    breaker = Breaker()
    breaker.on_failure(100.0)
    assert not breaker.leave_alone(100.0, 0.0)
    assert breaker.is_closed
    assert breaker.leave_alone(100.0, 40.0)
    assert breaker.probe_at == 140.0
    assert not breaker.leave_alone(100.0, 39.0)
    assert breaker.leave_alone(100.0, 1e9)
    assert breaker.probe_at == 100.0 + MAX_SECONDS


def test_one_failure_is_enough_where_it_counts_at_once() -> None:
    breaker = Breaker()
    assert breaker.on_failure(0.0, at_once=True)
    assert not breaker.permanent
    assert breaker.probe_at == FIRST_SECONDS


def test_a_permanent_failure_opens_it_at_once_for_the_longest_time() -> None:
    breaker = Breaker()
    assert breaker.on_failure(0.0, permanent=True)
    assert breaker.permanent
    assert breaker.probe_at == MAX_SECONDS
    breaker.on_success()
    assert not breaker.permanent
