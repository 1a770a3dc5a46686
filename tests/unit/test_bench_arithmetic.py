"""The load-test harness's own arithmetic: what its tables say must follow from its runs."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench import report
from bench.daemon import variables
from bench.measure import Run
from bench.report import Result, Row
from bench.scenario import Scenario, filled, load
from bench.stats import Spread, highest_rate, paired_ratio, percentile

VALUES = st.lists(st.floats(0.001, 1e6), min_size=1, max_size=200)


@given(values=VALUES, share=st.floats(0.01, 1.0))
def test_a_percentile_is_a_value_that_so_many_do_not_exceed(
    values: list[float], share: float
) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6
    assert sum(value < found for value in values) < share * len(values) + 1e-6


def test_percentiles_of_a_hundred() -> None:
    values = [float(value) for value in range(1, 101)]
    random.Random(1).shuffle(values)
    assert [percentile(values, share) for share in (0.5, 0.95, 0.99, 1.0)] == [50, 95, 99, 100]


def test_a_spread_is_the_median_between_its_ends() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)
    with pytest.raises(ValueError, match="no measurement"):
        Spread.of([])


def test_a_ratio_is_that_of_pairs_so_a_slow_moment_of_both_does_not_count() -> None:
    assert paired_ratio([2.0, 20.0, 2.0], [1.0, 10.0, 1.0]) == 2.0
    with pytest.raises(ValueError, match="argument"):
        paired_ratio([1.0], [1.0, 2.0])


@given(limit=st.integers(5_000, 3_000_000))
def test_the_search_comes_near_the_rate_at_which_it_breaks(limit: int) -> None:
    asked: list[int] = []

    def holds(rate: int) -> bool:
        asked.append(rate)
        return rate <= limit

    found = highest_rate(holds, 50_000, 4_000_000, 4)
    assert found <= limit
    assert found >= limit * 0.9
    assert len(asked) <= 16


def test_the_search_ends_where_nothing_holds_and_where_everything_does() -> None:
    assert highest_rate(lambda _: False, 50_000, 4_000_000, 4) == 0
    assert highest_rate(lambda _: True, 50_000, 4_000_000, 4) == 3_200_000


def run(cpu: float, lines: int = 1_000_000) -> Run:
    return Run(lines=lines, bytes=290 * lines, seconds=0.5, cpu_seconds=cpu, peak_mib=40.0)


def result(ours: list[float], raw: list[float]) -> Result:
    rows = [
        Row(receiver="telemetryd", title="telemetryd", runs=[run(cpu) for cpu in ours]),
        Row(receiver="copier", title="copier", kind="ceiling", runs=[run(cpu) for cpu in raw]),
        Row(receiver="gone", title="gone", kind="peer", absent="gone not found"),
    ]
    settings = Scenario(title="<a title>", lines=1_000_000, daemon={})
    return Result(scenario="s", settings=settings, machine={"cores": "2"}, rows=rows)


def test_the_table_tells_what_a_line_costs_and_what_is_absent() -> None:
    text = report.markdown(result([0.3, 0.2, 0.4], [0.1, 0.1, 0.1]))
    assert "| telemetryd | 0.300 (0.200 to 0.400) | 3.00 | 2,000,000 | 40 |  |" in text
    assert "| gone | absent | | | | gone not found |" in text
    assert "cores 2" in text


def test_the_chart_shows_the_measured_and_escapes_titles() -> None:
    svg = report.chart(result([0.3], [0.1]))
    assert "&lt;a title&gt;" in svg
    assert svg.count("<rect") == 3  # the background, and a bar for each that was measured
    assert "gone" not in svg


def test_results_read_back_as_they_were_written(tmp_path: Path) -> None:
    written = result([0.3], [0.1])
    paths = report.write(written, tmp_path)
    assert {path.suffix for path in paths} == {".json", ".md", ".svg"}
    assert report.read(paths[0]) == written


@pytest.mark.parametrize(
    ("after", "raw", "worse", "told"),
    [
        ([0.30], [0.10], False, "the same"),
        ([0.60], [0.20], False, "the same"),  # a slower machine, not a slower program
        ([0.36], [0.10], True, "WORSE"),
        ([0.20], [0.10], False, "better"),
    ],
)
def test_a_comparison_is_of_ratios(
    after: list[float], raw: list[float], worse: bool, told: str
) -> None:
    text, slower = report.compare(result([0.3], [0.1]), result(after, raw), 0.15)
    assert slower is worse
    assert text.endswith(told)


def test_every_scenario_is_one_that_telemetryd_understands() -> None:
    from telemetryd.config import load as load_config

    for name, scenario in load().items():
        values = {"output": "/data/out", "scratch": "/data", "kinesis": "http://127.0.0.1:1"}
        config = filled(scenario.daemon, values)
        loaded = load_config(variables(config), default_paths=()).config
        assert set(scenario.expect.delivered) <= set(loaded.sinks), name
        assert not any(f"{{{place}}}" in str(config) for place in values), name
