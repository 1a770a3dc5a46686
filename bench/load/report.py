"""Results of `kind = "load"` for people: a Markdown table, a chart; and for programs: JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import msgspec

from bench.kit import chart
from bench.kit.stats import Spread, paired_ratio
from bench.load.run import Run
from bench.load.scenario import OURS, Load, Source, Target

CEILING: Final = "copier"
"""The row that every other is compared with, across occasions and machines."""


Column: TypeAlias = tuple[str, Callable[["Row"], str]]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One receiver in one scenario."""

    receiver: str
    title: str
    kind: str = "ours"
    """"ours", "peer", "ceiling" or "generator"."""
    does: str = ""
    does_not: str = ""
    version: str = ""
    runs: list[Run] = []
    absent: str = ""
    """The reason why there is no figure."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One scenario, measured."""

    scenario: str
    settings: Load
    machine: dict[str, str]
    rows: list[Row]


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """A target and what was measured."""

    target: Target
    value: float | None
    """None where a row is absent."""

    @property
    def met(self) -> bool | None:
        """None where nothing was measured."""
        return None if self.value is None else self.target.met(self.value)


def read(path: Path) -> Result:
    """Read a result that `write` wrote. Raises OSError, msgspec.ValidationError."""
    return msgspec.json.decode(path.read_bytes(), type=Result)


def judged(result: Result) -> list[Judgement]:
    """Each target with the median that was measured for it."""
    rows = {row.receiver: row for row in result.rows if row.runs}
    found = []
    for target in result.settings.target:
        value = None
        if target.row in rows and all(name in rows for name in target.over):
            value = _measured(target, rows[target.row], [rows[name] for name in target.over])
        found.append(Judgement(target=target, value=value))
    return found


def _measured(target: Target, row: Row, over: Sequence[Row]) -> float:
    def values(of: Row) -> list[float]:
        return [float(getattr(run, target.measure)) for run in of.runs]

    if not over:
        return Spread.of(values(row)).median
    sums = [sum(parts) for parts in zip(*map(values, over), strict=True)]
    return paired_ratio(values(row), sums)


# -- the table ------------------------------------------------------------------------------------


def markdown(result: Result, link: str = "") -> str:
    """The table, with what each row does and what it was measured on; `link` to the chart."""
    settings = result.settings
    lines = [
        f"## {settings.title}",
        "",
        f"`python -m bench run {result.scenario}`: {_sent(settings)}",
        "",
        *table(result),
        "",
    ]
    if judgements := judged(result):
        lines += ["| target | wanted | measured | |", "|---|---|---|---|"]
        lines += [_target_row(result, judgement) for judgement in judgements]
        lines += [""]
    if link:
        lines += [f"![{settings.title}: CPU per line]({link})", ""]
    machine = ", ".join(f"{name} {value}" for name, value in result.machine.items())
    lines += [f"Measured on: {machine}.", ""]
    lines += [
        f"- **{row.title}** {row.does}. It does not {row.does_not}."
        for row in result.rows
        if row.does
    ]
    return "\n".join(lines).rstrip() + "\n"


def _sent(settings: Load) -> str:
    source = settings.source
    if source.rate:
        what = f"{source.rate:,} lines/s for {source.seconds:g} s"
    else:
        lines = source.lines_each * source.connections
        what = f"{lines:,} lines as fast as they are taken"
        if source.burst_lines:
            frozen = ", frozen in between" if source.freeze else ""
            what = (
                f"{lines:,} lines in bursts of {source.burst_lines:,}, "
                f"{source.pause_ms} ms apart{frozen}"
            )
    return (
        f"{what}, {_sizes(source)}, over {_connections(source)}, unless a row says "
        f"otherwise. Medians (lowest to highest) of runs in turn, each receiver on one core; CPU "
        f"is user + system time."
    )


def _connections(source: Source) -> str:
    return "one connection" if source.connections == 1 else f"{source.connections} connections"


