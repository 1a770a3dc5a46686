"""The result of `bench.coldstart`: Markdown tables and a chart for people, JSON for programs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench.coldstart.init import Init
from bench.coldstart.start import Start
from bench.coldstart.subjects import LAYER, NAMES
from bench.kit import chart, files
from bench.kit.stats import Spread

NAME: Final = "coldstart"


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The choice of measurements."""

    layer: Path = LAYER
    runs: int = 15
    limited_runs: int = 5
    """Runs with a share of the CPU: these are slow, and what the share takes is no noise."""
    only: tuple[str, ...] = NAMES
    """Names of subjects."""
    shares: tuple[float | None, ...] = (None, 29.0, 7.25)
    """Per cent of one CPU; None is all there is."""
    caches: tuple[bool, ...] = (False, True)
    """True for starts with a cold page cache."""
    init: bool = True
    kinesis: bool = True
    instructions: bool = True


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One subject under one condition."""

    name: str
    title: str
    starts: list[Start]
    inits: list[Init] = []


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """One combination of CPU share, page cache and sink."""

    share: float | None
    cold: bool
    sink: str = "file"
    rows: list[Row]
    alone: list[Init] = []
    """Without any extension, in turn with the others."""


class Coldstart(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was measured."""

    machine: dict[str, str]
    options: Options
    instructions: dict[str, float]
    """Millions, by subject."""
    conditions: list[Condition]
    absent: dict[str, str]
    """The reason why there is no figure, by measurement."""


_Column = tuple[str, Callable[[Start], float]]
_TIMES: Final[tuple[_Column, ...]] = (
    ("register ms", lambda start: start.register_ms),
    ("`next` ms", lambda start: start.next_ms),
    ("up ms", lambda start: start.up_ms),
)
_CPU: Final[tuple[_Column, ...]] = (
    ("CPU to `next` ms", lambda start: start.next_cpu_ms),
    ("CPU to up ms", lambda start: start.up_cpu_ms),
)
_IDLE: Final[tuple[_Column, ...]] = (
    ("RSS idle MB", lambda start: start.rss_mb),
    ("exit ms", lambda start: start.exit_ms),
)
_DISK: Final[tuple[_Column, ...]] = (
    ("read to `next` MB", lambda start: start.next_read_mb),
    ("disk faults", lambda start: start.next_faults),
)
_LATER: Final[tuple[_Column, ...]] = (
    ("CPU after up ms", lambda start: start.later_cpu_ms),
    ("RSS idle MB", lambda start: start.rss_mb),
)


def described(share: float | None, *, cold: bool, sink: str = "file") -> str:
    """A condition in words."""
    memory = {29.0: " (a 512-MB function)", 7.25: " (a 128-MB function)"}.get(share or 0, "")
    cpu = "whole CPU" if share is None else f"{share:g} % of a CPU{memory}"
    if sink == "kinesis":
        return f"{cpu}, a Kinesis sink with its client"
    return f"{cpu}, {'cold' if cold else 'warm'} page cache"


def write(result: Coldstart, folder: Path) -> None:
    """Write the result's JSON, Markdown and chart."""
    files.write(NAME, folder, json=result, markdown=markdown(result), svg=svg(result))


def read(path: Path) -> Coldstart:
    """Read a result that `write` wrote. Raises OSError, msgspec.ValidationError."""
    return msgspec.json.decode(
        path.read_bytes(), type=Coldstart, dec_hook=lambda kind, value: kind(value)
    )


def markdown(result: Coldstart) -> str:
    """A table for each condition."""
    options = result.options
    lines = [
        "## Cold start",
        "",
        (
            f"`python -m bench.coldstart`: medians (least) of {options.runs} starts, "
            f"{options.limited_runs} with a share of a CPU, subjects in turn. Zero is the moment "
            "before `execve`. The function's runtime starts after every `register`; init ends "
            "after every `next`."
        ),
        "",
    ]
    for condition in result.conditions:
        lines += [f"### {_title(condition)}", "", *_table(condition, result), ""]
    lines += [f"- no figure for {what}: {why}" for what, why in result.absent.items()]
    machine = ", ".join(f"{name} {value}" for name, value in result.machine.items())
    return "\n".join([*lines, f"Measured on: {machine}."]) + "\n"


def _title(condition: Condition) -> str:
    text = described(condition.share, cold=condition.cold, sink=condition.sink)
    return text[0].upper() + text[1:]


def _table(condition: Condition, result: Coldstart) -> Iterator[str]:
    plain = condition.share is None and condition.sink == "file"
    columns: tuple[_Column, ...] = (*_TIMES, *_CPU)
    if condition.sink == "kinesis":
        columns = (*_TIMES, *_LATER)
    elif condition.cold:
        columns += _DISK
    elif plain:
        columns += _IDLE
    heads = [head for head, _ in columns]
    counted = result.instructions if plain and not condition.cold else {}
    if counted:
        heads.append("M instructions")
    if condition.alone:
        heads += ["init ms", "added to init ms", "first response ms", "first duration ms"]
    yield "| | " + " | ".join(heads) + " |"
    yield "|---" * (len(heads) + 1) + "|"
    for row in condition.rows:
        cells = [cell([value(start) for start in row.starts]) for _, value in columns]
        if counted:
            cells.append(f"{counted[row.name]:,.0f}" if row.name in counted else "-")
        if condition.alone:
            cells += _init_cells(row.inits, condition.alone)
        yield f"| {row.title} | " + " | ".join(cells) + " |"
    if condition.alone:
        cells = [""] * (len(heads) - 4) + _init_cells(condition.alone, [])
        yield "| no extension | " + " | ".join(cells) + " |"


def _init_cells(inits: Sequence[Init], alone: Sequence[Init]) -> list[str]:
    init = [each.init_ms for each in inits]
    more = f"{added(init, [each.init_ms for each in alone]):.1f}" if alone else ""
    response, duration = zip(*((i.response_ms, i.duration_ms) for i in inits), strict=True)
    return [cell(init), more, cell(response), cell(duration)]


def cell(values: Sequence[float]) -> str:
    """`median (least)`."""
    spread = Spread.of(values)
    places = 0 if spread.median >= 200 else 1
    return f"{spread.median:,.{places}f} ({spread.low:,.{places}f})"


def added(inits: Sequence[float], alone: Sequence[float]) -> float:
    """The median of the differences of runs made one after the other."""
    return statistics.median(a - b for a, b in zip(inits, alone, strict=True))


# -- the chart ------------------------------------------------------------------------------------


def svg(result: Coldstart) -> str:
    """For each condition, how long each subject takes to register, to `next` and to be up."""
    panels = [
        chart.Panel(
            _title(condition),
            [row.title.replace("`", "") for row in condition.rows],
            {
                name.removesuffix(" ms").replace("`", ""): [
                    statistics.median(value(start) for start in row.starts)
                    for row in condition.rows
                ]
                for name, value in _TIMES
            },
        )
        for condition in result.conditions
        if condition.sink == "file"
    ]
    return chart.nested_bars("Cold start", "ms from execve (medians)", panels)
