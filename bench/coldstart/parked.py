"""The layer parked beside the layer as it starts by default, in pairs.

    python -m bench.coldstart.parked [--pairs N] [--share PERCENT] [--whole-in-init] [--layer ZIP]
                                     [--against ZIP] [--only NAMES]

Each turn is one environment without an extension, one with the minimal extension in Rust where it
can be built, one with each of `lambda.start = "init"`, `park` and `auto`, and one of another layer
as that starts by default (`before`). Each is an init and one invocation on the local Lambda, then
the end. The function has the memory that buys its share. Runtime and extension have that share of
a CPU throughout, or a whole CPU until the init ends. The table has the median of the differences
within the turns, and the interval that holds it with 95 %. CPU is the extension's whole life, as
its ledger has it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench.coldstart.init import HANDLER, PATIENCE_SECONDS, script
from bench.coldstart.subjects import LAYER, Subject, find
from bench.kit.limits import PERIOD_MICROSECONDS, groups, memory_mb
from bench.kit.stats import median_interval
from bench.load.scenario import Limits
from telemetryd.local import LocalConfig, LocalLambda

SHARE: Final = 7.25
_START: Final = "TELEMETRYD_LAMBDA__START"


class Life(NamedTuple):
    """One environment: milliseconds, and the extension's CPU; its lines must all have arrived."""

    init_ms: float
    response_ms: float
    duration_ms: float
    cpu_ms: float


_DIFFERENCES: Final = (
    *((name, "none") for name in ("rust", "init", "park", "auto")),
    *((name, "init") for name in ("park", "auto")),
    *((name, "before") for name in ("init", "park", "auto")),
)
_COLUMNS: Final[dict[str, Callable[[Life], float]]] = {
    "init ms": lambda life: life.init_ms,
    "first response ms": lambda life: life.response_ms,
    "first duration ms": lambda life: life.duration_ms,
    "init + first duration ms": lambda life: life.init_ms + life.duration_ms,
    "CPU of the life ms": lambda life: life.cpu_ms,
}


def measure(
    subject: Subject | None,
    directory: Path,
    group: Path,
    *,
    share: float,
    whole_in_init: bool,
    variables: Mapping[str, str],
) -> Life:
    """One environment. Raises AssertionError if a line was lost."""
    output = directory / "telemetry.ndjson"
    output.unlink(missing_ok=True)
    printed: list[bytes] = []
    limit(group, 100 if whole_in_init else share)

    def on_event(what: str, _: Mapping[str, Any]) -> None:
        if what == "init":
            limit(group, share)

    extensions: list[Path] = []
    if subject is not None:
        wrapper = directory / "extensions" / subject.executable.name
        extensions = [script(group, wrapper, [str(subject.executable)])]
    config = LocalConfig(
        bootstrap=[
            str(script(group, directory / "bootstrap", [sys.executable, "-m", "awslambdaric"])),
            "app.handler",
        ],
        task_root=HANDLER,
        extensions=extensions,
        extension_env={} if subject is None else subject.environment(output) | dict(variables),
        memory_mb=memory_mb(share),
        private_hosts=False,
        init_timeout=PATIENCE_SECONDS,
        timeout=PATIENCE_SECONDS,
        shutdown_budget=10.0,
        flush_at_shutdown=True,
        echo=lambda kind, _name, line: printed.append(line) if kind == "extension" else None,
        on_event=on_event,
    )

    async def scenario() -> tuple[Any, LocalLambda]:
        async with LocalLambda(config) as env:
            result = await env.invoke({})
            limit(group, share)
        return result, env

    result, env = asyncio.run(scenario())
    cpu = 0.0
    if subject is not None and subject.ours:
        (ledger,) = [json.loads(line) for line in printed if b'"event":"ledger"' in line]
        cpu = ledger["figures"]["cpu_seconds"] * 1000
        sent = sum(account.sent for account in env.stats)
        assert len(output.read_bytes().splitlines()) == sent, "lines were lost"
    assert result.init_ms is not None
    return Life(result.init_ms, result.response_ms, result.duration_ms, cpu)


def limit(group: Path, share: float) -> None:
    """Give the group so many percent of a CPU; 100 or more: no limit."""
    quota = int(PERIOD_MICROSECONDS * share / 100) if share < 100 else -1
    if (group / "cpu.max").exists():
        (group / "cpu.max").write_text(f"{'max' if quota < 0 else quota} {PERIOD_MICROSECONDS}")
    else:
        (group / "cpu.cfs_quota_us").write_text(str(quota))


def table(turns: Sequence[Mapping[str, Life]]) -> str:
    """Return what each adds to no extension, what `park` and `auto` take from the others."""
    pairs = {
        f"{name} - {other}": (name, other)
        for name, other in _DIFFERENCES
        if name in turns[0] and other in turns[0]
    }
    lines = [f"| {len(turns)} turns | " + " | ".join(_COLUMNS) + " |", "|---" * 6 + "|"]
    for title, (one, other) in pairs.items():
        cells = []
        for value in _COLUMNS.values():
            found = median_interval([value(turn[one]) - value(turn[other]) for turn in turns])
            cells.append(f"{found.median:+.0f} ({found.low:+.0f} to {found.high:+.0f})")
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Measure and print the table. Return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.coldstart.parked", description=__doc__)
    parser.add_argument("--layer", type=Path, default=LAYER, metavar="ZIP")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--share", type=float, default=SHARE, metavar="PERCENT")
    parser.add_argument("--whole-in-init", action="store_true")
    parser.add_argument("--against", type=Path, metavar="ZIP", help="another layer beside it")
    parser.add_argument(
        "--only", default="", metavar="NAMES", help="some of none,rust,init,park,auto,before"
    )
    options = parser.parse_args(arguments)
    turns: list[dict[str, Life]] = []
    with tempfile.TemporaryDirectory() as place, groups(Limits(cpu_percent=50)) as made:
        found, absent = find(options.layer, Path(place), ("layer", "rust"))
        if "layer" not in found:
            print(f"no layer: {absent}", file=sys.stderr)
            return 1
        subjects: dict[str, tuple[Subject | None, dict[str, str]]] = {
            "none": (None, {}),
            **({"rust": (found["rust"], {})} if "rust" in found else {}),
            **{how: (found["layer"], {_START: how}) for how in ("init", "park", "auto")},
        }
        if options.against is not None:
            other = Path(place, "before")
            other.mkdir()
            subjects["before"] = (find(options.against, other, ("layer",))[0]["layer"], {})
        if options.only:
            subjects = {name: subjects[name] for name in options.only.split(",")}
        for turn in range(options.pairs + 1):  # the first one warms what is meant to be warm
            lives = {
                name: measure(
                    subject, Path(place), made[0], share=options.share,
                    whole_in_init=options.whole_in_init, variables=variables,
                )
                for name, (subject, variables) in subjects.items()
            }  # fmt: skip
            shown = {name: tuple(map(round, life)) for name, life in lives.items()}
            print(turn, shown, file=sys.stderr)
            turns += [lives] if turn else []
    print(table(turns))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
