"""Finds faults of a scenario before anything is measured."""

from __future__ import annotations

import json
from collections.abc import Iterator

from bench.load.daemon import variables
from bench.load.scenario import Load, Rate, Scenario, filled
from bench.peers import catalog
from telemetryd.config import load as load_config
from telemetryd.errors import ConfigError

PLACES = {"output": "/data/out", "scratch": "/data", "kinesis": "http://127.0.0.1:1"}
PLACES["collector"] = PLACES["kinesis"]
"""Values for the scenario's placeholders here."""
OTHERS = ("copier", "generator")
"""Rows beside which telemetryd is always measured."""


def problems(found: Scenario) -> Iterator[str]:
    """One text for each, which says what to change."""
    if isinstance(found, Rate):
        yield from _load_problems("", found.holding(1000, 1.0))
    elif isinstance(found, Load):
        rows = found.rows()
        names = [name for name, _ in rows]
        if len(set(names)) < len(names):
            yield "[[variant]]: each needs a `name` of its own"
        for name, row in rows:
            yield from _load_problems(f"{name}: " if found.variant else "", row)
        known = {*names, *OTHERS, *(catalog.load() if found.peers else ())}
        for target in found.target:
            for name in sorted({target.row, *target.over} - known):
                yield f"[[target]]: there is no row {name!r}; there is: {', '.join(sorted(known))}"


def _load_problems(row: str, load: Load) -> Iterator[str]:
    try:
        config = load_config(variables(filled(load.daemon, PLACES)), default_paths=()).config
    except ConfigError as error:
        yield from (f"{row}telemetryd's configuration: {problem}" for problem in error.problems)
        return
    text, expect = json.dumps(load.daemon), load.expect
    if expect.output and "{output}" not in text:
        yield (
            f'{row}no sink writes to the file that is compared: set `path = "{{output}}"` of a '
            f"file sink, or `output = false` in [expect]"
        )
    if expect.stream and "{kinesis}" not in text:
        yield (
            f"{row}no sink writes to the stream that is read back: set "
            f'`endpoint_url = "{{kinesis}}"` of a Kinesis sink, or leave out `stream` in [expect]'
        )
    if (expect.collected or expect.counted) and "{collector}" not in text:
        yield (
            f'{row}no sink POSTs to the server that is read back: set `url = "{{collector}}"` of '
            f"an http sink, or leave out `collected` and `counted` in [expect]"
        )
    if expect.metrics and (load.source.rate or load.source.connections > 1):
        yield f"{row}`metrics` in [expect] can be judged without a `rate`, over one connection"
    for name in sorted({*expect.delivered, *expect.drops} - set(config.sinks)):
        sinks = ", ".join(config.sinks) or "none"
        yield f"{row}[expect] names a sink {name!r}; there is: {sinks}"
