"""The targets of short lives, beside the results.

All are of pairs: of runs of one turn. A target holds if the interval of the median includes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from bench.kit.stats import Spread, median_interval
from bench.short_life.deliveries import INVOCATION, LONE
from bench.short_life.result import Result
from bench.short_life.settings import ALONE, BEFORE, IN_INIT, OURS, is_sure
from bench.short_life.stage import Figures

_FILE, _KINESIS = f"{OURS}-file", f"{OURS}-kinesis"
_TITLES = {"kinesis": "Kinesis", "http": "HTTP", "otlp": "OTLP"}
_SMALL, _WHOLE = "7.25", "100"
_RUST_TIMES, _RUST_MORE = 1.3, 15.0


class Judgement(NamedTuple):
    """A target and what was measured."""

    what: str
    at_most: float
    values: Sequence[float]
    """Of each pair; none where it was not measured."""

    @property
    def measured(self) -> Spread:
        """Raises ValueError where it was not."""
        return median_interval(self.values)

    @property
    def met(self) -> bool:
        """True if the interval includes the target, or is below it."""
        return self.measured.low <= self.at_most


def judge(result: Result) -> Iterator[Judgement]:
    """Yield each target that something was measured for."""
    found = (*_losses(result), *_of_kinesis(result), *_of_the_start(result))
    found = (*found, *_of_the_cost(result), *_of_deliveries(result))
    yield from (each for each in found if each.values)


def table(judged: Sequence[Judgement]) -> Iterator[str]:
    """Yield the lines of the table."""
    yield "| | wanted: at most | measured | pairs | |"
    yield "|---|---|---|---|---|"
    for each in judged:
        found = each.measured
        shown = f"{found.median:,.3g} ({found.low:,.3g} to {found.high:,.3g})"
        verdict = "met" if each.met else "MISSED"
        yield f"| {each.what} | {each.at_most:g} | {shown} | {len(each.values)} | {verdict} |"


_Value = Callable[[Figures], float]


def _pairs(result: Result, life: str, share: str, *rows: str) -> Iterator[tuple[Figures, ...]]:
    """Yield the runs of each turn in which all rows were measured."""
    yield from zip(*(result.runs(life, share, row) for row in rows), strict=False)


def _losses(result: Result) -> Iterator[Judgement]:
    found = [
        (row.sink, float(run.lines.lost))
        for condition in result.conditions
        for row in condition.rows
        for run in row.runs
        if row.name.startswith((OURS, IN_INIT))
        and is_sure(condition.life, condition.share.name, row.sink)
    ]
    lost = [lines for _, lines in found]
    sinks = " or ".join(
        _TITLES.get(sink, sink) for sink in dict.fromkeys(sink for sink, _ in found)
    )
    what = f"lines lost in a run of 3 or 8 rare or 30 busy invocations, {sinks}: the most"
    yield Judgement(what, 0.0, [max(lost)] * len(lost) if lost else [])


def _of_kinesis(result: Result) -> Iterator[Judgement]:
    for share, title, at_most in ((_WHOLE, "a whole CPU", 15.0), (_SMALL, "7.25 %", 30.0)):
        pairs = _pairs(result, "1", share, _KINESIS, _FILE)
        yield Judgement(
            f"CPU of a life with Kinesis above that with a file, ms, {title}",
            at_most,
            [ours.cpu_ms - file.cpu_ms for ours, file in pairs],
        )
    pairs = _pairs(result, "1", _WHOLE, _KINESIS, _FILE)
    more = [ours.rss_mb - file.rss_mb for ours, file in pairs]
    yield Judgement("memory with Kinesis above that with a file, MB", 6.0, more)


def _of_the_start(result: Result) -> Iterator[Judgement]:
    added = [
        (ours.init_ms - alone.init_ms) - _RUST_TIMES * (rust.init_ms - alone.init_ms)
        for ours, rust, alone in _pairs(result, "1", _SMALL, _FILE, "rust", ALONE)
    ]
    what = f"added to init beyond {_RUST_TIMES:g} times what Rust adds, ms, 7.25 %"
    yield Judgement(what, _RUST_MORE, added)
    waits = [
        ours.first_wait_ms - alone.first_wait_ms
        for ours, alone in _pairs(result, "1", _SMALL, _FILE, ALONE)
    ]
    yield Judgement("the first caller waits longer, ms, 7.25 %", 10.0, waits)
    start: _Value = lambda run: run.init_ms + run.first_ms  # noqa: E731 - one of several below
    what = "init and first billed duration against before, 7.25 %"
    yield Judgement(what, 0.75, _against_before(result, "1", _SMALL, start))


def _of_the_cost(result: Result) -> Iterator[Judgement]:
    what = "CPU of a life with a file against before, a whole CPU"
    yield Judgement(what, 0.7, _against_before(result, "1", _WHOLE, lambda run: run.cpu_ms))
    for row, title, at_most in ((_FILE, "a file", 21.0), (_KINESIS, "Kinesis", 27.0)):
        values = [run.rss_mb for run in result.runs("1", _WHOLE, row)]
        yield Judgement(f"memory with {title}, MB", at_most, values)
    later = [
        ours.later_ms - alone.later_ms for ours, alone in _pairs(result, "3", _WHOLE, _FILE, ALONE)
    ]
    yield Judgement("added to a later rare invocation, ms, a whole CPU", 32.0, later)


def _of_deliveries(result: Result) -> Iterator[Judgement]:
    rows = {(each.kind, each.name): each.cpu_us for each in result.deliveries}
    for what, at_most, kind, name in (
        ("a lone delivery to a file", 0.5, LONE, "file"),
        ("a rare invocation of 6 lines", 0.7, INVOCATION, f"{OURS}-file"),
    ):
        ours, before = (rows.get((kind, each), []) for each in (name, f"{BEFORE}-file"))
        ratios = [a / b for a, b in zip(ours, before, strict=False)]
        yield Judgement(f"CPU of {what} against before", at_most, ratios)


def _against_before(result: Result, life: str, share: str, value: _Value) -> list[float]:
    pairs = _pairs(result, life, share, _FILE, f"{BEFORE}-file")
    return [value(ours) / value(before) for ours, before in pairs]
