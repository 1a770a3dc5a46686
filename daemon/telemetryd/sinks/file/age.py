"""The age of the file that is appended to. An attribute of the file stores it for later processes.

Setting a clock makes no file older or younger. After a restart of the machine only the wall clock
is left, and it is trusted: at worst the file is rotated early.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

from telemetryd.clock import Moment, decode_moment

_ATTRIBUTE: Final = "user.telemetryd.begun"


def begun_ms(fd: int, now: Moment) -> int:
    """Return when the file open at `fd` was created, in milliseconds since boot. May store that.

    A file without a note, of another program or an earlier version, or where the file system keeps
    none, is as old as its last change.
    """
    status = os.fstat(fd)
    begun = _read_note(fd) if status.st_size else None
    if begun is None:
        idle = max(now.wall_ms - int(status.st_mtime * 1000), 0) if status.st_size else 0
        begun = Moment(now.boot, now.steady_ms - idle, now.wall_ms - idle)
        with suppress(OSError):  # as documented: each process then counts from its start
            os.setxattr(fd, _ATTRIBUTE, begun.encode())
    age = begun.until(now)
    return now.steady_ms - (max(now.wall_ms - begun.wall_ms, 0) if age is None else age)


def _read_note(fd: int) -> Moment | None:
    try:
        return decode_moment(os.getxattr(fd, _ATTRIBUTE))
    except OSError:
        return None
