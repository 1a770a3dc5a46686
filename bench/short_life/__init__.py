"""Measures the cost of short lives, and their lost lines: `python -m bench short-life`.

Most environments live short. Each subject goes through the same lives on the local Lambda, with
several shares of a CPU (these need root and a CPU controller):

    alone         a function without any extension
    telemetryd    the layer (`make layer`) with each sink: a file, EMF that is printed, Kinesis,
                  CloudWatch Logs, HTTP and OTLP over TLS, to a strict service on this machine
                  with an authority made on the spot
    init          the same with `lambda.start = "init"`
    rust, go-extension    extensions of bench/peers, which write the same lines to a file
    deliveries    no life, but what a delivery costs that comes alone

Lives: 1, 3 or 8 rare invocations, 30 busy ones, one whose extension is killed in the freeze after
it, one that prints 5 MB. Shares: `7.25` throughout, or `100:7.25`, a whole CPU until init ends. The
exit status is 1 if a line was lost in one of the runs of {3 and 8 rare, 30 busy} x {file, Kinesis,
HTTP, OTLP} x {7.25 %, 100 %}, which are made ten times. Without root only the whole CPU is
measured, without a limit.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from bench.coldstart.subjects import LAYER, unpack
from bench.kit.cores import on_core
from bench.kit.errors import AbsentError, LossError
from bench.kit.limits import groups
from bench.kit.machine import describe
from bench.kit.progress import Progress
from bench.load.scenario import Limits
from bench.peers.catalog import PeerError
from bench.short_life import authority, deliveries, report, service, subjects
from bench.short_life.result import Condition, Result, Row, find_losses, merge
from bench.short_life.service import Service
from bench.short_life.settings import (
    ALONE,
    DELIVERIES,
    GAP_SECONDS,
    IN_INIT,
    LIVES,
    OURS,
    QUICK,
    SHARES,
    SINKS,
    SUBJECTS,
    WHOLE,
    Life,
    Settings,
    Share,
    choose,
)
from bench.short_life.stage import Figures, Reaped, Stage, environment, output_of, pause
from bench.short_life.subjects import REMOTE, Subject

RESULTS: Final = Path(__file__).parents[1] / "results"
EXIT_LOST: Final = 1
EXIT_USAGE: Final = 64
EXIT_ABSENT: Final = 69
_PLATFORM_CORE: Final = 1

Show = Callable[[int, int, str], None]
"""Called with the steps done, how many there will be, and what comes next."""


class _Plan:
    """All that is to be measured, and how far that is. Steps are about as long as a second."""

    def __init__(
        self, settings: Settings, found: Sequence[Subject], before: Path | None, show: Show
    ) -> None:
        self.settings = settings
        self.found = found
        self._show = show
        self._done = 0.0
        self._total = sum(self._weight(LIVES[life], share) for life, share, _, _ in self.rounds())
        self._others = [each for each in found if each.name != ALONE and not each.is_ours]
        if before is not None:
            self._others += [subjects.before(sink, before) for sink in deliveries.SINKS]
        if DELIVERIES in settings.only:
            self._total += self._delivery_runs() * deliveries.steps_of(len(self._others))

    def conditions(self) -> Iterator[tuple[str, Share]]:
        """Yield each life with each share; none where deliveries alone are wanted."""
        if set(self.settings.only) == {DELIVERIES}:
            return
        for life in self.settings.lives:
            for share in self.settings.shares:
                yield life, share

    def rounds(self) -> Iterator[tuple[str, Share, int, Subject]]:
        """Yield each life of each subject, and the turn it belongs to."""
        for life, share in self.conditions():
            for turn in range(self.settings.rounds_of(life, share.name)):
                for subject in self.in_turn(life, share, turn):
                    yield life, share, turn, subject

    def in_turn(self, life: str, share: Share, turn: int) -> list[Subject]:
        """Return the subjects of one turn; none is always the first."""
        settings = self.settings
        wanted = [
            each
            for each in self.found
            if not each.is_ours or turn < settings.runs_of(life, share.name, each.sink)
        ]
        at = turn % len(wanted)
        return wanted[at:] + wanted[:at]

    @staticmethod
    def _weight(life: Life, share: Share) -> float:
        slow = 1.0 if share.then == WHOLE else 1.5 if share.then > 20 else 3.0
        if life.busy:
            return 2.0 * slow
        return (0.5 + 0.4 * life.calls) * slow

    def begin(self, life: str, share: Share, subject: Subject) -> None:
        """Show what comes next."""
        title = f"{LIVES[life].title}, {share.title}: {subject.title}"
        self._show(round(self._done), max(round(self._total), 1), title)

    def end(self, life: str, share: Share, count: int) -> None:
        """Note that lives of so many subjects are over."""
        self._done += count * self._weight(LIVES[life], share)

    def _delivery_runs(self) -> int:
        return self.settings.runs or deliveries.RUNS

    def deliveries(self, executable: Path) -> list[deliveries.Delivery]:
        """Measure what comes alone."""

        def show(what: str) -> None:
            self._show(round(self._done), max(round(self._total), 1), what)
            self._done += 1

        return deliveries.measure_all(self._delivery_runs(), executable, self._others, show)


def measure_all(
    settings: Settings, *, executable: Path | None = None, show: Show = lambda *_: None
) -> Result:
    """Measure; takes long. Must not be called from a running event loop.

    `executable` is telemetryd's instead of the layer's, and called `telemetryd`. Raises AbsentError
    where there is neither, or no openssl, and `bench.peers.catalog.PeerError` where another
    extension can't be built.
    """
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="telemetryd-")))
        needed = {OURS, IN_INIT, DELIVERIES} & set(settings.only)
        told = "telemetryd of this Python"
        if executable is None and needed:
            executable, told = _of_layer(settings.layer, scratch / "opt")
        before = None
        if settings.against is not None:
            before, of = _of_layer(settings.against, scratch / "before")
            told = f"{told}, and before {of}"
        if settings.variables:
            told += " ".join(["; with", *(f"{k}={v}" for k, v in settings.variables.items())])
        if settings.delay_ms:
            told += f"; to and from the service it takes {settings.delay_ms:g} ms each"
        found, absent = subjects.find(settings, executable, before)
        refused = _refused_limits()
        if refused:
            settings = _without_limits(settings, absent, refused)
        plan = _Plan(settings, found, before, show)
        served = None
        if any(each.sink in REMOTE for each in found):
            served = stack.enter_context(_serving(scratch, settings.delay_ms))
        measuring = _Measuring(plan, scratch, served, told, limited=not refused)
        wanted = list(plan.conditions())
        if wanted:
            measuring.warm_up()
        conditions = [measuring.condition(*each) for each in wanted]
        alone = []
        if DELIVERIES in settings.only and executable is not None:
            alone = plan.deliveries(executable)
    return Result(machine=describe(), conditions=conditions, deliveries=alone, absent=absent)


def _of_layer(layer: Path, opt: Path) -> tuple[Path, str]:
    if not layer.exists():
        raise AbsentError(f"{layer} is missing: `make layer` builds it")
    digest = hashlib.sha256(layer.read_bytes()).hexdigest()[:12]
    return unpack(layer, opt), f"{layer.name}, SHA-256 {digest}"


def _refused_limits() -> str:
    """Return why this machine grants no share of a CPU; empty if it does."""
    try:
        with groups(Limits(cpu_percent=WHOLE)):
            return ""
    except AbsentError as error:
        return str(error)


def _without_limits(settings: Settings, absent: dict[str, str], why: str) -> Settings:
    """Return `settings` with a whole CPU only; note the other shares as absent."""
    kept = [share for share in settings.shares if share.init == share.then == WHOLE]
    absent |= {share.title: why for share in settings.shares if share not in kept}
    return msgspec.structs.replace(settings, shares=tuple(kept))


@contextlib.contextmanager
def _serving(scratch: Path, delay_ms: float) -> Iterator[Service]:
    made, core = authority.make(scratch), on_core(_PLATFORM_CORE)
    with (
        (scratch / "service.log").open("wb") as said,
        service.serving(made, said, core, delay_ms) as found,
    ):
        yield found


class _Measuring:
    def __init__(
        self, plan: _Plan, scratch: Path, served: Service | None, subject: str, *, limited: bool
    ) -> None:
        self._limited = limited
        self._plan = plan
        self._scratch = scratch
        self._service = served
        self._subject = subject
        self._reaped = Reaped()
        self._lives = 0

    def warm_up(self) -> None:
        """Let every subject live once, for the page cache; nothing of it counts."""
        asyncio.run(self._lives_of(self._plan.found, "1", Share.parse("100")))

    def condition(self, life: str, share: Share) -> Condition:
        """Measure every subject, turn by turn."""
        plan = self._plan
        rows = {
            each.name: Row(name=each.name, title=each.title, sink=each.sink, runs=[])
            for each in plan.found
        }
        for turn in range(plan.settings.rounds_of(life, share.name)):
            wanted = plan.in_turn(life, share, turn)
            together = [[each] for each in wanted] if LIVES[life].busy else [wanted]
            for group in together:
                for name, figures in asyncio.run(self._lives_of(group, life, share)).items():
                    rows[name].runs.append(figures)
                plan.end(life, share, len(group))
        return Condition(life=life, share=share, subject=self._subject, rows=list(rows.values()))

    async def _lives_of(
        self, wanted: Sequence[Subject], name: str, share: Share
    ) -> dict[str, Figures]:
        """Run one life of each subject. Rare calls of one come while the others are frozen."""
        life = LIVES[name]
        found: dict[str, Figures] = {}
        async with AsyncExitStack() as stack:
            stages: list[tuple[str, Stage]] = []
            for subject in wanted:
                self._plan.begin(name, share, subject)
                entered = self._stage(subject, life, share)
                stages.append(await stack.enter_async_context(entered))
                await stages[-1][1].call_back_to_back(life.calls if life.busy else 1)
            for _ in range(1, 1 if life.busy else life.calls):
                for _, stage in stages:
                    began = time.monotonic()
                    await stage.call()
                    await pause(began, GAP_SECONDS / len(stages))
            for unique, stage in stages:
                await stage.end()
                output = output_of(self._scratch, unique)
                found[stage.subject.name] = stage.judge(output, unique, self._service)
                output.unlink(missing_ok=True)
        return found

    @asynccontextmanager
    async def _stage(
        self, subject: Subject, life: Life, share: Share
    ) -> AsyncIterator[tuple[str, Stage]]:
        self._lives += 1
        name = f"life-{self._lives}"
        limits = Limits(cpu_percent=share.init if self._limited else 0)
        with groups(limits, suffix=f"-{self._lives}") as made:
            async with environment(
                subject, life, share, scratch=self._scratch, name=name,
                group=made[0] if made else None, service=self._service, reaped=self._reaped,
            ) as stage:  # fmt: skip
                yield name, stage


# -- the command ----------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `python -m bench short-life`."""
    parser.set_defaults(command=main)
    parser.add_argument("--layer", type=Path, default=LAYER, metavar="ZIP")
    parser.add_argument(
        "--against", type=Path, metavar="ZIP", help="another layer to measure in the same turns"
    )
    parser.add_argument(
        "--delay", type=float, default=0.0, metavar="MS",
        help="what the network to Kinesis and Logs takes in each direction (default: 0)",
    )  # fmt: skip
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE",
        help="a variable for telemetryd, such as TELEMETRYD_LAMBDA__NEXT=ready; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--runs", type=int, default=0, metavar="N",
        help="runs of everything (default: 10 where no line may be lost, 1 elsewhere)",
    )  # fmt: skip
    for option, values in (
        ("--share", [share.name for share in SHARES]),
        ("--sink", SINKS),
        ("--life", LIVES),
        ("--only", SUBJECTS),
    ):
        parser.add_argument(
            option, action="append", metavar="NAMES",
            help=f"only these, separated by commas; may be repeated: {', '.join(values)}",
        )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="little of it, once: a minute or two")
    parser.add_argument(
        "--keep",
        action="store_true",
        help="keep what the results in the folder have of other lives and shares",
    )
    parser.add_argument(
        "--name", default=report.NAME, help=f"name of the results (default: {report.NAME})"
    )
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="folder for results (default: bench/results)"
    )


