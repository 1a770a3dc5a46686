r"""Kinesis records: how lines are packed into them, and how consumers get them back.

    decoded = decode(data)                # `data` of a record, any packing and compression
    if decoded.record_id not in seen:
        for line in decoded.lines: ...

    for decoded in decode_object(body):   # an S3 object that Firehose wrote: many records
        ...

Each packed record carries an id that is the same in every attempt to deliver it, 32 hex digits of a
random process id and a sequence number: `"0f8fad5b…-42"`. Where it is, so that consumers who know
nothing of it are not disturbed:

* `none`: a line of its own, the first, shaped like a telemetry event of type `telemetryd.record`
* `gzip`: an extra field of the header (RFC 1952, 2.3.1.1), which every decoder skips
* `zstd`: a skippable frame behind the data (RFC 8878, 3.1.2), which every decoder skips
* `kpl`: a tag of the first user record (KPL aggregation format)

A `single` record that is not compressed is the line itself and has no id.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final, Literal, TypeAlias

import msgspec

from telemetryd_proto import _kpl, _record_compression, _record_id, _record_split
from telemetryd_proto._record_id import (
    HEADER,
    from_bytes,
    from_header,
    from_text,
    header,
    to_bytes,
)
from telemetryd_proto.errors import ProtocolError

RecordId = _record_id.RecordId

Packing: TypeAlias = Literal["ndjson", "kpl", "single"]
Compression: TypeAlias = Literal["none", "gzip", "zstd"]

MAX_ENTRIES: Final = 500
"""Records one PutRecords call may carry (Kinesis API Reference, PutRecords)."""
MAX_RECORD_BYTES: Final = 10 * 1024 * 1024
"""Data before base64 plus partition key, the most any stream can be set to accept (the same)."""
DEFAULT_RECORD_BYTES: Final = 1024 * 1024
"""The same of a stream that was not told otherwise (Kinesis API Reference, UpdateMaxRecordSize)."""
MAX_REQUEST_BYTES: Final = 10 * 1024 * 1024
"""One PutRecords call, partition keys included (Kinesis API Reference, PutRecords)."""
DEFAULT_REQUEST_BYTES: Final = 5 * 1024 * 1024
"""The same until 2025; older compatible servers still refuse more."""
MAX_KEY_CHARS: Final = 256
"""Characters of a partition key (Kinesis API Reference, PutRecordsRequestEntry)."""
HASH_KEYS: Final = 1 << 128
"""Explicit hash keys are below this (the same)."""

HEADER_BYTES: Final = 160
"""More than the id line of an uncompressed record takes."""
DEFAULT_MAX_DECODED: Final = 256 * 1024 * 1024


class UndecodableRecord(ProtocolError):  # noqa: N818 - reads as what it is
    """The record is not what its first bytes promise, or larger than asked for."""

    CODES = frozenset({"bad_gzip", "bad_zstd", "bad_kpl", "too_large", "several_records"})


class Decoded(msgspec.Struct, frozen=True, gc=False):
    """The content of a Kinesis record."""

    record_id: str | None
    """`<32 hex digits>-<sequence>`; None when the record carries none."""
    lines: list[bytes]
    """The lines in order, without their newlines."""


class Encoder:
    """Makes the data of Kinesis records out of whole lines. Not for several threads at once."""

    def __init__(self, packing: Packing, compression: Compression) -> None:
        if packing == "kpl" and compression != "none":
            raise ValueError("KPL aggregation has no compression of its own")
        self._packing = packing
        self._compression = compression
        self._zstd: _record_compression.ZstdEncoder | None = None

    def encode(
        self,
        lines: bytes,
        *,
        record_id: RecordId | None,
        key: str = "",
        hash_key: str = "",
        time: str = "",
    ) -> bytes:
        r"""Return the data of one record that holds `lines`, each ended by `\n`.

        `key` and `hash_key` are its partition key and explicit hash key, which KPL records repeat;
        `time` is the ISO-8601 time that the id line of an uncompressed record shows.

        Raises ImportError for `zstd` where neither the interpreter nor `zstandard` has it.
        """
        if self._packing == "kpl":
            text = None if record_id is None else str(record_id).encode()
            return _kpl.aggregate(lines, key.encode(), hash_key.encode(), text)
        binary = None if record_id is None else to_bytes(record_id)
        if self._compression == "zstd":
            if self._zstd is None:  # not in the constructor: that runs while a function starts
                self._zstd = _record_compression.ZstdEncoder()
            return self._zstd.encode(lines, binary)
        if self._compression == "gzip":
            return _record_compression.gzip_encode(lines, binary)
        if self._packing == "single" or record_id is None:
            return lines
        return header(record_id, time) + lines


def decode(data: bytes, *, max_bytes: int = DEFAULT_MAX_DECODED) -> Decoded:
    """Decode the `data` of a record, whichever program packed it.

    A record that is neither an aggregate nor compressed is taken as lines. `max_bytes` bounds what
    decompression may produce.

    Raises:
        UndecodableRecord: damaged, too large, or more than one record (`several_records`), which
            `decode_object` reads.
        ImportError: it is compressed with zstd, and `zstandard` is not installed.

    """
    if (aggregated := _find_aggregate(data)) is not None:
        record_id, found = from_text(aggregated.tag), aggregated.records
    else:
        record_id, lines = unwrap(data, max_bytes=max_bytes)
        found = _record_split.lines_of(lines)
    return Decoded(None if record_id is None else str(record_id), found)


def decode_object(data: bytes, *, max_bytes: int = DEFAULT_MAX_DECODED) -> Iterator[Decoded]:
    """Yield every record of an object that holds many, one behind the other, as Firehose writes it.

    They may differ in packing and compression, stand directly behind each other or with a newline
    between (Firehose, `AppendDelimiterToRecord`), and the object may be gzip as a whole
    (`CompressionFormat`). Neighbouring records that carry no id and are neither aggregated nor
    compressed come as one: nothing tells where one ends. Empty lines are left out.

    `max_bytes` bounds what decompression of each record, or of the whole object, may produce.

    Raises:
        UndecodableRecord: damaged, or too large. What came before it has been yielded.
        ImportError: as `decode`.

    """
    try:
        for record_id, lines in _record_split.split(data, max_bytes):
            yield Decoded(None if record_id is None else str(record_id), lines)
    except _record_compression.DamageError as error:
        raise UndecodableRecord(str(error), code=error.code) from error


def unwrap(data: bytes, *, max_bytes: int = DEFAULT_MAX_DECODED) -> tuple[RecordId | None, bytes]:
    """Decode like `decode`, but return the lines in one piece, each with its newline."""
    if (aggregated := _find_aggregate(data)) is not None:
        lines = b"".join(itertools.chain.from_iterable((r, b"\n") for r in aggregated.records))
        return from_text(aggregated.tag), lines
    try:
        if data.startswith(_record_compression.ZSTD_MAGIC):
            member, code = _record_compression.zstd_decode(data, 0, max_bytes), "bad_zstd"
        elif data.startswith(_record_compression.GZIP_MAGIC):
            member, code = _record_compression.gzip_decode(data, 0, max_bytes), "bad_gzip"
        else:
            return _plain(data, max_bytes)
    except _record_compression.DamageError as error:
        raise UndecodableRecord(str(error), code=error.code) from error
    if member.end < len(data):
        if _record_split.begins_at(data, member.end, max_bytes):
            raise _several()
        raise UndecodableRecord("something follows the compressed data", code=code)
    record_id = None if member.binary_id is None else from_bytes(member.binary_id)
    return record_id, member.lines


def _plain(data: bytes, max_bytes: int) -> tuple[RecordId | None, bytes]:
    """Return a record that is not compressed, and no aggregate."""
    found = HEADER.match(data)
    begin = found.end() if found else 0
    boundaries = _record_split.Boundaries(data, max_bytes)
    if boundaries.after(begin, begin, strict=False) < len(data):
        raise _several()
    return (from_header(*found.groups()) if found else None), data[begin:]


def _several() -> UndecodableRecord:
    return UndecodableRecord(
        "this is more than one record; decode_object() reads those", code="several_records"
    )


def zstd_available() -> bool:
    """True if zstd can be used: in the interpreter since Python 3.14, else from `zstandard`."""
    return _record_compression.zstd_available()


def _find_aggregate(data: bytes) -> _kpl.Aggregated | None:
    try:
        return _kpl.deaggregate(data)
    except ValueError as error:
        raise UndecodableRecord(str(error), code="bad_kpl") from error
