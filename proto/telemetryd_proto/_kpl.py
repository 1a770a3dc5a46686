"""KPL aggregation: several user records in one Kinesis record.

    F3 89 9A C2, protobuf AggregatedRecord, MD5 of the protobuf

After "KPL Aggregated Record Format" (awslabs/amazon-kinesis-producer, aggregation-format.md). All
user records have the partition key of the Kinesis record, so that no de-aggregator that checks hash
ranges drops one. The id of ours is a tag of the first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from io import BytesIO
from typing import Final

import msgspec

MAGIC: Final = b"\xf3\x89\x9a\xc2"
ID_TAG: Final = b"telemetryd-id"

_DIGEST_BYTES: Final = 16
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types of protobuf
_MAX_SHIFT: Final = 63

# field number << 3 | wire type
_KEY_TABLE: Final = b"\x0a"
_HASH_KEY_TABLE: Final = b"\x12"
_RECORDS: Final = b"\x1a"
_KEY_INDEX_0: Final = b"\x08\x00"
_HASH_KEY_INDEX_0: Final = b"\x10\x00"
_DATA: Final = b"\x1a"
_TAGS: Final = b"\x22"
_TAG_KEY: Final = b"\x0a"
_TAG_VALUE: Final = b"\x12"


class Aggregated(msgspec.Struct, frozen=True, gc=False):
    """The user records of an aggregate, and our id if it carries one."""

    records: list[bytes]
    tag: str | None


def aggregate(lines: bytes, key: bytes, hash_key: bytes, record_id: bytes | None) -> bytes:
    """Return `lines` as user records, without their newlines."""
    fixed = _KEY_INDEX_0 + (_HASH_KEY_INDEX_0 if hash_key else b"")
    parts = [_field(_KEY_TABLE, key)]
    if hash_key:
        parts.append(_field(_HASH_KEY_TABLE, hash_key))
    tag = b""
    if record_id is not None:
        tag = _field(_TAGS, _field(_TAG_KEY, ID_TAG) + _field(_TAG_VALUE, record_id))
    prefixes: dict[int, bytes] = {}
    for line in BytesIO(lines).readlines():
        data = line[:-1]
        size = len(data)
        if tag:  # of the first only
            parts.append(_field(_RECORDS, fixed + _field(_DATA, data) + tag))
            tag = b""
            continue
        prefix = prefixes.get(size)
        if prefix is None:
            inner = fixed + _DATA + _varint(size)
            prefix = prefixes[size] = _RECORDS + _varint(len(inner) + size) + inner
        parts += (prefix, data)
    message = b"".join(parts)
    return b"".join((MAGIC, message, _md5(message)))


def deaggregate(data: bytes) -> Aggregated | None:
    """Return the user records of `data`; None when it is no aggregate, which the MD5 decides.

    Raises ValueError when the MD5 is right and the protobuf is not.
    """
    if not data.startswith(MAGIC) or len(data) < len(MAGIC) + _DIGEST_BYTES:
        return None
    if _md5(data[len(MAGIC) : -_DIGEST_BYTES]) != data[-_DIGEST_BYTES:]:
        return None
    return read_aggregate(data)


def read_aggregate(data: bytes) -> Aggregated:
    """Return the user records of an aggregate whose MD5 is right. Raises ValueError, as above."""
    return _aggregate(data[len(MAGIC) : -_DIGEST_BYTES])


def end_of_aggregate(data: bytes, at: int) -> int:
    """Return the offset after the aggregate at `data[at:]`; `at` if there is none.

    The format tells no length: behind each field its MD5 may stand. Linear in the bytes.
    """
    if not data.startswith(MAGIC, at):
        return at
    view = memoryview(data)
    begin = at + len(MAGIC)
    digest = hashlib.md5(usedforsecurity=False)
    try:
        while (end := _end_of_field(data, begin)) + _DIGEST_BYTES <= len(data):
            digest.update(view[begin:end])
            if digest.digest() == view[end : end + _DIGEST_BYTES]:
                return end + _DIGEST_BYTES
            begin = end
    except ValueError:
        return at
    return at


def _aggregate(message: bytes) -> Aggregated:
    records: list[bytes] = []
    tag: str | None = None
    for number, value in _fields(message):
        if number == 3 and isinstance(value, bytes):  # noqa: PLR2004 - `records`
            content, found = _user_record(value)
            records.append(content)
            tag = tag or found
    return Aggregated(records, tag)


def _user_record(message: bytes) -> tuple[bytes, str | None]:
    content: bytes | None = None
    tag = None
    for number, value in _fields(message):
        if number == 3 and isinstance(value, bytes):  # noqa: PLR2004 - `data`
            content = value
        elif number == 4 and isinstance(value, bytes):  # noqa: PLR2004 - `tags`
            fields = dict(_fields(value))
            text = fields.get(2)
            if fields.get(1) == ID_TAG and isinstance(text, bytes):
                tag = text.decode("ascii")
    if content is None:
        raise ValueError("a user record without data")
    return content, tag


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Yield each field's number and value, in order; fixed-size values are skipped."""
    at, end = 0, len(message)
    while at < end:
        head, at = _read_varint(message, at)
        number, kind = head >> 3, head & 7
        if kind == _VARINT:
            value, at = _read_varint(message, at)
            yield number, value
        elif kind == _BYTES:
            size, at = _read_varint(message, at)
            if at + size > end:
                raise ValueError("a field reaches beyond the end")
            yield number, message[at : at + size]
            at += size
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind}")
    if at != end:
        raise ValueError("a field reaches beyond the end")


def _end_of_field(message: bytes, at: int) -> int:
    head, at = _read_varint(message, at)
    kind = head & 7
    if kind == _VARINT:
        return _read_varint(message, at)[1]
    if kind == _BYTES:
        size, at = _read_varint(message, at)
        return at + size
    if kind in (_FIXED64, _FIXED32):
        return at + (8 if kind == _FIXED64 else 4)
    raise ValueError(f"wire type {kind}")


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift <= _MAX_SHIFT:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the last byte's high bit is clear
            return value, at
        shift += 7
    raise ValueError("a number without end")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:  # noqa: PLR2004 - seven bits a byte
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(tag: bytes, value: bytes) -> bytes:
    return b"".join((tag, _varint(len(value)), value))


def _md5(message: bytes) -> bytes:
    return hashlib.md5(message, usedforsecurity=False).digest()
