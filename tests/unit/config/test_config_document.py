"""docs/configuration.md: current, complete, and its example works."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from telemetryd.config import load
from telemetryd.config.document import EXAMPLE, render

COMMITTED = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_the_committed_document_is_current() -> None:
    assert COMMITTED.read_text() == render(), (
        "run: python -m telemetryd.config.document > docs/configuration.md"
    )


def test_the_module_prints_the_document() -> None:
    command = [sys.executable, "-m", "telemetryd.config.document"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == render()


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"TELEMETRYD_SINKS__X__TYPE": "file", "TELEMETRYD_SINKS__X__PATH": "/data/x"},
        {"TELEMETRYD_SINKS__X__TYPE": "stdout"},
        {"TELEMETRYD_SINKS__X__TYPE": "null", "TELEMETRYD_SINKS__X__SPOOL__MAX_AGE_MS": "5000"},
    ],
)
def test_every_key_is_documented_with_a_meaning(environ: dict[str, str]) -> None:
    text = render()
    for key in load(environ, default_paths=()).origins:
        section, _, name = key.rpartition(".")
        section = re.sub(r"^sinks\.[^.]+", "sinks.<name>", section)
        heading = f"## `[{section}]`\n" if section else "## Top level\n"
        part = text.partition(heading)[2].partition("\n## ")[0]
        row = re.search(rf"^\| `{name}` \| (.+) \| (.+) \| (.+) \|$", part, re.MULTILINE)
        assert row is not None, key
        assert all(cell.strip() for cell in row.groups()), key


def test_the_example_is_valid(tmp_path: Path) -> None:
    file = tmp_path / "telemetryd.toml"
    file.write_text(EXAMPLE)
    loaded = load({}, default_paths=(str(file),))
    assert list(loaded.config.sinks) == ["archive"]
    assert loaded.warnings == ()
    assert f"```toml\n{EXAMPLE}```" in render()
