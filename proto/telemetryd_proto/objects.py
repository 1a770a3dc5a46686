"""Lines of any sender: JSON objects, whether they are telemetry events or not.

The Telemetry API sends events, which `envelope` decodes. Others send NDJSON without a `type`. Their
objects have as members what the Telemetry API puts into a record.
"""

# Annotations are evaluated here: msgspec would do it later, at a quarter of a millisecond more.
from collections.abc import Sequence

import msgspec

from telemetryd_proto.errors import DECODE_FAILURES
from telemetryd_proto.surrogates import without_lone_surrogates

_NULL = msgspec.Raw(b"null")


class AnyObject(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The members of an object that routing needs."""

    type: str = ""
    """The event's type; empty where the object has none that is a string."""
    record: msgspec.Raw = _NULL
    """The record, as in an envelope; `null` if not sent."""


class _Untyped(msgspec.Struct, gc=False, kw_only=True):
    """An object whose `type` is something other than a string."""

    record: msgspec.Raw = _NULL


_OTHER_TYPE = (msgspec.ValidationError, UnicodeDecodeError)
"""Errors for a `type` that is not text. The line may still be an object."""

_decode = msgspec.json.Decoder(AnyObject).decode
_decode_untyped = msgspec.json.Decoder(_Untyped).decode


def decode_objects(lines: Sequence[bytes]) -> list[AnyObject | None]:
    """Decode lines, each ended by a newline or not, as far as routing needs it.

    Returns:
        One entry a line, in order; None for a line that is not exactly one JSON object. A bad line
        affects only itself, and half a surrogate pair not even that.

    """
    rest = iter(lines)
    objects: list[AnyObject | None] = []
    append = objects.append
    while True:
        try:
            objects.extend(map(_decode, rest))  # in C, as in `envelope.decode_lines`
            break
        except _OTHER_TYPE:
            append(_decode_other(lines[len(objects)]))
        except DECODE_FAILURES:
            append(None)
        # what is refused is seldom alone; to begin again with each costs twice as much
        for line in rest:
            if not line.lstrip().startswith(b"{"):  # an exception costs many times this look
                append(None)
                continue
            try:
                append(_decode(line))
                break
            except _OTHER_TYPE:
                append(_decode_other(line))
            except DECODE_FAILURES:
                append(None)
    if None in objects:
        _decode_with_halves(lines, objects)
    return objects


def _decode_other(line: bytes) -> AnyObject | None:
    """Decode a line whose `type` is no string, if it is an object all the same."""
    if not line.lstrip().startswith(b"{"):
        return None
    try:
        return AnyObject(record=_decode_untyped(line).record)
    except DECODE_FAILURES:
        return None


def _decode_with_halves(lines: Sequence[bytes], objects: list[AnyObject | None]) -> None:
    """Decode those of the refused lines that hold half a surrogate pair: all at once."""
    spelled = [at for at, found in enumerate(objects) if found is None and b"\\u" in lines[at]]
    text = b"\n".join([lines[at].strip(b"\r\n") for at in spelled])
    if (whole := without_lone_surrogates(text)) is text:
        return
    pairs = zip(spelled, text.split(b"\n"), whole.split(b"\n"), strict=True)
    changed = [(at, after) for at, before, after in pairs if before != after]
    for (at, _), found in zip(
        changed, decode_objects([after for _, after in changed]), strict=True
    ):
        objects[at] = found
