"""Finds the end and the size limit of a zstd frame without decompression (RFC 8878, 3.1)."""

from __future__ import annotations

from typing import Final, NamedTuple

_MAGIC_BYTES: Final = 4
_BLOCK_HEADER_BYTES: Final = 3
_CHECKSUM_BYTES: Final = 4
_MAX_BLOCK_BYTES: Final = 128 * 1024
_RLE, _COMPRESSED = 1, 2  # block types, beside raw (0) and reserved (3)
_SKIPPABLE_HEADER_BYTES: Final = 8
_FIRST_SKIPPABLE: Final = 0x184D2A50
_LAST_SKIPPABLE: Final = 0x184D2A5F


class Extent(NamedTuple):
    """The extent of a frame."""

    end: int
    """The offset behind it."""
    most: int
    """Bytes it can hold at most."""


def extent(data: bytes, at: int) -> Extent:
    """Return the extent of the frame at `data[at:]`. Raises ValueError if it is damaged.

    Costs a step for each block, of which each has three bytes at least.
    """
    try:
        descriptor = data[at + _MAGIC_BYTES]
        single_segment = descriptor >> 5 & 1
        position = at + _MAGIC_BYTES + 1 + (not single_segment)
        position += (0, 1, 2, 4)[descriptor & 3]  # dictionary id
        position += (single_segment, 2, 4, 8)[descriptor >> 6]  # content size
        most = last = 0
        while not last:
            header = int.from_bytes(data[position : position + _BLOCK_HEADER_BYTES], "little")
            if position + _BLOCK_HEADER_BYTES > len(data):
                raise ValueError("the zstd frame is cut off")
            last, kind, size = header & 1, header >> 1 & 3, header >> 3
            if kind > _COMPRESSED:
                raise ValueError("a zstd block of no known type")
            position += _BLOCK_HEADER_BYTES + (1 if kind == _RLE else size)
            most += _MAX_BLOCK_BYTES if kind == _COMPRESSED else size
    except IndexError as error:
        raise ValueError("the zstd frame is cut off") from error
    if descriptor >> 2 & 1:
        position += _CHECKSUM_BYTES
    if position > len(data):
        raise ValueError("the zstd frame is cut off")
    return Extent(position, most)


def skip(data: bytes, at: int) -> int:
    """Return the offset after the skippable frame at `data[at:]`, or `at` without a whole one."""
    if not is_skippable(data, at):
        return at
    size = int.from_bytes(data[at + _MAGIC_BYTES : at + _SKIPPABLE_HEADER_BYTES], "little")
    end = at + _SKIPPABLE_HEADER_BYTES + size
    return end if end <= len(data) else at


def is_skippable(data: bytes, at: int) -> bool:
    """True if a skippable frame begins at `data[at:]`."""
    magic = data[at : at + _MAGIC_BYTES]
    return (
        len(magic) == _MAGIC_BYTES
        and _FIRST_SKIPPABLE <= int.from_bytes(magic, "little") <= _LAST_SKIPPABLE
    )
