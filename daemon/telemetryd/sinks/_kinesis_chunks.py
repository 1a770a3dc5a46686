"""Cutting blocks into chunks of whole lines near a size, without looking at each line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO

import msgspec

from telemetryd_proto.framing import Block


class Chunk(msgspec.Struct, frozen=True, gc=False):
    """Whole lines that become one record; the position is that of the first."""

    data: bytes
    lines: int
    source: int
    offset: int
    received_at: float


def chunks(blocks: Sequence[Block], target: int) -> Iterator[Chunk]:
    """Chunks of at most `target` bytes, in order; a longer line is a chunk of its own."""
    pieces: list[bytes] = []
    size = lines = 0
    first: tuple[int, int, float] = (0, 0, 0.0)

    def full() -> Chunk:
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return Chunk(data, lines, *first)

    for block in blocks:
        data, end = block.data, len(block.data)
        at, left = 0, block.lines
        while at < end:
            cut = _cut(data, at, end, target - size)
            if cut == at:  # not even the next line finds room
                if pieces:
                    yield full()
                    pieces, size, lines = [], 0, 0
                    continue
                cut = data.find(b"\n", at) + 1
            if not pieces:
                first = (block.source, block.offset + at, block.received_at)
            count = left if cut == end else data.count(b"\n", at, cut)
            pieces.append(data[at:cut])  # no copy of a whole block
            size += cut - at
            lines += count
            left -= count
            at = cut
    if pieces:
        yield full()


def halves(chunk: Chunk) -> tuple[Chunk, Chunk]:
    """Both halves of a chunk of several lines, cut at the newline nearest before the middle."""
    data, middle = chunk.data, len(chunk.data) // 2
    cut = data.rfind(b"\n", 0, middle) + 1 or data.find(b"\n") + 1
    count = data.count(b"\n", 0, cut)
    source, offset, received_at = chunk.source, chunk.offset, chunk.received_at
    return (
        Chunk(data[:cut], count, source, offset, received_at),
        Chunk(data[cut:], chunk.lines - count, source, offset + cut, received_at),
    )


def single_lines(blocks: Sequence[Block]) -> Iterator[Chunk]:
    """Each line a chunk."""
    for block in blocks:
        offset = block.offset
        for line in BytesIO(block.data).readlines():
            yield Chunk(line, 1, block.source, offset, block.received_at)
            offset += len(line)


def _cut(data: bytes, at: int, end: int, room: int) -> int:
    """Where the lines from `at` that fit in `room` bytes end."""
    if end - at <= room:
        return end
    return data.rfind(b"\n", at, at + room) + 1 or at if room > 0 else at
