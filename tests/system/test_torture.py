"""Random bytes, kills and damaged spools, by the command whose figures docs/reliability.md quotes.

One turn of each, or TELEMETRYD_TEST_TORTURE_MINUTES of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MINUTES = float(os.environ.get("TELEMETRYD_TEST_TORTURE_MINUTES", "0"))

pytestmark = [pytest.mark.system, pytest.mark.timeout(900 + 120 * MINUTES)]


@pytest.mark.parametrize("program", ["fuzz", "kills", "damage"])
def test_nothing_is_lost_that_was_promised(program: str) -> None:
    command = [sys.executable, "-m", "bench.torture", "--json", "--only", program]
    done = subprocess.run(
        [*command, "--minutes", str(MINUTES)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    totals = json.loads(done.stdout)
    assert totals["lines"] > 0
    assert (totals["lost"], totals["wrong"]) == (0, 0)
    assert (totals["kills"] > 0) is (program == "kills")
    assert (totals["spools"] > 0) is (program == "damage")
