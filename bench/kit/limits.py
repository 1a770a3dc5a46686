"""Control groups: what a Lambda function of some size may use."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.kit.errors import AbsentError
from bench.load.scenario import Limits

ROOT: Final = Path("/sys/fs/cgroup")
NAME: Final = f"telemetryd-bench-{os.getpid()}"
PERIOD_MICROSECONDS: Final = 20_000
WHOLE_CPU_MB: Final = 1769
"""Memory that buys a whole CPU (AWS Lambda Developer Guide, "Configure Lambda function memory")."""
LEAST_MB: Final = 128
_LEAVE_SECONDS: Final = 2.0


@contextlib.contextmanager
def groups(limits: Limits, suffix: str = "") -> Iterator[list[Path]]:
    """Control groups of `limits`, for as long as it lasts: none where nothing is limited.

    Where there are several at the same time, each needs a `suffix` of its own.

    Raises AbsentError where the machine grants none (it needs root, and controllers of either
    version).
    """
    made: list[Path] = []
    try:
        try:
            for group, values in _settings(limits, suffix).items():
                group.mkdir(exist_ok=True)
                made.append(group)
                for name, value in values.items():
                    (group / name).write_text(value)
                _without_swap(group, limits)
        except OSError as error:
            raise AbsentError(
                f"[limits] needs root and a writable {ROOT} with the controllers memory and cpu: "
                f"{error}"
            ) from error
        yield made
    finally:
        for group in made:
            _remove(group)


@contextlib.contextmanager
def granted(limits: Limits) -> Iterator[list[str]]:
    """Yield the prefix that runs a command within `limits`. Raises the errors of `groups`."""
    with groups(limits) as made:
        enter = " ".join(f"{group}/cgroup.procs" for group in made)
        script = f'for group in {enter}; do echo $$ > "$group"; done; exec "$@"'
        yield ["sh", "-c", script, "sh"] if made else []


def set_share(group: Path, percent: float) -> None:
    """Grant a group of `groups` another share of one CPU from now on."""
    for name, value in _quota(percent, unified=_is_unified()).items():
        (group / name).write_text(value)


def memory_mb(percent: float) -> int:
    """Return the memory of a function that has this share of a CPU, in MB."""
    return max(LEAST_MB, round(WHOLE_CPU_MB * percent / 100))


def _is_unified() -> bool:
    return (ROOT / "cgroup.controllers").exists() and not (ROOT / "memory").is_dir()


def _settings(limits: Limits, suffix: str) -> dict[Path, dict[str, str]]:
    unified = _is_unified()
    found: dict[Path, dict[str, str]] = {}
    if limits.memory_mb:
        key = "memory.max" if unified else "memory.limit_in_bytes"
        found.setdefault(_group(unified, "memory", suffix), {})[key] = _bytes(limits)
    if limits.cpu_percent:
        group = found.setdefault(_group(unified, "cpu", suffix), {})
        group |= _quota(limits.cpu_percent, unified=unified)
    return found


def _quota(percent: float, *, unified: bool) -> dict[str, str]:
    quota = int(PERIOD_MICROSECONDS * percent / 100)
    if unified:
        return {"cpu.max": f"{quota} {PERIOD_MICROSECONDS}"}
    return {"cpu.cfs_period_us": str(PERIOD_MICROSECONDS), "cpu.cfs_quota_us": str(quota)}


def _bytes(limits: Limits) -> str:
    return str(limits.memory_mb * 1024 * 1024)


def _without_swap(group: Path, limits: Limits) -> None:
    """Swapped out memory counts as well, where the kernel keeps account of it."""
    for name, value in (("memory.swap.max", "0"), ("memory.memsw.limit_in_bytes", _bytes(limits))):
        if limits.memory_mb and (group / name).exists():
            (group / name).write_text(value)


def _group(unified: bool, controller: str, suffix: str) -> Path:
    name = NAME + suffix
    return ROOT / name if unified else ROOT / controller / name


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
