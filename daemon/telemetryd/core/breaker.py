"""The circuit breaker of one sink: stops asking a destination that keeps failing.

closed     every attempt may be made
open       none, until a time; what arrives until then waits in the queue, or fails over
half-open  one attempt: delivered closes the circuit, failed opens it for longer
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

State: TypeAlias = Literal["closed", "open", "half_open"]

FAILURES: Final = 5
"""Failed attempts in a row that open the circuit."""
FIRST_SECONDS: Final = 1.0
MAX_SECONDS: Final = 60.0


class Breaker:
    """Times are loop seconds."""

    __slots__ = ("_in_a_row", "_open_until", "_seconds", "permanent")

    def __init__(self) -> None:
        self._in_a_row = 0
        self._open_until: float | None = None
        self._seconds = FIRST_SECONDS
        self.permanent = False
        """True if the destination said that waiting will not help."""

    def state(self, now: float) -> State:
        """Return the state at `now`."""
        if self._open_until is None:
            return "closed"
        return "open" if now < self._open_until else "half_open"

    @property
    def is_closed(self) -> bool:
        """True if every attempt may be made, at any time."""
        return self._open_until is None

    @property
    def probe_at(self) -> float:
        """Return the time of the next attempt; in the past unless the circuit is open."""
        return self._open_until or 0.0

    @property
    def is_failing(self) -> bool:
        """True if the last attempt failed as a whole."""
        return self._in_a_row > 0

    def on_success(self) -> bool:
        """Note that something was delivered. True if that closed the circuit."""
        was_open = self._open_until is not None
        self._in_a_row = 0
        self._open_until = None
        self._seconds = FIRST_SECONDS
        self.permanent = False
        return was_open

    def on_failure(self, now: float, *, permanent: bool = False, at_once: bool = False) -> bool:
        """Note that an attempt failed completely. True if that opened the circuit, or kept it open.

        `permanent`: waiting will not help, so that one failure is enough, and the circuit stays
        open for the longest time. `at_once`: as where a destination has kept silent for long, one
        failure is enough as well.
        """
        self._in_a_row += 1
        self.permanent = permanent
        enough = permanent or at_once or self._in_a_row >= FAILURES
        if self._open_until is None and not enough:
            return False
        self._open_until = now + (MAX_SECONDS if permanent else self._seconds)
        self._seconds = min(MAX_SECONDS, self._seconds * 2)
        return True

    def leave_alone(self, now: float, seconds: float) -> bool:
        """Make no attempt for `seconds`, but the longest time at most. True if that opened it.

        For a destination that has just failed and asked for that. False if it waits longer anyway.
        """
        until = now + min(seconds, MAX_SECONDS)
        if until <= max(now, self.probe_at):
            return False
        self._open_until = until
        return True
