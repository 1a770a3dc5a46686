"""A sink's spool: items that can't be delivered now, kept on disk until they can.

    queue -> pack -> [spool] -> write -> settle

Spooled items are already packed. So an id from the sink stays the same, in this process and in the
next one of the same environment. Nothing here touches a disk before it is needed: in an outage,
with a queue over its mark, at an end that comes too early, or for an existing directory.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from telemetryd.clock import SYSTEM, Clock
from telemetryd.core.ledger import SinkAccount
from telemetryd.core.spool_format import HEADER_BYTES, SEGMENT_BYTES, Record
from telemetryd.errors import SinkContractError
from telemetryd.log import QUIET_SECONDS, DaemonLog, describe
from telemetryd.sinks.base import Item, SpoolConfig
from telemetryd.spool.record_clock import SpoolClock
from telemetryd.spool.segment_log import SpoolLog

FULL: Final = "spool_full"
FAILED: Final = "spool_failed"
EXPIRED: Final = "spool_expired"
DAMAGED: Final = "spool_damaged"
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_-]")
_REST_SECONDS: Final = 5.0
"""Seconds without an attempt after a spool could not be opened or written to."""
_READ_SECONDS: Final = 0.2
"""Seconds to read the lines that are given up at the end. After that they are only counted."""
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

Lose = Callable[[Item, str], None]
LoseUnread = Callable[[int, int, str], None]


class SinkSpool:
    """Items of one sink, on disk, counted in its account.

    `lose` gets items that leave the spool undelivered, with the reason; `lose_unread` gets
    their lines and bytes, where they can't be read. `wants_data`: whether anybody wants the lines
    themselves; if not, what is given up is not read.
    """

    def __init__(
        self,
        name: str,
        config: SpoolConfig,
        item_type: type[Item],
        account: SinkAccount,
        *,
        lose: Lose,
        lose_unread: LoseUnread,
        wants_data: Callable[[], bool],
        log: DaemonLog,
        sink_type: str,
        clock: Clock = SYSTEM,
    ) -> None:
        self._name = name
        self._config = config
        self._item_type = item_type
        self._account = account
        self._lose = lose
        self._lose_unread = lose_unread
        self._wants_data = wants_data
        self._log = log
        kind = _UNSAFE.sub("_", sink_type)
        self._files = SpoolLog(
            f"{config.path}/{name}.{kind}", max_bytes=config.max_bytes, on_error=self._on_error
        )
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(item_type).decode
        self._clock = SpoolClock(clock)
        self._monotonic = clock.monotonic
        self._closed = False
        self._rests_until = 0.0
        self._untold = 0
        """Spooled lines that the log has not reported yet."""
        self._tells_at = 0.0
        self._in_flight = 0
        """Records taken, if all of them are items that `take` gave."""

    @property
    def is_empty(self) -> bool:
        """True if nothing waits on disk. A sink's own items count, although they have no lines."""
        return not self._files.records

    @property
    def is_usable(self) -> bool:
        """True if it may be asked to take something. If not, lines should wait in memory."""
        return self._monotonic() >= self._rests_until and self._ensure_open()

    @property
    def may_take(self) -> bool:
        """True if it is open, or can be opened: then it is worth a try at the end."""
        return self._files.is_open or self.is_usable

    @property
    def disk_bytes(self) -> int:
        """Bytes of the files."""
        return self._files.disk_bytes

    @property
    def oldest_seconds(self) -> float:
        """Age of the oldest line on disk; 0 without any."""
        oldest = self._files.oldest_ms
        return max((self._clock.now_ms() - oldest) / 1000, 0.0) if oldest is not None else 0.0

    def recover(self) -> None:
        """Take over what an earlier process left. Without any: one look at the path."""
        if not self._files.is_open and self._monotonic() >= self._rests_until:
            self._rests_until = 0.0
            if self._files.exists():
                self._ensure_open()

    @property
    def wants_recovery(self) -> bool:
        """True if `recover` failed and should be retried."""
        return 0.0 < self._rests_until <= self._monotonic() and not self._files.is_open

    def put(self, items: Iterable[Item]) -> None:
        """Append `items`; what can't be is lost."""
        for item in items:
            self._put(item)

    def put_back(self, items: Sequence[Item]) -> None:
        """Put `items`, older than all that is spooled, before everything else."""
        if not items:
            return
        if len(items) == self._in_flight:  # all that was taken: it is where it should be
            self._in_flight = 0
            self._files.untake()
            self._account.spooled.add(sum(i.lines for i in items), sum(i.size for i in items))
            return
        try:
            if not self._ensure_open():
                raise OSError(0, "the spool can't be opened")  # noqa: TRY301 - as any other
            records = [self._record(item) for item in items]
            self._files.put_back(records)
        except (OSError, SinkContractError) as error:
            self._on_error(error)
            self._rest_after(error)
            for item in items:
                self._lose(item, _reason(error))
            return
        self._spooled(records)

    def take(self, max_bytes: int) -> tuple[str, list[Item]]:
        """Take a batch of young and intact items from the front, with an id that stays the same.

        `settle` comes before the next. What is too old or damaged is lost here.
        """
        batch_id, records = self._files.take(max_bytes)
        self._lose_missing()
        oldest = self._clock.now_ms() - self._config.max_age_ms
        items: list[Item] = []
        for record in records:
            self._account.spooled.add(-record.lines, -record.size)
            item = self._item(record)
            if item is None:
                self._lose_unread(record.lines, record.size, DAMAGED)
            elif record.at_ms < oldest:
                self._lose(item, EXPIRED)
            else:
                items.append(item)
        self._in_flight = len(items) if len(items) == len(records) else 0
        return batch_id, items

    def settle(self) -> None:
        """Mark the records of the last `take` as settled."""
        self._in_flight = 0
        self._files.settle()
        self._lose_missing()

    def lose_all(self, reason: str) -> None:
        """Give up all lines on disk within a short time: the disk ends with this process."""
        until = self._monotonic() + _READ_SECONDS
        while not self.is_empty and self._evict(reason, read=self._monotonic() < until):
            pass

    def close(self) -> None:
        """Leave what is spooled to the next process; what is not there any more is lost."""
        if self._files.is_open:
            self._lose_gone()
        if self._untold:
            self._tell()
        self._files.close()
        self._closed = True

    # -- one item ----------------------------------------------------------------------------

    def _put(self, item: Item) -> None:
        try:
            opened = self._ensure_open()
            record = self._record(item)
            needed = SEGMENT_BYTES + HEADER_BYTES + len(record.payload or b"")
            if needed > self._config.max_bytes or not opened:
                self._lose(item, FULL if needed > self._config.max_bytes else FAILED)
                return
            self._expire()
            while self._files.disk_bytes + needed > self._config.max_bytes and self._evict(FULL):
                pass
            self._append(record)
        except (OSError, SinkContractError) as error:
            self._on_error(error)
            self._rest_after(error)
            self._lose(item, _reason(error))
            return
        self._spooled([record])

    def _append(self, record: Record) -> None:
        """Append, giving up the oldest where the disk is full. Raises OSError."""
        while True:
            try:
                self._files.append(record)
            except OSError as error:
                if error.errno not in _NO_SPACE or not self._evict(FULL):
                    raise
            else:
                return

    def _expire(self) -> None:
        oldest = self._clock.now_ms() - self._config.max_age_ms
        while (newest := self._files.evictable_newest_ms()) is not None and newest < oldest:
            self._evict(EXPIRED)

    def _evict(self, reason: str, *, read: bool = True) -> bool:
        """Lose the oldest segment that nothing is taken from; False where there is none."""
        read = read and self._wants_data()
        records = self._files.evict(read=read)
        if records is None:
            return False
        for record in records:
            self._account.spooled.add(-record.lines, -record.size)
            item = self._item(record)
            if item is None:
                self._lose_unread(record.lines, record.size, DAMAGED if read else reason)
            else:
                self._lose(item, reason)
        self._lose_missing()
        return True

    def _lose_gone(self) -> None:
        """Lose what is in files that somebody has deleted, or cut, under us."""
        for record in self._files.compare():
            self._account.spooled.add(-record.lines, -record.size)
            item = self._item(record)
            if item is None:
                self._lose_unread(record.lines, record.size, DAMAGED)
            else:
                self._lose(item, DAMAGED)
        self._lose_missing()

    def _lose_missing(self) -> None:
        """Count lines as lost whose files were deleted or cut, or that the disk has lost."""
        missing = self._files.take_missing()
        if missing.lines or missing.bytes:
            self._account.spooled.add(-missing.lines, -missing.bytes)
            self._lose_unread(missing.lines, missing.bytes, DAMAGED)

    def _spooled(self, records: Iterable[Record]) -> None:
        lines = size = 0
        for record in records:
            lines += record.lines
            size += record.size
        self._account.spooled.add(lines, size)
        self._untold += lines
        if self._monotonic() >= self._tells_at:
            self._tell()

    def _tell(self) -> None:
        """Log what was spooled: in an outage that is every block, so not at each."""
        self._tells_at = self._monotonic() + QUIET_SECONDS
        lines, self._untold = self._untold, 0
        on_disk = self._account.spooled.lines
        self._log.info("lines_spooled", sink=self._name, lines=lines, on_disk=on_disk)

    def _record(self, item: Item) -> Record:
        if type(item) is not self._item_type:
            raise SinkContractError(
                f"pack() made a {type(item).__name__}, not its item_type "
                f"{self._item_type.__name__}: it can't be spooled"
            )
        at = self._clock.now_ms() - int((self._monotonic() - item.received_at) * 1000)
        try:
            payload = self._encode(item)
        except Exception as error:  # a sink's bug costs its own items
            raise SinkContractError(f"an item can't be spooled: {describe(error)}") from error
        return Record(payload, item.lines, item.size, max(at, 0))

    def _item(self, record: Record) -> Item | None:
        if record.payload is None:
            return None
        try:
            item = self._decode(record.payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        if (item.lines, item.size) != (record.lines, record.size):
            return None
        received = self._monotonic() - (self._clock.now_ms() - record.at_ms) / 1000
        return msgspec.structs.replace(item, received_at=received)

    def _ensure_open(self) -> bool:
        if self._files.is_open:
            return True
        if self._closed:
            return False
        try:
            self._files.open()
        except OSError as error:
            self._rests_until = self._monotonic() + _REST_SECONDS
            locked = isinstance(error, BlockingIOError)
            key = f"sinks.{self._name}.spool.path"
            self._log.error(
                "spool_unusable", sink=self._name, path=self._files.directory,
                error="another process has it open" if locked else error.strerror or str(error),
                consequence="lines that can't be delivered wait only in memory, as without a spool",
                fix=f"give each process a {key} of its own" if locked
                else f"correct {key}, or free space there",
            )  # fmt: skip
            return False
        self._files.date(self._clock, self._config.max_age_ms)
        found, damaged = self._files.count, self._files.damaged_bytes
        self._account.recovered.add(found.lines, found.bytes)
        self._account.spooled.add(found.lines, found.bytes)
        self._account.damaged_bytes += damaged
        if found.lines or damaged:
            self._log(
                "warning" if damaged else "info", "spool_recovered", sink=self._name,
                lines=found.lines, bytes=found.bytes, damaged_bytes=damaged,
            )  # fmt: skip
        return True

    def _rest_after(self, error: Exception) -> None:
        if isinstance(error, OSError):
            self._rests_until = self._monotonic() + _REST_SECONDS

    def _on_error(self, error: Exception) -> None:
        self._log.error(
            "spool_failed", sink=self._name, path=self._files.directory,
            error=getattr(error, "strerror", None) or str(error),
        )  # fmt: skip


def _reason(error: Exception) -> str:
    full = isinstance(error, OSError) and error.errno in _NO_SPACE
    return FULL if full else FAILED
