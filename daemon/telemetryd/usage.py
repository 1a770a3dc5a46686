"""The resources that this process has used: processor time, memory, time."""

from __future__ import annotations

import os
import time
from typing import Final

from telemetryd.clock import SYSTEM, Clock
from telemetryd.core.figures import Usage

_STATUS: Final = "/proc/self/status"
_PEAK: Final = b"VmHWM:"


def usage(started: float, clock: Clock = SYSTEM) -> Usage:
    """Return the usage since `started`, the monotonic second when the process began or loaded."""
    return Usage(time.process_time(), peak_rss_bytes(), clock.monotonic() - started)


def peak_rss_bytes() -> int:
    """Return the most memory that was resident at once, 0 where /proc does not tell.

    Not `ru_maxrss`: that begins with what the process was before it executed this program.
    """
    try:
        file = os.open(_STATUS, os.O_RDONLY)
    except OSError:
        return 0
    try:
        _, _, rest = os.read(file, 4096).partition(_PEAK)
    finally:
        os.close(file)
    kib = rest.split(maxsplit=1)[:1]
    return int(kib[0]) * 1024 if kib and kib[0].isdigit() else 0
