"""Tries whether a file could be written, for `telemetryd check --probe`; leaves nothing behind.

Blocking; raises SinkError. Where the file does not exist, a file without a name is made in its
directory (`O_TMPFILE`), or in the nearest one above that exists, and a block is written to it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from typing import Final

from telemetryd import trust
from telemetryd.errors import PermanentSinkError, TransientSinkError
from telemetryd.sinks.file.append_file import as_sink_error

_BLOCK: Final = b"\n" * 4096
_NAMELESS_UNSUPPORTED: Final = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)
"""Answers of file systems and kernels without `O_TMPFILE` (open(2))."""


def try_file(path: str, needed: int) -> str:
    """Return what is known about the file at `path`, which needs room for `needed` bytes."""
    try:
        exists = _try_existing(path)
        directory = _nearest_directory(os.path.dirname(path) or ".")  # noqa: PTH120
        if not exists:
            _try_new(directory)
        free = _free_bytes(directory)
    except OSError as error:
        raise as_sink_error(error, path) from error
    if free < needed:
        raise TransientSinkError(
            "disk_full", f"{path}: {free:,} bytes are free, a batch has up to {needed:,}"
        )
    what = "" if exists else ", and will be made"
    return f"{path} can be written{what}; {_mib(free)} are free"


def try_directory(path: str, needed: int) -> str:
    """Return what is known about the directory `path`, which needs room for `needed` bytes."""
    try:
        directory = _nearest_directory(path)
        _try_new(directory)
        free = _free_bytes(directory)
    except OSError as error:
        raise as_sink_error(error, path) from error
    if free < needed:
        raise TransientSinkError(
            "disk_full", f"{path}: {free:,} bytes are free, but it may take {needed:,}"
        )
    what = "" if directory == path else ", and will be made"
    return f"{path} can be written{what}; {_mib(free)} are free"


def _try_existing(path: str) -> bool:
    """True if the file exists, and could be opened for writing."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(found.st_mode):
        raise PermanentSinkError("not_a_file", f"{path} is not a regular file", stops_sink=True)
    fd = trust.open_file(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise TransientSinkError(
            "locked", f"{path} is written by another process, perhaps by a running telemetryd"
        ) from error
    finally:
        os.close(fd)
    return True


def _nearest_directory(path: str) -> str:
    """Return `path`, or the nearest directory above it that exists."""
    trust.check_way(path)
    while not os.path.isdir(path):  # noqa: PTH112
        if os.path.lexists(path):
            raise NotADirectoryError(errno.ENOTDIR, f"{path} is not a directory", path)
        path = os.path.dirname(path) or "."  # noqa: PTH120
    return path


def _try_new(directory: str) -> None:
    """Write a block to a new file in `directory`, and let it go. Raises OSError."""
    fd = _open_nameless(directory)
    try:
        left = len(_BLOCK)
        while left:
            left -= os.write(fd, _BLOCK[:left])
    finally:
        os.close(fd)


def _open_nameless(directory: str) -> int:
    """Return a descriptor of a new file that disappears when it is closed."""
    with contextlib.suppress(AttributeError):  # not Linux
        try:
            return os.open(directory, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno not in _NAMELESS_UNSUPPORTED:
                raise
    path = os.path.join(directory, f".telemetryd-probe-{os.getpid()}")  # noqa: PTH118
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    os.unlink(path)  # noqa: PTH108
    return fd


def _free_bytes(directory: str) -> int:
    """Return the bytes that we, without privileges, may still write to the file system."""
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


def _mib(count: int) -> str:
    return f"{count / (1024 * 1024):,.0f} MiB"
