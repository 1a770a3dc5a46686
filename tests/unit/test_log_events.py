"""The catalogue of log events names every event of the code, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from itertools import product
from pathlib import Path
from typing import get_args

from telemetryd import log_events
from telemetryd.log import LEVELS

ROOT = Path(__file__).resolve().parents[2]
DAEMON = ROOT / "daemon" / "telemetryd"
OTHER_PROGRAMS = {"local", "testing"}
"""What runs beside the daemon and has a voice of its own."""
WRITERS = ("log", "log_once", "say")
"""How functions are called that take level and event, whatever they belong to."""
COMPLAIN = "complain"
"""The name of one that takes the event first and chooses the level."""
FORWARDED = ("extension/run.py", "self._log(level, event, **facts)")
"""What is named where it is called."""


def texts(node: ast.expr) -> list[str | None]:
    """The strings that an argument may be; None for one that is computed."""
    if isinstance(node, ast.IfExp):
        return [*texts(node.body), *texts(node.orelse)]
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    return [None]


def written_by(call: ast.Call) -> Iterator[tuple[str | None, str | None]]:
    """Level and event of what a call writes to the log, if it does; None where it is computed."""
    receiver, _, name = ast.unparse(call.func).rpartition(".")
    if receiver.endswith("log") and name in (*LEVELS, "statement"):
        level = None if name == "statement" else name
        yield from ((level, event) for event in texts(call.args[0]))
    elif name.strip("_") in WRITERS and len(call.args) > 1:
        yield from product(texts(call.args[0]), texts(call.args[1]))
    elif name.strip("_") == COMPLAIN:
        yield from ((None, event) for event in texts(call.args[0]))


def calls(path: Path) -> Iterator[tuple[str | None, str]]:
    """Level (None where it is computed) and event of each call that writes to the log."""
    where = str(path.relative_to(DAEMON))
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and (where, ast.unparse(node)) != FORWARDED:
            for level, event in written_by(node):
                assert event is not None, f"{where}: which event is it? {ast.unparse(node)}"
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


CATALOGUE: dict[str, log_events.LogEvent] = {event.name: event for event in log_events.EVENTS}


def test_every_event_of_the_code_is_in_the_catalogue_and_no_other() -> None:
    """People alert on these names."""
    assert sorted(CATALOGUE) == sorted(written())
    assert len(CATALOGUE) == len(log_events.EVENTS), "an event stands twice in the catalogue"


def test_the_type_of_names_is_that_of_the_catalogue() -> None:
    """What a type checker holds the code to."""
    assert list(get_args(log_events.EventName)) == sorted(CATALOGUE)


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
