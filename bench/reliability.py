"""Counts the lines of real processes on the local Lambda when things go wrong.

    python -m bench.reliability [--outage SECONDS] [--burst LINES] [--only NAME ...] [--json]

Each situation is an execution environment. A function prints numbered lines. Its extension is
telemetryd with one sink, which is up, slow, down, or does not answer. "Printed" counts the lines
that the function printed. "Arrived" counts those in the destination's file. "Lost" is from the
ledgers, by reason, and includes platform events. The table is in docs/reliability.md. The exit
status is 1 if a promise of that page was broken.

Two situations need root: one needs a small tmpfs that fills up, one a memory limit of the kernel.
Without root the first is left out. For the second only the resident size is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

from bench.kit.errors import AbsentError
from bench.kit.limits import granted
from bench.load.scenario import Limits
from telemetryd.local import LocalConfig, LocalLambda

ROOT: Final = Path(__file__).parents[1]
NAME: Final = "telemetryd"
MIB: Final = 1024 * 1024
LIMIT_MIB: Final = 128
PATIENCE: Final = 2000
"""Invocations that are waited through before a situation counts as hanging."""
SLOW_BYTES_PER_SECOND: Final = 100_000
SLACK_SECONDS: Final = 1.0
"""Seconds for a busy machine to end after the two seconds of a shutdown."""
TIMEOUT_SECONDS: Final = 2.0
"""Of an invocation that is to time out."""
NO_ANSWER: Final = -1
NOTHING: Final = "nothing is lost"
COUNTED: Final = "every loss is counted"
ON_DISK: Final = "what was on disk arrives"


class NotRunError(Exception):
    """The machine does not allow it; the text says what is missing."""


class Stage:
    """One environment to be, its sink, and what came of it."""

    def __init__(self, directory: Path, options: argparse.Namespace) -> None:
        self.directory = directory
        self.options = options
        self.gate = directory / "gate"
        self.out = directory / "arrived.ndjson"
        self.spool = directory / "spool"
        self.promise = NOTHING
        self.log: list[dict[str, Any]] = []
        self.printed: Counter[str] = Counter()
        self.on_disk: set[str] = set()
        """Lines that were on disk at the moment that matters."""
        self.peak_mib = 0.0
        self.note = ""

    # -- setting ---------------------------------------------------------------------------------

    def opens(self, bytes_per_second: int = 0) -> None:
        """The destination is up from now on."""
        fresh = self.gate.with_suffix(".new")
        fresh.write_text(str(bytes_per_second))
        fresh.rename(self.gate)

    @asynccontextmanager
    async def environment(
        self, *, spool: bool = True, limit: Sequence[str] = (), **keys: object
    ) -> AsyncIterator[LocalLambda]:
        """The environment; `keys` are the sink's."""
        plugin = self.directory / "plugin"
        info = plugin / "destination-1.0.dist-info"
        info.mkdir(parents=True)
        shutil.copy(Path(__file__).with_name("_destination.py"), plugin / "destination.py")
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: destination\nVersion: 1.0\n")
        entry = "[telemetryd.sinks]\ndestination = destination:Destination\n"
        (info / "entry_points.txt").write_text(entry)
        settings: dict[str, object] = {"type": "destination", "path": self.out, "gate": self.gate}
        if spool:
            settings |= {"spool__path": self.spool}
        sink = {f"TELEMETRYD_SINKS__D__{k.upper()}": str(v) for k, v in (settings | keys).items()}
        config = LocalConfig(
            bootstrap=[*limit, sys.executable, "-m", "awslambdaric", "app.handler"],
            task_root=ROOT / "examples" / "handler",
            extensions=[self._executable(limit)],
            extension_env={
                "PYTHONPATH": str(plugin),
                "TELEMETRYD_TELEMETRY__PORT": "0",
                "TELEMETRYD_FLUSH__STRATEGY": "continuous",
                "TELEMETRYD_FLUSH__MARGIN_MS": str(int(1000 * SLACK_SECONDS)),
                **sink,
            },
            timeout=30.0,
            init_timeout=60.0,
            stall_timeout=30.0,
            shutdown_budget=2.0 + SLACK_SECONDS,
            memory_mb=LIMIT_MIB,
            flush_at_shutdown=True,
            echo=self._listen,
        )
        async with LocalLambda(config) as env:
            watcher = asyncio.create_task(self._watch(env))
            try:
                yield env
                await env.shutdown()
            finally:
                watcher.cancel()

    def _executable(self, limit: Sequence[str]) -> Path:
        path = self.directory / "extensions" / NAME
        path.parent.mkdir()
        command = [*limit, sys.executable, "-m", "telemetryd"]
        path.write_text(f"#!/bin/sh\nexec {shlex.join(command)}\n")
        path.chmod(0o755)
        return path

    def _listen(self, kind: str, _: str, line: bytes) -> None:
        if kind == "extension":
            self.log.append(json.loads(line))

    async def _watch(self, env: LocalLambda) -> None:
        while True:
            self.peak_mib = max(self.peak_mib, _peak_mib(env.pids.get(NAME, 0)))
            await asyncio.sleep(0.02)

    # -- playing ---------------------------------------------------------------------------------

    async def invoke(
        self, env: LocalLambda, lines: int, sleep: float = 0.0, seconds: float | None = None
    ) -> Any:
        """Let the function print so many lines, each unlike any other, within so many seconds."""
        tag = f"call {len(self.printed)}"
        self.printed.update(f"{tag} i={number}" for number in range(lines))
        return await env.invoke({"print": lines, "text": tag, "sleep": sleep}, timeout=seconds)

    async def time_out(self, env: LocalLambda, lines: int) -> None:
        """`invoke` a function that does not come to its end in time."""
        await self.invoke(env, lines, sleep=60.0, seconds=TIMEOUT_SECONDS)

    async def invoke_until(self, env: LocalLambda, done: Callable[[], bool], what: str) -> None:
        """Let time pass: between invocations it stands still."""
        for _ in range(PATIENCE):
            if done():
                return
            await env.invoke({"print": 0, "sleep": 0.1})
        raise TimeoutError(f"waited without success until {what}")

    async def all_arrived(self, env: LocalLambda) -> None:
        """Return when nothing is missing."""
        await self.invoke_until(
            env, lambda: not (self.printed.keys() - self.arrived().keys()), "all lines arrived"
        )

    # -- what came of it -------------------------------------------------------------------------

    def arrived(self) -> Counter[str]:
        """The function's numbered lines in the destination's file."""
        found: Counter[str] = Counter()
        if self.out.exists():
            for line in self.out.read_bytes().split(b"\n"):
                if b'"function"' in line and b" i=" in line:
                    found[json.loads(line)["record"].rstrip("\n")] += 1
        return found

    def segments(self) -> list[Path]:
        """The files of the spool."""
        return sorted(self.spool.glob("*/*.spool"))

    def spooled(self) -> set[str]:
        """The numbered lines in those files, as they lie there."""
        found: set[str] = set()
        for segment in self.segments():
            for part in segment.read_bytes().split(b'"record":"')[1:]:
                text = part[: part.find(b"\\n")]
                if b" i=" in text:
                    found.add(text.decode())
        return found

    def ledgers(self) -> list[dict[str, Any]]:
        """Those of all processes that came to their end."""
        return [record for record in self.log if record["event"] == "ledger"]

    def dropped(self) -> Counter[str]:
        """Lines lost, by reason."""
        found: Counter[str] = Counter()
        for ledger in self.ledgers():
            for reason, leaf in ledger["sinks"]["d"]["dropped"].items():
                found[reason] += leaf["lines"]
            if ledger["upstream_dropped"]["lines"]:
                found["upstream"] += ledger["upstream_dropped"]["lines"]
        return found

    def broken(self) -> list[str]:
        """Return the ways in which the promise was broken."""
        arrived, dropped = self.arrived(), self.dropped()
        missing = self.printed.keys() - arrived.keys()
        problems = [f"came from nowhere: {len(arrived.keys() - self.printed.keys())}"]
        if arrived.keys() <= self.printed.keys():
            problems.clear()
        if not self.ledgers() or not all(ledger["balanced"] for ledger in self.ledgers()):
            problems.append("a ledger does not balance")
        if self.promise == NOTHING and missing:
            problems.append(f"missing: {len(missing)}")
        if self.promise == COUNTED and len(missing) > dropped.total():
            problems.append(f"missing: {len(missing)}, but counted: {dropped.total()}")
        if self.promise == ON_DISK and (self.on_disk - arrived.keys() or not self.on_disk):
            problems.append(f"of {len(self.on_disk)} missing: {len(self.on_disk - arrived.keys())}")
        if self.promise != ON_DISK and arrived.total() > len(arrived):
            problems.append(f"arrived twice: {arrived.total() - len(arrived)}")
        return problems


