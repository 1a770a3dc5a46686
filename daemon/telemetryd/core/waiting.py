"""How long an invocation waits for telemetryd: from its end to our asking for the next.

The platform answers nobody's `next` before every extension has asked. Only what comes after the
runtime was done is a wait; where we had asked before, nobody waited.
"""

from __future__ import annotations

from typing import Final

from telemetryd.core.stats import DaemonStats
from telemetryd_proto.errors import MalformedRecord
from telemetryd_proto.timestamps import parse_time

_PLAUSIBLE_SECONDS: Final = 60.0
"""Further from now no event is that tells of an end just seen: its time is not to be trusted."""


class Waiting:
    """Follows one invocation at a time. Times are epoch seconds, the clock of the events."""

    def __init__(self, stats: DaemonStats) -> None:
        self._stats = stats
        self._request = ""
        self._ended = ("", 0.0)

    def began(self, request_id: str) -> None:
        """We have been told of the invocation."""
        self._stats.invocations += 1
        self._request = request_id

    def ended(self, request_id: str, time: str, now: float) -> None:
        """At `now` we learn that the runtime was done with it at `time`."""
        if request_id == self._ended[0]:
            return
        try:
            at = parse_time(time)
        except MalformedRecord:
            at = now
        self._ended = (request_id, at if 0 <= now - at < _PLAUSIBLE_SECONDS else now)

    def asked(self, now: float) -> None:
        """We have asked for the next event."""
        request, self._request = self._request, ""
        if request:
            ended, at = self._ended
            self._stats.added(now - at if ended == request else 0.0)
