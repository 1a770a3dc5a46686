"""`python -m bench`: the load-test harness.

  python -m bench list                      scenarios, and the peers that are measured beside them
  python -m bench run ingest-file           measure it; table, chart and JSON in bench/results
  python -m bench run my-load.toml          the same with a scenario of yours (bench/README.md)
  python -m bench run --all                 everything (about an hour)
  python -m bench compare OLD NEW           did it become slower? (folders of results)
  python -m bench short-life                what short-lived environments cost, what they lose
  python -m bench readme                    write the tables of README.md and docs/performance.md

Each receiver runs alone on one core, the sender on another, in turn. A run counts only when every
line is where it belongs and the ledger balances.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench import coldstart, invoke, short_life
from bench.coldstart import report as coldstart_report
from bench.coldstart.start import NoStartError
from bench.kit import files
from bench.kit.cores import SEVERAL
from bench.kit.errors import AbsentError, LossError
from bench.kit.machine import describe
from bench.kit.progress import Progress, say
from bench.load import check, comparison, rate, readme, report, scenario
from bench.load.scenario import FOLDER, Invoke, Load, Rate, Scenario
from bench.peers import catalog
from bench.peers.catalog import PeerError

RESULTS: Final = Path(__file__).parent / "results"
QUICK_REPEAT: Final = 3
QUICK_LINES: Final = 500_000
RATE_SECONDS: Final = 3.0
EXIT_WORSE: Final = 1
EXIT_USAGE: Final = 64
EXIT_ABSENT: Final = 69
EXIT_LOSS: Final = 70


def main(arguments: Sequence[str]) -> int:
    """Run the command that `arguments` name; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.command(options)
    except (OSError, msgspec.DecodeError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return EXIT_USAGE
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listing = commands.add_parser("list", help="list scenarios and peers")
    listing.set_defaults(command=_list)
    run = commands.add_parser("run", help="measure scenarios")
    run.set_defaults(command=_run)
    run.add_argument("scenario", nargs="*", help="names from `list`, or paths of TOML files")
    run.add_argument("--all", action="store_true", help="run every scenario")
    run.add_argument(
        "--repeat", type=_positive_int, help="runs of each receiver (default: the scenario's)"
    )
    run.add_argument(
        "--no-peers", action="store_true", help="measure only telemetryd and the copier"
    )
    run.add_argument("--peers", help="measure only these peers, separated by commas")
    run.add_argument("--seconds", type=_positive, help="duration of a rate")
    run.add_argument("--minutes", type=_positive, help="duration of a soak")
    run.add_argument(
        "--quick", action="store_true", help="fewer lines, 3 runs, no peers but the copier"
    )
    run.add_argument(
        "--out", type=Path, default=RESULTS, help="folder for results (default: bench/results)"
    )
    comparing = commands.add_parser("compare", help="compare two folders of results")
    comparing.set_defaults(command=_compare)
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    comparing.add_argument(
        "--tolerance",
        type=float,
        default=0.15,
        help="relative change that counts as noise (default: 0.15)",
    )
    living = commands.add_parser(
        "short-life",
        help="measure lives of environments",
        description=short_life.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    short_life.add_arguments(living)
    writing = commands.add_parser("readme", help="write the tables of the pages from the results")
    writing.set_defaults(command=_readme)
    return parser


def _positive(text: str) -> float:
    if not 0 < (value := float(text)) < math.inf:
        raise argparse.ArgumentTypeError("must be greater than 0")
    return value


def _positive_int(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _list(_: argparse.Namespace) -> int:
    print("scenarios:")
    for name in scenario.names():
        print(f"  {name:<18} {scenario.load(FOLDER / f'{name}.toml').title}")
    print("peers:")
    for name, peer in catalog.load().items():
        print(f"  {name:<24} {peer.spec.title}: {peer.spec.does}")
    return 0


def _run(options: argparse.Namespace) -> int:
    known = scenario.names()
    asked = list(known) if options.all else options.scenario
    if not asked:
        print(f"bench: name a scenario; there is: {', '.join(known)}", file=sys.stderr)
        return EXIT_USAGE
    chosen: list[tuple[str, Scenario]] = []
    for name in asked:
        path = FOLDER / f"{name}.toml" if name in known else Path(name)
        try:
            chosen.append((path.stem, scenario.load(path)))
        except FileNotFoundError:
            print(f"bench: no scenario {name}; there is: {', '.join(known)}", file=sys.stderr)
            return EXIT_USAGE
        except (OSError, ValueError, msgspec.ValidationError) as error:
            print(f"bench: {path}: {error}", file=sys.stderr)
            return EXIT_USAGE
        if wrong := list(check.problems(chosen[-1][1])):
            print(*(f"bench: {path}: {each}" for each in wrong), sep="\n", file=sys.stderr)
            return EXIT_USAGE
    peers = set(options.peers.split(",")) if options.peers else set()
    if unknown := peers - set(catalog.load()):
        there_is = ", ".join(catalog.load())
        print(f"bench: no peer {min(unknown)}; there is: {there_is}", file=sys.stderr)
        return EXIT_USAGE
    if not SEVERAL:
        say("bench: one core only: what is measured shares it with all else; trust CPU times alone")
    return _each(chosen, options)


def _each(chosen: Sequence[tuple[str, Scenario]], options: argparse.Namespace) -> int:
    """Measure one after the other; one that fails is told, and does not keep the rest from it."""
    status = 0
    for name, found in chosen:
        for what in _without_effect(found, options):
            say(f"bench: {name}: without effect here: {what}")
        try:
            print(_measured(name, found, options), flush=True)
        except LossError as error:
            say("")
            print(f"bench: {name}: a run does not count: {error}", file=sys.stderr)
            status = EXIT_LOSS
        except (AbsentError, NoStartError, PeerError) as error:
            say("")
            print(f"bench: {name}: {error}", file=sys.stderr)
            status = status or EXIT_ABSENT
    return status


def _measured(name: str, found: Scenario, options: argparse.Namespace) -> str:
    """Measure one scenario and write its results; the table."""
    link = f"{name}.svg"
    if isinstance(found, Load):
        result = comparison.measured(name, _adjusted(found, options), _peers(found, options))
        text = report.markdown(result, link)
        files.write(name, options.out, json=result, markdown=text, svg=report.svg(result))
        return text
    if isinstance(found, Rate):
        seconds = options.seconds or RATE_SECONDS
        repeat = options.repeat or QUICK_REPEAT
        searched = rate.search(name, found, describe(), seconds=seconds, repeat=repeat, show=say)
        text = rate.markdown(searched, link)
        files.write(name, options.out, json=searched, markdown=text, svg=rate.svg(searched))
        return text
    if isinstance(found, Invoke):
        settings = invoke.QUICK if options.quick else invoke.Settings()
        if options.repeat:
            settings = msgspec.structs.replace(settings, repeat=options.repeat)
        invoked = invoke.measure_all(settings, progress=Progress(name).show)
        invoke.write(invoked, options.out)
        return invoke.markdown(invoked)
    chosen = coldstart.QUICK if options.quick else coldstart_report.Options()
    started = coldstart.measure_all(chosen, say)
    coldstart_report.write(started, options.out)
    return coldstart_report.markdown(started)


def _without_effect(found: Scenario, options: argparse.Namespace) -> Iterator[str]:
    """Options that change nothing of what is measured: who gives them expects otherwise."""
    paced = isinstance(found, Rate) or (
        isinstance(found, Load) and any(row.source.rate for _, row in found.rows())
    )
    if (options.seconds or options.minutes) and not paced:
        yield "--seconds and --minutes, as no rate is held"
    if options.minutes and isinstance(found, Rate):
        yield "--minutes; there is --seconds"
    if options.peers and (paced or not isinstance(found, Load)):
        yield "--peers, as no peer is measured beside it"
    if options.quick and isinstance(found, Rate):
        yield "--quick; there are --seconds and --repeat"


def _adjusted(found: Load, options: argparse.Namespace) -> Load:
    """`found` as the options want it."""
    repeat = options.repeat or found.repeat
    if options.quick:
        repeat = min(repeat, QUICK_REPEAT)
    seconds = options.minutes * 60 if options.minutes else options.seconds

    def source(of: scenario.Source) -> scenario.Source:
        lines = min(of.lines, QUICK_LINES) if options.quick else of.lines
        return msgspec.structs.replace(of, lines=lines, seconds=seconds or of.seconds)

    variants = tuple(
        msgspec.structs.replace(each, source=each.source and source(each.source))
        for each in found.variant
    )
    return msgspec.structs.replace(
        found, repeat=repeat, source=source(found.source), variant=variants
    )


def _peers(found: Load, options: argparse.Namespace) -> list[str]:
    """The peers to measure beside it; the copier is the yardstick where lines go flat out."""
    if found.source.rate:
        return []
    if options.peers:
        return [report.CEILING, *options.peers.split(",")]
    if options.quick or options.no_peers or not found.peers:
        return [report.CEILING]
    return list(catalog.load())


def _compare(options: argparse.Namespace) -> int:
    worse = compared = 0
    for folder in (options.before, options.after):
        if not folder.is_dir():
            print(f"bench: no folder {folder}", file=sys.stderr)
            return EXIT_USAGE
    names = {path.name for each in (options.before, options.after) for path in each.glob("*.json")}
    for name in sorted(names):
        before, path = options.before / name, options.after / name
        if not (before.exists() and path.exists()):
            print(
                f"{name}: not compared: only in {before.parent if before.exists() else path.parent}"
            )
            continue
        try:
            old, new = report.read(before), report.read(path)
        except msgspec.ValidationError:
            print(f"{name}: not compared: no ratio to the copier, or of another version")
            continue
        found = report.compare(old, new, options.tolerance)
        print(found.text)
        worse, compared = worse + found.worse, compared + found.compared
    print(f"{compared} compared, {worse} of them worse")
    if not compared:
        print(
            f"bench: nothing in {options.before} and {options.after} could be compared",
            file=sys.stderr,
        )
        return EXIT_USAGE
    return EXIT_WORSE if worse else 0


def _readme(_: argparse.Namespace) -> int:
    for path, link in readme.PAGES.items():
        text = path.read_text(encoding="utf-8")
        path.write_text(readme.filled(text, RESULTS, link), encoding="utf-8")
    return 0
