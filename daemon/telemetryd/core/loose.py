"""Reads JSON as loggers write it, which is not always valid JSON.

`telemetryd_proto.loose` loosens a copy for the search; the delivered line never changes. Only lines
that strict readers refuse are copied.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from telemetryd_proto.errors import DECODE_FAILURES
from telemetryd_proto.objects import AnyObject, ObjectReader, decode_objects

T = TypeVar("T")


def decode_loosely(decode: Callable[[bytes], T], data: bytes) -> T | None:
    """Return what `decode` makes of `data`, if need be loosened; None if it refuses that too."""
    try:
        return decode(data)
    except DECODE_FAILURES as error:
        from telemetryd_proto.loose import has_huge_number, loosen  # noqa: PLC0415 - few need it

        # what does not fit a type does not fit it loosened, but numbers out of range are called so
        if isinstance(error, msgspec.ValidationError) and not has_huge_number(data):
            return None
    loose = loosen(data)
    if loose == data:  # an exception costs many times this look
        return None
    try:
        return decode(loose)
    except DECODE_FAILURES:
        return None


def decode_lines_loosely(
    lines: list[bytes], reader: ObjectReader | None = None
) -> list[AnyObject | None]:
    """Return one entry a line, in order; None for a line that is not one JSON object."""
    objects = decode_objects(lines, reader)
    if None in objects:
        refused = [at for at, found in enumerate(objects) if found is None and b"{" in lines[at]]
        if refused:
            _decode_refused(lines, refused, objects, reader)
    return objects


def _decode_refused(
    lines: list[bytes],
    refused: list[int],
    objects: list[AnyObject | None],
    reader: ObjectReader | None,
) -> None:
    """Decode the lines at the places `refused` once more, loosened: all at once, not one by one."""
    from telemetryd_proto.loose import loosen_lines  # noqa: PLC0415 - as above

    strict = [lines[at].strip(b" \t\r\n") for at in refused]
    if (loose_lines := loosen_lines(strict)) is strict:
        return
    changed = [
        (at, loose)
        for at, line, loose in zip(refused, strict, loose_lines, strict=True)
        if loose != line
    ]
    found = decode_objects([loose for _, loose in changed], reader)
    for (at, _), event in zip(changed, found, strict=True):
        objects[at] = event
