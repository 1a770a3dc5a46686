"""Draw the state machines of docs/architecture.md: `make docs` runs this, a test compares.

A diagram says which event leads where; the table below it says what is done.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from telemetryd.core import delivery, lifecycle

PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"
Rows = Mapping[tuple[str, str], tuple[str, tuple[str, ...]]]
ANYWHERE = frozenset({*delivery.ANY_STATE, delivery.ABANDON})
MACHINES: dict[str, tuple[str, Rows, frozenset[str]]] = {
    "life cycle": (lifecycle.INIT, lifecycle.ROWS, frozenset()),
    "delivery": (
        delivery.OPENING,
        delivery.ROWS,
        frozenset({*delivery.ANY_STATE, delivery.ABANDON}),
    ),
}
"""The first state, the rows, and the events that may happen in any state: drawn once."""


def diagram(first: str, rows: Rows, anywhere: frozenset[str]) -> Iterator[str]:
    """Lines of a Mermaid state diagram; events that lead the same way share an arrow."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for (state, event), (following, _) in rows.items():
        if event not in anywhere:
            arrows.setdefault((state, following), []).append(event)
    yield "```mermaid"
    yield "stateDiagram-v2"
    yield f"    [*] --> {first}"
    for (state, following), events in arrows.items():
        yield f"    {state} --> {following}: {', '.join(events)}"
    yield "```"


def table(rows: Rows, anywhere: frozenset[str]) -> Iterator[str]:
    """Lines of a table of the rows; states in which the same happens share one."""
    same: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for (state, event), (following, commands) in rows.items():
        stays = event in anywhere and following == state
        row = (event, "the same" if stays else following, commands)
        same.setdefault(row, []).append(state)
    every = {state for state, _ in rows} | {following for following, _ in rows.values()}
    yield "| State | Event | Next state | Commands |"
    yield "|---|---|---|---|"
    for (event, following, commands), states in same.items():
        where = "any" if set(states) == every else ", ".join(states)
        yield f"| {where} | `{event}` | {following} | {', '.join(commands) or '-'} |"


def drawn(page: str) -> str:
    """Return `page` with each machine drawn between its two marks."""
    for name, (first, rows, anywhere) in MACHINES.items():
        begin, end = f"<!-- {name}: generated -->", f"<!-- {name}: end -->"
        body = "\n".join([*diagram(first, rows, anywhere), "", *table(rows, anywhere)])
        before, found_begin, rest = page.partition(begin)
        _, found_end, after = rest.partition(end)
        if not (found_begin and found_end):
            raise SystemExit(f"{PAGE}: the marks of the {name} are not there")
        page = f"{before}{begin}\n{body}\n{end}{after}"
    return page


if __name__ == "__main__":
    PAGE.write_text(drawn(PAGE.read_text()))
    sys.exit(0)
