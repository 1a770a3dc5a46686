"""Measures how many records an environment sends: the Kinesis sink on the local Lambda.

Each case is one environment whose function prints the same lines, called again as soon as there is
a response (busy) or after a pause (rare). A server in this process takes PutRecords, keeps to the
limits of the service, and keeps the records. A case counts only if every line of the function and
every event of the platform is in a record, unless the extension was killed.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from bench.coldstart.init import HANDLER
from bench.kit.cores import on_core
from bench.kit.errors import LossError
from bench.kit.machine import describe
from bench.load.kinesis_service import Record, decoded
from bench.short_life import arrival
from bench.short_life.stage import Reaped
from telemetryd.core.lifecycle import BUSY_GAP_SECONDS
from telemetryd.local import InvokeResult, LocalConfig, LocalLambda

if TYPE_CHECKING:
    from helpers.kinesis_server import KinesisServer

TESTS: Final = Path(__file__).parents[2] / "tests"
NAME: Final = "packing"
STREAM: Final = "bench"
EXTENSION: Final = "telemetryd"
FUNCTION_CORE: Final = 0
GAP_SECONDS: Final = 1.25 * BUSY_GAP_SECONDS
PUT_UNIT: Final = 25 * 1024
"""Bytes of a PUT payload unit: a record of a provisioned stream is billed in such."""
FIREHOSE_UNIT: Final = 5 * 1024
"""The same for Firehose."""
ON_DEMAND_UNIT: Final = 1024
"""The same for a stream on demand."""
_LOADED: Final = "example handler: loaded"
"""The line that the function prints once."""

Show = Callable[[int, int, str], None]
"""Called with the cases done, how many there will be, and what comes next."""
Started: TypeAlias = "tuple[asyncio.Task[InvokeResult], asyncio.Future[None]]"
"""An invocation, and its response to the caller."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One environment, and how it is called."""

    name: str
    calls: int
    busy: bool
    """Called again at once; otherwise every `GAP_SECONDS`."""
    function_ms: int
    """Milliseconds that the function sleeps."""
    lines: int = 3
    """Lines that the function prints in each invocation."""
    linger_ms: int = 100
    compression: str = "none"
    strategy: str = "auto"
    killed: bool = False
    """The extension is killed in the freeze after the last invocation."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """The records that one environment sent."""

    case: Case
    lines: int
    """Lines of the function and events of the platform."""
    line_bytes: int
    """Their bytes, newlines included."""
    records: int
    requests: int
    """PutRecords calls."""
    data_bytes: int
    """Bytes of the records, without partition keys."""
    largest_bytes: int
    put_units: int
    """Of 25 KiB, each record rounded up."""
    on_demand_bytes: int
    """Bytes with each record rounded up to 1 KiB."""
    firehose_bytes: int
    """Bytes with each record rounded up to 5 KiB."""
    keys: int
    """Different partition keys."""
    cpu_ms: float
    """User and system time of the extension's whole life."""
    lost: int = 0
    """Lines of the function in no record, where the extension was killed."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """All cases."""

    machine: dict[str, str]
    rows: list[Row]


SIXTY: Final = tuple(
    Case(name=f"60 short, linger {linger}", calls=60, busy=True, function_ms=30, linger_ms=linger)
    for linger in (0, 100, 1000, 5000)
)
"""Values of `linger_ms` for a busy function whose invocations take 30 ms."""
BUSY_CALLS: Final = 80
RARE_CALLS: Final = 8
FLEET_MS: Final = 100
"""Milliseconds that an invocation of the fleet takes."""
LINGERS: Final = (100, 1000, 5000)
COMPRESSIONS: Final = ("none", "zstd")
FLEET: Final = tuple(
    Case(
        name=f"{'busy' if busy else 'rare'}, linger {linger}, {compression}",
        calls=BUSY_CALLS if busy else RARE_CALLS, busy=busy, function_ms=FLEET_MS,
        linger_ms=linger, compression=compression,
    )
    for busy, linger in (*((True, each) for each in LINGERS), (False, 100), (False, 5000))
    for compression in COMPRESSIONS
)  # fmt: skip
"""The environments of a fleet."""
ALONE: Final = tuple(
    Case(
        name=f"one invocation, {compression}", calls=1, busy=False, function_ms=FLEET_MS,
        compression=compression,
    )
    for compression in COMPRESSIONS
)  # fmt: skip
"""Lives with one invocation: what is left of the CPU of the others belongs to invocations."""
KILLED: Final = tuple(
    Case(
        name=f"killed, linger {linger}", calls=200, busy=True, function_ms=30, linger_ms=linger,
        killed=True,
    )
    for linger in LINGERS
)  # fmt: skip
"""Busy environments whose extension is killed: what a longer wait risks."""
CASES: Final = (*SIXTY, *FLEET, *ALONE, *KILLED)


def measure_all(cases: Sequence[Case] = CASES, show: Show = lambda *_: None) -> Result:
    """Measure the cases one after the other; about two minutes for all.

    Raises LossError where a line is missing.
    """
    rows = []
    for number, case in enumerate(cases):
        show(number, len(cases), case.name)
        rows.append(asyncio.run(measure(case)))
    return Result(machine=describe(), rows=rows)


async def measure(case: Case) -> Row:
    """Measure one case. Raises LossError where a line is missing."""
    if str(TESTS) not in sys.path:
        sys.path.insert(0, str(TESTS))
    from helpers.kinesis_server import MIB, KinesisServer  # noqa: PLC0415 - of the tests

    with (
        tempfile.TemporaryDirectory(prefix="telemetryd-") as place,
        KinesisServer(max_request=10 * MIB) as server,
    ):
        life = _Life(case)
        await life.run(Path(place), server.url)
        return _judge(life, server)


class _Life:
    """One environment from its init to its end."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.printed: Counter[str] = Counter({arrival.line(_LOADED): 1})
        self.made: Counter[str] = Counter()
        self.cpu_ms = 0.0
        self._random = random.Random(case.calls)
        self._reaped = Reaped()

    async def run(self, place: Path, url: str) -> None:
        """Call as the case says. Raises LossError where a call fails."""
        runtime = [sys.executable, "-m", "awslambdaric", "app.handler"]
        config = LocalConfig(
            bootstrap=[*on_core(FUNCTION_CORE), *runtime],
            task_root=HANDLER,
            extensions=[_launcher(place)],
            extension_env={"HOME": str(place), **_variables(self.case, url)},
            private_hosts=False,
            timeout=30.0,
            flush_at_shutdown=True,  # or the last lines would still be the platform's
            on_event=self._on_event,
        )
        self._reaped.note()
        async with LocalLambda(config) as env:
            await self._call_all(env)
            if self.case.killed:
                env.kill_extension(EXTENSION)
            await env.shutdown()
            self.made = Counter(event.type for event in env.events)

    async def _call_all(self, env: LocalLambda) -> None:
        running = []
        for number in range(self.case.calls):
            if number and not self.case.busy:
                await asyncio.sleep(GAP_SECONDS)
            task, answered = self._start(env, number)
            ended: set[asyncio.Future[Any]] = {task, answered if self.case.busy else task}
            await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
            running.append(task)
        for result in await asyncio.gather(*running):
            if result.status != "success" or result.function_error:
                raise LossError(f"an invocation ended in {result.status}: {result.payload[:300]!r}")

    def _start(self, env: LocalLambda, number: int) -> Started:
        text = self._text(number)
        lines = self.case.lines
        self.printed.update(arrival.line(f"{text} i={line}") for line in range(lines))
        event = {"print": lines, "text": text, "sleep": self.case.function_ms / 1000}
        invocation = env.prepare(event)
        return env.run(invocation), invocation.answered

    def _text(self, number: int) -> str:
        """Return a line as functions log them: some words that stay, some values that do not."""
        order, customer = self._random.randbytes(8).hex(), self._random.randrange(10**6)
        return (
            f"INFO shop.orders: order {order} of customer {customer} accepted, "
            f"total={self._random.random() * 100:.2f} EUR, warehouse=FRA-{number % 7}, attempt=1"
        )

    def _on_event(self, what: str, details: Any) -> None:
        if what == "exit":
            used = self._reaped.note()
            if details["exit"].role == "extension":
                self.cpu_ms += used


