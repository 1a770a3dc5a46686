"""Time that no setting of the clock moves, also from one process to the next of the same boot.

The wall clock says when; it may be set, by a day or by decades. How long ago something was is told
by the clock since boot, which a process reads as the one before it did, as long as the machine was
not started again. Only across boots, or where that clock makes no sense, is there nothing else than
the wall clock: the caller then bounds what its word may cost.
"""

from __future__ import annotations

import time
from functools import cache
from typing import Final, NamedTuple

import msgspec

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_LONGEST_MS: Final = 20 * 366 * 86_400_000
"""No machine has been up for longer: such a clock since boot counts from somewhere else."""


class Moment(NamedTuple):
    """One moment on both clocks."""

    boot: str
    """Which boot of which machine; empty: unknown."""
    steady_ms: int
    """Milliseconds since that boot."""
    wall_ms: int
    """Milliseconds since the Unix epoch, as far as the clock was right."""

    def until(self, later: Moment) -> int | None:
        """Milliseconds from here to `later`; None where only the wall clock could tell."""
        if not self.boot or self.boot != later.boot:
            return None
        passed = later.steady_ms - self.steady_ms
        makes_sense = passed >= 0 and max(self.steady_ms, later.steady_ms) < _LONGEST_MS
        return passed if makes_sense else None


def now_ms() -> int:
    """Milliseconds since boot: goes on while the machine sleeps, and is never set."""
    return time.clock_gettime_ns(_CLOCK) // 1_000_000


def moment() -> Moment:
    """The present moment."""
    return Moment(_boot(), now_ms(), time.time_ns() // 1_000_000)


def encode(noted: Moment) -> bytes:
    """`noted` as one line to be stored."""
    return msgspec.json.encode(noted) + b"\n"


def decode(data: bytes) -> Moment | None:
    """What `encode` made; None if `data` is anything else."""
    try:
        return msgspec.json.decode(data, type=Moment)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


@cache
def _boot() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:  # noqa: PTH123 - pathlib takes 2 ms
            return file.read(64).strip()
    except (OSError, ValueError):
        return ""
