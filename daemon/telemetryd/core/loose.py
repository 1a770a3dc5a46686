"""Reads JSON as loggers write it, which is not always as JSON is defined.

What is loosened (`telemetryd_proto.loose`) is a copy, to look into; the line that is delivered
never changes. Only what strict readers refuse is copied.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from telemetryd_proto.errors import DECODE_FAILURES
from telemetryd_proto.objects import AnyObject, decode_objects

T = TypeVar("T")


def decode_loosely(decode: Callable[[bytes], T], data: bytes) -> T | None:
    """Return what `decode` makes of `data`, if need be loosened; None if it refuses that too."""
    try:
        return decode(data)
    except DECODE_FAILURES as error:
        from telemetryd_proto.loose import has_huge_number, loosened  # noqa: PLC0415 - few need it

        # what does not fit a type does not fit it loosened, but numbers out of range are called so
        if isinstance(error, msgspec.ValidationError) and not has_huge_number(data):
            return None
    try:
        return decode(loosened(data))
    except DECODE_FAILURES:
        return None


def decode_lines_loosely(lines: list[bytes]) -> list[AnyObject | None]:
    """Return one entry a line, in order; None for a line that is not one JSON object."""
    objects = decode_objects(lines)
    if None in objects:
        from telemetryd_proto.loose import loosened  # noqa: PLC0415 - as above

        for at, found in enumerate(objects):
            if found is None and b"{" in lines[at]:
                strict = lines[at].strip(b" \t\r\n")
                if (loose := loosened(strict)) != strict:
                    objects[at] = decode_objects([loose])[0]
    return objects
