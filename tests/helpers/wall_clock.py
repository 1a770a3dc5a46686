"""A wall clock that is set while the process runs."""

from __future__ import annotations

import time

from telemetryd.clock import SYSTEM, Clock, Moment


class WallClock:
    """`clock` is the system's but for the wall clock, which was set by `offset` seconds."""

    def __init__(self) -> None:
        self.offset = 0.0
        self.clock = Clock(wall=self._wall, moment=self._moment)

    def _wall(self) -> float:
        return time.time() + self.offset

    def _moment(self) -> Moment:
        now = SYSTEM.moment()
        return now._replace(wall_ms=now.wall_ms + int(self.offset * 1000))
