"""The wall clock as a module sees it: somebody may set it."""

from __future__ import annotations

import time


class WallClock:
    """Stands in for the module `time`; `offset` is what the clock was set by, in seconds."""

    def __init__(self) -> None:
        self.offset = 0.0

    def time(self) -> float:
        """Seconds since the epoch, by a clock that was set."""
        return time.time() + self.offset

    def monotonic(self) -> float:
        """Nobody can set this one."""
        return time.monotonic()
