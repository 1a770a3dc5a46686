"""JSON as loggers write it, which is not always valid JSON.

Half surrogate pairs, `NaN`, numbers beyond any bound, bytes that are not UTF-8, control characters
within strings, a byte order mark: a reader still understands such a line. A copy is loosened for
the search. This is imported when a strict reader has refused a line: few do.
"""

from __future__ import annotations

import math
import re
from typing import Final

from telemetryd_proto.surrogates import without_lone_surrogates

_CONTROL_TO_SPACE: Final = b" " * 32 + bytes(range(32, 256))
_CONTROL_BUT_NEWLINE: Final = _CONTROL_TO_SPACE[:10] + b"\n" + _CONTROL_TO_SPACE[11:]
_HIGH_TO_QUESTION: Final = bytes(range(128)) + b"?" * 128
"""Maps bytes above ASCII to `?`, because `errors="replace"` costs a call for each bad byte."""
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_NAMES: Final = (b"NaN", b"Infinity")
"""Names of numbers that JSON does not have, as Python's `json.dumps` writes them."""
_NUMBERS: Final = re.compile(
    rb"-?\b(?:\d{300,}+(?:\.\d++)?+(?:[eE][+-]?\d++)?+|\d++(?:\.\d++)?+[eE]\+?\d{3,}+)"
)
"""Numbers that may be out of the range of readers, in text without strings."""
_BITS_OF_QUOTES: Final = bytes(ord("01"[byte == ord('"')]) for byte in range(256))
_MASK_OF_BITS: Final = bytes(0xFF if byte == ord("1") else 0 for byte in range(256))
_NULL, _FILL = b"\1", b"\2"
"""Marks for a null, and for the rest of the replaced text: it has no control characters."""
_MARKS_OF_NUMBERS: Final = bytes(
    ord("0") if byte in b"0123456789" else ord("e") if byte in b"eE"
    else ord("+") if byte in b"+-" else ord(" ")
    for byte in range(256)
)  # fmt: skip
_LONG: Final = 2048
"""Lines that are longer, on average, gain nothing from being looked at together."""
_SPARSE: Final = 32
"""With more bytes than that for each quote, the text is taken apart at its quotes."""
_HUGE: Final = b"0" * 300
_EXPONENT: Final = b"0e"
_HUGE_EXPONENTS: Final = (b"0e000", b"0e+000")
"""Parts of huge numbers in `_MARKS_OF_NUMBERS`. A pattern takes fifty times as long."""
_LONGEST: Final = 400
"""Bytes of a number that is looked at: a longer one is out of any range."""


def loosen(data: bytes) -> bytes:
    """Return `data` as JSON that strict readers take, where only usual sins keep them from it."""
    return _loosen(data.removeprefix(_BYTE_ORDER_MARK).translate(_CONTROL_TO_SPACE))


def loosen_lines(lines: list[bytes]) -> list[bytes]:
    """Return each of `lines`, which hold no newline, as `loosen` does.

    All together, since what it takes is a number of steps for each text, however short. The very
    same list where there is nothing to loosen.
    """
    text = b"\n".join(lines)
    if len(text) > _LONG * len(lines):
        loose_lines = [loosen(line) for line in lines]
        return lines if loose_lines == lines else loose_lines
    strict = text
    if _BYTE_ORDER_MARK in text:
        text = b"\n".join([line.removeprefix(_BYTE_ORDER_MARK) for line in lines])
    loose = _loosen(text.translate(_CONTROL_BUT_NEWLINE))
    return lines if loose == strict else loose.split(b"\n")


def _loosen(data: bytes) -> bytes:
    """Loosen JSON, or lines of JSON, without control characters."""
    if not _is_utf8(data):  # a line must not cost its neighbours theirs
        data = b"\n".join([_to_utf8(line) for line in data.split(b"\n")])
    # a search for one byte takes a tenth of the time of one for a word
    is_named = (b"N" in data and b"NaN" in data) or (b"I" in data and b"Infinity" in data)
    if is_named or has_huge_number(data):
        data = _with_nulls(data)
    return without_lone_surrogates(data)


def _with_nulls(data: bytes) -> bytes:
    """Return JSON with null for each number that is none; `data` holds no control characters.

    A call for each string or number would take longer than ordinary lines do. So the whole text is
    one large integer: strings are taken out of it, the rest is marked, and both are put together.
    """
    if b"\\" not in data and data.count(b'"') * _SPARSE < len(data) and b"\n" not in data:
        parts = data.split(b'"')  # every other one is the inside of a string
        if not _holds_a_name(b'"'.join(parts[1::2])):
            outside = b'"'.join(parts[::2])
            if not has_huge_number(outside):
                return _with_null_for_names(data, signed=b"-" in outside)
    size = len(data)
    text = int.from_bytes(data, "little")
    strings = text & int.from_bytes(_inside_strings(data), "little")
    rest = (text ^ strings).to_bytes(size, "little")
    if not has_huge_number(rest) and not _holds_a_name(strings.to_bytes(size, "little")):
        return _with_null_for_names(data, signed=b"-" in rest)
    for name in _NAMES:
        rest = rest.replace(name, _NULL + _FILL * (len(name) - 1))
    if has_huge_number(rest):
        rest = _NUMBERS.sub(_mark_for_number, rest)
    rest = rest.replace(b"-" + _NULL, _NULL + _FILL) if b"-" in rest else rest
    whole = (int.from_bytes(rest, "little") | strings).to_bytes(size, "little")
    return whole.translate(None, _FILL).replace(_NULL, b"null")


def _holds_a_name(data: bytes) -> bool:
    return any(name in data for name in _NAMES)


def _with_null_for_names(data: bytes, *, signed: bool) -> bytes:
    """Return `data`, whose strings hold none of the names, with null for each of them."""
    for name in (*((b"-" + name for name in _NAMES) if signed else ()), *_NAMES):
        data = data.replace(name, b"null")
    return data


def _inside_strings(data: bytes) -> bytes:
    """Return a mask: 0xFF for each byte from a quote to before the next, 0 for any other.

    A quote that is escaped is none. Of several lines each begins outside of a string.
    """
    plain = data.replace(rb"\\", b"  ").replace(rb"\"", b"  ") if b"\\" in data else data
    if b"\n" in plain:
        plain = b"\n".join([_with_even_quotes(line) for line in plain.split(b"\n")])
    bits = int(plain.translate(_BITS_OF_QUOTES), 2)
    reach = 1
    while reach < len(data):  # each bit becomes the parity of all before it, in steps that double
        bits ^= bits >> reach
        reach *= 2
    return f"{bits:0{len(data)}b}".encode().translate(_MASK_OF_BITS)


def _with_even_quotes(line: bytes) -> bytes:
    """Replace the last quote of a line that has an odd number: such a line is not JSON."""
    if line.count(b'"') % 2 == 0:
        return line
    before, _, after = line.rpartition(b'"')
    return before + b" " + after


def _is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _to_utf8(line: bytes) -> bytes:
    return line if _is_utf8(line) else line.translate(_HIGH_TO_QUESTION)


def has_huge_number(data: bytes) -> bool:
    """True if there may be a number in `data` that is out of the range of readers."""
    marks = data.translate(_MARKS_OF_NUMBERS)
    if _HUGE in marks:
        return True
    return _EXPONENT in marks and any(part in marks for part in _HUGE_EXPONENTS)


def _mark_for_number(found: re.Match[bytes]) -> bytes:
    text = found[0]
    if len(text) <= _LONGEST and math.isfinite(float(text)):
        return text
    return _NULL + _FILL * (len(text) - 1)
