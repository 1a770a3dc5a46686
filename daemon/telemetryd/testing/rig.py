"""A sink under the worker that runs it in production, with its ledger at hand."""

# ruff: noqa: S101 - assertions are what this is for
from __future__ import annotations

import asyncio
import random
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from telemetryd.core.ledger import Count, SinkAccount
from telemetryd.core.stats import SinkStats
from telemetryd.delivery.dead_letter import DeadLetter
from telemetryd.delivery.losses import Losses
from telemetryd.delivery.queue import SinkQueue
from telemetryd.delivery.worker import DeliveryWorker
from telemetryd.sinks.base import Overflow, Sink, SinkConfig
from telemetryd.testing.surroundings import LogBook
from telemetryd_proto.framing import Block


class Rig:
    """A delivery worker around `sink`, with queue, account, log, and the bugs it reported.

    `worker.start()`, `offer`, `flush` and `stop` are called on a running loop.
    """

    def __init__(
        self,
        sink: Sink,
        config: SinkConfig,
        *,
        log: LogBook | None = None,
        dead_letter: DeadLetter | None = None,
        overflow: Overflow = "block",
        seed: int = 1,
    ) -> None:
        self.sink = sink
        self.log = log or LogBook()
        self.account = SinkAccount()
        self.holds: list[bool] = []
        """The queue's requests to stop reading (True) and to continue (False)."""
        self.stats = SinkStats()
        self.queue = SinkQueue(
            config.queue_max_bytes, overflow, self.holds.append, stats=self.stats
        )
        self.bugs: list[Exception] = []
        """Exceptions that ended the worker. There should be none."""
        self.sink_bugs: list[str] = []
        """Violations of the sink's contract, each with its traceback."""
        self.on_sink_bug: Callable[[], None] | None = None
        self.worker = DeliveryWorker(
            sink,
            config,
            self.account,
            self.queue,
            stats=self.stats,
            losses=Losses(sink.context.name, self.account, dead_letter=dead_letter, log=self.log),
            log=self.log,
            rng=random.Random(seed),  # noqa: S311 - jitter, the same in each run
            on_bug=self.bugs.append,
        )
        self.worker.tell_sink_bugs(self._remember)

    def _remember(self, bug: BaseException) -> None:
        self.sink_bugs.append("".join(traceback.format_exception(bug)))
        if self.on_sink_bug is not None:
            self.on_sink_bug()

    def offer(self, blocks: Sequence[Block]) -> None:
        """Put `blocks` into the sink's queue."""
        for each in blocks:
            self.worker.offer(each)

    async def flush(self, seconds: float = 60.0) -> bool:
        """Wait until all is delivered and flushed; False if that took longer, or failed."""
        return await self.worker.flush(asyncio.get_running_loop().time() + seconds)

    async def stop(self, seconds: float = 60.0, *, keep: bool = False) -> None:
        """Deliver for `seconds`, lose (or with `keep` spool) the rest, and close."""
        await self.worker.stop(asyncio.get_running_loop().time() + seconds, keep=keep)

    def leaves(self) -> dict[str, Count]:
        """Return where lines went: leaves of the account that are not zero, drops by reason."""
        account = self.account
        leaves = {
            "filtered": account.filtered,
            "sampled": account.sampled,
            "delivered": account.delivered,
            "dead_lettered": account.dead_lettered,
            "failed_over": account.failed_over,
            "spooled": account.spooled,
            **{f"dropped.{reason}": count for reason, count in account.dropped.items()},
        }
        return {name: count for name, count in leaves.items() if count != Count()}

    def lines(self) -> dict[str, int]:
        """Return the lines of `settled`."""
        return {name: count.lines for name, count in self.leaves().items()}

    def check_balance(self) -> None:
        """Assert that every line and byte offered is accounted for."""
        pending = self.worker.pending()
        assert self.account.is_balanced(pending), self.account.page(pending)

    def check_end(self) -> None:
        """Assert, after `stop`, that the ledger balances and nothing is left anywhere."""
        self.check_balance()
        assert self.worker.pending() == Count()
        assert self.queue.charged_bytes == 0
        assert self.bugs == []


def dead_letter_at(
    path: Path, log: LogBook | None = None, *, max_bytes: int = 1 << 20, max_record: int = 1 << 16
) -> DeadLetter:
    """Return a dead letter in a file of at most `max_bytes`. Lines are cut at `max_record`."""
    return DeadLetter(
        str(path), max_bytes=max_bytes, max_record_bytes=max_record, log=log or LogBook()
    )
