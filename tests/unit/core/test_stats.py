"""Histograms, peaks, pauses, and the bounds on what a sink may name."""

import random

import pytest

from telemetryd.core.figures import Usage, facts
from telemetryd.core.stats import (
    MAX_ERRORS,
    DaemonStats,
    Histogram,
    HookStats,
    Pauses,
    Peak,
    SinkStats,
)


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
        stats.count_failure("transient", f"code_{number}")
    stats.count_failure("transient", "code_0")
    assert len(stats.errors) == MAX_ERRORS + 1
    assert stats.errors["transient", "other"] == MAX_ERRORS
    assert stats.errors["transient", "code_0"] == 2


def test_an_item_without_lines_is_no_delivery() -> None:
    """Documents of a sink's own stand for no line."""
    stats = SinkStats()
    stats.count_delivery(7.0, 0)
    assert (stats.delivery_seconds.count, stats.delivery_peak.value) == (0, 0)
    stats.count_delivery(-1.0, 3)  # a clock that went back
    assert (stats.delivery_seconds.count, stats.delivery_seconds.sum) == (3, 0)


def test_attempts_are_counted_by_how_they_ended() -> None:
    stats = SinkStats()
    stats.count_attempt("ok", 0.25)
    assert stats.write_seconds["ok"].count == 1
    assert stats.write_seconds["ok"].sum == 0.25
    assert all(found.count == 0 for kind, found in stats.write_seconds.items() if kind != "ok")


def test_what_a_sink_makes_of_lines_is_counted_by_kind_and_outcome() -> None:
    stats = SinkStats()
    for number in (2, 3):
        stats.count_derived("spans", "made", number)
    stats.count_derived("metrics", "refused", 1)
    assert stats.derived == {("spans", "made"): 5, ("metrics", "refused"): 1}


def test_what_was_masked_and_what_hooks_did_are_in_the_facts_where_there_is_any() -> None:
    stats = DaemonStats(())
    usage = Usage(0.0, 0, 0.0)
    assert {"hooks", "redacted"}.isdisjoint(facts(stats, usage, 0.0))
    stats.redacted = {"email": 3}
    hook = stats.hooks["mine"] = HookStats()
    hook.calls, hook.seconds = 2, 0.25
    found = facts(stats, usage, 0.0)
    assert found["redacted"] == {"email": 3}
    assert found["hooks"] == {
        "mine": {"calls": 2, "failures": 0, "ms": 250.0, "skipped_lines": 0, "off": 0}
    }
