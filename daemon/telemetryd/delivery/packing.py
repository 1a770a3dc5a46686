"""A batch on its way to items: some of them in each turn of the loop, the rest when asked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from telemetryd.core.ledger import Count
from telemetryd.errors import SinkContractError
from telemetryd.sinks.base import Item, Sink
from telemetryd_proto.framing import Block

TURN_BYTES: Final = 512 * 1024
"""Bytes of lines packed in one turn: about a millisecond of zstd, three of gzip, less than what
reading may take of the loop. Smaller batches are packed at once."""


class Packing:
    """Packs `blocks` with `sink.pack`. Nothing raises; a `bug` is kept until somebody asks."""

    def __init__(self, sink: Sink, blocks: Sequence[Block]) -> None:
        self.items: list[Item] = []
        self.bug: Exception | None = None
        self.is_done = False
        self._blocks = blocks
        self._sink = sink
        self._source: Iterator[Item] | None = None

    def advance(self, size: float = math.inf) -> None:
        """Pack on, until items stand for `size` bytes more or all is packed."""
        try:
            if self._source is None:
                made = self._sink.pack(self._blocks)
                if isinstance(made, list):  # nothing is left to do
                    self.items, made = made, ()
                self._source = iter(made)
            for item in self._source:
                self.items.append(item)
                size -= item.size
                if size <= 0:
                    return
            self._check()
        except Exception as error:  # noqa: BLE001 - a sink's bug costs its own batch only
            self.bug = error
        self.is_done = True

    def _check(self) -> None:
        blocks, items = self._blocks, self.items
        packed = Count(sum(item.lines for item in items), sum(item.size for item in items))
        taken = Count(sum(b.lines for b in blocks), sum(b.size for b in blocks))
        if packed != taken:
            raise SinkContractError(f"pack() made items of {packed} from blocks of {taken}")
        self.items = with_dates(items, blocks[0].received_at if blocks else 0.0)


def with_dates(items: list[Item], received_at: float) -> list[Item]:
    """Return `items`. Those without the time when their lines were read get `received_at`.

    Else they would be as old as the machine: too old for a spool, and for every statistic.
    """
    if all(item.received_at for item in items):
        return items
    return [
        item if item.received_at else msgspec.structs.replace(item, received_at=received_at)
        for item in items
    ]
