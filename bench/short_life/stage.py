"""One environment on the local Lambda, from its init to its end, and what it showed."""

from __future__ import annotations

import asyncio
import resource
import shlex
import signal
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.coldstart.init import HANDLER
from bench.kit.limits import memory_mb, set_share
from bench.short_life import arrival
from bench.short_life.arrival import Balance
from bench.short_life.service import Service
from bench.short_life.settings import Life, Share
from bench.short_life.subjects import REMOTE, Subject
from telemetryd.local import InvokeResult, LocalConfig, LocalLambda
from telemetryd.local.processes import tree

SHUTDOWN_SECONDS: Final = 2.0
"""Seconds that Lambda grants an external extension for its end."""
_LOADED: Final = "example handler: loaded"
"""The line that the function prints once."""
_PATIENCE_SECONDS: Final = 120.0
"""A small share of a CPU makes phases longer than Lambda would wait."""
_LOOK_SECONDS: Final = 0.01
_REPORT: Final = "platform.report"
_CLEAN: Final = (0, -signal.SIGKILL)
"""Exit statuses: one that asks for `next` after SHUTDOWN is at its end, and killed."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """The results of one life. Milliseconds; 10**6 bytes."""

    lines: Balance
    init_ms: float
    """`initReport`."""
    first_wait_ms: float
    """Until the first caller had its response, from the start of the invocation."""
    first_ms: float
    """Duration of the first invocation, runtime and extensions: what is paid for."""
    later_ms: float
    """The same of the others, their median; 0 where there are none."""
    cpu_ms: float
    """User and system time of the extension's processes, from their start to their end."""
    rss_mb: float
    """The highest resident set of the extension's processes."""
    ended: bool
    """The extension ended by itself, before the deadline of the shutdown."""
    ledger: bool
    """It printed a ledger that balances. False for what has none."""
    failed: str = ""
    """The failure of the function."""


class Reaped:
    """The CPU of processes of ours that have ended, one after the other."""

    def __init__(self) -> None:
        self._before = 0.0
        self.note()

    def note(self) -> float:
        """Return the milliseconds of what ended since the last time."""
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        now = 1000 * (used.ru_utime + used.ru_stime)
        since, self._before = now - self._before, now
        return since


class Stage:
    """An environment to call."""

    def __init__(
        self, env: LocalLambda, subject: Subject, life: Life, said: list[bytes], group: Path | None
    ) -> None:
        self.env = env
        self.subject = subject
        self.group = group
        self.results: list[InvokeResult] = []
        self.cpu_ms = 0.0
        self.rss_mb = 0.0
        self.ended = True
        self.failed = ""
        self.said = said
        """The output of the extension."""
        self.printed: Counter[str] = Counter({arrival.line(_LOADED): 1})
        self._life = life
        self._calls = 0

    async def call(self) -> None:
        """Call, and return once the environment is at rest."""
        await self._finish(self._start())

    async def call_back_to_back(self, times: int) -> None:
        """Call so often, again as soon as there is an answer."""
        tasks = []
        for _ in range(times):
            task, answered = self._start()
            ended: set[asyncio.Future[Any]] = {task, answered}
            await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
            tasks.append((task, answered))
        for each in tasks:
            await self._finish(each)

    def _start(self) -> tuple[asyncio.Task[InvokeResult], asyncio.Future[None]]:
        tag = f"call {self._calls}".ljust(self._life.width, ".")
        self._calls += 1
        lines = self._life.lines
        self.printed.update(arrival.line(f"{tag} i={number}") for number in range(lines))
        invocation = self.env.prepare({"print": lines, "text": tag})
        return self.env.run(invocation), invocation.answered

    async def _finish(self, call: tuple[asyncio.Task[InvokeResult], asyncio.Future[None]]) -> None:
        result = await call[0]
        self.results.append(result)
        if result.status != "success" or result.function_error:
            self.failed = f"an invocation ended in {result.status}: {result.payload[:300]!r}"
        self.look()

    def look(self) -> None:
        """Note the memory of the extension."""
        pid = None if self.subject.executable is None else self.env.pids.get(name_of(self.subject))
        if pid is not None:
            self.rss_mb = max(self.rss_mb, sum(map(_peak_mb, tree(pid))))

    async def end(self) -> None:
        """Shut the environment down, or kill the extension first, if that is its life."""
        if self._life.killed and self.subject.executable is not None:
            self.look()
            self.env.kill_extension(name_of(self.subject))
        shutdown = asyncio.ensure_future(self.env.shutdown())
        while not shutdown.done():
            self.look()
            await asyncio.wait([shutdown], timeout=_LOOK_SECONDS)
        await shutdown

    def judge(self, output: Path, life: str, service: Service | None) -> Figures:
        """Return the figures; the life is over."""
        subject, results = self.subject, self.results
        first = results[0]
        later = [result.duration_ms for result in results[1:]]
        return Figures(
            lines=self._balance(output, life, service),
            init_ms=first.init_ms or 0.0,
            first_wait_ms=first.response_ms,
            first_ms=first.duration_ms,
            later_ms=statistics.median(later) if later else 0.0,
            cpu_ms=self.cpu_ms,
            rss_mb=self.rss_mb,
            ended=self.ended,
            ledger=subject.is_ours and arrival.find_ledger(self.said),
            failed=self.failed,
        )

    def _balance(self, output: Path, life: str, service: Service | None) -> Balance:
        made = Counter(event.type for event in self.env.events)
        if self._life.killed:
            made[_REPORT] = 0  # the platform sends it after the freeze
        subject = self.subject
        if subject.executable is None:
            total = (self.printed + made).total()
            return Balance(printed=total, arrived=0, lost=0, doubled=0)
        arrived = service.read(life) if service is not None and subject.sink in REMOTE else None
        if arrived is not None and arrived.refused:
            self.failed = self.failed or f"the service refused: {arrived.refused[0]}"
        if subject.sink == "emf":
            return arrival.compare_reports(made[_REPORT], arrival.count_reports(self.said))
        if arrived is not None and subject.sink == "logs":
            found = arrival.count_reports(arrived.messages)
            return arrival.compare_reports(made[_REPORT], found)
        lines: Iterable[bytes]
        if arrived is not None and subject.sink == "otlp":
            records = arrival.events_of_otlp(arrived)
            return arrival.compare(
                self.printed + made, records, in_log=arrival.events_in(self.said)
            )
        if arrived is None:
            lines = arrival.lines_of_file(output)
        elif subject.sink == "http":
            lines = arrival.lines_of_posts(arrived)
        else:
            lines = arrival.lines_of_stream(arrived)
        printed = self.printed + made
        return arrival.compare(
            printed, arrival.events_in(lines), in_log=arrival.events_in(self.said)
        )


