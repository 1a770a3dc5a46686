"""Tells file systems of this machine from those whose server may not answer."""

from __future__ import annotations

import os
from typing import Final

_MOUNTS: Final = "/proc/self/mountinfo"
_MOST_BYTES: Final = 1024 * 1024
_LOCAL: Final = frozenset(
    {b"btrfs", b"ext2", b"ext3", b"ext4", b"f2fs", b"overlay", b"ramfs", b"tmpfs", b"xfs"}
)


def is_local(device: int) -> bool:
    """True if the file system with the number `device` (`st_dev`) is known to be local.

    False where that can't be found out (proc(5), mountinfo).
    """
    name = f"{os.major(device)}:{os.minor(device)}".encode()
    try:
        fd = os.open(_MOUNTS, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return type_of(name, _read(fd)) in _LOCAL
    except OSError:
        return False
    finally:
        os.close(fd)


def _read(fd: int) -> bytes:
    parts = []
    left = _MOST_BYTES
    while left > 0 and (part := os.read(fd, left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def type_of(device: bytes, mounts: bytes) -> bytes:
    """The type of the file system `device`, b"" if it is not there: it follows the line's dash."""
    at = mounts.find(b" " + device + b" ")
    if at < 0:
        return b""
    _, dash, rest = mounts[at : mounts.find(b"\n", at)].partition(b" - ")
    return rest.split(b" ", 1)[0] if dash else b""
