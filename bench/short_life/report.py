"""The result of `bench.short_life`: Markdown tables and a chart for people, JSON for programs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench.kit import chart, files
from bench.kit.stats import Spread
from bench.short_life import targets
from bench.short_life.deliveries import Delivery
from bench.short_life.result import Condition, Result, Row, spread
from bench.short_life.settings import ALONE, GAP_SECONDS, PEERS
from bench.short_life.stage import Figures

NAME: Final = "short-life"


# -- the tables -----------------------------------------------------------------------------------


_Value = Callable[[Figures], float]
_COLUMNS: Final[tuple[tuple[str, _Value, int], ...]] = (
    ("init ms", lambda run: run.init_ms, 0),
    ("first caller waits ms", lambda run: run.first_wait_ms, 1),
    ("first billed ms", lambda run: run.first_ms, 1),
    ("later billed ms", lambda run: run.later_ms, 1),
)
"""Each also as what is added to a function without an extension."""
_TEXT: Final = """\
`python -m bench short-life`: the local Lambda, a Python function on AWS's runtime client that
prints lines in each invocation. Rare ones are called every {gap:g} seconds, while environments of
the others live and are frozen; busy ones are called again as soon as there is an answer. Subjects
take turns; "added" is the median of the differences to the life without an extension of the same
turn. In parentheses: from 6 runs on the 95 % interval of the median, else lowest to highest. Lines
are those that were printed and those the platform sent, and are compared with what was read back:
from the file, the stream or the log group (a strict service that checks signatures and limits,
over TLS with an authority of its own), or, of EMF, as invocations reported. CPU is the user and
system time of the extension's processes from their start to their end, of which entering the
control group is a millisecond for each; memory is their highest resident set."""


def markdown(result: Result) -> str:
    """Return the tables, with the method."""
    lines = ["## What a short life costs", "", _TEXT.format(gap=GAP_SECONDS), ""]
    for condition in result.conditions:
        lines += [f"### {condition.title}", "", *table(condition), ""]
    if judged := list(targets.judge(result)):
        lines += ["### Targets", "", *targets.table(judged), ""]
    if result.deliveries:
        lines += ["### A delivery that comes alone", "", *delivery_table(result.deliveries), ""]
    lines += [f"- no figure for {what}: {why}" for what, why in result.absent.items()]
    lines += [""] if result.absent else []
    for subject in dict.fromkeys(each.subject for each in result.conditions):
        lines += [f"telemetryd is {subject}."]
    machine = ", ".join(f"{name} {value}" for name, value in result.machine.items())
    return "\n".join([*lines, f"Measured on: {machine}."]) + "\n"


def table(condition: Condition) -> Iterator[str]:
    """Yield the lines of a condition's table; columns that would be empty are left out."""
    alone = condition.row(ALONE)
    columns = [
        column
        for column in _COLUMNS
        if any(column[1](run) for r in condition.rows for run in r.runs)
    ]
    heads = ["runs", "printed", "lost", "twice"]
    for head, _, _ in columns:
        heads += [head, "added"] if alone else [head]
    heads += ["CPU of the life ms", "peak MB", "ended in time", "with a ledger"]
    yield "| | " + " | ".join(heads) + " |"
    yield "|---" * (len(heads) + 1) + "|"
    for row in condition.rows:
        if row.runs:
            yield "| " + " | ".join([row.title, *_cells(row, alone, columns)]) + " |"
    for row in condition.rows:
        if why := next((run.failed for run in row.runs if run.failed), ""):
            yield f"\n{row.title}: {why}"


def _cells(
    row: Row, alone: Row | None, columns: Sequence[tuple[str, _Value, int]]
) -> Iterator[str]:
    runs, bare = row.runs, row.name == ALONE
    yield str(len(runs))
    yield f"{statistics.median(run.lines.printed for run in runs):,.0f}"
    yield "" if bare else _lost(runs)
    yield "" if bare else f"{sum(run.lines.doubled for run in runs):,}"
    for _, value, places in columns:
        yield spread([value(run) for run in runs], places)
        if alone is not None:
            pairs = zip(runs, alone.runs, strict=False)
            yield "" if bare else spread([value(a) - value(b) for a, b in pairs], places)
    if bare:
        yield from ("", "", "", "")
        return
    yield spread([run.cpu_ms for run in runs], 1)
    yield f"{max(run.rss_mb for run in runs):.1f}"
    yield _of(sum(run.ended for run in runs), runs)
    yield "" if row.name in PEERS else _of(sum(run.ledger for run in runs), runs)


def _lost(runs: Sequence[Figures]) -> str:
    lossy = [run.lines.lost for run in runs if run.lines.lost]
    saved = sum(run.lines.in_log for run in runs)
    text = f"{sum(lossy):,} in {_of(len(lossy), runs)}" if lossy else "0"
    return f"{text} ({saved:,} printed to the log)" if saved else text


def _of(count: int, runs: Sequence[Figures]) -> str:
    return f"{count} of {len(runs)}"


def delivery_table(deliveries: Sequence[Delivery]) -> Iterator[str]:
    """Yield the lines of the table of deliveries that come alone."""
    yield "| µs of CPU | runs | median | against the copier |"
    yield "|---|---|---|---|"
    copiers = {each.kind: each.cpu_us for each in deliveries if each.is_yardstick}
    for each in deliveries:
        against = ""
        copier = copiers.get(each.kind, [])
        if not each.is_yardstick and len(copier) == len(each.cpu_us) and all(copier):
            ratios = [ours / theirs for ours, theirs in zip(each.cpu_us, copier, strict=True)]
            against = spread(ratios, 1)
        yield (
            f"| {each.kind}: {each.title} | {len(each.cpu_us)} | {spread(each.cpu_us, 0)} "
            f"| {against} |"
        )


# -- the chart, and files -------------------------------------------------------------------------


def svg(result: Result) -> str:
    """Draw the extension's CPU of each life, with the same share throughout."""
    panels = []
    for condition in result.conditions:
        rows = [row for row in condition.rows if row.runs and row.name != ALONE]
        if rows and condition.share.init == condition.share.then:
            values = [statistics.median(run.cpu_ms for run in row.runs) for row in rows]
            labels = [row.title for row in rows]
            panels.append(chart.Panel(condition.title, labels, {"CPU of the extension": values}))
    if not panels:
        spreads = [(each, Spread.of(each.cpu_us)) for each in result.deliveries]
        bars = [
            chart.Bar(f"{each.kind}: {each.title}", found.median, found.low, found.high)
            for each, found in spreads
        ]
        return chart.bars("A delivery that comes alone", "µs of CPU", bars, in_order=True)
    return chart.nested_bars("What a short life costs", "ms of CPU (medians)", panels)


def read(path: Path) -> Result:
    """Read a result that `write` wrote. Raises OSError, msgspec.ValidationError."""
    return msgspec.json.decode(path.read_bytes(), type=Result)


def write(result: Result, folder: Path, name: str = NAME) -> None:
    """Write `short-life.json`, `.md` and `.svg`."""
    files.write(name, folder, json=result, markdown=markdown(result), svg=svg(result))
