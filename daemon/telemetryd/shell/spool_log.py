"""The segments of one sink's spool, as one long queue on disk: append, put back, take, settle.

Files are numbered; what is put back goes into a file numbered before the first. All calls are
synchronous and small: a page cache takes a mebibyte in less time than a thread takes to start, and
what is written here is counted in the same moment, whatever happens next.
"""

from __future__ import annotations

import fcntl
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from telemetryd.core.ledger import Count, total
from telemetryd.core.spool_format import Record
from telemetryd.shell.spool_segment import SUFFIX, Entry, Segment

SEGMENT_MAX_BYTES: Final = 4 * 1024 * 1024
SEGMENT_MAX_RECORDS: Final = 4096
_FIRST: Final = 1 << 32
_LOCK: Final = "lock"
_DIGITS: Final = 16
_HEX: Final = frozenset("0123456789abcdef")
_SHARE: Final = 8
"""A segment is at most this part of the whole: what a full spool gives up at a time."""


class Taken(NamedTuple):
    """Records from the front, to be settled."""

    batch_id: str
    """The same when they are taken again, by this process or the next."""
    records: list[Record]


class SpoolLog:
    """A spool in `directory`. Only one process may have it open."""

    def __init__(self, directory: str, *, max_bytes: int) -> None:
        self.directory = directory
        self._segment_bytes = min(SEGMENT_MAX_BYTES, max_bytes // _SHARE)
        self._segments: deque[tuple[int, Segment]] = deque()
        self._tail: Segment | None = None
        """The last segment, while it is written to."""
        self._front: deque[Entry] | None = None
        """What may be taken from the first segment, once that has been looked up."""
        self._taken: tuple[Segment, list[Entry]] | None = None
        self._lock = -1

    @property
    def is_open(self) -> bool:
        """Whether the directory is ours."""
        return self._lock >= 0

    @property
    def count(self) -> Count:
        """Lines that are not settled, those taken included."""
        return total(*(segment.count for _, segment in self._segments))

    @property
    def disk_bytes(self) -> int:
        """Bytes of the files."""
        return sum(segment.end for _, segment in self._segments)

    @property
    def damaged_bytes(self) -> int:
        """Bytes in the files that were found to belong to no intact record."""
        return sum(segment.damaged_bytes for _, segment in self._segments)

    def exists(self) -> bool:
        """Whether there is anything on disk that may have to be recovered."""
        return os.path.isdir(self.directory)  # noqa: PTH112 - as in spool_segment

    def open(self) -> None:
        """Lock the directory, making it if need be, and find what is there. Raises OSError."""
        os.makedirs(self.directory, mode=0o700, exist_ok=True)  # noqa: PTH103
        path = os.path.join(self.directory, _LOCK)  # noqa: PTH118
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for number in sorted(_numbers(os.listdir(self.directory))):  # noqa: PTH208
                segment = Segment.recover(self._path(number))
                if segment is not None:
                    self._segments.append((number, segment))
        except OSError:
            self.close()
            os.close(lock)
            raise
        self._lock = lock

    def append(self, record: Record) -> None:
        """Put `record` behind all others. Raises OSError."""
        tail = self._tail
        if tail is None or (
            tail.end + len(record.payload or b"") > self._segment_bytes
            or tail.records >= SEGMENT_MAX_RECORDS
        ):
            number = self._segments[-1][0] + 1 if self._segments else _FIRST
            tail = Segment.create(self._path(number))
            self._segments.append((number, tail))
            self._tail = tail
        tail.append([record])

    def put_back(self, records: Sequence[Record]) -> None:
        """Put `records` before all others, all or none. Raises OSError."""
        number = self._segments[0][0] - 1 if self._segments else _FIRST
        segment = Segment.create(self._path(number))
        try:
            segment.append(records)
        except OSError:
            segment.remove()
            raise
        self._segments.appendleft((number, segment))
        self._front = None

    def take(self, max_bytes: int) -> Taken:
        """Records from the front, up to `max_bytes` of payload but at least one if there is any.

        `settle` comes before the next. Raises OSError.
        """
        while self._segments:
            number, segment = self._segments[0]
            if segment is self._tail:  # what is read from is no longer written to
                self._tail = None
            if self._front is None:
                self._front = deque(segment.entries())
            if self._front:
                break
            self._remove_first()
        else:
            return Taken("", [])
        entries = [self._front.popleft()]
        size = entries[0].length
        while self._front and size + self._front[0].length <= max_bytes:
            size += self._front[0].length
            entries.append(self._front.popleft())
        self._taken = segment, entries
        batch_id = f"{segment.identity.hex()}-{number:x}-{entries[0].at}"
        return Taken(batch_id, [segment.read(entry) for entry in entries])

    def settle(self) -> None:
        """What `take` gave has met its end. Raises OSError: it may then be taken again."""
        taken, self._taken = self._taken, None
        if taken is not None:
            segment, entries = taken
            segment.settle(entries)
            if not segment.records:  # what was put back since may lie before it
                self._segments = deque(each for each in self._segments if each[1] is not segment)
                self._front = None
                segment.remove()

    def evict(self) -> list[Record] | None:
        """Remove the oldest segment that nothing is taken from; its records. None: there is none.

        Raises OSError.
        """
        in_use = self._taken[0] if self._taken is not None else None
        for index, (_, segment) in enumerate(self._segments):
            if segment is not in_use:
                records = [segment.read(entry) for entry in segment.entries()]
                del self._segments[index]
                if index == 0:
                    self._front = None
                if segment is self._tail:
                    self._tail = None
                segment.remove()
                return records
        return None

    def oldest_newest_ms(self) -> int | None:
        """When the newest record of the oldest segment was read, in milliseconds of the epoch."""
        return self._segments[0][1].newest_ms if self._segments else None

    def close(self) -> None:
        """Leave everything as it is, for the next process."""
        for _, segment in self._segments:
            segment.close()
        self._segments.clear()
        self._front = self._tail = self._taken = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _remove_first(self) -> None:
        _, segment = self._segments.popleft()
        self._front = None
        segment.remove()

    def _path(self, number: int) -> str:
        return os.path.join(self.directory, f"{number:016x}{SUFFIX}")  # noqa: PTH118


def _numbers(names: Iterable[str]) -> Iterator[int]:
    for name in names:
        digits = name.removesuffix(SUFFIX)
        if digits != name and len(digits) == _DIGITS and _HEX.issuperset(digits):
            yield int(digits, 16)
