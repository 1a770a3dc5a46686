"""The memory that all queues share: each has its own part, and any may use the rest.

Half of the budget is divided among the sinks, so that a slow sink can't take the last byte from
another. The other half is for the queues that need it first. Together the queues never hold more
than the budget.
"""

from __future__ import annotations

from typing import Final

_OWN_SHARE: Final = 0.5
_TIGHT: Final = 0.75


class MemoryBudget:
    """`max_bytes` for `queues` queues, which report what they hold."""

    def __init__(self, max_bytes: int, queues: int) -> None:
        self.max_bytes = max_bytes
        self.own_bytes = int(max_bytes * _OWN_SHARE) // max(queues, 1)
        """Bytes that each queue may hold, whatever the others do."""
        self._shared = max_bytes - self.own_bytes * max(queues, 1)
        self._used = 0

    @property
    def largest_bytes(self) -> int:
        """The most that one queue may hold while the others hold no more than their own parts."""
        return self.own_bytes + self._shared

    @property
    def shared_used_bytes(self) -> int:
        """Bytes that the queues hold beyond their own parts."""
        return self._used

    def fits(self, held: int, more: int) -> bool:
        """True if a queue with `held` bytes may take `more`."""
        return self._used + self._beyond(held + more) - self._beyond(held) <= self._shared

    def is_tight(self, held: int) -> bool:
        """True if a queue with `held` bytes will soon reach the limit that the others leave."""
        return held > self.own_bytes and self._used > self._shared * _TIGHT

    def is_used_up(self, held: int) -> bool:
        """True if a queue with `held` bytes should take no more."""
        return held > self.own_bytes and self._used > self._shared

    def on_change(self, before: int, after: int) -> None:
        """Note that a queue that held `before` bytes now holds `after`."""
        self._used += self._beyond(after) - self._beyond(before)

    def _beyond(self, held: int) -> int:
        return held - self.own_bytes if held > self.own_bytes else 0
