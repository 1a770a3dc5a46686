"""One number, `telemetryd.__version__`: what names it elsewhere is made of it, or is held to it.

The protocol's package takes it from there (`test_schema`), the images' default is compared with it
(`test_deploy_page`), and what is built carries it (tests/system, tests/layer, tests/container).
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import telemetryd

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from layer import sbom  # noqa: E402 - see above

PLACES = [
    path
    for pattern in ("*.md", "docs/**/*.md", "proto/**/*.md", "proto/**/*.toml", "examples/**/*")
    for path in sorted(ROOT.glob(pattern))
    if path.is_file()
    and path.suffix in (".md", ".toml", ".txt", ".yaml", "")
    and ".venv" not in path.parts
]


def series(later: int) -> str:
    """The versions that go together: 0.1 is followed by 0.2."""
    major, minor, _ = telemetryd.__version__.split(".")
    return f"{major}.{int(minor) + later}"


def test_the_bill_of_materials_has_the_number() -> None:
    assert sbom.project_version() == telemetryd.__version__


@pytest.mark.parametrize("path", PLACES, ids=lambda path: str(path.relative_to(ROOT)))
def test_who_depends_on_telemetryd_asks_for_this_series(path: Path) -> None:
    """Pages and examples say `telemetryd>=0.1,<0.2`, and never one version alone."""
    text = path.read_text(encoding="utf-8")
    ranges = re.findall(r"telemetryd(?:-proto|-scan)?[ ]*>=[ ]*([\d.]+),[ ]*<[ ]*([\d.]+)", text)
    assert set(ranges) <= {(series(0), series(1))}
    assert re.findall(r"telemetryd(?:-proto|-scan)?(?:==|:v?)\d[\w.]*", text) == []


def test_the_range_is_looked_at() -> None:
    named = [path.name for path in PLACES if "telemetryd>=" in path.read_text(encoding="utf-8")]
    assert {"sinks.md", "pyproject.toml"} <= set(named)
