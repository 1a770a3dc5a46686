"""Splits bytes with several records, one after the other, at the records' ends.

Compressed records and aggregates contain their own end. Lines do not: they end where something else
begins, a compressed record, an aggregate, or the line with the id of the next record.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from telemetryd_proto import _kpl, _record_compression, _zstd_frame
from telemetryd_proto._record_id import (
    HEADER,
    HEADER_MARK,
    HEADER_MARK_AT,
    RecordId,
    from_bytes,
    from_header,
    from_text,
)

_MAGICS: Final = (_record_compression.GZIP_MAGIC, _record_compression.ZSTD_MAGIC, _kpl.MAGIC)
"""None of them can stand in UTF-8 text."""
_MAX_GUESSES: Final = 64
"""Magics in the middle of a line that are tried; further ones are taken as part of it."""


class Found(NamedTuple):
    """A record that tells where it ends."""

    record_id: RecordId | None
    lines: list[bytes]
    """Without newlines."""
    whole: bytes | None
    """The whole content of a compressed record."""
    end: int
    """The offset behind it."""


def lines_of(data: bytes) -> list[bytes]:
    """Return the lines in `data`, without their newlines; the last need not have one."""
    found = data.split(b"\n")
    if not found[-1]:
        found.pop()
    return found


def found_at(data: bytes, at: int, max_bytes: int) -> Found | None:
    """Return the record at `data[at:]`, if it begins like one that has its end in its data.

    Raises DamageError where they are, and the rest is not.
    """
    if data.startswith(_record_compression.GZIP_MAGIC, at):
        member = _record_compression.gzip_decode(data, at, max_bytes)
    elif data.startswith(_record_compression.ZSTD_MAGIC, at):
        member = _record_compression.zstd_decode(data, at, max_bytes)
    elif (end := _kpl.end_of_aggregate(data, at)) > at:
        try:
            aggregated = _kpl.read_aggregate(data[at:end])
        except ValueError as error:
            raise _record_compression.DamageError("bad_kpl", str(error)) from error
        return Found(from_text(aggregated.tag), aggregated.records, None, end)
    else:
        return None
    record_id = None if member.binary_id is None else from_bytes(member.binary_id)
    return Found(record_id, lines_of(member.lines), member.lines, member.end)


def begins_at(data: bytes, at: int, max_bytes: int) -> bool:
    """True if a record begins at `data[at:]`, behind another, and a newline perhaps."""
    at += data.startswith(b"\n", at)
    try:
        return found_at(data, at, max_bytes) is not None or HEADER.match(data, at) is not None
    except _record_compression.DamageError:
        return True


def split(
    data: bytes, max_bytes: int, *, nested: bool = False
) -> Iterator[tuple[RecordId | None, list[bytes]]]:
    """Yield each record's id and lines. Raises DamageError.

    Not `nested`, a compressed piece without an id of ours may be the whole object compressed once
    more: what is in it is split too.
    """
    at = 0
    boundaries = Boundaries(data, max_bytes)
    while at < len(data):
        found = found_at(data, at, max_bytes)
        if found is not None:
            at = found.end
            if found.record_id is None and found.whole is not None and not nested:
                yield from split(found.whole, max_bytes, nested=True)
            else:
                yield found.record_id, found.lines
            continue
        if (behind := _zstd_frame.skip(data, at)) > at:
            at = behind
            continue
        header = HEADER.match(data, at)
        begin = header.end() if header else at
        at = boundaries.after(begin if header else at + 1, begin)
        lines = [line for line in lines_of(data[begin:at]) if line]
        if lines or header:
            yield (from_header(*header.groups()) if header else None), lines


class Boundaries:
    """Finds the next record in the lines of `data`. If called in order, the search is linear."""

    def __init__(self, data: bytes, max_bytes: int) -> None:
        self._data = data
        self._max_bytes = max_bytes
        self._guesses = _MAX_GUESSES
        self._next: dict[bytes, int] = dict.fromkeys((*_MAGICS, HEADER_MARK), -1)

    def after(self, at: int, begin: int, *, strict: bool = True) -> int:
        """Return the first boundary at or after `at`, in lines that begin at `begin`; else the end.

        What begins like a record where a line does is one (or damaged); in the middle of a line,
        and everywhere if not `strict`, only what is a whole one.
        """
        data = self._data
        while True:
            mark, found = self._first(at)
            if found == len(data):
                return found
            at = found + 1
            if mark == HEADER_MARK:
                line = data.rfind(b"\n", max(begin, found - HEADER_MARK_AT), found) + 1
                if line > begin and HEADER.match(data, line):
                    return line
                continue
            if strict and mark != _kpl.MAGIC and found > begin and data[found - 1] == 0x0A:  # noqa: PLR2004 - a newline
                return found
            if self._is_whole(found):
                return found

    def _first(self, at: int) -> tuple[bytes, int]:
        for mark, known in self._next.items():
            if known < at:
                found = self._data.find(mark, at)
                self._next[mark] = found if found >= 0 else len(self._data)
        return min(self._next.items(), key=lambda entry: entry[1])

    def _is_whole(self, at: int) -> bool:
        self._guesses -= 1
        if self._guesses < 0:
            return False
        try:
            return found_at(self._data, at, self._max_bytes) is not None
        except _record_compression.DamageError:
            return False
