"""The catalogue of log events names every event of the code, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from telemetryd import log_events
from telemetryd.log import LEVELS

ROOT = Path(__file__).resolve().parents[2]
DAEMON = ROOT / "daemon" / "telemetryd"
OTHER_PROGRAMS = {"local", "testing"}
"""What runs beside the daemon and has a voice of its own."""
WRITERS = ("log", "log_once", "say", "statement")
"""How functions that write to the log are called, whatever they belong to."""


def calls(path: Path) -> Iterator[tuple[str | None, str]]:
    """Level (None where it is computed) and event of each call that writes to the log."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func).rpartition(".")[2].strip("_")
        texts = [arg.value if isinstance(arg, ast.Constant) else None for arg in node.args]
        if called == "statement" and texts and isinstance(texts[0], str):
            yield None, texts[0]
        elif called in WRITERS and len(texts) > 1 and isinstance(texts[1], str):
            level, event = texts[0], texts[1]
            if level is None or (isinstance(level, str) and level in LEVELS):
                yield level, event


def written() -> dict[str, set[str]]:
    """The events in the code, with the levels that are constants there."""
    found: dict[str, set[str]] = {}
    for path in DAEMON.rglob("*.py"):
        if OTHER_PROGRAMS.isdisjoint(path.relative_to(DAEMON).parts):
            for level, event in calls(path):
                found.setdefault(event, set()).update({level} if level else ())
    for path in (ROOT / "layer" / "c").rglob("*.c"):
        for event in re.findall(r'platform_say\("([a-z_]+)"', path.read_text()):
            found.setdefault(event, set())
    return found


CATALOGUE = {event.name: event for event in log_events.EVENTS}


def test_every_event_of_the_code_is_in_the_catalogue_and_no_other() -> None:
    """People alert on these names."""
    assert sorted(CATALOGUE) == sorted(written())
    assert len(CATALOGUE) == len(log_events.EVENTS), "an event stands twice in the catalogue"


def test_levels_are_those_of_the_code() -> None:
    """A level that is computed at run time is listed by hand."""
    for name, levels in written().items():
        assert levels <= set(CATALOGUE[name].levels), name
        assert set(CATALOGUE[name].levels) <= set(LEVELS), name


def test_the_page_is_what_the_catalogue_says() -> None:
    """`make docs` writes it."""
    out = StringIO()
    with redirect_stdout(out):
        log_events.main()
    assert (ROOT / "docs" / "log.md").read_text() == out.getvalue()
