"""A /tmp that can't be written to, or is full: a real mount, and telemetryd beside a function."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.lifecycle import Stage, play, settings, statuses

pytestmark = pytest.mark.system


@pytest.fixture(params=["read-only", "full"])
def unusable(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A mounted tmpfs that takes nothing more."""
    disk = tmp_path / "tmp"
    disk.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "telemetryd-test", str(disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.fail(
            f"missing: a tmpfs ({done.stderr.strip()}). Run `make test-system` as root; in a "
            "container, start it with the capability SYS_ADMIN (--cap-add SYS_ADMIN).",
            pytrace=False,
        )
    try:
        if request.param == "full":
            (disk / "ballast").write_bytes(b"\0" * 64 * 1024)
        else:
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_without_a_usable_tmp_the_function_answers(unusable: Path, tmp_path: Path) -> None:
    """File sink, spool and dead letter fail alike; each line has its reason, the log says which."""
    stage = Stage(tmp_path)
    variables = settings(
        SINKS__FILE__PATH=unusable / "telemetry.ndjson",
        SINKS__FILE__RETRY_MAX_ELAPSED_MS=0,
        SINKS__FILE__SPOOL__PATH=unusable / "spool",
        DEAD_LETTER__PATH=unusable / "dead.ndjson",
    )
    results, env = play(stage.config(variables), {"print": 50}, {"print": 50})
    assert statuses(results) == ["success", "success"]
    (ledger,) = stage.ledgers()
    page = ledger["sinks"]["file"]
    assert page["delivered"]["lines"] == 0
    assert sum(count["lines"] for count in page["dropped"].values()) == env.stats[0].sent
    text = json.dumps(stage.log("write_failed") + stage.log("sink_not_ready"))
    assert str(unusable) in text
    assert "Read-only file system" in text or "No space left on device" in text
    stage.assert_clean_exits(env)
