"""Measures what telemetryd adds to an invocation, by flush strategy, on the local Lambda.

    python -m bench.invoke [--repeat N] [--busy N] [--rare N] [--layer ZIP] [--out FOLDER]

There are two figures for each invocation. "Added" is the time from the end of the runtime's work
until every extension has asked for `next`. Then the environment can freeze. This is the span
`extensionOverhead`, which is billed. The caller's figure is the time from the call to its response.
A busy function is called again as soon as the response has arrived. So its caller also waits for
the time that was added to the invocation before. A rare function is called every `GAP_SECONDS`.

In each repetition every strategy has its own environment. So has a function without an extension,
and one with the least extension possible (`bench/_least_extension.py`). Any extension adds at least
that on this platform. Busy functions run one after the other. Rare ones are called in turn, while
the others are frozen. Runtime and extension share one core, and the platform has another. A run
counts only if the sink's file has every line of the function and every platform event once, and the
ledger balances.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Final, Literal, get_args, get_type_hints

import msgspec
from msgspec import Meta

from bench.coldstart.subjects import unpack
from bench.invoke.environment import EXTENSION, FUNCTION_CORE, Run, Stage, environment
from bench.kit import chart, files
from bench.kit.cores import on_core
from bench.kit.errors import LossError
from bench.kit.machine import describe
from bench.kit.progress import Progress
from bench.kit.stats import Spread
from telemetryd.config import Flush
from telemetryd.core.lifecycle import BUSY_GAP_SECONDS, BUSY_RUN

ROOT: Final = Path(__file__).parents[2]
NAME: Final = "invoke"
STRATEGIES: Final[tuple[str, ...]] = get_args(get_type_hints(Flush)["strategy"])
ALONE: Final = "no extension"
LEAST: Final = "the least extension"
GAP_SECONDS: Final = 1.25 * BUSY_GAP_SECONDS
PLATFORM_CORE: Final = 1
EXIT_LOSS: Final = 70
_WARM_UP: Final = {"busy": 4 * BUSY_RUN, "rare": 1}
"""Invocations that do not count: the cold start, and those until `auto` sees that it is busy."""

Load = Literal["busy", "rare"]
Show = Callable[[int, int, str], None]
"""Called with the runs done, how many there will be, and what the last one was."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The amount of measurements."""

    repeat: Annotated[int, Meta(ge=1)] = 5
    """Environments of each kind."""
    busy: Annotated[int, Meta(ge=0)] = 200
    """Invocations that count in each environment of a busy function; 0: leave them out."""
    rare: Annotated[int, Meta(ge=0)] = 6
    """The same for a rare one."""
    lines: Annotated[int, Meta(ge=0)] = 10
    """Lines the function prints in each invocation."""
    strategies: tuple[str, ...] = STRATEGIES


QUICK: Final = Settings(repeat=2, busy=50, rare=2)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One strategy under one load. Runs with the same place in all rows of a load are a pair."""

    load: Load
    subject: str
    """The strategy, `ALONE` or `LEAST`."""
    runs: list[Run]

    @property
    def added_ms(self) -> Spread:
        """Of the runs' medians."""
        return Spread.of([statistics.median(run.added_ms) for run in self.runs])

    @property
    def caller_ms(self) -> Spread:
        """Of the runs' medians."""
        return Spread.of([statistics.median(run.caller_ms) for run in self.runs])

    @property
    def all_added_ms(self) -> list[float]:
        """Of all invocations of all runs."""
        return [value for run in self.runs for value in run.added_ms]

    def longer_ms(self, alone: Row) -> Spread:
        """Return the additional wait of the caller, against no extension, by pairs of runs."""
        return Spread.of(
            [
                statistics.median(ours.caller_ms) - statistics.median(theirs.caller_ms)
                for ours, theirs in zip(self.runs, alone.runs, strict=True)
            ]
        )


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """All that was measured."""

    settings: Settings
    machine: dict[str, str]
    rows: list[Row]


