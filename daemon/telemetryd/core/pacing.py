"""When the end of an invocation is a time to flush: the strategies of `[flush] strategy`.

`auto` is the reason this is not one line: while invocations are rare, a record left behind would
wait for the next one, so each invocation ends with a flush; while they follow each other closely
the next one delivers it anyway, so nothing is added to any of them, up to a maximum age.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

Strategy: TypeAlias = Literal["auto", "invocation", "continuous", "interval"]

BUSY_GAP_SECONDS: Final = 1.0
"""Idle time between two invocations below which they count as close."""
BUSY_RUN: Final = 3
"""Close ones in a row that make a busy function."""


class Elapsed:
    """One clock out of two, either of which may stand still while the environment is frozen.

    Whether the monotonic clock does is documented nowhere; the wall clock may be set meanwhile.
    """

    __slots__ = ("_monotonic", "_seconds", "_wall")

    def __init__(self, monotonic: float, wall: float) -> None:
        self._monotonic = monotonic
        self._wall = wall
        self._seconds = 0.0

    def at(self, monotonic: float, wall: float) -> float:
        """Seconds since the beginning, at this reading of the clocks; never less than before."""
        self._seconds += max(monotonic - self._monotonic, wall - self._wall, 0.0)
        self._monotonic, self._wall = monotonic, wall
        return self._seconds


class Pacer:
    """Decides per invocation. Times are seconds of one clock that never runs backwards."""

    __slots__ = ("_close_in_a_row", "_interval", "_last_flush", "_max_age", "_parked", "_strategy")

    def __init__(
        self, strategy: Strategy, *, interval_seconds: float, max_age_seconds: float, now: float
    ) -> None:
        self._strategy = strategy
        self._interval = interval_seconds
        self._max_age = max_age_seconds
        self._last_flush = now
        self._parked: float | None = None
        self._close_in_a_row = 0

    @property
    def busy(self) -> bool:
        """Whether the last invocations followed each other closely."""
        return self._close_in_a_row >= BUSY_RUN

    def parked(self, now: float) -> None:
        """`next` was asked for: the environment may freeze."""
        self._parked = now

    def invoked(self, now: float) -> None:
        """`next` was answered with an invocation."""
        if self._parked is not None:
            close = now - self._parked < BUSY_GAP_SECONDS
            self._close_in_a_row = self._close_in_a_row + 1 if close else 0

    def flushed(self, now: float) -> None:
        """Everything queued was delivered."""
        self._last_flush = now

    def flush_at_end(self, now: float, oldest_seconds: float) -> bool:
        """Whether this invocation ends with a flush; `oldest_seconds` is the oldest line's age."""
        if self._strategy == "invocation":
            return True
        if self._strategy == "continuous":
            return False
        since = now - self._last_flush
        if self._strategy == "interval":
            return since >= self._interval
        return not self.busy or oldest_seconds >= self._max_age or since >= self._max_age
