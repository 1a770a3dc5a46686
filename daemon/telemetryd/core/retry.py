"""Decides when to retry and when to give up: full jitter, bounded by age and deadline.

Full jitter (a uniform draw from zero to an exponentially growing cap) spreads the retries of many
environments that failed together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _random import Random

BASE_SECONDS: Final = 0.05
CAP_SECONDS: Final = 5.0


class RetrySchedule:
    """The schedule of one batch, or of one sink's `open`. Times are loop seconds."""

    __slots__ = ("_give_up_at", "_rng", "failures")

    def __init__(self, *, give_up_at: float, rng: Random) -> None:
        self._give_up_at = give_up_at
        self._rng = rng
        self.failures = 0

    def next_attempt(
        self, now: float, *, retry_after: float = 0.0, deadline: float | None = None
    ) -> float | None:
        """Return the time of the next attempt after a failure at `now`, or None to give up.

        `retry_after` is the destination's own wish in seconds. `deadline` ends everything earlier;
        since nothing comes after it, the delays shrink to make use of what is left.
        """
        self.failures += 1
        cap = min(CAP_SECONDS, BASE_SECONDS * 2.0 ** min(self.failures - 1, 16))
        if deadline is not None:
            cap = min(cap, max(deadline - now, BASE_SECONDS))
        at = now + max(retry_after, cap * self._rng.random())
        limit = self._give_up_at if deadline is None else min(self._give_up_at, deadline)
        return at if at < limit else None
