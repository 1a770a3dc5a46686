"""Histograms, peaks, pauses, and the bounds on what a sink may name."""

import random

import pytest

from telemetryd.core.stats import MAX_ERRORS, DaemonStats, Histogram, Pauses, Peak, SinkStats
from telemetryd.core.waiting import Waiting

NOW = 1_800_000_000.0
DONE = "2027-01-15T07:59:59.950Z"  # 50 ms before NOW


def test_a_value_is_in_the_first_bucket_that_is_not_below_it() -> None:
    histogram = Histogram((1, 10))
    for value in (0, 1, 1.001, 10, 11):
        histogram.observe(value)
    assert histogram.counts == [2, 2, 1]
    assert histogram.count == 5
    assert histogram.sum == pytest.approx(23.001)
    assert histogram.mean == pytest.approx(23.001 / 5)


def test_a_weight_is_so_many_equal_values() -> None:
    weighted, repeated = Histogram((1, 10)), Histogram((1, 10))
    rng = random.Random(1)
    for _ in range(100):
        value, weight = rng.uniform(0, 20), rng.randrange(5)
        weighted.observe(value, weight)
        for _ in range(weight):
            repeated.observe(value)
    assert weighted.counts == repeated.counts
    assert weighted.count == repeated.count
    assert weighted.sum == pytest.approx(repeated.sum)


def test_an_empty_histogram_has_a_mean() -> None:
    assert Histogram((1,)).mean == 0


def test_each_reader_of_a_peak_has_its_own_window() -> None:
    peak = Peak()
    peak.note(5)
    first = peak.reader()
    assert first() == 5, "what was before it began to look"
    peak.note(3)
    second = peak.reader()
    peak.note(2)
    assert (first(), second()) == (3, 5)
    assert (first(), second()) == (0, 0)
    assert peak.value == 5


def test_pauses_add_up_the_one_that_lasts_included() -> None:
    pauses = Pauses()
    pauses.change(10, paused=False)
    for now, paused in ((11, True), (12, True), (13, False), (14, False), (20, True)):
        pauses.change(now, paused=paused)
    assert pauses.count == 2
    assert pauses.is_on
    assert pauses.seconds(25) == 7
    pauses.change(26, paused=False)
    assert (pauses.seconds(99), pauses.is_on) == (8, False)


def test_codes_of_a_sink_are_bounded_but_every_error_counts() -> None:
    stats = SinkStats()
    for number in range(MAX_ERRORS * 2):
        stats.failed("transient", f"code_{number}")
    stats.failed("transient", "code_0")
    assert len(stats.errors) == MAX_ERRORS + 1
    assert stats.errors["transient", "other"] == MAX_ERRORS
    assert stats.errors["transient", "code_0"] == 2


def test_an_item_without_lines_is_no_delivery() -> None:
    """Documents of a sink's own stand for no line."""
    stats = SinkStats()
    stats.delivered(7.0, 0)
    assert (stats.delivery_seconds.count, stats.delivery_peak.value) == (0, 0)
    stats.delivered(-1.0, 3)  # a clock that went back
    assert (stats.delivery_seconds.count, stats.delivery_seconds.sum) == (3, 0)


# -- what an invocation waited ------------------------------------------------------------------


def waited(*steps: tuple[str, ...], asked: float = NOW) -> DaemonStats:
    stats = DaemonStats(())
    waiting = Waiting(stats)
    for what, *rest in steps:
        if what == "began":
            waiting.began(*rest)
        else:
            waiting.ended(*rest, NOW)
    waiting.asked(asked)
    return stats


def test_from_the_end_of_the_runtime_to_our_next() -> None:
    stats = waited(("began", "a"), ("ended", "a", DONE))
    assert stats.added_seconds.sum == pytest.approx(0.05)
    assert stats.added_last == pytest.approx(0.05)
    assert stats.invocations == stats.added_seconds.count == 1


def test_the_end_may_be_known_before_the_beginning() -> None:
    assert waited(("ended", "a", DONE), ("began", "a")).added_last == pytest.approx(0.05)


def test_the_first_word_of_an_end_counts() -> None:
    """`platform.report` tells of it again, later."""
    later = ("ended", "a", "2027-01-15T07:59:59.990Z")
    assert waited(("began", "a"), ("ended", "a", DONE), later).added_last == pytest.approx(0.05)


@pytest.mark.parametrize(
    "steps",
    [
        (("began", "a"),),
        (("began", "a"), ("ended", "b", DONE)),
        (("ended", "a", DONE), ("began", "b")),
    ],
)
def test_who_asks_before_the_end_keeps_nobody_waiting(steps: tuple[tuple[str, ...], ...]) -> None:
    stats = waited(*steps)
    assert (stats.added_seconds.count, stats.added_seconds.sum) == (1, 0)


@pytest.mark.parametrize("time", ["2026-03-14T10:15:31Z", "2027-01-15T08:00:01Z", "soon", ""])
def test_an_event_with_a_senseless_time_ended_when_it_came(time: str) -> None:
    assert waited(("began", "a"), ("ended", "a", time), asked=NOW + 0.25).added_last == 0.25


def test_asking_without_an_invocation_is_no_wait() -> None:
    assert waited().added_seconds.count == 0
