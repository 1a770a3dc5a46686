"""When an invocation ends with a flush: the strategies, and the clock behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from telemetryd.core.lifecycle import BUSY_GAP_SECONDS, BUSY_RUN, Pacer

if TYPE_CHECKING:
    from telemetryd.core.lifecycle import Strategy


def pacer(strategy: Strategy = "auto", *, interval: float = 5.0, max_age: float = 10.0) -> Pacer:
    return Pacer(strategy, interval_seconds=interval, max_age_seconds=max_age, now=0.0)


class Function:
    """Invocations one after the other, each asking whether it ends with a flush."""

    def __init__(self, pacer: Pacer) -> None:
        self.pacer = pacer
        self.now = 0.0

    def invoke(self, *, after: float, lasting: float = 0.01, oldest: float = 0.0) -> bool:
        """One invocation so long after the one before."""
        self.pacer.on_park(self.now)
        self.now += after
        self.pacer.on_invoke(self.now)
        flush = self.pacer.flush_at_end(self.now, oldest)
        self.now += lasting
        if flush:
            self.pacer.on_flush(self.now)
        return flush


def test_auto_flushes_while_invocations_are_rare() -> None:
    function = Function(pacer())
    assert [function.invoke(after=BUSY_GAP_SECONDS) for _ in range(10)] == [True] * 10


def test_auto_stops_waiting_when_invocations_are_close() -> None:
    function = Function(pacer())
    flushed = [function.invoke(after=0.01) for _ in range(BUSY_RUN + 5)]
    assert flushed == [True] * (BUSY_RUN - 1) + [False] * 6
    assert function.pacer.busy


def test_auto_is_back_with_the_first_pause() -> None:
    function = Function(pacer())
    for _ in range(BUSY_RUN):
        function.invoke(after=0.01)
    assert function.invoke(after=BUSY_GAP_SECONDS)
    assert not function.pacer.busy
    assert function.invoke(after=0.01)


def test_long_invocations_in_a_row_are_busy() -> None:
    """What counts is the time between them, in which the environment may be frozen."""
    function = Function(pacer(max_age=1000))
    flushed = [function.invoke(after=0.01, lasting=60) for _ in range(BUSY_RUN + 1)]
    assert flushed[-2:] == [False, False]


def test_auto_keeps_the_maximum_age_when_busy() -> None:
    function = Function(pacer(max_age=10))
    for _ in range(BUSY_RUN):
        function.invoke(after=0.01)
    assert not function.invoke(after=0.01, oldest=9.9)
    assert function.invoke(after=0.01, oldest=10.0)
    function.now += 9.0
    function.pacer.on_park(function.now)
    assert not function.invoke(after=0.5)
    assert function.invoke(after=0.5), "ten seconds after the last flush"


@pytest.mark.parametrize(("strategy", "expected"), [("invocation", True), ("continuous", False)])
@pytest.mark.parametrize("after", [0.001, 3600.0])
def test_fixed_strategies_do_not_look_at_the_clock(
    strategy: Strategy, expected: bool, after: float
) -> None:
    function = Function(pacer(strategy))
    answers = {function.invoke(after=after, oldest=oldest) for oldest in (0.0, 1e6)}
    assert answers == {expected}


def test_interval_flushes_when_that_has_passed() -> None:
    function = Function(pacer("interval", interval=5))
    due = [function.invoke(after=0.99) for _ in range(12)]
    assert due == [False, False, False, False, False, True] * 2


def test_a_failed_flush_leaves_the_interval_due() -> None:
    subject = pacer("interval", interval=5)
    assert subject.flush_at_end(6.0, 0.0)
    assert subject.flush_at_end(6.1, 0.0)
    subject.on_flush(6.2)
    assert not subject.flush_at_end(6.3, 0.0)


def test_the_first_invocation_counts_the_time_since_the_first_next() -> None:
    """None was parked yet where INVOKE comes unasked: neither close nor far."""
    subject = pacer()
    subject.on_invoke(0.0)
    assert not subject.busy
    assert subject.flush_at_end(0.0, 0.0)