def _sizes(source: Source) -> str:
    if len(source.sizes) == 1:
        return f"{source.sizes[0].bytes} bytes each"
    return "of " + ", ".join(f"{s.bytes} bytes ({s.share:.0%})" for s in source.sizes)


def table(result: Result) -> list[str]:
    """The rows of figures; columns that would be empty are left out."""
    rows = [row for row in result.rows if row.kind != "generator"]
    runs = [run for row in rows for run in row.runs]
    ceiling = next((row for row in result.rows if row.receiver == CEILING and row.runs), None)
    columns: list[Column] = [
        ("receiver", lambda row: row.title),
        ("CPU µs/line", lambda row: _spread([run.cpu_us_per_line for run in row.runs])),
    ]
    if ceiling is not None:
        alike = _sent_the_same(result)
        columns += [
            ("against the copier", lambda row: _against(row, ceiling) if alike(row) else "")
        ]
    columns += [
        ("lines/s", lambda row: f"{_median(row, 'lines_per_second'):,.0f}"),
        ("MB/s", lambda row: f"{_median(row, 'megabytes_per_second'):,.0f}"),
        ("peak MiB", lambda row: f"{max(run.peak_mib for run in row.runs):.0f}"),
    ]
    if any(run.latency for run in runs):
        columns += [_latency_column(name) for name in ("p50", "p95", "p99", "max")]
        columns += [("p99 of first and last quarter", _drift)]
    if any(run.records for run in runs):
        columns += [
            ("Kinesis records", lambda row: _count(row, "records")),
            ("their MB", lambda row: _count(row, "record_bytes", 1e6)),
        ]
    if any(run.drops for run in runs):
        columns += [("dropped", _drops)]
    lines = ["| " + " | ".join(name for name, _ in columns) + " |", "|---" * len(columns) + "|"]
    for row in rows:
        if row.absent:
            cells = [row.title, f"absent: {row.absent}", *[""] * (len(columns) - 2)]
        else:
            cells = [cell(row) for _, cell in columns]
        lines.append("| " + " | ".join(cells) + " |")
    for row in result.rows:
        if row.kind == "generator" and row.runs:
            rate = _median(row, "lines_per_second")
            lines += [
                "",
                f"The generator alone sends {rate:,.0f} lines/s to a program that only reads.",
            ]
    return lines


def _median(row: Row, measure: str) -> float:
    return Spread.of([float(getattr(run, measure)) for run in row.runs]).median


def _count(row: Row, measure: str, unit: float = 1.0) -> str:
    value = _median(row, measure)
    return f"{value / unit:,.0f}" if value else ""


def _spread(values: Sequence[float]) -> str:
    spread = Spread.of(values)
    return f"{spread.median:.3f} ({spread.low:.3f} to {spread.high:.3f})"


def _drift(row: Row) -> str:
    found = [run.latency for run in row.runs if run.latency]
    if not found:
        return ""
    early = Spread.of([latency.early_p99 for latency in found]).median
    late = Spread.of([latency.late_p99 for latency in found]).median
    return f"{early:.2f}, {late:.2f}"


def _latency_column(name: str) -> Column:
    def cell(row: Row) -> str:
        values = [getattr(run.latency, name) for run in row.runs if run.latency]
        return f"{Spread.of(values).median:.2f}" if values else ""

    return f"{name} ms", cell


def _sources(result: Result) -> dict[str, Source]:
    return {name: load.source for name, load in result.settings.rows()}


def _sent_the_same(result: Result) -> Callable[[Row], bool]:
    """Return a function that is True for rows with the copier's source."""
    sources = _sources(result)
    return lambda row: sources.get(row.receiver, result.settings.source) == result.settings.source


def _against(row: Row, ceiling: Row) -> str:
    if row is ceiling or len(row.runs) != len(ceiling.runs):
        return ""
    ours, theirs = ([run.cpu_us_per_line for run in each.runs] for each in (row, ceiling))
    return f"{paired_ratio(ours, theirs):.2f}"


