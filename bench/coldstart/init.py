"""Measures a function's init on the local Lambda, with an extension or without one.

There as on the service the runtime starts once every extension has registered, and init ends once
the runtime and every extension have asked for `next`. The function is `examples/handler` on AWS's
Python runtime client.
"""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from bench.coldstart.subjects import Subject
from bench.kit.limits import memory_mb
from telemetryd.local import InvokeResult, LocalConfig, LocalLambda

HANDLER: Final = Path(__file__).parents[2] / "examples" / "handler"
PATIENCE_SECONDS: Final = 120.0  # a small share of a CPU makes init longer than Lambda would wait


class Init(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds of one environment's init and first invocation."""

    init_ms: float
    """`initReport`."""
    response_ms: float
    """Until the caller of the first invocation had its response."""
    duration_ms: float
    """Of the first invocation, runtime and extensions: what is paid for."""


def init(
    subject: Subject | None,
    directory: Path,
    *,
    sink: Mapping[str, str] | None = None,
    group: Path | None = None,
    share: float = 100.0,
) -> Init:
    """One environment: its init, an invocation, its end.

    Runtime and extension run in the control group `group`, the platform does not. `directory` is
    scratch. The function has the memory that buys `share` per cent of a CPU.
    """
    output = directory / "telemetry.ndjson"
    extensions = [] if subject is None else [_within(group, subject.executable, directory)]
    runtime = script(group, directory / "bootstrap", [sys.executable, "-m", "awslambdaric"])
    config = LocalConfig(
        bootstrap=[str(runtime), "app.handler"],
        task_root=HANDLER,
        extensions=extensions,
        extension_env={} if subject is None else subject.environment(output, sink),
        memory_mb=memory_mb(share),
        private_hosts=False,  # entering a namespace would be part of what is measured
        init_timeout=PATIENCE_SECONDS,
        timeout=PATIENCE_SECONDS,
    )

    async def scenario() -> InvokeResult:
        async with LocalLambda(config) as env:
            return await env.invoke({})

    result = asyncio.run(scenario())
    assert result.init_ms is not None
    return Init(
        init_ms=result.init_ms, response_ms=result.response_ms, duration_ms=result.duration_ms
    )


def _within(group: Path | None, executable: Path, directory: Path) -> Path:
    """Return a file that starts the extension in the group, under its own name."""
    if group is None:
        return executable
    return script(group, directory / "extensions" / executable.name, [str(executable)])


def script(group: Path | None, path: Path, command: list[str]) -> Path:
    """Write a script that enters the group and becomes the command."""
    enter = "" if group is None else f"echo $$ > {shlex.quote(str(group))}/cgroup.procs\n"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'#!/bin/sh\n{enter}exec {shlex.join(command)} "$@"\n')
    path.chmod(0o755)
    return path
