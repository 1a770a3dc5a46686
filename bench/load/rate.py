"""The highest rate at which p99 stays below a bound and nothing is dropped; latency by load."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from bench.kit import chart
from bench.kit.errors import LossError
from bench.kit.stats import highest_rate
from bench.load import measure
from bench.load.run import Run
from bench.load.scenario import Rate

LOADS = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
_FIRST = 50_000
_MOST = 4_000_000
_STEPS = 4


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One rate, held for a while."""

    load: float
    """Of the highest rate."""
    rate: int
    runs: list[Run]


class RateResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a search for the highest rate."""

    scenario: str
    settings: Rate
    machine: dict[str, str]
    seconds: float
    """Seconds for each rate."""
    highest: int
    """Lines a second."""
    curve: list[Point]


def search(
    name: str,
    scenario: Rate,
    machine: dict[str, str],
    *,
    seconds: float,
    repeat: int,
    show: Callable[[str], None],
) -> RateResult:
    """Find the highest rate, then measure at parts of it."""

    def holds(rate: int) -> bool:
        show(f"{name}: {rate:,} lines/s for {seconds:g} s")
        try:
            return measure.telemetryd(scenario.holding(rate, seconds)).p99_ms < scenario.p99_ms
        except LossError as error:
            show(f"{name}: {rate:,} lines/s does not hold: {error}")
            return False

    highest = highest_rate(holds, _FIRST, _MOST, _STEPS)
    points = [Point(load=load, rate=int(highest * load), runs=[]) for load in LOADS if highest]
    for number in range(repeat):
        for point in points:
            show(f"{name}: {point.load:.0%} of {highest:,} lines/s, {number + 1}/{repeat}")
            point.runs.append(measure.telemetryd(scenario.holding(point.rate, seconds)))
    return RateResult(
        scenario=name, settings=scenario, machine=machine, seconds=seconds, highest=highest,
        curve=points,
    )  # fmt: skip


def markdown(result: RateResult, link: str = "") -> str:
    """The curve as a table."""
    settings = result.settings
    mean = settings.source.mean_bytes
    lines = [
        f"## {settings.title}",
        "",
        (
            f"`python -m bench run {result.scenario}`: lines of {mean:.0f} bytes are sent on a "
            f"schedule that waits for no receiver; a line counts from when it was due until it can "
            f"be read from the file. The highest rate whose p99 stayed below {settings.p99_ms:g} "
            f"ms for {result.seconds:g} s with every line delivered: "
            f"**{result.highest:,} lines/s** ({result.highest * mean / 1e6:,.0f} MB/s). "
            f"Medians of {_repeats(result)} runs at "
            f"parts of it:"
        ),
        "",
        "| load | lines/s | p50 ms | p95 ms | p99 ms | max ms | CPU µs/line |",
        "|---|---|---|---|---|---|---|",
    ]
    for point in result.curve:
        cells = [f"{_median(point, name):.2f}" for name in ("p50", "p95", "p99", "max")]
        cpu = _middle([run.cpu_us_per_line for run in point.runs])
        lines.append(f"| {point.load:.0%} | {point.rate:,} | {' | '.join(cells)} | {cpu:.3f} |")
    if link:
        lines += ["", f"![{settings.title}]({link})"]
    machine = ", ".join(f"{name} {value}" for name, value in result.machine.items())
    return "\n".join([*lines, "", f"Measured on: {machine}."]) + "\n"


def svg(result: RateResult) -> str:
    """Latency over rate."""
    xs = [point.rate / 1000 for point in result.curve]
    shown = [
        chart.Curve(name, xs, [_median(point, name) for point in result.curve])
        for name in ("p50", "p95", "p99", "max")
    ]
    return chart.curves(result.settings.title, "thousand lines/s", "ms", shown)


def _repeats(result: RateResult) -> int:
    return len(result.curve[0].runs) if result.curve else 0


def _median(point: Point, name: str) -> float:
    return _middle([getattr(run.latency, name) for run in point.runs if run.latency])


def _middle(values: list[float]) -> float:
    return sorted(values)[len(values) // 2] if values else float("nan")
