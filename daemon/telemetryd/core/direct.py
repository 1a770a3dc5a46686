"""When a block may be written in the read's call-back, where a write that stalls stops everything.

A slow write sends the next ones to the sink's thread for a while, each one that follows for twice
as long. The first that is fast again ends that. A write during which the process only got no
processor is not slow: other processes had it, or the CPU quota was used up. The thread would have
stood still as well.
"""

from __future__ import annotations

from typing import Final, Protocol

MAX_BYTES: Final = 1024 * 1024
"""The most that is written at once: about half a millisecond of copying."""
SLOW_SECONDS: Final = 0.005
"""Longer than writing so much takes, and than a loop may stand still unnoticed."""
FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 60.0


class Usage(Protocol):
    """The use that a thread has made of the machine (getrusage(2))."""

    @property
    def ru_utime(self) -> float:
        """Seconds of CPU in the process."""

    @property
    def ru_stime(self) -> float:
        """Seconds of CPU in the kernel."""

    @property
    def ru_nvcsw(self) -> int:
        """How often it has left its processor because it waited for something."""


def is_slow(seconds: float, before: Usage, after: Usage) -> bool:
    """True if a write that took so long has waited, or worked, for longer than it should."""
    if seconds < SLOW_SECONDS:
        return False
    worked = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return after.ru_nvcsw != before.ru_nvcsw or worked >= SLOW_SECONDS


class DirectGuard:
    """The guard of one sink. Times are seconds of one clock that never runs backwards."""

    __slots__ = ("_pause", "_paused_until")

    def __init__(self) -> None:
        self._pause = 0.0
        """How long the last pause was; 0 after a fast write."""
        self._paused_until: float | None = None

    @property
    def is_paused(self) -> bool:
        """True if `permits` has to be asked."""
        return self._paused_until is not None

    def permits(self, now: float) -> bool:
        """True if a write may be made at once. It ends a pause that is over."""
        if self._paused_until is not None and now >= self._paused_until:
            self._paused_until = None
        return self._paused_until is None

    def on_fast(self) -> None:
        """A write took less than `SLOW_SECONDS`."""
        self._pause = 0.0

    def on_slow(self, now: float) -> None:
        """A write took longer."""
        self._pause = min(max(self._pause * 2, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
        self._paused_until = now + self._pause
