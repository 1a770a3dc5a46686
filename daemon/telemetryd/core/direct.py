"""When a block may be written in the read's call-back, where a write that stalls stops everything.

A slow write sends the next ones to the sink's thread for a while, each one that follows for twice
as long. The first that is fast again ends that.
"""

from __future__ import annotations

from typing import Final

MAX_BYTES: Final = 1024 * 1024
"""The most that is written at once: about half a millisecond of copying."""
SLOW_SECONDS: Final = 0.005
"""Longer than writing so much takes, and than a loop may stand still unnoticed."""
FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 60.0


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