def _peak_mib(pid: int) -> float:
    """The largest resident size of a process so far; 0 if there is none."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    peaks = [row for row in status.splitlines() if row.startswith("VmHWM")]
    return int(peaks[0].split()[1]) / 1024 if peaks else 0.0


# -- what the machine has to allow -----------------------------------------------------------------


@contextmanager
def memory_limit() -> Iterator[list[str]]:
    """Yield the prefix that puts a command into a group of `LIMIT_MIB`; empty without groups."""
    with ExitStack() as stack:
        try:
            prefix = stack.enter_context(granted(Limits(memory_mb=LIMIT_MIB)))
        except AbsentError:
            prefix = []
        yield prefix


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[None]:
    """A tmpfs mounted at `path`."""
    path.mkdir()
    command = [
        "mount",
        "-t",
        "tmpfs",
        "-o",
        f"size={size},mode=0700",
        "telemetryd-bench",
        str(path),
    ]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NotRunError("needs root, to mount a tmpfs of its own") from error
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)


# -- the situations --------------------------------------------------------------------------------


async def outage(stage: Stage) -> None:
    """The sink is down at first."""
    async with stage.environment() as env:
        end = asyncio.get_running_loop().time() + stage.options.outage
        while asyncio.get_running_loop().time() < end or not stage.segments():
            await stage.invoke(env, 200, sleep=0.1)
        stage.opens()
        await stage.all_arrived(env)
    stage.note = f"down for {stage.options.outage:g} s"


async def slow(stage: Stage) -> None:
    """The sink takes about 1 % of what comes; reset; it is fast again."""
    stage.opens(SLOW_BYTES_PER_SECOND)
    async with stage.environment(queue_max_bytes=MIB, batch_max_bytes=16_384) as env:
        await _outrun(stage, env, 20_000)
        await stage.time_out(env, 1)
        stage.opens()
        await stage.all_arrived(env)


async def slow_without_spool(stage: Stage) -> None:
    """The sink takes about 1 % of what comes, and there is no spool."""
    stage.promise = COUNTED
    stage.opens(SLOW_BYTES_PER_SECOND)
    async with stage.environment(spool=False, queue_max_bytes=MIB, batch_max_bytes=16_384) as env:
        await _outrun(stage, env, 20_000)
        await stage.invoke(env, 1, sleep=1.5)


async def _outrun(stage: Stage, env: LocalLambda, lines: int) -> None:
    result = await stage.invoke(env, lines)
    rate = lines * 100 / (result.duration_ms / 1000)
    stage.note = f"{100 * SLOW_BYTES_PER_SECOND / rate:.1f} % of the input"


async def killed(stage: Stage) -> None:
    """SIGKILL of telemetryd while the sink is down."""
    stage.promise = ON_DISK
    async with stage.environment() as env:
        await stage.invoke(env, 2000)
        await stage.invoke_until(env, lambda: len(stage.spooled()) >= 1000, "lines are on disk")
        env.kill_extension(NAME)
        stage.on_disk = stage.spooled()
        await env.invoke({"print": 0})  # fails with Extension.Crash; the next starts a new process
        stage.opens()
        await stage.invoke_until(
            env, lambda: not stage.on_disk - stage.arrived().keys(), "what was on disk arrived"
        )
    stage.note = f"{len(stage.on_disk):,} were on disk"


async def timed_out(stage: Stage) -> None:
    """The function times out while the sink is down."""
    async with stage.environment() as env:
        await stage.time_out(env, 2000)
        stage.opens()
        await stage.all_arrived(env)


async def spun_down(stage: Stage) -> None:
    """The environment ends for good while the sink is down."""
    stage.promise = COUNTED
    async with stage.environment() as env:
        await stage.invoke(env, 2000, sleep=1.0)
    if stage.segments():
        raise AssertionError("something was left on a disk that no process will ever read")


async def full_disk(stage: Stage) -> None:
    """The spool's disk has 2 MiB, and the sink is down."""
    stage.promise = COUNTED
    with small_disk(stage.spool, "2m"):
        async with stage.environment() as env:
            for _ in range(3):
                await stage.invoke(env, 20_000, sleep=0.5)
            stage.opens()
            await stage.invoke_until(env, lambda: not stage.segments(), "the disk is empty again")


