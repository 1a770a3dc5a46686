"""The two clocks: wall time for what is written down, monotonic time for what is measured."""

from __future__ import annotations

import time

__all__ = ["epoch_ms", "iso", "iso_now", "monotonic"]

monotonic = time.monotonic


def epoch_ms(after: float = 0.0) -> int:
    """Return the Unix time in milliseconds, `after` seconds from now."""
    return int((time.time() + after) * 1000)


def iso(moment: float) -> str:
    """Return `moment` (Unix time, seconds) as `2026-03-14T10:15:30.123Z`."""
    seconds, milliseconds = divmod(int(moment * 1000), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{milliseconds:03d}Z"


def iso_now() -> str:
    """Return the present time in the form of telemetry time stamps."""
    return iso(time.time())
