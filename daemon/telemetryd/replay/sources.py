"""Reads the lines of a file, piece by piece: any NDJSON, or a dead letter's records of one sink."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from telemetryd_proto.framing import Block, Framed, LineFramer, TailBudget

PIECE_BYTES: Final = 1 << 20
"""What is read, delivered and remembered at a time."""
MAX_LINE_BYTES: Final = 64 << 20


class Piece(NamedTuple):
    """Lines to deliver, and where the file goes on behind them."""

    blocks: list[Block]
    end: int
    """Offset up to which the file is done with once `blocks` are settled."""
    left_out: int
    """Lines or records that can't be delivered: cut, malformed or too long."""


class DeadRecord(msgspec.Struct):
    """A record as `shell.dead_letter` writes it."""

    reason: str
    size: int = msgspec.field(name="bytes")
    sink: str = ""
    cut: bool = False
    data: str | None = None
    data_base64: str | None = None

    def lines(self) -> bytes | None:
        """Whole lines; None where the record has none."""
        if self.cut:
            return None
        if self.data_base64 is not None:
            try:
                found = base64.b64decode(self.data_base64, validate=True)
            except binascii.Error:
                return None
        else:
            found = (self.data or "").encode()
        return found if found.endswith(b"\n") and len(found) == self.size else None


_decode: Final = msgspec.json.Decoder(DeadRecord).decode
_NO_RECORD: Final = (msgspec.MsgspecError, UnicodeDecodeError)


def is_dead_letter(file: Path) -> bool:
    """Whether the first line is a dead letter's record. Raises OSError."""
    with file.open("rb") as stream:
        first = stream.readline(MAX_LINE_BYTES)
    try:
        record = _decode(first)
    except _NO_RECORD:
        return False
    return record.data is not None or record.data_base64 is not None


def lines(file: Path, start: int, end: int) -> Iterator[Piece]:
    """What is in `file` between two offsets, in order. Raises OSError.

    Framed as the daemon frames what it receives, but a last line need not have a newline. Blank
    lines are passed over.
    """
    framer = LineFramer(TailBudget(MAX_LINE_BYTES), max_line_bytes=MAX_LINE_BYTES)
    at = start
    with file.open("rb") as stream:
        stream.seek(start)
        while at < end:
            data = stream.read(min(PIECE_BYTES, end - at))
            if not data:  # it was cut meanwhile
                break
            at += len(data)
            parts = framer.feed(data, len(data), time.monotonic())
            yield _piece(parts, at - framer.unfinished_bytes)
    if framer.unfinished_bytes:
        yield _piece(framer.feed(b"\n", 1, time.monotonic()), at)


def dead_records(file: Path, start: int, end: int, sink: str | None) -> Iterator[Piece]:
    """The lines in the records of what `sink` could not deliver, of any sink if None; as `lines`.

    Records of other sinks are passed over.
    """
    for piece in lines(file, start, end):
        left_out = piece.left_out
        blocks: list[Block] = []
        for block in piece.blocks:
            for line in block.data.splitlines():
                try:
                    record = _decode(line)
                except _NO_RECORD:
                    left_out += 1
                    continue
                if sink is not None and record.sink != sink:
                    continue
                data = record.lines()
                if data is None:
                    left_out += 1
                else:
                    blocks.append(Block(data, data.count(b"\n"), received_at=time.monotonic()))
        yield Piece(blocks, piece.end, left_out)


def _piece(parts: list[Framed], end: int) -> Piece:
    blocks = [part for part in parts if isinstance(part, Block)]
    refused = [part for part in parts if not isinstance(part, Block) and part.reason != "empty"]
    return Piece(blocks, end, sum(part.lines for part in refused))