# -- measuring ------------------------------------------------------------------------------------


def measure_all(
    settings: Settings | None = None,
    *,
    extension: Path | None = None,
    variables: Mapping[str, str] | None = None,
    progress: Show = lambda *_: None,
) -> Result:
    """Measure; takes minutes. Raises LossError where a line is missing.

    `extension` is the executable, called `telemetryd`; by default that of this Python. `variables`
    are further environment variables for it. Must not be called from a running event loop.
    """
    measuring = _Measuring(
        settings or Settings(),
        extension or Path(sys.prefix, "bin", EXTENSION),
        variables or {},
        progress,
    )
    with _on_platform_core():
        for number in range(measuring.settings.repeat):
            asyncio.run(measuring.repetition(number))
    return Result(settings=measuring.settings, machine=describe(), rows=measuring.rows)


class _Measuring:
    def __init__(
        self, settings: Settings, extension: Path, variables: Mapping[str, str], progress: Show
    ) -> None:
        self.settings = settings
        self._subjects = (ALONE, LEAST, *settings.strategies)
        self._extension = extension
        self._variables = variables
        self._progress = progress
        self._done = 0
        self.rows: list[Row] = []
        if settings.busy:
            self.rows += [Row(load="busy", subject=each, runs=[]) for each in self._subjects]
        if settings.rare:
            self.rows += [Row(load="rare", subject=each, runs=[]) for each in self._subjects]

    async def repetition(self, number: int) -> None:
        at = number % len(self._subjects)  # none is always the first
        order = self._subjects[at:] + self._subjects[:at]
        if self.settings.busy:
            await self._busy(order)
        if self.settings.rare:
            await self._rare(order)

    async def _busy(self, order: Sequence[str]) -> None:
        for subject in order:
            async with self._stage(subject) as stage:
                await stage.call_back_to_back(_WARM_UP["busy"], counts=False)
                await stage.call_back_to_back(self.settings.busy, counts=True)
            self._note("busy", subject, stage.run)

    async def _rare(self, order: Sequence[str]) -> None:
        async with AsyncExitStack() as stack:
            stages = {each: await stack.enter_async_context(self._stage(each)) for each in order}
            for turn in range(_WARM_UP["rare"] + self.settings.rare):
                for stage in stages.values():
                    await stage.call(counts=turn >= _WARM_UP["rare"])
                    await asyncio.sleep(GAP_SECONDS / len(stages))
        for subject, stage in stages.items():
            self._note("rare", subject, stage.run)

    def _stage(self, subject: str) -> AbstractAsyncContextManager[Stage]:
        lines = self.settings.lines
        if subject == ALONE:
            return environment(None, {}, lines=lines, judged=False)
        if subject == LEAST:
            command = [sys.executable, "-m", "bench._least_extension", EXTENSION]
            return environment(command, {"PYTHONPATH": str(ROOT)}, lines=lines, judged=False)
        variables = {"TELEMETRYD_FLUSH__STRATEGY": subject, **self._variables}
        return environment([str(self._extension)], variables, lines=lines, judged=True)

    def _note(self, load: Load, subject: str, run: Run) -> None:
        self._done += 1
        row = next(row for row in self.rows if (row.load, row.subject) == (load, subject))
        row.runs.append(run)
        total = len(self.rows) * self.settings.repeat
        self._progress(self._done, total, f"{load}, {subject}")


@contextmanager
def _on_platform_core() -> Iterator[None]:
    """Keep this thread, which is the platform, off the function's core if there are two."""
    allowed = os.sched_getaffinity(0)
    if on_core(FUNCTION_CORE):
        os.sched_setaffinity(0, {PLATFORM_CORE})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


# -- showing --------------------------------------------------------------------------------------


