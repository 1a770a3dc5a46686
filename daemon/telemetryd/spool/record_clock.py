"""The time of a spool, in milliseconds: setting a clock does not move it, in any process.

A record has the time when its lines were read, in milliseconds since the Unix epoch by the clock of
the process that began the spool. Later processes of the same boot continue with that clock: the
lock file has its offset to the time since boot. After another boot only the wall clock shows how
long lines have waited. It is used within bounds. Time does not go back, and the oldest line gets an
hour in the new process, or `max_age_ms` if that is less.
"""

from __future__ import annotations

import os
from typing import Final

from telemetryd.clock import SYSTEM, Clock, Moment, decode_moment

_GRACE_MS: Final = 3_600_000
_NOTE_BYTES: Final = 256


class SpoolClock:
    """The clock of one spool; before `begin` that of this process."""

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._moment = clock.moment
        now = clock.moment()
        self._ahead_ms = now.wall_ms - now.steady_ms
        """Milliseconds by which this clock is ahead of the time since boot."""

    def now_ms(self) -> int:
        """Return the time now."""
        return self._moment().steady_ms + self._ahead_ms

    def begin(self, lock: int, oldest_ms: int | None, newest_ms: int, max_age_ms: int) -> None:
        """Continue with the clock of a spool whose records are so old. `lock`: its lock file.

        `oldest_ms` of None: there are none, and nothing to continue with.
        """
        now = self._moment()
        noted = _read_note(lock)
        passed = noted.until(now) if noted is not None else None
        if noted is not None and passed is not None and noted.wall_ms + passed >= newest_ms:
            self._ahead_ms = noted.wall_ms - noted.steady_ms
            return
        at = now.wall_ms
        if oldest_ms is not None:
            at = min(at, oldest_ms + max(max_age_ms - min(max_age_ms, _GRACE_MS), 0))
            at = max(at, newest_ms)
        self._ahead_ms = at - now.steady_ms
        _note(lock, now._replace(wall_ms=at))


def _read_note(lock: int) -> Moment | None:
    try:
        return decode_moment(os.pread(lock, _NOTE_BYTES, 0))
    except OSError:
        return None


def _note(lock: int, moment: Moment) -> None:
    """Tell the next process. Where the disk takes nothing, it will have the wall clock only."""
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, moment.encode(), 0)
    except OSError:
        return
