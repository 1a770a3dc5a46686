"""The envelope of a telemetry event: who it is from and when, its record left as bytes.

One line of the stream is one JSON object `{"time", "type", "record"}`, in any key order
(Lambda Telemetry API Event schema reference, "Lambda Telemetry API event schema"). Decoding is in
two steps, so that a consumer pays only for records that it reads: this module, then `events`.

Why not msgspec's `decode_lines`: it separates values, not lines. Two objects on one line make two
values, one object over two lines makes one, and a block that holds both has the right count with
every value on a wrong line. The block-level proof that this did not happen (counting `}` newline
`{`) costs more than decoding each line by itself, which is exact: 0.25 µs for a 290-byte line,
against 0.20 for `decode_lines` alone and 0.28 with the cheapest such proof.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import msgspec

from telemetryd_proto.errors import DECODE_FAILURES

if TYPE_CHECKING:
    from collections.abc import Sequence


def _no_record() -> msgspec.Raw:
    return msgspec.Raw(b"null")


class Envelope(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One telemetry event: a line of the stream.

    `record` is a view of the bytes of its own line and keeps that line alive, not the block it came
    in. `bytes(envelope.record)` is the record's JSON exactly as sent, but for what no strict reader
    takes (`loose.loosened`). It is well-formed JSON but may hold invalid UTF-8 inside strings;
    `events.decode_record` finds out.
    """

    time: str = ""
    """The platform's time of the event, ISO-8601 (`events.parse_time`); empty if not sent."""
    type: str
    """The event's type, such as `platform.start`: an open set."""
    record: msgspec.Raw = msgspec.field(default_factory=_no_record)
    """The record: any JSON value; `null` when not sent."""


class _OddEnvelope(msgspec.Struct, gc=False, kw_only=True):
    """An envelope whose `time` or `type` is something other than a string, however large."""

    time: msgspec.Raw = msgspec.field(default_factory=_no_record)
    type: msgspec.Raw = msgspec.field(default_factory=_no_record)
    record: msgspec.Raw = msgspec.field(default_factory=_no_record)


_decode = msgspec.json.Decoder(Envelope).decode
_decode_odd = msgspec.json.Decoder(_OddEnvelope).decode
_decode_text = msgspec.json.Decoder(str).decode


def decode_line(line: bytes) -> Envelope | None:
    r"""Decode one line, with or without its newline; a `\r` and spaces around are no matter.

    Returns:
        The envelope; None when the line is not exactly one JSON object with a string `type`. A
        `time` that is no string is left empty. Half a surrogate pair, `NaN` and the like cost
        themselves alone (`loose`).

    """
    try:
        return _decode(line)
    except DECODE_FAILURES:
        return decode_refused(line)


def decode_lines(lines: Sequence[bytes]) -> list[Envelope | None]:
    """Decode lines that are split already, each as `decode_line` does.

    Returns:
        One entry a line, in order. A bad line affects only itself, wherever it is and whatever its
        neighbours are.

    """
    rest = iter(lines)
    envelopes: list[Envelope | None] = []
    while True:
        try:
            # The loop runs in C. After a bad line `envelopes` holds all before it and `rest` is
            # behind it, so decoding continues from there.
            envelopes.extend(map(_decode, rest))
        except DECODE_FAILURES:
            envelopes.append(decode_refused(lines[len(envelopes)]))
        else:
            return envelopes


def decode_block(data: bytes, lines: int) -> list[Envelope | None]:
    r"""Decode the lines of a block.

    Args:
        data: whole lines, each ended by `\n`.
        lines: how many they are.

    Returns:
        As `decode_lines`.

    Raises:
        ValueError: `data` does not hold `lines` lines; a caller's mistake.

    """
    # BytesIO finds newlines with memchr: a third of the time of bytes.split, a fifth of
    # splitlines, which moreover would cut at a carriage return.
    found = BytesIO(data).readlines()
    if len(found) != lines:
        raise ValueError(f"the block holds {len(found)} lines, not {lines}")
    return decode_lines(found)


def decode_refused(line: bytes) -> Envelope | None:
    """Decode a line that a decoder of events has refused, like `decode_line`."""
    if not line.lstrip().startswith(b"{"):  # an exception costs many times this look
        return None
    try:
        return _from_odd(line)
    except DECODE_FAILURES:
        from telemetryd_proto.loose import loosen  # noqa: PLC0415 - few lines need it

        strict = line.strip(b" \t\r\n")
        line = loosen(strict)
        if line == strict:
            return None
    try:
        return _from_odd(line)  # there is nothing more to loosen
    except DECODE_FAILURES:
        return None


def _from_odd(line: bytes) -> Envelope | None:
    odd = _decode_odd(line)
    kind = _text_of(odd.type)
    if kind is None:
        return None
    return Envelope(time=_text_of(odd.time) or "", type=kind, record=odd.record)


def _text_of(value: msgspec.Raw) -> str | None:
    is_text = memoryview(value)[0] == ord('"')  # an exception costs many times this look
    return _decode_text(value) if is_text else None
