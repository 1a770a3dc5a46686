"""Writes lives into pages: the cost of an environment and of a line, and the break-even.

From `short-life.json`, and from the results that have a figure per line: `ingest-file.json`, where
every receiver writes a file, `kinesis.json` and `post.json`.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from bench.load import report as load_report
from bench.short_life import report, targets
from bench.short_life.result import Result, spread
from bench.short_life.settings import ALONE, BEFORE, GAP_SECONDS, IN_INIT, OURS, PEERS
from bench.short_life.stage import Figures

PART: Final = "short-life"
"""The mark for the table in a page."""
CHANGES: Final = "short-life-changes"
"""The same for a layer beside the one before it, of the same turns (`--against`)."""
DELIVERIES: Final = "short-life-deliveries"
"""The same for deliveries that come alone."""
TARGETS: Final = "short-life-targets"
"""The same for what was wanted beside what was measured."""
LOSSES: Final = "short-life-losses"
"""The same for the lines that were lost, in all lives and with all shares."""
POSTS: Final = "short-life-posts"
"""The same for sinks that POST, and the name of their results (`--name`)."""
_LOSSES_OF: Final = ("file", "emf", "kinesis", "logs")
_WHOLE: Final = "100"
_SMALL: Final = "7.25"


class _Subject(NamedTuple):
    """The source of a row's figures."""

    row: str
    per_line: tuple[str, str]
    """A result, and its row: CPU per line."""


_SUBJECTS: Final = (
    _Subject(f"{OURS}-file", ("ingest-file", "telemetryd")),
    _Subject(f"{OURS}-kinesis", ("kinesis", "ndjson + zstd")),
    _Subject(f"{OURS}-http", ("post", "http, ndjson")),
    _Subject(f"{OURS}-otlp", ("post-otlp", "otlp, logs")),
    _Subject(f"{IN_INIT}-file", ("ingest-file", "telemetryd")),
    _Subject(f"{IN_INIT}-kinesis", ("kinesis", "ndjson + zstd")),
    _Subject(f"{IN_INIT}-http", ("post", "http, ndjson")),
    _Subject("rust", ("ingest-file", "rust")),
    _Subject("go-extension", ("ingest-file", "go-extension")),
)


class Cost(NamedTuple):
    """The cost of one subject."""

    title: str
    environment_ms: float
    """CPU of a whole life with one invocation."""
    line_us: float
    """CPU of a line."""


def break_even(ours: Cost, theirs: Cost) -> float | None:
    """Return from how many lines an environment on `ours` is cheaper; None: never."""
    gained_us = theirs.line_us - ours.line_us
    dearer_us = 1000 * (ours.environment_ms - theirs.environment_ms)
    if gained_us <= 0:
        return None if dearer_us > 0 else 0.0
    return max(dearer_us / gained_us, 0.0)


def fill(name: str, results: Path) -> list[str]:
    """Return the lines of the part `name`. Raises OSError where a result is missing."""
    if name == POSTS:
        return list(_posts(report.read(results / f"{POSTS}.json")))
    result = report.read(results / f"{report.NAME}.json")
    if name == CHANGES:
        return list(_changes(result))
    if name == LOSSES:
        return list(_losses(result))
    if name == DELIVERIES:
        return list(report.delivery_table(result.deliveries))
    if name == TARGETS:
        return list(targets.table(list(targets.judge(result))))
    return list(_table(result, results))


def _added(
    result: Result, life: str, share: str, row: str, value: Callable[[Figures], float]
) -> list[float]:
    """Return what is added to the function without an extension, pair by pair."""
    runs, alone = (result.runs(life, share, name) for name in (row, ALONE))
    return _differences(runs, alone, value)


def _differences(
    runs: Sequence[Figures], others: Sequence[Figures], value: Callable[[Figures], float]
) -> list[float]:
    return [value(a) - value(b) for a, b in zip(runs, others, strict=False)]


def _per_line(subject: _Subject, results: Path) -> float | None:
    name, receiver = subject.per_line
    path = results / f"{name}.json"
    rows = load_report.read(path).rows
    runs = next((row.runs for row in rows if row.receiver == receiver), [])
    return statistics.median(run.cpu_us_per_line for run in runs) if runs else None


def _table(result: Result, results: Path) -> Iterator[str]:
    yield (
        "| | CPU of a life ms | CPU per 1,000 lines ms | peak MB | init longer by ms, 7.25 % "
        "| first caller waits longer by ms | first billed longer by ms | lines lost, 3 rare |"
    )
    yield "|---" * 8 + "|"
    costs: dict[str, Cost] = {}
    for subject in _SUBJECTS:
        runs = result.runs("1", _WHOLE, subject.row)
        small = result.runs("1", _SMALL, subject.row)
        line = _per_line(subject, results) if runs or small else None
        if line is None:
            continue
        title = _title(result, subject.row)
        if runs:
            cpu_ms = statistics.median(run.cpu_ms for run in runs)
            costs[subject.row] = Cost(title, cpu_ms, line)
        cells = [
            title,
            spread([run.cpu_ms for run in runs], 1),
            f"{line:.2f}",
            f"{max(run.rss_mb for run in runs or small):.0f}",
            *(
                spread(_added(result, "1", _SMALL, subject.row, value), 0)
                for value in (_init, _first_wait, _first_billed)
            ),
            _lost(result.runs("3", _SMALL, subject.row)),
        ]
        yield "| " + " | ".join(cells) + " |"
    yield ""
    yield from _break_even_lines(costs)
    yield ""
    yield (
        f"`python -m bench short-life`: lives on the local Lambda, each with one invocation (rare "
        f"ones come every {GAP_SECONDS:g} seconds), the first columns with a whole CPU, the others "
        f"with the 7.25 % that a 128-MB function has, beside the function without an extension. "
        f'"In the init" is `lambda.start = "init"`. '
        f"CPU per line is that of `ingest-file`, `kinesis` and `post`. {_machine(result)}"
    )


