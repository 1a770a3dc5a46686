"""Writes results into pages, between `<!-- bench:NAME -->` and `<!-- /bench -->`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import msgspec

from bench.load import report
from bench.scale import report as scale
from bench.short_life import pages

_ROOT: Final = Path(__file__).parents[2]
README: Final = _ROOT / "README.md"
PAGES: Final = {
    README: "bench/results",
    _ROOT / "docs" / "performance.md": "../bench/results",
    _ROOT / "docs" / "scale.md": "../bench/results",
}
"""Each page, and what leads from it to the results."""
_PART: Final = re.compile(r"(<!-- bench:([a-z0-9-]+) -->\n).*?(<!-- /bench -->)", re.DOTALL)


def filled(text: str, results: Path, link: str = "bench/results") -> str:
    """Return `text` with each marked part from `results`. Raises OSError where there is none."""

    def part(found: re.Match[str]) -> str:
        name = found[2]
        if name.startswith(pages.PART):
            return f"{found[1]}{chr(10).join(pages.fill(name, results))}\n{found[3]}"
        if name.startswith(scale.PART):
            return f"{found[1]}{chr(10).join(scale.fill(name, results))}\n{found[3]}"
        result = report.read(results / f"{name}.json")
        machine = result.machine
        there = [row for row in result.rows if not row.absent]  # the results say who is not
        lines = [
            f"![{result.settings.title}: CPU per line]({link}/{name}.svg)",
            "",
            *report.table(msgspec.structs.replace(result, rows=there)),
            "",
            (
                f"`python -m bench run {name}`: {result.settings.source.lines:,} lines, medians "
                f"(lowest to highest) of {result.settings.repeat} runs in turn, each receiver on "
                f"one core; {machine['processor']}, {machine['cores']} cores, {machine['system']}, "
                f"{machine['python']}."
            ),
        ]
        return f"{found[1]}{chr(10).join(lines)}\n{found[3]}"

    return _PART.sub(part, text)
