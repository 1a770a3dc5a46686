"""Bytes of a process's output in, whole lines out."""

from __future__ import annotations

import codecs

_Utf8 = codecs.getincrementaldecoder("utf-8")
_MAX_CHARACTER = 4
"""Bytes of a character in UTF-8."""


class LineSplitter:
    """Collects one stream's bytes into blocks of whole lines.

    Splits on the byte 0x0A only: `str.splitlines` would also cut at U+0085 or U+2028. A line may
    have any length; one above `max_line` bytes comes in several pieces, so that a program which
    never prints a newline cannot fill the memory. No piece ends inside a character.
    """

    __slots__ = ("_max_line", "_parts", "_size")

    def __init__(self, max_line: int) -> None:
        self._max_line = max_line
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> bytes:
        """Return every line that `data` completes, each with its newline; maybe nothing."""
        end = data.rfind(b"\n") + 1
        if not end:
            self._keep(data)
            return self._piece() if self._size >= self._max_line else b""
        block = b"".join((*self._parts, data[:end])) if self._parts else data[:end]
        self._parts.clear()
        self._size = 0
        self._keep(data[end:])
        return block

    def finish(self) -> bytes:
        """Return the unfinished line, when the stream has ended; maybe nothing."""
        rest = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        return rest

    def _piece(self) -> bytes:
        """Return what there is of a line that is too long, but for a character's first bytes."""
        piece = self.finish()
        tail = _Utf8("replace")
        tail.decode(piece[-_MAX_CHARACTER:])
        begun = len(tail.getstate()[0])
        self._keep(piece[len(piece) - begun :])
        return piece[: len(piece) - begun]

    def _keep(self, data: bytes) -> None:
        if data:
            self._parts.append(data)
            self._size += len(data)