def _losses(result: Result) -> Iterator[str]:
    """Yield a row for each life and share, with a cell for each sink that was measured."""
    wanted = (*(f"{OURS}-{sink}" for sink in _LOSSES_OF), *PEERS)
    measured = {row.name for each in result.conditions for row in each.rows if row.runs}
    names = [name for name in wanted if name in measured]
    yield "| lines lost | runs | " + " | ".join(_title(result, name) for name in names) + " |"
    yield "|---" * (len(names) + 2) + "|"
    for condition in result.conditions:
        rows = [condition.row(name) for name in names]
        found = [row.runs if row else [] for row in rows]
        counts = sorted({len(runs) for runs in found if runs}, reverse=True)
        if counts:
            cells = [condition.title, " or ".join(map(str, counts)), *map(_lost, found)]
            yield "| " + " | ".join(cells) + " |"


def _posts(result: Result) -> Iterator[str]:
    yield "| | lines lost | twice | first billed longer by ms | CPU of the life ms | peak MB |"
    yield "|---" * 6 + "|"
    for condition in result.conditions:
        alone = condition.row(ALONE)
        for row in condition.rows:
            if row.name == ALONE or not row.runs:
                continue
            pairs = _differences(row.runs, alone.runs if alone else [], _first_billed)
            cells = [
                f"{condition.title}: {row.title}",
                _lost(row.runs),
                f"{sum(run.lines.doubled for run in row.runs):,}",
                spread(pairs, 0),
                spread([run.cpu_ms for run in row.runs], 0),
                f"{max(run.rss_mb for run in row.runs):.0f}",
            ]
            yield "| " + " | ".join(cells) + " |"
    yield ""
    yield f"`python -m bench short-life --name {POSTS}`, over TLS. {_machine(result)}"


def _title(result: Result, name: str) -> str:
    rows = (condition.row(name) for condition in result.conditions)
    return next((row.title for row in rows if row), name)


def _init(run: Figures) -> float:
    return run.init_ms


def _first_wait(run: Figures) -> float:
    return run.first_wait_ms


def _first_billed(run: Figures) -> float:
    return run.first_ms


def _lost(runs: list[Figures]) -> str:
    if not runs:
        return ""
    lost = sum(run.lines.lost for run in runs)
    return f"{lost:,} of {sum(run.lines.printed for run in runs):,}"


def _break_even_lines(costs: dict[str, Cost]) -> Iterator[str]:
    for ours in (cost for name, cost in costs.items() if name.startswith(OURS)):
        told = [
            f"{_lines(break_even(ours, theirs))} ({theirs.title})"
            for name, theirs in costs.items()
            if name in PEERS
        ]
        if told:
            yield f"- Break-even of {ours.title}, in lines per environment: {', '.join(told)}."


def _lines(count: float | None) -> str:
    return "never" if count is None else f"{count:,.0f}"


def _machine(result: Result) -> str:
    machine = result.machine
    return f"{machine['processor']}, {machine['cores']} cores, {machine['system']}."


_CHANGED: Final[dict[str, Callable[[Figures], float]]] = {
    "init longer by ms": _init,
    "first billed longer by ms": _first_billed,
}


def _changes(result: Result) -> Iterator[str]:
    """Yield what was, beside what is, where both were measured in the same turns."""
    heads = ("lines lost", *_CHANGED, "CPU of the life ms", "peak MB")
    yield f"| | {' | '.join(heads)} |"
    yield "|---" * (len(heads) + 1) + "|"
    for condition in result.conditions:
        for row in condition.rows:
            old = condition.row(f"{BEFORE}-{row.sink}")
            if not (row.name.startswith(OURS) and row.runs and old is not None and old.runs):
                continue
            alone = condition.row(ALONE)
            bare = alone.runs if alone else []
            pairs = [
                tuple(_lost(each.runs) for each in (old, row)),
                *(
                    tuple(spread(_differences(each.runs, bare, value), 0) for each in (old, row))
                    for value in _CHANGED.values()
                ),
                tuple(spread([run.cpu_ms for run in each.runs], 0) for each in (old, row)),
                tuple(f"{max(run.rss_mb for run in each.runs):.0f}" for each in (old, row)),
            ]
            cells = " | ".join(" -> ".join(pair) for pair in pairs)
            yield f"| {condition.title}: {row.title} | {cells} |"
