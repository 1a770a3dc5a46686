"""Lines of any sender: JSON objects, whether they are telemetry events or not.

The Telemetry API sends events, which `envelope` decodes. Others send NDJSON without a `type`, and
say in the members of the object itself what the Telemetry API puts into a record.
"""

# Annotations are evaluated here: msgspec would do it later, at a quarter of a millisecond more.
from collections.abc import Iterator, Sequence

import msgspec

from telemetryd_proto.errors import DECODE_FAILURES
from telemetryd_proto.surrogates import without_lone_surrogates

_NULL = msgspec.Raw(b"null")


class AnyObject(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What routing needs to know of an object on a line."""

    type: str = ""
    """The event's type; empty where the object has none that is a string."""
    record: msgspec.Raw = _NULL
    """As an envelope's; `null` when not sent."""


class _Untyped(msgspec.Struct, gc=False, kw_only=True):
    """An object whose `type` is something other than a string."""

    record: msgspec.Raw = _NULL


_decode = msgspec.json.Decoder(AnyObject).decode
_decode_untyped = msgspec.json.Decoder(_Untyped).decode


def decode_objects(lines: Sequence[bytes]) -> list[AnyObject | None]:
    """Decode lines, each ended by a newline or not, as far as routing needs it.

    Returns:
        One entry a line, in order; None for a line that is not exactly one JSON object. A bad line
        costs itself alone, and half a surrogate pair not even that.

    """
    rest = iter(lines)
    objects: list[AnyObject | None] = []
    while True:
        try:
            objects.extend(map(_decode, rest))  # in C, as in `envelope.decode_lines`
        except DECODE_FAILURES:
            objects.append(_decode_odd(lines[len(objects)]))
            _pass_over_text(rest, objects)
        else:
            return objects


def _pass_over_text(rest: Iterator[bytes], objects: list[AnyObject | None]) -> None:
    """Take from `rest` the lines up to the next that may be an object, which is taken as well.

    A line of text is seldom alone, and to be refused costs it many times this look.
    """
    for line in rest:
        if line.lstrip().startswith(b"{"):
            try:
                objects.append(_decode(line))
            except DECODE_FAILURES:
                objects.append(_decode_odd(line))
            return
        objects.append(None)


def _decode_odd(line: bytes) -> AnyObject | None:
    """Decode a line that was refused, if it is an object all the same."""
    if not line.lstrip().startswith(b"{"):  # an exception costs many times this look
        return None
    try:
        return AnyObject(record=_decode_untyped(line).record)
    except DECODE_FAILURES:
        whole = without_lone_surrogates(line)
        return None if whole is line else decode_objects([whole])[0]
