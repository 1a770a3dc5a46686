"""The import contracts name every sink, and docs/architecture.md draws the layers they hold.

`lint-imports` checks the imports themselves.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from telemetryd.sinks.registry import BUILT_IN

ROOT = Path(__file__).resolve().parents[3]
SINKS = {module.removesuffix(".sink") for module, _ in BUILT_IN.values()}


def contracts(kind: str) -> list[dict[str, Any]]:
    """The contracts of one type."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return [c for c in config["tool"]["importlinter"]["contracts"] if c["type"] == kind]


def layers(container: str) -> list[str]:
    """The lines of the contract that orders what `container` holds."""
    (found,) = [c for c in contracts("layers") if c["containers"] == [container]]
    return list(found["layers"])


def test_every_sink_is_independent_of_the_others() -> None:
    (contract,) = contracts("independence")
    assert set(contract["modules"]) == SINKS


def test_every_sink_stands_below_the_registry() -> None:
    names = {module.rpartition(".")[2] for module in SINKS}
    assert names in [set(line.split(" | ")) for line in layers("telemetryd.sinks")]


def test_what_reads_and_delivers_may_import_no_sink() -> None:
    rooms = ["telemetryd.delivery", "telemetryd.ingest", "telemetryd.spool"]
    forbidden = [c for c in contracts("forbidden") if c["source_modules"] == rooms]
    assert len(forbidden) == 1
    assert set(forbidden[0]["forbidden_modules"]) >= SINKS


@pytest.mark.parametrize("package", ["telemetryd", "telemetryd_proto"])
def test_circles_are_looked_for_everywhere(package: str) -> None:
    (contract,) = contracts("acyclic_siblings")
    assert package in contract["ancestors"]


def test_the_page_draws_the_layers() -> None:
    """People read the page, `lint-imports` the contract."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    assert "\n```\n" + "\n".join(layers("telemetryd")) + "\n```\n" in page
