"""Dates and delays in the headers of answers (RFC 9110, 5.6.7 and 10.2.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_MONTHS: Final = "JanFebMarAprMayJunJulAugSepOctNovDec"
_DAYS_BEFORE: Final = (0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334)
_MAX_DIGITS: Final = 9
_TWO_DIGIT_YEAR: Final = 100
_PIVOT: Final = 70
"""A year of two digits below this is of the century after 1900's."""


def parse_http_date(text: str) -> float | None:
    """Return the date in any of HTTP's three formats as seconds since the epoch; None: it is none.

    `Sun, 06 Nov 1994 08:49:37 GMT`, `Sunday, 06-Nov-94 08:49:37 GMT`, `Sun Nov  6 08:49:37 1994`.
    """
    parts = text.replace("-", " ").split()
    if text.rstrip().endswith("GMT") and len(parts) == 6:  # noqa: PLR2004 - the first two formats
        day, month, year, clock = parts[1:5]
    elif len(parts) == 5:  # noqa: PLR2004 - the third
        month, day, clock, year = parts[1:]
    else:
        return None
    at = _MONTHS.find(month)
    numbers = [_number(each) for each in (year, day, *clock.split(":"))]
    if len(month) != 3 or at < 0 or at % 3 or len(numbers) != 5 or None in numbers:  # noqa: PLR2004
        return None
    return _epoch_seconds(at // 3, *(each or 0 for each in numbers))


def retry_after(headers: Mapping[str, str], now: float, *, most: float) -> float:
    """Return the seconds that an answer asks to wait, at most `most`; 0 if it does not ask.

    A date in Retry-After is compared with the answer's own Date, if it has one, otherwise with
    `now`, in seconds since the epoch.
    """
    text = headers.get("retry-after", "").strip()
    if not text:
        return 0.0
    if text.isascii() and text.isdigit():
        return min(float(text[:_MAX_DIGITS]), most)
    until = parse_http_date(text)
    if until is None:
        return 0.0
    since = parse_http_date(headers.get("date", ""))
    return min(max(until - (now if since is None else since), 0.0), most)


def _number(text: str) -> int | None:
    fits = text.isascii() and text.isdigit() and len(text) <= 4  # noqa: PLR2004 - a year
    return int(text) if fits else None


def _epoch_seconds(
    month: int, year: int, day: int, hour: int, minute: int, second: int
) -> float | None:
    if year < _TWO_DIGIT_YEAR:
        year += 1900 if year >= _PIVOT else 2000
    if year < 1970 or not 1 <= day <= 31 or hour > 23 or minute > 59 or second > 60:  # noqa: PLR2004
        return None
    before = year - 1 if month < 2 else year  # noqa: PLR2004 - up to February
    leap_days = before // 4 - before // 100 + before // 400 - 477
    days = (year - 1970) * 365 + leap_days + _DAYS_BEFORE[month] + day - 1
    return float(((days * 24 + hour) * 60 + minute) * 60 + second)
