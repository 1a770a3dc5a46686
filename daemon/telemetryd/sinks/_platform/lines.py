"""Finds the lines of a block that may be of interest, so that no other line is decoded.

Like `core.watch`, it searches the bytes. A line without any mark is of no interest. A line with a
mark is decoded to find out. It does not find a type or a name that is spelled with JSON escapes;
the platform writes none.

The events that every invocation has are decoded at once with their records. For any other line this
fails with an exception, and the line is decoded in the general way: envelope first.
"""

# Annotations are evaluated here: msgspec would do it later, at a quarter of a millisecond more.
import re
from collections.abc import Iterator, Sequence
from io import BytesIO
from itertools import accumulate
from typing import Final, TypeAlias

import msgspec

from telemetryd_proto import scan
from telemetryd_proto.envelope import Envelope, decode_line, decode_refused
from telemetryd_proto.errors import DECODE_FAILURES
from telemetryd_proto.records import Report, RuntimeDone, Start

PLATFORM: Final = b'"platform.'
"""Every platform event holds these bytes, the beginning of its type."""
_TEXT_AS_TYPE: Final = b'"type":"'
_ANY_TEXT_AS_TYPE: Final = re.compile(rb'"type"\s*:\s*"').search
_FUNCTION: Final = b'"function"'
_OPENS: Final = frozenset(b"{ \t\r\v\f")
_CLOSES: Final = frozenset((*range(0x21), *b"}"))
"""Bytes that may be the first and the last of a line that is an object: blanks around are none of
it. A look at both costs a tenth of decoding what is none."""


class _Typed(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag_field="type"):
    time: str = ""


class StartEvent(_Typed, frozen=True, gc=False, kw_only=True, tag="platform.start"):
    """An invocation began."""

    record: Start


class RuntimeDoneEvent(_Typed, frozen=True, gc=False, kw_only=True, tag="platform.runtimeDone"):
    """The runtime is done with an invocation."""

    record: RuntimeDone


class ReportEvent(_Typed, frozen=True, gc=False, kw_only=True, tag="platform.report"):
    """An invocation as a whole."""

    record: Report


class _LogEvent(_Typed, frozen=True, gc=False, kw_only=True, tag="function"):
    record: msgspec.Raw


InvocationEvent: TypeAlias = StartEvent | RuntimeDoneEvent | ReportEvent

# not strict, for the reason that `telemetryd_proto.events` gives
_decode = msgspec.json.Decoder(InvocationEvent | _LogEvent, strict=False).decode


def lines_with(marks: Sequence[bytes], data: bytes) -> Iterator[tuple[int, bytes]]:
    """Return the whole lines of `data` that hold one of `marks`, or without marks all, in order.

    Each with where it starts.
    """
    if marks:
        return ((start, data[start:end]) for start, end in _spans(marks, data))
    lines = BytesIO(data).readlines()
    return zip(accumulate(map(len, lines), initial=0), lines, strict=False)


def decode_event(line: bytes) -> InvocationEvent | Envelope | None:
    """Return the event in a line: an event of every invocation with its record, else an envelope.

    None where `decode_line` has None. An event whose record does not fit its type is an envelope.
    """
    if _TEXT_AS_TYPE not in line:  # an exception costs many times this look
        return decode_refused(line) if _ANY_TEXT_AS_TYPE(line) else None
    try:
        event: InvocationEvent | _LogEvent = _decode(line)
    except DECODE_FAILURES:
        return decode_refused(line)
    if isinstance(event, _LogEvent):
        return Envelope(time=event.time, type="function", record=event.record)
    return event


def has_function_line(data: bytes, start: int, end: int) -> bool:
    """True if the function logged a line between two places of `data`."""
    at = data.find(_FUNCTION, start, end)
    while at >= 0:
        line_start, line_end = data.rfind(b"\n", 0, at) + 1, data.find(b"\n", at) + 1
        event = decode_line(data[line_start:line_end])
        if event is not None and event.type == "function":
            return True
        at = data.find(_FUNCTION, line_end, end)
    return False


def _spans(marks: Sequence[bytes], data: bytes) -> list[tuple[int, int]]:
    """Start and end of each line that holds a mark and may be an object, in order."""
    if scan.compiled is not None:
        return scan.compiled.find_lines(data, tuple(marks))
    found: dict[int, int] = {}
    for mark in marks:
        at = data.find(mark)
        while at >= 0:
            start, end = data.rfind(b"\n", 0, at) + 1, data.find(b"\n", at) + 1
            if data[start] in _OPENS and data[end - 2] in _CLOSES:
                found[start] = end
            at = data.find(mark, end)
    return sorted(found.items())
