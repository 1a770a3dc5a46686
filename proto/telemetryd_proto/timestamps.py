"""Time stamps of events."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from telemetryd_proto.errors import BAD_TIME, MalformedRecord

_TIMESTAMP: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})"
    r"(?:\.([0-9]{1,9}))?"
    r"(Z|[+-][0-9]{2}:?[0-9]{2})"
)

_USUAL: Final = len("2024-05-01T12:00:00.000Z")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def parse_time(text: str) -> float:
    """Read an ISO-8601 date and time with zero to nine fraction digits and `Z` or an offset.

    The platform sends UTC with milliseconds; other precisions are to be expected (Lambda Telemetry
    API Event schema reference, "time").

    Returns:
        Seconds since the Unix epoch.

    Raises:
        MalformedRecord: with code `bad_time`, when the text is anything else.

    """
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        raise _bad_time()
    seconds, fraction, offset = match.groups()
    try:
        whole = datetime.fromisoformat(seconds + offset).timestamp()
    except ValueError as error:
        raise MalformedRecord("the time stamp is no date and time", code=BAD_TIME) from error
    # The fraction apart: datetime keeps six digits only.
    return whole + int(fraction) / 10 ** len(fraction) if fraction else whole


def parse_nanoseconds(text: str) -> int:
    """Read what `parse_time` reads, exactly.

    Returns:
        Nanoseconds since the Unix epoch; negative before it.

    Raises:
        MalformedRecord: as `parse_time`.

    """
    if (
        len(text) == _USUAL
        and text[19] == "."
        and text[23] == "Z"
        and text.isascii()
        and (millis := text[20:23]).isdigit()
    ):
        return _whole_seconds(f"{text[:19]}Z") * 10**9 + int(millis) * 10**6
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        raise _bad_time()
    seconds, fraction, offset = match.groups()
    return _whole_seconds(seconds + offset) * 10**9 + int((fraction or "").ljust(9, "0"))


@lru_cache(64)  # the lines of a batch share few seconds
def _whole_seconds(text: str) -> int:
    if _TIMESTAMP.fullmatch(text) is None:
        raise _bad_time()
    try:
        return (datetime.fromisoformat(text) - _EPOCH) // timedelta(seconds=1)
    except ValueError as error:
        raise MalformedRecord("the time stamp is no date and time", code=BAD_TIME) from error


def _bad_time() -> MalformedRecord:
    return MalformedRecord("the time stamp is not ISO-8601 with an offset", code=BAD_TIME)
