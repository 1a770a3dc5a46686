"""Measures a delivery that comes alone: CPU of the receiver's processes, in microseconds.

Two kinds. A lone delivery: `telemetryd listen` of the layer is sent the lines of one invocation
every few milliseconds, over a connection that stays, and delivers each by itself. A rare
invocation: on the local Lambda, with everything around it: INVOKE, the flush at its end, `next`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.kit.cores import aside, on_core
from bench.kit.errors import LossError
from bench.kit.lines import mixed_block
from bench.load import daemon, measure
from bench.peers import catalog
from bench.peers.catalog import cpu_seconds
from bench.short_life.settings import Life, Share
from bench.short_life.stage import Reaped, environment, name_of, output_of
from bench.short_life.subjects import Subject, ours

LONE: Final = "a lone delivery of 6 lines"
INVOCATION: Final = "a rare invocation of 6 lines"
SINKS: Final = ("file", "emf", "null")
RUNS: Final = 7
COPIER: Final = "copier"
_LINES: Final = 6
"""Of an invocation: `start`, three of the function, `runtimeDone`, `report`."""
_BYTES: Final = 290
"""Of a line, about."""
_LONE: Final = 300
_GAP_SECONDS: Final = 0.004
_INVOCATIONS: Final = 40
_WARM: Final = 5
_STILL_SECONDS: Final = 0.3
_LIFE: Final = Life(name="deliveries", title="", calls=_INVOCATIONS, lines=_LINES - 3)
_AT_ONCE: Final = {"emf": {"linger_ms": 0, "metrics": ["*"]}}
"""Or a batch would wait for more lines, and no delivery came alone."""
_FLUSH: Final = {"TELEMETRYD_FLUSH__STRATEGY": "invocation"}
"""The strategy of `auto` for a rare function. These calls are too close together to be rare."""

Show = Callable[[str], None]


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One row."""

    kind: str
    name: str
    title: str
    cpu_us: list[float]
    """Of each run. Runs with the same place in all rows of a kind are a pair."""

    @property
    def is_yardstick(self) -> bool:
        """True if the others are compared with it."""
        return self.name == COPIER


def measure_all(
    runs: int, executable: Path, others: Sequence[Subject], show: Show
) -> list[Delivery]:
    """Measure each so often, in turn.

    `executable` is telemetryd's in the layer, and `others` are measured beside it. Must not
    be called from a running event loop. Raises LossError where a line is missing.
    """
    rows: dict[tuple[str, str], Delivery] = {}

    def note(kind: str, name: str, title: str, cpu_us: float) -> None:
        row = rows.setdefault((kind, name), Delivery(kind=kind, name=name, title=title, cpu_us=[]))
        row.cpu_us.append(cpu_us)

    copier = catalog.load()[COPIER]
    copier.prepare()
    lone = [(sink, f"telemetryd, {sink}", sink, executable) for sink in SINKS]
    lone += [
        (each.name, each.title, each.sink, each.executable)
        for each in others
        if each.is_ours and each.executable is not None
    ]
    subjects = [*(ours(sink, executable) for sink in SINKS), *others]
    for _ in range(runs):
        show(f"{LONE}: {COPIER}")
        note(LONE, COPIER, copier.spec.title, _lone_to_copier())
        for name, title, sink, program in lone:
            show(f"{LONE}: {title}")
            note(LONE, name, title, _lone(sink, program))
        for subject in subjects:
            show(f"{INVOCATION}: {subject.title}")
            note(INVOCATION, subject.name, subject.title, asyncio.run(_invocations(subject)))
    return list(rows.values())


def steps_of(others: int) -> int:
    """Return how often `show` is called in each run."""
    return 1 + 2 * (len(SINKS) + others)


# -- to `listen` ----------------------------------------------------------------------------------


def _deliveries() -> list[bytes]:
    """Return the lines of so many invocations, each with its own request id."""
    size = _BYTES * (_LINES - 3) * (_LONE + 10)
    events = mixed_block([(_BYTES, 1.0)], platform_events=1.0, block_bytes=size).splitlines(True)
    logged = mixed_block([(_BYTES, 1.0)], platform_events=0.0, block_bytes=size).splitlines(True)
    found = []
    for at in range(0, 3 * _LONE, 3):
        start, done, report = events[at : at + 3]
        found.append(b"".join([start, *logged[at : at + 3], done, report]))
    return found


def _send(port: int, pid: int) -> float:
    """Send them, one after the other; microseconds of the receiver's CPU for each."""
    sent = _deliveries()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for data in sent[:20]:
            connection.sendall(data)
            time.sleep(_GAP_SECONDS)
        measure.wait_until_idle(pid, time.perf_counter(), _STILL_SECONDS)
        began = cpu_seconds(pid)
        due = time.monotonic()
        for data in sent:
            connection.sendall(data)
            due += _GAP_SECONDS
            time.sleep(max(due - time.monotonic(), 0))
        measure.wait_until_idle(pid, time.perf_counter(), _STILL_SECONDS)
        return (cpu_seconds(pid) - began) / len(sent) * 1e6


def _lone(sink: str, program: Path) -> float:
    with aside(), tempfile.TemporaryDirectory() as place:
        scratch = Path(place)
        keys: Mapping[str, Any] = _AT_ONCE.get(sink, {})
        path = {"path": str(scratch / "out.ndjson")} if sink == "file" else {}
        config = {"sinks": {"out": {"type": sink, **path, **keys}}}
        with daemon.running(config, scratch, on_core(0), program=program) as running:
            found = _send(running.port, running.process.pid)
            ledger = running.stop()
        page = ledger["sinks"]["out"]
        if page["dropped"]:
            raise LossError(f"{sink}: dropped {page['dropped']}")
        return found


def _lone_to_copier() -> float:
    with aside(), tempfile.TemporaryDirectory() as place:
        copier = catalog.load()[COPIER]
        with copier.running(Path(place, "out"), on_core(0)) as (process, port):
            return _send(port, process.pid)


# -- on the local Lambda --------------------------------------------------------------------------


async def _invocations(subject: Subject) -> float:
    share = Share.parse("100")
    async with contextlib.AsyncExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        entered = environment(
            subject, _LIFE, share, scratch=scratch, name="deliveries", group=None, service=None,
            reaped=Reaped(), extra=_FLUSH if subject.is_ours else None,
        )  # fmt: skip
        stage = await stack.enter_async_context(entered)
        for _ in range(_WARM):
            await stage.call()
        pid = stage.env.pids[name_of(subject)]
        began = cpu_seconds(pid)
        for _ in range(_INVOCATIONS):
            await stage.call()
        used = cpu_seconds(pid) - began
        await stage.end()
        output = output_of(scratch, "deliveries")
        found = stage.judge(output, "deliveries", None)
        if subject.sink != "null" and found.lines.lost:
            raise LossError(f"{subject.title}: {found.lines.lost} lines are missing")
        return used / _INVOCATIONS * 1e6
