"""Where lines go that a sink did not get: to its failover, to the dead letter, or nowhere.

Each is counted once, and goes whole to where it can.
"""

from __future__ import annotations

from collections.abc import Callable

from telemetryd.core.ledger import SinkAccount
from telemetryd.log import DaemonLog
from telemetryd.shell.dead_letter import DeadLetter
from telemetryd_proto.framing import Block


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
        self.failover: Callable[[Block], None] | None = None
        """Offers lines to the sink that stands in for this one."""

    @property
    def wants_data(self) -> bool:
        """Whether lost lines are kept by anybody, or only counted."""
        return self.failover is not None or self._dead_letter is not None

    def overflow(self, block: Block) -> None:
        """The queue dropped `block`, as its policy says: to the failover, or only counted."""
        if self.failover is not None:
            self.undelivered(block, "queue_full")
            return
        self._account.drop("queue_full", block.lines, block.size)
        self._log.warning("lines_dropped", sink=self._name, reason="queue_full", lines=block.lines)

    def undelivered(self, block: Block, reason: str) -> None:
        """Lines that could not be delivered."""
        if self.failover is not None:
            self._account.failed_over.add(block.lines, block.size)
            self._log.warning(
                "lines_failed_over", sink=self._name, reason=reason, lines=block.lines
            )
            self.failover(block)
        else:
            self._keep_or_drop(block, reason)

    def unreadable(self, lines: int, size: int, reason: str) -> None:
        """Undelivered lines that the sink can't give back: only counted."""
        self._account.drop(reason, lines, size)
        self._log.error("lines_dropped", sink=self._name, reason=reason, lines=lines)

    def _keep_or_drop(self, block: Block, reason: str) -> None:
        if self._dead_letter is not None and self._dead_letter.keep(
            block.data, reason=reason, sink=self._name, source=block.source, offset=block.offset
        ):
            self._account.dead_lettered.add(block.lines, block.size)
            self._log.warning(
                "lines_dead_lettered", sink=self._name, reason=reason, lines=block.lines
            )
        else:
            self.unreadable(block.lines, block.size, reason)
