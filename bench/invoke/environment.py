"""One environment on the local Lambda for `bench.invoke`: called, timed, and its books judged."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.coldstart.init import HANDLER
from bench.kit.cores import on_core
from bench.kit.errors import LossError
from telemetryd.local import LocalConfig, LocalLambda

FUNCTION_CORE: Final = 0
EXTENSION: Final = "telemetryd"
"""The name extensions have to register under."""
_LOADED: Final = "example handler: loaded"
"""The line that the function prints once."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One environment's invocations, in their order."""

    added_ms: list[float]
    """After the runtime was done, until every extension had asked for the next event."""
    caller_ms: list[float]
    """From the call until its answer."""


class Stage:
    """An environment, its function's calls, and what they took."""

    def __init__(self, env: LocalLambda, lines: int) -> None:
        self.env = env
        self.run = Run(added_ms=[], caller_ms=[])
        self.printed: Counter[str] = Counter({_LOADED: 1})
        """Every line the function was told to print."""
        self._lines = lines
        self._calls = 0

    async def call(self, *, counts: bool) -> None:
        """Call, and return once the environment is at rest. Raises LossError if the call fails."""
        await self._finish(await self._answer(), counts=counts)

    async def call_back_to_back(self, times: int, *, counts: bool) -> None:
        """Call so often, again as soon as there is an answer; measure if `counts`."""
        calls = [await self._answer() for _ in range(times)]
        for call in calls:
            await self._finish(call, counts=counts)

    async def _answer(self) -> tuple[asyncio.Task[Any], float]:
        """Call and wait for the answer: the invocation, which may continue, and the caller's ms."""
        tag = f"call {self._calls}"
        self._calls += 1
        self.printed.update(f"{tag} i={number}" for number in range(self._lines))
        invocation = self.env.prepare({"print": self._lines, "text": tag})
        task = self.env.run(invocation)
        ended: set[asyncio.Future[Any]] = {task, invocation.answered}
        await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
        return task, 1000 * (time.monotonic() - invocation.called)

    async def _finish(self, call: tuple[asyncio.Task[Any], float], *, counts: bool) -> None:
        task, caller_ms = call
        result = await task
        if result.status != "success" or result.function_error:
            raise LossError(f"an invocation ended in {result.status}: {result.payload[:500]!r}")
        if counts:
            self.run.added_ms.append(result.added_ms)
            self.run.caller_ms.append(caller_ms)


@asynccontextmanager
async def environment(
    extension: Sequence[str] | None, variables: Mapping[str, str], *, lines: int, judged: bool
) -> AsyncIterator[Stage]:
    """An environment to call, shut down at its end.

    The function prints `lines` lines for each call. `extension` is the command of an extension by
    the name of `EXTENSION`. If it is `judged` it is telemetryd, which gets `variables` and a file
    sink `out`; LossError is raised where a line is missing, or the books do not show it.
    """
    with tempfile.TemporaryDirectory(prefix="telemetryd-") as place:
        scratch = Path(place)
        output, said = scratch / "out.ndjson", list[bytes]()
        runtime = [sys.executable, "-m", "awslambdaric", "app.handler"]
        config = LocalConfig(
            bootstrap=[*on_core(FUNCTION_CORE), *runtime],
            task_root=HANDLER,
            extensions=[_launcher(scratch, extension)] if extension else [],
            extension_env={
                "TELEMETRYD_TELEMETRY__PORT": "0",
                "TELEMETRYD_SINKS__OUT__TYPE": "file",
                "TELEMETRYD_SINKS__OUT__PATH": str(output),
                **variables,
            },
            private_hosts=False,  # entering a namespace would be part of what is measured
            timeout=30.0,
            flush_at_shutdown=True,  # or the last lines would still be the platform's
            echo=lambda kind, _, line: said.append(line) if kind == "extension" else None,
        )
        async with LocalLambda(config) as env:
            stage = Stage(env, lines)
            yield stage
            await env.shutdown()
        if env.lines.total("function") != stage.printed.total():
            raise LossError("the platform did not see all that the function printed")
        if judged:
            _judge(stage, output, said)


def _launcher(directory: Path, command: Sequence[str]) -> Path:
    """An executable that becomes `command`, on the function's core."""
    path = directory / EXTENSION
    words = [*on_core(FUNCTION_CORE), *command]
    path.write_text("#!/bin/sh\nexec " + " ".join(f"'{word}'" for word in words) + "\n")
    path.chmod(0o755)
    return path


def _judge(stage: Stage, output: Path, said: Sequence[bytes]) -> None:
    """Raise LossError unless everything is in the file once and the ledger says the same."""
    found = output.read_bytes().splitlines() if output.exists() else []
    events = [json.loads(line) for line in found]
    made = Counter(event.type for event in stage.env.events)
    arrived = Counter(event["type"] for event in events if event["type"] != "function")
    if arrived != made:
        raise LossError(
            f"platform events missing: {dict(made - arrived)}, too many: {dict(arrived - made)}"
        )
    printed = Counter(str(e["record"]).rstrip("\n") for e in events if e["type"] == "function")
    if printed != stage.printed:
        missing, surplus = stage.printed - printed, printed - stage.printed
        raise LossError(
            f"of {stage.printed.total():,} lines {missing.total():,} are missing, "
            f"{surplus.total():,} too many"
        )
    records = [json.loads(line) for line in said if line.startswith(b"{")]
    ledgers = [record for record in records if record.get("event") == "ledger"]
    if len(ledgers) != 1:
        raise LossError(f"{len(ledgers)} ledgers of one process")
    delivered = ledgers[0]["sinks"]["out"]["delivered"]["lines"]
    if not ledgers[0]["balanced"] or delivered != len(events):
        raise LossError(f"the ledger does not balance: {ledgers[0]}")
