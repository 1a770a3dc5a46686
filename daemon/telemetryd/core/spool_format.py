"""The bytes of a spool segment: a header, then records, each with its own checksums.

    segment   magic, bytes already settled with their checksum, random id of the segment
    record    magic, lengths and counts, checksum of the payload, checksum of these; the payload

The counts can be read without the payload. Damage affects only the records that it hits: after a
damaged header, reading continues at the next intact one. All numbers are little-endian.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final, NamedTuple

SEGMENT_MAGIC: Final = b"tldspool"
RECORD_MAGIC: Final = b"\xf5\x1etr"
"""No UTF-8 text holds these bytes, and the checksum of the header behind them decides."""
_SEGMENT: Final = struct.Struct("<8s8s16s")
_RECORD: Final = struct.Struct("<4sIIQQI")
_CHECKSUM: Final = struct.Struct("<I")
SEGMENT_BYTES: Final = _SEGMENT.size
SETTLED_AT: Final = 8
"""The offset of the settled bytes in a segment's header."""
HEADER_BYTES: Final = _RECORD.size + _CHECKSUM.size
_OFFSET_BYTES: Final = 6
"""Bytes of the settled offset. The next two are its checksum, so that one write changes both."""


class Record(NamedTuple):
    """A payload and the input lines it stands for."""

    payload: bytes | None
    """None where it could not be read intact."""
    lines: int
    size: int
    """Bytes of the input lines."""
    at_ms: int
    """The time when the first line was read, milliseconds since the Unix epoch."""


class RecordHeader(NamedTuple):
    """The facts of a record without its payload."""

    length: int
    """Bytes of the payload."""
    lines: int
    size: int
    at_ms: int
    checksum: int


def encode_segment(identity: bytes, settled: int = SEGMENT_BYTES) -> bytes:
    """Return a segment's header; `settled` is the offset up to which all records are settled."""
    return _SEGMENT.pack(SEGMENT_MAGIC, encode_settled(settled), identity)


def decode_segment(data: bytes) -> tuple[int, bytes] | None:
    """Return the settled offset and the identity; None if this is no segment's header.

    Where the offset is damaged nothing counts as settled: rather deliver twice than not at all.
    """
    if len(data) < SEGMENT_BYTES:
        return None
    magic, field, identity = _SEGMENT.unpack_from(data)
    if magic != SEGMENT_MAGIC:
        return None
    settled = int.from_bytes(field[:_OFFSET_BYTES], "little")
    if encode_settled(settled) != field:
        settled = SEGMENT_BYTES
    return max(settled, SEGMENT_BYTES), identity


def encode_settled(settled: int) -> bytes:
    """Return the settled offset as it stands at `SETTLED_AT`."""
    offset = settled.to_bytes(_OFFSET_BYTES, "little")
    return offset + zlib.crc32(offset).to_bytes(4, "little")[:2]


def encode_record(record: Record) -> bytes:
    """Return a record as it lies in a segment, header and payload."""
    payload = record.payload or b""
    head = _RECORD.pack(
        RECORD_MAGIC, len(payload), record.lines, record.size, record.at_ms, zlib.crc32(payload)
    )
    return head + _CHECKSUM.pack(zlib.crc32(head)) + payload


def decode_header(data: bytes, at: int = 0) -> RecordHeader | None:
    """Return the record's header at `data[at:]`; None if there is no intact one."""
    if len(data) - at < HEADER_BYTES or data[at : at + 4] != RECORD_MAGIC:
        return None
    (checksum,) = _CHECKSUM.unpack_from(data, at + _RECORD.size)
    if zlib.crc32(data[at : at + _RECORD.size]) != checksum:
        return None
    return RecordHeader(*_RECORD.unpack_from(data, at)[1:])


def next_header(data: bytes, at: int) -> int:
    """Return the offset of the next intact header at or after `at`; -1 if `data` has none."""
    while (at := data.find(RECORD_MAGIC, at)) >= 0:
        if decode_header(data, at) is not None:
            return at
        at += 1
    return -1


def is_intact(header: RecordHeader, payload: bytes) -> bool:
    """True if `payload` is what the header was written for."""
    return len(payload) == header.length and zlib.crc32(payload) == header.checksum