@asynccontextmanager
async def environment(
    subject: Subject,
    life: Life,
    share: Share,
    *,
    scratch: Path,
    name: str,
    group: Path | None,
    service: Service | None,
    reaped: Reaped,
    extra: Mapping[str, str] | None = None,
    shutdown_seconds: float = SHUTDOWN_SECONDS,
) -> AsyncIterator[Stage]:
    """Yield an environment after its init, within `group`, and end it, unless it has ended.

    `name` is its own: of files in `scratch`, of a stream, of a log group. `extra` variables are the
    extension's.
    """
    place = scratch / name
    place.mkdir()
    reaped.note()  # what was built before is not the extension's
    said: list[bytes] = []
    stage: Stage | None = None

    def on_event(what: str, details: Mapping[str, Any]) -> None:
        if what != "exit" or stage is None:
            return
        used, ended = reaped.note(), details["exit"]
        if ended.role == "extension":
            stage.cpu_ms += used
            stage.ended &= not (life.killed or ended.at_deadline) and ended.returncode in _CLEAN

    config = LocalConfig(
        bootstrap=[str(_script(group, place / "bootstrap", _RUNTIME)), "app.handler"],
        task_root=HANDLER,
        extensions=_extension(subject, group, place),
        extension_env={
            "HOME": str(place),
            **_variables(subject, place, name, service),
            **(extra or {}),
        },
        memory_mb=memory_mb(share.then),
        private_hosts=False,  # entering a namespace would be part of what is measured
        init_timeout=_PATIENCE_SECONDS,
        timeout=_PATIENCE_SECONDS,
        shutdown_budget=shutdown_seconds,
        flush_at_shutdown=True,  # or the last lines would still be the platform's
        echo=lambda kind, _, line: said.append(line) if kind == "extension" else None,
        on_event=on_event,
    )
    _give(group, share.init)
    env = LocalLambda(config)
    stage = Stage(env, subject, life, said, group)
    async with env:
        if share.init != share.then:
            _give(group, share.then)
        yield stage


def output_of(scratch: Path, name: str) -> Path:
    """Return the file that a file sink of that environment writes."""
    return scratch / name / "out.ndjson"


_RUNTIME: Final = [sys.executable, "-m", "awslambdaric"]


def name_of(subject: Subject) -> str:
    """Return the name that the subject's extension registers under."""
    assert subject.executable is not None
    return subject.executable.name


def _variables(subject: Subject, place: Path, name: str, service: Service | None) -> dict[str, str]:
    if subject.executable is None:
        return {}
    needed = service.variables if service is not None and subject.sink in REMOTE else {}
    return subject.variables(place / "out.ndjson", name, needed)


def _extension(subject: Subject, group: Path | None, place: Path) -> list[str | Path]:
    """Return a command that starts the extension in the group, under its own name."""
    if subject.executable is None:
        return []
    folder = place / "extensions"
    folder.mkdir()
    return [_script(group, folder / name_of(subject), [str(subject.executable)])]


def _script(group: Path | None, path: Path, command: list[str]) -> Path:
    """Write a script that enters the group and becomes the command."""
    enter = "" if group is None else f"echo $$ > {shlex.quote(str(group))}/cgroup.procs\n"
    path.write_text(f'#!/bin/sh\n{enter}exec {shlex.join(command)} "$@"\n')
    path.chmod(0o755)
    return path


def _give(group: Path | None, percent: float) -> None:
    if group is not None:
        set_share(group, percent)


def _peak_mb(pid: int) -> float:
    with suppress(OSError):  # it has just ended
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0


async def pause(began: float, seconds: float) -> None:
    """Wait until `seconds` have passed since `began`."""
    await asyncio.sleep(max(began + seconds - time.monotonic(), 0.0))
