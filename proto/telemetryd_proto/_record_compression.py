"""gzip and zstd around a Kinesis record's lines, with a 24-byte id where decoders do not look.

gzip: an extra field (RFC 1952, 2.3.1.1) with subfield id `TD`. zstd: a skippable frame (RFC 8878,
3.1.2) *behind* the data, since some one-call decoders read the first frame only.
"""

from __future__ import annotations

import importlib.util
import struct
import sys
import zlib
from typing import Any, Final, NamedTuple

from telemetryd_proto import _zstd_frame

ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
GZIP_MAGIC: Final = b"\x1f\x8b\x08"
ID_BYTES: Final = 24

_LEVEL: Final = 1
"""The level of both. Telemetry shrinks by 6.3 (gzip) and 7.6 (zstd). The next levels cost 1.5 times
the CPU and more, for a few per cent."""

_SKIPPABLE: Final = (0x184D2A54).to_bytes(4, "little")
_MARK: Final = b"tlmd"
_TRAILER: Final = _SKIPPABLE + (len(_MARK) + ID_BYTES).to_bytes(4, "little") + _MARK
_TRAILER_BYTES: Final = len(_TRAILER) + ID_BYTES

_FEXTRA: Final = 4
_GZIP_HEADER: Final = GZIP_MAGIC + b"%c\0\0\0\0\0\xff"  # flags, no time, unknown system
_SUBFIELD: Final = b"TD" + ID_BYTES.to_bytes(2, "little")
_EXTRA: Final = (len(_SUBFIELD) + ID_BYTES).to_bytes(2, "little") + _SUBFIELD
_EXTRA_AT: Final = 10
_GZIP_WINDOW: Final = 31  # zlib: 15 bits and a gzip wrapper

_FIRST_STEP: Final = 1024
_LAST_STEP: Final = 64 * 1024
"""Bytes of gzip decompressed at a time: what lies behind a member is copied, so not many."""

_STEP: Final = 512
"""Bytes of a zstd frame that may hold too much, decompressed at a time: at most 16 MiB come out."""


class Member(NamedTuple):
    """A gzip member or zstd frame."""

    binary_id: bytes | None
    """The id, if there is one of ours."""
    lines: bytes
    end: int
    """The offset behind it."""


class DamageError(ValueError):
    """The compressed data is not whole, or too much. `code` says which."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


# -- gzip -------------------------------------------------------------------------------------


def gzip_encode(lines: bytes, binary_id: bytes | None) -> bytes:
    """Return one gzip member."""
    deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, -15)
    head = _GZIP_HEADER % 0 if binary_id is None else _GZIP_HEADER % _FEXTRA + _EXTRA + binary_id
    tail = struct.pack("<II", zlib.crc32(lines), len(lines) & 0xFFFFFFFF)
    return b"".join((head, deflate.compress(lines), deflate.flush(), tail))


def gzip_decode(data: bytes, at: int, max_bytes: int) -> Member:
    """Return the gzip member at `data[at:]`. Raises DamageError."""
    inflate = zlib.decompressobj(_GZIP_WINDOW)
    pieces: list[bytes] = []
    size, begin, step = 0, at, _FIRST_STEP
    view = memoryview(data)
    try:
        while not inflate.eof and begin < len(data):
            piece = inflate.decompress(view[begin : begin + step], max_bytes - size + 1)
            size += len(piece)
            _check_size(size, max_bytes)
            pieces.append(piece)
            begin = min(begin + step, len(data)) - len(inflate.unconsumed_tail)
            step = min(step * 2, _LAST_STEP)
    except zlib.error as error:
        raise DamageError("bad_gzip", str(error)) from error
    if not inflate.eof:
        raise DamageError("bad_gzip", "the gzip member is cut off")
    ours = data[at + 3] & _FEXTRA and data.startswith(_EXTRA, at + _EXTRA_AT)
    id_at = at + _EXTRA_AT + len(_EXTRA)
    binary_id = data[id_at : id_at + ID_BYTES] if ours else None
    return Member(binary_id, b"".join(pieces), begin - len(inflate.unused_data))


# -- zstd -------------------------------------------------------------------------------------


def zstd_available() -> bool:
    """True if there is a module to import."""
    module = "_zstd" if sys.version_info >= (3, 14) else "zstandard"
    return importlib.util.find_spec(module) is not None


class ZstdEncoder:
    """Compresses with one context, kept. Not for several threads at once."""

    def __init__(self) -> None:
        self._compress = _zstd_compressor()

    def encode(self, lines: bytes, binary_id: bytes | None) -> bytes:
        """Return one zstd frame, and a skippable one with the id."""
        frame: bytes = self._compress(lines)
        return frame if binary_id is None else frame + _TRAILER + binary_id


def zstd_decode(data: bytes, at: int, max_bytes: int) -> Member:
    """Return the zstd frame at `data[at:]`, with skippable frames after it. Raises DamageError."""
    try:
        end, most = _zstd_frame.extent(data, at)
    except ValueError as error:
        raise DamageError("bad_zstd", str(error)) from error
    lines = _zstd_content(data[at:end], most, max_bytes)
    binary_id = None
    if data.startswith(_TRAILER, end) and end + _TRAILER_BYTES <= len(data):
        binary_id = data[end + len(_TRAILER) : end + _TRAILER_BYTES]
    while (behind := _zstd_frame.skip(data, end)) > end:
        end = behind
    if _zstd_frame.is_skippable(data, end):
        raise DamageError("bad_zstd", "the frame behind the data is cut off")
    return Member(binary_id, lines, end)


def _zstd_compressor() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd  # noqa: PLC0415 - only for those who compress

        return lambda lines: zstd.compress(lines, level=_LEVEL)
    import zstandard  # noqa: PLC0415 - an extra

    return zstandard.ZstdCompressor(level=_LEVEL).compress


def _zstd_content(frame: bytes, most: int, max_bytes: int) -> bytes:
    """Return the content of a whole frame, at most `most` bytes."""
    if sys.version_info >= (3, 14):
        from compression import zstd  # noqa: PLC0415 - only for those who decompress

        failures: Any = zstd.ZstdError
        decompressor = zstd.ZstdDecompressor()
        try:
            lines = decompressor.decompress(frame, max_bytes + 1)
        except failures as error:
            raise DamageError("bad_zstd", str(error)) from error
        _check_size(len(lines), max_bytes)
    else:
        zstandard = _zstandard()
        decompressor = zstandard.ZstdDecompressor().decompressobj()
        try:
            _check_size(zstandard.frame_content_size(frame), max_bytes)
            # it has no limit of its own: what may become too much is fed in small steps
            step = len(frame) if most <= max_bytes else _STEP
            lines = _in_steps(decompressor, frame, step, max_bytes)
        except zstandard.ZstdError as error:
            raise DamageError("bad_zstd", str(error)) from error
    if not decompressor.eof:  # pragma: no cover - the library sees another end
        raise DamageError("bad_zstd", "the zstd frame is cut off")
    return lines


def _zstandard() -> Any:
    try:
        import zstandard  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ImportError("the record is compressed with zstd; pip install zstandard") from error
    return zstandard


def _in_steps(decompressor: Any, data: bytes, step: int, max_bytes: int) -> bytes:
    pieces: list[bytes] = []
    size = at = 0
    while at < len(data) and not decompressor.eof:
        pieces.append(decompressor.decompress(data[at : at + step]))
        at += step
        size += len(pieces[-1])
        _check_size(size, max_bytes)
    return b"".join(pieces)


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise DamageError("too_large", f"more than {max_bytes} bytes once decompressed")
