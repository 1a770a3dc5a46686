"""What an extension adds to a function's init: `initReport` with and without it, interleaved.

    python -m bench.added_init [--layer ZIP] [--runs N] [--extension PATH]... [--json FILE]

On the local Lambda, where as on the service the runtime starts once every extension has registered,
and init ends once the runtime and every extension have asked for `next`. The function is
`examples/handler` on AWS's Python runtime client. `--extension` adds any other executable.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from bench.coldstart import DIST
from telemetryd.local import LocalConfig, LocalLambda

HANDLER: Final = Path(__file__).parents[1] / "examples" / "handler"
ALONE: Final = "no extension"


def init_milliseconds(extension: Path | None, directory: Path) -> float:
    """One environment: its init, one invocation, its end; the duration of the init."""
    seen: list[float] = []

    def on_event(what: str, details: Mapping[str, Any]) -> None:
        if what == "init":
            seen.append(float(details["duration_ms"]))

    config = LocalConfig(
        handler="app.handler",
        task_root=HANDLER,
        extensions=[extension] if extension else [],
        extension_env={
            "TELEMETRYD_TELEMETRY__PORT": "0",
            "TELEMETRYD_SINKS__OUT__TYPE": "file",
            "TELEMETRYD_SINKS__OUT__PATH": f"{directory}/telemetry.ndjson",
        },
        on_event=on_event,
    )

    async def scenario() -> None:
        async with LocalLambda(config) as env:
            await env.invoke({})

    asyncio.run(scenario())
    return seen[0]


def unpack(layer: Path, directory: Path) -> Path:
    """The layer's launcher, unpacked."""
    with zipfile.ZipFile(layer) as packed:
        packed.extractall(directory)
        for entry in packed.infolist():
            (directory / entry.filename).chmod(entry.external_attr >> 16 & 0o777)
    return directory / "extensions" / "telemetryd"


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        prog="bench.added_init",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = DIST / f"telemetryd-layer-{os.uname().machine.replace('aarch64', 'arm64')}.zip"
    parser.add_argument("--layer", type=Path, default=default)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--extension", type=Path, action="append", default=[], metavar="PATH")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        subjects: dict[str, Path | None] = {ALONE: None}
        if options.layer.exists():
            subjects["layer"] = unpack(options.layer, directory / "opt")
        else:
            print(f"{options.layer} is missing: `make layer` builds it", file=sys.stderr)
        subjects["venv"] = Path(sys.prefix, "bin", "telemetryd")
        subjects |= {str(path): path.resolve() for path in options.extension}
        found: dict[str, list[float]] = {name: [] for name in subjects}
        for turn in range(options.runs + 1):
            for name, extension in subjects.items():
                value = init_milliseconds(extension, directory)
                if turn:  # the first warms the page cache
                    found[name].append(value)
    print(f"init in ms, medians of {options.runs} (least)\n\n| | init | added |\n|---|---|---|")
    alone = statistics.median(found[ALONE])
    for name, values in found.items():
        median = statistics.median(values)
        added = "" if name == ALONE else f"{median - alone:.1f}"
        print(f"| {name} | {median:.1f} ({min(values):.1f}) | {added} |")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
