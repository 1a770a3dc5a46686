"""Reads the record of a log line, in any form.

The same record may arrive as an object (JSON log format), or as a text that contains the object
(Powertools, pino and others with the text format). It may be an object after the prefix of a
runtime (`console.log(JSON.stringify(...))`), or, outside Lambda, the line itself. All are read in
the same way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from telemetryd.core.log_level import rank_of, rank_of_object, rank_with_inner
from telemetryd.core.loose import decode_loosely
from telemetryd.core.request_id import ids_of_object
from telemetryd.core.text_head import head_of
from telemetryd_proto.envelope import Envelope
from telemetryd_proto.errors import DECODE_FAILURES
from telemetryd_proto.objects import AnyObject

HEAD_CHARS: Final = 256
"""Characters of a text in which levels and ids are searched: they precede the message."""

_BYTE_ORDER_MARK: Final = "\ufeff"
_MAY_OPEN: Final = frozenset("{ \t\r\n" + _BYTE_ORDER_MARK)
_LAMBDA: Final = re.compile(
    rb'"(?:\[([A-Za-z]{3,11})\]\\t[^"\\]{1,40}\\t[^"\\]{0,64}'
    rb'|[^"\\]{1,40}\\t[^"\\]{0,64}\\t([A-Za-z]{3,11}))\\t(?!{)'
)
"""The layouts of Lambda's runtimes (`text_head`) in JSON as it came, so that most need no decoding.
An object may follow, and counts as well."""
_PLATFORM: Final = "platform."
_BEFORE_OBJECT: Final = frozenset("\t :")
"""Characters that may precede an object in a text, if it is not part of a word."""
_TAIL: Final = 8
"""Characters at the end of a text among which its object ends, if need be before blanks."""
_WORDS: Final = frozenset(
    {b"TRACE", b"DEBUG", b"INFO", b"WARN", b"WARNING", b"ERROR", b"CRITICAL", b"FATAL"}
)
"""Levels in the layout of Node.js's runtime (`text_head`)."""
_BRACKETS: Final = frozenset(b'"[%b]' % word for word in _WORDS)
"""Levels in the layout of Python's runtime, with the quote before it."""
_decode_text: Final = msgspec.json.Decoder(str).decode


class _Usual(msgspec.Struct, gc=False):
    """A logged object, whose `requestId` may be anything."""

    request_id: Any = msgspec.field(default=None, name="requestId")


_decode_usual: Final = msgspec.json.Decoder(_Usual).decode


def look_into(raw: bytes) -> tuple[str, bytes]:
    """Return the head of a record's text and the JSON object in it; empty where there is none."""
    if raw[:1] == b"{":
        return "", raw
    if raw[:1] != b'"' or (text := decode_loosely(_decode_text, raw)) is None:
        return "", b""
    if text[:1] in _MAY_OPEN:
        body = text.strip().removeprefix(_BYTE_ORDER_MARK).lstrip()
        if body[:1] == "{":
            return "", body.encode()
    at = text.find("{", 1, HEAD_CHARS)
    if at > 0 and text[at - 1] in _BEFORE_OBJECT and text[-_TAIL:].rstrip()[-1:] == "}":
        return text[:at], text[at:].encode()
    return text[:HEAD_CHARS], b""


def rank_of_line(line: bytes, found: Envelope | AnyObject) -> int | None:
    """Return the rank of a line's level, as `log_level.rank_of`; None where it can't be told.

    Platform events have none.
    """
    if found.type.startswith(_PLATFORM):
        return None
    record = _record(line, found)
    if fast := _LAMBDA.match(record):
        rank = rank_of((fast[1] or fast[2]).decode())
        if rank is not None:
            return rank
    rank = _rank_of(record)
    if rank is None and not found.type and record[:1] in b'{"':
        return _rank_of(line.strip())  # a member `record` of an object that is no event
    return rank


def ids_of_line(line: bytes, found: Envelope | AnyObject) -> Iterator[str]:
    """Yield what may be the request id of a log line, the likeliest first."""
    head, data = look_into(_record(line, found))
    if head:
        yield from head_of(head).ids
    if data:
        yield from ids_of_object(data)


def usual_id(record: bytes) -> str:
    """Return the request id where Lambda's own runtimes write it; empty if it is not there.

    Those are the layouts of `text_head`, and the member of an object. It is the id that
    `ids_of_line` yields first.
    """
    if record[:1] == b"{":
        try:
            named = _decode_usual(record).request_id
        except DECODE_FAILURES:
            return ""
        return named if isinstance(named, str) else ""
    parts = record.split(b"\\t", 3)
    if len(parts) < 4:  # noqa: PLR2004 - level, time, id, and the message
        return ""
    if parts[0] in _BRACKETS:
        return parts[2].decode("ascii", "replace")
    return parts[1].decode("ascii", "replace") if parts[2] in _WORDS else ""


def _rank_of(raw: bytes) -> int | None:
    head, data = look_into(raw)
    if not head:
        return rank_of_object(data) if data else None
    before = head_of(head)
    # behind words of a message the object is what the message is about
    return rank_with_inner(before.rank, data) if data and before.is_all else before.rank


def _record(line: bytes, found: Envelope | AnyObject) -> bytes:
    """Return the record; of an object that has none, as NDJSON of other senders, the line."""
    raw = bytes(found.record)
    return raw if raw != b"null" else line.strip()
