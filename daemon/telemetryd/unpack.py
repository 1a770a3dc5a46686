"""Reads data that may be compressed as one stream: plain, gzip, zstd, one after the other.

The first bytes of a file show its format, not its name. Memory is bounded whatever is in it: only
the output of one small step of a decompressor is held.
"""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Callable
from typing import Any, Final

from telemetryd_proto.kinesis import zstd_available

_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_SKIPPABLE: Final = b"\x2a\x4d\x18"
"""The bytes after the first byte, 0x50 to 0x5f, of a skippable frame (RFC 8878, 3.1.2)."""
_MAGIC_BYTES: Final = 4
_SKIPPABLE_HEADER_BYTES: Final = 8
_READ_BYTES: Final = 256 * 1024
_FIRST_STEP: Final = 512
"""Bytes taken first of what is read, then twice as many each time: a decompressor hands back
what it does not need, which among many small members would be everything, again and again."""
_ZSTD_STEP: Final = 1024
"""Bytes of zstd decompressed at a time: at most 32 MiB come of them."""
_GZIP_WINDOW: Final = 31  # zlib: 15 bits and a gzip wrapper


_FOREIGN: Final = (
    (rb"\xfd7zXZ\0", "xz", "unxz"),
    (rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)", "bzip2", "bunzip2"),
    (rb"PK(?:\x03\x04|\x05\x06|\x07\x08)", "a zip archive", "unzip"),
    (rb"\x04\x22\x4d\x18|\x02\x21\x4c\x18", "lz4", "unlz4"),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", "7z x"),
    (rb"Rar!\x1a\x07", "a rar archive", "unrar x"),
    (rb"LZIP\x01", "lzip", "lzip -d"),
    (rb"\x89LZO\0\r\n\x1a\n", "lzop", "lzop -d"),
    (rb"\x5d\0\0", "lzma", "unlzma"),
    (rb"\x1f[\x9d\xa0]", "compress (.Z)", "uncompress"),
    (rb"\xff\x06\0\0sNaPpY", "snappy", "snzip -d"),
    (rb".{257}ustar", "a tar archive", "tar -xf"),
    (rb"PAR[1E]", "Parquet", ""),
    (rb"ORC[\0-\x08]", "ORC", ""),
    (rb"Obj\x01", "Avro", ""),
    (rb"ARROW1\0\0", "Arrow", ""),
    (rb"SQLite format 3\0", "an SQLite database", ""),
)
"""The first bytes of formats that are not read here, and the command that unpacks them.

Sources: the formats' own specifications, and the `magic` of file(1)."""
FOREIGN_HEAD_BYTES: Final = 262
"""Bytes that identify a format: up to the end of `ustar` in a tar archive."""


def is_packed(head: bytes) -> bool:
    """True if data that begins with `head`, of four bytes or more, is compressed."""
    is_skippable = head[1:_MAGIC_BYTES] == _SKIPPABLE and head[0] >> 4 == 5  # noqa: PLR2004 - 0x50 to 0x5f
    return head.startswith((_GZIP, _ZSTD)) or is_skippable


class DamagedFileError(OSError):
    """Compressed data is cut off or damaged. The data before that has been read."""

    def __init__(self, what: str) -> None:
        super().__init__(0, what)


class ForeignFileError(DamagedFileError):
    """The data is in a format that is not supported. The text says which, and what to do."""

    def __init__(self, what: str, command: str) -> None:
        unpack = f"unpack it first ({command})" if command else "convert it to NDJSON first"
        super().__init__(f"this is {what}, not lines: {unpack}, or replay its lines from a pipe")


def refuse_foreign(head: bytes, *, unpacked: bool = False) -> None:
    """Raise ForeignFileError if what begins with `head` is an archive, or binary data.

    That is also what is compressed again, if it is `unpacked` already.
    """
    if unpacked and len(head) >= _MAGIC_BYTES and is_packed(head):
        raise ForeignFileError("compressed twice", "gunzip or unzstd")
    for pattern, what, command in _FOREIGN:
        if re.match(pattern, head, re.DOTALL):
            raise ForeignFileError(what, command)


class _WouldWait(Exception):  # noqa: N818 - no error
    """The source has to be read again, which may wait."""