def markdown(result: Result) -> str:
    """Return the tables, with the method."""
    settings = result.settings
    lines = [
        "## What telemetryd adds to an invocation",
        "",
        (
            f"`python -m bench.invoke`: the local Lambda, a Python function that prints "
            f"{settings.lines} lines in each invocation, a file sink. Milliseconds; medians of "
            f"{settings.repeat} runs in turn (lowest to highest). Added is the time after the "
            f"runtime was done until `next` was asked for, and so until the environment can "
            f"freeze; mean and longest are those of all invocations. The caller's time is that "
            f"from the call to its answer."
        ),
    ]
    for load, told in (
        ("busy", f"called again at once, {settings.busy} times in each run"),
        ("rare", f"called every {GAP_SECONDS:g} seconds, {settings.rare} times in each run"),
    ):
        rows = [row for row in result.rows if row.load == load]
        if not rows:
            continue
        lines += [
            "",
            f"A {load} function, {told}:",
            "",
            "| `flush.strategy` | added | mean | longest | the caller's | longer by |",
            "|---|---|---|---|---|---|",
            *(_table_row(row, rows[0]) for row in rows),
        ]
    machine = ", ".join(f"{name} {value}" for name, value in result.machine.items())
    lines += [
        "",
        (
            "What a strategy adds more rarely than a run is long, as `auto` does once in "
            "`flush.max_age_ms` and `interval` once in `flush.interval_ms`, a busy function's "
            "figures do not show."
        ),
        "",
        f"Measured on: {machine}.",
    ]
    return "\n".join(lines) + "\n"


def _table_row(row: Row, alone: Row) -> str:
    everything = row.all_added_ms
    longer = "" if row is alone else _ms(row.longer_ms(alone))
    return (
        f"| {row.subject} | {_ms(row.added_ms)} | {statistics.fmean(everything):.2f} "
        f"| {max(everything):.2f} | {_ms(row.caller_ms)} | {longer} |"
    )


def _ms(spread: Spread) -> str:
    return f"{spread.median:.2f} ({spread.low:.2f} to {spread.high:.2f})"


def svg(result: Result) -> str:
    """Draw the time added to an invocation as bars, busy functions first."""
    shown = []
    for row in result.rows:
        spread = row.added_ms
        kind = "ours" if row.subject in STRATEGIES else "ceiling"
        label = f"{row.load}, {row.subject}"
        shown.append(chart.Bar(label, spread.median, spread.low, spread.high, kind))
    title = "What telemetryd adds to an invocation"
    return chart.bars(title, "ms (less is better)", shown, in_order=True)


def write(result: Result, folder: Path) -> None:
    """Write `invoke.json`, `invoke.md` and `invoke.svg`."""
    files.write(NAME, folder, json=result, markdown=markdown(result), svg=svg(result))


def main() -> int:
    """Measure and print the tables. Return the exit status."""
    parser = argparse.ArgumentParser(
        prog="bench.invoke",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    usual = Settings()
    parser.add_argument("--repeat", type=int, default=usual.repeat, metavar="N", help="runs")
    parser.add_argument("--busy", type=int, default=usual.busy, metavar="N", help="calls at once")
    parser.add_argument("--rare", type=int, default=usual.rare, metavar="N", help="rare calls")
    parser.add_argument("--lines", type=int, default=usual.lines, metavar="N", help="lines a call")
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=STRATEGIES)
    parser.add_argument("--layer", type=Path, metavar="ZIP", help="measure the layer's executable")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write JSON, Markdown and chart")
    options = parser.parse_args()
    chosen = {name: getattr(options, name) for name in Settings.__struct_fields__}
    settings = msgspec.convert(chosen, Settings)
    with tempfile.TemporaryDirectory() as place:
        try:
            result = measure_all(
                settings,
                extension=unpack(options.layer, Path(place)) if options.layer else None,
                progress=Progress(NAME).show,
            )
        except LossError as error:
            print(f"bench: a run does not count: {error}", file=sys.stderr)
            return EXIT_LOSS
    print(markdown(result))
    if options.out:
        write(result, options.out)
    return 0
