"""Handles lines that a sink did not get: failover, dead letter, or only a count.

Each is counted once, and goes whole to where it can.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from telemetryd.core.ledger import SinkAccount
from telemetryd.log import DaemonLog
from telemetryd_proto.framing import Block

if TYPE_CHECKING:
    from telemetryd.delivery.dead_letter import DeadLetter


class Losses:
    """The losses of the sink `name`."""

    def __init__(
        self,
        name: str,
        account: SinkAccount,
        *,
        dead_letter: DeadLetter | None,
        log: DaemonLog,
    ) -> None:
        self._name = name
        self._account = account
        self._dead_letter = dead_letter
        self._log = log
        self._failover: Callable[[Block], None] | None = None

    def fail_over(self, offer: Callable[[Block], None]) -> None:
        """Offer lost lines to the failover, by `offer`, from now on."""
        self._failover = offer

    @property
    def wants_data(self) -> bool:
        """True if lost lines are kept somewhere, not only counted."""
        return self._failover is not None or self._dead_letter is not None

    def lose(self, block: Block, reason: str, *, by_policy: bool = False) -> None:
        """Send undelivered lines to the failover or the dead letter, or only count them.

        `by_policy`: the queue's overflow policy dropped them. The dead letter is for what no
        policy allows for, so they are only counted there.
        """
        lines, size = block.lines, block.size
        if self._failover is not None:
            self._account.failed_over.add(lines, size)
            self._log.warning("lines_failed_over", sink=self._name, reason=reason, lines=lines)
            self._failover(block)
        elif by_policy:
            self._account.drop(reason, lines, size)
            self._log.warning("lines_dropped", sink=self._name, reason=reason, lines=lines)
        elif self._dead_letter is not None and self._dead_letter.keep(
            block.data, reason=reason, sink=self._name, source=block.source, offset=block.offset
        ):
            self._account.dead_lettered.add(lines, size)
            self._log.warning("lines_dead_lettered", sink=self._name, reason=reason, lines=lines)
        else:
            self.lose_unread(lines, size, reason)

    def lose_unread(self, lines: int, size: int, reason: str) -> None:
        """Count undelivered lines that can't be read back."""
        self._account.drop(reason, lines, size)
        self._log.error("lines_dropped", sink=self._name, reason=reason, lines=lines)
