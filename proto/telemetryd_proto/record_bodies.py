"""Bodies of records to whole lines: an array of JSON values, or lines (Telemetry API, HTTP).

Records are not decoded. White space between and inside them is legal JSON, newlines included. These
newlines become spaces; a string can't contain one. A refused record affects only itself: its
neighbours become lines unchanged.
"""

from __future__ import annotations

import re
from typing import Final, Literal, TypeAlias

import msgspec

from telemetryd_proto import scan

BodyProblem: TypeAlias = Literal["", "cut_off", "not_records", "garbage"]
"""`cut_off`: an array that is not closed. `not_records`: neither an array nor objects. `garbage`:
something behind the array."""

_ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])
_VALUE: Final = msgspec.json.Decoder(msgspec.Raw)
_BOM: Final = b"\xef\xbb\xbf"
_FIRST: Final = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*([^ \t\r\n])", re.DOTALL)
"""The first byte of a body, after white space and a byte order mark."""
_TOKEN: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[\]{},]', re.DOTALL)
"""A string, ended by its quote or the end of all, or what gives an array its structure."""


class RecordLines(msgspec.Struct, frozen=True):
    """The records of a body, as lines."""

    data: bytes
    """The records as lines, each ended by a newline."""
    lines: int | None
    """The number of lines; None if the body had lines already, of which some may be blank."""
    problem: BodyProblem = ""
    rest: bytes = b""
    """The bytes that are not records: from the problem to the end."""


def to_lines(body: bytes | bytearray) -> RecordLines:
    """Return the records of `body` as lines."""
    found = _FIRST.match(body)
    if found is None:
        return RecordLines(b"", 0)
    if found[1] == b"[":
        if scan.compiled is not None and (split := scan.compiled.split_array(body, found.end())):
            return RecordLines(*split)
        return _from_array(body)
    if found[1] == b"{":
        return _from_objects(bytes(body[found.start(1) :]))
    return RecordLines(b"", 0, "not_records", bytes(body))


def _from_objects(body: bytes) -> RecordLines:
    """Return lines unchanged. One object over several lines becomes one line."""
    end = body.find(b"\n") + 1
    if 0 < end < len(body) and not _is_value(body[:end]) and _is_value(body):
        return RecordLines(bytes(_one_line(body.rstrip())) + b"\n", 1)
    return RecordLines(body if body.endswith(b"\n") else body + b"\n", None)


def _is_value(text: bytes) -> bool:
    try:
        _VALUE.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _one_line(text: bytes | bytearray) -> bytes | bytearray:
    """Return the text without line breaks; a lone carriage return is none."""
    if b"\n" in text:
        return text.replace(b"\r\n", b"  ").replace(b"\n", b" ")
    return text


def _from_array(body: bytes | bytearray) -> RecordLines:
    body = _one_line(body)
    if body.startswith(_BOM):  # `removeprefix` would copy it in any case
        body = body.removeprefix(_BOM)
    try:
        records = _ARRAY.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return split_array(bytes(body))
    if not records:
        return RecordLines(b"", 0)
    return RecordLines(b"\n".join([*records, b""]), len(records))


def split_array(body: bytes) -> RecordLines:
    """Return the values of an array that a decoder refuses, by its brackets, commas and strings."""
    records: list[bytes] = []
    depth, start = 0, 0
    for token in _TOKEN.finditer(body):
        mark = token[0]
        if mark in (b"[", b"{"):
            depth += 1
            if depth == 1:
                start = token.end()
        elif mark in (b"]", b"}"):
            depth -= 1
            if depth == 0:
                if mark != b"]":
                    return _found(records, "garbage", body[start:])
                _add(records, body[start : token.start()])
                rest = body[token.end() :].strip()
                return _found(records, "garbage" if rest else "", rest)
        elif mark == b"," and depth == 1:
            _add(records, body[start : token.start()])
            start = token.end()
    return _found(records, "cut_off", body[start:].strip())


def _add(records: list[bytes], text: bytes) -> None:
    if text := text.strip():
        records.append(text)


def _found(records: list[bytes], problem: BodyProblem, rest: bytes) -> RecordLines:
    data = b"".join([b"%b\n" % record for record in records])
    return RecordLines(data, len(records), problem, rest)
