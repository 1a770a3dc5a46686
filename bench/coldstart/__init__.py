"""Measures what an extension adds to a function's cold start.

    python -m bench.coldstart [--runs N] [--quick] [--only NAMES] [--out FOLDER]

Each extension starts against a platform in this process, which answers at once. The platform stamps
each call when it arrives. Zero is the moment before `execve`.

"up" is the line that telemetryd logs when its loop and sinks are up. The other extensions ask for
`next` only then. CPU and memory are those of the process. Instructions are those of valgrind's
cachegrind for the whole life, up to the exit; neighbours do not disturb them. "init" is
`initReport` on the local Lambda, with the extension and without any. "first response" and "first
duration" are of the invocation after it.

    layer        the zip of `make layer`, unpacked as in Lambda
    layer-file   the same with a configuration file
    layer-built  the same, built with that file (`make layer CONFIG=FILE`)
    venv         this Python with telemetryd installed, as in a container image
    venv-ready   the same with `lambda.next = "ready"`: everything is up before `next`
    python       an extension like AWS's Python samples (bench/peers/python-http-sample)
    rust         a minimal one with AWS's crate (bench/peers/rust)

Each extension is measured with each CPU share and each page cache, in turn. The shares are a whole
CPU, 29 % (a 512-MB function) and 7.25 % (128 MB); they need root and a CPU controller. The page
cache is warm, or without the extension's own files. telemetryd alone is also measured with a
Kinesis sink.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from bench.coldstart import report
from bench.coldstart.init import Init, init
from bench.coldstart.report import Coldstart, Condition, Options, Row
from bench.coldstart.start import Start, instructions, run
from bench.coldstart.subjects import LAYER, NAMES, Subject, find
from bench.kit.limits import groups
from bench.kit.machine import describe
from bench.load.kinesis_service import STREAM, serving
from bench.load.scenario import Limits, Service

RESULTS: Final = Path(__file__).parents[1] / "results"
QUICK: Final = Options(runs=3, limited_runs=2)

Say = Callable[[str], None]


def measure_all(options: Options, say: Say = lambda _: None) -> Coldstart:
    """Measure every subject under every condition; `say` is told what is being done.

    Raises `bench.peers.catalog.PeerError` where another extension can't be built, and
    `bench.coldstart.start.NoStartError` where one does not start.
    """
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        found, absent = find(options.layer, directory, options.only)
        counts: dict[str, float] = {}
        for name, subject in found.items() if options.instructions else ():
            say(f"instructions of {subject.title}")
            if count := instructions(subject, directory / "telemetry.ndjson"):
                counts[name] = count
        conditions = []
        for share in options.shares:
            if share is not None and os.geteuid() != 0:
                absent[f"{share} % of a CPU"] = "needs root"
                continue
            with groups(Limits(cpu_percent=share or 0)) as made:
                measure = partial(
                    _condition, directory=directory, options=options, say=say,
                    group=made[0] if made else None, share=share,
                )  # fmt: skip
                conditions += [measure(found, cold=cold) for cold in options.caches]
                ours: dict[str, Subject] = {
                    name: found[name] for name in ("layer", "venv") if name in found
                }
                if options.kinesis and ours:
                    with _kinesis() as sink:
                        conditions.append(measure(ours, sink=sink))
    return Coldstart(
        machine=describe(), options=options, instructions=counts, conditions=conditions,
        absent=absent,
    )  # fmt: skip


def _condition(
    found: dict[str, Subject],
    directory: Path,
    options: Options,
    say: Say,
    *,
    group: Path | None,
    share: float | None,
    cold: bool = False,
    sink: Mapping[str, str] | None = None,
) -> Condition:
    """Every subject in turn, as often as the options say."""
    kind = "kinesis" if sink else "file"
    starts: dict[str, list[Start]] = {name: [] for name in found}
    inits: dict[str, list[Init]] = {name: [] for name in found}
    alone: list[Init] = []
    runs = options.runs if share is None else options.limited_runs
    for turn in range(runs + 1):  # the first one warms what is meant to be warm
        say(f"{report.described(share, cold=cold, sink=kind)}: {turn} of {runs}")
        for name, subject in found.items():
            if cold:
                subject.evict()
            start = run(subject, directory / "telemetry.ndjson", sink=sink, group=group)
            if turn:
                starts[name].append(start)
        if not options.init:
            continue
        for values, each in ((alone, None), *((inits[name], found[name]) for name in found)):
            if cold and each is not None:
                each.evict()
            value = init(
                each, directory, sink=sink, group=group, share=100.0 if share is None else share
            )
            if turn:
                values.append(value)
    rows = [
        Row(name=name, title=subject.title, starts=starts[name], inits=inits[name])
        for name, subject in found.items()
    ]
    return Condition(share=share, cold=cold, sink=kind, rows=rows, alone=alone)


@contextmanager
def _kinesis() -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory() as place, serving(Service(), Path(place), []) as server:
        yield {"TYPE": "kinesis", "STREAM": STREAM, "ENDPOINT_URL": server.url}


def main(arguments: Sequence[str]) -> int:
    """Measure, write the results, print the tables. Return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.coldstart",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--layer", type=Path, default=LAYER, metavar="ZIP")
    parser.add_argument("--runs", type=int, default=Options().runs)
    parser.add_argument(
        "--limited-runs",
        type=int,
        default=Options().limited_runs,
        help="starts with a share of the CPU",
    )
    parser.add_argument("--quick", action="store_true", help="fewer starts: a minute or two")
    parser.add_argument(
        "--only", default=",".join(NAMES), metavar="NAMES", help="subjects, separated by commas"
    )
    parser.add_argument(
        "--share",
        type=float,
        action="append",
        metavar="PERCENT",
        help="share of a CPU; may be repeated",
    )
    parser.add_argument("--cache", choices=("warm", "cold"), action="append")
    parser.add_argument(
        "--no-init", action="store_true", help="do not measure the init on the local Lambda"
    )
    parser.add_argument("--no-kinesis", action="store_true")
    parser.add_argument("--no-instructions", action="store_true")
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="folder for results (default: bench/results)"
    )
    options = parser.parse_args(arguments)
    if unknown := set(options.only.split(",")) - set(NAMES):
        parser.error(f"--only: {', '.join(sorted(unknown))}; there is: {', '.join(NAMES)}")
    wanted = Options(
        layer=options.layer,
        runs=QUICK.runs if options.quick else options.runs,
        limited_runs=QUICK.limited_runs if options.quick else options.limited_runs,
        only=tuple(options.only.split(",")),
        shares=tuple(None if share >= 100 else share for share in options.share)
        if options.share
        else Options().shares,
        caches=tuple(cache == "cold" for cache in options.cache)
        if options.cache
        else Options().caches,
        init=not options.no_init,
        kinesis=not options.no_kinesis,
        instructions=not options.no_instructions,
    )
    result = measure_all(wanted, lambda what: print(what, file=sys.stderr, flush=True))
    report.write(result, options.out)
    print(report.markdown(result))
    return 0
