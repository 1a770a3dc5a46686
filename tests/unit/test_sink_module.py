"""`telemetryd.sink`: all that a sink imports of telemetryd, and nothing that costs a start."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from telemetryd import sink
from telemetryd.commands import new

ROOT = Path(__file__).parents[2]
PUBLIC = {"telemetryd.sink", "telemetryd.testing"}


def test_every_public_name_is_there() -> None:
    for name in sink.__all__:
        assert getattr(sink, name) is not None


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"telemetryd\.sink.*no_such_name"):
        sink.no_such_name  # noqa: B018 - that it raises is the point


def loaded_by(*statements: str) -> set[str]:
    """The modules that a new interpreter has loaded after these statements."""
    code = "; ".join((*statements, "import sys", "print(*sys.modules)"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_it_loads_nothing_but_itself() -> None:
    """What `telemetryd iam` alone needs, and the log's type, come when they are asked for."""
    before = loaded_by("import telemetryd.sinks.base, telemetryd.errors")
    after = loaded_by("import telemetryd.sink")
    assert after - before == {"telemetryd.sink"}
    asked = loaded_by("from telemetryd.sink import AwsNeed")
    assert asked - after == {"telemetryd.sinks.aws_needs"}
    assert "telemetryd.log" not in after
    assert "telemetryd.log" in loaded_by("from telemetryd.sink import EventLog")


def imports(code: str) -> set[str]:
    """The modules of telemetryd that `code` imports from."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    ours = {name for name in found if name.startswith("telemetryd.")}
    return {".".join(name.split(".")[:2]) for name in ours}


SOURCES = {
    **{
        f"docs/sinks.md, piece {number}": code
        for number, code in enumerate(
            re.findall(
                r"```python\n(?!#!)((?:from|import) .*?)```",
                (ROOT / "docs" / "sinks.md").read_text(),
                re.DOTALL,
            )
        )
    },
    **{
        str(path.relative_to(ROOT)): path.read_text()
        for path in sorted((ROOT / "examples" / "sink-http").rglob("*.py"))
        if ".venv" not in path.parts
    },
    "telemetryd new sink": new._MODULE.replace("${title}", "Title").replace("$name", "name"),
    "the test of telemetryd new sink": new._TEST.replace("${title}", "T").replace("$name", "name"),
}


@pytest.mark.parametrize("source", SOURCES)
def test_what_sink_writers_are_shown_needs_only_what_is_public(source: str) -> None:
    assert imports(SOURCES[source]) <= PUBLIC


def test_the_pages_code_is_looked_at() -> None:
    assert sum("docs/sinks.md" in source for source in SOURCES) >= 3
