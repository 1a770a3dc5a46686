"""One file of a spool: written once from front to end, then read and settled from the front.

Offsets count from the start of the file. Nothing here waits for the disk. Data that the kernel has
taken survives the process, however it ends. When the machine ends, `/tmp` is gone as well.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from telemetryd import trust
from telemetryd.core.ledger import Count
from telemetryd.core.spool_format import (
    HEADER_BYTES,
    SEGMENT_BYTES,
    SETTLED_AT,
    Record,
    RecordHeader,
    decode_header,
    decode_segment,
    encode_record,
    encode_segment,
    encode_settled,
    is_intact,
    next_header,
)

SUFFIX: Final = ".spool"
_FLAGS: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_SEARCH_BYTES: Final = 1 << 20
_WINDOW_BYTES: Final = 1 << 16
"""Bytes read at a time to find headers: those of many small records, or one."""


class Entry(NamedTuple):
    """The position of a record, and its header."""

    at: int
    header: RecordHeader

    @property
    def length(self) -> int:
        """Bytes of the payload."""
        return self.header.length

    @property
    def end(self) -> int:
        """The offset behind the record."""
        return self.at + HEADER_BYTES + self.header.length


class Segment:
    """An open segment. `count` and `records` are of what is not settled."""

    def __init__(self, path: str, fd: int, settled: int, end: int, identity: bytes) -> None:
        self.path = path
        self.settled = settled
        self.end = end
        self.identity = identity
        self.count = Count()
        self.records = 0
        self.newest_ms = 0
        self.oldest_ms = 0
        """The time when the first unsettled line was read, as far as that is known."""
        self.damaged_bytes = 0
        """Bytes found to belong to no intact record."""
        self._fd = fd
        status = os.fstat(fd)
        self._identity = status.st_dev, status.st_ino

    @classmethod
    def create(cls, path: str) -> Segment:
        """Return a new, empty one. Raises OSError."""
        fd = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
        identity = os.urandom(16)
        segment = cls(path, fd, SEGMENT_BYTES, SEGMENT_BYTES, identity)
        try:
            segment._write(encode_segment(identity), 0)
        except OSError:
            segment.remove()
            raise
        return segment

    @classmethod
    def recover(cls, path: str) -> Segment:
        """Open a segment of another process, even if it is damaged. Raises OSError."""
        fd = os.open(path, _FLAGS)
        try:
            status = os.fstat(fd)
            trust.check_owned(path, status)
            end = status.st_size
            data = os.pread(fd, SEGMENT_BYTES, 0)
            settled, identity = decode_segment(data) or (SEGMENT_BYTES, data.ljust(32)[16:])
            segment = cls(path, fd, settled, end, identity)
            if not segment._is_boundary(settled):  # damaged, and its checksum does not show it
                segment.settled = SEGMENT_BYTES
            for entry in segment.entries():
                segment._counts(entry.header)
                end -= entry.end - entry.at
        except OSError:
            os.close(fd)
            raise
        segment.damaged_bytes = max(end - segment.settled, 0)
        return segment

    def append(self, records: Sequence[Record]) -> None:
        """Write `records` at the end, all of them or none. Raises OSError."""
        end = self.end
        try:
            for record in records:
                data = encode_record(record)
                self._write(data, end)
                end += len(data)
        except OSError:
            self._cut()
            raise
        self.end = end
        for record in records:
            self._counts(record)

    def entries(self) -> Iterator[Entry]:
        """Yield the records that are not settled; damage between them is stepped over."""
        at = begin = self.settled
        window = b""
        while at < self.end:
            if at + HEADER_BYTES > begin + len(window):
                window, begin = os.pread(self._file(), _WINDOW_BYTES, at), at
            header = decode_header(window, at - begin)
            if header is not None and at + HEADER_BYTES + header.length <= self.end:
                entry = Entry(at, header)
                yield entry
                at = entry.end
                continue
            at = self._search(at + 1)

    def read(self, entry: Entry) -> Record:
        """Return a record; without its payload where that is damaged or can't be read."""
        header = entry.header
        try:
            data = os.pread(self._file(), entry.length, entry.at + HEADER_BYTES)
        except OSError:
            return Record(None, header.lines, header.size, header.at_ms)
        payload = data if is_intact(header, data) else None
        return Record(payload, header.lines, header.size, header.at_ms)

    def settle(self, entries: list[Entry]) -> None:
        """Mark these records, the first unsettled ones, as settled. Raises OSError."""
        for entry in entries:
            self.count.add(-entry.header.lines, -entry.header.size)
        self.records -= len(entries)
        if entries:
            self.settled = entries[-1].end
            self._write(encode_settled(self.settled), SETTLED_AT)

    def remove(self) -> None:
        """Close and delete the file. Raises OSError, except where it is gone already."""
        self.close()
        try:
            os.unlink(self.path)  # noqa: PTH108 - pathlib costs an import in every process
        except FileNotFoundError:
            return

    def is_gone(self) -> bool:
        """True if the file no longer exists under its name. Raises OSError."""
        try:
            there = os.stat(self.path, follow_symlinks=False)  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            return True
        return (there.st_dev, there.st_ino) != self._identity

    def remaining(self) -> list[Record]:
        """Return unsettled records that can still be read, even from an open deleted file."""
        if self._fd < 0:
            return []
        with contextlib.suppress(OSError):
            return [self.read(entry) for entry in self.entries()]
        return []

    def missing(self) -> Count:
        """Count unsettled lines that were cut off the file. Raises OSError."""
        size = os.fstat(self._file()).st_size
        if size >= self.end:
            return Count()
        kept = [entry.header for entry in self.entries() if entry.end <= size]
        lines = self.count.lines - sum(header.lines for header in kept)
        return Count(lines, self.count.bytes - sum(header.size for header in kept))

    def close(self) -> None:
        """Close the file, which stays; it is opened again when it is needed."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _file(self) -> int:
        """Return the descriptor. Only segments in use have one; a large spool would take all."""
        if self._fd < 0:
            self._fd = os.open(self.path, _FLAGS)
        return self._fd

    def _cut(self) -> None:
        """Take back what `append` wrote. Where even that fails, the next record covers it."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._file(), self.end)

    def _is_boundary(self, at: int) -> bool:
        """True if a record begins at `at`, or the file ends there, even within a torn record."""
        head = os.pread(self._file(), HEADER_BYTES, at)
        return decode_header(head) is not None or at <= self.end < at + HEADER_BYTES

    def _counts(self, record: Record | RecordHeader) -> None:
        self.count.add(record.lines, record.size)
        if not self.records:
            self.oldest_ms = record.at_ms
        self.records += 1
        self.newest_ms = max(self.newest_ms, record.at_ms)

    def _write(self, data: bytes, at: int) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self._file(), view, at)
            if not written:
                raise OSError(0, "the file takes no more bytes")
            at += written
            view = view[written:]

    def _search(self, at: int) -> int:
        """Return the offset of the next intact header, or the end of the segment."""
        while at < self.end:
            window = os.pread(self._file(), _SEARCH_BYTES, at)
            if not window:
                break
            found = next_header(window, 0)
            if found >= 0:
                return at + found
            # a header may lie across the edge of two windows
            at += max(len(window) - HEADER_BYTES + 1, 1)
        return self.end
