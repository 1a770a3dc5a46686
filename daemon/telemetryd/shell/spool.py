"""A sink's spool: items that can't be delivered now, kept on disk until they can.

    queue -> pack -> [spool] -> write -> settle

What is spooled has been packed, so whatever id a sink gave it stays the same, in this process and
in the next one of the same environment. Nothing here touches a disk before there is a need: an
outage, a queue over its mark, an end that comes too early, or a directory that was left behind.
"""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from telemetryd.core.ledger import SinkAccount
from telemetryd.core.spool_format import HEADER_BYTES, SEGMENT_BYTES, Record
from telemetryd.errors import SinkContractError
from telemetryd.shell.spool_log import SpoolLog
from telemetryd.sinks.base import Item, SpoolConfig

FULL: Final = "spool_full"
FAILED: Final = "spool_failed"
EXPIRED: Final = "spool_expired"
DAMAGED: Final = "spool_damaged"
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_-]")
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

Lose = Callable[[Item, str], None]
LoseUnread = Callable[[int, int, str], None]


class SinkSpool:
    """Items of one sink, on disk, counted in its account.

    `lose` is told of items that leave the spool undelivered, with the reason; `lose_unread` of
    their lines and bytes, where they can't be read.
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
        log: Callable[..., None],
        sink_type: str,
    ) -> None:
        self._name = name
        self._config = config
        self._item_type = item_type
        self._account = account
        self._lose = lose
        self._lose_unread = lose_unread
        self._log = log
        kind = _UNSAFE.sub("_", sink_type)
        self._files = SpoolLog(f"{config.path}/{name}.{kind}", max_bytes=config.max_bytes)
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(item_type).decode
        self._unusable = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits on disk."""
        return not (self._account.spooled.lines or self._account.spooled.bytes)

    @property
    def disk_bytes(self) -> int:
        """Bytes of the files."""
        return self._files.disk_bytes

    def recover(self) -> None:
        """Take over what an earlier process left. Without any: one look at the path."""
        if self._files.exists():
            self._opened()

    def put(self, items: Iterable[Item]) -> None:
        """Append `items`; what can't be is lost."""
        for item in items:
            self._put(item)

    def put_back(self, items: Sequence[Item]) -> None:
        """Put `items`, older than all that is spooled, before everything else."""
        if not items:
            return
        try:
            records = [self._record(item) for item in items]
            if not self._opened():
                raise OSError(0, "the spool can't be opened")  # noqa: TRY301 - as any other
            self._files.put_back(records)
        except (OSError, SinkContractError) as error:
            self._failed(error)
            for item in items:
                self._lose(item, FAILED)
            return
        self._spooled(records)

    def take(self, max_bytes: int) -> tuple[str, list[Item]]:
        """A batch from the front, with an id that stays the same: of what is young and intact.

        `settle` comes before the next. What is too old or damaged is lost here.
        """
        try:
            batch_id, records = self._files.take(max_bytes)
        except OSError as error:
            self._failed(error)
            self._lose_all_unread()
            return "", []
        oldest = time.time() * 1000 - self._config.max_age_ms
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
        return batch_id, items

    def settle(self) -> None:
        """What `take` gave has met its end."""
        try:
            self._files.settle()
        except OSError as error:  # it may be delivered a second time
            self._failed(error)

    def lose_all(self, reason: str) -> None:
        """The disk will be gone with this process: give up what is on it."""
        while not self.is_empty and self._evict(reason):
            pass

    def close(self) -> None:
        """Leave what is spooled to the next process."""
        self._files.close()
        self._unusable = True

    # -- one item ----------------------------------------------------------------------------

    def _put(self, item: Item) -> None:
        try:
            record = self._record(item)
            needed = SEGMENT_BYTES + HEADER_BYTES + len(record.payload or b"")
            if needed > self._config.max_bytes or not self._opened():
                self._lose(item, FULL if needed > self._config.max_bytes else FAILED)
                return
            self._expire()
            while self._files.disk_bytes + needed > self._config.max_bytes and self._evict(FULL):
                pass
            self._append(record)
        except (OSError, SinkContractError) as error:
            self._failed(error)
            self._lose(item, FAILED)
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
        oldest = time.time() * 1000 - self._config.max_age_ms
        while (newest := self._files.oldest_newest_ms()) is not None and newest < oldest:
            if not self._evict(EXPIRED):
                break

    def _evict(self, reason: str) -> bool:
        """Lose the oldest segment; False where there is none to lose."""
        try:
            records = self._files.evict()
        except OSError as error:
            self._failed(error)
            return False
        if records is None:
            return False
        for record in records:
            self._account.spooled.add(-record.lines, -record.size)
            item = self._item(record)
            if item is None:
                self._lose_unread(record.lines, record.size, DAMAGED)
            else:
                self._lose(item, reason)
        return True

    def _lose_all_unread(self) -> None:
        spooled = self._account.spooled
        lines, size = spooled.lines, spooled.bytes
        spooled.add(-lines, -size)
        self._lose_unread(lines, size, DAMAGED)
        self._files.close()
        self._unusable = True

    def _spooled(self, records: Iterable[Record]) -> None:
        lines = size = 0
        for record in records:
            lines += record.lines
            size += record.size
        self._account.spooled.add(lines, size)
        self._log("info", "lines_spooled", sink=self._name, lines=lines)

    def _record(self, item: Item) -> Record:
        if type(item) is not self._item_type:
            raise SinkContractError(
                f"pack() made a {type(item).__name__}, not its item_type "
                f"{self._item_type.__name__}: it can't be spooled"
            )
        at = time.time() - (time.monotonic() - item.received_at)
        return Record(self._encode(item), item.lines, item.size, max(int(at * 1000), 0))

    def _item(self, record: Record) -> Item | None:
        if record.payload is None:
            return None
        try:
            item = self._decode(record.payload)
        except msgspec.MsgspecError:
            return None
        if (item.lines, item.size) != (record.lines, record.size):
            return None
        received = time.monotonic() - (time.time() - record.at_ms / 1000)
        return msgspec.structs.replace(item, received_at=received)

    def _opened(self) -> bool:
        if self._files.is_open:
            return True
        if self._unusable:
            return False
        try:
            self._files.open()
        except OSError as error:
            self._log(
                "error", "spool_unusable", sink=self._name, path=self._files.directory,
                error=error.strerror or str(error),
                consequence="what can't be delivered is lost, as without a spool",
                fix=f"correct sinks.{self._name}.spool.path, or free space there",
            )  # fmt: skip
            return False
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

    def _failed(self, error: Exception) -> None:
        self._log(
            "error", "spool_failed", sink=self._name, path=self._files.directory,
            error=getattr(error, "strerror", None) or str(error),
        )  # fmt: skip
