"""A scenario: what is sent, to a telemetryd configured how, and what is expected of it.

One TOML file in `bench/scenarios/`, whose name is the scenario's:

    title         one line for the table
    peers         whether peers are measured beside it (default: false)
    lines         how many, in all
    line_bytes    mean size of a line, its newline included
    connections   default 1
    pauses_ms     a pause of so long after each `burst_lines` (default: none, flat out)
    burst_lines
    [daemon]      the configuration of telemetryd, as in telemetryd.toml. `{output}` is the file
                  that is compared with what was sent, `{scratch}` an empty directory, `{kinesis}`
                  the URL of a Kinesis server that accepts at memory speed
    [expect]      what the run must show to count
    output        whether `{output}` holds every line sent, byte for byte (default: true)
    delivered     sinks that must have delivered every line
    drops         whether a sink may drop lines, which are then shown (default: false)
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

FOLDER: Final = Path(__file__).parent / "scenarios"


class Expect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[expect]`."""

    output: bool = True
    delivered: tuple[str, ...] = ()
    drops: bool = False


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The contents of a scenario's file."""

    title: str
    lines: Annotated[int, Meta(ge=1)]
    daemon: dict[str, Any]
    line_bytes: Annotated[int, Meta(ge=120, le=65_536)] = 290
    connections: Annotated[int, Meta(ge=1, le=64)] = 1
    pauses_ms: Annotated[int, Meta(ge=0)] = 0
    burst_lines: Annotated[int, Meta(ge=0)] = 0
    peers: bool = False
    expect: Expect = Expect()


def load() -> dict[str, Scenario]:
    """Every scenario by its name. Raises msgspec.ValidationError where a file is wrong."""
    found = {}
    for path in sorted(FOLDER.glob("*.toml")):
        with path.open("rb") as file:
            found[path.stem] = msgspec.convert(tomllib.load(file), Scenario)
    return found


def filled(value: Any, values: dict[str, str]) -> Any:
    """`value` with placeholders replaced in every text of it."""
    if isinstance(value, str):
        for name, text in values.items():
            value = value.replace("{" + name + "}", text)
        return value
    if isinstance(value, dict):
        return {key: filled(inner, values) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, values) for inner in value]
    return value
