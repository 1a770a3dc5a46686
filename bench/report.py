"""Results for people: a Markdown table, a chart; and for programs: JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.measure import Run
from bench.scenario import Scenario
from bench.stats import Spread, paired_ratio

OURS: Final = "telemetryd"
_BAR, _ROW, _LEFT, _WIDTH = 16, 26, 190, 720


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One receiver in one scenario."""

    receiver: str
    title: str
    kind: str = "ours"
    """"ours", "peer" or "ceiling"."""
    does: str = ""
    does_not: str = ""
    version: str = ""
    runs: list[Run] = []
    absent: str = ""
    """Why there is no figure."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One scenario, measured."""

    scenario: str
    settings: Scenario
    machine: dict[str, str]
    rows: list[Row]


def read(path: Path) -> Result:
    """A result that `write` wrote. Raises OSError, msgspec.ValidationError."""
    return msgspec.json.decode(path.read_bytes(), type=Result)


def write(result: Result, folder: Path) -> list[Path]:
    """Write the result's JSON, Markdown and chart; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "json": msgspec.json.format(msgspec.json.encode(result), indent=1).decode() + "\n",
        "md": markdown(result),
        "svg": chart(result),
    }
    paths = []
    for suffix, text in texts.items():
        path = folder / f"{result.scenario}.{suffix}"
        path.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths


def markdown(result: Result) -> str:
    """The table, with what each row does and what it was measured on."""
    settings = result.settings
    lines = [
        f"## {settings.title}",
        "",
        (
            f"`python -m bench run {result.scenario}`: {settings.lines:,} lines of "
            f"{settings.line_bytes} bytes, {settings.connections} connection(s). Medians (lowest "
            f"to highest) of runs in turn, each receiver on one core; CPU is user + system time."
        ),
        "",
        "| receiver | CPU µs/line | against the ceiling | lines/s | peak MiB | notes |",
        "|---|---|---|---|---|---|",
    ]
    ceiling = next((row for row in result.rows if row.kind == "ceiling" and row.runs), None)
    lines += [_table_row(row, ceiling) for row in result.rows]
    machine = ", ".join(f"{name} {value}" for name, value in result.machine.items())
    lines += ["", f"Measured on: {machine}.", ""]
    told = [row for row in result.rows if row.does]
    lines += [f"- **{row.title}** {row.does}. It does not {row.does_not}." for row in told]
    return "\n".join(lines) + "\n"


def _table_row(row: Row, ceiling: Row | None) -> str:
    if row.absent:
        return f"| {row.title} | absent | | | | {row.absent} |"
    cpu = Spread.of([run.cpu_us_per_line for run in row.runs])
    rate = Spread.of([run.lines_per_second for run in row.runs])
    peak = max(run.peak_mib for run in row.runs)
    ratio = ""
    if ceiling is not None and row is not ceiling and len(row.runs) == len(ceiling.runs):
        raw = [run.cpu_us_per_line for run in ceiling.runs]
        ratio = f"{paired_ratio([run.cpu_us_per_line for run in row.runs], raw):.2f}"
    drops = {reason: count for run in row.runs for reason, count in run.drops.items()}
    notes = ", ".join(f"dropped {count:,} ({reason})" for reason, count in drops.items())
    return (
        f"| {row.title} | {cpu.median:.3f} ({cpu.low:.3f} to {cpu.high:.3f}) | {ratio} "
        f"| {rate.median:,.0f} | {peak:.0f} | {notes} |"
    )


def chart(result: Result) -> str:
    """CPU per line as bars, lowest first, in SVG."""
    rows = [row for row in result.rows if row.runs]
    bars = sorted(
        (Spread.of([run.cpu_us_per_line for run in row.runs]).median, row.title, row.kind)
        for row in rows
    )
    most = max((value for value, _, _ in bars), default=1.0)
    colours: Mapping[str, str] = {"ours": "#c2410c", "peer": "#64748b", "ceiling": "#cbd5e1"}
    height = 40 + _ROW * len(bars)
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
            f'font-family="sans-serif" font-size="13" role="img" '
            f'aria-label="{escape(result.settings.title)}: CPU per line">'
        ),
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        (
            f'<text x="8" y="20" font-weight="bold">{escape(result.settings.title)}: '
            f"µs of CPU per line (less is better)</text>"
        ),
    ]
    for number, (value, title, kind) in enumerate(bars):
        top = 34 + number * _ROW
        width = max(1, round(value / most * (_WIDTH - _LEFT - 70)))
        parts += [
            f'<text x="{_LEFT - 8}" y="{top + 13}" text-anchor="end">{escape(title)}</text>',
            f'<rect x="{_LEFT}" y="{top}" width="{width}" height="{_BAR}" fill="{colours[kind]}"/>',
            f'<text x="{_LEFT + width + 6}" y="{top + 13}">{value:.3f}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def compare(before: Result, after: Result, tolerance: float) -> tuple[str, bool]:
    """Both results side by side, and whether ours costs more than it did.

    Absolute times of two occasions don't compare on a shared machine; what is compared is our CPU
    per line divided by the ceiling's, of runs made in turn.
    """
    ratios = [_against_ceiling(result) for result in (before, after)]
    if None in ratios:
        return f"{after.scenario}: no ceiling was measured beside it", False
    old, new = (ratio for ratio in ratios if ratio is not None)
    change = new / old - 1
    worse = change > tolerance
    verdict = "WORSE" if worse else "better" if change < -tolerance else "the same"
    text = f"{after.scenario}: {old:.2f} -> {new:.2f} times the ceiling ({change:+.0%}): {verdict}"
    return text, worse


def _against_ceiling(result: Result) -> float | None:
    rows: dict[str, Sequence[Any]] = {row.kind: row.runs for row in result.rows if row.runs}
    ours = next((row.runs for row in result.rows if row.receiver == OURS), None)
    if not ours or "ceiling" not in rows or len(rows["ceiling"]) != len(ours):
        return None
    return paired_ratio(
        [run.cpu_us_per_line for run in ours], [run.cpu_us_per_line for run in rows["ceiling"]]
    )
