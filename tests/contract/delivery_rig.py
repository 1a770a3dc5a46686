"""What tests of sinks and delivery share: blocks, a log that remembers, a worker with its books.

`JumpingLoop` is a real asyncio loop whose clock jumps to the next timer instead of waiting for it:
retry windows of half a minute pass at once, and a wait that nothing will ever end is an error. It
can't be used where threads take part.
"""

# ruff: noqa: D102 - the names say it
from __future__ import annotations

import asyncio
import itertools
import random
import selectors
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop

from telemetryd.core.ledger import Count, SinkAccount
from telemetryd.shell.dead_letter import DeadLetter
from telemetryd.shell.delivery import DeliveryWorker
from telemetryd.shell.losses import Losses
from telemetryd.shell.queue import SinkQueue
from telemetryd.sinks.base import Batch, Item, Overflow, Sink, SinkConfig, SinkContext
from telemetryd_proto.framing import Block

T = TypeVar("T")
LoopFactory = Callable[[], asyncio.AbstractEventLoop]
INSTANCE = "0123456789abcdef0123456789abcdef"

LOOPS = pytest.mark.parametrize(
    "loop_factory",
    [
        pytest.param(asyncio.new_event_loop, id="asyncio"),
        pytest.param(uvloop.new_event_loop, id="uvloop"),
    ],
)


def run(loop_factory: LoopFactory, coroutine: Coroutine[Any, Any, T]) -> T:
    """Run `coroutine` on a loop of its own."""
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(coroutine)


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.jumped = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise AssertionError("the loop waits for something that will never happen")
            self.jumped += max(timeout, 0.0)
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """A loop on which waiting takes no time."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Seconds, those included that were jumped over."""
        return super().time() + self._jumping.jumped


class LogBook:
    """A log that remembers: `(level, event, facts)`, and calls back on an event when asked."""

    def __init__(self) -> None:
        self.records: list[tuple[str, str, dict[str, Any]]] = []
        self.on_event: dict[str, Callable[[], None]] = {}

    def __call__(self, level: str, event: str, **facts: Any) -> None:
        self.records.append((level, event, facts))
        if event in self.on_event:
            self.on_event[event]()

    def facts(self, event: str) -> list[dict[str, Any]]:
        return [facts for _, name, facts in self.records if name == event]


def no_dead_letter(data: bytes, reason: str) -> bool:
    return False


def context(
    log: Callable[..., None] | None = None,
    salvage: Callable[[bytes, str], bool] = no_dead_letter,
    *,
    name: str = "subject",
    function: str = "orders",
    version: str = "$LATEST",
) -> SinkContext:
    return SinkContext(
        name=name,
        function=function,
        version=version,
        instance=INSTANCE,
        salvage=salvage,
        log=log or LogBook(),
    )


def block(*lines: bytes, source: int = 1, offset: int = 0) -> Block:
    """A block of `lines`, given without their newlines."""
    data = b"".join(line + b"\n" for line in lines)
    return Block(data, len(lines), source, offset)


def numbered_blocks(count: int, lines: int = 3, start: int = 0) -> list[Block]:
    """`count` blocks of `lines` lines, each line with an id of its own, in order."""
    ids = itertools.count(start * lines)
    return [
        block(*(b'{"id":%d}' % next(ids) for _ in range(lines)), offset=index)
        for index in range(count)
    ]


def data_of(blocks: Sequence[Block]) -> bytes:
    return b"".join(each.data for each in blocks)


def batch_of(sink: Sink, blocks: Sequence[Block], batch_id: str = "batch-1") -> Batch:
    return Batch(batch_id, tuple(sink.pack(blocks)))


def items_of(*payloads: bytes) -> tuple[Item, ...]:
    return tuple(Item(payload, payload.count(b"\n"), len(payload)) for payload in payloads)


class Rig:
    """A delivery worker around `sink`, with queue, account, log, and the bugs it reported."""

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
        self.queue = SinkQueue(config.queue_max_bytes, overflow, self.holds.append)
        self.bugs: list[Exception] = []
        self.worker = DeliveryWorker(
            sink,
            config,
            self.account,
            self.queue,
            losses=Losses(sink.context.name, self.account, dead_letter=dead_letter, log=self.log),
            log=self.log,
            rng=random.Random(seed),
            on_bug=self.bugs.append,
        )

    def offer(self, blocks: Sequence[Block]) -> None:
        for each in blocks:
            self.worker.offer(each)

    async def flush(self, seconds: float = 60.0) -> bool:
        return await self.worker.flush(asyncio.get_running_loop().time() + seconds)

    async def stop(self, seconds: float = 60.0) -> None:
        await self.worker.stop(asyncio.get_running_loop().time() + seconds)

    def settled(self) -> dict[str, Count]:
        """Where the lines went: the account's leaves that are not zero, drops by their reason."""
        account = self.account
        leaves = {
            "filtered": account.filtered,
            "delivered": account.delivered,
            "dead_lettered": account.dead_lettered,
            "failed_over": account.failed_over,
            **{f"dropped.{reason}": count for reason, count in account.dropped.items()},
        }
        return {name: count for name, count in leaves.items() if count != Count()}

    def lines(self) -> dict[str, int]:
        """`settled`, lines only."""
        return {name: count.lines for name, count in self.settled().items()}

    def check_balance(self) -> None:
        """The ledger adds up, and after the end nothing is left anywhere."""
        assert self.account.balanced(self.worker.pending()), self.account.page(
            self.worker.pending()
        )

    def check_end(self) -> None:
        self.check_balance()
        assert self.worker.pending() == Count()
        assert self.queue.charged_bytes == 0
        assert self.bugs == []


def dead_letter_at(
    path: Path, log: LogBook | None = None, *, max_bytes: int = 1 << 20, max_record: int = 1 << 16
) -> DeadLetter:
    return DeadLetter(
        str(path), max_bytes=max_bytes, max_record_bytes=max_record, log=log or LogBook()
    )
