r"""The text of a line as patterns see it: without the escapes of JSON.

A secret may be escaped, and JSON in a string of JSON is escaped twice: `\u002B` and `\\u002B` are a
plus sign, and the `n` of `\n` is no part of the name that follows it. So patterns search a view. It
has one piece for each escape:

* `\n`, `\r`, `\t`, `\b`, `\f`, and escapes of control characters: a space
* `\"`, `\/`, `\uXXXX` and surrogate pairs: the character, in UTF-8; for half a pair, a byte
* any other backslash: nothing

Before the letter there may be any number of backslashes, as each depth of nesting doubles them. A
part of the view is always whole escapes of the line, so what replaces it leaves JSON valid.
"""

# ruff: noqa: PLR2004 - code points (RFC 8259, Unicode)
from __future__ import annotations

import re
from bisect import bisect_right
from typing import Final

_UNIT: Final = (
    rb"u(?:([dD][89abAB][0-9a-fA-F]{2})\\++u([dD][c-fC-F][0-9a-fA-F]{2})|([0-9a-fA-F]{4}))"
)
"""A surrogate pair, or one code unit."""
_ESCAPE: Final = re.compile(rb"""\\++(?:%b|["/bfnrt])?""" % _UNIT)
_CODED: Final = re.compile(rb"\\++%b" % _UNIT)
_BLANKS: Final = (b"\\n", b"\\t", b"\\r", b"\\b", b"\\f")
_HALF: Final = b"\xff"
"""Stands for half a surrogate pair: no blank, and no part of other characters."""


def flatten(data: bytes) -> bytes:
    """Return the views of all lines of `data`, each with its newline, at the cost of a few copies.

    It tells in which line something is, not where in the line.
    """
    if b"\\" not in data:
        return data
    if b"\\u" in data:
        data = _CODED.sub(_character, data)
    for escape in _BLANKS:
        data = data.replace(escape, b" ")
    return data.translate(None, b"\\")


def _character(found: re.Match[bytes]) -> bytes:
    if found[1] is not None:
        return (bytes.fromhex((found[1] + found[2]).decode())).decode("utf-16-be").encode()
    code = int(found[3], 16)
    if code < 0x20 or code in (0x7F, 0x85, 0x2028, 0x2029):
        return b" "
    if code == 0x5C:  # a backslash
        return b""
    return _HALF if 0xD800 <= code < 0xE000 else chr(code).encode()


class View:
    """The view of one line, and the place of its bytes in the line."""

    __slots__ = ("_ends", "_lines", "_starts", "text")

    def __init__(self, line: bytes) -> None:
        self.text = line
        """The view."""
        self._starts = [0]
        """Where pieces begin in the view, and in the line; a piece is literal, or one escape."""
        self._lines = [0]
        self._ends = [len(line)]
        """Where an escape ends in the line; where a literal piece would."""
        if b"\\" in line:
            self._unescape(line)

    def _unescape(self, line: bytes) -> None:
        texts: list[bytes] = []
        self._starts, self._lines, self._ends = [], [], []
        at = size = 0
        for found in _ESCAPE.finditer(line):
            start, end = found.span()
            size = self._add(texts, line[at:start], size, at, start)
            size = self._add(texts, _shown(found), size, start, end)
            at = end
        self._add(texts, line[at:], size, at, len(line))
        self.text = b"".join(texts)

    def _add(self, texts: list[bytes], text: bytes, size: int, start: int, end: int) -> int:
        if text:
            texts.append(text)
            self._starts.append(size)
            self._lines.append(start)
            self._ends.append(end)
        return size + len(text)

    def place(self, start: int, end: int) -> tuple[int, int]:
        """Return where the part of the view from `start` to `end`, not empty, is in the line."""
        first = bisect_right(self._starts, start) - 1
        last = bisect_right(self._starts, end - 1) - 1
        begin = self._lines[first]
        if not self._is_escape(first):
            begin += start - self._starts[first]
        if self._is_escape(last):
            return begin, self._ends[last]
        return begin, self._lines[last] + end - self._starts[last]

    def _is_escape(self, piece: int) -> bool:
        """True if the piece is longer in the line than in the view: every escape is."""
        following = piece + 1
        ends = self._starts[following] if following < len(self._starts) else len(self.text)
        return ends - self._starts[piece] < self._ends[piece] - self._lines[piece]


def _shown(found: re.Match[bytes]) -> bytes:
    if found[1] is not None or found[3] is not None:
        return _character(found)
    last = found[0][-1:]
    if last in b'"/':
        return last
    return b"" if last == b"\\" else b" "
