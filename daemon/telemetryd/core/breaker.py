"""The circuit breaker of one sink: stops asking a destination that keeps failing.

closed     every batch is tried
open       none is, until a time; what arrives meanwhile waits in the queue, or fails over
half-open  one batch is tried: delivered closes the circuit, failed opens it for longer
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

State: TypeAlias = Literal["closed", "open", "half_open"]

FIRST_SECONDS: Final = 1.0
MAX_SECONDS: Final = 60.0


class Breaker:
    """Times are loop seconds. `failures` batches given up in a row open the circuit."""

    __slots__ = ("_failures", "_in_a_row", "_open_until", "_seconds")

    def __init__(self, failures: int) -> None:
        self._failures = failures
        self._in_a_row = 0
        self._open_until: float | None = None
        self._seconds = FIRST_SECONDS

    def state(self, now: float) -> State:
        """The state at `now`."""
        if self._open_until is None:
            return "closed"
        return "open" if now < self._open_until else "half_open"

    @property
    def probe_at(self) -> float:
        """When the next batch may be tried; in the past unless the circuit is open."""
        return self._open_until or 0.0

    def succeeded(self) -> bool:
        """Something was delivered; True if that closed the circuit."""
        was_open = self._open_until is not None
        self._in_a_row = 0
        self._open_until = None
        self._seconds = FIRST_SECONDS
        return was_open

    def gave_up(self, now: float, *, permanent: bool) -> bool:
        """A batch was given up; True if that opened the circuit, now or again.

        `permanent`: the destination said that nothing will change by itself, so that one batch is
        enough and the circuit stays open for the longest time.
        """
        self._in_a_row += 1
        if permanent:
            self._seconds = MAX_SECONDS
        if self._open_until is None and self._in_a_row < self._failures and not permanent:
            return False
        self._open_until = now + self._seconds
        self._seconds = min(MAX_SECONDS, self._seconds * 2)
        return True
