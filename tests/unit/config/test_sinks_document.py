"""docs/sinks-reference.md: current, and complete."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from telemetryd.config import load
from telemetryd.config.sinks_document import FACTS, render, unit_of
from telemetryd.sinks.base import SinkConfig
from telemetryd.sinks.http.presets import PresetName, preset
from telemetryd.sinks.registry import BUILT_IN, sink_class

COMMITTED = Path(__file__).parents[3] / "docs" / "sinks-reference.md"


def section(name: str) -> str:
    """The part of the page about a sink; empty: the part about all."""
    heading = f'## `type = "{name}"`\n' if name else "## Every sink\n"
    return render().partition(heading)[2].partition("\n## ")[0]


def test_the_committed_page_is_current() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "telemetryd.config.sinks_document"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert COMMITTED.read_text() == done.stdout, "run: make docs"


def test_each_sink_has_facts_and_no_other() -> None:
    """Who adds a sink writes down its limits, its probe and an example."""
    assert FACTS.keys() == BUILT_IN.keys()


@pytest.mark.parametrize("name", BUILT_IN)
def test_each_setting_of_a_sink_is_there(name: str) -> None:
    shared = {field.name for field in msgspec.structs.fields(SinkConfig)}
    for field in msgspec.structs.fields(sink_class(name).Config):
        part = section("" if field.name in shared else name)
        row = re.search(
            rf"^\| `{field.encode_name}` \| (.*) \| (.+) \| (.+) \| (.+) \|$", part, re.MULTILINE
        )
        assert row is not None, field.name
        assert row[1].strip() == unit_of(field.encode_name)


@pytest.mark.parametrize("name", BUILT_IN)
def test_limits_probe_and_example_are_there(name: str) -> None:
    part = section(name)
    assert "\n| Limit | Value | Effect | Source |\n|---|---|---|---|\n| " in part
    assert re.search(r"^Probe: \S", part, re.MULTILINE)
    assert all(f"```toml\n{each}```" in part for each in FACTS[name].examples.values())


def test_each_preset_has_an_example_and_its_limits() -> None:
    part = section("http")
    for name in get_args(PresetName):
        assert f'preset = "{name}"\n' in part
        assert preset(name).limits in part


@pytest.mark.parametrize("name", BUILT_IN)
def test_an_example_is_a_valid_configuration(name: str, tmp_path: Path) -> None:
    file = tmp_path / "telemetryd.toml"
    for example in FACTS[name].examples.values():
        file.write_text(example)
        (sink,) = load({}, default_paths=(str(file),)).config.sinks.values()
        assert sink.type == name


@pytest.mark.parametrize(
    ("key", "unit"),
    [("linger_ms", "ms"), ("max_body_bytes", "bytes"), ("rotate_seconds", "s"), ("path", "")],
)
def test_the_unit_is_in_the_name(key: str, unit: str) -> None:
    assert unit_of(key) == unit
