"""docs/architecture.md: its drawings are those of the code, and the modules it names exist."""

from __future__ import annotations

import ast
import re

from architecture import PAGE, drawn

TEXT = PAGE.read_text()
ROOT = PAGE.parents[1]


def test_its_state_machines_are_those_of_the_code() -> None:
    """`make docs` draws them."""
    assert drawn(TEXT) == TEXT


def test_every_module_it_names_exists() -> None:
    """In the path's drawing and in the text: `core/ledger`, `delivery/attempt`."""
    package = ROOT / "daemon" / "telemetryd"
    rooms = {path.name for path in package.iterdir() if path.is_dir()}
    named = set(re.findall(r"(?<![\w/.])([a-z]+/[a-z_]+)\b", TEXT))
    modules = {name for name in named if name.split("/")[0] in rooms}
    assert len(modules) > 12
    for name in modules:
        assert (package / f"{name}.py").exists() or (package / name).is_dir(), name


def test_every_method_and_test_it_names_exists() -> None:
    """`Losses.lose`, and the tests that it sends readers to."""
    package = ROOT / "daemon" / "telemetryd"
    methods = {
        f"{node.name}.{member.name}"
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
        for member in node.body
        if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    named = set(re.findall(r"`([A-Z]\w+\.\w+)`", TEXT))
    assert len(named) > 4
    assert named <= methods
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for name in re.findall(r"`(test_\w+)`", TEXT):
        assert f"def {name}(" in tests, name
