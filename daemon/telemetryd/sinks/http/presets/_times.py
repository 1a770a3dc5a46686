"""The time of lines: the member `time` of each, as telemetry has it, or the time it was packed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, TypeAlias

import msgspec

Stamp: TypeAlias = tuple[str, str]
"""A second in UTC, such as `2026-03-14T12:00:00`, and the digits of its fraction."""

_HEAD: Final = re.compile(
    r'\{(?:"\w{1,64}":"[^"\\\n]{0,256}",){0,16}?'
    r'"time":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z"',
    re.ASCII,
)
"""The time of a line where it is a member before any other value than a plain text."""
_SECOND: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", re.ASCII)
_LAMBDA: Final = '{"time":"'
"""The begin of a line of Lambda. A date of 24 characters follows, and a quotation mark."""
_HEAD_CHARS: Final = len('{"time":"2026-03-14T12:00:00.123Z"')
_AT_SECOND: Final = len(_LAMBDA)
_AT_POINT: Final = _AT_SECOND + len("2026-03-14T12:00:00")
_AT_Z: Final = _AT_POINT + len(".123")
_MAX_KEPT: Final = 1024


class _Timed(msgspec.Struct, gc=False):
    time: datetime | None = None


_decode: Final = msgspec.json.Decoder(_Timed).decode


class _Seconds(dict[str, str]):
    """Seconds since the epoch, as text, of seconds in UTC. Raises ValueError for no date."""

    def __missing__(self, second: str) -> str:
        if not _SECOND.fullmatch(second):
            raise ValueError("no second")
        if len(self) >= _MAX_KEPT:
            self.clear()
        seconds = str(int(datetime.fromisoformat(f"{second}+00:00").timestamp()))
        self[second] = seconds
        return seconds


_seconds: Final = _Seconds()


def stamps(lines: Sequence[str], packed_at: int) -> list[Stamp]:
    """Return the time of each of `lines`.

    `packed_at`: nanoseconds since the epoch, for lines without a time.
    """
    return _of_lambda(lines) or list(_each(lines, packed_at))


def _of_lambda(lines: Sequence[str]) -> list[Stamp]:
    """Return the times of lines that all begin as those of Lambda do; nothing if they do not.

    The fixed places are looked at in all lines at once.
    """
    heads = "".join([line[:_HEAD_CHARS] for line in lines])
    count = len(lines)
    if len(heads) != count * _HEAD_CHARS:
        return []
    for at, char in (*enumerate(_LAMBDA), (_AT_POINT, "."), (_AT_Z, "Z"), (_AT_Z + 1, '"')):
        if heads[at::_HEAD_CHARS] != char * count:
            return []
    found = [(line[_AT_SECOND:_AT_POINT], line[_AT_POINT + 1 : _AT_Z]) for line in lines]
    fractions = "".join([fraction for _, fraction in found])
    if not (fractions.isdigit() and fractions.isascii()):
        return []
    try:
        for second in {second for second, _ in found}:
            _seconds[second]
    except ValueError:
        return []
    return found


def nanoseconds(found: Sequence[Stamp]) -> list[str]:
    """Return nanoseconds since the epoch."""
    return [_seconds[second] + fraction.ljust(9, "0") for second, fraction in found]


def milliseconds(found: Sequence[Stamp]) -> list[str]:
    """Return milliseconds since the epoch."""
    return [_seconds[second] + fraction[:3].ljust(3, "0") for second, fraction in found]


def fractions(found: Sequence[Stamp]) -> list[str]:
    """Return seconds since the epoch, with a fraction."""
    return [f"{_seconds[second]}.{fraction or '0'}" for second, fraction in found]


def dates(found: Sequence[Stamp]) -> list[str]:
    """Return dates in UTC, such as `2026-03-14T12:00:00.123Z`."""
    return [f"{second}.{fraction or '0'}Z" for second, fraction in found]


def _each(lines: Sequence[str], packed_at: int) -> Iterator[Stamp]:
    seconds, rest = divmod(packed_at, 1_000_000_000)
    fallback = (datetime.fromtimestamp(seconds, UTC).isoformat()[:19], f"{rest:09d}")
    for line in lines:
        yield _quick(line) or _careful(line) or fallback


def _quick(line: str) -> Stamp | None:
    found = _HEAD.match(line)
    if found is None:
        return None
    try:
        _seconds[found[1]]
    except ValueError:
        return None
    return found[1], found[2] or ""


def _careful(line: str) -> Stamp | None:
    try:
        time = _decode(line).time
        return None if time is None else _stamp(time)
    except (msgspec.DecodeError, RecursionError, OverflowError):
        return None


def _stamp(time: datetime) -> Stamp:
    """Return the stamp of `time`. One without a zone is in UTC. Raises OverflowError."""
    moment = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    return moment.isoformat()[:19], f"{moment.microsecond:06d}"
