"""The wire format of protobuf: variable-length integers, tags, lengths, fixed numbers.

Source: Protocol Buffers documentation, "Encoding". A field that has its default value is not
written; that is the caller's part.
"""

from __future__ import annotations

import struct
from typing import Final

VARINT: Final = 0
FIXED64: Final = 1
DELIMITED: Final = 2
FIXED32: Final = 5

_MASK64: Final = (1 << 64) - 1
SMALL_VARINTS: Final = tuple(
    bytes((number & 127 | 128, number >> 7) if number >= 128 else (number,))  # noqa: PLR2004
    for number in range(1024)
)
"""Most lengths. To look one up costs a fifth of making it."""

pack_double: Final = struct.Struct("<d").pack
"""Returns the 8 bytes of a double."""
pack_fixed32: Final = struct.Struct("<I").pack
"""Returns the 4 bytes of an unsigned integer."""
pack_fixed64: Final = struct.Struct("<Q").pack
"""Returns the 8 bytes of an unsigned integer, such as nanoseconds since the epoch."""
pack_sfixed64: Final = struct.Struct("<q").pack
"""Returns the 8 bytes of a signed integer."""


def varint(number: int) -> bytes:
    """Return `number`, from -2**63 to 2**64 - 1, in 7-bit groups. Negative ones take 10 bytes."""
    if 0 <= number < 1024:  # noqa: PLR2004 - the length of `SMALL_VARINTS`
        return SMALL_VARINTS[number]
    number &= _MASK64
    groups = bytearray()
    while number > 127:  # noqa: PLR2004 - as above
        groups.append(number & 127 | 128)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def tag(field: int, wire_type: int) -> bytes:
    """Return what precedes a value: the number of its field, and how it is written."""
    return varint(field << 3 | wire_type)


def delimited(field_tag: bytes, data: bytes) -> bytes:
    """Return a field of bytes, text or a message. `field_tag` is of wire type DELIMITED."""
    return field_tag + varint(len(data)) + data


def text(field_tag: bytes, value: str) -> bytes:
    """Return a field of text; `?` for what is no Unicode. Nothing where it is empty."""
    return delimited(field_tag, value.encode("utf-8", "replace")) if value else b""


def number(field_tag: bytes, value: int) -> bytes:
    """Return a field of an integer in VARINT form. Nothing where it is 0."""
    return field_tag + varint(value) if value else b""


def fixed64(field_tag: bytes, value: int) -> bytes:
    """Return a field of an unsigned integer in FIXED64 form. Nothing where it is 0."""
    return field_tag + pack_fixed64(value) if value else b""
