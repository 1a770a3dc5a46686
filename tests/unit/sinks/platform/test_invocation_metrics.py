"""What events measure, added up: sums and histograms, delta and cumulative."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetryd.sinks._platform import invocation_metrics
from telemetryd.sinks._platform.invocation_metrics import (
    BYTES,
    INSTRUMENTS,
    OVERFLOW,
    SECONDS,
    SLACK,
    InvocationMetrics,
)
from telemetryd.sinks._platform.invocations import LOCAL
from telemetryd.sinks._platform.measured import Measured
from telemetryd_proto.otlp.metrics import (
    CUMULATIVE,
    DELTA,
    HistogramMetric,
    HistogramPoint,
    OtlpMetric,
    SumMetric,
    metric_message,
)

BEGAN = 1_700_000_000 * 10**9
NOW = BEGAN + 10**9


def measured(error_type: str | None = None, function: str = "orders", **values: float) -> Measured:
    return Measured(function, "$LATEST", list(values.items()), error_type=error_type)


def collected(metrics: InvocationMetrics, now: int = NOW) -> dict[str, OtlpMetric]:
    return {each.name: each for each in metrics.collect(now)}


def sums(made: dict[str, OtlpMetric], name: str) -> dict[str, int]:
    """The values of a sum by `error.type`, or another attribute, or by nothing."""
    metric = made[name]
    assert isinstance(metric, SumMetric)
    return {",".join(map(str, each.attributes.values())): each.value for each in metric.points}


def distribution(made: dict[str, OtlpMetric], name: str) -> HistogramPoint:
    metric = made[name]
    assert isinstance(metric, HistogramMetric)
    [point] = metric.points
    assert len(point.buckets) == len(metric.bounds) + 1
    assert sum(point.buckets) == point.observations
    return point


def test_counts_are_sums_and_measures_are_histograms_in_the_units_of_the_conventions() -> None:
    metrics = InvocationMetrics("orders", BEGAN)
    metrics.add(measured(invocations=1, cold_starts=1), BEGAN)
    metrics.add(measured(duration=12.345678, max_memory_used=64, billed_duration=13), BEGAN)
    metrics.add(measured(duration=2500.0, max_memory_used=65), BEGAN)
    made = collected(metrics)
    assert sums(made, "faas.invocations") == sums(made, "faas.coldstarts") == {"": 1}
    duration = distribution(made, "faas.invoke_duration")
    assert (duration.observations, duration.total) == (2, 2.512345678)
    assert (duration.low, duration.high) == (0.012345678, 2.5)
    assert duration.buckets[SECONDS.index(0.025)] == 1
    assert duration.buckets[SECONDS.index(2.5)] == 1, "a bound is part of its bucket"
    memory = distribution(made, "faas.mem_usage")
    assert (memory.low, memory.high) == (64 * 1024**2, 65 * 1024**2)
    assert memory.buckets[:2] == (1, 1)
    assert {made[name].unit for name in made if "duration" in name} == {"s"}
    assert made["faas.mem_usage"].unit == "By"
    assert made["faas.invocations"].unit == "{invocation}"


def test_errors_have_their_type() -> None:
    metrics = InvocationMetrics("orders", BEGAN)
    metrics.add(measured("KeyError", errors=1), BEGAN)
    metrics.add(measured(errors=1, timeouts=1), BEGAN)
    metrics.add(measured(errors=1), BEGAN)
    metrics.add(measured("KeyError", errors=1), BEGAN)
    made = collected(metrics)
    assert sums(made, "faas.errors") == {"KeyError": 2, "timeout": 1, "_OTHER": 1}
    assert sums(made, "faas.timeouts") == {"": 1}


def test_cumulative_points_keep_their_start_and_grow() -> None:
    metrics = InvocationMetrics("orders", BEGAN)
    for count in (1, 2, 3):
        metrics.add(measured(invocations=1, duration=5), BEGAN)
        made = collected(metrics, NOW + count)
        assert sums(made, "faas.invocations") == {"": count}
        point = distribution(made, "faas.invoke_duration")
        assert (point.period.start, point.period.end) == (BEGAN, NOW + count)
        assert point.observations == count
        assert made["faas.invocations"].temporality == CUMULATIVE
    metrics.add(measured(timeouts=1), BEGAN)
    assert "faas.invocations" in collected(metrics), "one that was lost is made up for"


def test_delta_points_are_about_the_time_since_the_last() -> None:
    metrics = InvocationMetrics("orders", BEGAN, is_delta=True)
    ends = [BEGAN]
    for count in (1, 2, 3):
        metrics.add(measured(invocations=count, duration=5), BEGAN)
        made = collected(metrics, NOW)
        assert sums(made, "faas.invocations") == {"": count}
        point = distribution(made, "faas.invoke_duration")
        assert (point.period.start, point.observations) == (ends[-1], 1)
        assert made["faas.invocations"].temporality == DELTA
        ends.append(point.period.end)
    assert all(before < after for before, after in pairwise(ends)), "the clock stood still"


def test_without_news_there_is_nothing_to_send() -> None:
    metrics = InvocationMetrics("orders", BEGAN)
    assert metrics.collect(NOW) == []
    metrics.add(measured(estimated_cost=0.1, memory_size=128), BEGAN)
    assert metrics.collect(NOW) == [], "these are none of its metrics"
    metrics.add(measured(invocations=1), BEGAN)
    assert metrics.collect(NOW) != []
    assert metrics.collect(NOW) == []


def test_points_begin_with_the_first_event() -> None:
    """The platform initialises the environment before it starts the extension."""
    metrics = InvocationMetrics("orders", BEGAN)
    metrics.add(measured(init_duration=300), BEGAN - 5 * 10**9)
    metrics.add(measured(init_duration=300), BEGAN - 4 * 10**9)
    metrics.add(measured(init_duration=300), BEGAN - SLACK - 1)  # the clock of its sender is wrong
    metrics.add(measured(init_duration=300), BEGAN + 1)
    point = distribution(collected(metrics), "faas.init_duration")
    assert point.period.start == BEGAN - 5 * 10**9
    metrics.add(measured(init_duration=300), BEGAN - 6 * 10**9)
    point = distribution(collected(metrics), "faas.init_duration")
    assert point.period.start == BEGAN - 5 * 10**9, "a series keeps its start"


def test_a_clock_that_is_set_back_does_not_turn_time_around() -> None:
    metrics = InvocationMetrics("orders", BEGAN)
    ends = []
    for now in (NOW, BEGAN - 5, 0):
        metrics.add(measured(duration=1), BEGAN)
        point = distribution(collected(metrics, now), "faas.invoke_duration")
        ends.append(point.period.end)
    assert ends == [NOW, NOW + 1, NOW + 2]


def test_outside_lambda_each_function_has_a_point() -> None:
    metrics = InvocationMetrics(LOCAL, BEGAN)
    metrics.add(measured(invocations=1, function="orders"), BEGAN)
    metrics.add(measured(invocations=2, function="bills"), BEGAN)
    made = collected(metrics)
    assert sums(made, "faas.invocations") == {"orders,$LATEST": 1, "bills,$LATEST": 2}


def test_attributes_are_bounded_and_nothing_is_left_out() -> None:
    metrics = InvocationMetrics(LOCAL, BEGAN)
    most = invocation_metrics.MAX_POINTS
    for number in range(most + 7):
        function = f"function-{number}"
        metrics.add(measured(f"E{number}", function, errors=1, duration=3), BEGAN)
    metrics.add(measured("E0", "function-0", errors=1), BEGAN)
    made = collected(metrics)
    errors = made["faas.errors"]
    assert isinstance(errors, SumMetric)
    assert len(errors.points) == most + 1
    assert errors.points[-1].attributes == {OVERFLOW: True}
    assert (errors.points[0].value, errors.points[-1].value) == (2, 7)
    durations = made["faas.invoke_duration"]
    assert isinstance(durations, HistogramMetric)
    assert durations.points[-1].observations == 7


def test_a_sum_stays_within_64_bits() -> None:
    metrics = InvocationMetrics("orders", BEGAN)
    for _ in range(3):
        metrics.add(measured(telemetry_lines_dropped=float(1 << 62)), BEGAN)
    made = collected(metrics)
    assert sums(made, "aws.lambda.telemetry_dropped") == {"": (1 << 63) - 1}
    metric_message(made["aws.lambda.telemetry_dropped"])


@pytest.mark.parametrize("bounds", [SECONDS, BYTES])
def test_bounds_ascend(bounds: tuple[float, ...]) -> None:
    assert all(low < high for low, high in pairwise(bounds))
    assert len({each.name for each in INSTRUMENTS}) == len(INSTRUMENTS)


@given(st.lists(st.decimals(0, 900_000, allow_nan=False, places=3), min_size=1, max_size=50))
def test_a_sum_of_durations_has_no_noise(milliseconds: list[object]) -> None:
    metrics = InvocationMetrics("orders", BEGAN)
    for each in milliseconds:
        metrics.add(measured(duration=float(str(each))), BEGAN)
    made = collected(metrics)
    exact = sum(Fraction(str(each)) for each in milliseconds) / 1000
    assert distribution(made, "faas.invoke_duration").total == float(exact)