async def damaged(stage: Stage) -> None:
    """A segment is damaged between two processes."""
    stage.promise = COUNTED
    async with stage.environment() as env:
        for _ in range(5):
            await stage.invoke(env, 400, sleep=0.3)
        await stage.time_out(env, 1)
        segment = stage.segments()[-1]
        data = bytearray(segment.read_bytes())
        data[len(data) // 2] ^= 0x55
        segment.write_bytes(data)
        stage.opens()
        await stage.invoke_until(env, lambda: not stage.segments(), "the spool is empty")


async def burst(stage: Stage) -> None:
    """A burst, 128 MB for function and extension together."""
    stage.opens()
    await _burst(stage)


async def burst_spooled(stage: Stage) -> None:
    """The same while the sink is down."""
    await _burst(stage)


async def _burst(stage: Stage, **keys: Any) -> None:
    with memory_limit() as limit:
        async with stage.environment(limit=limit, **keys) as env:
            await stage.invoke(env, stage.options.burst)
            stage.opens()
            await stage.all_arrived(env)
    stage.note = f"{LIMIT_MIB} MiB, " + ("enforced" if limit else "not enforced: needs root")


async def burst_unanswered(stage: Stage) -> None:
    """The same while the sink takes what is written and never answers."""
    stage.opens(NO_ANSWER)
    await _burst(stage, write_timeout_ms=1000)


SITUATIONS: Final[dict[str, Callable[[Stage], Awaitable[None]]]] = {
    "outage": outage,
    "slow": slow,
    "slow-no-spool": slow_without_spool,
    "kill": killed,
    "timeout": timed_out,
    "spindown": spun_down,
    "full-disk": full_disk,
    "damage": damaged,
    "burst": burst,
    "burst-down": burst_spooled,
    "burst-deaf": burst_unanswered,
}


def play(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Play a situation; what came of it, as a row of the table."""
    situation = SITUATIONS[name]
    with tempfile.TemporaryDirectory(prefix="telemetryd-") as directory:
        stage = Stage(Path(directory), options)
        row: dict[str, Any] = {"situation": name, "what": str(situation.__doc__).rstrip(".")}
        hung = []
        try:
            asyncio.run(asyncio.wait_for(situation(stage), 240 + 10 * options.outage))
        except NotRunError as error:
            return row | {"not_run": str(error)}
        except TimeoutError as error:
            hung = [str(error) or "did not come to its end"]
        arrived = stage.arrived()
        return row | {
            "promise": stage.promise,
            "printed": stage.printed.total(),
            "arrived": len(arrived),
            "twice": arrived.total() - len(arrived),
            "lost": dict(stage.dropped()),
            "damaged_bytes": sum(each["sinks"]["d"]["damaged_bytes"] for each in stage.ledgers()),
            "ledgers": len(stage.ledgers()),
            "balanced": all(ledger["balanced"] for ledger in stage.ledgers()),
            "peak_rss_mib": round(stage.peak_mib, 1),
            "note": stage.note,
            "broken": hung + stage.broken(),
        }


HEADER: Final = """\
| Situation | Printed | Arrived | Lost, by the ledger | Peak RSS | Promise |
|---|---:|---:|---|---:|---|"""


def table_row(row: dict[str, Any]) -> str:
    """One line of the table; what is out of the ordinary goes into the last column."""
    if "not_run" in row:
        return f"| {row['what']} | | | | | not run: {row['not_run']} |"
    lost = ", ".join(f"`{reason}` {count:,}" for reason, count in row["lost"].items()) or "0"
    what = row["what"] + (f" ({row['note']})" if row["note"] else "")
    verdict = f"{row['promise']}: " + ("; ".join(row["broken"]) or "kept")
    if row["broken"]:
        verdict = f"BROKEN: {verdict}"
    if row["twice"]:
        verdict += f"; {row['twice']:,} arrived twice"
    return (
        f"| {what} | {row['printed']:,} | {row['arrived']:,} | {lost} "
        f"| {row['peak_rss_mib']:.0f} MiB | {verdict} |"
    )


def main() -> int:
    """Play, print, judge."""
    parser = argparse.ArgumentParser(
        prog="bench.reliability",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--outage", type=float, default=30.0, help="seconds (default: 30)")
    parser.add_argument("--burst", type=int, default=100_000, help="lines (default: 100000)")
    parser.add_argument("--only", nargs="+", choices=SITUATIONS, default=list(SITUATIONS))
    parser.add_argument("--json", action="store_true", help="one JSON object per situation")
    options = parser.parse_args()
    failed = False
    if not options.json:
        print(HEADER, flush=True)
    for name in options.only:
        row = play(name, options)
        failed |= bool(row.get("broken"))
        print(json.dumps(row) if options.json else table_row(row), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
