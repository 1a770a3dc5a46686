"""The id of a packed record, and the line that carries it where nothing else can."""

from __future__ import annotations

import re
from typing import Final

import msgspec

HEADER: Final = re.compile(
    rb'\{"time":"[0-9T:.Z-]{0,40}","type":"telemetryd\.record",'
    rb'"record":\{"id":"([0-9a-f]{32})-([0-9]{1,20})"\}\}\n'
)
HEADER_MARK: Final = b'"type":"telemetryd.record","record":{"id":"'
"""Bytes that are in every header, and in no text within a JSON string."""
HEADER_MARK_AT: Final = 64
"""A header has fewer bytes than this before the mark."""
_ID: Final = re.compile("[0-9a-f]{32}-[0-9]{1,20}")


class RecordId(msgspec.Struct, frozen=True, gc=False):
    """The id by which consumers recognise a record that was delivered twice."""

    process: bytes
    """16 random bytes of the process that packed it."""
    sequence: int
    """Position among its records: increasing, gaps are possible."""

    def __str__(self) -> str:
        return f"{self.process.hex()}-{self.sequence}"


def header(record_id: RecordId, time: str) -> bytes:
    """Return the line that carries `record_id`, shaped like a telemetry event of this `time`."""
    return b'{"time":"%b","type":"telemetryd.record","record":{"id":"%b"}}\n' % (
        time.encode(),
        str(record_id).encode(),
    )


def from_header(process: bytes, sequence: bytes) -> RecordId:
    """Return the id in a match of `HEADER`, of its two groups."""
    return RecordId(bytes.fromhex(process.decode()), int(sequence))


def to_bytes(record_id: RecordId) -> bytes:
    """Return the id as 24 bytes."""
    return record_id.process + record_id.sequence.to_bytes(8)


def from_bytes(binary: bytes) -> RecordId:
    """Return the id in 24 bytes."""
    return RecordId(binary[:16], int.from_bytes(binary[16:]))


def from_text(text: str | None) -> RecordId | None:
    """Return the id in its text form; None if it is no such text."""
    if text is None or not _ID.fullmatch(text):
        return None
    process, _, sequence = text.partition("-")
    return RecordId(bytes.fromhex(process), int(sequence))
