"""After a slow write there is none at once for a while."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from telemetryd.core.direct import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    SLOW_SECONDS,
    DirectGuard,
    is_slow,
)


class Used(NamedTuple):
    """What a thread has used."""

    ru_utime: float = 0.0
    ru_stime: float = 0.0
    ru_nvcsw: int = 0


@pytest.mark.parametrize(
    ("seconds", "after", "slow"),
    [
        (SLOW_SECONDS / 2, Used(9.0, 9.0, 9), False),
        (SLOW_SECONDS, Used(), False),
        (SLOW_SECONDS, Used(ru_nvcsw=1), True),
        (SLOW_SECONDS, Used(SLOW_SECONDS / 2, SLOW_SECONDS / 2), True),
    ],
)
def test_a_write_is_slow_that_waited_or_worked_for_long(
    seconds: float, after: Used, *, slow: bool
) -> None:
    assert is_slow(seconds, Used(), after) == slow


def test_writes_are_permitted_until_one_is_slow() -> None:
    guard = DirectGuard()
    guard.on_fast()
    assert guard.permits(0.0)
    assert not is_paused(guard)
    guard.on_slow(10.0)
    assert is_paused(guard)
    assert not guard.permits(10.0)
    assert not guard.permits(10.0 + FIRST_PAUSE_SECONDS - 0.001)
    assert is_paused(guard)
    assert guard.permits(10.0 + FIRST_PAUSE_SECONDS)
    assert not is_paused(guard)


def is_paused(guard: DirectGuard) -> bool:
    """Whether it has to be asked."""
    return guard.is_paused


def pause_after(guard: DirectGuard, now: float) -> float:
    """How long a slow write at `now` keeps others away."""
    guard.on_slow(now)
    seconds = 0.0
    while not guard.permits(now + seconds):
        seconds += 0.5
    return seconds


def test_each_slow_write_in_a_row_is_followed_by_a_longer_pause() -> None:
    guard = DirectGuard()
    found = [pause_after(guard, 1000.0 * number) for number in range(9)]
    assert found == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert found[-1] == LONGEST_PAUSE_SECONDS


def test_a_fast_write_ends_the_row() -> None:
    guard = DirectGuard()
    pause_after(guard, 0.0)
    pause_after(guard, 100.0)
    guard.on_fast()
    assert pause_after(guard, 200.0) == FIRST_PAUSE_SECONDS
