"""Reads JSON as loggers write it, which is not always as JSON is defined.

Half surrogate pairs, `NaN`, bytes that are no UTF-8, control characters within strings, a byte
order mark: none of them keeps a reader from knowing what a line says. What is loosened is a copy,
to look into; the line that is delivered never changes. Only what strict readers refuse is copied.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from telemetryd_proto.errors import DECODE_FAILURES
from telemetryd_proto.objects import AnyObject, decode_objects
from telemetryd_proto.surrogates import without_lone_surrogates

T = TypeVar("T")

_CONTROL_TO_SPACE: Final = b" " * 32 + bytes(range(32, 256))
_HIGH_TO_QUESTION: Final = bytes(range(128)) + b"?" * 128
"""What is looked for is ASCII; `replace` as an error handler costs a call for each bad byte."""
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_NUMBERS: Final = rb'"(?:[^"\\]++|\\.)*+"|-?\b(?:NaN|Infinity)\b'
"""Strings, to be kept, and the numbers that JSON does not have."""


def loosened(data: bytes) -> bytes:
    """Return `data` as JSON that strict readers take, where only usual sins keep them from it."""
    data = data.removeprefix(_BYTE_ORDER_MARK).translate(_CONTROL_TO_SPACE)
    if not data.isascii() and not _is_utf8(data):
        data = data.translate(_HIGH_TO_QUESTION)
    if b"NaN" in data or b"Infinity" in data:  # as Python's `json.dumps` writes them
        data = re.sub(_NUMBERS, _null_for_number, data)
    return without_lone_surrogates(data)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _null_for_number(found: re.Match[bytes]) -> bytes:
    return found[0] if found[0][:1] == b'"' else b"null"


def decode_loosely(decode: Callable[[bytes], T], data: bytes) -> T | None:
    """Return what `decode` makes of `data`, if need be loosened; None if it refuses that too."""
    try:
        return decode(data)
    except msgspec.ValidationError:
        return None
    except DECODE_FAILURES:
        pass
    try:
        return decode(loosened(data))
    except DECODE_FAILURES:
        return None


def decode_lines_loosely(lines: list[bytes]) -> list[AnyObject | None]:
    """Return one entry a line, in order; None for a line that is not one JSON object."""
    objects = decode_objects(lines)
    if None in objects:
        for at, found in enumerate(objects):
            if found is None and b"{" in lines[at]:
                objects[at] = decode_objects([loosened(lines[at])])[0]
    return objects
