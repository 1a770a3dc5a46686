"""The fixtures of records are still what the pinned runtime clients and loggers print.

Debian: apt-get install nodejs npm g++ make cmake autoconf automake libtool
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

pytestmark = pytest.mark.system

FIXTURES: Final = Path(__file__).parents[1] / "fixtures"
TOOLS: Final = ("npm", "g++", "make", "cmake", "autoreconf", "libtoolize")


@pytest.fixture(autouse=True)
def tools() -> None:
    """What npm's aws-lambda-ric is built with."""
    missing = [name for name in TOOLS if shutil.which(name) is None]
    if missing:
        packages = "nodejs npm g++ make cmake autoconf automake libtool"
        pytest.fail(f"missing: {', '.join(missing)} (Debian: apt-get install {packages})", False)


def shape_of(record: Any) -> object:
    """The members of an object, the first character of a text: what does not change by the run."""
    if isinstance(record, str) and record.startswith("{"):
        return "text", shape_of(json.loads(record))
    if isinstance(record, dict):
        return {name: shape_of(value) for name, value in record.items()}
    return type(record).__name__


def shapes_in(path: Path) -> dict[tuple[str, ...], list[object]]:
    """The shapes of the records of each invocation."""
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    keys = ("made_by", "format", "logger", "case")
    return {tuple(o[key] for key in keys): [shape_of(r) for r in o["records"]] for o in found}


@pytest.mark.timeout(3600)  # a C++ build of npm's aws-lambda-ric, on whatever machine
def test_the_fixtures_are_what_runtimes_and_loggers_print(tmp_path: Path) -> None:
    output = tmp_path / "records.ndjson"
    command = [sys.executable, str(FIXTURES / "make_records.py"), str(output)]
    subprocess.run(command, check=True, timeout=1800)
    made, kept = shapes_in(output), shapes_in(FIXTURES / "records.ndjson")
    assert made.keys() == kept.keys()
    for key, shapes in kept.items():
        assert made[key][:1] == shapes[:1], key
