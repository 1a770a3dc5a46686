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
    added: int
    """Bytes of `data` that were not received, as in `Block`."""


def chunks(blocks: Sequence[Block], target: int) -> Iterator[Chunk]:
    """Chunks of at most `target` bytes, in order; a longer line is a chunk of its own."""
    pieces: list[Chunk] = []
    size = 0
    for block in blocks:
        rest: Chunk | None = _whole(block)
        while rest is not None:
            data = rest.data
            cut = _cut(data, target - size)
            if not cut and pieces:  # not even the next line finds room
                yield _joined(pieces)
                pieces, size = [], 0
                continue
            piece, rest = split(rest, cut or data.find(b"\n") + 1)
            pieces.append(piece)
            size += len(piece.data)
    if pieces:
        yield _joined(pieces)


def halves(chunk: Chunk) -> tuple[Chunk, Chunk]:
    """Both halves of a chunk of several lines, cut at the newline nearest before the middle."""
    data = chunk.data
    first, second = split(chunk, data.rfind(b"\n", 0, len(data) // 2) + 1 or data.find(b"\n") + 1)
    if second is None:
        raise ValueError("a single line has no halves")
    return first, second


def split(chunk: Chunk, cut: int) -> tuple[Chunk, Chunk | None]:
    """The lines before byte `cut`, where one ends, and those behind it if there are any.

    Which of the added bytes are in which part is not known: they are shared out by size, so that
    the parts add up.
    """
    data = chunk.data
    if cut == len(data):
        return chunk, None
    count = data.count(b"\n", 0, cut)
    added = chunk.added * cut // len(data)
    source, offset, received_at = chunk.source, chunk.offset, chunk.received_at
    return (
        Chunk(data[:cut], count, source, offset, received_at, added),
        Chunk(
            data[cut:], chunk.lines - count, source, offset + cut - added, received_at,
            chunk.added - added,
        ),
    )  # fmt: skip


def single_lines(blocks: Sequence[Block]) -> Iterator[Chunk]:
    """Each line a chunk."""
    for block in blocks:
        at = added = 0
        for line in BytesIO(block.data).readlines():
            end = at + len(line)
            share = block.added * end // len(block.data) - added
            yield Chunk(line, 1, block.source, block.offset + at - added, block.received_at, share)
            at, added = end, added + share


def _whole(block: Block) -> Chunk:
    return Chunk(
        block.data, block.lines, block.source, block.offset, block.received_at, block.added
    )


def _joined(pieces: list[Chunk]) -> Chunk:
    if len(pieces) == 1:
        return pieces[0]
    first = pieces[0]
    return Chunk(
        b"".join([piece.data for piece in pieces]),
        sum(piece.lines for piece in pieces),
        first.source,
        first.offset,
        first.received_at,
        sum(piece.added for piece in pieces),
    )


def _cut(data: bytes, room: int) -> int:
    """Where the first lines that fit in `room` bytes end."""
    if len(data) <= room:
        return len(data)
    return data.rfind(b"\n", 0, room) + 1 if room > 0 else 0
