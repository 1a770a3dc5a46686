"""Reads what may be compressed as one stream: plain, gzip, zstd, one behind the other.

What a file is, its first bytes say, not its name. Memory is bounded whatever is in it: nothing is
held but what one small step of a decompressor gives.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from typing import Any, Final

from telemetryd_proto.kinesis import zstd_available

_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_SKIPPABLE: Final = b"\x2a\x4d\x18"
"""What follows the first byte, 0x50 to 0x5f, of a skippable frame (RFC 8878, 3.1.2)."""
_MAGIC_BYTES: Final = 4
_SKIPPABLE_HEADER_BYTES: Final = 8
_READ_BYTES: Final = 256 * 1024
_ZSTD_STEP: Final = 1024
"""Bytes of zstd decompressed at a time: at most 32 MiB come of them."""
_GZIP_WINDOW: Final = 31  # zlib: 15 bits and a gzip wrapper


def is_packed(head: bytes) -> bool:
    """Whether what begins with `head`, of four bytes or more, is compressed."""
    is_skippable = head[1:_MAGIC_BYTES] == _SKIPPABLE and head[0] >> 4 == 5  # noqa: PLR2004 - 0x50 to 0x5f
    return head.startswith((_GZIP, _ZSTD)) or is_skippable


class DamagedFileError(OSError):
    """What is compressed is cut off or damaged. What came before it has been read."""

    def __init__(self, what: str) -> None:
        super().__init__(0, what)


class Unpacked:
    """The content of what `read` gives. `read(size)` returns some bytes, none at the end."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read_source = read
        self._fed = b""
        """Read from the source and not decompressed."""
        self._is_plain = False
        self._at_end = False
        self._inflate: Any = None
        self._zstd: Any = None
        self._is_packed = False
        self.consumed = 0
        """Bytes read from the source."""
        self._holds_more = False
        """Whether the decompressor may give more without being fed."""
        self._given = 0
        self.whole = (0, 0)
        """Up to the end of the last gzip member or zstd frame: bytes given, bytes of the source."""

    def read(self, size: int) -> bytes:
        """The next bytes, at most `size` of what is plain or gzip; none at the end.

        Raises OSError of the source; DamagedFileError; ImportError where zstd is not installed.
        """
        while True:
            if self._inflate is not None:
                piece = self._inflated(size)
            elif self._zstd is not None:
                piece = self._unzstd()
            elif self._is_plain or not self._begin():
                return self._plain(size)
            else:
                continue
            self._given += len(piece)
            if self._inflate is None and self._zstd is None:
                self.whole = self._given, self.consumed - len(self._fed)
            if piece:
                return piece

    def _plain(self, size: int) -> bytes:
        if not self._fed:
            self._fill()
        piece, self._fed = self._fed[:size], self._fed[size:]
        return piece

    def _fill(self) -> bool:
        """Read more of the source; False at its end."""
        if not self._at_end:
            more = self._read_source(_READ_BYTES)
            self._at_end = not more
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
            self._is_plain = True
            return False
        self._is_packed = True
        return True

    def _skip(self) -> None:
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

    def _inflated(self, size: int) -> bytes:
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
