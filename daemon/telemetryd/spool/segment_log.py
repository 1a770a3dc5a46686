"""The segments of one sink's spool, as one long queue on disk: append, put back, take, settle.

Files are numbered. Records that are put back go into a file with a number before the first. All
calls are synchronous and small: the page cache takes a mebibyte in less time than a thread takes to
start. Written lines are counted in the same moment, whatever happens next.

A file that can't be read, or that was changed, affects only its own lines: see `take_missing`.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from telemetryd import trust
from telemetryd.core.ledger import Count, total
from telemetryd.core.spool_format import Record
from telemetryd.spool.record_clock import SpoolClock
from telemetryd.spool.segment import SUFFIX, Entry, Segment

SEGMENT_MAX_BYTES: Final = 4 * 1024 * 1024
SEGMENT_MAX_RECORDS: Final = 4096
_LEAST_SEGMENT_BYTES: Final = 64 * 1024
_FIRST: Final = 1 << 32
LOCK: Final = "lock"
"""The file that the process which has the spool open has locked; it stays when the spool is empty.
It holds how the spool's clock relates to that of the machine: see `spool_clock`."""
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
    """A spool in `directory`. Only one process may have it open.

    `on_error` gets what the disk refused where work continues; without it that is raised too.
    """

    def __init__(
        self,
        directory: str,
        *,
        max_bytes: int,
        on_error: Callable[[OSError], None] | None = None,
    ) -> None:
        self.directory = directory
        self.damaged_bytes = 0
        """Bytes that `open` found to belong to no intact record."""
        self._missing = Count()
        """Lines that were counted and are not in their file any more."""
        self._on_error = on_error
        self._numbers = (_FIRST, _FIRST)
        """The next number at the front, and at the end: none of them was ever in use here."""
        self._segment_bytes = min(SEGMENT_MAX_BYTES, max_bytes // _SHARE)
        self._segments: deque[tuple[int, Segment]] = deque()
        self._tail: Segment | None = None
        """The last segment, while it is written to."""
        self._front: deque[Entry] | None = None
        """Records to take from the first segment; None before they are looked up."""
        self._taken: tuple[Segment, list[Entry]] | None = None
        self._lock = -1

    @property
    def is_open(self) -> bool:
        """True if the directory is ours."""
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
    def records(self) -> int:
        """Records that are not settled, those taken included."""
        return sum(segment.records for _, segment in self._segments)

    @property
    def oldest_ms(self) -> int | None:
        """Return the time when the first unsettled record was read, in epoch milliseconds."""
        return next((each.oldest_ms for _, each in self._segments if each.records), None)

    def exists(self) -> bool:
        """True if there is anything on disk that may need recovery."""
        return os.path.isdir(self.directory)  # noqa: PTH112 - as in spool_segment

    def open(self) -> None:
        """Lock the directory, making it if need be, and find what is there. Raises OSError."""
        lock = self._take_lock()
        try:
            self._suit(os.statvfs(self.directory))
            numbers = sorted(_numbers(os.listdir(self.directory)))  # noqa: PTH208
            if numbers:
                self._numbers = (numbers[0] - 1, numbers[-1] + 1)
            for number in numbers:
                self._recover(number)
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
            if tail is not None:
                tail.close()
            front, number = self._numbers
            self._numbers = (min(front, number - 1), number + 1)
            tail = self._create(number)
            self._segments.append((number, tail))
            self._tail = tail
        tail.append([record])

    def put_back(self, records: Sequence[Record]) -> None:
        """Put `records` before all others, all or none. Raises OSError."""
        number, end = self._numbers
        self._numbers = (number - 1, max(end, number + 1))
        segment = self._create(number)
        try:
            segment.append(records)
        except OSError:
            segment.remove()
            raise
        self._segments.appendleft((number, segment))
        self._front = None

    def take(self, max_bytes: int) -> Taken:
        """Take records from the front, up to `max_bytes` of payload, at least one if there is any.

        `settle` or `untake` comes before the next.
        """
        while self._segments:
            number, segment = self._segments[0]
            if segment is self._tail:  # what is read from is no longer written to
                self._tail = None
            if self._front is None:
                self._front = self._entries(segment)
            if self._front:
                break
            self._discard(0)
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
        """Mark the records of the last `take` as settled."""
        taken, self._taken = self._taken, None
        if taken is not None:
            segment, entries = taken
            try:
                segment.settle(entries)
            except OSError as error:  # the next process will take them again
                self._report(error)
            if self._front:
                segment.oldest_ms = self._front[0].header.at_ms
            if not segment.records:  # what was put back since may lie before it
                self._discard([each for _, each in self._segments].index(segment))

    def untake(self) -> None:
        """Leave the records of the last `take` in place, so that they are taken again."""
        self._taken = self._front = None

    def evict(self, *, read: bool = True) -> list[Record] | None:
        """Remove the oldest segment that nothing is taken from; its records. None: there is none.

        Without `read`, one record without a payload stands for all.
        """
        index = self._evictable()
        if index is None:
            return None
        segment = self._segments[index][1]
        records: list[Record] = []
        if read:
            records += (segment.read(entry) for entry in self._entries(segment))
        elif segment.records:
            records.append(Record(None, segment.count.lines, segment.count.bytes, 0))
        for record in records:
            segment.count.add(-record.lines, -record.size)
        self._discard(index)
        return records

    def evictable_newest_ms(self) -> int | None:
        """Return when the newest record for `evict` to remove was read, in epoch milliseconds."""
        index = self._evictable()
        return None if index is None else self._segments[index][1].newest_ms

    def compare(self) -> list[Record]:
        """Look at the files: the records of those that are gone, as far as they can still be read.

        Lines that can't be, and those cut off a file, are added to what `take_missing` tells.
        """
        lost: list[Record] = []
        for index in reversed(range(len(self._segments))):
            segment = self._segments[index][1]
            try:
                if segment.is_gone():
                    remaining = segment.remaining()
                    for record in remaining:
                        segment.count.add(-record.lines, -record.size)
                    lost += remaining
                    self._discard(index)
                else:
                    cut = segment.missing()
                    segment.count.add(-cut.lines, -cut.bytes)
                    self._missing.add(cut.lines, cut.bytes)
            except OSError as error:
                self._report(error)
        return lost

    def take_missing(self) -> Count:
        """Return the lines and bytes that have gone from the disk since the last call."""
        missing, self._missing = self._missing, Count()
        return missing

    def date(self, clock: SpoolClock, max_age_ms: int) -> None:
        """Have `clock` continue where the process before left it."""
        known = [segment for _, segment in self._segments if segment.records]
        oldest = min((segment.oldest_ms for segment in known), default=None)
        newest = max((segment.newest_ms for segment in known), default=0)
        clock.begin(self._lock, oldest, newest, max_age_ms)

    def close(self) -> None:
        """Leave everything as it is, for the next process."""
        self._missing = Count()
        for _, segment in self._segments:
            segment.close()
        self._segments.clear()
        self._front = self._tail = self._taken = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _take_lock(self) -> int:
        """Make and lock the directory. Return the lock's descriptor. Raises OSError."""
        trust.make_directory(self.directory)
        _check_ownership(os.stat(self.directory))  # noqa: PTH116
        path = os.path.join(self.directory, LOCK)  # noqa: PTH118
        lock = trust.open_file(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise
        return lock

    def _create(self, number: int) -> Segment:
        try:
            return Segment.create(self._path(number))
        except FileNotFoundError:  # the function has tidied up its `/tmp`
            lock = self._take_lock()
            os.close(self._lock)
            self._lock = lock
            return Segment.create(self._path(number))

    def _suit(self, disk: os.statvfs_result) -> None:
        """Make segments small on a small disk: a full one gives up a whole segment at a time."""
        room = disk.f_bavail * disk.f_frsize // _SHARE
        self._segment_bytes = min(self._segment_bytes, max(room, _LEAST_SEGMENT_BYTES))

    def _recover(self, number: int) -> None:
        try:
            segment = Segment.recover(self._path(number))
        except OSError as error:
            self._report(error)
            return
        self.damaged_bytes += segment.damaged_bytes
        self._segments.append((number, segment))
        if segment.records:
            segment.close()
        else:
            self._discard(len(self._segments) - 1)

    def _entries(self, segment: Segment) -> deque[Entry]:
        try:
            return deque(segment.entries())
        except OSError as error:
            self._report(error)
            return deque()

    def _evictable(self) -> int | None:
        in_use = self._taken[0] if self._taken is not None else None
        indices = (i for i, (_, segment) in enumerate(self._segments) if segment is not in_use)
        return next(indices, None)

    def _discard(self, index: int) -> None:
        """Remove a segment; lines it should still have are missing."""
        _, segment = self._segments[index]
        del self._segments[index]
        if index == 0:
            self._front = None
        if segment is self._tail:
            self._tail = None
        self._missing.add(segment.count.lines, segment.count.bytes)
        try:
            segment.remove()
        except OSError as error:  # the next process will find it again
            self._report(error)

    def _report(self, error: OSError) -> None:
        if self._on_error is None:
            raise error
        self._on_error(error)

    def _path(self, number: int) -> str:
        return os.path.join(self.directory, f"{number:016x}{SUFFIX}")  # noqa: PTH118


def _check_ownership(directory: os.stat_result) -> None:
    """Raise PermissionError where others could put files for us to deliver, or take ours away."""
    if directory.st_uid not in (os.geteuid(), 0) or directory.st_mode & 0o022:
        raise PermissionError(
            errno.EPERM, "the directory belongs to another user, or others may write to it"
        )


def _numbers(names: Iterable[str]) -> Iterator[int]:
    for name in names:
        digits = name.removesuffix(SUFFIX)
        if digits != name and len(digits) == _DIGITS and _HEX.issuperset(digits):
            yield int(digits, 16)
