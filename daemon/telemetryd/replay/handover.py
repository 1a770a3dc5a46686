"""Passes stored lines to one sink, under the worker that the daemon uses.

Lines that the destination may accept later are not given up. When its circuit opens, the replay
ends, and the next call continues from there.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from telemetryd.clock import SYSTEM
from telemetryd.core.ledger import SinkAccount
from telemetryd.core.stats import SinkStats
from telemetryd.delivery.dead_letter import DeadLetter
from telemetryd.delivery.losses import Losses
from telemetryd.delivery.queue import SinkQueue
from telemetryd.delivery.worker import DeliveryWorker
from telemetryd.errors import SinkUnavailable
from telemetryd.log import Log
from telemetryd.replay.sources import Piece
from telemetryd.sinks._thread import SinkThread
from telemetryd.sinks.base import Item, Sink, SinkConfig, SinkContext, SpoolConfig
from telemetryd.sinks.registry import sink_class
from telemetryd.spool.segment_log import SpoolLog
from telemetryd_proto.framing import Block

if TYPE_CHECKING:
    from telemetryd.core.redaction.redactor import Redactor

_FOR_EVER_MS: Final = 86_400_000
_TURN_SECONDS: Final = 0.25
_CLOSE_SECONDS: Final = 2.0

Shown = Callable[[int, int], None]
"""Called with what is done, in bytes, and the lines delivered."""


class Replay:
    """One replay to the sink `name`. `stop_asked` ends it at the next opportunity."""

    def __init__(
        self,
        name: str,
        config: SinkConfig,
        *,
        dead_letter: DeadLetter | None,
        log: Log,
        spool: SpoolConfig | None = None,
        redactor: Redactor | None = None,
    ) -> None:
        self._redactor = redactor
        self.account = SinkAccount()
        self.stop_asked = False
        self._name = name
        config = msgspec.structs.replace(
            config, failover="", linger_ms=0, retry_max_elapsed_ms=_FOR_EVER_MS, spool=spool
        )
        context = SinkContext(
            name=name,
            function="local",
            version="$LATEST",
            instance=secrets.token_hex(16),
            salvage=lambda _data, _reason: False,
            log=log,
        )
        self.sink: Sink = sink_class(config.type)(config, context)
        self._config = config
        self._worker = DeliveryWorker(
            self.sink,
            config,
            self.account,
            SinkQueue(config.queue_max_bytes, "block", lambda _: None),
            stats=SinkStats(),
            losses=Losses(name, self.account, dead_letter=dead_letter, log=log),
            log=log,
            rng=random.Random(),  # noqa: S311 - jitter, not cryptography
            on_bug=self._on_bug,
        )
        self._bug: Exception | None = None

    @property
    def lost_lines(self) -> int:
        """Lines that the sink refused for good."""
        dropped = sum(count.lines for count in self.account.dropped.values())
        return dropped + self.account.dead_lettered.lines

    async def open(self) -> None:
        """Open the sink. Raises SinkUnavailable: why nothing can be delivered."""
        seconds = self._config.write_timeout_ms / 1000
        if reason := await self._worker.open(_now() + seconds):
            raise SinkUnavailable("sink_not_ready", reason)

    async def lines(
        self,
        pieces: Iterator[Piece],
        settled: Callable[[Piece], None],
        reader: SinkThread | None = None,
    ) -> bool:
        """Deliver `pieces`, and report each that is settled. True if all are.

        With a `reader` each is asked for in that thread, for it may be long in coming. Raises
        OSError of the source.
        """
        self._worker.start()
        while (piece := await self._next(pieces, reader)) is not None:
            for block in piece.blocks:
                masked = self._redactor.mask_block(block) if self._redactor is not None else block
                self._worker.offer(masked)
            if not await self._until_settled():
                return False
            settled(piece)
        return not self.stop_asked

    async def _next(self, pieces: Iterator[Piece], reader: SinkThread | None) -> Piece | None:
        """Return the next piece; None at the end, and when the replay is to stop."""
        if reader is None:
            return next(pieces, None)
        reading = asyncio.ensure_future(reader.run(next, pieces, None))
        while not reading.done() and not self._is_over():
            await asyncio.wait({reading}, timeout=_TURN_SECONDS)
        if reading.done():
            return reading.result()
        self.stop_asked = True  # the pipe may never have a writer
        return None

    async def spool(self, shown: Shown) -> bool:
        """Deliver the spool this replay was made for; whether that was all."""
        self._worker.start()
        total = self.account.spooled.bytes
        while self.account.spooled.bytes or self._worker.pending().lines:
            if self._is_over():
                return False
            shown(total - self.account.spooled.bytes, self.account.delivered.lines)
            await asyncio.sleep(_TURN_SECONDS)
        return True

    async def close(self) -> None:
        """Release what is not delivered, and close the sink."""
        await self._worker.stop(_now() + _CLOSE_SECONDS, keep=True)

    async def _until_settled(self) -> bool:
        turn_ends = _now() + _TURN_SECONDS
        while not await self._worker.flush(turn_ends):
            if self._is_over():
                return False
            await asyncio.sleep(max(turn_ends - _now(), 0))  # it may have failed without waiting
            turn_ends = _now() + _TURN_SECONDS
        return True

    def _is_over(self) -> bool:
        if self._bug is not None:
            raise self._bug
        return self.stop_asked or self._worker.is_cut_off

    def _on_bug(self, bug: Exception) -> None:
        self._bug = bug


def spooled_lines(directory: Path, packer: Sink) -> Iterator[tuple[list[Block], int]]:
    """Yield lines in a spool of another sink, unpacked by `packer`, and those that can't be.

    What was given is settled when the next is asked for. Raises OSError; BlockingIOError when a
    process has the spool open.
    """
    log = SpoolLog(str(directory), max_bytes=1 << 40)
    log.open()
    decode = msgspec.msgpack.Decoder(packer.item_type).decode
    try:
        while records := log.take(1 << 20).records:
            blocks: list[Block] = []
            unreadable = 0
            for record in records:
                data = None
                if record.payload is not None:
                    try:
                        item: Item = decode(record.payload)
                        data = packer.unpack(item)
                    except ImportError:
                        raise  # with zstd installed it can be read
                    except Exception:  # noqa: BLE001 - whatever unpacking meets: that is counted
                        data = None
                if data is None:
                    unreadable += record.lines
                elif data:
                    blocks.append(Block.of(data, received_at=SYSTEM.monotonic()))
            yield blocks, unreadable
            log.settle()
    finally:
        log.close()


def _now() -> float:
    return asyncio.get_running_loop().time()
