"""The batch of one sink that has left the queue or the disk and has not met its end."""

from __future__ import annotations

from typing import Final

from telemetryd.clock import Clock
from telemetryd.core.ledger import Count, SinkAccount, total
from telemetryd.core.stats import SinkStats
from telemetryd.sinks.base import Batch, Failure, Item, WriteResult
from telemetryd_proto.framing import Block

NO_REASON: Final = "shutdown"
"""The reason for losing lines at the end, if no destination gave another one."""

Loss = tuple[Item, str]
"""An item that is not delivered, with the reason."""


class InFlight:
    """First blocks, then items; each item is settled once: delivered, kept or lost."""

    def __init__(self, account: SinkAccount, stats: SinkStats, clock: Clock) -> None:
        self._account = account
        self._stats = stats
        self._clock = clock
        self._blocks: list[Block] = []
        """Blocks that are not items yet."""
        self._charged: list[Block] = []
        """Blocks of the batch: their bytes count against the queue until it has met its end."""
        self._items: list[Loss] = []
        """Items that are not settled, each with the reason if nothing better comes."""
        self._numbers: tuple[int, ...] = ()
        """Their numbers in the batch, as they were in its first attempt."""
        self._next_number = 0
        self._id = ""
        self._began = 0.0
        self._delivered_before = 0
        self.trouble = NO_REASON
        """The last reason a destination gave, while it stands."""

    def take(self, blocks: list[Block]) -> None:
        """Begin a batch of `blocks`."""
        self._blocks = self._charged = blocks
        self._began, self._delivered_before = self._clock.monotonic(), self._account.delivered.lines

    def fill(self, items: list[Item], batch_id: str) -> None:
        """Set the `items` of the blocks, if there were any."""
        self._blocks = []
        self._items = [(item, self.trouble) for item in items]
        self._numbers = tuple(range(len(items)))
        self._next_number = len(items)
        self._id = batch_id

    def batch(self) -> Batch:
        """Return the batch to write now."""
        return Batch(self._id, tuple(item for item, _ in self._items), self._numbers)

    @property
    def blocks(self) -> list[Block]:
        """Return the blocks that are not items yet."""
        return self._blocks

    @property
    def items(self) -> int:
        """Return how many items are not settled."""
        return len(self._items)

    @property
    def code(self) -> str:
        """Return the reason of the last failure."""
        return self._items[-1][1]

    def deliver(self, block: Block, now: float) -> None:
        """Count a block that was delivered at `now` without having been in hand."""
        self._account.delivered.add(block.lines, block.size)
        self._stats.count_delivery(now - block.received_at, block.lines)
        self.trouble = NO_REASON

    def settle(self, result: WriteResult) -> list[Loss]:
        """Count what was delivered; what is refused for good is returned, the rest stays."""
        refused: dict[int, list[Failure]] = {}
        for failure in result.failures:
            refused.setdefault(failure.index, []).append(failure)
        left: list[Loss] = []
        lost: list[Loss] = []
        numbers: list[int] = []
        delivered, now = self._account.delivered, self._clock.monotonic()
        for index, (item, _) in enumerate(self._items):
            lines, size = item.lines, item.size
            for failure in refused.get(index, ()):
                part = item if failure.part is None else failure.part
                lines, size = lines - part.lines, size - part.size
                if failure.retryable:
                    left.append((part, failure.code))
                    numbers.append(self._number_of(index, failure))
                else:
                    lost.append((part, failure.code))
            if lines or index not in refused:
                delivered.add(lines, size)
                self._stats.count_delivery(now - item.received_at, lines)
        self._numbers = tuple(numbers)
        self._items = left
        self.trouble = (left or lost)[-1][1] if left or lost else NO_REASON
        return lost

    def _number_of(self, index: int, failure: Failure) -> int:
        """Return the number of what is left of the item at `index`: a part is another item."""
        if failure.part is None:
            return self._numbers[index]
        self._next_number += 1
        return self._next_number - 1

    def give_up_items(self) -> list[Loss]:
        """Return the items that are not settled. The caller must count them."""
        items, self._items = self._items, []
        return items

    def give_up_blocks(self) -> list[Block]:
        """Return the blocks that are not items yet. The caller must count them."""
        blocks, self._blocks = self._blocks, []
        return blocks

    def end(self) -> tuple[list[Block], float | None]:
        """Return the blocks of the batch that met its end, and the seconds its delivery took.

        None for seconds: some of it was not delivered.
        """
        blocks, self._charged = self._charged, []
        delivered = self._account.delivered.lines - self._delivered_before
        is_whole = delivered == sum(block.lines for block in blocks)
        return blocks, self._clock.monotonic() - self._began if is_whole else None

    def pending(self) -> Count:
        """Count its lines."""
        blocks = (Count(block.lines, block.size) for block in self._blocks)
        return total(*blocks, *(Count(item.lines, item.size) for item, _ in self._items))

    def oldest_received_at(self) -> float | None:
        """Return when its oldest line was read, in monotonic seconds; None without items."""
        return self._items[0][0].received_at if self._items else None
