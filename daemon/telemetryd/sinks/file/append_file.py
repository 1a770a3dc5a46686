"""A file that only grows, and the blocking calls on it: open, repair, append, close.

What makes it safe to append to after anything that may have happened:

* Opened 0600, never through a symbolic link, regular files only, and locked: a second writer would
  make every check below meaningless. Where others may write to the directory, `telemetryd.trust`
  decides whether a file that is there already may be used.
* A last line without newline is the trace of a crash. It is cut off into the dead letter, so that
  the next line is not glued to it. Where there is none, where it is too large to be one of ours, or
  where the file can't be cut (append-only), it is ended with a newline.
* When the disk fills in the middle of a write, the file is cut back to the last whole item, and
  exactly the items that are in it count as delivered.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Sequence
from typing import Final

from telemetryd import trust
from telemetryd.clock import Moment
from telemetryd.errors import TransientSinkError
from telemetryd.sinks._thread import write_all
from telemetryd.sinks.file import age as _age
from telemetryd.sinks.file import mounts

_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK
_SEARCH_BYTES: Final = 64 * 1024
_MAX_TORN_BYTES: Final = 8 * 1024 * 1024
"""Beyond this, the end of a file without newline is not looked at, nor held in memory."""
_CODES: Final = {
    errno.ENOSPC: "disk_full",
    errno.EDQUOT: "disk_full",
    errno.EFBIG: "disk_full",
    errno.EACCES: "permission",
    errno.EPERM: "permission",
    errno.EROFS: "permission",
    errno.ELOOP: "permission",
}


def as_sink_error(error: OSError, path: str) -> TransientSinkError:
    """Return a file error in the terms of the Sink contract. All may pass: space comes back."""
    code = _CODES.get(error.errno or 0, "io_error")
    return TransientSinkError(code, f"{path}: {error.strerror or error}")


class AppendFile:
    """One open file. Raises OSError, or TransientSinkError where the file can't be ours."""

    def __init__(self, path: str, salvage: Callable[[bytes, str], bool]) -> None:
        self.path = path
        self.torn = False
        """True if half an item could not be cut off. `open` repairs that after a `close`."""
        directory = os.path.dirname(path)  # noqa: PTH120
        if directory:
            trust.make_directory(directory)
        self._fd = trust.open_file(path, _FLAGS)
        try:
            self._claim()
            self.size = self._repair(salvage)
        except BaseException:
            os.close(self._fd)
            raise

    def _claim(self) -> None:
        status = os.fstat(self._fd)
        self._identity = status.st_dev, status.st_ino
        self.is_local = mounts.is_local(status.st_dev)
        """False if a server may stand between us and its disk."""
        if not stat.S_ISREG(status.st_mode):
            raise TransientSinkError("not_a_file", f"{self.path} is not a regular file")
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TransientSinkError(
                "locked", f"{self.path} is written by another process; use {{instance}} in path"
            ) from error

    def _repair(self, salvage: Callable[[bytes, str], bool]) -> int:
        size = os.fstat(self._fd).st_size
        end = self._end_of_lines(size)
        if end == size:
            return size
        if end is not None and salvage(os.pread(self._fd, size - end, end), "torn"):
            try:
                os.ftruncate(self._fd, end)
            except PermissionError:  # append-only: the line stays here as well
                pass
            else:
                return end
        os.write(self._fd, b"\n")
        return size + 1

    def _end_of_lines(self, size: int) -> int | None:
        """Return the end of the last whole line; None if it is too far back."""
        end = size
        while end > 0:
            if size - end >= _MAX_TORN_BYTES:
                return None
            start = max(0, end - _SEARCH_BYTES)
            newline = os.pread(self._fd, end - start, start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
        return 0

    def begun_ms(self, now: Moment) -> int:
        """Return the time when the file was created, in milliseconds since boot."""
        return _age.begun_ms(self._fd, now)

    def look(self) -> bool:
        """True if the path still names this file. Also reads its size, which may have shrunk."""
        try:
            there = os.stat(self.path, follow_symlinks=False)  # noqa: PTH116
        except FileNotFoundError:
            return False
        self.size = there.st_size
        return (there.st_dev, there.st_ino) == self._identity  # not given away while we hold it

    def append(self, payloads: Sequence[bytes]) -> tuple[int, OSError | None]:
        """Append whole items; how many are in the file now, and what kept the others out."""
        progress: list[int] = []
        try:
            write_all(self._fd, payloads, progress)
        except OSError as error:
            written, whole, count = sum(progress), 0, 0
            while count < len(payloads) and whole + len(payloads[count]) <= written:
                whole += len(payloads[count])
                count += 1
            self.size += written
            if written > whole:
                self._cut_back(written - whole)
            return count, error
        self.size += sum(progress)
        return len(payloads), None

    def append_direct(self, data: bytes) -> bool:
        """Append all of `data` in one call; False if nothing of it is in the file."""
        try:
            written = os.write(self._fd, data)
        except OSError:  # the next write meets it again, and reports it
            return False
        self.size += written
        if written < len(data):
            self._cut_back(written)
            return False
        return True

    def _cut_back(self, size: int) -> None:
        """Take the last `size` bytes off. From the end it has now: others may have shortened it."""
        try:
            end = os.fstat(self._fd).st_size - size
            os.ftruncate(self._fd, end)
        except OSError:  # known to the caller by `torn`
            self.torn = True
        else:
            self.size = end

    def sync(self) -> None:
        """Write appended data to the disk (`fsync`)."""
        os.fsync(self._fd)

    def close(self) -> None:
        """Close the file and release its lock."""
        os.close(self._fd)
