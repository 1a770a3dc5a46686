r"""Kinesis records: how lines are packed into them, and how consumers get them back.

    decoded = decode(data)                # `data` of a record, any packing and compression
    if decoded.record_id not in seen:
        for line in decoded.lines: ...

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
import re
from typing import Final, Literal, TypeAlias

import msgspec

from telemetryd_proto import _kpl, _record_compression
from telemetryd_proto.errors import ProtocolError

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

_ID: Final = re.compile("[0-9a-f]{32}-[0-9]{1,20}")
_HEADER: Final = re.compile(
    rb'\{"time":"[0-9T:.Z-]{0,40}","type":"telemetryd\.record",'
    rb'"record":\{"id":"([0-9a-f]{32})-([0-9]{1,20})"\}\}\n'
)


class UndecodableRecord(ProtocolError):  # noqa: N818 - reads as what it is
    """The record is not what its first bytes promise, or larger than asked for."""

    CODES = frozenset({"bad_gzip", "bad_zstd", "bad_kpl", "too_large"})


class RecordId(msgspec.Struct, frozen=True, gc=False):
    """What tells a record that was delivered twice from two records."""

    process: bytes
    """16 random bytes of the process that packed it."""
    sequence: int
    """Position among its records: increasing, gaps are possible."""

    def __str__(self) -> str:
        return f"{self.process.hex()}-{self.sequence}"


class Decoded(msgspec.Struct, frozen=True, gc=False):
    """What a Kinesis record holds."""

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
        r"""The data of one record that holds `lines`, each ended by `\n`.

        `key` and `hash_key` are its partition key and explicit hash key, which KPL records repeat;
        `time` is the ISO-8601 time that the id line of an uncompressed record shows.

        Raises ImportError for `zstd` where neither the interpreter nor `zstandard` has it.
        """
        if self._packing == "kpl":
            text = None if record_id is None else str(record_id).encode()
            return _kpl.aggregate(lines, key.encode(), hash_key.encode(), text)
        binary = None if record_id is None else _to_bytes(record_id)
        if self._compression == "zstd":
            if self._zstd is None:  # not in the constructor: that runs while a function starts
                self._zstd = _record_compression.ZstdEncoder()
            return self._zstd.encode(lines, binary)
        if self._compression == "gzip":
            return _record_compression.gzip_encode(lines, binary)
        if self._packing == "single" or record_id is None:
            return lines
        return _header(record_id, time) + lines


def decode(data: bytes, *, max_bytes: int = DEFAULT_MAX_DECODED) -> Decoded:
    """What the record with this `data` holds, whoever packed it.

    A record that is neither an aggregate nor compressed is taken as lines. `max_bytes` bounds what
    decompression may produce.

    Raises:
        UndecodableRecord: damaged, or too large.
        ImportError: it is compressed with zstd, and `zstandard` is not installed.

    """
    if (aggregated := _aggregated(data)) is not None:
        record_id, found = _from_text(aggregated.tag), aggregated.records
    else:
        record_id, lines = unwrap(data, max_bytes=max_bytes)
        found = lines.split(b"\n")
        if not found[-1]:
            found.pop()
    return Decoded(None if record_id is None else str(record_id), found)


def unwrap(data: bytes, *, max_bytes: int = DEFAULT_MAX_DECODED) -> tuple[RecordId | None, bytes]:
    """As `decode`, but the lines in one piece, each still ended by its newline."""
    binary: bytes | None
    if (aggregated := _aggregated(data)) is not None:
        lines = b"".join(itertools.chain.from_iterable((r, b"\n") for r in aggregated.records))
        return _from_text(aggregated.tag), lines
    try:
        if data.startswith(_record_compression.ZSTD_MAGIC):
            binary, lines = _record_compression.zstd_decode(data, max_bytes)
        elif data.startswith(_record_compression.GZIP_MAGIC):
            binary, lines = _record_compression.gzip_decode(data, max_bytes)
        elif header := _HEADER.match(data):
            process, sequence = header.groups()
            return RecordId(bytes.fromhex(process.decode()), int(sequence)), data[header.end() :]
        else:
            return None, data
    except _record_compression.DamageError as error:
        raise UndecodableRecord(str(error), code=error.code) from error
    return None if binary is None else _from_bytes(binary), lines


def zstd_available() -> bool:
    """Whether zstd can be used: in the interpreter since Python 3.14, else from `zstandard`."""
    return _record_compression.zstd_available()


def _aggregated(data: bytes) -> _kpl.Aggregated | None:
    try:
        return _kpl.deaggregate(data)
    except ValueError as error:
        raise UndecodableRecord(str(error), code="bad_kpl") from error


def _header(record_id: RecordId, time: str) -> bytes:
    return b'{"time":"%b","type":"telemetryd.record","record":{"id":"%b"}}\n' % (
        time.encode(),
        str(record_id).encode(),
    )


def _to_bytes(record_id: RecordId) -> bytes:
    return record_id.process + record_id.sequence.to_bytes(8)


def _from_bytes(binary: bytes) -> RecordId:
    return RecordId(binary[:16], int.from_bytes(binary[16:]))


def _from_text(text: str | None) -> RecordId | None:
    if text is None or not _ID.fullmatch(text):
        return None
    process, _, sequence = text.partition("-")
    return RecordId(bytes.fromhex(process), int(sequence))
