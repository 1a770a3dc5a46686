"""Cutting blocks into chunks of whole lines near a size, without looking at each line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from telemetryd_proto.framing import Block


def chunks(blocks: Sequence[Block], target: int) -> Iterator[Block]:
    """Yield chunks of at most `target` bytes, in order. A longer line is its own chunk.

    A chunk becomes one record; its place is that of its first line.
    """
    pieces: list[Block] = []
    room = target
    for block in blocks:
        at, size, lines = 0, len(block.data), block.lines
        while at < size:
            end = block.fit(at, room)
            if end == at:
                if pieces:  # not even the next line finds room
                    yield Block.join(pieces)
                    pieces, room = [], target
                    continue
                end = block.end_of_line(at)
            piece = block.slice(at, end, lines if end == size else 0)
            pieces.append(piece)
            room -= end - at
            at, lines = end, lines - piece.lines
    if pieces:
        yield Block.join(pieces)


def halves(chunk: Block) -> tuple[Block, Block]:
    """Return both halves of a chunk of several lines, cut at the last newline before the middle."""
    size = len(chunk.data)
    cut = chunk.fit(0, size // 2) or chunk.end_of_line(0)
    if cut == size:
        raise ValueError("a single line has no halves")
    first = chunk.slice(0, cut)
    return first, chunk.slice(cut, size, chunk.lines - first.lines)
