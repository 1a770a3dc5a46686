"""Control groups: what a Lambda function of some size may use."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.errors import AbsentError
from bench.scenario import Limits

ROOT: Final = Path("/sys/fs/cgroup")
NAME: Final = "telemetryd-bench-limits"
PERIOD_MICROSECONDS: Final = 20_000
_LEAVE_SECONDS: Final = 2.0


@contextlib.contextmanager
def granted(limits: Limits) -> Iterator[list[str]]:
    """What to put before a command so that it runs within `limits`.

    Raises AbsentError where the machine grants no control group (it needs root, and controllers of
    either version).
    """
    settings = _settings(limits)
    groups: list[Path] = []
    try:
        try:
            for group, values in settings.items():
                group.mkdir(exist_ok=True)
                groups.append(group)
                for name, value in values.items():
                    (group / name).write_text(value)
        except OSError as error:
            raise AbsentError(f"no control group for limits ({error}): needs root") from error
        enter = " ".join(f"{group}/cgroup.procs" for group in groups)
        script = f'for group in {enter}; do echo $$ > "$group"; done; exec "$@"'
        yield ["sh", "-c", script, "sh"] if groups else []
    finally:
        for group in groups:
            _remove(group)


def _settings(limits: Limits) -> dict[Path, dict[str, str]]:
    unified = (ROOT / "cgroup.controllers").exists() and not (ROOT / "memory").is_dir()
    found: dict[Path, dict[str, str]] = {}
    if limits.memory_mb:
        size = str(limits.memory_mb * 1024 * 1024)
        key = "memory.max" if unified else "memory.limit_in_bytes"
        found.setdefault(_group(unified, "memory"), {})[key] = size
    if limits.cpu_percent:
        quota = int(PERIOD_MICROSECONDS * limits.cpu_percent / 100)
        group = found.setdefault(_group(unified, "cpu"), {})
        if unified:
            group["cpu.max"] = f"{quota} {PERIOD_MICROSECONDS}"
        else:
            group["cpu.cfs_period_us"] = str(PERIOD_MICROSECONDS)
            group["cpu.cfs_quota_us"] = str(quota)
    return found


def _group(unified: bool, controller: str) -> Path:
    return ROOT / NAME if unified else ROOT / controller / NAME


def _remove(group: Path) -> None:
    """A process that was killed takes a moment to leave."""
    end = time.monotonic() + _LEAVE_SECONDS
    while True:
        try:
            group.rmdir()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            return
