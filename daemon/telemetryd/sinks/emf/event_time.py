"""The times of events, as the milliseconds EMF wants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from telemetryd_proto.errors import MalformedRecord
from telemetryd_proto.timestamps import parse_time

_USUAL_LENGTH: Final = len("2026-03-14T10:15:30.123Z")
_UP_TO_MINUTE: Final = len("2026-03-14T10:15:")
_UP_TO_SECOND: Final = len("2026-03-14T10:15:30.")


class EventTimes:
    """Reads times. Of an event without a usable one, the time is now, by `wall` (seconds)."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._second = self._minute = ("", 0)

    def milliseconds(self, text: str) -> int:
        """Return milliseconds since the Unix epoch for the time `text` of an event."""
        # Events come by the thousand in a minute, by the dozen in a second: only the first is read
        # in full.
        second, base = self._second
        if text[:_UP_TO_SECOND] == second and len(text) == _USUAL_LENGTH and text[23] == "Z":
            fraction = text[20:23]
            if fraction.isdecimal():
                return base + int(fraction)
        minute, base = self._minute
        if len(text) == _USUAL_LENGTH and text.startswith(minute) and minute:
            seconds, fraction = text[17:19], text[20:23]
            if (
                text[19] == "."
                and text[23] == "Z"
                and (seconds + fraction).isdecimal()
                and seconds < "60"
            ):
                base += int(seconds) * 1000
                self._second = (text[:_UP_TO_SECOND], base)
                return base + int(fraction)
        try:
            at = round(parse_time(text) * 1000)
        except MalformedRecord:
            return round(self._wall() * 1000)
        if at < 0:
            return round(self._wall() * 1000)
        if len(text) == _USUAL_LENGTH and text[23] == "Z":
            self._minute = (text[:_UP_TO_MINUTE], at - at % 60_000)
        return at