class Unpacked:
    """The content of what `read` gives. `read(size)` returns some bytes, none at the end."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read_source = read
        self._chunk = b""
        self._taken = 0
        """Bytes of `_chunk`, which was read from the source, that were taken."""
        self._step = _FIRST_STEP
        self._fed = b""
        """Taken, and not decompressed."""
        self._may_wait = True
        self._failure: Exception | None = None
        self._is_plain = False
        self._at_end = False
        self._inflate: Any = None
        self._zstd: Any = None
        self._is_packed = False
        self.consumed = 0
        """Bytes of the source that were taken."""
        self._holds_more = False
        """True if the decompressor may return more without input."""
        self._given = 0
        self.whole = (0, 0)
        """Up to the end of the last gzip member or zstd frame: bytes given, bytes of the source."""

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most `size` of what is plain or gzip; none at the end.

        Raises OSError of the source; DamagedFileError; ImportError where zstd is not installed.
        """
        if self._failure is not None:
            raise self._failure
        pieces = [self._piece(size)]
        left = size - len(pieces[0])
        self._may_wait = False
        try:
            while left > 0 and pieces[-1]:
                pieces.append(self._piece(left))
                left -= len(pieces[-1])
        except _WouldWait:
            pass
        except (OSError, ImportError) as error:  # first what is good
            self._failure = error
        finally:
            self._may_wait = True
        return b"".join(pieces)

    def _piece(self, size: int) -> bytes:
        while True:
            if self._inflate is not None:
                piece = self._inflate_more(size)
            elif self._zstd is not None:
                piece = self._unzstd()
            elif self._is_plain or not self._begin():
                return self._plain(size)
            else:
                continue
            self._given += len(piece)
            if self._inflate is None and self._zstd is None:
                self.whole = self._given, self.consumed - len(self._fed)
                self._step = _FIRST_STEP
            if piece:
                return piece

    def _plain(self, size: int) -> bytes:
        if not self._fed:
            self._fill()
        piece, self._fed = self._fed[:size], self._fed[size:]
        return piece

    def _fill(self) -> bool:
        """Take more of the source; False at its end. Raises _WouldWait."""
        if self._taken == len(self._chunk) and not self._at_end:
            if not self._may_wait:
                raise _WouldWait
            self._chunk, self._taken = self._read_source(_READ_BYTES), 0
            self._at_end = not self._chunk
        more = self._chunk[self._taken : self._taken + self._step]
        self._step = min(2 * self._step, _READ_BYTES)
        self._taken += len(more)
        self.consumed += len(more)
        self._fed += more
        return not self._at_end

    def _begin(self) -> bool:
        """Find out what begins here; False: what is left is plain."""
        while len(self._fed) < _MAGIC_BYTES and self._fill():
            pass
        if self._is_packed:  # gzip may be padded with zeros
            while not self._fed.strip(b"\0") and self._fill():
                pass
            self._fed = self._fed.lstrip(b"\0")
            while len(self._fed) < _MAGIC_BYTES and self._fill():
                pass
        fed = self._fed
        if fed.startswith(_GZIP):
            self._inflate = zlib.decompressobj(_GZIP_WINDOW)
        elif fed.startswith(_ZSTD):
            self._zstd = _zstd_decompressor()
        elif is_packed(fed):
            self._skip()
        else:
            if self._is_packed:
                refuse_foreign(fed)
            self._is_plain = True
            return False
        self._is_packed = True
        return True

    def _skip(self) -> None:
        self._may_wait = True  # it can't be left in the midst
        while len(self._fed) < _SKIPPABLE_HEADER_BYTES and self._fill():
            pass
        left = int.from_bytes(self._fed[_MAGIC_BYTES:_SKIPPABLE_HEADER_BYTES], "little")
        left += _SKIPPABLE_HEADER_BYTES
        while left > len(self._fed):
            left -= len(self._fed)
            self._fed = b""
            if not self._fill():
                raise DamagedFileError("the zstd data is cut off")
        self._fed = self._fed[left:]

    def _inflate_more(self, size: int) -> bytes:
        if not self._fed and not self._holds_more and not self._fill():
            raise DamagedFileError("the gzip data is cut off")
        try:
            piece: bytes = self._inflate.decompress(self._fed, size)
        except zlib.error as error:
            raise DamagedFileError(f"the gzip data is damaged: {error}") from error
        self._holds_more = len(piece) == size
        self._fed = self._inflate.unconsumed_tail
        if self._inflate.eof:
            self._fed = self._inflate.unused_data  # which is in `unconsumed_tail` too, or is not
            self._holds_more = False
            self._inflate = None
        return piece

    def _unzstd(self) -> bytes:
        if not self._fed and not self._fill():
            raise DamagedFileError("the zstd data is cut off")
        step, self._fed = self._fed[:_ZSTD_STEP], self._fed[_ZSTD_STEP:]
        decompress, failures = self._zstd.decompress, _zstd_failures()
        try:
            piece: bytes = decompress(step)
        except failures as error:
            raise DamagedFileError(f"the zstd data is damaged: {error}") from error
        if self._zstd.eof:
            self._fed = self._zstd.unused_data + self._fed
            self._zstd = None
        return piece


def _zstd_decompressor() -> Any:
    if not zstd_available():
        raise ImportError("this is compressed with zstd; pip install zstandard")
    if sys.version_info >= (3, 14):
        from compression import zstd  # noqa: PLC0415 - only for those who have such a file

        return zstd.ZstdDecompressor()
    import zstandard  # noqa: PLC0415 - the same

    return zstandard.ZstdDecompressor().decompressobj()


def _zstd_failures() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd  # noqa: PLC0415 - the same

        return zstd.ZstdError
    import zstandard  # noqa: PLC0415 - the same

    return zstandard.ZstdError
