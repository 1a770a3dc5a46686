"""The dead letter: a file for lines that could not be framed, decoded or delivered.

It has one JSON object per line: when, why, which sink, which connection, where in its stream, how
many bytes, and the bytes themselves (`data` if they are UTF-8 text, else `data_base64`). It is rare
by design, so writes are synchronous. A piece that can't be kept whole is reported to the caller,
who counts it as dropped. The loop and the threads of sinks write to it, one at a time. Several
processes may share the file. A record never joins one that a crash or a full disk has cut off.
"""

from __future__ import annotations

import base64
import os
import stat
import threading
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from telemetryd import trust
from telemetryd.clock import SYSTEM, Clock
from telemetryd.log import DaemonLog, utc_timestamp

_OPEN_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK


class DeadLetter:
    """Appends to `path` (mode 0600) up to `max_bytes`; a line over `max_record_bytes` is cut."""

    def __init__(
        self,
        path: str,
        *,
        max_bytes: int,
        max_record_bytes: int,
        log: DaemonLog,
        clock: Clock = SYSTEM,
    ) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self.max_record_bytes = max_record_bytes
        self._log = log
        self._wall = clock.wall
        self._fd: int | None = None
        self._lock = threading.Lock()

    def keep(
        self, data: bytes, *, reason: str, sink: str = "", source: int = 0, offset: int = 0
    ) -> bool:
        """Keep the lines of `data`, several to a record; True when every byte was kept."""
        whole = True
        with self._lock:
            for at, piece in self._pieces(data):
                record = {"reason": reason, "sink": sink, "source": source, "offset": offset + at}
                whole = self._append(record, piece, len(piece)) and whole
        return whole

    def keep_head(
        self, head: bytes, size: int, *, reason: str, source: int = 0, offset: int = 0
    ) -> None:
        """Keep the first bytes of a line of `size` bytes that was refused before it was whole."""
        with self._lock:
            self._append({"reason": reason, "source": source, "offset": offset}, head, size)

    def close(self) -> None:
        """Close the file; a later record opens it again."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.close(fd)

    def _pieces(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        at = 0
        while at < len(data):
            end = at + self.max_record_bytes
            if end < len(data):
                end = data.rfind(b"\n", at, end) + 1 or data.find(b"\n", at) + 1 or len(data)
            yield at, data[at:end]
            at = end

    def _append(self, facts: dict[str, Any], piece: bytes, size: int) -> bool:
        kept = piece[: self.max_record_bytes]
        record = {"time": utc_timestamp(self._wall()), **facts, "bytes": size}
        if len(kept) < size:
            record["cut"] = True
        try:
            record["data"] = kept.decode()
        except UnicodeDecodeError:
            record["data_base64"] = base64.b64encode(kept).decode()
        line = msgspec.json.encode(record) + b"\n"
        try:
            self._write(line)
        except OSError as error:
            self._log.error(
                "dead_letter_failed",
                path=self._path,
                error=error.strerror or str(error),
                fix="free space or correct the path in [dead_letter]; until then lines are dropped",
            )
            return False
        return len(kept) == size

    def _write(self, line: bytes) -> None:
        fd = self._open()
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":
            line = b"\n" + line
        if size + len(line) > self._max_bytes:
            raise OSError(0, f"the file has reached dead_letter.max_bytes = {self._max_bytes}")
        written = os.write(fd, line)
        if written < len(line):  # a full disk cuts writes short: leave no torn record behind
            if os.fstat(fd).st_size == size + written:
                os.ftruncate(fd, size)
            raise OSError(0, "no space for a whole record")

    def _open(self) -> int:
        """Return the file at the path: a record in a file that was removed would be lost."""
        if self._fd is not None:
            here = os.fstat(self._fd)
            try:
                there = os.stat(self._path, follow_symlinks=False)  # noqa: PTH116
            except FileNotFoundError:
                self._close()
            else:
                if (there.st_ino, there.st_dev) != (here.st_ino, here.st_dev):
                    self._close()
        if self._fd is None:
            trust.make_directory(os.path.dirname(self._path) or ".")  # noqa: PTH120 - 2 ms
            fd = trust.open_file(self._path, _OPEN_FLAGS)
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                os.close(fd)
                raise OSError(0, "not a regular file")
            self._fd = fd
        return self._fd
