"""Lines to test with: blocks as the queue holds them, batches as `write` gets them."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Iterator, Sequence

from telemetryd.sinks.base import Batch, Item, Sink
from telemetryd_proto.framing import Block

_NEWLINE = 0x0A


def block(*lines: bytes, source: int = 1, offset: int = 0, added: int = 0) -> Block:
    """Return a block of `lines`, given without their newlines, read just now.

    `added` of its bytes were not received.
    """
    data = b"".join(line + b"\n" for line in lines)
    return Block(data, len(lines), source, offset, time.monotonic(), added)


def numbered_blocks(count: int, lines: int = 3, start: int = 0) -> list[Block]:
    """Return `count` blocks of `lines` lines, each line with an id of its own, in order.

    `start` is the number of blocks made before: their ids are not used again.
    """
    ids = itertools.count(start * lines)
    return [
        block(*(b'{"id":%d}' % next(ids) for _ in range(lines)), offset=index)
        for index in range(count)
    ]


def data_of(blocks: Sequence[Block]) -> bytes:
    """Return the lines of `blocks`, in order."""
    return b"".join(each.data for each in blocks)


def batch_of(sink: Sink, blocks: Sequence[Block], batch_id: str = "") -> Batch:
    """Return the batch that `sink` makes of `blocks`, with a new id unless `batch_id` is given."""
    return Batch(batch_id or f"batch-{secrets.token_hex(8)}", tuple(sink.pack(blocks)))


def items_of(*payloads: bytes) -> tuple[Item, ...]:
    """Return an item of each payload, which holds whole lines."""
    return tuple(Item(payload, payload.count(b"\n"), len(payload)) for payload in payloads)


def line_ends(data: bytes) -> Iterator[int]:
    """Yield every length at which `data` holds whole lines only."""
    yield 0
    for at, byte in enumerate(data):
        if byte == _NEWLINE:
            yield at + 1
