"""The body of an answer: what of a request the server refused, or why it refused all.

Source: OTLP specification, "OTLP/HTTP Response": `Export*ServiceResponse` of the three signals has
`partial_success = 1` with the number of refused items (1) and a message (2). A failure has a
`google.rpc.Status`, whose message is 2. A body may be empty: everything is accepted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from telemetryd_proto.errors import DECODE_FAILURES
from telemetryd_proto.otlp.wire import DELIMITED, FIXED32, FIXED64, VARINT

_MAX_VARINT_BYTES: Final = 10
_MAX_DIGITS: Final = 20
_SIGN_BIT: Final = 1 << 63


class Refusal(NamedTuple):
    """The part that a server refused of a request that it otherwise accepted."""

    items: int
    """Log records, data points or spans; 0: the message is a warning only."""
    message: str


NOTHING: Final = Refusal(0, "")


class NotAnAnswer(ValueError):  # noqa: N818 - says what the body is
    """The body is not what an OTLP server answers."""


def refusal(body: bytes, *, is_json: bool) -> Refusal:
    """Return the refused part of a request whose answer is `body`. Raises NotAnAnswer."""
    if not body:
        return NOTHING
    return _from_json(body) if is_json else _from_protobuf(body)


def _from_protobuf(body: bytes) -> Refusal:
    items, message = 0, ""
    for field, value in _fields(body):
        if field == 1 and isinstance(value, bytes):
            for inner, part in _fields(value):
                if inner == 1 and isinstance(part, int):
                    items = part - (1 << 64) if part & _SIGN_BIT else part
                elif inner == 2 and isinstance(part, bytes):  # noqa: PLR2004 - a field's number
                    message = part.decode("utf-8", "replace")
    return Refusal(max(items, 0), message)


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field; fixed numbers as bytes. Raises NotAnAnswer."""
    at = 0
    while at < len(message):
        head, at = _varint(message, at)
        field, wire_type = head >> 3, head & 7
        if field == 0:
            raise NotAnAnswer("a field has the number 0")
        if wire_type == VARINT:
            value, at = _varint(message, at)
            yield field, value
            continue
        if wire_type == DELIMITED:
            length, at = _varint(message, at)
        elif wire_type in (FIXED64, FIXED32):
            length = 8 if wire_type == FIXED64 else 4
        else:
            raise NotAnAnswer("a field has no type of protobuf")
        if at + length > len(message):
            raise NotAnAnswer("a field is longer than the message")
        yield field, message[at : at + length]
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Return the integer at `at`, and the position behind it. Raises NotAnAnswer."""
    number = 0
    for index, byte in enumerate(message[at : at + _MAX_VARINT_BYTES]):
        number |= (byte & 127) << 7 * index
        if byte < 128:  # noqa: PLR2004 - the last byte of an integer has no high bit
            return number & (1 << 64) - 1, at + index + 1
    raise NotAnAnswer("an integer has no end")


def _from_json(body: bytes) -> Refusal:
    try:
        answer = msgspec.json.decode(body)
    except DECODE_FAILURES as error:
        raise NotAnAnswer("it is not JSON") from error
    if not isinstance(answer, dict):
        raise NotAnAnswer("it is not a JSON object")
    partial = answer.get("partialSuccess")
    if not isinstance(partial, dict):
        return NOTHING
    items = 0
    for name in ("rejectedLogRecords", "rejectedDataPoints", "rejectedSpans"):
        items += _count(partial.get(name))
    message = partial.get("errorMessage")
    return Refusal(items, message if isinstance(message, str) else "")


def _count(value: object) -> int:
    """Return a number that JSON has as text, or as a number; 0 if it is none."""
    if isinstance(value, str) and len(value) < _MAX_DIGITS and value.isascii() and value.isdigit():
        return int(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return max(int(value), 0)
    return 0
