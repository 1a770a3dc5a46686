"""The wait of a batch: it shrinks when nothing comes, grows when it is worth it, within limits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from telemetryd.core.linger import Linger


def test_it_begins_short_and_grows_under_load_to_the_longest() -> None:
    linger = Linger(0.8)
    waits = [linger.seconds]
    for _ in range(5):
        linger.on_batch(blocks=10, filled=0.1)
        waits.append(linger.seconds)
    assert waits == [0.1, 0.2, 0.4, 0.8, 0.8, 0.8]


def test_large_batches_count_as_load() -> None:
    linger = Linger(0.8)
    linger.on_batch(blocks=1, filled=0.6)
    assert linger.seconds == 0.2


def test_it_shrinks_when_a_block_came_alone() -> None:
    linger = Linger(0.8)
    for _ in range(5):
        linger.on_batch(blocks=10, filled=0.1)
    linger.on_batch(blocks=1, filled=0.01)
    assert linger.seconds == 0.4
    linger.on_batch(blocks=2, filled=0.01)
    assert linger.seconds == 0.4


def test_none_stays_none() -> None:
    linger = Linger(0.0)
    linger.on_batch(blocks=10, filled=1.0)
    assert linger.seconds == 0.0


@given(
    longest=st.floats(0.001, 60),
    batches=st.lists(st.tuples(st.integers(1, 20), st.floats(0, 2)), max_size=50),
)
def test_it_stays_within_its_limits(longest: float, batches: list[tuple[int, float]]) -> None:
    linger = Linger(longest)
    for blocks, filled in batches:
        linger.on_batch(blocks, filled)
        assert longest / 8 <= linger.seconds <= longest


def test_other_limits_begin_anew_and_the_same_change_nothing() -> None:
    linger = Linger(0.8)
    linger.on_batch(blocks=10, filled=0.1)
    linger.limit(0.8)
    assert linger.seconds == 0.2
    linger.limit(1.6)
    assert linger.seconds == 0.2
    linger.limit(0.4)
    assert linger.seconds == 0.05
