"""The tables of a fleet, as Markdown for people and as JSON for programs."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from bench.scale import fleet as arithmetic
from bench.scale import packing as packing_cases
from bench.scale import prices as price_list
from bench.scale.fleet import Fleet, Load, Spread
from bench.scale.packing import NAME, Result, Row
from bench.scale.quotas import QUOTAS, is_reached

MIB: Final = 1024**2
PART: Final = "scale"
"""The beginning of the marks in pages."""
DEFAULTS: Final = tuple(
    Fleet(each=each, linger_ms=linger) for each in (False, True) for linger in (100, 5000)
)
"""The fleets of docs/scale.md: both readings, the default wait and a long one."""


class Column(NamedTuple):
    """One fleet, and all that follows from it."""

    fleet: Fleet
    row: Row
    load: Load
    spreads: list[Spread]
    dollars: dict[str, float]

    @property
    def title(self) -> str:
        """The head of its column."""
        each = "each function" if self.fleet.each else "over all"
        return f"{self.fleet.rate:g}/s {each}, linger {self.fleet.linger_ms:,}"


def read(results: Path) -> Result:
    """Return the measured environments. Raises OSError where there are none."""
    return msgspec.json.decode((results / f"{NAME}.json").read_bytes(), type=Result)


def column(fleet: Fleet, result: Result, prices: dict[str, float]) -> Column:
    """Return what follows from `fleet`. Raises ValueError where nothing like it was measured."""
    load = arithmetic.load_of(fleet, result)
    spreads = arithmetic.spreads(fleet, load)
    shards = spreads[0].shards or arithmetic.even_shards(load)
    dollars = arithmetic.dollars(fleet, load, shards, prices)
    return Column(fleet, arithmetic.choose(result, fleet), load, spreads, dollars)


def number(value: float) -> str:
    """Return `value` with three digits that matter, or all before the point."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _table(columns: Sequence[Column], rows: Iterator[tuple[str, list[str]]]) -> list[str]:
    return [
        "| | " + " | ".join(each.title for each in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
        *(f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows),
    ]


# -- what is measured ------------------------------------------------------------------------------


_PACKING: Final = (
    "environment", "`linger_ms`", "compression", "invocations", "lines", "records",
    "records an invocation", "bytes a record", "CPU of its life ms",
)  # fmt: skip


def packing(result: Result) -> list[str]:
    """Return the table of the measured environments."""
    lines = [
        f"| {' | '.join(_PACKING)} |",
        "|---" * len(_PACKING) + "|",
    ]
    for row in result.rows:
        case = row.case
        if case.killed:
            continue
        kind = "busy" if case.busy else "rare" if case.calls > 1 else "one call"
        lines.append(
            f"| {kind}, {case.function_ms} ms | {case.linger_ms:,} | {case.compression} | "
            f"{case.calls} | {row.lines:,} | {row.records} | "
            f"{number(row.records / case.calls)} | {number(row.data_bytes / row.records)} | "
            f"{number(row.cpu_ms)} |"
        )
    machine = result.machine
    mean = statistics.mean(row.line_bytes / row.lines for row in result.rows)
    source = (
        "`python -m bench.scale measure`: each row is one environment on the local Lambda, from "
        f"its init to its end. A line has {mean:.0f} bytes. {machine['processor']}, "
        f"{machine['cores']} cores, {machine['system']}."
    )
    return [*lines, "", source]


def risk(result: Result) -> list[str]:
    """Return the table of the environments whose extension was killed."""
    lines = [
        "| `linger_ms` | invocations | records | lines of the function | of these lost |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.case.linger_ms:,} | {row.case.calls} | {row.records} | "
        f"{row.case.calls * row.case.lines + 1:,} | {row.lost:,} |"
        for row in result.rows
        if row.case.killed
    ]
    source = (
        "`python -m bench.scale measure`: a busy environment, invocations of "
        f"{packing_cases.KILLED[0].function_ms} ms. telemetryd is killed in the freeze after the "
        "last."
    )
    return [*lines, "", source]


# -- what follows ----------------------------------------------------------------------------------

_LOAD: Final[tuple[tuple[str, Callable[[Column], float]], ...]] = (
    ("invocations", lambda c: c.load.invocations),
    ("environments that run at once", lambda c: c.fleet.running),
    ("lines", lambda c: c.load.lines),
    ("MiB of lines", lambda c: c.load.line_bytes / MIB),
    ("records", lambda c: c.load.records),
    ("PutRecords calls", lambda c: c.load.requests),
    ("MiB of records", lambda c: c.load.data_bytes / MIB),
    ("bytes a record", lambda c: c.load.data_bytes / c.load.records),
    ("shards, if all were alike", lambda c: arithmetic.even_shards(c.load)),
    ("MiB that each reader reads", lambda c: c.load.data_bytes / MIB),
    ("objects that Firehose writes to S3", lambda c: arithmetic.objects_a_second(c.load)),
)


def load(columns: Sequence[Column]) -> list[str]:
    """Return the table of a second."""
    rows = ((name, [number(figure(each)) for each in columns]) for name, figure in _LOAD)
    return _table(columns, iter(rows))


def shards(columns: Sequence[Column]) -> list[str]:
    """Return the table of partition keys."""

    def rows() -> Iterator[tuple[str, list[str]]]:
        for place, first in enumerate(columns[0].spreads):
            found = [each.spreads[place] for each in columns]
            key, part = f"`{first.key}`", f"{columns[0].fleet.hot_part:.0%}"
            yield f"{key}: keys in a second", [f"{each.keys:,}" for each in found]
            enough = [f"{s.shards:,}" if s.shards else "none is enough" for s in found]
            yield f"{key}: shards so that the fullest takes it", enough
            yield f"{key}: one key's part of a shard", [_percent(s.largest) for s in found]
            yield (
                f"{key}: the same if a function has {part} of all",
                [_percent(s.hot) for s in found],
            )

    return _table(columns, rows())


def _percent(value: float) -> str:
    return f"{number(100 * value)} %"


def cost(columns: Sequence[Column]) -> list[str]:
    """Return the table of dollars a month, and of GB-seconds."""

    def rows() -> Iterator[tuple[str, list[str]]]:
        for name in columns[0].dollars:
            yield name, [number(each.dollars[name]) for each in columns]
        added = [arithmetic.gb_seconds(each.fleet, each.load) for each in columns]
        for cause in added[0]:
            yield f"GB-seconds a second: {cause}", [number(each[cause]) for each in added]

    return _table(columns, rows())


def quotas(columns: Sequence[Column]) -> list[str]:
    """Return the table of limits; a need above the default is bold."""
    lines = [
        "| limit | default | " + " | ".join(each.title for each in columns) + " | of what |",
        "|---" * (len(columns) + 3) + "|",
    ]
    for quota in QUOTAS:
        needs = [quota.need(each.fleet, each.load, each.row) for each in columns]
        cells = [f"**{number(n)}**" if is_reached(quota, n) else number(n) for n in needs]
        lines.append(
            f"| {quota.name} | {number(quota.default)} | {' | '.join(cells)} | {quota.unit} |"
        )
    return lines


def effects(_: Sequence[Column]) -> list[str]:
    """Return the table of what happens at each limit."""
    return [
        "| limit | where it is reached | what telemetryd counts |",
        "|---|---|---|",
        *(f"| {quota.name} | {quota.reached} | {quota.counted} |" for quota in QUOTAS),
    ]


PARTS: Final[dict[str, Callable[[Sequence[Column]], list[str]]]] = {
    "load": load,
    "shards": shards,
    "cost": cost,
    "quotas": quotas,
    "effects": effects,
}
"""The tables that follow from fleets, by their names."""


def markdown(columns: Sequence[Column]) -> str:
    """Return all tables of these fleets."""
    titles = {
        "load": "A second",
        "shards": "Partition keys",
        "cost": "US dollars a month",
        "quotas": "Limits",
        "effects": "Where a limit is reached",
    }
    parts = (f"## {titles[name]}\n\n" + "\n".join(make(columns)) for name, make in PARTS.items())
    return "\n\n".join(parts) + "\n"


def document(columns: Sequence[Column]) -> list[dict[str, Any]]:
    """Return the same for programs."""
    return [
        {
            "fleet": msgspec.to_builtins(each.fleet),
            "per_second": msgspec.to_builtins(each.load)
            | {name: figure(each) for name, figure in _LOAD if name not in ("lines", "records")},
            "partition_keys": msgspec.to_builtins(each.spreads),
            "dollars_a_month": each.dollars,
            "gb_seconds_a_second": arithmetic.gb_seconds(each.fleet, each.load),
            "quotas": [
                {"name": quota.name, "default": quota.default, "need": need}
                for quota in QUOTAS
                for need in (quota.need(each.fleet, each.load, each.row),)
            ],
        }
        for each in columns
    ]


def fill(name: str, results: Path) -> list[str]:
    """Return the lines of the marked part `name`. Raises OSError where a result is missing."""
    kind = name.removeprefix(f"{PART}-")
    if kind == "prices":
        return price_list.lines()
    result = read(results)
    if kind == "packing":
        return packing(result)
    if kind == "risk":
        return risk(result)
    return [*PARTS[kind](_columns(results)), "", f"`python -m bench.scale --only {kind}`"]


@functools.cache
def _columns(results: Path) -> list[Column]:
    """Return the columns of docs/scale.md; kept, since several parts need them."""
    return [column(each, read(results), price_list.table()) for each in DEFAULTS]
