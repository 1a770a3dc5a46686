"""`python -m bench`: the load-test harness.

  python -m bench list                      scenarios, and the peers that are measured beside them
  python -m bench run ingest-file           measure, with peers; tables and charts in bench/results
  python -m bench run --all --no-peers      everything, telemetryd alone
  python -m bench rate ingest-file          the highest rate with p99 below 5 ms, and the curve
  python -m bench compare OLD NEW           did it become slower? (folders of results)

Each receiver runs alone on one core, the sender on another, in turn. A run counts only when every
line is where it belongs and the ledger balances.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench import measure, rate, report
from bench.daemon import LossError
from bench.machine import describe
from bench.peers import catalog
from bench.peers.catalog import Peer, PeerAbsentError, PeerError
from bench.report import OURS, Result, Row
from bench.scenario import Scenario, load

RESULTS: Final = Path(__file__).parent / "results"
_QUICK_LINES: Final = 500_000
_QUICK_PEERS: Final = ("copier",)
EXIT_WORSE: Final = 1
EXIT_USAGE: Final = 64
EXIT_LOSS: Final = 70


def main(arguments: Sequence[str]) -> int:
    """Run the command that `arguments` name; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.command(options)
    except LossError as error:
        print(f"bench: a run does not count: {error}", file=sys.stderr)
        return EXIT_LOSS
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listing = commands.add_parser("list", help="scenarios and peers")
    listing.set_defaults(command=_list)
    run = commands.add_parser("run", help="measure scenarios")
    run.set_defaults(command=_run)
    run.add_argument("scenario", nargs="*", help="names that `list` shows")
    run.add_argument("--all", action="store_true", help="every scenario")
    run.add_argument("--repeat", type=int, default=5, help="runs of each receiver (default: 5)")
    run.add_argument("--no-peers", action="store_true", help="only the ceiling beside telemetryd")
    run.add_argument("--peers", help="these peers only, separated by commas")
    run.add_argument("--quick", action="store_true", help="fewer lines, 3 runs, only the ceiling")
    run.add_argument("--out", type=Path, default=RESULTS, help="folder for results")
    paced = commands.add_parser("rate", help="latency under a steady load")
    paced.set_defaults(command=_rate)
    paced.add_argument("scenario")
    paced.add_argument("--p99-ms", type=float, default=5.0, help="the bound (default: 5)")
    paced.add_argument("--seconds", type=float, default=3.0, help="for each rate (default: 3)")
    comparing = commands.add_parser("compare", help="two folders of results")
    comparing.set_defaults(command=_compare)
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    comparing.add_argument(
        "--tolerance", type=float, default=0.15, help="change that is noise (default: 0.15)"
    )
    return parser


def _list(_: argparse.Namespace) -> int:
    print("scenarios:")
    for name, scenario in load().items():
        print(f"  {name:<18} {scenario.title}")
    print("peers:")
    for name, peer in catalog.load().items():
        print(f"  {name:<24} {peer.spec.title}: {peer.spec.does}")
    return 0


def _run(options: argparse.Namespace) -> int:
    scenarios = load()
    names = list(scenarios) if options.all else options.scenario
    unknown = [name for name in names if name not in scenarios]
    if unknown or not names:
        what = f"no scenario is named {', '.join(unknown)}" if unknown else "name a scenario"
        print(f"bench: {what}; there is: {', '.join(scenarios)}", file=sys.stderr)
        return EXIT_USAGE
    for name in names:
        result = _measure(name, scenarios[name], options)
        report.write(result, options.out)
        print(report.markdown(result))
    return 0


def _measure(name: str, scenario: Scenario, options: argparse.Namespace) -> Result:
    repeat = options.repeat
    if options.quick:
        repeat = min(repeat, 3)
        lines = min(scenario.lines, _QUICK_LINES)
        scenario = msgspec.structs.replace(scenario, lines=lines)
    rows = [Row(receiver=OURS, title=OURS, runs=[])]
    present: list[Peer] = []
    for peer in _peers(scenario, options):
        spec = peer.spec
        row = Row(
            receiver=peer.name, title=spec.title, kind=spec.kind, does=spec.does,
            does_not=spec.does_not, runs=[],
        )  # fmt: skip
        _show(f"preparing {peer.name}")
        try:
            peer.prepare()
            row = msgspec.structs.replace(row, version=peer.version())
            present.append(peer)
        except PeerAbsentError as error:
            row = msgspec.structs.replace(row, absent=str(error))
        rows.append(row)
    by_name = {row.receiver: row for row in rows}
    began, done, total = time.monotonic(), 0, repeat * (1 + len(present))
    for _ in range(repeat):
        by_name[OURS].runs.append(measure.telemetryd(scenario))
        done += 1
        _show(_bar(name, OURS, done, total, began))
        for peer in present:
            if not by_name[peer.name].absent:
                try:
                    by_name[peer.name].runs.append(measure.peer(peer, scenario))
                except (PeerError, LossError) as error:
                    absent = f"failed: {str(error).splitlines()[0][:200]}"
                    failed = msgspec.structs.replace(by_name[peer.name], absent=absent, runs=[])
                    by_name[peer.name] = failed
            done += 1
            _show(_bar(name, peer.name, done, total, began))
    _show("")
    ordered = [by_name[row.receiver] for row in rows]
    return Result(scenario=name, settings=scenario, machine=describe(), rows=ordered)


def _peers(scenario: Scenario, options: argparse.Namespace) -> list[Peer]:
    known = catalog.load()
    if not scenario.expect.output or scenario.connections > 1:
        return []
    if options.quick or options.no_peers or not scenario.peers:
        return [known[name] for name in _QUICK_PEERS if name in known]
    wanted = options.peers.split(",") if options.peers else list(known)
    return [known[name] for name in wanted if name in known]


def _rate(options: argparse.Namespace) -> int:
    scenario = load()[options.scenario]
    _show("searching for the highest rate")
    highest = rate.search(scenario, options.p99_ms, options.seconds)
    _show("")
    print(f"highest rate with p99 below {options.p99_ms:g} ms and no drop: {highest:,} lines/s\n")
    print("| load | lines/s | p50 ms | p95 ms | p99 ms | max ms | all arrived |")
    print("|---|---|---|---|---|---|---|")
    for load_part, point in zip(
        rate.LOADS, rate.curve(scenario, highest, options.seconds), strict=True
    ):
        print(
            f"| {load_part:.0%} | {point.rate:,} | {point.p50_ms:.2f} | {point.p95_ms:.2f} "
            f"| {point.p99_ms:.2f} | {point.max_ms:.2f} | {'yes' if point.arrived else 'NO'} |"
        )
    return 0


def _compare(options: argparse.Namespace) -> int:
    worse = False
    names = sorted(path.name for path in options.after.glob("*.json"))
    for name in names:
        before = options.before / name
        if not before.exists():
            print(f"{name}: only in {options.after}")
            continue
        text, slower = report.compare(
            report.read(before), report.read(options.after / name), options.tolerance
        )
        print(text)
        worse |= slower
    if not names:
        print(f"bench: no results in {options.after}", file=sys.stderr)
        return EXIT_USAGE
    return EXIT_WORSE if worse else 0


def _bar(scenario: str, receiver: str, done: int, total: int, began: float) -> str:
    filled = round(30 * done / total)
    left = (time.monotonic() - began) / done * (total - done)
    bar = "#" * filled + "." * (30 - filled)
    return f"[{bar}] {done}/{total} {scenario}, {receiver}, {left:.0f} s left"


def _show(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text}\x1b[K", end="", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)
