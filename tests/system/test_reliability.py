"""The promises of docs/reliability.md, by the command that prints its figures.

An outage lasts TELEMETRYD_TEST_OUTAGE_SECONDS (3). Needs root: a tmpfs of its own to fill up.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
OUTAGE_SECONDS = float(os.environ.get("TELEMETRYD_TEST_OUTAGE_SECONDS", "3"))
PEAK_RSS_MIB = 100

pytestmark = [pytest.mark.system, pytest.mark.timeout(300 + 10 * OUTAGE_SECONDS)]

LOSSES: dict[str, set[str]] = {
    "outage": set(),
    "slow": set(),
    "slow-no-spool": {"queue_full", "shutdown"},
    "kill": set(),
    "timeout": set(),
    "spindown": {"down"},
    "full-disk": {"spool_full"},
    "damage": {"spool_damaged"},
    "burst": set(),
    "burst-down": set(),
    "burst-deaf": set(),
}
"""Each situation, and the reasons lines are lost for in it."""


def played(name: str) -> dict[str, Any]:
    """The situation's row; its promise is kept."""
    command = [sys.executable, "-m", "bench.reliability", "--json", "--only", name]
    done = subprocess.run(
        [*command, "--outage", str(OUTAGE_SECONDS)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout, done.stderr
    row: dict[str, Any] = json.loads(done.stdout)
    if "not_run" in row:
        pytest.fail(f"missing: {row['not_run']}. Run `make test-system` as root.", pytrace=False)
    assert row["broken"] == [], row
    assert done.returncode == 0, done.stderr
    return row


@pytest.mark.parametrize("name", LOSSES)
def test_promises_are_kept(name: str) -> None:
    """Lines are lost for no other reason than the situation's own, and memory stays bounded."""
    row = played(name)
    assert set(row["lost"]) == LOSSES[name], row
    assert row["balanced"]
    assert 0 < row["peak_rss_mib"] < PEAK_RSS_MIB
    if name == "full-disk":  # the youngest are there, as many as fit
        assert row["arrived"] > row["printed"] / 10
