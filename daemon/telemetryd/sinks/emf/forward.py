"""EMF documents that the function itself printed, to be delivered as they are."""

from __future__ import annotations

from typing import Final

import msgspec

from telemetryd_proto.emf import timestamp_of
from telemetryd_proto.envelope import Envelope
from telemetryd_proto.errors import DECODE_FAILURES

FORWARD_HINT: Final = b"CloudWatchMetrics"
"""Every document holds these bytes: other lines need not be decoded."""

_MARK: Final = b'{"forwarded_by":{"logger":"telemetryd"},'
"""Opens a document that is printed, so that it is known when it comes back. Nested, because a root
member `logger` could be the function's own; EMF permits any further member."""

_json: Final = msgspec.json.Decoder()


class Forwarded(msgspec.Struct, frozen=True, gc=False):
    """A document of the function."""

    payload: bytes
    """The document on one line, newline included."""
    timestamp: int
    """Milliseconds since the Unix epoch."""


def find_document(event: Envelope, *, marked: bool) -> Forwarded | None:
    """Return the document in a `function` event; None if its record is anything else.

    With the text log format the record is a string that holds the document, with JSON the document
    itself. Numbers are kept as they were written. `marked`: recognisable as printed by us.
    """
    try:
        text = bytes(event.record)
        value = _json.decode(text)
        if isinstance(value, str):
            text = value.strip().encode()
            value = _json.decode(text)
        timestamp = timestamp_of(value)
        if timestamp is None:
            return None
        line = msgspec.json.format(text, indent=-1)  # a string may be spread over several lines
    except (*DECODE_FAILURES, UnicodeEncodeError):
        return None
    if marked:
        line = _MARK + line[1:]
    return Forwarded(line + b"\n", timestamp)
