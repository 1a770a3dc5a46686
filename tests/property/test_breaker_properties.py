"""The circuit breaker under any sequence of answers and jumps of time.

Whatever happens, no destination is left alone for longer than a minute, none is left alone without
reason, and one that takes something is asked again at once.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from telemetryd.core.breaker import FAILURES, FIRST_SECONDS, MAX_SECONDS, Breaker

EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("succeeded"), st.just(0.0)),
        st.tuples(st.just("failed"), st.just(0.0)),
        st.tuples(st.just("permanent"), st.just(0.0)),
        st.tuples(st.just("wait"), st.floats(0, 2 * MAX_SECONDS)),
        st.tuples(st.just("freeze"), st.floats(0, 100_000)),
        st.tuples(st.just("until_probe"), st.just(0.0)),
    ),
    max_size=60,
)


@given(events=EVENTS, start=st.floats(0, 1e7))
def test_it_is_open_for_a_reason_and_never_for_long(
    events: list[tuple[str, float]], start: float
) -> None:
    breaker = Breaker()
    now, in_a_row, permanent, last_failure = start, 0, False, start
    for event, seconds in events:
        was_open = breaker.state(now) != "closed"
        if event == "succeeded":
            assert breaker.on_success() is was_open
            in_a_row, permanent = 0, False
            assert breaker.state(now) == "closed"
        elif event in ("failed", "permanent"):
            in_a_row, permanent, last_failure = in_a_row + 1, event == "permanent", now
            opens = was_open or in_a_row >= FAILURES or permanent
            assert breaker.on_failure(now, permanent=permanent) is opens
            assert (breaker.state(now) == "open") is opens
        elif event == "until_probe":
            now = max(now, breaker.probe_at)
            assert breaker.state(now) != "open"
        else:
            now += seconds
        assert breaker.is_failing is (in_a_row > 0)
        assert breaker.is_closed is (breaker.state(now) == "closed")
        assert breaker.permanent is permanent
        if breaker.state(now) == "open":
            left_alone = breaker.probe_at - last_failure
            assert FIRST_SECONDS * 0.999 <= left_alone <= MAX_SECONDS * 1.001
        if now > last_failure + MAX_SECONDS * 1.001:
            assert breaker.state(now) != "open"
