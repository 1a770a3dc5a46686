"""Measures the end of an environment that was parked and never invoked.

    python -m bench.coldstart.parked_end [--runs N] [--share PERCENT] [--layer ZIP]

Each run is an init on the local Lambda with `lambda.start = "park"`, and SHUTDOWN with its 2
seconds, after which the platform kills. Runtime and extension have the share of a CPU throughout.
In `quiet` only the platform's lines of the init wait, in `line` the function has printed one, and
in `later` that was 1.5 seconds before, so that the interpreter has started for it. The table says
how many ended by themselves with a ledger that balances, who wrote it, and how many lines were
lost: neither delivered nor printed. The exit status is 1 if a run is not among them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench.coldstart.init import PATIENCE_SECONDS, script
from bench.coldstart.parked import SHARE, limit
from bench.coldstart.subjects import LAYER, Subject, find
from bench.kit.limits import groups, memory_mb
from bench.load.scenario import Limits
from telemetryd.local import LocalConfig, LocalLambda

_QUIET: Final = "def handler(event, context):\n    return {}\n"
_PRINTS: Final = f'print("loaded", flush=True)\n\n\n{_QUIET}'
_CASES: Final = {"quiet": (_QUIET, 0.0), "line": (_PRINTS, 0.0), "later": (_PRINTS, 1.5)}
"""The function, and seconds until SHUTDOWN, in which the environment is awake."""
_START: Final = {"TELEMETRYD_LAMBDA__START": "park"}


class End(NamedTuple):
    """One environment's end."""

    in_time: bool
    """It ended by itself, with a ledger that balances."""
    by: str
    """Who wrote it: `launcher` or `interpreter`; "" where there is none."""
    lost: int
    seconds: float
    """From SHUTDOWN on."""


def measure(subject: Subject, place: Path, group: Path, share: float, case: str) -> End:
    """One environment from its init to its end."""
    function, pause = _CASES[case]
    task = place / "task"
    task.mkdir(exist_ok=True)
    (task / "app.py").write_text(function)
    printed: list[bytes] = []
    limit(group, share)
    started = asyncio.Event()
    wrapper = place / "extensions" / subject.executable.name
    config = LocalConfig(
        bootstrap=[
            str(script(group, place / "bootstrap", [sys.executable, "-m", "awslambdaric"])),
            "app.handler",
        ],
        task_root=task,
        extensions=[script(group, wrapper, [str(subject.executable)])],
        extension_env=subject.environment(place / "telemetry.ndjson") | _START,
        memory_mb=memory_mb(share),
        private_hosts=False,
        init_timeout=PATIENCE_SECONDS,
        freeze=not pause,
        echo=lambda kind, _name, line: printed.append(line) if kind == "extension" else None,
        on_event=lambda what, _: started.set() if what == "init" else None,
    )

    async def scenario() -> tuple[LocalLambda, float]:
        async with LocalLambda(config) as env:
            await started.wait()
            await asyncio.sleep(pause)
            begun = time.monotonic()
        return env, time.monotonic() - begun

    env, seconds = asyncio.run(scenario())
    (ended,) = [each for each in env.exits if each.role == "extension"]
    ledgers: list[dict[str, Any]] = [
        json.loads(line) for line in printed if b'"event":"ledger"' in line
    ]
    if not ledgers:
        return End(False, "", sum(account.sent for account in env.stats), seconds)
    ledger = ledgers[-1]
    kept = ledger.get("printed", {"lines": 0})["lines"]
    kept += sum(sink["delivered"]["lines"] for sink in ledger["sinks"].values())
    return End(
        in_time=ended.returncode == 0 and not ended.at_deadline and ledger["balanced"],
        by="launcher" if ledger.get("parked") else "interpreter",
        lost=sum(account.sent for account in env.stats) - kept,
        seconds=seconds,
    )


def table(found: dict[str, list[End]]) -> str:
    """Return a row for each case."""
    lines = [
        "| | ended in time with a ledger | by the launcher | lines lost | seconds |",
        "|---" * 5 + "|",
    ]
    for case, ends in found.items():
        seconds = sorted(end.seconds for end in ends)
        lines.append(
            f"| {case} | {sum(end.in_time for end in ends)} of {len(ends)} "
            f"| {sum(end.by == 'launcher' for end in ends)} | {sum(end.lost for end in ends)} "
            f"| {statistics.median(seconds):.2f} ({seconds[0]:.2f} to {seconds[-1]:.2f}) |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Measure and print the table. Return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.coldstart.parked_end", description=__doc__
    )
    parser.add_argument("--layer", type=Path, default=LAYER, metavar="ZIP")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--share", type=float, default=SHARE, metavar="PERCENT")
    options = parser.parse_args(arguments)
    found: dict[str, list[End]] = {case: [] for case in _CASES}
    with tempfile.TemporaryDirectory() as place, groups(Limits(cpu_percent=50)) as made:
        subjects, absent = find(options.layer, Path(place), ("layer",))
        if "layer" not in subjects:
            print(f"no layer: {absent}", file=sys.stderr)
            return 1
        for _ in range(options.runs):
            for case, ends in found.items():
                ends.append(measure(subjects["layer"], Path(place), made[0], options.share, case))
                print(case, ends[-1], file=sys.stderr)
    print(table(found))
    return 0 if all(end.in_time and not end.lost for ends in found.values() for end in ends) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
