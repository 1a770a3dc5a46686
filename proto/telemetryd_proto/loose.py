"""JSON as it is written, which is not always as JSON is defined.

Half surrogate pairs, `NaN`, numbers beyond any bound, bytes that are no UTF-8, control characters
within strings, a byte order mark: none of them keeps a reader from knowing what a line says. What
is loosened is a copy, to look into. Imported where a strict reader has refused a line: few do.
"""

from __future__ import annotations

import math
import re
from typing import Final

from telemetryd_proto.surrogates import without_lone_surrogates

_CONTROL_TO_SPACE: Final = b" " * 32 + bytes(range(32, 256))
_HIGH_TO_QUESTION: Final = bytes(range(128)) + b"?" * 128
"""What is looked for is ASCII; `replace` as an error handler costs a call for each bad byte."""
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_NUMBERS: Final = (
    rb'"(?:[^"\\]++|\\.)*+"?|-?\b(?:NaN|Infinity)\b'
    rb"|-?\b(?:\d{300,}+(?:\.\d++)?+(?:[eE][+-]?\d++)?+|\d++(?:\.\d++)?+[eE][+-]?\d{3,}+)"
)
"""Strings, to be kept, and the numbers that JSON, or readers of it, may not have.

A string that never ends is kept as well: else each quote in it would be tried as a beginning.
"""
_MARKS_OF_NUMBERS: Final = bytes(
    ord("0") if byte in b"0123456789" else ord("e") if byte in b"eE"
    else ord("+") if byte in b"+-" else ord(" ")
    for byte in range(256)
)  # fmt: skip
_HUGE: Final = b"0" * 300
_EXPONENT: Final = b"0e"
_HUGE_EXPONENTS: Final = (b"0e000", b"0e+000")
"""What a huge number holds, told in `_MARKS_OF_NUMBERS`: a pattern takes fifty times as long."""
_LONGEST: Final = 400
"""Bytes of a number that is looked at: a longer one is out of any range."""


def loosened(data: bytes) -> bytes:
    """Return `data` as JSON that strict readers take, where only usual sins keep them from it."""
    data = data.removeprefix(_BYTE_ORDER_MARK).translate(_CONTROL_TO_SPACE)
    if not data.isascii() and not _is_utf8(data):
        data = data.translate(_HIGH_TO_QUESTION)
    # as Python's `json.dumps` writes them
    if b"NaN" in data or b"Infinity" in data or has_huge_number(data):
        data = re.sub(_NUMBERS, _null_for_number, data)
    return without_lone_surrogates(data)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def has_huge_number(data: bytes) -> bool:
    """True if there may be a number in `data` that is out of the range of readers."""
    marks = data.translate(_MARKS_OF_NUMBERS)
    if _HUGE in marks:
        return True
    return _EXPONENT in marks and any(part in marks for part in _HUGE_EXPONENTS)


def _null_for_number(found: re.Match[bytes]) -> bytes:
    text = found[0]
    if text[:1] == b'"' or (len(text) <= _LONGEST and math.isfinite(float(text))):
        return text
    return b"null"