def main(options: argparse.Namespace) -> int:
    """Measure, write the results, print the tables. Return the exit status."""
    try:
        settings = _settings(options)
    except ValueError as error:
        print(f"bench: short-life: {error}", file=sys.stderr)
        return EXIT_USAGE
    progress = Progress(report.NAME)
    try:
        result = measure_all(settings, show=progress.show)
    except (AbsentError, PeerError, LossError) as error:
        progress.end()
        print(f"bench: short-life: {error}", file=sys.stderr)
        return EXIT_LOST if isinstance(error, LossError) else EXIT_ABSENT
    progress.end()
    print(report.markdown(result), flush=True)
    losses = list(find_losses(result))
    kept = options.out / f"{options.name}.json"
    if options.keep and kept.exists():
        result = merge(report.read(kept), result)
    report.write(result, options.out, options.name)
    for each in losses:
        print(f"bench: {each}", file=sys.stderr)
    return EXIT_LOST if losses else 0


def _settings(options: argparse.Namespace) -> Settings:
    """Return what the options ask for. Raises ValueError."""
    usual = QUICK if options.quick else Settings()
    return msgspec.convert(
        {
            "layer": options.layer,
            "against": options.against,
            "delay_ms": options.delay,
            "variables": dict(_variable(text) for text in options.set),
            "runs": options.runs or usual.runs,
            "lives": choose(options.life, LIVES, usual.lives, str),
            "shares": choose(options.share, (), usual.shares, Share.parse),
            "sinks": choose(options.sink, SINKS, usual.sinks, str),
            "only": choose(options.only, SUBJECTS, usual.only, str),
        },
        Settings,
    )


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ValueError(f"--set {text}: not NAME=VALUE")
    return name, value
