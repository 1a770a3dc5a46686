"""What Lambda may lose, where function and extension share 7.25 % of a processor (128 MB).

Needs root and control groups, as `[limits]` of the benchmarks do.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.kit.errors import AbsentError
from bench.kit.limits import groups
from bench.load.scenario import Limits
from helpers.lifecycle import Stage, install, play, settings, statuses

LONG = 600.0
PATIENCE = 240.0

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]


@pytest.fixture
def small() -> Iterator[Path]:
    """A control group with the processor of a 128 MB function."""
    try:
        with groups(Limits(cpu_percent=7.25)) as (group,):
            yield group
    except AbsentError as error:
        pytest.fail(str(error))


def within(group: Path, path: Path, command: list[str]) -> Path:
    """Write a script that enters the group and becomes the command."""
    path.parent.mkdir(exist_ok=True)
    enter = f"echo $$ > {shlex.quote(str(group))}/cgroup.procs"
    path.write_text(f'#!/bin/sh\n{enter}\nexec {shlex.join(command)} "$@"\n')
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    "loss",
    [
        "runtimeDone@1-2",
        "runtimeDone:late@1",
        "runtimeDone:cut@1",
        "runtimeDone:stall@1",
        "runtimeDone:batch@1",
        "start:close@1",
        "*@1-2",
        "connection",
    ],
)
def test_no_wait_lasts_as_long_as_the_function_may(tmp_path: Path, small: Path, loss: str) -> None:
    """Every caller has its answer, every line is accounted for, and the miss is counted."""
    stage = Stage(tmp_path)
    program = install(tmp_path / "program")
    runtime = [sys.executable, "-m", "awslambdaric", "app.handler"]
    config = stage.config(
        settings(
            FLUSH__STRATEGY="invocation", FLUSH__MAX_SILENCE_MS=5000, FLUSH__MAX_ADDED_MS=60_000
        ),
        extensions=[within(small, tmp_path / "small" / "telemetryd", [str(program)])],
        bootstrap=[str(within(small, tmp_path / "bootstrap", runtime))],
        memory_mb=128,
        lose=[loss],
        timeout=LONG,
        init_timeout=PATIENCE,
        shutdown_budget=PATIENCE,
    )
    results, env = play(config, *[{"print": 2}] * 3)
    assert statuses(results) == ["success"] * 3
    assert max(result.billed_ms for result in results) < LONG * 1000
    (account,) = env.stats
    (ledger,) = stage.ledgers()
    assert len(stage.lines()) == account.sent
    assert ledger["figures"]["invocations"] == 3
    assert ledger["figures"]["ends_missed"]
