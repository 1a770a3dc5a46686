"""Reads the lines of a file or pipe in pieces: any NDJSON, or a dead letter's records.

The first bytes show the format: plain, gzip or zstd, also several one after the other.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
from collections.abc import Generator, Iterator
from io import BytesIO
from pathlib import Path
from typing import Final, NamedTuple, Self

import msgspec

from telemetryd.clock import SYSTEM
from telemetryd.unpack import FOREIGN_HEAD_BYTES, Unpacked, is_packed, refuse_foreign
from telemetryd_proto.framing import Block, Framed, LineFramer, TailBudget

PIECE_BYTES: Final = 1 << 20
"""Bytes that are read, delivered and noted at a time."""
MAX_LINE_BYTES: Final = 64 << 20
_HEAD_BYTES: Final = 16
_ENDLESS: Final = 1 << 62
_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC


class Piece(NamedTuple):
    """Lines to deliver, and where the file continues behind them."""

    blocks: list[Block]
    end: int
    """Offset up to which the lines are done with once `blocks` are settled, of what is unpacked."""
    left_out: int
    """Lines or records that can't be delivered: cut, malformed or too long."""
    read: int = 0
    """Bytes read of the file itself."""


class DeadRecord(msgspec.Struct):
    """A record as `delivery.dead_letter` writes it."""

    reason: str
    size: int = msgspec.field(name="bytes")
    sink: str = ""
    cut: bool = False
    data: str | None = None
    data_base64: str | None = None

    def lines(self) -> bytes | None:
        """Return whole lines; None if the record has none."""
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


class Source:
    """The bytes of `file`, unpacked, from `start` on. A context manager.

    `file` is a path, or a descriptor to be read to its end. Of a regular file at a path no more is
    read than it has now. Nothing is opened before `__enter__`, which may wait for who writes to a
    pipe. Raises OSError, ForeignFileError among them for an archive or binary data; ImportError
    where it needs zstd, and there is none.
    """

    def __init__(self, file: Path | int, start: int = 0) -> None:
        self._file = file
        self._start = start
        self._fd = -1
        self._left = _ENDLESS
        self._unpacked: Unpacked | None = None
        self._consumed = 0
        self._first = b""
        self._head = b""
        """The first line of all."""

    def __enter__(self) -> Self:
        self._fd = self._file if isinstance(self._file, int) else os.open(self._file, _FLAGS)
        status = os.fstat(self._fd)
        start, skipped = self._start, 0
        if not isinstance(self._file, int) and stat.S_ISREG(status.st_mode):
            self._left = status.st_size
            if not is_packed(os.pread(self._fd, _HEAD_BYTES, 0)):
                refuse_foreign(os.pread(self._fd, FOREIGN_HEAD_BYTES, 0))
                return self._plain_from(start)
        self._unpacked = Unpacked(self._read_file)
        self._first = self._first_line()
        refuse_foreign(self._first, unpacked=True)
        while skipped < start and (data := self.read(start - skipped)):
            skipped += len(data)
            if skipped > start:  # what is zstd comes in pieces of any size
                self._first = data[start - skipped :]
                break
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0 and not isinstance(self._file, int):
            os.close(self._fd)
        self._fd = -1

    @property
    def consumed(self) -> int:
        """Bytes of the file itself that have been read, or passed over."""
        return self._consumed

    @property
    def is_dead_letter(self) -> bool:
        """True if the first line is a dead letter's record."""
        try:
            record = _decode(self._head)
        except _NO_RECORD:
            return False
        return record.data is not None or record.data_base64 is not None

    def read(self, size: int) -> bytes:
        """Return the next bytes, none at the end."""
        if self._first:
            data, self._first = self._first[:size], self._first[size:]
            return data
        if self._unpacked is None:
            return self._read_file(size)
        return self._unpacked.read(size)

    def _plain_from(self, start: int) -> Self:
        self._head = b""
        while b"\n" not in self._head and len(self._head) < MAX_LINE_BYTES:
            more = os.pread(self._fd, PIECE_BYTES, len(self._head))
            if not more:
                break
            self._head += more
        self._head = self._head.partition(b"\n")[0]
        os.lseek(self._fd, start, os.SEEK_SET)
        self._left -= start
        self._consumed = start
        return self

    def _first_line(self) -> bytes:
        """Find the first line. Return all bytes that were read for it."""
        read = bytearray()
        while b"\n" not in read and len(read) < MAX_LINE_BYTES and (data := self.read(PIECE_BYTES)):
            read += data
        self._head = bytes(read).partition(b"\n")[0]
        return bytes(read)

    def _read_file(self, size: int) -> bytes:
        data = os.read(self._fd, min(size, self._left))
        self._left -= len(data)
        self._consumed += len(data)
        return data


def pieces(source: Source, start: int, sink: str | None) -> Generator[Piece]:
    """Open `source` and yield its pieces from `start` on; of a dead letter its lines.

    `sink`: of a dead letter only what this sink could not deliver; None: any.
    """
    with source:
        found = lines(source, start)
        yield from dead_records(found, sink) if source.is_dead_letter else found


def lines(source: Source, start: int) -> Iterator[Piece]:
    """Yield the lines of `source`, which is at the offset `start`, in order. Raises OSError.

    Framed as the daemon frames what it receives, but a last line need not have a newline. Blank
    lines are passed over.
    """
    framer = LineFramer(TailBudget(MAX_LINE_BYTES), max_line_bytes=MAX_LINE_BYTES)
    at = start
    while data := source.read(PIECE_BYTES):
        at += len(data)
        parts = framer.feed(data, len(data), SYSTEM.monotonic())
        yield _piece(parts, at - framer.unfinished_bytes, source.consumed)
    if framer.unfinished_bytes:
        yield _piece(framer.feed(b"\n", 1, SYSTEM.monotonic()), at, source.consumed)


def dead_records(found: Iterator[Piece], sink: str | None) -> Iterator[Piece]:
    """Yield the lines in the records of what `sink` could not deliver, of any sink if None.

    Records of other sinks are passed over.
    """
    for piece in found:
        left_out = piece.left_out
        blocks: list[Block] = []
        for block in piece.blocks:
            for line in BytesIO(block.data):
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
                    blocks.append(Block.of(data, received_at=SYSTEM.monotonic()))
        yield Piece(blocks, piece.end, left_out, piece.read)


def _piece(parts: list[Framed], end: int, read: int) -> Piece:
    blocks = [part for part in parts if isinstance(part, Block)]
    refused = [part for part in parts if not isinstance(part, Block) and part.reason != "empty"]
    return Piece(blocks, end, sum(part.lines for part in refused), read)