def _drops(row: Row) -> str:
    reasons = sorted({reason for run in row.runs for reason in run.drops})
    told = []
    for reason in reasons:
        counts = [run.drops.get(reason, 0) for run in row.runs]
        told.append(f"{Spread.of(counts).median:,.0f} ({reason})")
    return ", ".join(told)


def _target_row(result: Result, judgement: Judgement) -> str:
    target = judgement.target
    titles = {row.receiver: row.title for row in result.rows}
    over = " + ".join(titles.get(name, name) for name in target.over)
    of = "" if target.row == OURS else f" of {titles.get(target.row, target.row)}"
    what = f"{_MEASURES[target.measure]}{of}" + (f", over that of {over}" if over else "")
    wanted = (
        f"at most {target.at_most:g}" if target.at_most is not None
        else f"at least {target.at_least:g}"
    )  # fmt: skip
    if judgement.value is None:
        return f"| {what} | {wanted} | not measured | |"
    return f"| {what} | {wanted} | {judgement.value:.3g} | {'met' if judgement.met else 'MISSED'} |"


_MEASURES: Final = {
    "cpu_us_per_line": "CPU µs/line",
    "lines_per_second": "lines/s",
    "peak_mib": "peak MiB",
    "p99_ms": "p99 ms",
    "growth_kib_per_s": "growth of resident KiB per second",
    "dropped": "lines dropped",
    "records": "Kinesis records",
    "record_bytes": "bytes in Kinesis records",
}


# -- the chart, and regressions -------------------------------------------------------------------


def svg(result: Result) -> str:
    """CPU per line as bars."""
    shown = []
    for row in result.rows:
        if row.runs and row.kind != "generator":
            spread = Spread.of([run.cpu_us_per_line for run in row.runs])
            shown.append(chart.Bar(row.title, spread.median, spread.low, spread.high, row.kind))
    return chart.bars(result.settings.title, "µs of CPU per line (less is better)", shown)


class Comparison(NamedTuple):
    """Two results side by side."""

    text: str
    compared: int
    """Rows of ours that were compared."""
    worse: int
    """Of these, how many cost more than they did."""


def compare(before: Result, after: Result, tolerance: float) -> Comparison:
    """Both results side by side, and how many rows of ours cost more than they did.

    Absolute times of two occasions don't compare on a shared machine; what is compared is our CPU
    per line divided by the copier's, of runs made in turn.
    """
    told, compared, worse = [], 0, 0
    ours = {row.receiver: row for result in (before, after) for row in result.rows}
    for row in ours.values():
        if row.kind != "ours":
            continue
        name = f"{after.scenario}, {row.title}"
        if not all(_has_runs(result, row.receiver) for result in (before, after)):
            told.append(f"{name}: not compared, as it was measured on one occasion only")
            continue
        if _sources(before).get(row.receiver) != _sources(after).get(row.receiver):
            told.append(f"{name}: not compared, as other lines were sent")
            continue
        old, new = (_ratio(result, row) for result in (before, after))
        if old is None or new is None:
            told.append(
                f"{name}: not compared, as no copier was measured beside it with the same lines"
            )
            continue
        if not (0 < old < math.inf and 0 < new < math.inf):
            told.append(f"{name}: not compared, as the clock did not tick: measure longer")
            continue
        change = new / old - 1
        compared += 1
        worse += change > tolerance
        verdict = "better" if change < -tolerance else "WORSE" if change > tolerance else "the same"
        told.append(f"{name}: {old:.2f} -> {new:.2f} times the copier ({change:+.0%}): {verdict}")
    return Comparison("\n".join(told), compared, worse)


def _has_runs(result: Result, receiver: str) -> bool:
    return any(row.receiver == receiver and row.runs for row in result.rows)


def _ratio(result: Result, row: Row) -> float | None:
    rows = {row.receiver: row.runs for row in result.rows if row.runs}
    ours, theirs = rows.get(row.receiver), rows.get(CEILING)
    if not _sent_the_same(result)(row) or not ours or not theirs or len(ours) != len(theirs):
        return None
    return paired_ratio(
        [run.cpu_us_per_line for run in ours], [run.cpu_us_per_line for run in theirs]
    )