def _variables(case: Case, url: str) -> dict[str, str]:
    """Return the environment variables of the extension."""
    return {
        "TELEMETRYD_TELEMETRY__PORT": "0",
        "TELEMETRYD_FLUSH__STRATEGY": case.strategy,
        "TELEMETRYD_SINKS__OUT__TYPE": "kinesis",
        "TELEMETRYD_SINKS__OUT__STREAM": STREAM,
        "TELEMETRYD_SINKS__OUT__LINGER_MS": str(case.linger_ms),
        "TELEMETRYD_SINKS__OUT__COMPRESSION": case.compression,
        "AWS_ENDPOINT_URL_KINESIS": url,
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_REGION": "eu-west-1",
    }


def _launcher(place: Path) -> Path:
    """Return an executable that becomes telemetryd, on the function's core."""
    path = place / EXTENSION
    words = [*on_core(FUNCTION_CORE), str(Path(sys.prefix, "bin", EXTENSION))]
    path.write_text("#!/bin/sh\nexec " + " ".join(f"'{word}'" for word in words) + "\n")
    path.chmod(0o755)
    return path


def _judge(life: _Life, server: KinesisServer) -> Row:
    """Return the figures. Raises LossError unless every line is in a record."""
    if server.violations:
        raise LossError(f"Kinesis would have refused: {server.violations[0]}")
    records = [put.data for put in server.accepted]
    lines = list(_lines(records))
    found = list(arrival.events_in(lines))
    if life.case.killed:  # the platform's last events are sent after the freeze
        mine = [each for each in found if each.startswith(arrival.line(""))]
        balance = arrival.compare(life.printed, mine)
    else:
        balance = arrival.compare(life.printed + life.made, found)
    if balance.doubled or (balance.lost and not life.case.killed):
        raise LossError(f"{balance.lost} lines are missing, {balance.doubled} too many")
    sizes = [len(data) for data in records]
    return Row(
        case=life.case,
        lines=len(lines),
        line_bytes=sum(len(line) + 1 for line in lines),
        records=len(records),
        requests=len(server.requests),
        data_bytes=sum(sizes),
        largest_bytes=max(sizes, default=0),
        put_units=sum(-(-size // PUT_UNIT) for size in sizes),
        on_demand_bytes=sum(round_up(size, ON_DEMAND_UNIT) for size in sizes),
        firehose_bytes=sum(round_up(size, FIREHOSE_UNIT) for size in sizes),
        keys=len({put.partition_key for put in server.accepted}),
        cpu_ms=life.cpu_ms,
        lost=balance.lost,
    )


def _lines(records: Sequence[bytes]) -> Iterator[bytes]:
    for _, lines in decoded(Record(data) for data in records):
        yield from lines


def round_up(size: int, unit: int) -> int:
    """Return `size` rounded up to a multiple of `unit`."""
    return -(-size // unit) * unit
