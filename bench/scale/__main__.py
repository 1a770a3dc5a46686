"""Prints the tables of docs/scale.md for a fleet of yours, or measures what they rest on.

    python -m bench.scale                                  the tables of docs/scale.md
    python -m bench.scale --functions 300 --rate 2000 --over-all --price shard_hour=0.018
    python -m bench.scale --json
    python -m bench.scale measure                          records of one environment; two minutes

`measure` runs the Kinesis sink on the local Lambda and writes bench/results/packing.json. The rest
is arithmetic over that file. `python -m bench readme` writes it into the page.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench.kit.errors import LossError
from bench.kit.progress import Progress
from bench.scale import packing, prices, report
from bench.scale.fleet import Fleet

RESULTS: Final = Path(__file__).parents[1] / "results"
EXIT_USAGE: Final = 64
EXIT_LOSS: Final = 70
_OPTIONS: Final = {
    "functions": (int, "number of functions"),
    "rate": (float, "invocations a second"),
    "function_ms": (float, "milliseconds of an invocation"),
    "memory_mb": (int, "memory of a function"),
    "lines": (float, "lines of an invocation, events of the platform included"),
    "line_bytes": (float, "bytes of a line"),
    "compression": (str, "none or zstd"),
    "consumers": (int, "programs that read the stream"),
    "hot_part": (float, "part of all invocations that one function has"),
    "cold_part": (float, "part of the invocations that are cold starts"),
    "init_added_ms": (float, "milliseconds that telemetryd adds to an init phase"),
    "rare_added_ms": (float, "milliseconds that it adds to a rare invocation"),
    "stored_days": (float, "days that lines stay in S3"),
}

_LEAST: Final = {
    "functions": 1, "rate": 0.001, "function_ms": 0.1, "memory_mb": 128, "lines": 0.1,
    "line_bytes": 1,
}  # fmt: skip
"""The least value of options that can't be 0."""


def main(arguments: Sequence[str]) -> int:
    """Print or measure; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return _measure(options) if options.what == "measure" else _print(options)
    except LossError as error:
        print(f"bench: the measurement does not count: {error}", file=sys.stderr)
        return EXIT_LOSS
    except (OSError, ValueError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return EXIT_USAGE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.scale",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", nargs="?", choices=["print", "measure"], default="print")
    for name, (kind, text) in _OPTIONS.items():
        default = getattr(Fleet(), name)
        said = "as measured" if default is None else f"{default:g}" if kind is not str else default
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help=f"{text} ({said})")
    reading = parser.add_mutually_exclusive_group()
    reading.add_argument(
        "--each", action="store_true", default=None, help="the rate is of each function"
    )
    reading.add_argument(
        "--over-all", dest="each", action="store_false", help="the rate is of all together"
    )
    parser.add_argument("--linger-ms", type=int, help="only this value of linger_ms")
    parser.add_argument("--fan-out", action="store_true", help="readers use enhanced fan-out")
    parser.add_argument(
        "--price", action="append", default=[], metavar="NAME=USD", help="a price of yours"
    )
    parser.add_argument("--only", choices=list(report.PARTS), help="one table")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the measurement")
    return parser


def _fleets(options: argparse.Namespace) -> list[Fleet]:
    """Return the fleets that the options ask for. Raises ValueError for an impossible one."""
    changes = {name: value for name in _OPTIONS if (value := getattr(options, name)) is not None}
    for name, value in changes.items():
        if not isinstance(value, str) and not _LEAST.get(name, 0) <= value < math.inf:
            option = name.replace("_", "-")
            raise ValueError(f"--{option}: must be at least {_LEAST.get(name, 0)}")
    found = [
        msgspec.structs.replace(fleet, fan_out=options.fan_out, **changes)
        for fleet in report.DEFAULTS
        if options.each in (None, fleet.each) and options.linger_ms in (None, fleet.linger_ms)
    ]
    if not found:
        known = sorted({fleet.linger_ms for fleet in report.DEFAULTS})
        raise ValueError(f"--linger-ms: must be one of {known}")
    return found


def _print(options: argparse.Namespace) -> int:
    table = prices.table(options.price)
    result = report.read(options.out)
    columns = [report.column(each, result, table) for each in _fleets(options)]
    if options.json:
        found = msgspec.json.encode(report.document(columns))
        print(msgspec.json.format(found, indent=1).decode())
    elif options.only:
        print("\n".join(report.PARTS[options.only](columns)))
    else:
        print(report.markdown(columns), end="")
    return 0


def _measure(options: argparse.Namespace) -> int:
    progress = Progress(packing.NAME)
    result = packing.measure_all(show=progress.show)
    progress.end()
    options.out.mkdir(parents=True, exist_ok=True)
    data = msgspec.json.format(msgspec.json.encode(result), indent=1)
    (options.out / f"{packing.NAME}.json").write_bytes(data + b"\n")
    print("\n".join([*report.packing(result), "", *report.risk(result)]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
